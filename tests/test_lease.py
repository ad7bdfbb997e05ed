from __future__ import annotations

import asyncio
import gc
import operator
import sys
from collections.abc import Callable
from typing import Any

import pytest

from queuepool import Lease, LeaseClosed, Pool, reclaiming
from queuepool.aio import AsyncPool

from .support import Source, assert_whole


def lease_of(resource: Any) -> Any:
    return Pool("pool", 1, open=lambda: resource).lease()


@pytest.mark.parametrize(
    ("resource", "use"),
    [
        ([1, 2], len),
        ([1, 2], list),
        ([1, 2], lambda lease: lease[1]),
        ([1, 2], lambda lease: 2 in lease),
        ([1, 2], lambda lease: list(reversed(lease))),
        ([1, 2], lambda lease: lease == [1, 2]),
        ([1, 2], lambda lease: lease != [1, 2]),
        ([1, 2], lambda lease: lease < [3]),
        ([1, 2], bool),
        ([], bool),
        (iter("ab"), next),
        (len, lambda lease: lease("abc")),
        (sorted, lambda lease: lease("abc", reverse=True)),
        (7, int),
        (7, float),
        (7, complex),
        (7, hash),
        (7, str),
        (7, lambda lease: f"{lease:03}"),
        (7, operator.index),
        (7, lambda lease: [lease + 1, lease - 1, lease * 2, lease // 2, lease % 4, lease**2, lease / 2]),
        (7, lambda lease: [1 + lease, 1 - lease, 2 * lease, 100 // lease, 100 % lease, 2**lease, 14 / lease]),
        (7, lambda lease: [lease & 3, lease | 8, lease ^ 1, lease << 1, lease >> 1, divmod(lease, 4)]),
        (7, lambda lease: [3 & lease, 8 | lease, 1 ^ lease, 1 << lease, 999 >> lease, divmod(99, lease)]),
        (-7, lambda lease: [-lease, +lease, abs(lease), ~lease]),
        (7.5, lambda lease: [round(lease), int(lease)]),
        (b"ab", bytes),
        ({"a": 1}, lambda lease: [lease["a"], sorted(lease.items())]),
        ({1, 2}, lambda lease: [lease | {3}, lease & {1}, lease - {1}, lease ^ {1}]),
    ],
)
def test_a_lease_does_what_its_resource_does(resource: Any, use: Callable[[Any], Any]) -> None:
    expected = use(resource) if use is not next else "a"
    with lease_of(resource) as lease:
        assert use(lease) == expected


def test_a_lease_passes_on_attributes_both_ways() -> None:
    class Session:
        retries = 0

    with lease_of(Session()) as lease:
        lease.retries = 3
        assert lease.unwrap().retries == 3
        assert "retries" in dir(lease)
        assert "unwrap" in dir(lease)
        del lease.retries
        assert lease.retries == 0
        with pytest.raises(AttributeError, match="'Session' object has no attribute 'nothing'"):
            _ = lease.nothing


def test_in_place_changes_go_to_the_resource() -> None:
    with lease_of([1]) as lease:
        lease[0] = 5
        same = lease
        lease += [6]
        lease *= 2
        assert lease is same
        assert lease.unwrap() == [5, 6, 5, 6]


def test_iterating_over_a_lease_does_not_lose_it() -> None:
    with lease_of(iter("ab")) as lease:
        assert iter(lease) is lease
        assert "".join(lease) == "ab"


def test_a_lease_has_no_more_abilities_than_its_resource() -> None:
    with lease_of(object()) as lease:
        assert not callable(lease)
        uses: list[Callable[[Any], Any]] = [len, iter, int, operator.index, lambda lease: lease | int]
        for use in uses:
            with pytest.raises(TypeError):
                use(lease)


@pytest.mark.parametrize(
    "use",
    [
        lambda lease: lease.append(1),
        len,
        lambda lease: lease == [],
        lambda lease: setattr(lease, "x", 1),
        lambda lease: delattr(lease, "x"),
        dir,
        Lease.unwrap,
    ],
)
def test_a_closed_lease_is_an_empty_shell(use: Callable[[Any], Any]) -> None:
    lease = lease_of([])
    lease.close()
    with pytest.raises(LeaseClosed, match="the lease is closed: its resource may be somebody else's by now"):
        use(lease)


def test_a_lease_shows_its_slot_and_kind_and_not_the_resource() -> None:
    lease = lease_of(["secret"])
    assert repr(lease) == "<Lease of pool-1: list>"
    assert isinstance(lease, Lease)
    lease.close()


def test_leases_of_one_kind_of_resource_share_a_class() -> None:
    with lease_of([]) as one, lease_of([]) as other, lease_of({}) as third:
        assert type(one) is type(other)
        assert type(one) is not type(third)


def test_a_lease_whose_slot_was_put_back_otherwise_does_not_put_it_back_again() -> None:
    source = Source()
    pool = Pool("pool", 1, open=source.open)
    lease = pool.lease()
    pool.release(lease.unwrap())
    other = pool.take(0)
    lease.close()
    assert pool.stats().taken == 1, "the slot is another's by now"
    pool.release(other.resource)
    lease = pool.lease()
    pool.release(lease.unwrap())
    other = pool.take(0)
    del lease
    gc.collect()
    assert pool.stats().taken == 1
    pool.put(other)
    assert_whole(pool)


def test_a_lease_that_was_never_finished_is_dropped_in_peace() -> None:
    lease = Lease.__new__(Lease)
    del lease
    gc.collect()


def test_a_lease_of_asyncio_is_entered_and_closed_by_awaiting() -> None:
    async def use() -> None:
        pool: AsyncPool[Any] = AsyncPool("pool", 1, open=list)
        lease: Any = await pool.lease()
        async with lease:
            lease.append(1)
        assert pool.stats().idle == 1
        await lease.close()
        again: Any = await pool.lease()
        await again.close()
        assert pool.stats().idle == 1

    asyncio.run(use())


def test_where_references_are_not_counted_nothing_is_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """On other Pythons than CPython: a leak is better than a resource in two hands."""
    monkeypatch.setattr(reclaiming, "_getrefcount", None)
    pool = Pool("pool", 2, open=object)
    lease = pool.lease()
    pool.take()
    del lease
    gc.collect()
    assert pool.recycle() == 0
    assert pool.stats().taken == 2
    monkeypatch.setattr(reclaiming, "_getrefcount", sys.getrefcount)
    pool.recycle()
    assert pool.stats().taken == 0

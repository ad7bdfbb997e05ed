"""The other handles: get, acquire and release, lease."""

# ruff: noqa: PT012 - an error at the end of a `with` is what some of these tests are about
from __future__ import annotations

import gc
import logging

import pytest

from queuepool import LeaseClosed, WrongSlot

from ..support import Source
from .apis import Api, settled


async def test_get_lends_the_bare_resource_and_always_puts_it_back(api: Api, source: Source) -> None:
    pool = api.pool(capacity=1, open=source.open)
    async with pool.got() as resource:
        assert resource is source.made[0]
        assert pool.stats().taken == 1
    with pytest.raises(KeyError):
        async with pool.got():
            raise KeyError
    assert pool.stats().taken == 0


@pytest.mark.only("Pool", reason="what AsyncPool.get() returns is also awaitable, and like a coroutine for one use")
async def test_one_get_may_be_entered_many_times_also_within_itself(api: Api, source: Source) -> None:
    pool = api.pool(capacity=2, open=source.open)
    borrowed = pool.pool.get(0)
    async with pool.entered(borrowed) as outer:
        async with pool.entered(borrowed) as inner:
            assert inner is not outer
        assert pool.stats().taken == 1
    async with pool.entered(borrowed) as again:
        assert again in (outer, inner)


async def test_acquire_and_release_lend_the_bare_resource_where_no_with_fits(api: Api, source: Source) -> None:
    pool = api.pool(capacity=1, open=source.open)
    resource = await pool.acquire()
    assert resource is source.made[0]
    await pool.release(resource)
    assert await pool.acquire(0) is resource
    await pool.release(resource)


async def test_a_second_release_and_a_foreign_resource_are_refused(api: Api, source: Source) -> None:
    pool = api.pool("orders", capacity=1, open=source.open)
    resource = await pool.acquire()
    with pytest.raises(WrongSlot, match="this list is not out on loan"):
        await pool.release([])
    await pool.release(resource)
    with pytest.raises(WrongSlot, match="is not out on loan"):
        await pool.release(resource)
    assert pool.stats().idle == 1


async def test_resources_that_compare_equal_are_not_confused(api: Api) -> None:
    pool = api.pool(capacity=2, open=lambda: [1])
    one, other = await pool.acquire(), await pool.acquire()
    with pytest.raises(WrongSlot):
        await pool.release([1])
    await pool.release(other)
    assert (await pool.acquire()) is other
    await pool.release(other)
    await pool.release(one)


async def test_a_lease_behaves_like_the_resource_until_it_is_closed(api: Api) -> None:
    pool = api.pool(capacity=1, open=lambda: [3, 1, 2])
    lease = await pool.lease()
    lease.sort()
    assert lease == [1, 2, 3]
    assert (len(lease), lease[0], 2 in lease, lease + [4]) == (3, 1, True, [1, 2, 3, 4])  # noqa: RUF005
    del lease[0]
    assert list(lease) == [2, 3]
    resource = lease.unwrap()
    assert type(resource) is list
    await settled(lease.close())
    with pytest.raises(LeaseClosed):
        lease.sort()
    with pytest.raises(LeaseClosed):
        len(lease)
    assert repr(lease) == "<Lease: closed>"
    assert pool.stats().idle == 1


async def test_the_second_close_of_a_lease_does_nothing_even_if_the_slot_is_lent_again(
    api: Api, source: Source
) -> None:
    pool = api.pool(capacity=1, open=source.open)
    lease = await pool.lease()
    await settled(lease.close())
    other = await pool.lease()
    await settled(lease.close())
    assert pool.stats().taken == 1
    await settled(other.close())
    assert pool.stats().taken == 0


async def test_leaving_the_with_of_a_lease_by_an_exception_closes_the_resource(api: Api, source: Source) -> None:
    pool = api.pool(capacity=1, open=source.open, close=source.close)
    with pytest.raises(KeyError):
        async with pool.leased() as lease:
            assert lease.number == 1
            raise KeyError
    assert source.live == []
    assert pool.stats().closes == {"exception": 1}


async def test_a_lease_that_was_dropped_comes_back_by_itself_and_says_where_it_was_taken(
    api: Api, source: Source, caplog: pytest.LogCaptureFixture
) -> None:
    pool = api.pool("orders", capacity=1, open=source.open, reset=source.reset)
    lease = await pool.lease()
    assert lease.number == 1
    source.made.clear()  # which referred to the resource
    del lease
    gc.collect()
    assert pool.stats().taken == 0
    with caplog.at_level(logging.WARNING, "queuepool"):
        resource = await pool.cycle()
    assert "slot orders-1 was taken and never put back, and is back" in caplog.text
    assert ".py:" in caplog.text
    assert resource.history == ["reset", "reset"], "once for the one who dropped it, once for the next"
    assert pool.stats().reclaimed == 1


async def test_a_dropped_lease_is_not_taken_back_while_somebody_holds_the_resource(api: Api, source: Source) -> None:
    """A cursor that outlives its lease: in SQLAlchemy, CuttlePool and DBUtils a second user gets its connection."""

    class Cursor:
        def __init__(self, connection: object) -> None:
            self.connection = connection

    pool = api.pool(capacity=1, open=source.open, timeout=0)
    lease = await pool.lease()
    cursor = Cursor(lease.unwrap())
    source.made.clear()
    del lease
    gc.collect()
    with pytest.raises(TimeoutError):
        await pool.take()
    assert await pool.recycle() == 0
    assert pool.stats().taken == 1
    del cursor
    gc.collect()
    pool.pool._heal_at = 0.0  # the search for what was dropped pauses between two of its looks
    slot = await pool.take()
    assert pool.stats().reclaimed == 1
    await pool.put(slot)


async def test_a_slot_that_was_dropped_is_found_by_whoever_finds_none(
    api: Api, source: Source, caplog: pytest.LogCaptureFixture
) -> None:
    pool = api.pool("orders", capacity=1, open=source.open)
    await pool.take()
    source.made.clear()
    gc.collect()
    with caplog.at_level(logging.WARNING, "queuepool"):
        await pool.put(await pool.take(0.05))
    assert "slot orders-1 was taken and never put back, and is back" in caplog.text


async def test_a_slot_that_was_dropped_is_found_by_a_sweep_and_its_resource_reset(api: Api, source: Source) -> None:
    pool = api.pool(capacity=1, open=source.open, reset=source.reset)
    await pool.take()
    resource_history = source.made[0].history
    source.made.clear()
    gc.collect()
    assert await pool.recycle() == 0
    assert resource_history == ["reset"]
    assert (pool.stats().taken, pool.stats().idle, pool.stats().reclaimed) == (0, 1, 1)


@pytest.mark.parametrize("finder", ["sweep", "taker"])
async def test_a_dropped_slot_that_was_to_be_closed_is_closed_by_whoever_finds_it(api: Api, finder: str) -> None:
    closed: list[int] = []

    class Numbered:
        def __init__(self) -> None:
            self.number = 1

        def close(self) -> None:
            closed.append(self.number)

    pool = api.pool(capacity=1, open=Numbered, timeout=0.05)
    (await pool.take()).close()
    gc.collect()
    if finder == "sweep":
        assert await pool.recycle() == 1
    else:
        await pool.cycle()
    assert closed == [1]

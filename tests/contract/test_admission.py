"""Who may wait at all: max_waiting, and shedding in an overload."""

from __future__ import annotations

import pytest

from queuepool import Exhausted, Overloaded, Refused, TooManyWaiting
from queuepool.admission import Admission

from ..support import Source
from .apis import Api


async def test_one_waiter_too_many_is_told_so_at_once(api: Api, source: Source) -> None:
    pool = api.pool("orders", capacity=1, open=source.open, max_waiting=1)
    slot = await pool.take()
    job = api.start(pool.take())
    await api.until(lambda: pool.stats().waiting == 1)
    with pytest.raises(TooManyWaiting, match=r"orders: 1 callers wait already \(max_waiting=1\)") as caught:
        await pool.take()
    assert isinstance(caught.value, Refused)
    assert pool.stats().refused == 1
    await pool.put(slot)
    await pool.put(await job.result())


async def test_with_max_waiting_0_nobody_waits(api: Api, source: Source) -> None:
    pool = api.pool(capacity=1, open=source.open, max_waiting=0)
    async with pool.taken():
        with pytest.raises(TooManyWaiting):
            await pool.take()
    assert await pool.cycle() is source.made[0]


async def test_in_an_overload_whoever_has_waited_too_long_is_shed_for_the_next(
    api: Api, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Admission, "INTERVAL", 0.0)
    pool = api.pool("orders", capacity=1, open=source.open, shed_after=0.0)
    slot = await pool.take()
    first = api.start(pool.take())
    await api.until(lambda: pool.stats().waiting == 1)
    second = api.start(pool.cycle())
    await api.until(lambda: pool.stats().waiting == 2)
    await pool.put(slot)
    with pytest.raises(Overloaded, match=r"orders: overloaded, shed after \d\.\d{3} s \(shed_after=0.0\)"):
        await first.result()
    assert await second.result() is source.made[0], "nobody waits behind it"
    assert pool.stats().refused == 1


async def test_a_short_burst_is_served_whole(api: Api, source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Admission, "INTERVAL", 60.0)
    pool = api.pool(capacity=1, open=source.open, shed_after=0.0)
    slot = await pool.take()
    jobs = [api.start(pool.cycle()) for _ in range(3)]
    await api.until(lambda: pool.stats().waiting == 3)
    await pool.put(slot)
    assert [await job.result() for job in jobs] == [source.made[0]] * 3
    assert pool.stats().refused == 0


async def test_a_timeout_is_told_apart_from_a_refusal(api: Api, source: Source) -> None:
    pool = api.pool(capacity=1, open=source.open, max_waiting=5)
    async with pool.taken():
        with pytest.raises(Exhausted) as caught:
            await pool.take(0)
    assert not isinstance(caught.value, Refused)
    assert (pool.stats().timeouts, pool.stats().refused) == (1, 0)

"""pause, resize, recycle_all, dispose, close."""

from __future__ import annotations

import sys

import pytest

from queuepool import Exhausted, PoolClosed

from ..support import Source
from .apis import Api

if sys.version_info < (3, 11):
    from exceptiongroup import ExceptionGroup


async def test_a_paused_pool_lends_nothing_until_it_is_resumed(api: Api, source: Source) -> None:
    pool = api.pool("orders", capacity=2, open=source.open)
    held = await pool.take()
    pool.pause()
    assert "paused" in repr(pool)
    with pytest.raises(Exhausted, match="paused"):
        await pool.take(0)
    job = api.start(pool.take())
    await api.until(lambda: pool.stats().waiting == 1)
    await pool.put(held)  # returns go on
    assert (pool.stats().idle, job.done) == (1, False)
    assert pool.stats().paused
    pool.resume()
    assert await job.result() is held
    await pool.put(held)
    assert not pool.stats().paused


async def test_a_pool_grows_at_once_and_serves_those_who_wait(api: Api, source: Source) -> None:
    pool = api.pool(capacity=1, open=source.open)
    first = await pool.take()
    job = api.start(pool.take())
    await api.until(lambda: pool.stats().waiting == 1)
    await pool.resize(2)
    second = await job.result()
    assert pool.capacity == 2
    assert second.name != first.name
    await pool.put(first)
    await pool.put(second)


async def test_a_pool_shrinks_by_its_empty_slots_first_then_the_idle_then_as_slots_come_back(
    api: Api, source: Source
) -> None:
    pool = api.pool(capacity=5, open=source.open, close=source.close)
    slots = [await pool.take() for _ in range(3)]
    await pool.put(slots[0])
    await pool.resize(4)
    await pool.resize(3)
    assert (pool.stats().slots, len(source.live)) == (3, 3), "two were empty"
    await pool.resize(1)
    assert (pool.stats().slots, len(source.live)) == (2, 2), "one was idle, and one cannot go yet"
    await pool.put(slots[1])
    await pool.put(slots[2])
    assert (pool.stats().slots, len(source.live), pool.capacity) == (1, 1, 1)
    assert pool.stats().closes == {"resize": 2}
    assert len(await pool.cycle_together(1)) == 1


async def test_a_slot_that_turns_out_dead_as_the_pool_shrinks_by_it_goes_for_good(api: Api, source: Source) -> None:
    go = api.event()
    checking: list[int] = []

    async def check(resource: object) -> bool:
        checking.append(1)
        if len(checking) > 1:
            return True
        await go.waited()
        return False

    pool = api.pool(capacity=2, open=source.open, close=source.close, check=check)
    await pool.cycle_together(2)
    job = api.start(pool.take())
    await api.until(lambda: checking)
    other = await pool.take()
    await pool.resize(1)
    assert not other.retiring, "so it is the other one that is to go"
    go.set()
    await api.until(lambda: pool.stats().slots == 1)
    await pool.put(other)
    assert await job.result() is other
    await pool.put(other)
    assert pool.stats().closes == {"check": 1}


async def test_a_pool_that_shrank_and_grows_gives_no_name_twice(api: Api, source: Source) -> None:
    pool = api.pool(capacity=5, open=source.open)
    await pool.resize(2)
    await pool.resize(4)
    assert len({slot.name for slot in pool._slots}) == 4


async def test_a_pool_may_grow_again_while_it_shrinks(api: Api, source: Source) -> None:
    pool = api.pool(capacity=2, open=source.open, close=source.close)
    slots = [await pool.take(), await pool.take()]
    await pool.resize(1)
    await pool.resize(2)
    for slot in slots:
        await pool.put(slot)
    assert pool.stats().slots == 2
    assert len(await pool.cycle_together(2)) == 2
    assert len({slot.name for slot in pool._slots}) == 2


@pytest.mark.parametrize(("capacity", "error"), [(0, ValueError), (-1, ValueError), ("2", TypeError), (1.5, TypeError)])
async def test_a_nonsensical_capacity_is_refused_and_changes_nothing(
    api: Api, source: Source, capacity: object, error: type[Exception]
) -> None:
    pool = api.pool(capacity=2, open=source.open)
    with pytest.raises(error, match="capacity must be"):
        await pool.resize(capacity)
    assert (pool.capacity, pool.stats().slots) == (2, 2)


async def test_a_pool_does_not_shrink_below_min_idle_nor_change_after_close(api: Api, source: Source) -> None:
    pool = api.pool("orders", capacity=3, open=source.open, min_idle=2)
    with pytest.raises(ValueError, match=r"capacity must be at least min_idle \(2\), not 1"):
        await pool.resize(1)
    await pool.close()
    with pytest.raises(PoolClosed, match="orders: the pool is closed"):
        await pool.resize(5)


async def test_recycle_all_closes_what_is_idle_now_and_what_is_out_when_it_comes_back(api: Api, source: Source) -> None:
    pool = api.pool(capacity=3, open=source.open, close=source.close)
    out, idle = await pool.take(), await pool.take()
    await pool.put(idle)
    await pool.recycle_all()
    assert [resource.number for resource in source.live] == [1]
    assert not out.resource.closed
    await pool.put(out)
    assert source.live == []
    assert pool.stats().closes == {"recycle_all": 2}
    assert (await pool.cycle()).number == 3
    assert (await pool.cycle()).number == 3, "what opened after it stays"


async def test_recycle_all_reaches_what_is_being_opened_at_that_moment(api: Api, source: Source) -> None:
    """Its credentials may be the old ones."""
    go = api.event()
    opening: list[int] = []

    async def open_resource() -> object:
        opening.append(1)
        await go.waited()
        return source.open()

    pool = api.pool(capacity=1, open=open_resource, close=source.close)
    job = api.start(pool.take())
    await api.until(lambda: opening)
    await pool.recycle_all()
    go.set()
    await pool.put(await job.result())
    assert source.live == []
    assert (await pool.cycle()).number == 2


async def test_recycle_all_leaves_to_others_what_they_took_or_closed_meanwhile(api: Api, source: Source) -> None:
    pool = api.pool(capacity=3, open=source.open, close=source.close)
    leased = await pool.take()
    empty = pool._queue._vacant[0]
    pool._queue.snapshot = lambda: [leased, empty]  # both were idle a moment ago
    await pool.recycle_all()
    assert source.live == [leased.resource]
    await pool.put(leased)
    assert source.live == []


async def test_dispose_closes_all_and_raises_their_errors_together(api: Api, source: Source) -> None:
    pool = api.pool("orders", capacity=3, open=source.open, close=source.close)
    await pool.cycle_together(3)
    source.failing["close"] = RuntimeError("cannot")
    with pytest.raises(ExceptionGroup, match="orders: 3 resources failed to close") as caught:
        await pool.dispose()
    assert [str(error) for error in caught.value.exceptions] == ["cannot"] * 3
    assert source.live == []
    source.failing.clear()
    assert len(await pool.cycle_together(3)) == 3, "the pool lives on"
    await pool.dispose()
    assert source.live == []


async def test_close_closes_what_is_idle_and_waits_for_what_is_out(api: Api, source: Source) -> None:
    pool = api.pool(capacity=2, open=source.open, close=source.close)
    await pool.cycle_together(2)
    slot = await pool.take()
    job = api.start(pool.close(60.0))
    await api.until(lambda: len(source.live) == 1)
    assert not job.done
    await pool.put(slot)
    assert await job.result() == []
    assert source.live == []
    assert "closed" in repr(pool)


async def test_close_tells_those_who_wait_at_once(api: Api, source: Source) -> None:
    pool = api.pool("orders", capacity=1, open=source.open)
    slot = await pool.take()
    jobs = [api.start(pool.take()) for _ in range(3)]
    await api.until(lambda: pool.stats().waiting == 3)
    await pool.close(0)
    errors = []
    for job in jobs:
        with pytest.raises(PoolClosed, match="orders: the pool is closed") as caught:
            await job.result()
        errors.append(caught.value)
    assert len({id(error) for error in errors}) == 3, "each has its own error, lest their tracebacks mingle"
    await pool.put(slot)


async def test_a_taker_that_comes_just_as_the_pool_closes_is_told_at_once(api: Api, source: Source) -> None:
    pool = api.pool("orders", capacity=1, open=source.open, max_waiting=1)
    slot = await pool.take()

    def closes_meanwhile(waiting: int, now: float) -> bool:
        pool.pool._closed = True  # close() has told all who wait, and this one does not yet
        return True

    pool._admission.admits = closes_meanwhile
    with pytest.raises(PoolClosed, match="orders: the pool is closed"):
        await pool.take()
    await pool.put(slot)


async def test_close_returns_by_its_deadline_and_says_who_still_holds_what(api: Api, source: Source) -> None:
    pool = api.pool("orders", capacity=1, open=source.open, close=source.close)
    slot = await pool.take()
    (holder,) = await pool.close(0.01)
    assert holder.slot == "orders-1"
    assert ".py:" in holder.where
    assert pool.holders() == [holder] or pool.holders()[0].slot == "orders-1"
    await pool.put(slot)
    assert source.live == []
    assert await pool.close() == []


async def test_close_without_a_deadline_waits_as_long_as_it_takes_and_no_longer(
    api: Api, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(api.driver), "patience", 3600.0)  # so it is told of the last return and does not look
    pool = api.pool(capacity=1, open=source.open, close=source.close)
    slot = await pool.take()
    job = api.start(pool.close(None))
    await api.until(lambda: pool._closing)
    await pool.put(slot)
    assert await job.result() == []


async def test_close_finds_what_was_lost_or_dropped(api: Api, source: Source) -> None:
    pool = api.pool(capacity=4, open=source.open)
    for _ in range(3):
        await pool.take()
    source.made.clear()
    pool._queue.pop_any()
    assert await pool.close(0.05) == []
    assert pool.stats().slots == 0


async def test_close_may_be_repeated(api: Api, source: Source) -> None:
    pool = api.pool(open=source.open, close=source.close)
    await pool.cycle()
    assert await pool.close() == []
    assert await pool.close() == []
    assert source.live == []


async def test_a_closed_pool_prefills_nothing_and_sweeps_in_peace(api: Api, source: Source) -> None:
    pool = api.pool(open=source.open, min_idle=1)
    await pool.close()
    assert await pool.prefill() == 0
    assert await pool.recycle() == 0


async def test_a_taker_whose_resource_opens_while_the_pool_closes_is_told_and_the_resource_closed(
    api: Api, source: Source
) -> None:
    go = api.event()
    opening: list[int] = []

    async def open_resource() -> object:
        opening.append(1)
        await go.waited()
        return source.open()

    pool = api.pool(capacity=1, open=open_resource, close=source.close)
    job = api.start(pool.cycle())
    await api.until(lambda: opening)
    await pool.close(0)
    go.set()
    with pytest.raises(PoolClosed):
        await job.result()
    assert source.live == []
    assert pool.stats().slots == 0


async def test_the_pool_is_a_context_manager_that_closes_itself(api: Api, source: Source) -> None:
    pool = api.pool(open=source.open, close=source.close)
    async with pool.entered(pool.pool) as same:
        assert same is pool.pool
        await pool.cycle()
    assert source.live == []
    with pytest.raises(PoolClosed):
        await pool.take()


async def test_a_nonsensical_deadline_of_close_is_refused_and_the_pool_stays_open(api: Api, source: Source) -> None:
    pool = api.pool(open=source.open)
    with pytest.raises(ValueError, match="timeout must be a finite number"):
        await pool.close(-1)
    assert await pool.cycle() is source.made[0]


async def test_a_slot_that_joins_as_the_pool_closes_ends_with_it(api: Api, source: Source) -> None:
    pool = api.pool(capacity=1, open=source.open)
    slot = await pool.take()
    job = api.start(pool.close(5.0))
    await api.until(lambda: pool._closing)
    pool.pool._add_slots(1)  # as a resize does that looked whether the pool is closed just before it was
    await pool.put(slot)
    assert await job.result() == []
    assert pool.stats().slots == 0

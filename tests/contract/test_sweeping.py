"""recycle and what else a sweep does: min_idle, overflow, leaks, checks of what lies idle, lost slots."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from queuepool import Holder, Observer, Slot

from ..support import Clock, Source
from .apis import Api


async def test_a_sweep_leaves_alone_what_is_out_on_loan(api: Api, source: Source, clock: Clock) -> None:
    pool = api.pool(open=source.open, close=source.close, clock=clock, max_idle_time=10.0, max_open_time=10.0)
    slot = await pool.take()
    clock.advance(100.0)
    assert await pool.recycle() == 0
    assert not slot.resource.closed
    await pool.put(slot)
    assert source.live == []


async def test_one_close_that_raises_does_not_keep_a_sweep_from_the_others(
    api: Api, source: Source, clock: Clock
) -> None:
    """In queuepool 1.3.2 it ended the recycler thread and lost the slot."""
    pool = api.pool(capacity=3, open=source.open, close=source.close, clock=clock, max_idle_time=10.0)
    await pool.cycle_together(3)
    source.failing["close"] = RuntimeError("cannot")
    clock.advance(11.0)
    assert await pool.recycle() == 3
    assert pool.stats().close_errors == 3
    assert len(await pool.cycle_together(3)) == 3


async def test_while_a_sweep_closes_slowly_takes_go_on(api: Api, source: Source, clock: Clock) -> None:
    """In queuepool 1.3.2 one close of 2 s made a take wait 1.9 s though slots were free."""
    go = api.event()
    closing: list[Any] = []

    async def close(resource: Any) -> None:
        closing.append(resource)
        await go.waited()
        source.close(resource)

    pool = api.pool(capacity=3, open=source.open, close=close, clock=clock, max_idle_time=10.0)
    await pool.cycle_together(2)
    clock.advance(9.0)
    await pool.cycle()
    clock.advance(2.0)
    job = api.start(pool.recycle())
    await api.until(lambda: closing)
    for _ in range(20):
        slot = await pool.take(0)
        assert slot.resource not in closing
        await pool.put(slot)
    assert not job.done
    go.set()
    await job.result()


async def test_two_sweeps_at_once_close_nothing_twice(api: Api, source: Source, clock: Clock) -> None:
    pool = api.pool(capacity=20, open=source.open, close=source.close, clock=clock, max_idle_time=10.0, max_opening=20)
    await pool.cycle_together(20)
    clock.advance(11.0)
    jobs = [api.start(pool.recycle()) for _ in range(4)]
    for job in jobs:
        await job.result()
    assert source.live == []
    assert pool.stats().closes == {"max_idle_time": 20}


async def test_a_long_sweep_lets_others_run(api: Api, source: Source, clock: Clock) -> None:
    pool = api.pool(
        capacity=600, open=source.open, close=source.close, clock=clock, max_idle_time=10.0, max_opening=1000
    )
    await pool.prefill()
    clock.advance(11.0)
    assert await pool.recycle() == 600


async def test_a_sweep_keeps_min_idle_open(api: Api, source: Source, clock: Clock) -> None:
    pool = api.pool(capacity=5, open=source.open, close=source.close, clock=clock, max_idle_time=10.0, min_idle=2)
    await pool.recycle()
    assert (pool.stats().idle, pool.stats().empty) == (2, 3)
    async with pool.taken():
        await pool.recycle()
        assert pool.stats().idle == 2
    clock.advance(11.0)
    assert await pool.recycle() == 3
    assert pool.stats().idle == 2
    assert {resource.number for resource in source.live} == {4, 5}


async def test_min_idle_opens_no_overflow_which_the_next_sweep_would_close_again(
    api: Api, source: Source, clock: Clock
) -> None:
    pool = api.pool(capacity=2, overflow=3, open=source.open, close=source.close, clock=clock, min_idle=1)
    slots = [await pool.take(), await pool.take()]
    for _ in range(6):
        clock.advance(10.0)
        await pool.recycle()
    assert len(source.made) == 2
    for slot in slots:
        await pool.put(slot)


async def test_a_sweep_counts_what_it_closed_and_not_what_others_did_meanwhile(
    api: Api, source: Source, clock: Clock
) -> None:
    async def close(resource: Any) -> None:
        if resource is not slot.resource and slot.state == "leased":
            slot.close()
            await pool.put(slot)

    pool = api.pool(capacity=2, open=source.open, close=close, clock=clock, max_idle_time=10.0)
    slot, idle = await pool.take(), await pool.take()
    await pool.put(idle)
    clock.advance(11.0)
    assert await pool.recycle() == 1
    assert sum(pool.stats().closes.values()) == 2


async def test_a_sweep_that_cannot_open_raises_nothing_and_the_next_tries_again(api: Api, source: Source) -> None:
    pool = api.pool(capacity=3, open=source.open, min_idle=2)
    source.failing["open"] = ConnectionRefusedError("refused")
    assert await pool.recycle() == 0
    assert (pool.stats().open_errors, pool.stats().slots) == (1, 3)
    source.failing.clear()
    await pool.recycle()
    assert pool.stats().idle == 2


async def test_prefill_opens_up_to_a_count(api: Api, source: Source) -> None:
    pool = api.pool(capacity=4, open=source.open, overflow=2)
    assert await pool.prefill(2) == 2
    assert await pool.prefill(2) == 0
    assert await pool.prefill() == 2
    assert await pool.prefill(100) == 2, "there are no more slots than capacity and overflow"
    assert len(source.made) == 6


async def test_prefill_raises_what_open_does_and_loses_nothing(api: Api, source: Source) -> None:
    pool = api.pool(capacity=3, open=source.open)
    source.failing["open"] = ConnectionRefusedError("refused")
    with pytest.raises(ConnectionRefusedError):
        await pool.prefill()
    source.failing.clear()
    assert await pool.prefill() == 3


async def test_overflow_opens_in_need_and_sweeps_close_it_as_demand_falls(
    api: Api, source: Source, clock: Clock
) -> None:
    """CuttlePool drops overflow resources without closing them; SQLAlchemy closes each at its return."""
    pool = api.pool(capacity=2, overflow=3, open=source.open, close=source.close, clock=clock, timeout=0)
    clock.advance(1.0)
    slots = [await pool.take() for _ in range(5)]
    with pytest.raises(TimeoutError):
        await pool.take()
    for slot in slots:
        await pool.put(slot)
    clock.advance(1.0)
    await pool.recycle()
    assert len(source.live) == 5, "what was used since the last sweep is still wanted"
    clock.advance(1.0)
    await pool.recycle()
    assert len(source.live) == 2
    assert pool.stats().closes == {"overflow": 3}
    assert len(await pool.cycle_together(5)) == 5


async def test_bursts_do_not_churn_the_overflow(api: Api, source: Source, clock: Clock) -> None:
    """Ten bursts of five opened 41 connections in SQLAlchemy and psycopg2.pool."""
    pool = api.pool(capacity=2, overflow=3, open=source.open, close=source.close, clock=clock)
    for _ in range(10):
        clock.advance(1.0)
        await pool.cycle_together(5)
        await pool.recycle()
    assert len(source.made) == 5


class Listener(Observer):
    def __init__(self) -> None:
        self.heard: list[Any] = []

    def held_long(self, pool: Any, holder: Holder) -> None:
        self.heard.append((holder.slot, holder.seconds))

    def reclaimed(self, pool: Any, slot: Slot[Any], holder: Holder | None) -> None:
        self.heard.append((slot.name, holder if holder is None else holder.seconds))


async def test_a_slot_that_stays_out_too_long_is_told_of_once(
    api: Api, source: Source, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    listener = Listener()
    pool = api.pool("orders", capacity=1, open=source.open, clock=clock, leak_after=30.0, observer=listener)
    slot = await pool.take()
    with caplog.at_level(logging.WARNING, "queuepool"):
        for _ in range(10):
            clock.advance(10.0)
            await pool.recycle()
    assert listener.heard == [("orders-1", 40.0)]
    assert caplog.text.count("orders: slot orders-1 has not come back for long") == 1
    await pool.put(slot)


async def test_a_slot_that_stays_out_too_long_during_a_long_sweep_is_told_of_too(
    api: Api, source: Source, clock: Clock
) -> None:
    def close_slowly(resource: Any) -> None:
        clock.advance(5.0)

    listener = Listener()
    pool = api.pool(
        "orders",
        capacity=2,
        open=source.open,
        close=close_slowly,
        clock=clock,
        leak_after=30.0,
        max_idle_time=20.0,
        observer=listener,
    )
    slot, idle = await pool.take(), await pool.take()
    await pool.put(idle)
    clock.advance(29.0)
    assert await pool.recycle() == 1
    clock.advance(26.0)
    await pool.recycle()
    assert listener.heard == [(slot.name, 60.0)]
    await pool.put(slot)


async def test_without_leak_after_nothing_is_told(api: Api, source: Source, clock: Clock) -> None:
    listener = Listener()
    pool = api.pool(capacity=1, open=source.open, clock=clock, observer=listener)
    async with pool.taken():
        clock.advance(1e6)
        await pool.recycle()
    assert listener.heard == []


async def test_a_sweep_checks_what_has_been_idle_for_long_and_so_keeps_it_alive(
    api: Api, source: Source, clock: Clock
) -> None:
    pool = api.pool(capacity=2, open=source.open, close=source.close, check=source.check, check_after=60.0, clock=clock)
    first, second = await pool.cycle_together(2)
    clock.advance(59.0)
    assert await pool.recycle() == 0
    assert first.history == []
    clock.advance(1.0)
    assert await pool.recycle() == 0
    assert (first.history, second.history) == (["check"], ["check"])
    clock.advance(59.0)
    await pool.recycle()
    assert len(first.history) == 1, "the check counts"
    source.dead.add(first)
    clock.advance(1.0)
    assert await pool.recycle() == 1
    assert source.live == [second]
    assert pool.stats().closes == {"check": 1}


async def test_a_resource_that_was_found_dead_as_a_suspect_does_not_renew_the_suspicion(
    api: Api, source: Source, clock: Clock
) -> None:
    pool = api.pool(capacity=3, open=source.open, close=source.close, check=source.check, check_after=60.0, clock=clock)
    source.dead.update(await pool.cycle_together(3))
    clock.advance(61.0)
    assert await pool.recycle() == 3
    assert await pool.recycle() == 0


async def test_a_slot_lost_between_two_instructions_comes_back_with_the_next_sweep(
    api: Api, source: Source, caplog: pytest.LogCaptureFixture
) -> None:
    listener = Listener()
    pool = api.pool("orders", capacity=2, open=source.open, close=source.close, observer=listener)
    await pool.cycle()
    pool._queue.pop_any()  # what an asynchronous exception does between the pop and the store
    pool._queue.pop_any()
    with caplog.at_level(logging.WARNING, "queuepool"):
        await pool.recycle()
    assert caplog.text.count("was lost between two instructions and is back") == 2
    assert pool.stats().reclaimed == 2
    assert sorted(listener.heard) == [("orders-1", None), ("orders-2", None)]
    assert source.live == [], "whoever lost it may have left it in the middle of anything"
    assert len(await pool.cycle_together(2)) == 2


async def test_a_lost_slot_is_found_by_whoever_would_give_up_waiting(api: Api, source: Source) -> None:
    pool = api.pool(capacity=1, open=source.open)
    pool._queue.pop_any()
    await pool.put(await pool.take(0.001))
    assert pool.stats().reclaimed == 1


async def test_a_slot_in_somebodys_hands_is_never_taken_for_lost(api: Api, source: Source) -> None:
    pool = api.pool(capacity=2, open=source.open)
    mine = pool._queue.pop_any()
    assert await pool.recycle() == 0
    assert pool.stats().reclaimed == 0
    pool._give_back(mine)


async def test_the_search_for_lost_slots_is_not_repeated_by_each_of_many_waiters(api: Api, source: Source) -> None:
    pool = api.pool(capacity=1, open=source.open)
    pool.pool._heal_at = float("inf")  # a search has just been, and has taken long
    pool._queue.pop_any()
    with pytest.raises(TimeoutError):
        await pool.take(0)
    assert pool.stats().reclaimed == 0
    pool.pool._heal_at = 0.0
    await pool.put(await pool.take(0))
    assert pool.stats().reclaimed == 1

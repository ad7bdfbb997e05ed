"""What a pool tells: stats, holders, messages, and an observer's events."""

from __future__ import annotations

import logging
from typing import Any
from unittest.mock import Mock

import pytest

from queuepool import Exhausted, Observer

from ..support import Clock, Source
from .apis import Api

EVENTS = ("taken", "given_back", "opened", "closed", "failed", "refused", "held_long", "reclaimed")


class Listener(Observer):
    """Notes the name of each event, and its last argument where that is plain."""

    def __init__(self) -> None:
        self.heard: list[Any] = []


def _noting(event: str) -> Any:
    def method(self: Listener, pool: Any, *args: Any) -> None:
        plain = [arg for arg in args if isinstance(arg, str)]
        self.heard.append((event, *plain))

    return method


for _event in EVENTS:
    setattr(Listener, _event, _noting(_event))


async def test_an_observer_hears_of_everything_that_happens(api: Api, source: Source) -> None:
    listener = Listener()
    pool = api.pool(capacity=1, open=source.open, close=source.close, reset=source.reset, observer=listener, timeout=0)
    slot = await pool.take()
    with pytest.raises(Exhausted):
        await pool.take()
    await pool.put(slot)
    source.failing["reset"] = RuntimeError()
    await pool.cycle()
    source.failing["open"] = RuntimeError()
    with pytest.raises(RuntimeError):
        await pool.take()
    assert listener.heard == [
        ("opened",),
        ("taken",),
        ("refused",),
        ("given_back",),
        ("taken",),
        ("given_back",),
        ("failed", "reset"),
        ("closed", "reset"),
        ("failed", "open"),
    ]


async def test_the_durations_that_an_observer_hears_are_the_clocks(api: Api, source: Source, clock: Clock) -> None:
    heard: list[float] = []

    class Timing(Observer):
        def given_back(self, pool: Any, slot: Any, held: float) -> None:
            heard.append(held)

    pool = api.pool(open=source.open, clock=clock, observer=Timing())
    slot = await pool.take()
    clock.advance(41.5)
    await pool.put(slot)
    assert heard == [41.5]


async def test_an_observer_may_be_a_mock_or_have_methods_of_its_own(api: Api, source: Source) -> None:
    mock, heard = Mock(spec=Observer), Observer()
    heard.taken = Mock()  # type: ignore[method-assign]
    observers: list[Any] = [mock, heard]
    for observer in observers:
        pool = api.pool(capacity=1, open=source.open, observer=observer)
        assert pool._watches_given_back is (observer is mock)
        slot = await pool.take()
        observer.taken.assert_called_once_with(pool.pool, slot, 0.0)
        await pool.put(slot)
    mock.given_back.assert_called_once()


async def test_an_observer_that_fails_disturbs_nobody(
    api: Api, source: Source, caplog: pytest.LogCaptureFixture
) -> None:
    class Faulty(Observer):
        def taken(self, pool: Any, slot: Any, waited: float) -> None:
            raise RuntimeError("the observer's own")

        opened = closed = given_back = taken  # type: ignore[assignment]

    pool = api.pool("orders", capacity=1, open=source.open, close=source.close, observer=Faulty())
    with caplog.at_level(logging.ERROR, "queuepool"):
        async with pool.taken() as slot:
            slot.close()
    assert "orders: the observer's taken() failed" in caplog.text
    assert pool.stats().observer_errors == 4
    assert (await pool.cycle()).number == 2


async def test_stats_show_the_pool_at_one_moment_and_what_has_happened(api: Api, source: Source, clock: Clock) -> None:
    pool = api.pool("orders", capacity=3, overflow=1, open=source.open, close=source.close, clock=clock)
    slots = [await pool.take() for _ in range(3)]
    await pool.put(slots[0])
    slots[1].close()
    await pool.put(slots[1])
    stats = pool.stats()
    assert (stats.name, stats.capacity, stats.overflow, stats.slots) == ("orders", 3, 1, 4)
    assert (stats.taken, stats.idle, stats.empty, stats.waiting, stats.opening) == (1, 1, 2, 0, 0)
    assert (stats.paused, stats.closed, stats.unreachable) == (False, False, False)
    assert (stats.takes, stats.opens.count, stats.waits.count, stats.closes) == (3, 3, 0, {"asked": 1})
    assert stats.last_open_error is None
    await pool.put(slots[2])
    assert pool.stats().takes == 3
    assert stats.taken == 1, "a snapshot does not change"


async def test_waits_are_counted_and_timed(api: Api, source: Source) -> None:
    pool = api.pool(capacity=1, open=source.open)
    slot = await pool.take()
    job = api.start(pool.cycle())
    await api.until(lambda: pool.stats().waiting == 1)
    await pool.put(slot)
    await job.result()
    waits = pool.stats().waits
    assert waits.count == 1
    assert 0.0 < waits.longest_time == waits.total_time < 10.0


async def test_holders_are_listed_the_longest_first(api: Api, source: Source, clock: Clock) -> None:
    pool = api.pool("orders", capacity=2, open=source.open, clock=clock)
    first = await pool.take()
    clock.advance(40.0)
    second = await pool.take()
    clock.advance(1.25)
    holders = pool.holders()
    assert [(holder.slot, holder.seconds) for holder in holders] == [(first.name, 41.25), (second.name, 1.25)]
    assert str(holders[0]).startswith(("thread ", "task "))
    assert ", 41.2 s, " in str(holders[0])
    await pool.put(first)
    assert [holder.slot for holder in pool.holders()] == [second.name]
    await pool.put(second)
    assert pool.holders() == []


async def test_the_error_of_an_exhausted_pool_names_the_oldest_holder_and_the_counts(
    api: Api, source: Source, clock: Clock
) -> None:
    pool = api.pool("orders", capacity=2, open=source.open, clock=clock)
    slots = [await pool.take(), await pool.take()]
    clock.advance(41.2)
    with pytest.raises(
        Exhausted,
        match=r"orders: no slot within 0\.0 s \(2 taken, 0 idle, 0 waiting\); "
        r"oldest holder: (thread|task) \S+, 41\.2 s, .*\.py:\d+",
    ):
        await pool.take(0)
    for slot in slots:
        await pool.put(slot)


async def test_the_repr_of_a_pool_and_a_slot_show_their_states(api: Api, source: Source) -> None:
    pool = api.pool("orders", capacity=2, open=source.open)
    kind = api.kind.__name__
    slot = await pool.take()
    assert repr(pool) == f"<{kind} orders: open, capacity 2, 1 taken, 0 idle, 0 waiting>"
    assert str(pool.pool) == "orders"
    assert repr(slot) == f"<Slot {slot.name}: leased, 1 uses>"
    await pool.put(slot)
    assert repr(slot) == f"<Slot {slot.name}: idle, 1 uses>"
    await pool.close()
    assert repr(pool) == f"<{kind} orders: closed, capacity 2, 0 taken, 0 idle, 0 waiting>"
    assert repr(slot) == f"<Slot {slot.name}: retired, 0 uses>"


async def test_a_slot_tells_its_times(api: Api, source: Source, clock: Clock) -> None:
    pool = api.pool(capacity=1, open=source.open, clock=clock)
    slot = await pool.take()
    clock.advance(2.0)
    assert (slot.open_time, slot.idle_time, slot.use_count) == (2.0, None, 1)
    await pool.put(slot)
    clock.advance(3.0)
    assert (slot.open_time, slot.idle_time, slot.is_open) == (5.0, 3.0, True)
    await pool.recycle_all()
    assert (slot.open_time, slot.idle_time, slot.is_open, slot.use_count) == (None, None, False, 0)

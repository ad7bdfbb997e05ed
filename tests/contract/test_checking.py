"""Checking what lies idle before it is lent."""

from __future__ import annotations

import logging
import time
from typing import Any

import pytest

from queuepool import FifoSlotQueue

from ..support import Clock, Source
from .apis import Api


async def test_a_check_at_every_take_replaces_what_is_dead(api: Api, source: Source) -> None:
    pool = api.pool(capacity=1, open=source.open, close=source.close, check=source.check)
    await pool.cycle()
    await pool.cycle()
    assert source.made[0].history == ["check"], "what has just opened needs none"
    source.dead.add(source.made[0])
    assert (await pool.cycle()).number == 2
    assert pool.stats().closes == {"check": 1}


@pytest.mark.parametrize("nested", ["new", "same"])
async def test_what_was_used_a_moment_ago_is_not_checked_again(api: Api, source: Source, nested: str) -> None:
    pool = api.pool(capacity=1, open=source.open, check=source.check, check_after=60.0, nested=nested)
    assert [(await pool.cycle()).number for _ in range(3)] == [1, 1, 1]
    assert source.made[0].history == []


async def test_a_check_that_raises_means_dead_and_is_logged(
    api: Api, source: Source, caplog: pytest.LogCaptureFixture
) -> None:
    pool = api.pool("orders", capacity=1, open=source.open, close=source.close, check=source.check)
    await pool.cycle()
    source.failing["check"] = ConnectionResetError("gone")
    with caplog.at_level(logging.WARNING, "queuepool"):
        assert (await pool.cycle()).number == 2
    assert "check of orders-1 failed: ConnectionResetError: gone" in caplog.text


@pytest.mark.parametrize(
    ("answer", "alive"), [(None, True), (True, True), (1, True), ("yes", True), (False, False), (0, False), ("", False)]
)
async def test_whatever_a_check_returns_none_and_truth_mean_alive(
    api: Api, source: Source, answer: object, alive: bool
) -> None:
    pool = api.pool(capacity=1, open=source.open, check=lambda resource: answer)
    assert [(await pool.cycle()).number for _ in range(3)] == ([1, 1, 1] if alive else [1, 2, 3])


async def test_six_dead_resources_cost_a_take_six_opens_at_most_and_no_sleep(api: Api, source: Source) -> None:
    """In psycopg_pool the first getconn then takes 0.9, 3.2, 6.9, 15.3 s for two to five of them, and times out at six."""
    pool = api.pool(capacity=6, open=source.open, close=source.close, check=source.check, timeout=10.0)
    source.dead.update(await pool.cycle_together(6))
    began = time.monotonic()
    assert (await pool.cycle()) not in source.dead
    assert not set(await pool.cycle_together(6)) & source.dead
    assert time.monotonic() - began < 5.0
    assert source.attempts == 12


async def test_one_dead_resource_makes_all_idle_ones_suspect(api: Api, source: Source, clock: Clock) -> None:
    """With check= and six dead connections psycopg_pool's first getconn times out."""
    pool = api.pool(capacity=6, open=source.open, close=source.close, check=source.check, check_after=60.0, clock=clock)
    resources = await pool.cycle_together(6)
    source.dead.update(resources)
    clock.advance(50.0)
    await pool.cycle_together(5)
    clock.advance(15.0)
    assert await pool.recycle() == 6, "one has been idle for long, and the others fall under suspicion"
    fresh = await pool.cycle_together(6)
    assert not set(fresh) & source.dead
    assert pool.stats().closes == {"check": 6}


async def test_a_check_by_a_sweep_spares_the_next_take_a_look_but_not_the_limit_on_idleness(
    api: Api, source: Source, clock: Clock
) -> None:
    pool = api.pool(
        capacity=1,
        open=source.open,
        close=source.close,
        check=source.check,
        check_after=60.0,
        max_idle_time=100.0,
        clock=clock,
    )
    await pool.cycle()
    clock.advance(60.0)
    assert await pool.recycle() == 0
    (slot,) = pool._slots
    assert slot.due_at > clock()
    clock.advance(50.0)
    assert (await pool.cycle()).number == 2, "idle for 110 s"
    assert pool.stats().closes == {"max_idle_time": 1}


async def test_a_take_that_meets_a_dead_resource_makes_the_next_takes_check_theirs(
    api: Api, source: Source, clock: Clock
) -> None:
    pool = api.pool(
        capacity=3,
        open=source.open,
        close=source.close,
        check=source.check,
        check_after=60.0,
        clock=clock,
        queue_class=FifoSlotQueue,
    )
    first, second, third = await pool.cycle_together(3)
    clock.advance(50.0)
    assert await pool.cycle() is first
    assert await pool.cycle() is second
    clock.advance(15.0)
    source.dead.update([second, third])
    assert await pool.cycle() not in (first, second, third), "the third has been idle for long, and is dead"
    assert await pool.cycle() is first
    assert (await pool.cycle()) is not second, "used 15 s ago, but under suspicion since"
    assert (first.history, second.history) == (["check"], ["check"])


async def test_a_suspect_that_proves_alive_is_lent_without_further_checks(
    api: Api, source: Source, clock: Clock
) -> None:
    pool = api.pool(capacity=3, open=source.open, close=source.close, check=source.check, check_after=60.0, clock=clock)
    await pool.cycle_together(3)
    oldest = pool._queue.snapshot()[0].resource
    clock.advance(50.0)
    others = await pool.cycle_together(2)
    assert oldest not in others
    clock.advance(15.0)
    source.dead.add(oldest)
    assert await pool.recycle() == 1
    assert await pool.cycle_together(2) == others[::-1]
    assert [resource.history for resource in others] == [["check"], ["check"]]


@pytest.mark.parametrize("check_after", [0.0, 60.0])
async def test_a_poll_that_raises_although_it_must_not_costs_the_resource_and_nobody_an_error(
    api: Api, source: Source, check_after: float
) -> None:
    base: Any = api.kind._functions.__mro__[1]

    class Polling(base):  # type: ignore[misc]  # a Lifecycle or an AsyncLifecycle
        def open(self) -> Any:
            return source.open()

        def close(self, resource: Any) -> None:
            source.close(resource)

        def poll(self, resource: Any) -> bool:
            if resource is source.made[0]:
                raise OSError("a poll must not raise")
            return True

    pool = api.pool(capacity=1, lifecycle=Polling(), check_after=check_after, timeout=0)
    await pool.cycle()
    assert await pool.cycle() is source.made[1]
    assert pool.stats().closes == {"check": 1}

"""Idle time, open time and use count, looked at on take, on put and in sweeps."""

from __future__ import annotations

from typing import Any

import pytest

from ..support import Clock, Source
from .apis import Api

LIMITS = [
    ("max_idle_time", {"max_idle_time": 10.0}),
    ("max_open_time", {"max_open_time": 10.0, "jitter": 0.0, "max_idle_time": None}),
]


@pytest.mark.parametrize("start", [0.0, 1000.0])
@pytest.mark.parametrize(("reason", "options"), LIMITS)
async def test_what_has_become_due_while_idle_is_replaced_at_take(
    api: Api, source: Source, reason: str, options: dict[str, Any], start: float
) -> None:
    clock = Clock(start)
    pool = api.pool(capacity=1, open=source.open, close=source.close, clock=clock, **options)
    assert (await pool.cycle()).number == 1
    clock.advance(10.0)
    assert (await pool.cycle()).number == 1, "the limit itself is still allowed"
    clock.advance(10.1)
    assert (await pool.cycle()).number == 2
    assert [resource.number for resource in source.live] == [2]
    assert pool.stats().closes == {reason: 1}


@pytest.mark.parametrize("start", [0.0, 1000.0])
@pytest.mark.parametrize(("reason", "options"), LIMITS)
async def test_a_sweep_closes_what_is_due_in_a_pool_that_nobody_uses(
    api: Api, source: Source, reason: str, options: dict[str, Any], start: float
) -> None:
    clock = Clock(start)
    pool = api.pool(capacity=3, open=source.open, close=source.close, clock=clock, **options)
    await pool.cycle_together(3)
    assert await pool.recycle() == 0
    clock.advance(10.1)
    assert await pool.recycle() == 3
    assert source.live == []
    assert pool.stats().closes == {reason: 3}
    assert await pool.recycle() == 0


async def test_an_expired_resource_is_closed_at_put(api: Api, source: Source, clock: Clock) -> None:
    pool = api.pool(open=source.open, close=source.close, clock=clock, max_open_time=10.0, jitter=0.0)
    slot = await pool.take()
    clock.advance(10.1)
    await pool.put(slot)
    assert source.live == []
    assert slot.state == "empty"


async def test_a_resource_is_closed_after_its_last_use(api: Api, source: Source) -> None:
    pool = api.pool(capacity=1, open=source.open, close=source.close, max_usage_count=3)
    assert [(await pool.cycle()).number for _ in range(7)] == [1, 1, 1, 2, 2, 2, 3]
    assert pool.stats().closes == {"max_usage_count": 2}
    assert pool.stats().takes == 7


async def test_time_out_on_loan_does_not_count_as_idle(api: Api, source: Source, clock: Clock) -> None:
    pool = api.pool(capacity=1, open=source.open, clock=clock, max_idle_time=10.0, max_open_time=None)
    slot = await pool.take()
    clock.advance(1000.0)
    await pool.put(slot)
    assert (await pool.cycle()).number == 1


async def test_none_switches_every_limit_off(api: Api, source: Source, clock: Clock) -> None:
    pool = api.pool(
        capacity=1, open=source.open, clock=clock, max_idle_time=None, max_open_time=None, max_usage_count=None
    )
    for _ in range(1500):
        clock.advance(1000.0)
        assert (await pool.cycle()).number == 1
    assert await pool.recycle() == 0


async def test_a_limit_of_zero_makes_every_take_open_anew(api: Api, source: Source, clock: Clock) -> None:
    pool = api.pool(capacity=1, open=source.open, close=source.close, clock=clock, max_usage_count=0)
    assert [(await pool.cycle()).number for _ in range(3)] == [1, 2, 3]


async def test_what_opened_together_does_not_close_together(api: Api, source: Source, clock: Clock) -> None:
    """The lifetime is drawn once for each resource, not at each look: then all would close at the first chance."""
    pool = api.pool(
        capacity=50,
        open=source.open,
        close=source.close,
        clock=clock,
        max_open_time=100.0,
        max_idle_time=None,
        jitter=0.5,
        max_opening=50,
    )
    await pool.prefill()
    clock.advance(50.0)
    closed = []
    for _ in range(10):
        for _ in range(20):
            assert await pool.recycle() <= 50
        closed.append(50 - len(source.live))
        clock.advance(5.0)
    assert closed[0] < 10, "a second look must not draw again"
    assert 10 < closed[5] < 45
    assert await pool.recycle() + closed[-1] == 50


async def test_the_clock_may_stand_still(api: Api, source: Source, clock: Clock) -> None:
    pool = api.pool(capacity=1, open=source.open, clock=clock)
    assert {(await pool.cycle()).number for _ in range(50)} == {1}


async def test_a_clock_that_steps_back_closes_nothing_and_one_that_sleeps_closes_what_is_due(
    api: Api, source: Source, clock: Clock
) -> None:
    """A clock given by the program may be the wall clock; SQLAlchemy remakes at each checkout after such a step."""
    pool = api.pool(capacity=1, open=source.open, close=source.close, clock=clock, max_open_time=600.0)
    await pool.cycle()
    clock.advance(-3600.0)
    assert [(await pool.cycle()).number for _ in range(3)] == [1, 1, 1]
    assert await pool.recycle() == 0
    clock.advance(3600.0 + 601.0)
    assert (await pool.cycle()).number == 2


async def test_the_wall_clock_is_not_looked_at(api: Api, source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    """queuepool 1.3.2: an hour forwards recycled what was fresh, five back kept it for ever."""

    def forbidden() -> float:
        raise AssertionError("the wall clock was asked")

    monkeypatch.setattr("time.time", forbidden)
    pool = api.pool(open=source.open, close=source.close)
    await pool.cycle()
    assert await pool.recycle() == 0
    assert (await pool.cycle()).number == 1


async def test_after_the_machine_slept_idle_resources_are_checked(api: Api, source: Source, clock: Clock) -> None:
    pool = api.pool(
        capacity=1,
        open=source.open,
        close=source.close,
        check=source.check,
        check_after=30.0,
        clock=clock,
        max_idle_time=None,
        max_open_time=None,
    )
    await pool.cycle()
    clock.advance(29.0)
    await pool.cycle()
    assert source.made[0].history == []
    clock.advance(3600.0)
    source.dead.add(source.made[0])
    assert (await pool.cycle()).number == 2
    assert source.made[0].history == ["check"]

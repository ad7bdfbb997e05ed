"""Cancellation at every await of everything that waits: the capacity is whole afterwards, and nothing is lent twice."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from queuepool import Observer, ending
from queuepool.aio import AsyncPool

from .aio import AsyncSource, CancelledAt, in_loop, quiet, until
from .support import Clock, assert_whole

Scenario = Callable[[AsyncPool[Any], Clock], Coroutine[Any, Any, Any]]


async def takes_and_puts(pool: AsyncPool[Any], clock: Clock) -> None:
    async with pool.take() as slot:
        assert not slot.resource.closed


async def gets_by_a_lease(pool: AsyncPool[Any], clock: Clock) -> None:
    lease = await pool.lease()
    try:
        assert not lease.closed
    finally:
        await lease.close()


async def has_its_resource_checked(pool: AsyncPool[Any], clock: Clock) -> None:
    await takes_and_puts(pool, clock)
    clock.advance(5.0)
    await takes_and_puts(pool, clock)


async def closes_what_is_due(pool: AsyncPool[Any], clock: Clock) -> None:
    await takes_and_puts(pool, clock)
    clock.advance(60.0)
    await takes_and_puts(pool, clock)


async def fails_while_it_holds_a_slot(pool: AsyncPool[Any], clock: Clock) -> None:
    with pytest.raises(ZeroDivisionError):
        async with pool.get():
            raise ZeroDivisionError


async def waits_behind_another(pool: AsyncPool[Any], clock: Clock) -> None:
    async def hold() -> None:
        async with pool.take(), pool.take():
            await until(lambda: pool.stats().waiting or behind.done())

    holding = asyncio.ensure_future(hold())
    behind = asyncio.get_running_loop().create_future()
    try:
        await until(lambda: pool.stats().taken == 2)
        await takes_and_puts(pool, clock)
    finally:
        behind.set_result(None)
        await asyncio.shield(holding)


async def waits_in_vain(pool: AsyncPool[Any], clock: Clock) -> None:
    async with pool.take(), pool.take():
        with pytest.raises(TimeoutError):
            await pool.take(0.001)


async def waits_under_wait_for(pool: AsyncPool[Any], clock: Clock) -> None:
    slot = await asyncio.wait_for(pool.take(), 5.0)
    await pool.put(slot)


async def looks_after_the_pool(pool: AsyncPool[Any], clock: Clock) -> None:
    await pool.prefill()
    clock.advance(5.0)
    await pool.recycle()
    clock.advance(60.0)
    await pool.recycle()
    await pool.prefill()
    await pool.recycle_all()
    await pool.prefill(1)
    await pool.dispose()
    await pool.prefill()
    await pool.resize(1)
    await pool.resize(2)


SCENARIOS = (
    takes_and_puts, gets_by_a_lease, has_its_resource_checked, closes_what_is_due, fails_while_it_holds_a_slot,
    waits_behind_another, waits_in_vain, waits_under_wait_for, looks_after_the_pool,
)  # fmt: skip


async def whole_again(pool: AsyncPool[Any], source: AsyncSource) -> None:
    await quiet()
    await until(lambda: not pool._leases)
    assert_whole(pool)
    slots = [await pool.take(5.0) for _ in range(pool.capacity)]
    assert len({id(slot.resource) for slot in slots}) == pool.capacity
    for slot in slots:
        await pool.put(slot)
    assert await pool.close() == []
    await quiet()
    assert source.live == []


@pytest.mark.parametrize("as_woken", [False, True], ids=["waiting", "woken"])
@pytest.mark.parametrize("scenario", SCENARIOS)
@in_loop
async def test_a_cancellation_at_any_await_loses_nothing(scenario: Scenario, as_woken: bool) -> None:
    count, struck = 0, True
    while struck:
        count += 1
        clock, source = Clock(), AsyncSource(2)
        pool = AsyncPool("pool", 2, clock=clock, check_after=3.0, max_idle_time=30.0, **source.hooks)
        run = CancelledAt(scenario(pool, clock), count, as_woken)
        cancelled = await run.run()
        struck = run.struck
        assert cancelled or not struck or as_woken, "a cancellation was swallowed"
        await whole_again(pool, source)
    assert count > 2, "the scenario never waits"


@in_loop
async def test_an_open_whose_caller_is_cancelled_ends_and_goes_idle() -> None:
    begun, go, source = asyncio.Event(), asyncio.Event(), AsyncSource()

    async def slow_open() -> Any:
        begun.set()
        await go.wait()
        return source.open()

    pool = AsyncPool("pool", 1, open=slow_open)
    task = asyncio.ensure_future(pool.take())
    await begun.wait()
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert pool.stats().opening == 1
    go.set()
    await quiet()
    assert pool.stats().idle == 1
    async with pool.get(0) as resource:
        assert resource is source.made[0]


@in_loop
async def test_an_open_that_ends_as_its_caller_is_cancelled_and_the_pool_has_closed_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ending, "CLOSE_GRACE", 0.0)
    begun, go, source = asyncio.Event(), asyncio.Event(), AsyncSource()

    async def slow_open() -> Any:
        begun.set()
        await go.wait()
        return source.open()

    class Cancelling(Observer):
        def opened(self, pool: Any, slot: Any, seconds: float) -> None:
            asyncio.get_running_loop().call_soon(task.cancel)

    pool = AsyncPool("pool", 1, open=slow_open, close=source.aclose, observer=Cancelling())
    task = asyncio.ensure_future(pool.take())
    await begun.wait()
    assert await pool.close(0) == []
    go.set()
    await asyncio.wait([task])
    assert task.cancelled()
    await quiet()
    assert source.made
    assert source.live == []
    assert not pool.stats().slots


@in_loop
async def test_a_put_whose_caller_is_cancelled_resets_and_closes_in_the_background() -> None:
    go, source = asyncio.Event(), AsyncSource()

    async def reset(resource: Any) -> None:
        await go.wait()
        source.reset(resource)

    pool = AsyncPool("pool", 1, open=source.aopen, close=source.aclose, reset=reset, max_usage_count=1)
    slot = await pool.take()
    putting = asyncio.ensure_future(pool.put(slot))
    await asyncio.sleep(0)
    putting.cancel()
    await asyncio.wait([putting])
    assert putting.cancelled()
    assert (pool.stats().taken, pool.stats().idle, pool.stats().empty) == (0, 0, 0)
    go.set()
    await quiet()
    assert source.made[0].history == ["reset"]
    assert source.live == []
    assert_whole(pool)


@in_loop
async def test_a_close_that_fails_after_its_taker_was_cancelled_is_counted() -> None:
    go, clock, source = asyncio.Event(), Clock(), AsyncSource()

    async def close(resource: Any) -> None:
        await go.wait()
        raise OSError("late")

    pool = AsyncPool("pool", 1, open=source.aopen, close=close, clock=clock)
    await pool.put(await pool.take())
    clock.advance(1000.0)
    taking = asyncio.ensure_future(pool.take())
    await until(lambda: pool.stats().closes)
    taking.cancel()
    await asyncio.wait([taking])
    go.set()
    await quiet()
    assert pool.stats().close_errors == 1
    assert_whole(pool)


@in_loop
async def test_a_prefill_opens_several_at_a_time_and_when_cancelled_begins_no_more() -> None:
    begun: list[None] = []
    go = asyncio.Event()

    async def slow_open() -> object:
        begun.append(None)
        await go.wait()
        return object()

    pool = AsyncPool("pool", 10, open=slow_open, max_opening=3)
    task = asyncio.ensure_future(pool.prefill())
    await until(lambda: len(begun) == 3)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    go.set()
    await quiet()
    assert len(begun) == pool.stats().idle == 3
    assert await pool.prefill() == 7
    assert_whole(pool)


@in_loop
async def test_a_prefill_that_fails_raises_once_and_begins_no_more() -> None:
    begun: list[None] = []

    async def failing_open() -> object:
        begun.append(None)
        await asyncio.sleep(0)
        raise OSError("refused")

    pool = AsyncPool("pool", 10, open=failing_open, max_opening=3)
    with pytest.raises(OSError, match="refused"):
        await pool.prefill()
    await quiet()
    assert len(begun) == 3
    assert_whole(pool)


@in_loop
async def test_a_timeout_of_asyncio_ends_a_wait_and_leaves_the_line() -> None:
    pool = AsyncPool("pool", 1, open=AsyncSource().aopen)
    slot = await pool.take()
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(pool.take(), 0.005)
    assert pool.stats().waiting == 0
    await pool.put(slot)
    assert_whole(pool)


@in_loop
async def test_wait_for_and_a_put_in_the_same_moment_lose_no_slot() -> None:
    """wait_for of Python 3.9 to 3.11 waits in a task of its own, whose result may come when its caller has gone."""
    pool = AsyncPool("pool", 1, open=AsyncSource().aopen)
    await pool.prefill()
    for delay in range(40):
        slot = await pool.take(1.0)
        waiting = asyncio.ensure_future(asyncio.wait_for(pool.take(), 0.002))
        await asyncio.sleep(0.0015 + delay * 0.00005)
        await pool.put(slot)
        with contextlib.suppress(asyncio.TimeoutError):
            await pool.put(await waiting)
        await quiet()
        assert_whole(pool)


@pytest.mark.skipif(not hasattr(asyncio, "TaskGroup"), reason="needs Python 3.11")
@in_loop
async def test_when_one_of_a_group_fails_the_others_leave_the_line() -> None:
    pool = AsyncPool("pool", 2, open=AsyncSource().aopen)

    async def use() -> None:
        async with pool.get():
            await asyncio.sleep(10)

    async def fail() -> None:
        await until(lambda: pool.stats().waiting == 8)
        raise ZeroDivisionError

    with pytest.raises(BaseExceptionGroup):  # noqa: F821, PT012 - as one writes a group
        async with asyncio.TaskGroup() as group:
            for _ in range(10):
                group.create_task(use())
            group.create_task(fail())
    await quiet()
    assert_whole(pool)
    assert pool.stats().taken == 0


@in_loop
async def test_a_scope_of_anyio_that_cancels_again_and_again_loses_nothing() -> None:
    """FastAPI and Starlette cancel so: at every await until the scope is left, also at those of its clean-up."""
    anyio = pytest.importorskip("anyio")
    source = AsyncSource(5)
    pool = AsyncPool("pool", 1, **source.hooks)
    for _ in range(3):
        with anyio.move_on_after(0.002) as scope:
            async with pool.get():
                await asyncio.sleep(10)
        assert scope.cancelled_caught
        await until(lambda: not pool._leases)
        await quiet()
        assert_whole(pool)
    async with pool.get(5.0) as resource:
        assert not resource.closed
        with anyio.move_on_after(0.002):
            await pool.take()
    await quiet()
    assert_whole(pool)

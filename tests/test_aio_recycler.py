"""The task that sweeps an `AsyncPool`."""

from __future__ import annotations

import asyncio
import gc
import time
from typing import Any

import pytest

from queuepool import Observer, forking
from queuepool.aio import AsyncPool

from .aio import AsyncSource, in_loop, quiet, run_in, until
from .support import Clock, Resource


@in_loop
async def test_the_recycler_sweeps_until_stopped_and_twice_is_once() -> None:
    clock, source = Clock(), AsyncSource()
    pool = AsyncPool("pool", 2, open=source.aopen, close=source.aclose, clock=clock)
    await pool.prefill()
    pool.start_recycler(0.001)
    pool.start_recycler(0.001)
    clock.advance(1000.0)
    await until(lambda: not source.live)
    await pool.stop_recycler()
    await pool.stop_recycler()
    await quiet()
    pool.start_recycler(0.001)
    await pool.prefill()
    clock.advance(1000.0)
    await until(lambda: not source.live)
    await pool.close()
    await quiet()


def test_a_recycler_started_before_the_loop_begins_with_the_first_await() -> None:
    clock, source = Clock(), AsyncSource()
    pool = AsyncPool("pool", 1, open=source.aopen, close=source.aclose, clock=clock)
    pool.start_recycler(0.001)

    async def flow() -> None:
        async with pool.get():
            pass
        clock.advance(1000.0)
        await until(lambda: not source.live)
        await pool.close()

    run_in(asyncio.new_event_loop, flow)


@in_loop
async def test_a_pool_that_is_dropped_ends_its_recycler() -> None:
    pool = AsyncPool("pool", 1, open=AsyncSource().aopen)
    pool.start_recycler(30.0)
    await asyncio.sleep(0)
    del pool
    gc.collect()
    await quiet()


@in_loop
async def test_a_pool_that_is_dropped_just_as_a_sweep_is_due_is_not_swept() -> None:
    def drop() -> None:
        pools.clear()
        gc.collect()

    pools = [AsyncPool("pool", 1, open=AsyncSource().aopen)]
    pools[0].start_recycler(0.001)
    await asyncio.sleep(0)
    asyncio.get_running_loop().call_later(0.0011, drop)
    time.sleep(0.01)  # noqa: ASYNC251 - so that both are due when the loop looks again
    await quiet()


def test_a_recycler_that_never_began_ends_with_its_pool_or_by_request() -> None:
    pool = AsyncPool("pool", 1, open=AsyncSource().aopen)
    pool.start_recycler(0.001)
    run_in(asyncio.new_event_loop, pool.stop_recycler)
    pool.start_recycler(0.001)
    del pool
    gc.collect()


def test_a_forked_child_sweeps_at_the_same_interval_once_it_awaits_the_pool() -> None:
    source = AsyncSource()
    pool = AsyncPool("pool", 1, open=source.aopen, close=source.aclose, max_idle_time=0.001)
    pool.start_recycler(0.002)
    before = pool._recycler
    forking.forget(pool)
    assert pool._recycler is not before

    async def flow() -> None:
        await pool.prefill()
        await until(lambda: not source.live)
        await pool.close()

    run_in(asyncio.new_event_loop, flow)


@in_loop
async def test_the_recycler_survives_a_sweep_that_fails_and_counts_it(caplog: pytest.LogCaptureFixture) -> None:
    clock, source = Clock(), AsyncSource()
    failures = 2
    failed: list[None] = []
    heard: list[tuple[str, type[BaseException]]] = []

    class Listener(Observer):
        def failed(self, pool: Any, step: str, error: BaseException) -> None:
            heard.append((step, type(error)))

    def now() -> float:
        task = asyncio.current_task()
        if task is not None and task.get_name() == "pool recycler" and len(failed) < failures:
            failed.append(None)
            raise ZeroDivisionError
        return clock()

    pool = AsyncPool("pool", 1, open=source.aopen, close=source.aclose, clock=now, observer=Listener())
    await pool.prefill()
    clock.advance(1000.0)
    pool.start_recycler(0.001)
    await until(lambda: not source.live)
    assert pool.stats().sweep_errors == failures
    assert heard == [("sweep", ZeroDivisionError)] * failures
    assert "a sweep failed; the recycler goes on" in caplog.text
    await pool.close()


@in_loop
async def test_the_recycler_survives_a_hook_that_meets_a_future_which_its_driver_cancelled() -> None:
    clock, source = Clock(), AsyncSource()

    async def close(resource: Resource) -> None:
        source.close(resource)
        dead = asyncio.get_running_loop().create_future()
        dead.cancel()
        await dead

    pool = AsyncPool("pool", 1, open=source.aopen, close=close, clock=clock)
    pool.start_recycler(0.001)
    for number in range(1, 4):
        await pool.prefill()
        clock.advance(1000.0)
        await until(lambda number=number: pool.stats().close_errors == number)  # type: ignore[misc]
    assert pool.stats().sweep_errors == 0
    await pool.close()


@in_loop
async def test_close_keeps_its_timeout_though_a_sweep_hangs() -> None:
    clock, go, source = Clock(), asyncio.Event(), AsyncSource()

    async def close(resource: Resource) -> None:
        await go.wait()
        source.close(resource)

    pool = AsyncPool("pool", 1, open=source.aopen, close=close, clock=clock)
    await pool.prefill()
    clock.advance(1000.0)
    pool.start_recycler(0.001)
    await until(lambda: pool.stats().closes)
    began = time.monotonic()
    await pool.close(0.01)
    assert time.monotonic() - began < 5.0
    assert pool.stats().slots == 1
    go.set()
    await until(lambda: not pool.stats().slots)


@in_loop
async def test_a_hook_called_by_the_sweep_may_stop_the_recycler() -> None:
    clock, stopped = Clock(), asyncio.Event()
    source = AsyncSource()

    async def close(resource: Any) -> None:
        await pool.stop_recycler()
        stopped.set()

    pool = AsyncPool("pool", 1, open=source.aopen, close=close, clock=clock)
    await pool.prefill()
    pool.start_recycler(0.001)
    clock.advance(1000.0)
    await asyncio.wait_for(stopped.wait(), 5.0)
    await quiet()


@pytest.mark.parametrize("interval", [0, -1, "60"])
def test_an_interval_that_is_not_above_zero_is_refused(interval: Any) -> None:
    pool = AsyncPool("pool", 1, open=AsyncSource().aopen)
    with pytest.raises((TypeError, ValueError), match="interval"):
        pool.start_recycler(interval)

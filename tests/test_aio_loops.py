"""Event loops, and whatever else may put a slot back: callbacks, finalizers, signal handlers, other threads, a fork."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
import weakref
from typing import Any

import pytest

from queuepool import Exhausted, Slot, WrongLoop, loops
from queuepool.aio import AsyncPool

from .aio import AsyncSource, in_loop, quiet, run_in, until
from .support import Resource, assert_whole


@in_loop
async def test_a_put_without_await_from_a_callback_or_a_finalizer_comes_home() -> None:
    source = AsyncSource()
    pool = AsyncPool("pool", 1, open=source.aopen, reset=source.areset)
    for _ in range(2):
        slot = await pool.take(1.0)
        asyncio.get_running_loop().call_soon(pool.put, slot)
        del slot

    class Careless:
        def __init__(self, slot: Slot[Any]) -> None:
            self.slot = slot

        def __del__(self) -> None:
            pool.put(self.slot)

    careless = Careless(await pool.take(1.0))
    waiting = asyncio.ensure_future(pool.take(1.0))
    await until(lambda: pool.stats().waiting)
    del careless
    await pool.put(await waiting)
    assert source.made[0].history == ["reset"] * 4
    await quiet()
    assert_whole(pool)


@pytest.mark.parametrize("with_reset", [False, True])
@in_loop
async def test_a_put_from_another_thread_wakes_the_loop_and_resets_there(with_reset: bool) -> None:
    source, threads = AsyncSource(), []

    async def reset(resource: Resource) -> None:
        threads.append(threading.current_thread())

    pool = AsyncPool("pool", 1, open=source.aopen, reset=reset if with_reset else None)
    slot = await pool.take()
    waiting = asyncio.ensure_future(pool.take(5.0))
    await until(lambda: pool.stats().waiting)
    thread = threading.Thread(target=pool.put, args=(slot,))
    thread.start()
    again = await waiting
    thread.join()
    assert again is slot
    assert threads == [threading.current_thread()] * with_reset
    await pool.put(again)
    await quiet()


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs timers that signal")
def test_a_put_by_a_signal_handler_wakes_a_loop_that_sleeps_in_its_selector() -> None:
    async def flow() -> None:
        pool = AsyncPool("pool", 1, open=AsyncSource().aopen)
        slot = await pool.take()
        before = signal.signal(signal.SIGALRM, lambda *_: pool.put(slot) and None)
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.02)
            began = asyncio.get_running_loop().time()
            await pool.put(await pool.take(5.0))
            assert asyncio.get_running_loop().time() - began < 0.9
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)

    run_in(asyncio.new_event_loop, flow)


@in_loop
async def test_a_dropped_lease_comes_back_to_whoever_waits() -> None:
    pool = AsyncPool("pool", 1, open=object)
    lease = await pool.lease()
    waiting = asyncio.ensure_future(pool.take(1.0))
    await until(lambda: pool.stats().waiting)
    del lease
    gc.collect()
    await pool.put(await waiting)
    assert pool.stats().reclaimed == 1


def test_a_pool_made_before_any_loop_belongs_to_the_first_that_awaits_it() -> None:
    pool = AsyncPool("orders", 1, open=AsyncSource().aopen)

    async def use() -> None:
        async with pool.get():
            pass

    async def fail() -> None:
        for attempt in (use, pool.recycle, pool.close):
            with pytest.raises(WrongLoop, match=r"orders: the pool belongs to the event loop .* has been closed"):
                await attempt()

    run_in(asyncio.new_event_loop, use)
    run_in(asyncio.new_event_loop, fail)
    assert_whole(pool)


@in_loop
async def test_a_second_loop_in_another_thread_is_refused() -> None:
    pool = AsyncPool("orders", 1, open=AsyncSource().aopen)
    async with pool.get():
        pass
    errors: list[BaseException] = []

    def use() -> None:
        try:
            asyncio.run(pool.recycle())
        except WrongLoop as error:
            errors.append(error)

    thread = threading.Thread(target=use)
    thread.start()
    await until(lambda: not thread.is_alive())
    assert "which is another one" in str(errors[0])


def test_without_a_loop_of_asyncio_a_take_says_so() -> None:
    """So it is under trio."""
    pool = AsyncPool("pool", 1, open=AsyncSource().aopen)
    with pytest.raises(RuntimeError, match="no running event loop"):
        pool.take().send(None)
    assert_whole(pool)


@pytest.mark.parametrize("with_reset", [False, True])
def test_a_loop_that_closes_with_leases_out_and_tasks_waiting_strands_no_slot(with_reset: bool) -> None:
    source = AsyncSource()
    pool = AsyncPool("pool", 1, open=source.aopen, reset=source.areset if with_reset else None)
    slots = []

    async def take() -> None:
        slots.append(await pool.take())

    loop = asyncio.new_event_loop()
    loop.run_until_complete(take())
    waiting = loop.create_task(take())
    loop.run_until_complete(asyncio.sleep(0))
    assert pool.stats().waiting == 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loop.close()
        pool.put(slots.pop())
        assert (pool.stats().taken, pool.stats().waiting) == (0, 0)
        assert len(pool._queue.queue) == 1, "it was not left with the task that will never run"
        waiting._log_destroy_pending = False  # type: ignore[attr-defined]
        del waiting
        gc.collect()
    assert_whole(pool)


def test_asyncio_run_ends_at_once_with_leases_out_waiters_and_a_recycler() -> None:
    program = """
import asyncio, queuepool
async def open(): return object()
async def main():
    pool = queuepool.AsyncPool("pool", 2, open=open)
    pool.start_recycler(0.01)
    global slots  # else they were dropped, and their taker warned of
    slots = [await pool.take(), await pool.take()]
    tasks = [asyncio.create_task(pool.take()) for _ in range(5)]
    await asyncio.sleep(0.05)
asyncio.run(main(), debug=True)
"""
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=30, check=False
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_uses_the_pool_in_a_loop_of_its_own_and_closes_nothing_of_its_parents() -> None:
    source = AsyncSource()
    pool = AsyncPool("pool", 2, open=source.aopen, close=source.aclose)

    async def in_child() -> None:
        assert pool.stats().taken == 0
        async with pool.get() as resource:
            assert resource.number == 3
        await pool.close()
        assert source.live == source.made[:2]

    async def flow() -> None:
        pool.start_recycler(30.0)
        held = await pool.take()
        async with pool.get():
            pass
        child = os.fork()
        if not child:
            status = 1
            try:
                asyncio._set_running_loop(None)
                asyncio.run(in_child())
                status = 0
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0  # noqa: ASYNC222 - nothing else runs
        await pool.put(held)
        assert pool.stats().idle == 2
        await pool.close()

    run_in(asyncio.new_event_loop, flow)


@pytest.mark.parametrize("kind", ["coroutine", "future"])
def test_a_loop_that_ends_before_a_reset_begins_leaves_its_resource_to_be_closed(kind: str) -> None:
    source = AsyncSource()

    def reset(resource: Resource) -> Any:
        return source.areset(resource) if kind == "coroutine" else asyncio.get_running_loop().create_future()

    pool = AsyncPool("pool", 1, open=source.aopen, reset=reset)

    async def flow() -> None:
        pool.put(await pool.take())
        (resetting,) = (task for task in loops._background if task.get_name() == "pool put")
        resetting.cancel()
        await quiet()

    run_in(asyncio.new_event_loop, flow)
    assert_whole(pool)
    (slot,) = pool._slots
    assert slot.condemned == "reset"


@in_loop
async def test_those_who_wait_share_a_timer_and_each_is_told_at_its_own_deadline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loop, timers = asyncio.get_running_loop(), []
    call_at = loop.call_at

    def counted(when: float, *args: Any, **options: Any) -> asyncio.TimerHandle:
        timers.append(when)
        return call_at(when, *args, **options)

    pool = AsyncPool("pool", 1, open=AsyncSource().aopen)
    slot = await pool.take()

    async def refused(timeout: float) -> float:
        began = time.monotonic()
        with pytest.raises(Exhausted):
            await pool.take(timeout)
        return time.monotonic() - began - timeout

    monkeypatch.setattr(loop, "call_at", counted)
    tasks = [asyncio.ensure_future(refused(1.0 + each / 100)) for each in range(30)]
    await until(lambda: pool.stats().waiting == 30)
    assert len(timers) <= 2  # if meanwhile a second began
    late = await asyncio.gather(*tasks)
    assert min(late) >= 0.0
    assert max(late) < 0.1
    await pool.put(slot)
    assert_whole(pool)


@in_loop
async def test_a_slot_given_as_a_waiter_wakes_to_look_around_is_taken() -> None:
    pool = AsyncPool("pool", 1, open=AsyncSource().aopen)
    slot = await pool.take()
    waiting = asyncio.ensure_future(pool.take(5.0))
    await until(lambda: pool.stats().waiting)
    waiter: Any = pool._line[0]
    waiter._resolve(False)
    pool.put(slot)
    assert await waiting is slot
    await pool.put(slot)


def test_a_signal_in_the_middle_of_waking_those_whose_time_is_up_strands_none_of_them() -> None:
    class Struck(loops.LoopWaiter):
        __slots__ = ("times",)

        def _resolve(self, woken: bool) -> None:
            self.times = getattr(self, "times", 0) + 1
            if self.times == 1:
                raise KeyboardInterrupt
            super()._resolve(woken)

    async def wait() -> list[bool]:
        waiters = [Struck() for _ in range(3)]
        return await asyncio.gather(*(waiter.wait(1.0) for waiter in waiters))

    loop = asyncio.new_event_loop()
    flow = loop.create_task(wait())
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(flow)
    assert loop.run_until_complete(flow) == [False] * 3
    loop.close()


def test_a_loop_that_is_closed_while_tasks_wait_can_go() -> None:
    def close_one() -> weakref.ref[asyncio.AbstractEventLoop]:
        async def flow() -> None:
            pool = AsyncPool("pool", 1, open=AsyncSource().aopen)
            await pool.take()
            waiting = [asyncio.ensure_future(pool.take(10.0)) for _ in range(2)]
            await until(lambda: pool.stats().waiting == 2)
            for each in waiting:
                each._log_destroy_pending = False  # type: ignore[attr-defined]

        loop = asyncio.new_event_loop()
        loop.run_until_complete(flow())
        loop.close()
        return weakref.ref(loop)

    closed = close_one()
    gc.collect()
    assert closed() is None

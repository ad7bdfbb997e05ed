"""What `AsyncPool` owes besides the contract that all pools share: loops, tasks, callbacks, other threads."""

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
from typing import Any

import pytest

import queuepool
from queuepool import AsyncLifecycle, BadResource, Pool, Slot, WrongLoop, WrongSlot, forking, loops
from queuepool.aio import AsyncPool

from .aio import AsyncSource, in_loop, quiet, run_in, until
from .support import Clock, Resource, Source, assert_whole


def test_to_import_queuepool_does_not_import_asyncio() -> None:
    program = "import sys, queuepool; print('asyncio' in sys.modules, queuepool.AsyncPool.__module__)"
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert printed == "False queuepool.aio\n"


def test_the_package_knows_the_pool_by_its_name_and_no_other() -> None:
    assert queuepool.AsyncPool is AsyncPool
    with pytest.raises(AttributeError, match="no attribute 'AsynPool'"):
        queuepool.AsynPool  # noqa: B018


# --- handles


@in_loop
async def test_a_take_may_be_awaited_entered_or_made_a_task() -> None:
    pool = AsyncPool("pool", 1, open=AsyncSource().aopen)
    for cold in (True, False):
        slot = await pool.take()
        await pool.put(slot)
        async with pool.take() as slot:
            assert slot.state == "leased"
        slot = await asyncio.get_running_loop().create_task(pool.take())
        await pool.put(slot)
        (slot,) = await asyncio.gather(pool.take())
        await pool.put(slot)
        slot = await asyncio.wait_for(pool.take(), 1.0)
        await pool.put(slot)
        if cold:
            await pool.recycle_all()
    assert_whole(pool)


@in_loop
async def test_a_get_may_be_awaited_for_the_resource_and_a_lease_entered() -> None:
    source = AsyncSource()
    pool = AsyncPool("pool", 1, open=source.aopen)
    resource = await pool.get()
    assert resource is source.made[0]
    await pool.release(resource)
    async with pool.lease() as lease:
        assert lease.unwrap() is resource
    async with await pool.lease() as lease:
        assert lease.number == 1
    assert_whole(pool)


def test_a_take_that_is_never_awaited_takes_nothing() -> None:
    pool = AsyncPool("pool", 1, open=AsyncSource().aopen)
    taking = pool.take()
    taking.close()
    del taking
    assert pool.stats().taken == 0


@in_loop
async def test_a_take_is_driven_like_a_coroutine() -> None:
    pool = AsyncPool("pool", 1, open=AsyncSource().aopen)
    slot = await pool.take()
    taking = pool.take()
    taking.send(None)
    assert pool.stats().waiting == 1
    taking.close()
    assert pool.stats().waiting == 0
    with pytest.raises(ZeroDivisionError):
        pool.take().throw(ZeroDivisionError())
    await pool.put(slot)
    assert_whole(pool)


def test_a_timeout_that_is_no_number_is_refused_at_the_call() -> None:
    pool = AsyncPool("pool", 1, open=AsyncSource().aopen)
    with pytest.raises(TypeError, match="timeout must be a number"):
        pool.take("1")  # type: ignore[arg-type]


@in_loop
async def test_holders_name_the_task_and_the_line_of_its_take() -> None:
    pool = AsyncPool("pool", 2, open=AsyncSource().aopen)

    async def hold() -> None:
        async with pool.get():
            await asyncio.sleep(10)

    for name in ("billing", "mailing"):  # the first opens, the second finds it open
        task = asyncio.get_running_loop().create_task(hold(), name=name)
        await until(lambda: pool.stats().taken)
        (holder,) = pool.holders()
        assert holder.who == f"task {name}"
        assert holder.where == f"{__file__}:{hold.__code__.co_firstlineno + 1}"
        task.cancel()
        await asyncio.wait([task])


@in_loop
async def test_what_a_task_held_that_died_comes_back_though_its_error_is_kept() -> None:
    """The error has the traceback, that the frame, that the slot; were the lease to keep the task, it would keep all."""
    pool = AsyncPool("pool", 1, open=object)
    held: list[Any] = []

    async def die() -> None:
        slot = await pool.take()
        held.append(slot.name)
        raise ZeroDivisionError

    task = asyncio.ensure_future(die())
    await asyncio.wait([task])
    assert isinstance(task.exception(), ZeroDivisionError)
    assert pool.holders()[0].who.startswith("task ")
    del task
    gc.collect()
    assert pool.holders()[0].who == "a task (ended)"
    async with pool.take(1.0) as slot:
        assert slot.name == held[0]
    assert pool.stats().reclaimed == 1


@in_loop
async def test_nesting_is_told_by_task() -> None:
    pool = AsyncPool("pool", 2, open=AsyncSource().aopen, nested="same")
    async with pool.get() as outer:
        async with pool.get() as inner:
            assert inner is outer
        other = await asyncio.get_running_loop().create_task(pool.acquire())
        assert other is not outer
        await pool.release(other)
    assert_whole(pool)
    assert not pool._nesting


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


@in_loop
async def test_an_error_in_with_closes_the_resource_and_reaches_the_caller() -> None:
    source = AsyncSource()
    pool = AsyncPool("pool", 1, open=source.aopen, close=source.aclose)
    for context in (pool.take, pool.get, pool.lease):
        with pytest.raises(ZeroDivisionError):
            async with context():
                raise ZeroDivisionError
    assert len(source.made) == 3
    assert source.live == []


@in_loop
async def test_what_was_put_back_before_its_with_ends_by_an_error_is_left_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    pool = AsyncPool("pool", 1, open=AsyncSource().aopen)

    async def use() -> None:
        async with pool.take() as slot:
            await pool.put(slot)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await use()
    assert "was put back before its `with` ended" in caplog.text
    assert_whole(pool)


@in_loop
async def test_an_exception_in_the_clock_leaves_the_slot_where_it_was() -> None:
    clock = Clock()
    failing: list[BaseException] = []

    def now() -> float:
        if failing:
            raise failing.pop()
        return clock()

    pool = AsyncPool("pool", 1, open=AsyncSource().aopen, clock=now)
    slot = await pool.take()
    failing.append(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        pool.put(slot)
    assert_whole(pool)
    failing.append(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        pool.take().send(None)
    assert_whole(pool)
    await pool.put(await pool.take(0))


@in_loop
async def test_a_dead_resource_is_found_by_poll_on_the_fast_way() -> None:
    source = AsyncSource()

    class Polled(AsyncLifecycle[Resource]):
        async def open(self) -> Resource:
            return source.open()

        async def close(self, resource: Resource) -> None:
            source.close(resource)

        def poll(self, resource: Resource) -> bool:
            return resource not in source.dead

    pool = AsyncPool("pool", 1, lifecycle=Polled())
    async with pool.get() as first:
        pass
    async with pool.get() as again:
        assert again is first
    source.dead.add(first)
    async with pool.get() as second:
        assert second is not first
    assert source.live == [second]


@in_loop
async def test_plain_functions_and_classes_do_for_hooks_and_need_no_task() -> None:
    source = Source()
    pool = AsyncPool("pool", 1, open=source.open, close=source.close, check=source.check, reset=source.reset)
    async with pool.get():
        pass
    pool.put(await pool.take())
    assert source.made[0].history == ["reset", "check", "reset"]
    assert pool.stats().idle == 1, "the reset was done in place"
    await pool.recycle_all()
    assert source.live == []


@in_loop
async def test_a_resource_with_a_close_of_its_own_is_closed_by_it_plain_or_async() -> None:
    closed = []

    class Plain:
        def close(self) -> None:
            closed.append("plain")

    class Async:
        async def close(self) -> None:
            closed.append("async")

    class Life(AsyncLifecycle[Any]):
        async def open(self) -> Any:
            return kinds.pop()

    kinds = [object(), Async(), Plain()]
    pool = AsyncPool("pool", 3, lifecycle=Life())
    await pool.prefill()
    await pool.recycle_all()
    assert closed == ["plain", "async"]
    for kind in (Plain, Async):
        async with AsyncPool("pool", 1, open=kind) as other, other.get():
            pass
    assert closed[2:] == ["plain", "async"]


@in_loop
async def test_a_lifecycle_for_threads_is_refused() -> None:
    with pytest.raises(TypeError, match="must be an instance of AsyncLifecycle"):
        AsyncPool("pool", 1, lifecycle=queuepool.Lifecycle())  # type: ignore[call-overload]


# --- loops


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


# --- putting in slots of one's own


@in_loop
async def test_slots_that_the_program_makes_are_put_in_as_in_queuepool_1() -> None:
    class Manager(queuepool.ResourceManager):
        def open(self) -> None:
            super().open()
            self.resource = Resource(1)

    pool = AsyncPool[Any]("pool", 1)
    await pool.put(Manager("m"))
    async with pool.take() as manager:
        assert manager.resource.number == 1
    with pytest.raises(WrongSlot):
        pool.put(manager)
    with pytest.raises(WrongSlot):
        pool.release(manager.resource)
    with pytest.raises(BadResource):
        async with AsyncPool("none", 1, open=lambda: None).take():
            pass


# --- the recycler


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

    def now() -> float:
        task = asyncio.current_task()
        if task is not None and task.get_name() == "pool recycler" and len(failed) < failures:
            failed.append(None)
            raise ZeroDivisionError
        return clock()

    pool = AsyncPool("pool", 1, open=source.aopen, close=source.aclose, clock=now)
    await pool.prefill()
    clock.advance(1000.0)
    pool.start_recycler(0.001)
    await until(lambda: not source.live)
    assert pool.stats().sweep_errors == failures
    assert "a sweep failed; the recycler goes on" in caplog.text
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


def test_both_pools_take_the_same_options_and_have_the_same_methods() -> None:
    import inspect

    threads, tasks = (list(inspect.signature(kind.__init__).parameters) for kind in (Pool, AsyncPool))
    assert [name for name in threads if name != "camel_case"] == tasks
    public = [{name for name in dir(kind) if not name.startswith("_")} for kind in (Pool, AsyncPool)]
    assert public[0] - public[1] == {"aget", "closeOnException", "startRecycler"}
    assert public[1] <= public[0]

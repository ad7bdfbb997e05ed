"""A pool for threads, borrowed from by coroutines: one fair line, no blocked loop, nothing lost when a task is cancelled."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any

import pytest

from queuepool import Pool, Unreachable
from queuepool.bridge import borrow, in_thread

from .aio import CancelledAt, in_loop, run_in, until
from .support import Clock, Resource, Source, assert_whole, wait_until


class SlowSource(Source):
    """Its hooks block until `go` is set, for `seconds` at least, and must not be called by the loop's thread."""

    def __init__(self, seconds: float = 0.0) -> None:
        super().__init__()
        self.seconds = seconds
        self.go = threading.Event()
        self.go.set()
        self.loop_thread = threading.current_thread()
        self.blocked: list[str] = []

    def _maybe_fail(self, hook: str) -> None:
        assert threading.current_thread() is not self.loop_thread, f"{hook} would block the loop"
        self.blocked.append(hook)
        assert self.go.wait(10.0)
        time.sleep(self.seconds)
        self.blocked.remove(hook)
        super()._maybe_fail(hook)

    def pool(self, capacity: int = 2, **options: Any) -> Pool[Resource]:
        hooks: dict[str, Callable[..., Any]] = {"close": self.close, "check": self.check, "reset": self.reset}
        return Pool("orders", capacity, open=self.open, **hooks, **options)  # type: ignore[arg-type]


async def settled(pool: Pool[Any]) -> None:
    await until(lambda: not pool._leases and not pool._gate.opening)
    await until(lambda: len(pool._queue.queue) + len(pool._queue._vacant) == len(pool._slots))
    assert_whole(pool)


@in_loop
async def test_open_check_reset_and_close_run_in_threads() -> None:
    clock, source = Clock(), SlowSource()
    pool = source.pool(1, clock=clock)
    async with pool.aget() as resource:
        assert resource is source.made[0]
        (holder,) = pool.holders()
        assert holder.who.startswith("task ")
        assert "test_aio_bridge.py:" in holder.where
    async with borrow(pool):
        pass
    assert resource.history == ["reset", "check", "reset"]
    clock.advance(1000.0)
    async with pool.aget(1.0) as another:
        assert resource.closed
        assert another is not resource
    with pytest.raises(ZeroDivisionError):
        async with pool.aget():
            raise ZeroDivisionError
    assert another.closed
    await settled(pool)


@in_loop
async def test_tasks_and_threads_wait_in_one_line() -> None:
    pool = Pool("orders", 1, open=object)
    served: list[int] = []
    slot = pool.take()

    def in_a_thread(number: int) -> None:
        with pool.take():
            served.append(number)

    async def in_a_task(number: int) -> None:
        async with pool.aget():
            served.append(number)

    threads, tasks = [], []
    for number in range(20):
        if number % 2:
            tasks.append(asyncio.ensure_future(in_a_task(number)))
        else:
            threads.append(threading.Thread(target=in_a_thread, args=(number,)))
            threads[-1].start()
        await until(lambda number=number: len(pool._line) == number + 1)  # type: ignore[misc]
    pool.put(slot)
    await asyncio.wait(tasks)
    for thread in threads:
        thread.join(5.0)
    assert served == list(range(20))
    await settled(pool)


@in_loop
async def test_the_loop_goes_on_while_a_resource_opens_and_resets() -> None:
    source = SlowSource()
    pool = source.pool(1)

    async def use() -> None:
        async with pool.aget():
            pass

    for step in ("open", "check"):
        source.go.clear()
        task = asyncio.ensure_future(use())
        await until(lambda step=step: source.blocked == [step])  # type: ignore[misc]
        assert not task.done()
        source.go.set()
        await task
    await settled(pool)


@in_loop
async def test_a_borrower_leaves_at_its_deadline_even_while_opening() -> None:
    source = SlowSource()
    pool = source.pool(1)
    source.go.clear()
    began = time.monotonic()
    with pytest.raises(Unreachable, match="open of orders-1 did not end"):
        async with pool.aget(0.02):
            pass
    assert time.monotonic() - began < 1.0
    source.go.set()
    await settled(pool)
    assert pool.stats().idle == 1
    with pytest.raises(TypeError, match="timeout"):
        pool.aget("1")  # type: ignore[arg-type]


@pytest.mark.parametrize("as_woken", [False, True], ids=["waiting", "woken"])
@in_loop
async def test_a_cancellation_at_any_await_loses_nothing(as_woken: bool) -> None:
    async def use(pool: Pool[Any], clock: Clock) -> None:
        for seconds in (0.0, 5.0, 1000.0):
            clock.advance(seconds)
            async with pool.aget() as resource:
                assert not resource.closed
                await asyncio.sleep(0)

    count, struck = 0, True
    while struck:
        count += 1
        clock, source = Clock(), SlowSource(0.002)  # so long that the task does wait
        pool = source.pool(2, clock=clock, check_after=3.0)
        run = CancelledAt(use(pool, clock), count, as_woken)
        await run.run()
        struck = run.struck
        await settled(pool)
        await asyncio.to_thread(pool.close)
        assert source.live == []
    assert count > 6


@in_loop
async def test_what_fails_after_its_task_was_cancelled_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    begun, go = threading.Event(), threading.Event()

    def fail() -> None:
        begun.set()
        assert go.wait(10.0)
        raise ZeroDivisionError

    task = asyncio.ensure_future(in_thread("work", fail))
    await until(begun.is_set)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    go.set()
    await until(lambda: "a step whose task was cancelled failed" in caplog.text)


@in_loop
async def test_what_fails_just_as_its_task_is_cancelled_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    go = threading.Event()
    asyncio.get_running_loop().call_later(0.005, go.set)
    run = CancelledAt(in_thread("work", lambda: 1 // (not go.wait(10.0))), 1, as_woken=True)
    assert await run.run()
    assert "a step whose task was cancelled failed" in caplog.text


@in_loop
async def test_the_result_or_the_error_of_a_thread_reaches_the_task() -> None:
    assert await in_thread("work", divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        await in_thread("work", divmod, 7, 0)


def test_a_loop_that_closes_while_its_task_waits_or_opens_leaves_the_slot_to_the_threads() -> None:
    source = SlowSource()
    pool = source.pool(1)
    slot = []
    taking = threading.Thread(target=lambda: slot.append(pool.take()))
    taking.start()
    taking.join(5.0)

    async def use() -> None:
        async with pool.aget():
            pass

    for _ in range(2):
        loop = asyncio.new_event_loop()
        task = loop.create_task(use())
        loop.run_until_complete(asyncio.sleep(0.01))
        loop.close()
        source.loop_thread = threading.Thread()
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        if slot:  # it waited
            assert pool.stats().waiting == 1
            pool.put(slot.pop())
            assert pool.stats().idle == 1
            # Next time it opens.
            pool.recycle_all()
            source.go.clear()
            source.loop_thread = threading.current_thread()
        else:
            source.go.set()
            wait_until(lambda: pool.stats().idle == 1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            del task
            gc.collect()
    assert_whole(pool)


@in_loop
async def test_tasks_of_two_loops_borrow_from_one_pool() -> None:
    pool = Pool("orders", 1, open=object)

    async def use() -> None:
        async with pool.aget() as resource:
            assert resource
            await asyncio.sleep(0.001)

    async def several() -> None:
        await asyncio.gather(*(use() for _ in range(10)))

    other = threading.Thread(target=run_in, args=(asyncio.new_event_loop, several))
    other.start()
    await several()
    await until(lambda: not other.is_alive())
    await settled(pool)


@in_loop
async def test_a_resource_dropped_by_its_user_is_settled_in_a_thread() -> None:
    class Handle:
        pass

    threads: list[bool] = []

    def reset(resource: Any) -> None:
        threads.append(threading.current_thread() is threading.main_thread())

    pool = Pool("orders", 1, open=Handle, reset=reset)
    lease = pool.lease()
    del lease
    gc.collect()
    async with pool.aget(1.0):
        pass
    assert threads == [False, False]
    assert pool.stats().reclaimed == 1


@in_loop
async def test_when_the_system_has_no_more_threads_a_slot_still_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    pool = Pool("orders", 1, open=object)
    pool.prefill()
    async with pool.aget():
        monkeypatch.setattr(threading.Thread, "start", start)
    assert_whole(pool)
    pool.recycle_all()
    with pytest.raises(RuntimeError, match="can't start new thread"):
        async with pool.aget():
            pass
    assert_whole(pool)


@in_loop
async def test_nesting_is_told_by_task_there_too() -> None:
    pool = Pool("orders", 2, open=object, nested="same")
    async with pool.aget() as outer, pool.aget() as inner:
        assert inner is outer
        assert pool.stats().taken == 1
    await settled(pool)


@in_loop
async def test_one_aget_that_two_tasks_share_gives_back_what_each_has_entered() -> None:
    pool = Pool("orders", 2, open=object)
    shared = pool.aget()
    entered, leave = asyncio.Event(), asyncio.Event()

    async def enter_and_wait() -> None:
        async with shared:
            entered.set()
            await leave.wait()

    async with shared:
        other = asyncio.get_running_loop().create_task(enter_and_wait(), name="the other")
        await entered.wait()
    (holder,) = pool.holders()
    assert holder.who == "task the other"
    leave.set()
    await other
    await settled(pool)
    assert pool.stats().taken == 0

"""Threads, signals, finalizers and the interpreter's end: what may happen to a program of threads at any moment."""

from __future__ import annotations

import gc
import logging
import os
import queue
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from queuepool import Lifecycle, Pool, Slot, WrongSlot
from queuepool.threads import THREADS, ThreadWaiter, run

from .support import PATIENCE, Source, assert_whole, wait_until

ROOT = Path(__file__).parents[1]
needs_signals = pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="signals of POSIX")


def test_a_waiter_is_woken_by_what_it_is_given() -> None:
    waiter = ThreadWaiter()
    assert not waiter.wait(0.001)
    assert not waiter.wait(-1.0), "a deadline that has passed is no wait at all"
    slot: Slot[Any] = Slot("slot")
    threading.Thread(target=waiter.give, args=(slot,)).start()
    assert waiter.wait(None)
    assert waiter.accept() is slot


def test_a_flow_gives_its_result_or_raises_its_error() -> None:
    async def flow(error: Exception | None = None) -> int:
        if error is not None:
            raise error
        return 7

    assert run(flow()) == 7
    with pytest.raises(ZeroDivisionError):
        run(flow(ZeroDivisionError()))


def test_a_step_that_fails_after_its_caller_has_left_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def flow() -> None:
        raise RuntimeError("in the background")

    with caplog.at_level(logging.ERROR, "queuepool"):
        THREADS.spawn(flow(), "failing step")
        wait_until(lambda: "a step in the background failed" in caplog.text)


def test_a_step_that_cannot_get_a_thread_loses_no_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    class Hanging(Lifecycle[object]):
        may_hang = True

        def open(self) -> object:
            return object()

    def no_more_threads(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    pool = Pool("pool", 1, lifecycle=Hanging())
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", no_more_threads)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            pool.take(5.0)
    assert_whole(pool)
    with pool.take(5.0):
        pass


@pytest.mark.parametrize("begun", [True, False])
def test_ctrl_c_as_a_step_gets_its_thread_leaves_the_slot_to_one_of_the_two(
    begun: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    opening, go = threading.Event(), threading.Event()

    class Hanging(Lifecycle[object]):
        may_hang = True

        def open(self) -> object:
            opening.set()
            assert go.wait(PATIENCE)
            return object()

    start, threads = threading.Thread.start, []

    def interrupted(self: threading.Thread) -> None:
        threads.append(self)
        if begun:
            start(self)
            assert opening.wait(PATIENCE)
        raise KeyboardInterrupt

    pool = Pool("pool", 1, lifecycle=Hanging())
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", interrupted)
        with pytest.raises(KeyboardInterrupt):
            pool.take(5.0)
    assert pool._queue.qsize() == (0 if begun else 1), "while it opens, the slot is the step's"
    if not begun:
        start(threads[0])
    go.set()
    threads[0].join()
    assert_whole(pool)
    assert pool.stats().opens.count == begun
    with pool.take(5.0):
        pass


def test_a_slot_held_by_a_thread_that_died_comes_back(caplog: pytest.LogCaptureFixture) -> None:
    pool = Pool("orders", 1, open=object)
    thread = threading.Thread(target=pool.take, name="worker-3")
    thread.start()
    thread.join()
    gc.collect()
    with caplog.at_level(logging.WARNING, "queuepool"), pool.take(0.001):
        pass
    assert "slot orders-1 was taken and never put back, and is back: thread " in caplog.text


def test_a_lease_has_no_thread_so_another_may_put_it_back() -> None:
    """A web framework may enter and leave a dependency in different threads."""
    pool = Pool("pool", 1, open=object)
    slot = pool.take()
    thread = threading.Thread(target=pool.put, args=(slot,))
    thread.start()
    thread.join()
    assert pool.stats().idle == 1
    with pytest.raises(WrongSlot):
        pool.put(slot)


# --- Ctrl-C


class Gate:
    """A place where the main thread stays until Ctrl-C, which comes as soon as it is there."""

    def __init__(self) -> None:
        self.shut = False
        self._never = threading.Event()

    def pass_through(self, *_: object) -> None:
        if self.shut:
            self.shut = False
            interrupt_soon(lambda: True)
            assert not self._never.wait(PATIENCE), "Ctrl-C did not come"


def send_soon(number: int, condition: Callable[[], Any]) -> None:
    """Send the main thread a signal once `condition()` is true."""

    def send() -> None:
        wait_until(condition)
        time.sleep(0.002)  # until the main thread, which has announced itself, is asleep; too early is as good
        signal.pthread_kill(threading.main_thread().ident or 0, number)

    threading.Thread(target=send, daemon=True).start()


def interrupt_soon(condition: Callable[[], Any]) -> None:
    """Press Ctrl-C once `condition()` is true."""
    send_soon(signal.SIGINT, condition)


@needs_signals
def test_ctrl_c_while_waiting_leaves_no_dead_waiter_behind() -> None:
    """In psycopg_pool it swallows the next returned connection for good."""
    pool = Pool("pool", 1, open=object)
    slot = pool.take()
    interrupt_soon(lambda: pool.stats().waiting == 1)
    with pytest.raises(KeyboardInterrupt):
        pool.take()
    assert pool.stats().waiting == 0
    pool.put(slot)
    with pool.take(0) as again:
        assert again is slot


@needs_signals
@pytest.mark.parametrize("hook", ["open", "check", "reset", "close"])
@pytest.mark.parametrize("may_hang", [False, True])
def test_ctrl_c_in_a_hook_loses_no_slot_and_lends_nothing_half_done(hook: str, may_hang: bool) -> None:
    gate, source = Gate(), Source()

    class Gated(Lifecycle[Any]):
        def open(self) -> Any:
            gate_of("open")
            return source.open()

        def close(self, resource: Any) -> None:
            gate_of("close")
            source.close(resource)

        def check(self, resource: Any) -> bool:
            gate_of("check")
            return True

        def reset(self, resource: Any) -> None:
            gate_of("reset")
            resource.history.append("reset")

    def gate_of(name: str) -> None:
        if name == hook:
            gate.pass_through()

    lifecycle = Gated()
    lifecycle.may_hang = may_hang
    pool = Pool("pool", 1, lifecycle=lifecycle, timeout=5.0)
    if hook != "open":
        with pool.take():
            pass
    gate.shut = True

    def use() -> None:
        with pool.take() as slot:
            if hook == "close":
                slot.close()

    with pytest.raises(KeyboardInterrupt):
        use()
    assert not gate.shut, "the hook was not called"
    gate._never.set()
    wait_until(lambda: pool._queue.qsize() == 1)
    assert_whole(pool)
    with pool.take() as slot:
        history = list(slot.resource.history)
    assert hook != "reset" or not history, "what was half reset is not lent"


@needs_signals
def test_ctrl_c_while_waiting_for_others_to_open_loses_no_slot() -> None:
    go = threading.Event()

    def open_slowly() -> object:
        go.wait(PATIENCE)
        return object()

    pool = Pool("pool", 2, open=open_slowly, max_opening=1)
    thread = threading.Thread(target=lambda: pool.put(pool.take()))
    thread.start()
    wait_until(lambda: pool.stats().opening == 1)
    interrupt_soon(lambda: len(pool._standby) == 1)
    with pytest.raises(KeyboardInterrupt):
        pool.take()
    assert not pool._standby
    go.set()
    thread.join()
    assert_whole(pool)


@needs_signals
def test_ctrl_c_while_closing_the_pool_leaves_a_pool_that_can_be_closed_again() -> None:
    pool = Pool("pool", 1, open=object)
    slot = pool.take()
    interrupt_soon(lambda: pool._closing)
    with pytest.raises(KeyboardInterrupt):
        pool.close(60.0)
    assert not pool._closing
    pool.put(slot)
    assert pool.close() == []


# --- signal handlers and finalizers


@contextmanager
def ticking(handler: Callable[[], None]) -> Iterator[None]:
    """Run `handler` as a signal handler every 0.2 ms of processor time, in the middle of anything but itself."""
    if not hasattr(signal, "setitimer"):
        pytest.skip("this system has no interval timers")
    running = False

    def once(number: int, frame: object) -> None:
        nonlocal running
        if not running:
            running = True
            try:
                handler()
            finally:
                running = False

    before = signal.signal(signal.SIGVTALRM, once)
    signal.setitimer(signal.ITIMER_VIRTUAL, 0.0002, 0.0002)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0.0)
        signal.signal(signal.SIGVTALRM, before)


@pytest.mark.parametrize("options", [{}, {"reset": lambda resource: None, "nested": "new", "max_usage_count": 3}])
def test_a_signal_handler_that_takes_and_puts_within_take_and_put_deadlocks_nobody(
    options: dict[str, Any],
) -> None:
    pool = Pool("pool", 3, open=object, **options)
    others = [pool.take()]
    count = 0

    def handler() -> None:
        nonlocal count
        count += 1
        pool.put(others.pop())
        others.append(pool.take(0))

    deadline = time.monotonic() + PATIENCE
    with ticking(handler):
        while count < 60:
            with pool.take(0):
                pass
            assert time.monotonic() < deadline
    pool.put(others.pop())
    assert_whole(pool)


@needs_signals
def test_a_signal_handler_that_puts_serves_the_very_thread_that_it_interrupts_in_its_wait() -> None:
    pool = Pool("pool", 1, open=object)
    slot = pool.take()
    before = signal.signal(signal.SIGUSR1, lambda number, frame: pool.put(slot))
    try:
        send_soon(signal.SIGUSR1, lambda: pool.stats().waiting == 1)
        assert pool.take(PATIENCE) is slot
    finally:
        signal.signal(signal.SIGUSR1, before)
    pool.put(slot)
    assert_whole(pool)


def test_a_finalizer_that_puts_within_take_and_put_deadlocks_nobody() -> None:
    """`threading.Condition` and Python's queues deadlock when a finalizer of the same thread calls put within get."""
    pool = Pool("pool", 4, open=object, reset=lambda resource: None)
    finalized = 0

    class Holder:
        def __init__(self) -> None:
            self.slot = pool.take(0)
            self.cycle = self

        def __del__(self) -> None:
            nonlocal finalized
            finalized += 1
            pool.put(self.slot)

    before = gc.get_threshold()
    gc.set_threshold(7)
    try:
        deadline = time.monotonic() + PATIENCE
        while finalized < 500:
            try:
                Holder()
                with pool.take(0):
                    pass
            except TimeoutError:
                gc.collect()
            assert time.monotonic() < deadline
    finally:
        gc.set_threshold(*before)
    gc.collect()
    assert_whole(pool)


def test_leases_dropped_in_cycles_come_back_whenever_the_collector_runs() -> None:
    pool: Pool[list[Any]] = Pool("pool", 4, open=list)
    before = gc.get_threshold()
    gc.set_threshold(5)
    try:
        for number in range(100):
            try:
                cycle: list[Any] = [pool.lease(0)]
            except TimeoutError:
                gc.collect()  # all four are in cycles that the collector has not met yet
            else:
                cycle.append(cycle)
                cycle[0].append(number)
    finally:
        gc.set_threshold(*before)
    del cycle
    gc.collect()
    pool.recycle()
    assert pool.stats().taken == 0
    assert_whole(pool)


# --- errors of the interpreter itself


def test_a_recursion_that_runs_out_anywhere_in_take_or_put_loses_no_slot() -> None:
    source = Source()
    pool = Pool("pool", 2, open=source.open, close=source.close, reset=source.reset, max_usage_count=2)
    failures = 0

    def at_depth(depth: int) -> None:
        if depth:
            at_depth(depth - 1)
        else:
            with pool.take(0):
                pass

    limit = sys.getrecursionlimit()
    here = len(_frames())
    try:
        sys.setrecursionlimit(here + 120)
        for depth in range(60, 118):
            try:
                at_depth(depth)
            except RecursionError:
                failures += 1
    finally:
        sys.setrecursionlimit(limit)
    assert failures
    gc.collect()
    pool.recycle()
    pool.recycle()
    assert_whole(pool)
    with pool.take(0), pool.take(0):
        pass


def _frames() -> list[Any]:
    frame: Any = sys._getframe()
    frames = []
    while frame is not None:
        frames.append(frame)
        frame = frame.f_back
    return frames


def python(script: str, *, seconds: float = 20.0) -> subprocess.CompletedProcess[str]:
    """Run `script` in an interpreter of its own, which must end in time."""
    return subprocess.run(
        [sys.executable, "-X", "dev", "-c", textwrap.dedent(script)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )


def test_an_allocation_that_fails_anywhere_in_take_or_put_loses_no_slot() -> None:
    pytest.importorskip("_testcapi", reason="CPython's own test module makes allocations fail")
    done = python("""
        import logging, _testcapi
        from queuepool import Pool

        logging.disable(logging.CRITICAL)
        pool = Pool("pool", 2, open=object, reset=lambda resource: None, max_usage_count=2)

        def cycle():
            slot = pool.take(0)
            pool.put(slot)

        cycle()
        failures = 0
        for start in range(1, 250):
            _testcapi.set_nomemory(start, start + 1)
            try:
                cycle()
            except MemoryError:
                failures += 1
            except Exception:
                pass
            finally:
                _testcapi.remove_mem_hooks()
            pool.recycle()  # finds what was lost where nothing could guard it
        with pool.take(0), pool.take(0):
            stats = pool.stats()
            print(failures > 20, stats.slots, stats.taken, stats.idle)
    """)
    assert done.stdout.split() == ["True", "2", "2", "0"], done.stderr


@pytest.mark.parametrize("closed", [False, True])
def test_the_interpreter_ends_at_once_and_in_silence_whatever_the_pool_is_at(closed: bool) -> None:
    done = python(f"""
        import threading, time
        from queuepool import Lifecycle, Pool

        class Slow(Lifecycle):
            may_hang = True

            def open(self):
                if opened:
                    threading.Event().wait()  # hangs for ever
                opened.append(1)
                return object()

        opened = []
        pool = Pool("pool", 2, lifecycle=Slow(), timeout=60.0)
        pool.start_recycler(0.001)
        held, lease = pool.take(), None
        takers = [threading.Thread(target=pool.take, daemon=True) for _ in range(4)]
        for taker in takers:
            taker.start()
        while pool.stats().waiting < 3:
            time.sleep(0.001)
        other = Pool("other", 1, open=list)
        lease = other.lease()
        lease.append(lease)  # a cycle that only the end breaks
        if {closed}:
            pool.close(0)
            other.close(0)
        print("ends")
    """)
    if closed:  # the takers' threads are told that the pool was closed, and say so
        assert done.stdout == "ends\n"
        assert done.returncode == 0
    else:
        assert (done.stdout, done.stderr, done.returncode) == ("ends\n", "", 0)


# --- many threads at once


def test_no_resource_is_ever_lent_to_two_and_everyone_gets_a_turn() -> None:
    source = Source()
    pool = Pool("pool", 3, open=source.open, close=source.close, reset=source.reset, max_usage_count=50, max_opening=3)
    users: dict[Any, int] = {}
    turns = [0] * 8
    overlaps = []
    stop = threading.Event()

    def work(number: int) -> None:
        while not stop.is_set():
            with pool.get() as resource:
                if users.setdefault(resource, number) != number:
                    overlaps.append((resource, number))
                turns[number] += 1
                del users[resource]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    wait_until(lambda: min(turns) >= 100)
    stop.set()
    for thread in threads:
        thread.join()
    assert overlaps == []
    assert_whole(pool)
    assert pool.stats().takes == sum(turns)


def test_hand_over_is_strict_so_nobody_starves() -> None:
    """Eight threads on one resource: in five of the peers one thread got 1,350 turns and another 1."""
    pool = Pool("pool", 1, open=object)
    order: queue.SimpleQueue[int] = queue.SimpleQueue()
    stop = threading.Event()

    def work(number: int) -> None:
        while not stop.is_set():
            with pool.take():
                order.put(number)
                wait_until(lambda: stop.is_set() or pool.stats().waiting == 7)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    wait_until(lambda: order.qsize() >= 80)
    stop.set()
    for thread in threads:
        thread.join()
    turns = [order.get() for _ in range(80)]
    counts = [turns[-64:].count(number) for number in range(8)]
    assert counts == [8] * 8

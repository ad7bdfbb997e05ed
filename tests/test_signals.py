"""Ctrl-C, signal handlers and finalizers: what may happen to a program of threads at any moment."""

from __future__ import annotations

import gc
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from queuepool import Lifecycle, Pool

from .support import PATIENCE, Source, assert_whole, wait_until

needs_signals = pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="signals of POSIX")


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
    assert hook != "check" or may_hang or len(source.made) == 2, "nor what was half checked"


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

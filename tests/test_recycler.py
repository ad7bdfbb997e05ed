from __future__ import annotations

import contextlib
import gc
import logging
import threading
import weakref
from types import SimpleNamespace
from typing import Any

import pytest

from queuepool import Observer, Pool, recycler

from .support import PATIENCE, Clock, Source, wait_until

SOON = 0.001


def recyclers(name: str) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == f"{name} recycler"]


def test_the_recycler_sweeps_at_intervals_in_a_daemon_thread() -> None:
    clock, source = Clock(), Source()
    pool = Pool("swept", 2, open=source.open, close=source.close, clock=clock, max_idle_time=10.0)
    with pool.get():
        pass
    pool.start_recycler(SOON)
    (thread,) = recyclers("swept")
    assert thread.daemon
    clock.advance(11.0)
    wait_until(lambda: not source.live)
    pool.stop_recycler()
    assert not thread.is_alive()


def test_starting_twice_is_once_and_stopping_twice_too() -> None:
    pool = Pool("twice", open=object)
    pool.stop_recycler()
    for _ in range(3):
        pool.start_recycler(60.0)
    assert len(recyclers("twice")) == 1
    pool.stop_recycler()
    pool.stop_recycler()
    assert recyclers("twice") == []
    pool.start_recycler(60.0)
    assert len(recyclers("twice")) == 1
    pool.close()
    wait_until(lambda: recyclers("twice") == [])


@pytest.mark.parametrize(
    ("interval", "error"), [(0, ValueError), (-1, ValueError), ("60", TypeError), (float("nan"), ValueError)]
)
def test_a_nonsensical_interval_is_refused(interval: Any, error: type[Exception]) -> None:
    pool = Pool("refusing", open=object)
    with pytest.raises(error, match="interval must be"):
        pool.start_recycler(interval)
    assert recyclers("refusing") == []
    pool.start_recycler(60.0)
    pool.stop_recycler()


def test_an_error_in_a_sweep_is_logged_and_counted_and_the_thread_lives_on(caplog: pytest.LogCaptureFixture) -> None:
    """In queuepool 1.3.2 a close() that raised ended the thread, and starting it again did nothing."""

    class FailingClock(Clock):
        failing = False

        def __call__(self) -> float:
            if self.failing:
                raise RuntimeError("the sweep's own")
            return super().__call__()

    class Listener(Observer):
        def failed(self, pool: Any, step: str, error: BaseException) -> None:
            heard.add((step, str(error)))

    heard: set[tuple[str, str]] = set()
    clock, source = FailingClock(), Source()
    pool = Pool(
        "failing", 1, open=source.open, close=source.close, clock=clock, max_idle_time=10.0, observer=Listener()
    )
    with pool.get():
        pass
    clock.failing = True
    with caplog.at_level(logging.ERROR, "queuepool"):
        pool.start_recycler(SOON)
        wait_until(lambda: pool._counters.sweep_errors >= 2)
    assert "failing: a sweep failed; the recycler goes on" in caplog.text
    assert heard == {("sweep", "the sweep's own")}
    clock.failing = False
    clock.advance(11.0)
    wait_until(lambda: not source.live)
    assert pool.stats().sweep_errors >= 2
    pool.close()


def test_a_pool_with_a_recycler_goes_away_when_nobody_refers_to_it_and_so_does_the_thread() -> None:
    """In queuepool 1.3.2 the thread kept the pool for ever."""
    pool = Pool("dropped", open=object)
    pool.start_recycler(60.0)
    (thread,) = recyclers("dropped")
    ref = weakref.ref(pool)
    del pool
    gc.collect()
    assert ref() is None
    thread.join(5.0)
    assert not thread.is_alive()


def test_a_sweep_may_stop_the_recycler_that_runs_it() -> None:
    stopped = threading.Event()

    class Stopping(Clock):
        def __call__(self) -> float:
            if threading.current_thread().name == "stopping recycler":
                pool.stop_recycler()
                stopped.set()
            return super().__call__()

    pool = Pool("stopping", 1, open=object, clock=Stopping())
    pool.start_recycler(SOON)
    assert stopped.wait(5.0)
    wait_until(lambda: recyclers("stopping") == [])


def test_a_pool_that_goes_away_just_as_its_recycler_wakes_ends_it() -> None:
    class WokenLate:
        """Does not say that it was released: the thread was woken by its interval at that very moment."""

        def acquire(self, timeout: float) -> bool:
            return False

    pool = Pool("gone", open=object)
    ref = weakref.ref(pool)
    del pool
    gc.collect()
    recycler._sweep_for_ever(ref, WokenLate(), 60.0)  # type: ignore[arg-type]
    assert ref() is None


def test_a_pool_may_be_collected_in_the_recyclers_own_thread_as_that_begins_to_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`Event.set` would wait for the lock that `Event.wait` has in the same thread."""
    pools: list[Pool[Any]] = []
    ready = threading.Event()
    real = threading.Lock

    class Struck:
        """A lock, where a collection strikes whoever waits for it."""

        def __init__(self) -> None:
            self.lock = real()
            self.release = self.lock.release

        def acquire(self, timeout: float = -1) -> bool:
            if threading.current_thread().name == "collected recycler":
                ready.wait(PATIENCE)
                pools.clear()
                gc.collect()
            return self.lock.acquire(timeout=timeout)

    names = {name: getattr(threading, name) for name in ("Thread", "TIMEOUT_MAX", "current_thread")}
    monkeypatch.setattr(recycler, "threading", SimpleNamespace(Lock=Struck, **names))
    pools.append(Pool("collected", open=object))
    pools[0].start_recycler(60.0)
    (thread,) = recyclers("collected")
    ready.set()
    thread.join(PATIENCE)
    assert not thread.is_alive()


def test_threads_that_start_the_recycler_at_once_start_one(monkeypatch: pytest.MonkeyPatch) -> None:
    starting = threading.Barrier(4)

    class Meeting(threading.Thread):
        """Lets the others go on at the worst moment."""

        def start(self) -> None:
            with contextlib.suppress(threading.BrokenBarrierError):
                starting.wait(0.1)
            super().start()

    pool = Pool("raced", open=object)
    starters = [threading.Thread(target=pool.start_recycler, args=(60.0,)) for _ in range(4)]
    monkeypatch.setattr(threading, "Thread", Meeting)
    for starter in starters:
        starter.start()
    for starter in starters:
        starter.join()
    assert len(recyclers("raced")) == 1
    pool.stop_recycler()
    assert recyclers("raced") == []


def test_an_interval_longer_than_a_thread_can_sleep_is_one_like_any_other() -> None:
    pool = Pool("patient", open=object)
    pool.start_recycler(1e300)
    (thread,) = recyclers("patient")
    pool.stop_recycler()
    assert not thread.is_alive()


def test_the_1x_name_starts_the_recycler_too() -> None:
    pool = Pool("old", open=object)
    pool.startRecycler(interval=60)
    assert len(recyclers("old")) == 1
    pool.close()
    wait_until(lambda: recyclers("old") == [])

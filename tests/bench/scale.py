"""Thread scenarios on a stub where something grows: the slots of a pool, the threads that wait for one."""

from __future__ import annotations

import gc
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Any

from .bursts import warm_up
from .driver import Driver, Spec
from .measure import Case, Figures, Metric, Scenario, Unsuitable, best_time
from .peers import POOLS, make
from .stub import Opener
from .threads import JOIN_TIMEOUT, MICRO, spins

STACK = 256 * 1024
SQUARE = {"cuttlepool": 1_000}
"""Peers that look through all their slots at every take or put, and the most slots that they are tried with."""


@contextmanager
def traced() -> Iterator[Callable[[], int]]:
    """Give a function that says how many bytes Python has allocated since the beginning, garbage collected."""
    gc.collect()
    tracemalloc.start()
    try:
        at_first = tracemalloc.get_traced_memory()[0]

        def allocated() -> int:
            gc.collect()
            return tracemalloc.get_traced_memory()[0] - at_first

        yield allocated
    finally:
        tracemalloc.stop()


def measure_slots(peer: str, case: Case) -> Figures:
    """Cycle cost and memory of a pool with so many open slots."""
    slots = case["slots"]
    if slots > SQUARE.get(peer, slots):
        raise Unsuitable(f"looks through all its slots at every put: not tried with more than {SQUARE[peer]}")
    opener = Opener()
    make(peer, Spec(1, opener)).close()  # what this imports is none of the measured pool's memory
    with traced() as allocated:
        stubs = [opener() for _ in range(slots)]
        size_of_stubs = allocated()
        del stubs
        driver = make(peer, Spec(slots, opener))
        warm_up(driver, slots)
        size = allocated() - size_of_stubs
    try:
        spin = next(iter(spins(driver).values()))
        return {"cycle": best_time(spin, 20), "per slot": size / slots}
    finally:
        driver.close()


class Line:
    """So many threads that wait, each for one take, put and end."""

    def __init__(self, take: Callable[[], Any], put: Callable[[Any], object], count: int) -> None:
        self.take, self.put, self.count = take, put, count
        self.done: list[None] = []
        self.all_done = threading.Event()
        self.failures: list[BaseException] = []
        before = threading.stack_size(STACK)
        try:
            for _ in range(count):
                threading.Thread(target=self._wait, daemon=True).start()
        finally:
            threading.stack_size(before)
        # There is no asking a pool of another make who waits: give them time to get there.
        time.sleep(0.05 + 0.0001 * count)

    def _wait(self) -> None:
        try:
            self.put(self.take())
        except BaseException as error:
            self.failures.append(error)
        self.done.append(None)
        if len(self.done) >= self.count:
            self.all_done.set()

    def join(self) -> None:
        if not self.all_done.wait(JOIN_TIMEOUT):
            raise TimeoutError(f"{self.count - len(self.done)} of {self.count} waiters were never served")
        if self.failures:
            raise self.failures[0]


def measure_waiters(peer: str, case: Case) -> Figures:
    """Memory of a waiter, over that of a thread at a bare lock, and the time of a hand-over in a line so long."""
    count = case["waiters"]
    size = _size_of_line(make(peer, Spec(1, Opener())), count) - _size_of_line(_bare_lock(), count)
    driver = make(peer, Spec(1, Opener()))
    try:
        taken = driver.take()
        line = Line(driver.take, driver.put, count)
        begun_at = perf_counter()
        driver.put(taken)
        line.join()
        return {"hand-over": (perf_counter() - begun_at) / count, "per waiter": size / count}
    finally:
        driver.close()


def _size_of_line(driver: Driver, count: int) -> int:
    try:
        taken = driver.take()
        with traced() as allocated:
            line = Line(driver.take, driver.put, count)
            size = allocated()
            driver.put(taken)
            line.join()
        return size
    finally:
        driver.close()


def _bare_lock() -> Driver:
    lock = threading.Lock()
    return Driver(lock.acquire, lambda _: lock.release())


SLOTS = Scenario(
    "scale-slots",
    "A pool of many open slots",
    [Metric("cycle", "µs", MICRO), Metric("per slot", "bytes")],
    [Case(f"{slots:,} slots", {"slots": slots}) for slots in (10, 100, 1_000, 10_000)],
    [Case(f"{slots:,} slots", {"slots": slots}) for slots in (10, 100)],
    POOLS,
    measure_slots,
    limit="lifoqueue-pool",
    drawn_too=("per slot",),
    note="memory of the whole pool without its resources, divided by its slots: small pools show the fixed part.",
)
WAITERS = Scenario(
    "scale-waiters",
    "A long line of waiting threads",
    [Metric("hand-over", "µs", MICRO), Metric("per waiter", "bytes")],
    [Case(f"{waiters:,} waiters", {"waiters": waiters}) for waiters in (10, 100, 1_000, 5_000)],
    [Case(f"{waiters:,} waiters", {"waiters": waiters}) for waiters in (10, 100)],
    tuple(peer for peer in POOLS if peer != "psycopg2.pool"),
    measure_waiters,
    limit="lifoqueue-pool",
    drawn_too=("per waiter",),
    note="from the first put until every thread has had its turn, divided by their number; ending threads included.",
)
SCENARIOS = (SLOTS, WAITERS)

"""Thread scenarios on a stub: cycle, contention, sweep."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import repeat
from statistics import median
from time import perf_counter
from typing import Any

from .driver import Driver, Spec
from .goals import Goal, at_least, at_most, level
from .measure import (
    Case,
    Figures,
    Metric,
    Recorder,
    Scenario,
    best_time,
    waiting_figures,
)
from .ours import OPTIONS
from .peers import ADAPTERS, POOLS, make
from .stub import Opener

MICRO, MILLI = 1e6, 1e3
JOIN_TIMEOUT = 60.0


def spin_with(context: Callable[[], Any]) -> Callable[[int], None]:
    def spin(count: int) -> None:
        for _ in repeat(None, count):
            with context():
                pass

    return spin


def spin_pair(take: Callable[[], Any], put: Callable[[Any], object]) -> Callable[[int], None]:
    def spin(count: int) -> None:
        for _ in repeat(None, count):
            put(take())

    return spin


def spins(driver: Driver) -> dict[str, Callable[[int], None]]:
    """Each handle style of a peer; a peer without a context manager is used as take and put."""
    styles = {style: spin_with(context) for style, context in driver.styles.items()}
    pairs = {style: spin_pair(*pair) for style, pair in driver.pairs.items()}
    return styles | pairs or {"get, put": spin_pair(driver.take, driver.put)}


def measure_cycle(peer: str, case: Case) -> Figures:
    """Nanoseconds matter here: the loop holds nothing but the peer's own calls."""
    driver = make(peer, Spec(4, Opener(), options=case["options"]))
    try:
        styles = spins(driver)
        wanted = case["style"] or next(iter(styles))
        if wanted not in styles:
            return {}
        return {"cycle": best_time(styles[wanted], case["runs"])}
    finally:
        driver.close()


def in_threads(count: int, work: Callable[[int], None]) -> None:
    """Run ``work(number)`` in so many threads; whoever does not come back is an error of the peer."""
    failures: list[BaseException] = []

    def guarded(number: int) -> None:
        try:
            work(number)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(number,), daemon=True) for number in range(count)]
    for thread in threads:
        thread.start()
    give_up_at = time.monotonic() + JOIN_TIMEOUT
    for thread in threads:
        thread.join(max(0.0, give_up_at - time.monotonic()))
    stuck = sum(thread.is_alive() for thread in threads)
    if stuck:
        raise TimeoutError(f"{stuck} of {count} threads hang")
    if failures:
        raise failures[0]


def contend(
    driver: Driver, threads: int, duration: float, work: Callable[[Any], object] | None, room: int
) -> dict[str, float]:
    """So many threads take, work and put until the time is over. A wait that outlasts the time counts in full."""
    recorders = [Recorder(room) for _ in range(threads)]
    started_at: list[float] = []
    barrier = threading.Barrier(threads, action=lambda: started_at.append(perf_counter()))
    errors: list[Exception] = []
    take, put = driver.take, driver.put

    def loop(number: int) -> None:
        recorder = recorders[number]
        barrier.wait(JOIN_TIMEOUT)
        end_at = started_at[0] + duration
        asked_at = perf_counter()
        while asked_at < end_at:
            try:
                taken = take()
            except Exception as error:  # a pool that gives up on a waiter: that is counted, not hidden
                recorder.errors += 1
                errors.append(error)
                recorder.add(perf_counter() - asked_at)
            else:
                taken_at = perf_counter()
                recorder.add(taken_at - asked_at)
                if taken_at < end_at:
                    recorder.served += 1
                if work is not None:
                    work(taken)
                put(taken)
            asked_at = perf_counter()

    gc.collect()
    in_threads(threads, loop)
    if errors and not any(recorder.served for recorder in recorders):
        raise errors[0]
    return waiting_figures(recorders, duration)


def measure_contention(peer: str, case: Case) -> Figures:
    hold, duration = case["hold"], case["duration"]
    driver = make(peer, Spec(case["slots"], Opener()))
    try:
        room = int(2 * duration / hold) + 100 if hold else 200_000
        return contend(driver, case["threads"], duration, (lambda _: time.sleep(hold)) if hold else None, room)
    finally:
        driver.close()


USUAL, EVERYTHING = "usual form", "queuepool+everything"
"""The case in which each peer is used as its users do; queuepool with all its options on."""


def _cycle_cases(runs: int) -> list[Case]:
    common = {"runs": runs}
    styles = ("take, put", "with get()", "acquire, release", "with lease()")
    return [
        Case(USUAL, {"style": "", "options": {}} | common),
        *(Case(style, {"style": style, "options": {}} | common) for style in styles),
    ]


def contention_case(threads: int, slots: int, hold: float, duration: float) -> Case:
    label = f"{threads} threads, {slots} slots, {f'{hold * MILLI:g} ms' if hold else 'no'} hold"
    return Case(label, {"threads": threads, "slots": slots, "hold": hold, "duration": duration})


WAITS = tuple(Metric(name, "ms", MILLI) for name in ("max", "p50", "p99", "p99.9"))
ROWS = ((4, 4, 0.0), (16, 4, 0.0), (16, 4, 0.001), (64, 8, 0.001), (200, 20, 0.005))
CONTENTION_CASES = [contention_case(*row, 1.5) for row in ROWS]
TURNS = {case.label: row for case, row in zip(CONTENTION_CASES, ROWS)}
OTHERS = tuple(peer for peer in POOLS if peer != "queuepool")
WAITING_PEERS = tuple(peer for peer in OTHERS if peer not in ("psycopg2.pool", "lifoqueue-pool"))


def longest_turn(row: tuple[int, int, float]) -> float:
    """Three times the wait that a perfect queue gives, but never under 25 ms, which is what threads may lose to others."""
    threads, slots, hold = row
    return max(0.025, 3 * threads / slots * hold)


CYCLE = Scenario(
    "cycle",
    "One thread takes and puts a stub",
    [Metric("cycle", "µs", MICRO)],
    _cycle_cases(40),
    _cycle_cases(3),
    (*ADAPTERS, *(f"queuepool+{option}" for option in OPTIONS if option != "codel")),
    measure_cycle,
    limit="bare-queue",
    note="psycopg2.pool never waits: it raises when all are taken. The bare ones open, count and check nothing.",
    goals=(
        Goal("at most 0.6 of a bare LifoQueue", at_most(0.6, "cycle", EVERYTHING, "bare-queue"), [USUAL]),
        Goal("at most 0.3 of queuepool 1.3.2", at_most(0.3, "cycle", EVERYTHING, "queuepool-1.3.2"), [USUAL]),
        Goal("at most 0.5 of the fastest peer", at_most(0.5, "cycle", EVERYTHING, *WAITING_PEERS), [USUAL]),
    ),
    rounds=11,
)
CONTENTION = Scenario(
    "contention",
    "More threads than slots",
    [Metric("throughput", "/s", more_is_better=True), *WAITS, Metric("jain", more_is_better=True), Metric("errors")],
    CONTENTION_CASES,
    [contention_case(16, 4, 0.001, 0.3)],
    (*POOLS, "bare-handover"),
    measure_contention,
    limit="lifoqueue-pool",
    drawn_too=("max",),
    note="psycopg2.pool cannot wait: a Semaphore stands before it. Throughput counts what was served in time. "
    "bare-handover is the least that keeps waiting threads in order.",
    goals=(
        Goal("throughput at least the best other's", at_least(1.0, "throughput", "queuepool", *OTHERS)),
        Goal(
            "longest wait at most three ideal turns, or 25 ms",
            level(lambda case: longest_turn(TURNS[case]), "max", "queuepool", pick=min, unit=" ms", scale=MILLI),
        ),
        Goal("Jain's index at least 0.98", level(lambda _: 0.98, "jain", "queuepool", pick=median, upper=False)),
    ),
)
SCENARIOS = (CYCLE, CONTENTION)
MUST = (
    replace(
        CYCLE,
        cases=CYCLE.cases[:1],
        quick_cases=CYCLE.quick_cases[:1],
        peers=(EVERYTHING, "queuepool-1.3.2", "bare-queue"),
        goals=CYCLE.goals[:2],
    ),
    replace(
        CONTENTION,
        cases=[contention_case(16, 4, 0.001, 3.0)],
        peers=("queuepool", "lifoqueue-pool", "bare-handover"),
        rounds=5,
    ),
)
"""The least that the pool owes, in a few minutes: the cycle, one row of contention, the sweep."""

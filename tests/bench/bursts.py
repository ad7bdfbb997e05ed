"""Thread scenarios on a stub where demand comes in bursts: spike, churn, overload."""

from __future__ import annotations

import random
import threading
import time
from statistics import median
from time import perf_counter
from typing import Any

from .driver import Driver, Spec
from .goals import Goal, level
from .measure import Case, Figures, Metric, Scenario, quantile
from .peers import POOLS, make
from .stub import Opener
from .threads import JOIN_TIMEOUT, MILLI, in_threads

USEFUL_WITHIN = 0.25
"""Seconds after which a caller has lost interest, in the overload scenario."""


def warm_up(driver: Driver, count: int) -> None:
    taken = [driver.take() for _ in range(count)]
    for one in taken:
        driver.put(one)


def measure_spike(peer: str, case: Case) -> Figures:
    """So many threads want a resource at the same instant, from a pool that could open one for each."""
    threads, work = case["threads"], case["work"]
    opener = Opener()
    if not case["warm"]:
        opener.before_open = lambda: time.sleep(case["open"])
    driver = make(peer, Spec(threads, opener, minimum=case["warm"]))
    try:
        warm_up(driver, case["warm"])
        opened_before = opener.opened
        opener.before_open = lambda: time.sleep(case["open"])
        started_at: list[float] = []
        barrier = threading.Barrier(threads, action=lambda: started_at.append(perf_counter()))
        waits = [0.0] * threads

        def request(number: int) -> None:
            barrier.wait(JOIN_TIMEOUT)
            taken = driver.take()
            waits[number] = perf_counter() - started_at[0]
            time.sleep(work)
            driver.put(taken)

        in_threads(threads, request)
        lasted = perf_counter() - started_at[0]
        opened = float(opener.opened - opened_before)
        return {"served": lasted, "÷ (open + work)": lasted / (case["open"] + work), "opened": opened} | {
            "longest wait": max(waits)
        }
    finally:
        driver.close()


def measure_churn(peer: str, case: Case) -> Figures:
    """Bursts of ``burst`` on ``capacity`` plus overflow: how much is opened and thrown away."""
    opener = Opener()
    capacity, burst, bursts = case["capacity"], case["burst"], case["bursts"]
    driver = make(peer, Spec(capacity, opener, overflow=burst - capacity, minimum=capacity))
    try:
        for _ in range(bursts):
            warm_up(driver, burst)
            # Long enough for background threads to do their work.
            time.sleep(case["pause"])
        return {"opens per burst": opener.opened / bursts, "open at the end": float(opener.open_now)}
    finally:
        driver.close()


class Overload:
    """Requests that arrive whether or not earlier ones have been served."""

    def __init__(self, driver: Driver, work: float) -> None:
        self.driver = driver
        self.work = work
        # Appends are atomic; each request is a thread of its own.
        self.served: list[float] = []
        self.refused: list[float] = []

    def request(self, arrived_at: float) -> None:
        try:
            taken = self.driver.take()
        except Exception:
            self.refused.append(perf_counter() - arrived_at)
            return
        time.sleep(self.work)
        self.driver.put(taken)
        self.served.append(perf_counter() - arrived_at)

    def run(self, rate: float, duration: float) -> None:
        draw = random.Random(1)
        threads = []
        begun_at = perf_counter()
        due_at = begun_at
        while due_at < begun_at + duration:
            time.sleep(max(0.0, due_at - perf_counter()))
            thread = threading.Thread(target=self.request, args=(perf_counter(),), daemon=True)
            thread.start()
            threads.append(thread)
            due_at += draw.expovariate(rate)
        for thread in threads:
            thread.join(JOIN_TIMEOUT)


def measure_overload(peer: str, case: Case) -> Figures:
    slots, work, duration = case["slots"], case["work"], case["duration"]
    driver = make(peer, Spec(slots, Opener(), timeout=case["timeout"]))
    try:
        warm_up(driver, slots)
        overload = Overload(driver, work)
        overload.run(case["load"] * slots / work, duration)
    finally:
        driver.close()
    served, refused = sorted(overload.served), sorted(overload.refused)
    figures: dict[str, Any] = {
        "goodput": sum(latency <= USEFUL_WITHIN for latency in served) / duration,
        "refused": len(refused) / max(1, len(served) + len(refused)),
    }
    if served:
        figures |= {"served p50": quantile(served, 0.5), "served p99": quantile(served, 0.99)}
    if refused:
        figures["refused after p50"] = quantile(refused, 0.5)
    return figures


def _spike(label: str, threads: int, open_time: float, work: float, warm: int) -> Case:
    return Case(label, {"threads": threads, "open": open_time, "work": work, "warm": warm})


def _overload(load: float, duration: float) -> Case:
    values = {"slots": 4, "work": 0.01, "load": load, "duration": duration, "timeout": 1.0}
    return Case(f"{load:g} × capacity, 4 slots, 10 ms work, 1 s timeout", values)


CHURN_CASE = Case("10 bursts of 5, capacity 2 + overflow 3", {"capacity": 2, "burst": 5, "bursts": 10, "pause": 0.01})

SHORT = (
    _spike("2 ms work, 5 open before", 50, 0.15, 0.002, 5),
    _spike("2 ms work, none open before", 50, 0.15, 0.002, 0),
)
LONG = _spike("1 s work, none open before", 50, 0.15, 1.0, 0)
FEW = 10
"""As many resources do for the 50 of a spike whose work is short."""

SPIKE = Scenario(
    "spike",
    "50 threads at once, a resource takes 150 ms to open",
    [Metric("served", "s"), Metric("opened"), Metric("÷ (open + work)"), Metric("longest wait", "s")],
    [*SHORT, LONG],
    [_spike("2 ms work, none open before", 10, 0.02, 0.002, 0)],
    POOLS,
    measure_spike,
    limit="lifoqueue-pool",
    drawn_too=("opened",),
    note="time until the last of them is done; every pool may open 50. The spike after HikariCP's. Ideal work is that of "
    f"{FEW} resources; a cold start may watch the first opens for 20 ms before it opens the rest.",
    goals=(
        Goal(
            f"at most {FEW} of 50 opened",
            level(lambda _: FEW, "opened", "queuepool", pick=median),
            [case.label for case in SHORT],
        ),
        Goal(
            "all served within 1.5 × (open + ideal work)",
            level(lambda _: 1.5 * (0.15 + 0.002 * 50 / FEW), "served", "queuepool", pick=median, unit=" s"),
            [case.label for case in SHORT],
        ),
        Goal(
            "a cold start within 2 × open + work, give or take 20 ms",
            level(lambda _: 2 * 0.15 + 1.0 + 0.02, "served", "queuepool", pick=median, unit=" s"),
            [LONG.label],
        ),
    ),
)
CHURN = Scenario(
    "churn",
    "Bursts beyond capacity",
    [Metric("opens per burst"), Metric("open at the end")],
    [CHURN_CASE],
    [CHURN_CASE],
    tuple(peer for peer in POOLS if peer != "lifoqueue-pool"),
    measure_churn,
)
OVERLOAD = Scenario(
    "overload",
    "More arrives than can be served",
    [
        Metric("goodput", "/s", more_is_better=True),
        Metric("served p50", "ms", MILLI),
        Metric("served p99", "ms", MILLI),
        Metric("refused", "%", 100),
        Metric("refused after p50", "ms", MILLI),
    ],
    [_overload(2.0, 3.0)],
    [_overload(2.0, 0.5)],
    (
        "queuepool",
        "queuepool+codel",
        "psycopg_pool",
        "sqlalchemy-fifo",
        "psycopg2.pool",
        "cuttlepool",
        "lifoqueue-pool",
    ),
    measure_overload,
    limit="lifoqueue-pool",
    note="goodput counts what was done within 250 ms of its arrival; the capacity is 400 /s.",
)
SCENARIOS = (SPIKE, CHURN, OVERLOAD)

"""The asyncio twins of cycle, contention and scale: each measurement runs in a loop of its own."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable, Coroutine
from itertools import repeat
from statistics import median
from time import perf_counter
from typing import Any

from .aio_peers import ADAPTERS, AsyncDriver
from .driver import Spec
from .goals import Goal, at_least, at_most, level
from .measure import (
    Case,
    Figures,
    Metric,
    Recorder,
    Scenario,
    no_collections,
    turns_of_a_run,
    waiting_figures,
)
from .scale import traced
from .stub import Opener
from .threads import MICRO, MILLI, USUAL, WAITS, contention_case, longest_turn

PATIENCE = 60.0
"""Seconds after which tasks that have not come back are an error of the peer."""
Spin = Callable[[int], Coroutine[Any, Any, None]]


def spin_with(context: Callable[[], Any]) -> Spin:
    async def spin(count: int) -> None:
        for _ in repeat(None, count):
            async with context():
                pass

    return spin


def spin_pair(take: Callable[[], Awaitable[Any]], put: Callable[[Any], Awaitable[object]]) -> Spin:
    async def spin(count: int) -> None:
        for _ in repeat(None, count):
            await put(await take())

    return spin


def spins(driver: AsyncDriver) -> dict[str, Spin]:
    styles = {style: spin_with(context) for style, context in driver.styles.items()}
    pairs = {style: spin_pair(*pair) for style, pair in driver.pairs.items()}
    return styles | pairs or {"get, put": spin_pair(driver.take, driver.put)}


async def best_time(spin: Spin, runs: int) -> float:
    """As for threads: the best of so many short runs, after a warm-up, gc off."""

    async def timed(count: int) -> float:
        begun_at = perf_counter()
        await spin(count)
        return perf_counter() - begun_at

    with no_collections():
        count = turns_of_a_run(min([await timed(10) for _ in range(3)]))
        return min([await timed(count) for _ in range(runs)]) / count


def measured(measure: Callable[[AsyncDriver, Case], Awaitable[Figures]]) -> Callable[[str, Case], Figures]:
    """Run ``measure`` in a new loop with the peer's pool, and close the pool."""

    async def run(peer: str, case: Case) -> Figures:
        slots = case.values.get("slots", 4)
        driver = await ADAPTERS[peer](Spec(slots, Opener()))
        try:
            return await measure(driver, case)
        finally:
            await driver.close()

    return lambda peer, case: asyncio.run(run(peer, case))


async def measure_cycle(driver: AsyncDriver, case: Case) -> Figures:
    styles = spins(driver)
    wanted = case["style"] or next(iter(styles))
    if wanted not in styles:
        return {}
    return {"cycle": await best_time(styles[wanted], case["runs"])}


async def measure_contention(driver: AsyncDriver, case: Case) -> Figures:
    hold, duration = case["hold"], case["duration"]
    room = int(2 * duration / hold) + 100 if hold else 200_000
    recorders = [Recorder(room) for _ in range(case["threads"])]
    take, put = driver.take, driver.put

    async def loop(recorder: Recorder, end_at: float) -> None:
        asked_at = perf_counter()
        while asked_at < end_at:
            taken = await take()
            taken_at = perf_counter()
            recorder.add(taken_at - asked_at)
            recorder.served += taken_at < end_at
            # Without a hold too another task must get its turn: a pool that never suspends would run alone.
            await asyncio.sleep(hold)
            await put(taken)
            asked_at = perf_counter()

    gc.collect()
    end_at = perf_counter() + duration
    await asyncio.wait_for(asyncio.gather(*(loop(recorder, end_at) for recorder in recorders)), duration + PATIENCE)
    return waiting_figures(recorders, duration)


async def measure_slots(driver: AsyncDriver, case: Case) -> Figures:
    slots = case["slots"]
    for one in [await driver.take() for _ in range(slots)]:
        await driver.put(one)
    spin = next(iter(spins(driver).values()))
    return {"cycle": await best_time(spin, 20)}


class Line:
    """So many tasks that wait, each for one take, put and end."""

    def __init__(self, take: Callable[[], Awaitable[Any]], put: Callable[[Any], Awaitable[object]], count: int) -> None:
        async def wait() -> None:
            await put(await take())

        self.tasks = [asyncio.create_task(wait()) for _ in range(count)]

    async def settle(self) -> None:
        for _ in range(10):
            await asyncio.sleep(0)

    async def join(self) -> None:
        await asyncio.wait_for(asyncio.gather(*self.tasks), PATIENCE)


async def measure_waiters(driver: AsyncDriver, case: Case) -> Figures:
    """Memory of a waiter, over that of a task at a bare future, and the time of a hand-over in a line so long."""
    count = case["waiters"]
    size = await _size_of_line(driver.take, driver.put, count) - await _size_of_bare_line(count)
    taken = await driver.take()
    line = Line(driver.take, driver.put, count)
    await line.settle()
    begun_at = perf_counter()
    await driver.put(taken)
    await line.join()
    return {"hand-over": (perf_counter() - begun_at) / count, "per waiter": size / count}


async def _size_of_line(take: Callable[[], Awaitable[Any]], put: Callable[[Any], Awaitable[object]], count: int) -> int:
    taken = await take()
    with traced() as allocated:
        line = Line(take, put, count)
        await line.settle()
        size = allocated()
        await put(taken)
        await line.join()
    return size


async def _size_of_bare_line(count: int) -> int:
    futures: list[asyncio.Future[None]] = []

    async def take() -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        futures.append(future)
        if len(futures) > 1:
            await future

    async def put(_: None) -> None:
        for future in futures:
            if not future.done():
                future.set_result(None)

    return await _size_of_line(take, put, count)


def _cycle_cases(runs: int) -> list[Case]:
    styles = ("", "take, put", "with get()", "acquire, release")
    return [Case(style or "usual form", {"style": style, "runs": runs}) for style in styles]


def _tasks(case: Case) -> Case:
    return Case(case.label.replace("threads", "tasks"), case.values)


ROWS = ((16, 4, 0.0), (16, 4, 0.001), (64, 8, 0.001), (200, 20, 0.005))
CONTENTION_CASES = [_tasks(contention_case(*row, 2.0)) for row in ROWS]
TURNS = {_tasks(contention_case(*row, 2.0)).label: row for row in ((16, 4, 0.001), *ROWS)}
OTHERS = ("asyncpg", "psycopg_pool", "escudeiro", "generic-connection-pool")
CYCLE = Scenario(
    "async-cycle",
    "One task takes and puts a stub",
    [Metric("cycle", "µs", MICRO)],
    _cycle_cases(40),
    _cycle_cases(3),
    tuple(ADAPTERS),
    measured(measure_cycle),
    limit="bare-queue",
    note="asyncpg lends a connection without a protocol here; its release is a task of its own.",
    goals=(Goal("at most 0.5 of the fastest peer", at_most(0.5, "cycle", "queuepool", *OTHERS), [USUAL]),),
    rounds=7,
)
CONTENTION = Scenario(
    "async-contention",
    "More tasks than slots",
    [Metric("throughput", "/s", more_is_better=True), *WAITS, Metric("jain", more_is_better=True)],
    CONTENTION_CASES,
    [_tasks(contention_case(16, 4, 0.001, 0.3))],
    tuple(peer for peer in ADAPTERS if peer != "bare-queue"),
    measured(measure_contention),
    limit="lifoqueue-pool",
    drawn_too=("max",),
    note="every task sleeps while it holds, if only for no time, so that others get their turn.",
    goals=(
        Goal("throughput at least the best peer's", at_least(1.0, "throughput", "queuepool", *OTHERS)),
        Goal(
            "longest wait at most three ideal turns, or 25 ms",
            level(lambda case: longest_turn(TURNS[case]), "max", "queuepool", pick=min, unit=" ms", scale=MILLI),
        ),
        Goal("Jain's index at least 0.98", level(lambda _: 0.98, "jain", "queuepool", pick=median, upper=False)),
    ),
)
SLOTS = Scenario(
    "async-scale-slots",
    "An asyncio pool of many open slots",
    [Metric("cycle", "µs", MICRO)],
    [Case(f"{slots:,} slots", {"slots": slots}) for slots in (10, 100, 1_000, 10_000)],
    [Case(f"{slots:,} slots", {"slots": slots}) for slots in (10, 100)],
    tuple(peer for peer in ADAPTERS if peer != "bare-queue"),
    measured(measure_slots),
    limit="lifoqueue-pool",
)
WAITERS = Scenario(
    "async-scale-waiters",
    "A long line of waiting tasks",
    [Metric("hand-over", "µs", MICRO), Metric("per waiter", "bytes")],
    [Case(f"{count:,} waiters", {"waiters": count, "slots": 1}) for count in (10, 100, 1_000, 5_000)],
    [Case(f"{count:,} waiters", {"waiters": count, "slots": 1}) for count in (10, 100)],
    tuple(peer for peer in ADAPTERS if peer not in ("bare-queue", "escudeiro")),
    measured(measure_waiters),
    limit="lifoqueue-pool",
    note="escudeiro lends more than it has when tasks wait, and then raises Full: it cannot hold a line.",
)
SCENARIOS = (CYCLE, CONTENTION, SLOTS, WAITERS)

"""What a scenario is, how it is run interleaved over the peers, and the arithmetic of the figures."""

from __future__ import annotations

import gc
import math
import random
import statistics
import sys
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .goals import Goal

Figures = Mapping[str, float]


class Missing(Exception):
    """A peer cannot be run here: its package, or something that it needs, is not installed."""


class Unsuitable(Exception):
    """A peer has nothing to show in this scenario; the text says why."""


@dataclass(frozen=True)
class Metric:
    """One figure of a scenario. ``scale`` turns seconds or counts into the printed unit."""

    name: str
    unit: str = ""
    scale: float = 1.0
    more_is_better: bool = False


@dataclass(frozen=True)
class Case:
    """One row of a scenario's plan: a label and what the measurement needs to know."""

    label: str
    values: Mapping[str, Any] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Any:
        return self.values[name]


@dataclass(frozen=True)
class Scenario:
    """A question put to several peers. The first metric is the one that ratios are taken of."""

    name: str
    title: str
    metrics: Sequence[Metric]
    cases: Sequence[Case]
    quick_cases: Sequence[Case]
    peers: Sequence[str]
    measure: Callable[[str, Case], Figures]
    limit: str | None = None
    note: str = ""
    goals: Sequence[Goal] = ()
    drawn_too: Sequence[str] = ()
    """Metrics that the picture shows beside the first."""
    rounds: int = 3
    """How often each case is measured, interleaved over the peers: more for what is short and noisy."""


@dataclass(frozen=True)
class Record:
    """The figures of one peer in one case of one round."""

    scenario: str
    case: str
    peer: str
    round: int
    figures: Figures


@dataclass
class Results:
    records: list[Record] = field(default_factory=list)
    notes: dict[str, str] = field(default_factory=dict)

    def cases(self, scenario: str) -> list[str]:
        """The labels of the cases that have figures, in the order in which they were run."""
        return list(dict.fromkeys(record.case for record in self.records if record.scenario == scenario))

    def series(self, scenario: str, case: str, peer: str, metric: str) -> dict[int, float]:
        """Round → figure."""
        return {
            record.round: record.figures[metric]
            for record in self.records
            if (record.scenario, record.case, record.peer) == (scenario, case, peer) and metric in record.figures
        }


def run(
    scenarios: Iterable[Scenario],
    *,
    rounds: int | None = None,
    quick: bool = False,
    peers: Sequence[str] | None = None,
    seed: int = 0,
) -> Results:
    """Run every scenario over its peers, the order of the peers drawn anew for each case of each round."""
    results = Results()
    draw = random.Random(seed)
    for scenario in scenarios:
        chosen = [peer for peer in scenario.peers if peers is None or peer in peers or peer == scenario.limit]
        for number in range(rounds or (1 if quick else scenario.rounds)):
            for case in scenario.quick_cases if quick else scenario.cases:
                for peer in draw.sample(chosen, len(chosen)):
                    _run_one(scenario, case, peer, number, results)
    return results


def _run_one(scenario: Scenario, case: Case, peer: str, number: int, results: Results) -> None:
    try:
        figures = scenario.measure(peer, case)
    except (Missing, Unsuitable) as reason:
        note = f"{scenario.name}: {peer}: {'SKIPPED, ' if isinstance(reason, Missing) else ''}{reason}"
    except Exception as error:  # a peer's failure is a result, and must not cost the others theirs
        note = f"{scenario.name}: {peer}: FAILED in {case.label}: {type(error).__name__}: {error}"
    else:
        if figures:
            results.records.append(Record(scenario.name, case.label, peer, number, figures))
            first = scenario.metrics[0]
            say(f"{scenario.name} / {case.label} / round {number + 1}: {peer}: {shown(figures[first.name], first)}")
        return
    if note not in results.notes:
        results.notes[note] = peer
        say(f"!! {note}")


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def shown(value: float, metric: Metric) -> str:
    """A figure with three significant digits and its unit."""
    value *= metric.scale
    digits = 0 if value == 0 or not math.isfinite(value) else max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{min(digits, 4)}f}{' ' + metric.unit if metric.unit else ''}"


@dataclass(frozen=True)
class Spread:
    """Median with the least and the greatest."""

    median: float
    least: float
    greatest: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        ordered = sorted(values)
        return cls(statistics.median(ordered), ordered[0], ordered[-1])


def ratio(figures: Mapping[int, float], to: Mapping[int, float]) -> Spread | None:
    """The ratio in each round that both have, then its median and spread; None without a common round."""
    quotients = [figures[number] / to[number] for number in figures if to.get(number)]
    return Spread.of(quotients) if quotients else None


RUN_TIME = 0.002
"""Seconds that a run of a loop takes: less than a busy machine leaves to a program at a time, so that some runs of many
are undisturbed, and as many of a slow peer as of a fast one."""


@contextmanager
def no_collections() -> Iterator[None]:
    gc.collect()
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def turns_of_a_run(seconds_for_ten: float) -> int:
    return max(3, int(RUN_TIME / (seconds_for_ten / 10)))


def best_time(spin: Callable[[int], object], runs: int) -> float:
    """Seconds for one turn of ``spin``: the best of so many short runs, after a warm-up, gc off.

    The best, not the mean: whatever else the machine does can only add time.
    """

    def timed(count: int) -> float:
        begun_at = perf_counter()
        spin(count)
        return perf_counter() - begun_at

    with no_collections():
        count = turns_of_a_run(min(timed(10) for _ in range(3)))
        return min(timed(count) for _ in range(runs)) / count


class Recorder:
    """Wait times of one thread or task in a preallocated array, so that recording allocates nothing."""

    def __init__(self, size: int) -> None:
        self.waits = array("d", bytes(8 * size))
        self.count = 0
        self.served = 0
        self.errors = 0

    def add(self, wait: float) -> None:
        """Note one wait. Beyond the reserved room only a wait longer than the last one noted is kept."""
        count = self.count
        if count < len(self.waits):
            self.waits[count] = wait
            self.count = count + 1
        elif wait > self.waits[-1]:
            self.waits[-1] = wait


def waiting_figures(recorders: Sequence[Recorder], duration: float) -> dict[str, float]:
    """Throughput, the distribution of waits, and Jain's index over what each thread got."""
    waits = sorted(wait for recorder in recorders for wait in recorder.waits[: recorder.count])
    served = [recorder.served for recorder in recorders]
    figures = {
        "throughput": sum(served) / duration,
        "jain": jain(served),
        "errors": float(sum(recorder.errors for recorder in recorders)),
    }
    if waits:
        figures |= {"p50": quantile(waits, 0.5), "p99": quantile(waits, 0.99), "p99.9": quantile(waits, 0.999)}
        figures["max"] = waits[-1]
    return figures


def quantile(ordered: Sequence[float], share: float) -> float:
    """Nearest rank: a value that did occur."""
    return ordered[min(len(ordered) - 1, math.ceil(share * len(ordered)) - 1)]


def jain(shares: Sequence[float]) -> float:
    """Jain's fairness index: 1 when all get the same, 1/n when one gets everything."""
    squares = sum(share * share for share in shares)
    return sum(shares) ** 2 / (len(shares) * squares) if squares else 0.0

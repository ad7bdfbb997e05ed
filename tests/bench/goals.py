"""What the figures are to reach, and whether they do: each goal reads the results of its scenario and gives verdicts."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Union

from .measure import Results, Spread, ratio

if TYPE_CHECKING:
    from .measure import Scenario


@dataclass(frozen=True)
class Verdict:
    """One goal in one case: what was asked, what was measured, and whether that is enough."""

    scenario: str
    case: str
    asked: str
    measured: str
    reached: bool

    def __str__(self) -> str:
        mark = "reached    " if self.reached else "NOT REACHED"
        return f"{mark}  {self.scenario} / {self.case}: {self.asked}: {self.measured}"


Judge = Callable[[Results, str, str], Union[tuple[str, bool], None]]
"""(results, scenario, case) → what was measured, and whether it is enough; None where the figures are missing."""


@dataclass(frozen=True)
class Goal:
    """A question to a scenario, asked of each of its cases or of those named."""

    asked: str
    judge: Judge
    cases: Collection[str] | None = None


def verdicts(scenarios: Sequence[Scenario], results: Results) -> Iterator[Verdict]:
    for scenario in scenarios:
        for goal in scenario.goals:
            for case in results.cases(scenario.name):
                judged = goal.judge(results, scenario.name, case) if goal.cases is None or case in goal.cases else None
                if judged is not None:
                    yield Verdict(scenario.name, case, goal.asked, *judged)


def at_most(limit: float, metric: str, ours: str, *others: str) -> Judge:
    """The median ratio of ``ours`` to the best of the others is at most ``limit``; less is better."""
    return _against(metric, ours, others, lambda spread: spread.median <= limit, sign=1)


def at_least(limit: float, metric: str, ours: str, *others: str) -> Judge:
    """The median ratio of ``ours`` to the best of the others is at least ``limit``; more is better."""
    return _against(metric, ours, others, lambda spread: spread.median >= limit, sign=-1)


def _against(metric: str, ours: str, others: Sequence[str], enough: Callable[[Spread], bool], sign: int) -> Judge:
    def judge(results: Results, scenario: str, case: str) -> tuple[str, bool] | None:
        own = results.series(scenario, case, ours, metric)
        rivals = {peer: results.series(scenario, case, peer, metric) for peer in others if peer != ours}
        rivals = {peer: series for peer, series in rivals.items() if series}
        if not own or not rivals:
            return None
        best = min(rivals, key=lambda peer: sign * Spread.of(rivals[peer].values()).median)
        spread = ratio(own, rivals[best])
        if spread is None:
            return None
        rounds = f"{spread.least:.3f}–{spread.greatest:.3f} in {len(own)} rounds"
        return f"{spread.median:.3f} of {best} ({rounds})", enough(spread)

    return judge


def level(
    limit: Callable[[str], float],
    metric: str,
    ours: str,
    *,
    pick: Callable[[Sequence[float]], float],
    unit: str = "",
    scale: float = 1.0,
    upper: bool = True,
) -> Judge:
    """What ``pick`` chooses of the rounds' figures keeps the limit of the case: an upper one, or a lower one."""

    def judge(results: Results, scenario: str, case: str) -> tuple[str, bool] | None:
        series = sorted(results.series(scenario, case, ours, metric).values())
        if not series:
            return None
        value, bound = pick(series), limit(case)
        rounds = f"{series[0] * scale:.4g}–{series[-1] * scale:.4g} in {len(series)} rounds"
        text = f"{value * scale:.4g}{unit}, the {pick.__name__} ({rounds}); limit {bound * scale:.4g}{unit}"
        return text, value <= bound if upper else value >= bound

    return judge

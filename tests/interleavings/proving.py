"""Proves a scenario in full, or in the short form that every change goes through.

`QUEUEPOOL_SCHEDULES=all` explores every schedule within the bound. Otherwise the schedules with one
preemption less are explored, as far as a budget goes, and as many random ones without a bound are
added: 500 each, or what `QUEUEPOOL_SCHEDULES` says. `conftest` prints the sum of what was run.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from types import ModuleType

from .explorer import Scenario, explore, explore_interrupts, walk
from .report import Report, Schedule

_WISH = os.environ.get("QUEUEPOOL_SCHEDULES", "500")
FULL = _WISH == "all"
BUDGET = None if FULL else int(_WISH)
# CPython 3.9 and 3.10 add references to what is traced, and the pool finds what an interrupt lost by
# the number of references: so nothing may be traced, and no thread be switched, after the interrupt.
_TRACING_COUNTS = sys.version_info < (3, 11)
reports: list[Report] = []


def prove(scenario: Scenario, under_test: Sequence[ModuleType], preemptions: int = 2) -> None:
    """Raise AssertionError, with a schedule to replay, if any schedule that is run fails."""
    bound = preemptions if FULL else preemptions - 1
    _note(explore(scenario, under_test, preemptions=bound, limit=BUDGET))
    _walk(scenario, under_test, Schedule())


def prove_interrupted(
    scenario: Scenario,
    under_test: Sequence[ModuleType],
    victims: tuple[int, ...] | None = None,
    preemptions: int = 1,
) -> None:
    """The same with one KeyboardInterrupt in a schedule, wherever CPython may deliver it."""
    bound = preemptions if FULL else preemptions - 1
    if _TRACING_COUNTS:
        bound = 0
    _note(explore_interrupts(scenario, under_test, victims=victims, preemptions=bound, limit=BUDGET))
    if not _TRACING_COUNTS:
        _walk(scenario, under_test, Schedule(interrupts=1, victims=victims))


def _walk(scenario: Scenario, under_test: Sequence[ModuleType], base: Schedule) -> None:
    if BUDGET is not None:
        _note(walk(scenario, under_test, seed=1, schedules=BUDGET, base=base))


def _note(report: Report) -> None:
    reports.append(report)
    report.assert_none_failed()

"""The results as text, reStructuredText, JSON and pictures."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

from .goals import verdicts
from .measure import Metric, Results, Scenario, Spread, ratio, shown

OURS = "queuepool"
DISTRIBUTIONS = (
    "queuepool",
    "psycopg2-binary",
    "psycopg2",
    "SQLAlchemy",
    "psycopg",
    "psycopg-pool",
    "DBUtils",
    "cuttlepool",
    "generic-connection-pool",
    "asyncpg",
    "escudeiro",
)


@dataclass(frozen=True)
class Table:
    """One case of one scenario: a row for each peer, the best first."""

    scenario: Scenario
    case: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


def tables(scenarios: Sequence[Scenario], results: Results) -> Iterator[Table]:
    for scenario in scenarios:
        for case in results.cases(scenario.name):
            yield _table(scenario, case, results)


def medians(scenario: Scenario, case: str, metric: Metric, results: Results) -> dict[str, Spread]:
    """Peer → spread over the rounds, the best first."""
    spreads = {}
    for peer in scenario.peers:
        series = results.series(scenario.name, case, peer, metric.name)
        if series:
            spreads[peer] = Spread.of(series.values())
    return dict(sorted(spreads.items(), key=lambda item: item[1].median, reverse=metric.more_is_better))


def _table(scenario: Scenario, case: str, results: Results) -> Table:
    first, *others = scenario.metrics
    spreads = medians(scenario, case, first, results)
    references = [peer for peer in (OURS, scenario.limit) if peer is not None and peer in spreads]
    present = [metric for metric in others if medians(scenario, case, metric, results)]
    head = ["", first.name, "min–max", *(f"÷ {peer}" for peer in references), *(metric.name for metric in present)]
    rows = []
    for peer, spread in spreads.items():
        own = results.series(scenario.name, case, peer, first.name)
        row = [peer, shown(spread.median, first), _range(spread, first)]
        for reference in references:
            quotient = ratio(own, results.series(scenario.name, case, reference, first.name))
            row.append(_quotient(quotient) if quotient and peer != reference else "")
        for metric in present:
            series = results.series(scenario.name, case, peer, metric.name)
            row.append(shown(Spread.of(series.values()).median, metric) if series else "")
        rows.append(row)
    return Table(scenario, case, head, rows)


def _range(spread: Spread, metric: Metric) -> str:
    unitless = Metric(metric.name, "", metric.scale)
    return f"{shown(spread.least, unitless)}–{shown(spread.greatest, unitless)}"


def _quotient(spread: Spread) -> str:
    return f"{spread.median:.2f} ({spread.least:.2f}–{spread.greatest:.2f})"


def text(scenarios: Sequence[Scenario], results: Results) -> str:
    lines = [_machine(), ""]
    for table in tables(scenarios, results):
        widths = [max(len(row[i]) for row in (table.head, *table.rows)) for i in range(len(table.head))]
        lines.append(f"{table.scenario.name}: {table.scenario.title}; {table.case}")
        for row in (table.head, ["-" * width for width in widths], *table.rows):
            cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:]))]
            lines.append("  ".join(cells).rstrip())
        lines.append("")
    goals = [str(verdict) for verdict in verdicts(scenarios, results)]
    return "\n".join([*lines, *goals, "", *_remarks(scenarios, results)]) + "\n"


def rst(scenarios: Sequence[Scenario], results: Results) -> str:
    lines = [_machine(), ""]
    for table in tables(scenarios, results):
        lines += [f"**{table.scenario.title}** ({table.case})", "", ".. list-table::", "   :header-rows: 1", ""]
        for row in (table.head, *table.rows):
            lines += [f"   {'*' if not i else ' '} - {cell}".rstrip() for i, cell in enumerate(row)]
        lines.append("")
    return "\n".join([*lines, *(f"- {remark}" for remark in _remarks(scenarios, results))]) + "\n"


def _machine() -> str:
    return (
        f"{platform.python_implementation()} {platform.python_version()}, {platform.system()} {platform.machine()}, "
        f"{os.cpu_count()} cores; medians over the rounds, ratios taken within each round."
    )


def _remarks(scenarios: Sequence[Scenario], results: Results) -> list[str]:
    return [f"{scenario.name}: {scenario.note}" for scenario in scenarios if scenario.note] + list(results.notes)


def versions() -> dict[str, str]:
    found = {}
    for name in DISTRIBUTIONS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def as_json(scenarios: Sequence[Scenario], results: Results) -> str:
    facts = {
        "python": sys.version,
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "versions": versions(),
        "notes": list(results.notes),
        "goals": [asdict(verdict) for verdict in verdicts(scenarios, results)],
        "records": [asdict(record) for record in results.records],
    }
    return json.dumps(facts, indent=1)


def write(scenarios: Sequence[Scenario], results: Results, folder: Path) -> list[Path]:
    """Write everything into ``folder`` and return the paths. Pictures need matplotlib."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, content in (
        ("bench.txt", text(scenarios, results)),
        ("bench.rst", rst(scenarios, results)),
        ("bench.json", as_json(scenarios, results)),
    ):
        path = folder / name
        path.write_text(content, encoding="utf-8")
        written.append(path)
    return written + pictures(scenarios, results, folder)


def pictures(scenarios: Sequence[Scenario], results: Results, folder: Path) -> list[Path]:
    """One picture for each scenario: a row of bars for each case, whiskers from least to greatest."""
    try:
        matplotlib = import_module("matplotlib")
    except ImportError:
        results.notes.setdefault("pictures: SKIPPED, matplotlib is not installed", "")
        return []
    matplotlib.use("svg")
    # So that the same figures give the same file.
    matplotlib.rcParams["svg.hashsalt"] = "queuepool"
    matplotlib.rcParams["svg.fonttype"] = "none"  # text as text, which is a quarter of the size
    pyplot = import_module("matplotlib.pyplot")
    written = []
    for scenario in scenarios:
        drawn = [table for table in tables([scenario], results) if len(table.rows) > 1]
        if not drawn:
            continue
        heights = [len(table.rows) for table in drawn]
        metrics = [*scenario.metrics[:1], *(each for each in scenario.metrics if each.name in scenario.drawn_too)]
        figure, axes = pyplot.subplots(
            len(drawn),
            len(metrics),
            figsize=(9, 0.9 + 0.28 * sum(heights) + 0.9 * len(drawn)),
            squeeze=False,
            gridspec_kw={"height_ratios": heights},
            layout="constrained",
        )
        for row, table in zip(axes, drawn):
            for axis, metric in zip(row, metrics):
                _bars(axis, scenario, table.case, metric, results)
        figure.suptitle(scenario.title)
        path = folder / f"{scenario.name}.svg"
        figure.savefig(path, metadata={"Date": None})
        pyplot.close(figure)
        written.append(path)
    return written


def _colour(scenario: Scenario, peer: str) -> str:
    if peer == OURS:
        return "#d1495b"
    return "#e8a4ad" if peer.startswith(f"{OURS}+") else "#9aa0a6" if peer == scenario.limit else "#30638e"


def _bars(axis: Any, scenario: Scenario, case: str, metric: Metric, results: Results) -> None:
    spreads = medians(scenario, case, metric, results)
    # In one order in all columns, the first metric's; only those that have this figure too.
    peers = [peer for peer in reversed(medians(scenario, case, scenario.metrics[0], results)) if peer in spreads]
    middle = [spreads[peer].median * metric.scale for peer in peers]
    below = [(spreads[peer].median - spreads[peer].least) * metric.scale for peer in peers]
    above = [(spreads[peer].greatest - spreads[peer].median) * metric.scale for peer in peers]
    colours = [_colour(scenario, peer) for peer in peers]
    axis.barh(peers, middle, xerr=[below, above], color=colours, ecolor="#222222", capsize=2)
    if peers and min(middle) > 0 and max(middle) / min(middle) > 50:
        axis.set_xscale("log")
    better = "more is better" if metric.more_is_better else "less is better"
    axis.set_xlabel(f"{metric.name}{f' ({metric.unit})' if metric.unit else ''}, {better}")
    axis.set_title(case, fontsize="medium", loc="left")

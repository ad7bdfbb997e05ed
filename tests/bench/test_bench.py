"""Each scenario at its smallest, over each peer that is installed: the benchmark runs, and what it says can be read."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from . import goals, report
from .__main__ import main
from .measure import Case, Figures, Metric, Missing, Record, Results, Scenario, Spread, jain, quantile, ratio, run
from .report import OURS
from .scenarios import CHOICES, SCENARIOS

# Each is another way to be slow; they are for the benchmark itself.
SMALLEST: dict[str, dict[str, float]] = {
    "contention": {"duration": 0.05},
    "async-contention": {"duration": 0.05},
    "overload": {"duration": 0.1},
    "spike": {"threads": 5},
    "sweep": {"slots": 50, "due": 3, "close": 0.01},
    "postgres": {"duration": 0.05},
    "wsgi": {"duration": 1},
}


def smallest(scenario: Scenario) -> Case:
    case = scenario.quick_cases[0]
    return replace(case, values={**case.values, **SMALLEST.get(scenario.name, {})})


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_a_scenario_measures_queuepool_and_its_limit(scenario: Scenario) -> None:
    for peer in (OURS, scenario.limit):
        if peer is not None and peer in scenario.peers:
            assert_measures(scenario, peer)


@pytest.mark.parametrize(
    ("scenario", "peer"),
    [
        pytest.param(scenario, peer, id=f"{scenario.name}-{peer}")
        for scenario in SCENARIOS
        if scenario.name in ("cycle", "async-cycle")
        for peer in scenario.peers
    ],
)
def test_a_peer_is_driven_by_its_own_calls(scenario: Scenario, peer: str) -> None:
    assert_measures(scenario, peer)


def assert_measures(scenario: Scenario, peer: str) -> None:
    try:
        figures = scenario.measure(peer, smallest(scenario))
    except Missing as missing:
        pytest.skip(f"{scenario.name}: {peer}: {missing}")
    assert figures[scenario.metrics[0].name] > 0
    assert not figures.get("errors")


def fixed(peer: str, case: Case) -> Figures:
    return {"time": {"queuepool": 1.0, "other": 4.0, "limit": 2.0}[peer]}


TOY = Scenario(
    "toy",
    "Two peers and a limit",
    [Metric("time", "ms", 1e3)],
    [Case("one"), Case("two")],
    [Case("one")],
    ("queuepool", "other", "limit"),
    fixed,
    limit="limit",
    goals=(
        goals.Goal("at most half", goals.at_most(0.5, "time", "queuepool", "limit", "other")),
        goals.Goal("at least thrice", goals.at_least(3.0, "time", "queuepool", "other"), ["two"]),
        goals.Goal("under 2 s", goals.level(lambda case: 2.0, "time", "queuepool", pick=min, unit=" s")),
    ),
    rounds=2,
)


def test_rounds_go_through_all_cases_and_peers_and_ratios_are_taken_within_a_round() -> None:
    results = run([TOY])
    assert len(results.records) == 2 * 2 * 3
    assert results.cases("toy") == ["one", "two"]
    own, other = (results.series("toy", "one", peer, "time") for peer in ("queuepool", "other"))
    assert ratio(other, own) == Spread(4.0, 4.0, 4.0)


def test_a_goal_is_judged_against_the_best_of_the_others_and_only_in_its_cases() -> None:
    verdicts = list(goals.verdicts([TOY], run([TOY])))
    assert [(verdict.case, verdict.asked, verdict.reached) for verdict in verdicts] == [
        ("one", "at most half", True),
        ("two", "at most half", True),
        ("two", "at least thrice", False),
        ("one", "under 2 s", True),
        ("two", "under 2 s", True),
    ]
    assert verdicts[0].measured.startswith("0.500 of limit")
    assert str(verdicts[2]).startswith("NOT REACHED  toy / two: at least thrice: 0.250 of other")


def test_a_goal_without_figures_gives_no_verdict() -> None:
    only_one = Results([Record("toy", "one", "queuepool", 0, {"other figure": 1.0})])
    assert list(goals.verdicts([TOY], only_one)) == []


def test_a_peer_that_fails_is_a_note_and_costs_the_others_nothing() -> None:
    def measure(peer: str, case: Case) -> Figures:
        if peer == "other":
            raise OSError("no such thing")
        return fixed(peer, case)

    results = run([replace(TOY, measure=measure)], quick=True)
    assert [record.peer for record in results.records if record.peer == "other"] == []
    assert list(results.notes) == ["toy: other: FAILED in one: OSError: no such thing"]


def test_the_report_is_written_as_text_rst_json_and_pictures(tmp_path: Path) -> None:
    results = run([TOY])
    written = {path.name for path in report.write([TOY], results, tmp_path)}
    assert {"bench.txt", "bench.rst", "bench.json"} <= written
    facts = json.loads((tmp_path / "bench.json").read_text(encoding="utf-8"))
    assert len(facts["records"]) == 12
    assert [goal["reached"] for goal in facts["goals"]] == [True, True, False, True, True]
    assert "NOT REACHED  toy / two" in (tmp_path / "bench.txt").read_text(encoding="utf-8")


def test_pictures_are_drawn_where_matplotlib_is(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    [picture] = report.pictures([TOY], run([TOY]), tmp_path)
    assert picture.read_text(encoding="utf-8").startswith("<?xml")


def test_the_command_runs_what_only_names(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    main(["--quick", "--only", "churn", "--peers", "queuepool", "--out", str(tmp_path)])
    assert "churn: Bursts beyond capacity" in capsys.readouterr().out
    assert (tmp_path / "bench.json").is_file()


def test_every_scenario_can_be_chosen_by_its_name_and_has_a_limit_or_is_complete_without() -> None:
    assert set(CHOICES) == {scenario.name for scenario in SCENARIOS} | {"must"}
    assert all(scenario.limit is None or scenario.limit in scenario.peers for scenario in SCENARIOS)


def test_a_quantile_is_a_value_that_occurred_and_jain_tells_even_from_uneven() -> None:
    assert quantile([1.0, 2.0, 3.0, 4.0], 0.5) == 2.0
    assert quantile([1.0, 2.0, 3.0, 4.0], 0.99) == 4.0
    assert jain([5, 5, 5, 5]) == 1.0
    assert jain([20, 0, 0, 0]) == 0.25

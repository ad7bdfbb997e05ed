"""The explorer finds the faults that are seeded in the toys, and finds none where there are none."""

from __future__ import annotations

import itertools
import threading
from typing import Any, Callable

import pytest

from . import proving, scheduler, standins, toys
from .explorer import Scenario, explore, replay, walk
from .patching import patched
from .report import Report, Schedule
from .toy_scenarios import adding, hand_over, leasing, moving, opening, patient_hand_over


def bodies(*functions: Callable[[], object]) -> Scenario:
    return lambda: (functions, lambda: None)


@pytest.mark.parametrize(("takers", "items"), [(1, 1), (2, 1)])
def test_a_correct_queue_holds_under_every_schedule(takers: int, items: int) -> None:
    report = explore(hand_over(toys.SlotQueue, takers, items), [toys]).assert_holds()
    assert report.schedules > 100


@pytest.mark.parametrize(
    "scenario",
    [
        patient_hand_over(toys.SlotQueue, 1),
        adding(toys.Counter),
        moving(toys.Accounts),
        opening(toys.Once),
    ],
)
def test_other_correct_code_holds_under_every_schedule(scenario: Scenario) -> None:
    explore(scenario, [toys]).assert_holds()


@pytest.mark.parametrize(
    ("scenario", "message", "at_most"),
    [
        (patient_hand_over(toys.NoLookAfterRegistering, 1), "deadlock", 50),
        (patient_hand_over(toys.NoSecondLook), "deadlock", 500),
        (hand_over(toys.TimeoutIgnoresHandOver), "the check raised", 20),
        (adding(toys.LostUpdate), "the check raised", 10),
        (moving(toys.LockOrder), "deadlock", 20),
        (opening(toys.CheckThenAct), "the check raised", 10),
    ],
    ids=["re-check", "second look", "hand-over", "update", "lock order", "check then act"],
)
def test_a_seeded_fault_is_found(scenario: Scenario, message: str, at_most: int) -> None:
    report = explore(scenario, [toys], limit=at_most)
    assert report.failures, report
    assert report.failures[0].message.startswith(message)


def test_a_failing_schedule_can_be_replayed() -> None:
    [failure] = explore(adding(toys.LostUpdate), [toys]).failures
    again = replay(adding(toys.LostUpdate), [toys], failure.schedule)
    assert again == failure
    assert "add-0 stops at toys.py" in str(again)
    assert str(failure.schedule) == f"Schedule(choices={failure.schedule.choices})"
    assert replay(adding(toys.LostUpdate), [toys], Schedule()) is None


def test_a_report_raises_the_schedules_that_failed() -> None:
    report = explore(adding(toys.LostUpdate), [toys])
    with pytest.raises(AssertionError, match=r"2 schedules \(not all\).*1 failed\n(.|\n)*replay with"):
        report.assert_holds()


def test_a_limited_report_says_that_it_is_not_complete() -> None:
    report = explore(adding(toys.Counter), [toys], limit=5).assert_none_failed()
    assert report.schedules == 5
    with pytest.raises(AssertionError, match=r"5 schedules \(not all\)"):
        report.assert_holds()


def test_without_preemptions_a_race_is_not_found_and_with_one_it_is() -> None:
    explore(adding(toys.LostUpdate), [toys], preemptions=0).assert_holds()
    assert explore(adding(toys.LostUpdate), [toys], preemptions=1).failures


def test_the_search_goes_on_to_the_wanted_number_of_failures() -> None:
    report = explore(adding(toys.LostUpdate), [toys], max_failures=100)
    assert report.complete
    assert len(report.failures) > 1
    assert len({failure.schedule for failure in report.failures}) == len(report.failures)


def test_every_opcode_as_a_switch_point_gives_more_schedules() -> None:
    few = explore(adding(toys.Counter), [toys]).assert_holds()
    many = explore(adding(toys.Counter), [toys], every_opcode=True).assert_holds()
    assert many.schedules > few.schedules


# --- waiting


def test_a_timed_wait_both_ends_and_expires() -> None:
    outcomes = set()

    def scenario() -> Any:
        event = standins.Event()

        def wait() -> None:
            outcomes.add((event.wait(5.0), standins.clock()))

        return [wait, event.set], lambda: None

    explore(scenario, [toys]).assert_holds()
    assert outcomes == {(True, 1000.0), (False, 1005.0), (True, 1005.0)}


def test_a_deadlock_names_the_places() -> None:
    [failure] = explore(moving(toys.LockOrder), [toys]).failures
    assert failure.message.count("toys.py") == 2


def test_a_loop_that_never_ends_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler, "MAX_STEPS", 100)

    def scenario() -> Any:
        lock = standins.Lock()

        def spin() -> None:
            while not lock.acquire(False):
                pass

        return [lambda: lock.acquire(), spin, spin], lambda: None

    [failure] = explore(scenario, [toys]).failures
    assert "no end within 100 steps" in failure.message


def test_a_loop_without_points_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler, "PATIENCE", 0.1)

    def spin() -> None:
        while True: pass  # fmt: skip  # noqa: E701 - so that it is found in the same line each time

    [failure] = explore(bodies(spin), [toys]).failures
    assert "endless loop" in failure.message


def test_threads_that_the_code_starts_take_part_and_daemons_are_not_awaited() -> None:
    ticks: set[int] = set()

    def scenario() -> Any:
        ticker = toys.Ticker()

        def run() -> None:
            ticker.thread.start()
            standins.sleep(90.0)
            if ticks:
                ticker.stop()
                assert not ticker.thread.is_alive()
            ticks.add(ticker.ticks)

        return [run], lambda: None

    explore(scenario, [toys], preemptions=1).assert_holds()
    assert {0, 1} <= ticks


def test_each_thread_has_an_identity_of_its_own() -> None:
    identities = []

    def scenario() -> Any:
        seen: list[int] = []
        identities.append(seen)
        body = lambda: seen.append(threading.get_ident())  # noqa: E731
        return [body, body], lambda: None

    explore(scenario, [toys]).assert_holds()
    assert all(len(set(seen)) == 2 for seen in identities)


# --- what is not deterministic, or breaks


def test_a_scenario_that_is_not_deterministic_is_refused() -> None:
    runs = itertools.count()

    def scenario() -> Any:
        counter = toys.Counter()
        return [counter.add] * (2 + next(runs) % 2), lambda: None

    with pytest.raises(RuntimeError, match="not deterministic"):
        explore(scenario, [toys])


def test_what_a_body_raises_is_a_failure() -> None:
    [failure] = explore(bodies(lambda: 1 // 0), [toys]).failures
    assert "ZeroDivisionError" in failure.message
    assert isinstance(failure.error, ZeroDivisionError)


def test_what_a_finalizer_raises_is_a_failure() -> None:
    class Brittle:
        def __del__(self) -> None:
            raise ValueError("in a finalizer")

    [failure] = explore(bodies(Brittle), [toys]).failures
    assert "in a finalizer" in failure.message


def test_the_modules_are_as_before_after_an_exploration() -> None:
    before = dict(vars(toys))
    explore(adding(toys.Counter), [toys])
    assert dict(vars(toys)) == before
    with patched(toys, time=None):
        assert vars(toys)["allocate_lock"] is standins.Lock
        assert vars(toys)["time"] is None
    assert dict(vars(toys)) == before


@pytest.mark.parametrize("kind", [standins.Lock, standins.RLock, standins.Condition])
def test_a_stand_in_that_is_not_held_cannot_be_released(kind: type[Any]) -> None:
    lock = kind()
    with lock:
        pass
    with pytest.raises(RuntimeError):
        lock.release()


def test_a_condition_made_of_stand_ins_hands_over() -> None:
    def scenario() -> Any:
        condition = standins.Condition()
        items: list[int] = []

        def take() -> None:
            with condition:
                while not items:
                    condition.wait()
                items.pop()

        def put() -> None:
            with condition:
                items.append(1)
                condition.notify()

        return [take, put], lambda: None

    explore(scenario, [toys]).assert_holds()


# --- random schedules, and the short form


def test_random_schedules_find_a_fault_and_the_seed_repeats_them() -> None:
    scenario = hand_over(toys.TimeoutIgnoresHandOver, 2, 2)
    first, second = (walk(scenario, [toys], seed=3, schedules=500) for _ in range(2))
    assert first.failures
    assert (first.schedules, first.failures) == (second.schedules, second.failures)


@pytest.mark.parametrize(("budget", "explorations"), [(50, 2), (None, 1)])
def test_a_proof_in_short_adds_random_schedules(
    monkeypatch: pytest.MonkeyPatch, budget: int | None, explorations: int
) -> None:
    reports: list[Report] = []
    monkeypatch.setattr(proving, "reports", reports)
    monkeypatch.setattr(proving, "BUDGET", budget)
    monkeypatch.setattr(proving, "FULL", budget is None)
    proving.prove(adding(toys.Counter), [toys])
    assert len(reports) == explorations
    assert all(report.complete for report in reports[:1])
    with pytest.raises(AssertionError, match="replay with"):
        proving.prove(adding(toys.LostUpdate), [toys])
    with pytest.raises(AssertionError, match="replay with"):
        proving.prove_interrupted(leasing(toys.InterruptBetweenPopAndStore), [toys])

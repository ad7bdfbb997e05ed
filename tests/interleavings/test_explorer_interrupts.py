"""The explorer interrupts where CPython may, and finds the faults that this brings out in the toys."""

from __future__ import annotations

import _thread
import sys
from typing import Any

import pytest

from . import standins, toys
from .explorer import explore, explore_interrupts
from .toy_scenarios import leasing


@pytest.mark.skipif(
    sys.version_info < (3, 10),
    reason="CPython 3.9 may deliver between the end of a with and its __exit__ (bpo-29988)",
)
def test_correct_code_survives_an_interrupt_anywhere() -> None:
    explore_interrupts(leasing(toys.Leases), [toys]).assert_holds()


@pytest.mark.parametrize("kind", [toys.InterruptBetweenPopAndStore, toys.InterruptBeforeTry])
def test_a_fault_that_an_interrupt_brings_out_is_found(kind: type[toys.Leases]) -> None:
    [failure] = explore_interrupts(leasing(kind), [toys]).failures
    assert "take-0 is interrupted" in failure.switches[-1]
    explore(leasing(kind), [toys]).assert_holds()


def test_an_interrupt_in_the_last_call_of_a_try_is_raised_in_that_try() -> None:
    outcomes = set()

    def scenario() -> Any:
        toy = toys.Undone()

        def check() -> None:
            outcomes.add((len(toy.done), toy.undone))

        return [toy.do], check

    explore_interrupts(scenario, [toys]).assert_holds()
    # Not interrupted; in the call, after what it did; perhaps before the call.
    assert {(1, 0), (0, 1)} <= outcomes <= {(1, 0), (0, 1), (0, 0)}


@pytest.mark.skipif(sys.version_info < (3, 10), reason="CPython 3.9 may deliver in between")
def test_no_interrupt_comes_between_a_call_that_raises_and_its_handler() -> None:
    report = explore_interrupts(lambda: ([toys.Handled().do], lambda: None), [toys])
    assert report.assert_holds().schedules <= 2  # not at all; from 3.11 on at the entry


def test_cpython_raises_in_the_try_of_the_last_call_too() -> None:
    handled = []

    def do() -> None:
        try:
            return _thread.interrupt_main()
        except BaseException:
            handled.append(1)
            raise

    with pytest.raises(KeyboardInterrupt):
        do()
    assert handled


@pytest.mark.parametrize(("victims", "hit"), [((0,), {0}), ((1,), {1}), (None, {0, 1})])
def test_only_the_victims_are_interrupted(victims: Any, hit: set[int]) -> None:
    seen: set[int] = set()

    def scenario() -> Any:
        counter = toys.LostUpdate()

        def add(number: int) -> None:
            try:
                counter.add()
            except KeyboardInterrupt:
                seen.add(number)

        return [lambda: add(0), lambda: add(1)], lambda: None

    explore_interrupts(scenario, [toys], victims=victims).assert_holds()
    assert seen == hit


def test_a_wait_for_a_lock_is_interrupted_without_getting_it() -> None:
    outcomes = set()

    def scenario() -> Any:
        lock = standins.Lock()
        lock.acquire()

        def wait() -> None:
            try:
                lock.acquire()
            except KeyboardInterrupt:
                outcomes.add(lock.locked())

        return [wait, lock.release], lambda: None

    explore_interrupts(scenario, [toys], victims=(0,)).assert_holds()
    assert outcomes == {True, False} or outcomes == {True}


def test_threads_are_switched_after_an_interrupt_too() -> None:
    def scenario() -> Any:
        counter, lock = toys.LostUpdate(), standins.Lock()
        interrupted: list[int] = []

        def add_if_interrupted() -> None:
            try:
                lock.acquire()
            except KeyboardInterrupt:
                interrupted.append(1)
                counter.add()

        def add_in_one_step() -> None:
            counter.value += 1

        def check() -> None:
            assert counter.value == 1 + len(interrupted)

        return [add_if_interrupted, add_in_one_step], check

    explore(scenario, [toys]).assert_holds()
    explore_interrupts(scenario, [toys], preemptions=0).assert_holds()
    assert explore_interrupts(scenario, [toys], preemptions=1).failures


@pytest.mark.skipif(sys.version_info < (3, 11), reason="CPython 3.9 and 3.10 copy the locals")
@pytest.mark.parametrize("interrupts", [0, 1])
def test_exploring_adds_no_references_that_an_audit_would_count(interrupts: int) -> None:
    lost: set[int] = set()

    def scenario() -> Any:
        audit = toys.Audit(2)
        return [audit.use, lambda: lost.add(audit.lost())], lambda: None

    if interrupts:
        explore_interrupts(scenario, [toys], preemptions=1).assert_holds()
    else:
        explore(scenario, [toys]).assert_holds()
    assert lost == {1, 2}

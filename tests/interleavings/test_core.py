"""The core holds under every interleaving of its threads, up to a bound on preemptions."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest

from queuepool import WrongSlot
from queuepool.threads import ThreadDriver

from .proving import prove
from .users import CORE, Users

pytestmark = pytest.mark.timeout(3600)


@pytest.fixture(autouse=True)
def _no_logs() -> Iterator[None]:
    """Warnings of what the scenarios provoke take their time."""
    log = logging.getLogger("queuepool")
    level = log.level
    log.setLevel(logging.CRITICAL + 1)
    yield
    log.setLevel(level)


@pytest.fixture
def _endless_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A waiter does not look by itself, so that a lost wake-up is a deadlock."""
    monkeypatch.setattr(ThreadDriver, "patience", float("inf"))


@pytest.mark.usefixtures("_endless_patience")
@pytest.mark.parametrize(("capacity", "users"), [(1, 2), (1, 3), (2, 3)])
def test_every_waiter_is_served(capacity: int, users: int) -> None:
    def scenario() -> Any:
        pool = Users(capacity)
        return [pool.use] * users, pool.check

    prove(scenario, CORE)


@pytest.mark.usefixtures("_endless_patience")
@pytest.mark.parametrize("takes_again", [False, True])
def test_every_waiter_is_served_though_another_puts_in_its_turn(takes_again: bool) -> None:
    def scenario() -> Any:
        pool = Users(1, quantum=1.0)
        slot = pool.take()

        def first() -> None:
            pool.put_in_turn(slot)
            if takes_again:
                pool.use()

        return [first, pool.use, pool.use], pool.check

    prove(scenario, CORE)


@pytest.mark.usefixtures("_endless_patience")
def test_every_waiter_is_served_though_the_slots_are_empty() -> None:
    def scenario() -> Any:
        pool = Users(1, filled=False)
        return [pool.use] * 2, pool.check

    prove(scenario, CORE)


def test_a_taker_beyond_max_opening_gets_what_comes_back_or_opens() -> None:
    def scenario() -> Any:
        pool = Users(2, filled=False, max_opening=1)
        return [pool.use] * 2, pool.check

    prove(scenario, CORE)


def test_a_waiter_that_times_out_as_a_slot_comes_back_loses_none() -> None:
    def scenario() -> Any:
        pool = Users(1)
        slot = pool.take()
        return [pool.try_to_use, lambda: pool.put(slot)], pool.check

    prove(scenario, CORE)


def test_two_waiters_of_which_one_times_out_lose_no_slot() -> None:
    def scenario() -> Any:
        pool = Users(1)
        slot = pool.take()
        return [pool.try_to_use, pool.try_to_use, lambda: pool.put(slot)], pool.check

    prove(scenario, CORE)


def test_of_two_puts_of_one_slot_exactly_one_is_wrong() -> None:
    def scenario() -> Any:
        pool, wrong = Users(2), []
        slot = pool.take()

        def put() -> None:
            try:
                pool.put(slot)
            except WrongSlot as error:
                wrong.append(error)

        def check() -> None:
            assert len(wrong) == 1
            pool.check()

        return [put, put], check

    prove(scenario, CORE)


def test_close_ends_takers_and_waits_for_those_who_hold() -> None:
    def scenario() -> Any:
        pool = Users(1)
        slot = pool.take()

        def close() -> None:
            assert pool.pool.close(None) == []

        return [pool.try_to_use, lambda: pool.put(slot), close], pool.check_closed

    prove(scenario, CORE)


def test_close_against_a_take_leaves_nothing_open() -> None:
    def scenario() -> Any:
        pool = Users(1)
        return [pool.try_to_use, lambda: pool.pool.close(None)], pool.check_closed

    prove(scenario, CORE)


def test_resize_down_against_puts_keeps_the_right_number() -> None:
    def scenario() -> Any:
        pool = Users(2)
        first, second = pool.take(), pool.take()
        puts = [lambda: pool.put(first), lambda: pool.put(second)]
        return [*puts, lambda: pool.pool.resize(1)], pool.check

    prove(scenario, CORE)


def test_resize_down_against_a_take_keeps_the_right_number() -> None:
    def scenario() -> Any:
        pool = Users(2)
        return [pool.use, lambda: pool.pool.resize(1)], pool.check

    prove(scenario, CORE)


def test_resize_up_serves_a_waiter() -> None:
    def scenario() -> Any:
        pool = Users(1)
        slot = pool.take()

        def check() -> None:
            pool.put(slot)
            pool.check()

        return [pool.use, lambda: pool.pool.resize(2)], check

    prove(scenario, CORE)


def test_two_resizes_at_once_end_at_one_of_the_two() -> None:
    def scenario() -> Any:
        pool = Users(2)
        return [lambda: pool.pool.resize(1), lambda: pool.pool.resize(3)], pool.check

    prove(scenario, CORE)


@pytest.mark.parametrize("users", [1, 2])
def test_a_sweep_goes_on_among_takes_and_puts(users: int) -> None:
    def scenario() -> Any:
        pool = Users(2).idle_too_long()
        return [pool.use] * users + [pool.pool.recycle], pool.check

    prove(scenario, CORE)


def test_two_sweeps_at_once_close_each_resource_once() -> None:
    def scenario() -> Any:
        pool = Users(2).idle_too_long()
        return [pool.pool.recycle, pool.pool.recycle], pool.check

    prove(scenario, CORE)


def test_after_recycle_all_nothing_opened_before_it_is_left() -> None:
    def scenario() -> Any:
        pool = Users(2)
        old = pool.open_resources
        slot = pool.take()

        def check() -> None:
            pool.check()
            assert all(resource.closed for resource in old)

        return [pool.use, lambda: pool.put(slot), pool.pool.recycle_all], check

    prove(scenario, CORE)


@pytest.mark.usefixtures("_endless_patience")
def test_a_pause_and_its_end_strand_no_waiter() -> None:
    def scenario() -> Any:
        pool = Users(1)

        def pause() -> None:
            pool.pool.pause()
            pool.pool.resume()

        return [pool.use, pool.use, pause], pool.check

    prove(scenario, CORE)

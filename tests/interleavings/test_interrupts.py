"""An exception that strikes anywhere in the core costs no slot, and strands no waiter."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from .proving import prove_interrupted
from .users import CORE, Users

pytestmark = [
    pytest.mark.timeout(3600),
    # An interrupt may strike as a step begins, after which nobody awaits it; that costs no slot.
    pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning"),
]


@pytest.fixture(autouse=True)
def _no_logs() -> Iterator[None]:
    log = logging.getLogger("queuepool")
    level = log.level
    log.setLevel(logging.CRITICAL + 1)
    yield
    log.setLevel(level)


@pytest.mark.parametrize("filled", [True, False])
@pytest.mark.parametrize("body", ["use", "use_in_with"])
def test_an_interrupt_in_take_or_put_loses_no_slot(body: str, filled: bool) -> None:
    def scenario() -> Any:
        pool = Users(2, filled)
        return [getattr(pool, body)], pool.check_heals

    prove_interrupted(scenario, CORE)


def test_an_interrupted_waiter_passes_on_what_was_on_its_way() -> None:
    def scenario() -> Any:
        pool = Users(1)
        slots = [pool.take()]
        return [pool.use, lambda: pool.put(slots.pop())], pool.check_heals

    prove_interrupted(scenario, CORE, victims=(0,))


def test_an_interrupted_put_strands_no_waiter() -> None:
    def scenario() -> Any:
        pool = Users(1)
        slots = [pool.take()]
        return [pool.use, lambda: pool.put(slots.pop())], pool.check_heals

    prove_interrupted(scenario, CORE, victims=(1,))


def test_an_interrupted_user_among_others_strands_nobody() -> None:
    def scenario() -> Any:
        pool = Users(1)
        return [pool.use, pool.use], pool.check_heals

    prove_interrupted(scenario, CORE, victims=(0,))


@pytest.mark.skipif(
    sys.version_info < (3, 11),
    reason="CPython may deliver where the error refers to the slot, which is lost for as long as the error lives",
)
@pytest.mark.parametrize("victim", [0, 2])
def test_an_interrupt_in_a_turn_strands_nobody(victim: int) -> None:
    def scenario() -> Any:
        pool = Users(1, quantum=1.0)
        slots = [pool.take()]

        def first() -> None:
            pool.put_in_turn(slots.pop())
            pool.use()

        return [first, pool.use, pool.use], pool.check_heals

    prove_interrupted(scenario, CORE, victims=(victim,), preemptions=0)


@pytest.mark.parametrize("method", ["recycle", "recycle_all", "dispose"])
def test_an_interrupted_sweep_loses_no_slot(method: str) -> None:
    def scenario() -> Any:
        pool = Users(2).idle_too_long()
        return [getattr(pool.pool, method), pool.use], pool.check_heals

    prove_interrupted(scenario, CORE, victims=(0,))


@pytest.mark.skipif(
    sys.version_info < (3, 10),
    reason="CPython 3.9 may deliver between the end of a with and its __exit__ (bpo-29988)",
)
@pytest.mark.parametrize("capacity", [1, 3])
def test_an_interrupted_resize_leaves_a_pool_that_lends(capacity: int) -> None:
    def scenario() -> Any:
        pool = Users(2)

        def check() -> None:
            pool.pool.resize(2)
            pool.check_heals()

        return [lambda: pool.pool.resize(capacity), pool.use], check

    prove_interrupted(scenario, CORE, victims=(0,))


def test_an_interrupted_close_can_be_repeated() -> None:
    def scenario() -> Any:
        pool = Users(2)

        def check() -> None:
            pool.pool.close()
            pool.pool.close()
            pool.check_closed()

        return [pool.pool.close, pool.try_to_use], check

    prove_interrupted(scenario, CORE, victims=(0,))

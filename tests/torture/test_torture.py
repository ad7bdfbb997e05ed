"""Thousands of exceptions at random instants cost a pool no slot and strand nobody.

`QUEUEPOOL_STRIKES` says how many are thrown in each test; a thousand by default. That the explorer of interleavings
throws one at each point there is, is the systematic half of this; here they come many at a time, in C code too.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
from collections.abc import Iterator

import pytest

from queuepool import Pool
from queuepool.threads import ThreadDriver

from ..support import PATIENCE, Resource, assert_whole, wait_until
from .striking import Source, Users

STRIKES = int(os.environ.get("QUEUEPOOL_STRIKES", "1000"))

pytestmark = pytest.mark.timeout(60 + STRIKES / 50)


class Nuisance(Exception):
    """An exception that handlers of `Exception` catch, which those of KeyboardInterrupt do not."""


@pytest.fixture(autouse=True)
def _calm(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Without logs, whose lock an exception may leave locked; and with waiters that look around often.

    Threads change over at any instruction, else it is mostly where they sleep that exceptions strike.
    """
    monkeypatch.setattr(logging.getLogger("queuepool"), "disabled", True)
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    monkeypatch.setattr(ThreadDriver, "patience", 0.02)
    # pytest's keeps what finalizers raised, with the frames that it came from and all that they refer to.
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@contextlib.contextmanager
def swept(pool: Pool[Resource]) -> Iterator[None]:
    """Sweep all the while; else most of the struck are those that wait for what others have lost."""
    over = threading.Event()

    def sweep() -> None:
        while not over.wait(0.002):
            pool.recycle()

    thread = threading.Thread(target=sweep, daemon=True)
    thread.start()
    yield
    over.set()
    thread.join(PATIENCE)
    assert not thread.is_alive()


def assert_heals(pool: Pool[Resource]) -> None:
    """After two sweeps every slot is back and can hold a live resource of its own."""
    pool.recycle()
    pool.recycle()
    assert_whole(pool)
    slots = [pool.take(PATIENCE) for _ in range(pool.capacity)]
    assert len({slot.resource for slot in slots}) == pool.capacity
    assert not any(slot.resource.closed for slot in slots)
    for slot in slots:
        pool.put(slot)


#: Before, what is thrown at a thread that starts another may strike the new one, for whose first step `start` then waits.
STARTING_IS_SAFE = sys.version_info >= (3, 13)
APART = pytest.param(True, marks=pytest.mark.skipif(not STARTING_IS_SAFE, reason="Thread.start may hang when struck"))


@pytest.mark.parametrize("may_hang", [False, APART])
@pytest.mark.parametrize("error", [KeyboardInterrupt, Nuisance])
@pytest.mark.parametrize("opens", ["fine", "slow", "failing"])
def test_a_struck_pool_is_whole_after_two_sweeps(opens: str, error: type[BaseException], may_hang: bool) -> None:
    source = Source(opens, may_hang)
    pool = source.pool(3, timeout=5.0)
    users = Users(pool, patience=5.0)
    with swept(pool):
        users.start(6)
        users.strike(error, STRIKES)
        users.stop()
    assert not users.overlaps
    assert not source.closed_twice
    source.kind = "fine"
    wait_until(lambda: not pool._gate.opening)  # those that their takers have left
    assert_heals(pool)


@pytest.mark.parametrize("error", [KeyboardInterrupt, Nuisance])
def test_those_who_wait_beside_the_struck_are_served(error: type[BaseException]) -> None:
    """They wait for ever if they must, and none of them does; nor does anybody sweep."""
    pool = Source("fine").pool(2)
    victims, bystanders = Users(pool), Users(pool)
    bystanders.start(3)
    victims.start(3)
    victims.strike(error, STRIKES)
    victims.stop()
    bystanders.stop()
    assert not victims.overlaps + bystanders.overlaps
    assert bystanders.longest_wait < 5.0
    assert_heals(pool)

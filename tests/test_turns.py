"""With a quantum, a thread whose turn has come may take again before those who wait; and nobody waits for one that does not."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest

from queuepool import Exhausted, FifoSlotQueue, LifoSlotQueue, Pool, Slot
from queuepool.threads import ThreadDriver

from .support import PATIENCE, Clock, assert_whole, wait_until


class Turn:
    """A pool of one slot: the first worker has it, in its turn; two others wait, of whom the last is on watch."""

    def __init__(self, quantum: float, threads: ExitStack, **options: Any) -> None:
        self.clock = Clock()
        self.pool: Pool[object] = Pool("turns", 1, open=object, quantum=quantum, clock=self.clock, **options)
        self.workers = [threads.enter_context(ThreadPoolExecutor(1)) for _ in range(3)]
        threads.callback(self.pool.close, 0)
        slot = self.pool.take()
        before, first, self.next = self.take(1), self.take(0), self.take(2)
        self.pool.put(slot)
        # Only who waits behind another has a turn: one by one they would gain nothing by it.
        self.slot = before.result(PATIENCE)
        self.put(1)
        assert first.result(PATIENCE) is self.slot
        self.last = self.take(1)
        wait_until(lambda: self.pool._turns._watched_until > self.clock.now)  # type: ignore[union-attr]

    def take(self, worker: int) -> Future[Slot[object]]:
        line = len(self.pool._line)
        taking = self.workers[worker].submit(self.pool.take)
        wait_until(lambda: len(self.pool._line) > line)
        return taking

    def put(self, worker: int) -> None:
        self.workers[worker].submit(self.pool.put, self.slot).result(PATIENCE)


@pytest.fixture
def threads() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture(autouse=True)
def _endless_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits does not look by itself, if it is not on watch."""
    monkeypatch.setattr(ThreadDriver, "patience", float("inf"))


@pytest.mark.parametrize("queue_class", [LifoSlotQueue, FifoSlotQueue])
def test_a_thread_takes_again_before_those_who_wait_for_as_long_as_its_turn_lasts(
    queue_class: Any, threads: ExitStack
) -> None:
    turn = Turn(60.0, threads, queue_class=queue_class)
    for _ in range(3):
        turn.put(0)
        assert turn.workers[0].submit(turn.pool.take, 0).result(PATIENCE) is turn.slot
    assert turn.pool.stats().waiting == 2
    turn.clock.advance(61.0)
    turn.put(0)
    assert turn.next.result(PATIENCE) is turn.slot
    assert not turn.last.done()


def test_what_another_thread_puts_back_ends_the_turn(threads: ExitStack) -> None:
    turn = Turn(60.0, threads)
    turn.pool.put(turn.slot)
    assert turn.next.result(PATIENCE) is turn.slot


def test_whoever_is_not_in_its_turn_waits_behind_the_others(threads: ExitStack) -> None:
    turn = Turn(60.0, threads)
    turn.put(0)
    with pytest.raises(Exhausted):
        turn.pool.take(0)
    assert turn.next.result(PATIENCE) is turn.slot, "whoever looks serves those who came before"


def test_what_a_thread_leaves_in_its_turn_is_given_to_the_next_by_who_is_on_watch(threads: ExitStack) -> None:
    turn = Turn(0.2, threads)
    turn.put(0)
    assert turn.next.result(PATIENCE) is turn.slot
    turn.put(2)
    assert turn.last.result(PATIENCE) is turn.slot


def test_while_nobody_is_on_watch_no_turn_goes_on(threads: ExitStack) -> None:
    turn = Turn(0.01, threads)
    turns = turn.pool._turns
    assert turns is not None
    wait_until(lambda: turns._watched_until < turn.clock.now)  # it has looked, and nothing was left to anybody
    turn.put(0)
    assert turn.next.result(PATIENCE) is turn.slot


def test_a_take_in_turns_ends_by_its_deadline(threads: ExitStack) -> None:
    turn = Turn(0.01, threads)
    began = time.monotonic()
    with pytest.raises(Exhausted):
        turn.pool.take(0.05)
    assert 0.05 <= time.monotonic() - began < PATIENCE


def test_all_are_served_and_no_slot_is_lost() -> None:
    pool: Pool[object] = Pool("turns", 2, open=object, quantum=0.0005, timeout=60.0)
    takes, start = [0] * 8, threading.Barrier(8)

    def work(number: int) -> None:
        start.wait()
        for _ in range(2_000):
            with pool.take():
                takes[number] += 1

    with ThreadPoolExecutor(8) as workers:
        for working in [workers.submit(work, number) for number in range(8)]:
            working.result(60.0)
    assert takes == [2_000] * 8
    assert_whole(pool)
    pool.close()


@pytest.mark.parametrize(("quantum", "error"), [(-1, ValueError), ("long", TypeError), (None, TypeError)])
def test_a_quantum_is_a_number_of_seconds(quantum: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="quantum must be"):
        Pool("turns", 1, open=object, quantum=quantum)

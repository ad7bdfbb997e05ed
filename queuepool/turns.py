"""Turns of more than one take, for threads that take again at once and keep the cores busy.

To hand each resource that comes back to another thread costs two switches of threads, which for a statement of 20 us is more
than all the rest. So a thread whose turn has come may keep taking for a *quantum*, while those who wait sleep. In what order
turns come is as ever: whoever has waited longest is next. The idea is the time slice of schedulers; the eventual fairness of
parking_lot's and Go's mutexes is a relative, but leaves to chance who is next.

A thread need not come again, and then nobody serves the slot that it left. Hence one of those who wait is on watch: it looks
once in a quantum, and without it no turn goes on.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import get_ident
from typing import Any

from .slot import AT_ONCE, Slot
from .slotqueue import SlotQueue
from .threads import ThreadWaiter


class Turns:
    """The turns of one pool. Any thread may call any method; none takes a lock."""

    __slots__ = ("_clock", "_queue", "_used", "_watched_until", "quantum")

    def __init__(self, quantum: float, queue: SlotQueue, clock: Callable[[], float]) -> None:
        self.quantum = quantum
        self._queue = queue
        self._clock = clock
        #: Until when somebody is on watch, and whether a slot was left to its thread since the last look.
        self._watched_until = AT_ONCE
        self._used = False

    def begin(self, slot: Slot[Any]) -> None:
        """The turn of this thread, which was given `slot`, begins."""
        slot.turn_of, slot.turn_until = get_ident(), self._clock() + self.quantum

    def goes_on(self, slot: Slot[Any], now: float) -> bool:
        """Whether `slot`, which this thread has just put into the queue, at `now`, is left to it."""
        if now < slot.turn_until and now < self._watched_until and slot.turn_of == get_ident():
            self._used = True
            return True
        return False

    def again(self) -> Slot[Any] | None:
        """The slot that this thread put back last, now its own; None if its turn is over, or the slot in other hands."""
        slots = self._queue.queue
        try:
            slot: Slot[Any] = slots[-1]
        except IndexError:
            return None
        if slot.turn_of != get_ident() or self._clock() >= slot.turn_until or not self._queue.remove(slot):
            return None
        return slot

    def wait(self, waiter: ThreadWaiter, seconds: float) -> bool:
        """`waiter.wait(seconds)`, on watch if nobody else is."""
        if self._clock() < self._watched_until:
            return waiter.wait(seconds)
        until = time.monotonic() + seconds
        try:
            self._used = True
            while self._used and time.monotonic() + self.quantum < until:
                self._used = False
                self._watched_until = self._clock() + 2 * self.quantum
                if waiter.wait(self.quantum):
                    return True
                self._queue.serve()
        finally:
            self._watched_until = AT_ONCE
            # First nobody watches, then the last look: whoever left a slot before is seen here, and who comes later serves.
            self._queue.serve()
        return waiter.wait(until - time.monotonic())

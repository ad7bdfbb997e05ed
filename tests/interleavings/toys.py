"""Small code for the explorer to prove itself on; the faults are seeded and named by the class.

`SlotQueue` is the protocol in short: who puts appends and then looks at the waiters, who waits
registers and then looks at the items, so whoever is second sees the other. Serving is under a
try-lock, and its holder looks again.
"""

from __future__ import annotations

import collections
import contextlib
import sys
import threading
import time
from _thread import allocate_lock
from collections.abc import Callable
from typing import Any, Optional


class Empty(Exception):
    """No item came in time."""


class Waiter:
    """One thread in the line; its lock is released when it has been served."""

    def __init__(self) -> None:
        self.item: Any = None
        self.served = allocate_lock()
        self.served.acquire()


class SlotQueue:
    """Last in, first out, with first come, first served among waiters."""

    def __init__(self) -> None:
        self.items: list[Any] = []
        self.waiters: collections.deque[Waiter] = collections.deque()
        self.serving = allocate_lock()

    def put(self, item: Any) -> None:
        self.items.append(item)
        if self.waiters:
            self.serve()

    def get(self, timeout: float = -1) -> Any:
        if not self.waiters:
            try:
                return self.items.pop()
            except IndexError:
                pass
        waiter = Waiter()
        self.register(waiter)
        if waiter.served.acquire(True, timeout):
            return waiter.item
        return self.give_up(waiter)

    def register(self, waiter: Waiter) -> None:
        self.waiters.append(waiter)
        self.serve()

    def give_up(self, waiter: Waiter) -> Any:
        try:
            self.waiters.remove(waiter)
        except ValueError:  # an item is on its way
            waiter.served.acquire()
            return waiter.item
        raise Empty

    def serve(self) -> None:
        while self.items and self.waiters and self.serving.acquire(False):
            try:
                self.hand_over()
            finally:
                self.serving.release()

    def hand_over(self) -> None:
        try:
            item = self.items.pop()
        except IndexError:
            return
        try:
            waiter = self.waiters.popleft()
        except IndexError:
            self.items.append(item)
            return
        waiter.item = item
        waiter.served.release()


class NoLookAfterRegistering(SlotQueue):
    def register(self, waiter: Waiter) -> None:
        self.waiters.append(waiter)


class TimeoutIgnoresHandOver(SlotQueue):
    def give_up(self, waiter: Waiter) -> Any:
        with contextlib.suppress(ValueError):
            self.waiters.remove(waiter)
        raise Empty


class NoSecondLook(SlotQueue):
    def serve(self) -> None:
        if self.serving.acquire(False):
            try:
                while self.items and self.waiters:
                    self.hand_over()
            finally:
                self.serving.release()


class Counter:
    """Adds up under a lock."""

    def __init__(self) -> None:
        self.value = 0
        self.lock = threading.Lock()

    def add(self) -> None:
        with self.lock:
            self.value += 1


class LostUpdate(Counter):
    def add(self) -> None:
        self.value += 1


class Accounts:
    """Two locks, taken in the same order by everyone."""

    def __init__(self) -> None:
        self.locks = [threading.RLock(), threading.RLock()]

    def move(self, source: int, target: int) -> None:
        first, second = self.in_order(source, target)
        with self.locks[first], self.locks[second]:
            pass

    def in_order(self, source: int, target: int) -> tuple[int, int]:
        return min(source, target), max(source, target)


class LockOrder(Accounts):
    def in_order(self, source: int, target: int) -> tuple[int, int]:
        return source, target


class Once:
    """Opens what it holds at the first use, once."""

    def __init__(self, open: Callable[[], object]) -> None:
        self.open = open
        self.opened: Optional[object] = None
        self.lock = threading.Lock()

    def get(self) -> object:
        with self.lock:
            return self.get_unlocked()

    def get_unlocked(self) -> object:
        if self.opened is None:
            self.opened = self.open()
        return self.opened


class CheckThenAct(Once):
    def get(self) -> object:
        return self.get_unlocked()


class Leases:
    """Moves items from idle to leased so that an interrupt at any point leaves each in a table."""

    def __init__(self, items: list[int]) -> None:
        self.idle = items
        self.leased: dict[int, bool] = {}
        self.lock = threading.Lock()

    def take(self) -> int:
        with self.lock:
            item = self.idle[-1]
            self.leased[item] = True
            del self.idle[-1]
            return item


class InterruptBetweenPopAndStore(Leases):
    def take(self) -> int:
        item = self.idle.pop()
        self.leased[item] = True
        return item


class InterruptBeforeTry(Leases):
    def take(self) -> int:
        self.lock.acquire()
        try:
            return self.idle[-1]
        finally:
            self.lock.release()


class Undone:
    """Takes back what it did if it is interrupted, even in the last call of its try."""

    def __init__(self) -> None:
        self.done: list[int] = []
        self.undone = 0

    def do(self) -> None:
        try:
            return self.done.append(1)
        except BaseException:
            self.undone = len(self.done)
            self.done.clear()
            raise


class Handled:
    """Raises in a call, and has done nothing that an interrupt could come between until it handles it."""

    def __init__(self) -> None:
        self.handled = 0

    def do(self) -> None:
        try:
            [].pop()
        except IndexError:
            self.handled = 1


class Audit:
    """Finds the items that only its table refers to, by their reference counts."""

    def __init__(self, items: int) -> None:
        self.table: dict[Thing, None] = {Thing(): None for _ in range(items)}
        self.lock = threading.Lock()

    def lost(self) -> int:
        counts = [sys.getrefcount(item) for item in list(self.table)]
        return counts.count(NOBODY)

    def use(self) -> None:
        """Hold an item for as long as this takes."""
        item = next(iter(self.table))
        with self.lock:
            del item


class Thing:
    """What an `Audit` looks for."""


#: The count of an item of the list that only the table and the list refer to: both, the variable, the argument.
NOBODY = 4


class Ticker:
    """A daemon thread that counts until it is told to stop."""

    def __init__(self) -> None:
        self.ticks = 0
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self.tick, daemon=True)

    def tick(self) -> None:
        while not self.stopped.wait(60.0):
            self.ticks += 1

    def stop(self) -> float:
        self.stopped.set()
        self.thread.join()
        return time.monotonic()

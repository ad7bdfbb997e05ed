"""The queue of a pool: open slots before empty ones, waiters served strictly first come, first served, without a lock.

Its steps are `append`, `pop`, `popleft` and `remove` of lists and deques, each of which is atomic in CPython: under the
GIL, and under the object's own lock in free-threaded builds. Two rules make them enough.

* A putter appends the slot and then looks for waiters; a waiter joins the line and then looks for slots. Whoever is
  second sees the other, so no wake-up is lost.
* Whoever has popped a slot owns it alone, and either hands it to a waiter or puts it back and looks again.

As nothing blocks, finalizers, signal handlers and callbacks of event loops may put at any moment, even in the middle
of another put. The hand-over is the design of SQLAlchemy's and asyncpg's trackers' most wished-for fix of starvation.
"""

from __future__ import annotations

import contextlib
import itertools
import queue
import sys
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Union

from .slot import Slot

if TYPE_CHECKING:
    _QueueBase = queue.Queue[Slot[Any]]
    _LifoBase = queue.LifoQueue[Slot[Any]]
else:
    # gevent puts classes of its own in the place of these, which have other insides; it keeps the originals.
    _gevent = sys.modules.get("gevent.monkey")
    _QueueBase, _LifoBase = (
        getattr(queue, each) if _gevent is None else _gevent.get_original("queue", each)
        for each in ("Queue", "LifoQueue")
    )

#: What a waiter is given: a slot, or None, which says "look again".
Item = Union[Slot[Any], None]

_tickets = itertools.count()


class Waiter:
    """One caller in the line. A subclass adds what `wake` does: release a lock, or call an event loop.

    `give` and `abandon` may run at the same time in two threads, and exactly one of them gets the item: the giver
    appends it and then looks at the flag, the abandoner sets the flag and then looks for an item.
    """

    __slots__ = ("_abandoned", "_items", "joined_at", "owner", "ticket")

    def __init__(self, owner: object = None) -> None:
        self.ticket = next(_tickets)
        self.owner = owner
        self.joined_at = time.monotonic()
        self._items: list[Item] = []
        self._abandoned = False

    def wake(self) -> None:
        raise NotImplementedError

    def give(self, item: Item) -> bool:
        """Give `item`; False says that the waiter has gone, and that `item` is still the giver's."""
        self._items.append(item)
        if self._abandoned:
            try:
                self._items.pop()
            except IndexError:
                return True  # abandon() found it
            return False
        self.wake()
        return True

    def accept(self) -> Item:
        """The item given, after the waiter was woken."""
        return self._items.pop()

    def abandon(self) -> Item:
        """Accept nothing from now on; return the item that had been given, if any."""
        self._abandoned = True
        try:
            return self._items.pop()
        except IndexError:  # nothing was given, or give() has just taken it back
            return None


class SlotQueue(_QueueBase):
    """What both kinds of queue share, and the base for one of your own; `pop_open` is all that differs.

    Attributes (each touched by atomic steps alone): `queue`, the open slots; `_vacant`, the empty ones, taken last;
    `line`, the waiters that have nothing; `standby`, those that own an empty slot and would rather have an open one.
    """

    def _init(self, maxsize: int) -> None:
        super()._init(maxsize)
        self._vacant: list[Slot[Any]] = []
        self.line: deque[Waiter] = deque()
        self.standby: deque[Waiter] = deque()
        self.standby_served_at = float("-inf")
        self._held = False

    def _qsize(self) -> int:
        return len(self.queue) + len(self._vacant)

    def qsize(self) -> int:
        """How many slots are in the queue, open and empty; the stdlib's needs its lock, this one none."""
        return self._qsize()

    def empty(self) -> bool:
        return not self._qsize()

    def full(self) -> bool:
        return 0 < self.maxsize <= self._qsize()

    # --- giving

    def put(self, item: Slot[Any], block: bool = True, timeout: float | None = None) -> None:
        """Put `item` on top, or, if somebody waits, into the hands of the first; from any thread, at any moment.

        Never blocks, whatever `block` and `timeout` say: raises `queue.Full` at once when `maxsize` slots are in.
        """
        if 0 < self.maxsize <= self._qsize():
            raise queue.Full
        self._put(item)
        if self.line or self.standby:
            self.serve()

    def _put(self, item: Slot[Any]) -> None:
        (self.queue if item.is_open else self._vacant).append(item)

    def sink(self, item: Slot[Any]) -> None:
        """Put an empty slot under all the others: the one that has just failed to open is tried last."""
        self._vacant.insert(0, item)
        if self.line or self.standby:
            self.serve()

    def serve(self) -> None:
        """Hand slots to waiters for as long as there are both."""
        while True:
            # An open slot goes to those on standby first: they came before the line did, and have been given a slot.
            # The slot first: popping the waiter first would, for an instant, let others overtake it.
            if self.standby and self.queue:
                line, slot = self.standby, self.pop_open()
                self.standby_served_at = time.monotonic()
            elif self.line and not self._held and (self.queue or self._vacant):
                line, slot = self.line, self.pop_open() if self.queue else self.pop_empty()
            else:
                return
            if slot is None:
                continue
            try:
                given = line.popleft().give(slot)
            except IndexError:
                given = False
            if not given:
                # Whoever comes between this and the next round joins the line and is seen there.
                self._put(slot)

    # --- taking

    def pop_open(self) -> Slot[Any] | None:
        raise NotImplementedError

    def pop_empty(self) -> Slot[Any] | None:
        try:
            return self._vacant.pop()
        except IndexError:
            return None

    def pop_any(self) -> Slot[Any] | None:
        # The looks save an exception each, which takes longer than all else that a taker does here.
        return (self.pop_open() if self.queue else None) or (self.pop_empty() if self._vacant else None)

    def get_now(self) -> Slot[Any] | None:
        """A slot, or None if there is none or others were there first."""
        return None if self.line or self._held else self.pop_any()

    def get(self, block: bool = True, timeout: float | None = None) -> Slot[Any]:
        """A slot, waiting for one as `queue.Queue.get` does; raises `queue.Empty`."""
        from .threads import ThreadWaiter

        slot = self.get_now()
        if slot is not None:
            return slot
        if not block:
            raise queue.Empty
        waiter = ThreadWaiter()
        self.join_line(waiter, self.line)
        try:
            item = waiter.accept() if waiter.wait(timeout) else self.leave(waiter, self.line)
        except BaseException:
            self.give_up(waiter, self.line)
            raise
        if isinstance(item, Slot):
            return item
        raise queue.Empty

    # --- waiting

    def join_line(self, waiter: Waiter, line: deque[Waiter], front: bool = False) -> None:
        """Wait at the end of `line` (`self.line` or `self.standby`), or at its front, for one that lost its place."""
        if front:
            line.appendleft(waiter)
        else:
            line.append(waiter)
        if self.queue or self._vacant:
            self.serve()

    def is_stranded(self, waiter: Waiter, line: deque[Waiter]) -> bool:
        """Whether `waiter` has left `line` and was not woken: an asynchronous exception struck in `serve`.

        Tickets rise along the line, so its first tells; a neighbour that overtook between drawing and joining makes
        this say yes too early, which costs a needless change of waiters and nothing else.
        """
        try:
            # What it was given shows it too, and has to: while nobody has that slot, the first may never go.
            return bool(waiter._items) or line[0].ticket > waiter.ticket
        except IndexError:
            return True

    def leave(self, waiter: Waiter, line: deque[Waiter]) -> Item:
        """Take `waiter` out of `line`; return what was on its way to it, if anything."""
        with contextlib.suppress(ValueError):
            line.remove(waiter)
        return waiter.abandon()

    def give_up(self, waiter: Waiter, line: deque[Waiter]) -> None:
        """`leave`, for a caller that an exception drives away: what was on its way goes to the next."""
        item = self.leave(waiter, line)
        if isinstance(item, Slot):
            self.put(item)

    def wake(self, line: deque[Waiter], item: Item) -> None:
        """Give `item` to everyone in `line`."""
        for _ in range(len(line)):
            try:
                line.popleft().give(item)
            except IndexError:
                return

    # --- what sweeps, drains and resizes do

    def snapshot(self) -> list[Slot[Any]]:
        """The open slots, those that would be taken last first."""
        return list(self.queue)

    def remove(self, slot: Slot[Any]) -> bool:
        """Take this very slot out of the queue; False says that somebody else has it."""
        for slots in (self.queue, self._vacant):
            try:
                slots.remove(slot)
                return True
            except ValueError:
                pass
        return False

    def hold(self) -> None:
        """Serve nobody in `line` until `release`."""
        self._held = True

    def release(self) -> None:
        self._held = False
        self.serve()


class LifoSlotQueue(SlotQueue, _LifoBase):
    """Newest first: the hot resources stay hot, and the rest idle until a limit closes them."""

    def pop_open(self) -> Slot[Any] | None:
        try:
            return self.queue.pop()
        except IndexError:
            return None


class FifoSlotQueue(SlotQueue):
    """Oldest first: all resources are used in turn, so none idles for long (and none is closed for idling)."""

    def pop_open(self) -> Slot[Any] | None:
        try:
            slot: Slot[Any] = self.queue.popleft()
            return slot
        except IndexError:
            return None

"""Take, as a flow that `Pool` and `AsyncPool` share; what differs between them is in the driver."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sized
from types import CodeType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from . import forking, options, reclaiming, refusals, steps
from .apart import LEFT, popped, run_apart
from .core import DEFAULT, BasePool
from .errors import NestedTake, Overloaded, PoolClosed, PoolError, TooManyWaiting
from .slot import AT_ONCE, Slot

if TYPE_CHECKING:
    from .slotqueue import Item, Waiter

T = TypeVar("T")

#: Seconds beyond the deadline that are granted to a step under way, lest a take that may not wait for others never open.
GRACE = 0.05

#: How often, a second, those who wait in a line wake up to look for what was lost, all together. Thousands of threads
#: that wake every second can keep one another from ever falling asleep again.
LOOKS = 200


def admit(pool: BasePool[Any], waiter: Waiter) -> None:
    """Raise `TooManyWaiting`, if `waiter` may not join the line."""
    admission = pool._admission
    if admission is None:
        return
    waiting = len(pool._line)
    if not admission.admits(waiting, waiter.joined_at):
        message = f"{pool.name}: {waiting} callers wait already (max_waiting={admission.max_waiting})"
        raise refusals.refused(pool, TooManyWaiting(message))


def patience(driver: Any, line: Sized, left: float | None) -> float:
    """For how many seconds a caller in `line` who has `left` of them (None: for ever) sleeps before it looks around."""
    seconds: float = driver.patience
    if seconds < len(line) / LOOKS:
        seconds = len(line) / LOOKS
    return seconds if left is None or seconds < left else left


def note_wait(pool: BasePool[Any], joined_at: float, item: Item) -> float:
    """Count how long one in the line waited for `item`, and return it. Raises `Overloaded`, and gives `item` back, if that
    was too long."""
    now = time.monotonic()
    waited, admission = now - joined_at, pool._admission
    pool._counters.waits.add(waited)
    if admission is not None and item is not None and admission.sheds(waited, len(pool._line), now):
        pool._give_back(item)
        message = f"{pool.name}: overloaded, shed after {waited:.3f} s (shed_after={admission.shed_after})"
        raise refusals.refused(pool, Overloaded(message))
    return waited


class Take(Generic[T]):
    """One take on its way: `slot` is the slot that it owns, if any, and gives back whatever happens."""

    __slots__ = ("began", "deadline", "driver", "pool", "slot", "waited", "waiter")

    def __init__(self, pool: BasePool[T], driver: Any, timeout: float | None, waiter: Waiter | None = None) -> None:
        """`waiter` is this take's own in the pool's line, if it waits there already."""
        self.pool = pool
        self.driver = driver
        self.waiter = waiter
        self.began = time.monotonic() if waiter is None else waiter.joined_at
        timeout = pool._timeout if timeout is DEFAULT else options.number_or_none("timeout", timeout)
        self.deadline = None if timeout is None else self.began + timeout
        self.waited = 0.0
        self.slot: Slot[T] | None = None

    async def run(self, slot: Slot[T] | None, code: CodeType, offset: int) -> Slot[T]:
        """A leased slot with a live resource. `slot` has been popped already, if it is given; `code` and `offset` are the
        caller's."""
        pool = self.pool
        self.slot = slot
        try:
            if pool._pid != os.getpid():
                self.slot = slot = self.waiter = None  # forget() queues every slot, this one too, and clears the line
                forking.forget(pool)
            owner = self.driver.current()
            if pool._nested != "new":
                entry = pool._nesting.get(owner)
                # The system gives the identifier of a thread that has ended to the next.
                if entry is not None and entry[2] is threading.current_thread():
                    return self._again(entry)
            if slot is None:
                slot = self.slot = await self._turn()
            now = pool._clock()
            if now >= slot.due_at or not (pool._poll is None or steps.poll(pool, slot)):
                slot = None  # a frame that waits must not look like a user of it
                slot = await self._fit_slot()
                now = pool._clock()
            if pool._closed:  # while it was looked at or opened, so that nobody else will see to it
                self.slot = None
                await steps.put(pool, self.driver, slot)
                raise PoolClosed(f"{pool.name}: the pool was closed")
            slot.use_count += 1
            pool._leases[slot] = (code, offset, owner, now)
        except BaseException:
            self._let_go()
            raise
        if pool._nested != "new":
            pool._nesting[owner] = [slot, 1, threading.current_thread()]
        if pool._watches_taken:
            pool._observe("taken", slot, self.waited)
        return slot

    def _again(self, entry: list[Any]) -> Slot[T]:
        """The slot that this thread or task holds already."""
        slot: Slot[T] = entry[0]
        if self.pool._nested == "error":
            holder = next((str(each) for each in self.pool.holders() if each.slot == slot.name), slot.name)
            raise NestedTake(f"{self.pool.name}: the caller holds slot {slot.name} already: {holder}")
        entry[1] += 1
        return slot

    def _let_go(self) -> None:
        """Give back what this take owns; an empty slot goes to the bottom, for it may be the one that does not open."""
        slot, self.slot = self.slot, None
        if slot is None:
            return
        self.pool._leases.pop(slot, None)
        self.pool._gate.dropped(slot)  # an exception may have struck as the gate opened
        if slot.is_open or slot.retiring:
            self.pool._give_back(slot)
        else:
            self.pool._queue.sink(slot)

    async def _fit_slot(self) -> Slot[T]:
        while True:
            if self.slot is None:
                self.slot = await self._turn()
            slot = self.slot
            if slot.is_open and await self._is_fit(slot):
                return slot
            if slot.retiring:
                self.slot = None
                self.pool._give_back(slot)
                continue
            other = await self._open_or_swap(slot)
            if other is None:
                return slot
            self.slot = other
            self.pool._give_back(slot)

    # --- waiting for a slot

    async def _turn(self) -> Slot[T]:
        """A slot, when it is this take's turn."""
        pool = self.pool
        if self.waiter is None:
            if pool._closed:
                raise PoolClosed(f"{pool.name}: the pool is closed")
            slot: Slot[T] | None = pool._queue.get_now()
            if slot is None and pool._orphaned:
                reclaiming.heal(pool)
                slot = pool._queue.get_now()
            if slot is not None:
                return slot
        joined_at = time.monotonic() if self.waiter is None else self.waiter.joined_at
        item = await self._wait(pool._line, self.deadline)
        self.waited += note_wait(pool, joined_at, item)
        if item is None and pool._closed:
            raise PoolClosed(f"{pool.name}: the pool is closed")
        if item is None:
            raise refusals.timed_out(pool, time.monotonic() - self.began)
        return item

    async def _wait(self, line: deque[Waiter], until: float | None) -> Item:
        """What this caller, waiting in `line`, is given; None if nothing was by `until`."""
        pool, driver, queue = self.pool, self.driver, self.pool._queue
        waiter, joins = self.waiter or driver.waiter(), self.waiter is None
        try:
            if joins:
                if line is pool._line:
                    admit(pool, waiter)
                queue.join_line(waiter, line)
            while not pool._closed:  # else perhaps those who waited had been told before this one joined them
                if await driver.wait(
                    waiter, patience(driver, line, None if until is None else until - time.monotonic())
                ):
                    return waiter.accept()
                # A last look for what may have been lost, before giving up, and now and then.
                reclaiming.heal(pool)
                queue.serve()  # an exception may have struck a putter before it looked at the line
                if until is not None and time.monotonic() >= until:
                    return queue.leave(waiter, line)
                if queue.is_stranded(waiter, line):
                    item = queue.leave(waiter, line)
                    if item is not None:
                        return item
                    ticket, waiter = waiter.ticket, driver.waiter()
                    waiter.ticket = ticket
                    queue.join_line(waiter, line, front=True)
            return queue.leave(waiter, line)
        except BaseException:
            queue.give_up(waiter, line)
            raise
        finally:
            self.waiter = None

    # --- looking at an open slot

    async def _is_fit(self, slot: Slot[T]) -> bool:
        """Whether the open `slot`, ours, may be lent; if not it is empty after, or no longer ours."""
        pool = self.pool
        if slot.dropped is not None:
            await self._leaving(slot, steps.settle)
        if not slot.is_open:
            return False
        now = pool._clock()
        reason = pool._limits.exceeded(slot, now)
        if reason is None:
            if await self._is_alive(slot, now):
                return True
            reason = "check"
        await self._leaving(slot, steps.close, reason)
        return False

    async def _is_alive(self, slot: Slot[T], now: float) -> bool:
        alive = steps.poll(self.pool, slot)
        if alive is False or not slot.lifecycle.offers("check"):
            return alive is not False
        seen_at = max(slot.checked_at, slot.last_used_at or AT_ONCE)
        if alive is None or slot.suspect or now - seen_at >= self.pool._limits.check_after:
            answer: bool = await self._leaving(slot, steps.check)
            return answer
        return True

    # --- opening an empty one

    async def _open_or_swap(self, slot: Slot[T]) -> Slot[T] | None:
        """Open the resource of `slot`, ours; or return another slot, open already, that came back meanwhile."""
        pool, gate = self.pool, self.pool._gate
        waiting_since: float | None = None
        failures = gate.failures
        while True:
            if pool._closed:
                raise PoolClosed(f"{pool.name}: the pool is closed")
            now = time.monotonic()
            if waiting_since is None and pool._standby:
                waiting_since = now
            if waiting_since is not None:
                waiting_since = max(waiting_since, pool._queue.standby_served_at)
            wait = gate.begin(slot, now, waiting_since)
            if wait <= 0.0:
                try:
                    await self._leaving(slot, steps.open_resource)
                    return None
                except PoolError:
                    raise
                except Exception as error:
                    if self.deadline is None or pool._fail_fast or not slot.lifecycle.transient(error):
                        raise
            else:
                if gate.outage and (pool._fail_fast or (self.deadline is None and gate.failures > failures)):
                    raise refusals.timed_out(pool, now - self.began)
                waiting_since = waiting_since or now
                until = now + wait if self.deadline is None else min(now + wait, self.deadline)
                item = await self._wait(pool._standby, until)
                if item is not None:
                    return item
            if self.deadline is not None and time.monotonic() >= self.deadline:
                raise refusals.timed_out(pool, time.monotonic() - self.began, f"{slot.name} waited to open")

    async def _leaving(self, slot: Slot[T], step: Callable[..., Awaitable[Any]], *args: Any) -> Any:
        """The result of `step` on `slot`; where it may hang, this take leaves at its deadline and the slot to the step."""
        pool, driver = self.pool, self.driver
        if not driver.leaves(slot.lifecycle, self.deadline):
            return await step(pool, driver, slot, *args)
        seconds = None if self.deadline is None else self.deadline + GRACE - time.monotonic()
        claim, self.slot = [slot], None  # the step's, which claims it as it begins
        try:
            result = await run_apart(pool, driver, claim, seconds, step, *args)
        except BaseException:
            if claim and slot.is_open and slot.retiring:  # nobody may look into the queue of a closed pool any more
                driver.spawn(steps.put(pool, pool._driver, claim.pop()), f"{pool.name} put")
            raise
        finally:
            self.slot = popped(claim)
        if result is LEFT:
            name = step.__name__.partition("_")[0]
            raise refusals.timed_out(pool, time.monotonic() - self.began, f"{name} of {slot.name} did not end")
        return result

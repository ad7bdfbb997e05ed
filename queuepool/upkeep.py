"""The sweep: what is due is closed, what is missing is opened, what was lost is found."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from . import reclaiming, steps
from .apart import LEFT, popped, run_apart
from .core import BasePool, log
from .places import holder_of
from .slot import AT_ONCE, Slot

T = TypeVar("T")

#: How long a sweep waits for the hooks of a slot where they may hang, in seconds; then it goes on with the next slot,
#: for which it waits half as long, so that it ends even if they all hang.
PATIENCE = 5.0


async def sweep(pool: BasePool[T], driver: Any) -> int:
    """Look at each idle slot once, and return how many resources were closed.

    Slots are taken out of the queue one at a time, and only if due, so that takers go on all the while.
    """
    last_sweep, pool._swept_at = pool._swept_at, pool._clock()
    tell_long_held(pool, last_sweep, pool._swept_at)
    reclaiming.reclaim(pool)
    closed, patience = 0, PATIENCE
    idle = pool._queue.snapshot()
    for number, slot in enumerate(idle):
        if number % reclaiming.BREATH == reclaiming.BREATH - 1:
            await driver.breathe()
        surplus = len(pool._by_resource) > pool._capacity and (slot.last_used_at or AT_ONCE) < last_sweep
        if (surplus or _needs_a_look(pool, slot)) and pool._queue.remove(slot):
            result = await _tended(pool, driver, slot, patience, look, surplus)
            if result is LEFT:
                patience /= 2
            else:
                closed += result
    with contextlib.suppress(Exception):  # logged and counted where it was raised; the next sweep tries again
        await fill(pool, driver, pool._min_idle, lambda: _idle_or_enough(pool), patience)
    return closed


async def _tended(
    pool: BasePool[T],
    driver: Any,
    slot: Slot[T],
    patience: float | None,
    step: Callable[..., Awaitable[Any]],
    *args: Any,
) -> Any:
    """The result of `step` on `slot`, which is queued again. `LEFT`, if it may hang and takes longer than `patience`."""
    claim = [slot]
    try:
        if patience is not None and driver.leaves(slot.lifecycle, patience):
            return await run_apart(pool, driver, claim, patience, step, *args)
        return await step(pool, driver, slot, *args)
    finally:
        if popped(claim) is not None:
            if slot.is_open or slot.retiring:
                pool._give_back(slot)
            else:
                pool._queue.sink(slot)


def _idle_or_enough(pool: BasePool[T]) -> int:
    """How many are idle or will be, or as many as are wanted where more would be overflow, which the next sweeps would
    close."""
    coming = len(pool._queue.queue) + len(pool._gate.opening)
    return coming if len(pool._by_resource) < pool._capacity else pool._min_idle


def _needs_a_look(pool: BasePool[T], slot: Slot[T]) -> bool:
    now = pool._clock()
    return slot.dropped is not None or pool._limits.exceeded(slot, now) is not None or _wants_check(pool, slot, now)


def _wants_check(pool: BasePool[T], slot: Slot[T], now: float) -> bool:
    """Whether the sweep is to see if the idle slot is alive, which also keeps its connection from timing out."""
    patience = pool._limits.check_after
    lifecycle = slot.lifecycle
    if not patience or lifecycle is not pool._lifecycle or not (lifecycle.offers("poll") or lifecycle.offers("check")):
        return False
    return slot.suspect or now - max(slot.checked_at, slot.last_used_at or AT_ONCE) >= patience


async def look(pool: BasePool[T], driver: Any, slot: Slot[T], surplus: bool) -> bool:
    """Close the resource of the slot, which is ours, if there is a reason; whether that was done."""
    was_open = slot.is_open
    if slot.dropped is not None:
        await steps.settle(pool, driver, slot)
    if not slot.is_open:
        return was_open
    now = pool._clock()
    reason = pool._limits.exceeded(slot, now) or ("overflow" if surplus else None)
    if reason is None and _wants_check(pool, slot, now):
        alive = steps.poll(pool, slot)
        if alive is not False and slot.lifecycle.offers("check"):
            alive = await steps.check(pool, driver, slot)
        if alive is False:
            reason = "check"
        else:
            slot.checked_at = now
            idle_until = (slot.last_used_at or 0.0) + pool._limits.quiet_time  # an open slot has been used or opened
            slot.due_at = min(slot.expires_at, idle_until, now + pool._quiet_time)
            reason = slot.condemned  # meanwhile, as by a pool that was closed and looks into its queue no more
    if reason is not None:
        await steps.close(pool, driver, slot, reason)
    return reason is not None


async def fill(pool: BasePool[T], driver: Any, least: int, count: Any, patience: float | None = None) -> int:
    """Open empty slots while `count()` is below `least`; return how many were opened. Raises what `open` does.

    With a `patience` it ends at an open that may hang and takes longer, in seconds.
    """
    opened = 0
    while count() < least and not pool._closed:
        slot = pool._queue.pop_empty()
        if slot is None or await _tended(pool, driver, slot, patience, open_idle) is LEFT:
            break
        opened += 1
    return opened


async def open_idle(pool: BasePool[T], driver: Any, slot: Slot[T]) -> None:
    """Open the resource of an empty slot for nobody yet."""
    pool._gate.opening[slot] = time.monotonic()  # not `begin`: nobody waits for this one, and it comes alone
    await steps.open_resource(pool, driver, slot)
    if slot.retiring:  # the pool has closed meanwhile, and looks into its queue no more
        await steps.close(pool, driver, slot, "close")


def tell_long_held(pool: BasePool[T], last_sweep: float, now: float) -> None:
    """Warn of each lease that has become older than `leak_after` since the last sweep: once for each."""
    if pool._leak_after is None:
        return
    for slot, record in pool._leases.copy().items():
        if last_sweep <= record[3] + pool._leak_after < now:
            holder = holder_of(slot, record, now)
            log.warning("%s: slot %s has not come back for long: %s", pool.name, holder.slot, holder)
            pool._observe("held_long", holder)

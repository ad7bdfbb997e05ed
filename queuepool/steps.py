"""What is done to a slot: opening, checking, resetting and closing its resource, and putting it back.

Each step is called by the slot's owner, with no lock held; `Pool` and `AsyncPool` share them.
"""

from __future__ import annotations

import time
from typing import Any, TypeVar

from . import forking, reclaiming
from .core import BasePool, LeaseRecord, log
from .errors import BadResource
from .slot import AT_ONCE, Slot

T = TypeVar("T")


async def open_resource(pool: BasePool[T], driver: Any, slot: Slot[T]) -> None:
    """Open the resource of the empty `slot`, for which `Gate.begin` has given leave. What `open` raises goes on."""
    gate, lifecycle = pool._gate, slot.lifecycle
    generation, began = pool._generation, time.monotonic()
    try:
        resource = await driver.call(lifecycle.open)
        if lifecycle is pool._lifecycle:
            _check_resource(pool, slot, resource)
        slot.note_opened(resource, pool._clock())
    except Exception as error:
        pool._counters.open_errors += 1
        gate.failed(slot, time.monotonic(), error, lifecycle.describe(error), lifecycle.transient(error))
        pool._note_failure(slot, "open", error)
        if gate.open_time is None:
            pool._queue.wake(pool._standby, None)  # it may be another's turn to try
        raise
    finally:
        gate.dropped(slot)
    if resource is not None:
        pool._by_resource[id(resource)] = slot
    pool._limits.opened(slot, pool._clock())
    # Looked at after the lifetime is set, so that whoever condemned the slot meanwhile is heard.
    if generation != pool._generation or slot.retiring:
        slot.condemn("retired" if slot.retiring else "recycle_all")
    seconds = time.monotonic() - began
    pool._counters.opens.add(seconds)
    first = gate.open_time is None
    recovered = gate.succeeded(slot, seconds)
    if recovered:
        log.warning("%s: resources open again", pool.name)
    if recovered or first:
        pool._queue.wake(pool._standby, None)  # how long to wait for a return is known now
    pool._limits.settled(slot, pool._quiet_time)
    pool._observe("opened", slot, seconds)


def _check_resource(pool: BasePool[T], slot: Slot[T], resource: Any) -> None:
    if resource is None:
        raise BadResource(f"{pool.name}: open returned None for slot {slot.name}; it must return the resource")
    other = pool._by_resource.get(id(resource))
    if other is not None and other.resource is resource:
        raise BadResource(f"{pool.name}: open returned for slot {slot.name} what {other.name} holds already")


async def close(pool: BasePool[T], driver: Any, slot: Slot[T], reason: str) -> Exception | None:
    """Close the resource of the open `slot`. Returns what `close` raised, logged and counted."""
    if reason == "check" and not slot.suspect:
        suspect_all(pool)
    slot.condemn(reason)  # an exception may strike before it is closed: then whoever has it next closes it
    pool._by_resource.pop(id(slot.resource), None)
    pool._counters.past_uses += slot.use_count
    pool._counters.closes[reason] += 1
    resource = slot.note_closed()
    failure = None
    if slot.inherited:
        slot.inherited = False
        forking.keep(resource)
    else:
        try:
            await driver.call(slot.lifecycle.close, resource)
        except Exception as error:
            failure = error
            pool._counters.close_errors += 1
            pool._note_failure(slot, "close", error)
    try:
        pool._observe("closed", slot, reason)
        return failure
    finally:
        failure = None  # it refers to this frame, and this frame to the slot


def poll(pool: BasePool[T], slot: Slot[T]) -> bool | None:
    """What the lifecycle's `poll` says; one that raises takes the resource for dead."""
    try:
        return slot.lifecycle.poll(slot.resource)
    except Exception as error:
        pool._note_failure(slot, "check", error)
        return False


async def check(pool: BasePool[T], driver: Any, slot: Slot[T]) -> bool:
    """Whether the lifecycle's `check` finds the resource alive; if not it is condemned, for the taker may have left."""
    try:
        alive = await driver.call(slot.lifecycle.check, slot.resource)
    except Exception as error:
        pool._note_failure(slot, "check", error)
        alive = False
    except BaseException:
        slot.condemn("check")  # what it was at may go on
        raise
    if alive is not None and not alive:
        slot.condemn("check")
        return False
    slot.suspect = False
    slot.checked_at = pool._clock()
    return True


def suspect_all(pool: BasePool[T]) -> None:
    """One was found dead, so each of those that lie idle is looked at before it is lent."""
    for slot in pool._queue.snapshot():
        slot.suspect = True
        slot.due_at = AT_ONCE


async def settle(pool: BasePool[T], driver: Any, slot: Slot[T], error: BaseException | None = None) -> None:
    """Make the open `slot` fit for the next user, or close its resource. `error` is what its user raised."""
    if slot.dropped is not None:
        reclaiming.tell(pool, slot, slot.dropped)
    reason = slot.condemned
    if reason is None and error is not None and pool._closes_on(error):
        reason = "exception"
    slot.last_used_at = pool._clock()
    if reason is None and slot.lifecycle.offers("reset"):
        try:
            await driver.call(slot.lifecycle.reset, slot.resource)
        except Exception as failure:
            pool._counters.reset_errors += 1
            pool._note_failure(slot, "reset", failure)
            reason = "reset"
        except BaseException:
            slot.condemn("reset")
            raise
    slot.dropped = None  # only now: who was to reset it may not even have begun
    reason = reason or pool._limits.exceeded(slot, slot.last_used_at)
    if reason is not None:
        await close(pool, driver, slot, reason)
    else:
        pool._limits.settled(slot, pool._quiet_time)


async def put(pool: BasePool[T], driver: Any, slot: Slot[T], error: BaseException | None = None) -> None:
    """Give back a slot whose lease has ended, which makes it the caller's own."""
    try:
        if slot.is_open:
            await settle(pool, driver, slot, error)
    finally:
        pool._give_back(slot)


async def put_leased(
    pool: BasePool[T], driver: Any, slot: Slot[T], lease: LeaseRecord, error: BaseException | None = None
) -> None:
    """`put`, of a slot whose `lease` the caller has just removed from the table."""
    if pool._nested != "new":
        entry = pool._nesting.get(lease[2])
        if entry is not None and entry[0] is slot:
            entry[1] -= 1
            if entry[1]:
                # Its holder has taken it more than once (`nested="same"`), so the lease goes on.
                pool._leases[slot] = lease
                return
            pool._nesting.pop(lease[2], None)
    if pool._watches_given_back:
        pool._observe("given_back", slot, pool._clock() - lease[3])
    await put(pool, driver, slot, error)

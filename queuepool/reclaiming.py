"""Finding slots that nobody could give back any more: dropped by their user, or lost to an asynchronous exception.

An exception may strike between any two instructions (KeyboardInterrupt, PyThreadState_SetAsyncExc), also between the
one that pops a slot and the one that stores it. Nothing can guard that instant, but it leaves a trace: the reference
count of the slot says that only the pool's tables refer to it. Whoever owns a slot has it in a variable, so no slot
that is on its way is ever taken for lost; and of two threads that look at once, each sees the other's reference, so
none is put back twice. A leased slot is taken back only if nothing but the slot refers to its resource either: a
cursor that holds its connection keeps it.
"""

from __future__ import annotations

import gc
import sys
import time
from typing import TYPE_CHECKING, Any

from .core import LeaseRecord, log
from .outage import Gate
from .places import holder_of
from .slot import AT_ONCE, Slot

if TYPE_CHECKING:
    from .core import BasePool
    from .stats import Holder

#: How much longer than the last search the pause before the next one is: it bounds the share of time spent searching.
PAUSE = 20
#: After this many slots the search lets other threads run.
BREATH = 256

_getrefcount = getattr(sys, "getrefcount", None)  # not every Python counts references; there this heals nothing

#: Free-threaded builds leave the last reference that a thread drops to the thread that made the object, which drops it
#: when it runs again. If that sleeps for ever, a collection does it.
_DELAYED = "t" in getattr(sys, "abiflags", "")


class _Tables:
    """As much of a pool as a search looks at; made once, to see what a lost slot's counts look like here."""

    def __init__(self) -> None:
        self._slots: dict[Slot[Any], None] = {}
        self._leases: dict[Slot[Any], Any] = {}
        self._by_resource: dict[int, Slot[Any]] = {}
        self._nesting: dict[object, list[Any]] = {}
        self._gate = Gate(1)


def _spare_references(tables: Any, slot: Slot[Any]) -> int:
    """How many references to `slot` there are besides those of the tables, as seen from two calls further up.

    The tables may change between the look at them and the count. Each take makes a lease of its own, and a slot enters
    and leaves each table in its owner's hands, so if all is as before after the count, nothing changed meanwhile.
    """
    if _getrefcount is None:
        return sys.maxsize
    lease, resource = tables._leases.get(slot), slot.resource
    listed = tables._by_resource.get(id(resource)) is slot
    opening = slot in tables._gate.opening
    known = (lease is not None) + listed + opening + sum(entry[0] is slot for entry in list(tables._nesting.values()))
    spare: int = _getrefcount(slot) - known
    unchanged = (
        slot in tables._slots
        and tables._leases.get(slot) is lease
        and slot.resource is resource
        and (tables._by_resource.get(id(resource)) is slot) is listed
        and (slot in tables._gate.opening) is opening
    )
    return spare if unchanged else sys.maxsize


def resource_references(slot: Slot[Any]) -> int:
    """How many references there are to the resource, as this very expression counts them."""
    return sys.maxsize if _getrefcount is None else _getrefcount(slot.resource)


def _calibrate() -> tuple[int, int]:
    tables = _Tables()
    slot: Slot[Any] = Slot("calibration")
    slot.resource = object()
    tables._slots[slot] = None
    del slot
    spare = alone = 0
    # In the same words as in `reclaim`, for the counts depend on how many variables hold the slot.
    for slot in list(tables._slots):
        spare, alone = _spare_references(tables, slot), resource_references(slot)
    return spare, alone


#: What the counts are of a slot that only the table of slots refers to, and of a resource that only its slot does.
_NOBODY, ALONE = (0, 0) if _getrefcount is None else _calibrate()


def heal(pool: BasePool[Any]) -> int:
    """`reclaim`, unless the last one was but a moment ago."""
    began = time.monotonic()
    if began < pool._heal_at and not pool._orphaned:
        return 0
    found = reclaim(pool)
    now = time.monotonic()
    pool._heal_at = now + PAUSE * (now - began)
    return found


def reclaim(pool: BasePool[Any]) -> int:
    """Put back every slot that nobody else could; return how many. Waits for nothing."""
    pool._orphaned = False
    found, unsure = _search(pool)
    if unsure and not found and not pool._queue.qsize():
        gc.collect()
        found, _ = _search(pool)
    return found


def _search(pool: BasePool[Any]) -> tuple[int, bool]:
    """How many slots were put back, and whether there may be others, whose counts are one too high."""
    found, looked_at, unsure = 0, 0, False
    for slot in list(pool._slots):
        looked_at += 1  # noqa: SIM113 - enumerate() would hold on to the slot
        if not looked_at % BREATH:
            time.sleep(0)  # others may want to run
        if (
            _spare_references(pool, slot) <= _NOBODY
            and (slot not in pool._leases or not slot.is_open or resource_references(slot) <= ALONE)
            # Again, because free-threaded builds add up a count from two parts, one after the other.
            and _spare_references(pool, slot) <= _NOBODY
        ):
            found += _reclaim_slot(pool, slot)
        elif _DELAYED and slot not in pool._leases and _spare_references(pool, slot) == _NOBODY + 1:
            unsure = True
    return found, unsure


def _reclaim_slot(pool: BasePool[Any], slot: Slot[Any]) -> int:
    if slot in pool._leases:
        return drop(pool, slot)
    pool._gate.dropped(slot)
    log.warning("%s: slot %s was lost between two instructions and is back", pool.name, slot.name)
    _count(pool, slot, None)
    if slot.is_open:
        slot.condemn("lost")
    pool._give_back(slot)
    return 1


def drop(pool: BasePool[Any], slot: Slot[Any]) -> int:
    """End the lease of a slot that its user dropped. Its next taker, or a sweep, resets it: this may be a finalizer."""
    record = pool._leases.pop(slot, None)
    if record is None:
        return 0
    entry = pool._nesting.get(record[2])
    if entry is not None and entry[0] is slot:
        pool._nesting.pop(record[2], None)
    slot.dropped = record
    slot.due_at = AT_ONCE
    pool._give_back(slot)
    return 1


def tell(pool: BasePool[Any], slot: Slot[Any], record: LeaseRecord) -> None:
    """Warn that a slot was dropped, and say where it had been taken."""
    holder = holder_of(slot, record, pool._clock())
    log.warning("%s: slot %s was taken and never put back, and is back: %s", pool.name, slot.name, holder)
    _count(pool, slot, holder)


def _count(pool: BasePool[Any], slot: Slot[Any], holder: Holder | None) -> None:
    pool._counters.reclaimed += 1
    pool._observe("reclaimed", slot, holder)

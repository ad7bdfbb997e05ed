"""Changing or ending a running pool: pause, resize, recycle everything, dispose, close."""

from __future__ import annotations

import contextlib
import sys
import time
from typing import Any, TypeVar

from . import options, reclaiming, steps
from .core import BasePool, log
from .errors import PoolClosed
from .lending import GRACE
from .slot import Slot
from .slotqueue import Waiter
from .stats import Holder

if sys.version_info < (3, 11):
    from exceptiongroup import ExceptionGroup

T = TypeVar("T")


def pause(pool: BasePool[T]) -> None:
    pool._paused = True
    pool._queue.hold()
    pool._prepare_hot_path()


def resume(pool: BasePool[T]) -> None:
    pool._paused = False
    pool._prepare_hot_path()
    pool._queue.release()


async def resize(pool: BasePool[T], driver: Any, capacity: int) -> None:
    capacity = options.count("capacity", capacity, least=1)
    if pool._min_idle > capacity:
        raise ValueError(f"capacity must be at least min_idle ({pool._min_idle}), not {capacity!r}")
    if pool._closed:
        raise PoolClosed(f"{pool.name}: the pool is closed")
    with pool._resizing:
        pool._capacity = capacity
        surplus = _mark_retiring(pool, capacity + pool._overflow)
    for slot in surplus:
        if pool._queue.remove(slot):
            await steps.put(pool, driver, slot)


def _mark_retiring(pool: BasePool[T], target: int) -> list[Slot[T]]:
    """Add slots, or mark those that shall go, until `target` stay. The empty go first, then the idle, then the leased."""
    staying = [slot for slot in list(pool._slots) if not slot.retiring]
    if len(staying) < target:
        if pool._lifecycle is not None:  # else the program puts in what it wants to add
            pool._add_slots(target - len(staying))
        return []
    order = {slot: rank for rank, slot in enumerate([*pool._queue._vacant, *pool._queue.snapshot()])}
    staying.sort(key=lambda slot: order.get(slot, len(order)))
    surplus = staying[: len(staying) - target]
    for slot in surplus:
        slot.retiring = True
        slot.condemn("resize")
    return surplus


async def recycle_all(pool: BasePool[T], driver: Any, reason: str) -> list[Exception]:
    """Close what is idle now, what is leased at its put, and what is being opened after its first use."""
    pool._generation += 1
    # All of them, for some may be on their way between the queue and the lease table.
    for slot in list(pool._slots):
        if slot.is_open:
            slot.condemn(reason)
    errors = []
    for slot in pool._queue.snapshot():
        if pool._queue.remove(slot):
            try:
                if slot.is_open:
                    error = await steps.close(pool, driver, slot, reason)
                    if error is not None:
                        errors.append(error)
            finally:
                pool._give_back(slot)
    return errors


async def dispose(pool: BasePool[T], driver: Any) -> None:
    errors = await recycle_all(pool, driver, "dispose")
    if errors:
        raise ExceptionGroup(f"{pool.name}: {len(errors)} resources failed to close", errors)


async def close(pool: BasePool[T], driver: Any, timeout: float | None) -> list[Holder]:
    timeout = options.number_or_none("timeout", timeout)
    deadline = None if timeout is None else time.monotonic() + timeout
    pool._closed = True
    pool._prepare_hot_path()
    for slot in list(pool._slots):
        slot.retiring = True
        slot.condemn("close")
        del slot  # for one that is referred to here would not count as lost or dropped below
    for line in (pool._line, pool._standby):
        pool._queue.wake(line, PoolClosed(f"{pool.name}: the pool was closed"))
    await _drain(pool, driver, deadline)
    await _wait_for_leases(pool, driver, deadline)
    return pool.holders()


async def _drain(pool: BasePool[T], driver: Any, deadline: float | None) -> None:
    """Close what is in the queue; where that may hang, the caller leaves it to the background at the deadline."""
    lifecycle = pool._lifecycle
    if deadline is not None and lifecycle is not None and pool._queue.queue and driver.leaves(lifecycle, deadline):
        waiter = driver.waiter()
        try:
            driver.spawn(_drained(pool, driver, waiter), f"{pool.name} close")
        except RuntimeError:
            log.debug("%s: no thread to close in, so its caller does it", pool.name)
        else:
            if not await driver.wait(waiter, max(0.0, deadline + GRACE - time.monotonic())):
                log.warning("%s: a resource does not close in time; what is left closes in the background", pool.name)
            return
    await _drained(pool, driver)


async def _drained(pool: BasePool[T], driver: Any, waiter: Waiter | None = None) -> None:
    while True:
        slot = pool._queue.pop_any()
        if slot is None:
            break
        await steps.put(pool, driver, slot)
    if waiter is not None:
        waiter.give(None)


async def _wait_for_leases(pool: BasePool[T], driver: Any, deadline: float | None) -> None:
    """Wait until the last slot has come home, as the wakers in `BasePool._forget` tell, but not beyond `deadline`."""
    waiter = driver.waiter()
    pool._closing.append(waiter)  # before the slots are looked at, so that none can come home unseen
    try:
        while pool._slots and (deadline is None or time.monotonic() < deadline):
            seconds = driver.patience if deadline is None else min(driver.patience, deadline - time.monotonic())
            if await driver.wait(waiter, seconds):
                return
            reclaiming.heal(pool)
            await _drain(pool, driver, deadline)
    finally:
        with contextlib.suppress(ValueError):
            pool._closing.remove(waiter)

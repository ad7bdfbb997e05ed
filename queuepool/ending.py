"""Changing or ending a running pool: pause, resize, recycle everything, dispose, close."""

from __future__ import annotations

import contextlib
import sys
import time
from typing import Any, TypeVar

from . import options, reclaiming, steps
from .core import BasePool, log
from .errors import PoolClosed
from .slot import Slot
from .stats import Holder

if sys.version_info < (3, 11):
    from exceptiongroup import ExceptionGroup

T = TypeVar("T")

#: How long `close` waits, beyond its timeout, for what is idle to close, in seconds: then it is taken for hung.
CLOSE_GRACE = 1.0


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
        pool._queue.wake(line, None)
    await _drain(pool, driver, deadline)
    await _wait_until_home(pool, driver, deadline)
    left = len(pool._slots) - len(pool._leases)
    if left > 0:
        log.warning(
            "%s: %d slots are still being closed, reset or opened; that goes on in the background", pool.name, left
        )
    return pool.holders()


async def _drain(pool: BasePool[T], driver: Any, deadline: float | None) -> None:
    """Close what is in the queue; where that may hang each by itself, so that no caller and no other slot waits for it."""
    apart = deadline is not None and pool._lifecycle is not None and driver.leaves(pool._lifecycle, deadline)
    while True:
        slot = pool._queue.pop_any()
        if slot is None:
            return
        slot.retiring = True  # one that joined as the pool was closed does not know it yet
        slot.condemn("close")
        if apart and slot.is_open:
            try:
                driver.spawn(steps.put(pool, pool._driver, slot), f"{pool.name} close")
                continue
            except RuntimeError:
                log.debug("%s: no thread to close %s in, so the caller of close does it", pool.name, slot.name)
        await steps.put(pool, driver, slot)


async def _wait_until_home(pool: BasePool[T], driver: Any, deadline: float | None) -> None:
    """Wait until the last slot has come home, as the wakers in `BasePool._forget` tell: for what is out on loan until
    `deadline`, for what is being closed or opened `CLOSE_GRACE` longer."""
    waiter = driver.waiter()
    pool._closing.append(waiter)  # before the slots are looked at, so that none can come home unseen
    try:
        while pool._slots:
            seconds = driver.patience
            if deadline is not None:
                grace = CLOSE_GRACE if len(pool._slots) > len(pool._leases) else 0.0
                seconds = min(seconds, deadline + grace - time.monotonic())
                if seconds <= 0.0:
                    return
            if await driver.wait(waiter, seconds):
                return
            reclaiming.heal(pool)
            await _drain(pool, driver, deadline)
    finally:
        with contextlib.suppress(ValueError):
            pool._closing.remove(waiter)

"""A pool whose users and resources notice what must never happen, for scenarios of the core."""

from __future__ import annotations

import gc
import sys
import weakref
from typing import Any

import queuepool.apart
import queuepool.core
import queuepool.ending
import queuepool.lending
import queuepool.outage
import queuepool.pool
import queuepool.reclaiming
import queuepool.slotqueue
import queuepool.steps
import queuepool.threads
import queuepool.turns
import queuepool.upkeep
from queuepool import Exhausted, Pool, PoolClosed, Slot

from ..support import FREE_THREADED
from .standins import clock, pause, sleep

CORE = [
    queuepool.apart,
    queuepool.core,
    queuepool.ending,
    queuepool.lending,
    queuepool.steps,
    queuepool.outage,
    queuepool.pool,
    queuepool.reclaiming,
    queuepool.slotqueue,
    queuepool.threads,
    queuepool.turns,
    queuepool.upkeep,
]


class Resource:
    """Knows whether somebody uses it."""

    def __init__(self) -> None:
        self.closed = self.in_use = False


class Users:
    """A pool, what its users do in one thread each, and what must hold when they have done it."""

    def __init__(
        self,
        capacity: int = 1,
        filled: bool = True,
        max_idle_time: float | None = 300.0,
        max_opening: int = 4,
        quantum: float = 0.0,
    ) -> None:
        self.faults: list[str] = []
        # Weakly: a resource that anyone but its slot refers to counts as in use.
        self._opened: list[weakref.ref[Resource]] = []
        self.pool: Pool[Resource] = Pool(
            "explored",
            capacity,
            max_idle_time,
            open=self._open,
            close=self._close,
            max_opening=max_opening,
            jitter=0.0,
            clock=clock,
            quantum=quantum,
        )
        if filled:
            self.pool.prefill()

    def _open(self) -> Resource:
        pause()
        resource = Resource()
        self._opened.append(weakref.ref(resource))
        return resource

    def _close(self, resource: Resource) -> None:
        # An error would go no further than the pool's log.
        if resource.closed or resource.in_use:
            self.faults.append("closed twice" if resource.closed else "closed while in use")
        resource.closed = True
        pause()

    @property
    def open_resources(self) -> set[Resource]:
        """Those that live."""
        opened = (reference() for reference in self._opened)
        return {each for each in opened if each is not None and not each.closed}

    def idle_too_long(self) -> Users:
        """Let time pass, so that each idle resource is due."""
        sleep(1000.0)
        return self

    # -- bodies of threads

    def use(self, timeout: float | None = None) -> None:
        """Take, use and put."""
        self.put(self.take(timeout))

    def try_to_use(self) -> None:
        """The same, by someone who waits for a second, of a pool that may be closed."""
        try:
            slot = self.take(1.0)
        except (Exhausted, PoolClosed):
            return
        self.put(slot)

    def put_in_turn(self, slot: Slot[Resource]) -> None:
        """Put what was taken in a turn that has just begun."""
        assert self.pool._turns is not None
        self.pool._turns.begin(slot)
        self.put(slot)

    def use_in_with(self) -> None:
        """The same through the context manager."""
        with self.pool.get() as resource:
            self._touch(resource)

    def take(self, timeout: float | None = None) -> Slot[Resource]:
        """Take and use."""
        slot = self.pool.take(timeout)
        self._touch(slot.resource)
        return slot

    def put(self, slot: Slot[Resource]) -> None:
        """Put."""
        self.pool.put(slot)

    def _touch(self, resource: Resource) -> None:
        if resource is None or resource.closed or resource.in_use:
            self.faults.append(f"lent though {vars(resource) if resource else 'empty'}")
        resource.in_use = True
        pause()
        resource.in_use = False

    # -- checks

    def check(self) -> None:
        """No slot is lost or doubled, nobody waits, and what is open is what slots hold.

        A sweep may be needed to close what was marked on its way to the queue.
        """
        pool = self.pool
        self._check_nobody_waits()
        pool.recycle()
        slots: Any = pool._queue
        assert not self.faults
        queued = [*slots.queue, *slots._vacant]
        assert len(queued) == len(set(queued)) == len(pool._slots) == pool.capacity
        assert set(queued) == set(pool._slots)
        assert not pool._leases
        held = {slot.resource for slot in queued if slot.is_open}
        assert held == self.open_resources
        assert set(pool._by_resource) == {id(resource) for resource in held}
        assert all(slot.is_open for slot in slots.queue)
        assert not any(slot.is_open for slot in slots._vacant)

    def check_closed(self) -> None:
        """Everything is closed and gone."""
        assert not self.faults
        assert not self.pool._slots
        assert not self.pool._leases
        assert self.pool.stats().slots == 0
        assert not self.open_resources
        self._check_nobody_waits()

    def check_heals(self) -> None:
        """After two sweeps every slot can be taken, whatever was interrupted, and nothing leaks."""
        pool = self.pool
        # An interrupt in the cleanup of an except makes a cycle; a reference may be left to another thread to drop.
        if sys.version_info < (3, 10) or FREE_THREADED:
            gc.collect()
        pool.recycle()
        pool.recycle()
        slots = [pool.take(0) for _ in range(pool.capacity)]
        assert len(set(slots)) == pool.capacity
        assert self.open_resources == {slot.resource for slot in slots}
        for slot in slots:
            pool.put(slot)
        assert not self.faults
        self._check_nobody_waits()

    def _check_nobody_waits(self) -> None:
        pool = self.pool
        assert not pool._line
        assert not pool._standby
        assert not pool._gate.opening

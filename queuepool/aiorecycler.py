"""The task that sweeps an `AsyncPool` at intervals."""

from __future__ import annotations

import asyncio
import weakref
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from . import options, upkeep
from .core import log
from .loops import LOOPS, LoopWaiter, OwnTask

if TYPE_CHECKING:
    from .aio import AsyncPool

#: In a recycler's task, and in those that its sweeps begin: what ends it.
_ending: ContextVar[LoopWaiter | None] = ContextVar("_ending", default=None)


class AsyncRecycler:
    """Sweeps the pool every `interval` seconds, from `start` on. Holds the pool weakly, so a dropped pool ends
    it; survives every error of a sweep, which is logged and counted.
    """

    def __init__(self, pool: AsyncPool[Any], interval: float) -> None:
        self.interval = options.number("interval", interval)
        if not self.interval:
            raise ValueError("interval must be more than 0 seconds")
        self._pool = weakref.ref(pool, self.end)
        self._name = f"{pool.name} recycler"
        self._stopping: LoopWaiter | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, unless begun, in the running loop."""
        if self._task is None or self._task.done():
            self._stopping = LoopWaiter()
            self._task = LOOPS.spawn(_sweep_for_ever(self._pool, self._stopping, self.interval), self._name)

    def end(self, _: Any = None) -> None:
        """End the task, after the sweep that it may be at. From any thread or finalizer."""
        if self._stopping is not None:
            self._stopping.give(None)

    async def stop(self) -> None:
        """End the task, and wait for its sweep to end unless called by that very sweep."""
        self.end()
        if self._task is not None and self._stopping is not _ending.get():
            await asyncio.wait([self._task])

    def restarted(self, pool: AsyncPool[Any]) -> AsyncRecycler:
        """Another like this one, for the child of a fork; it starts when the child's loop first awaits the pool."""
        return AsyncRecycler(pool, self.interval)


async def _sweep_for_ever(ref: weakref.ref[AsyncPool[Any]], stopping: LoopWaiter, interval: float) -> None:
    _ending.set(stopping)
    while not await stopping.wait(interval):
        pool = ref()
        if pool is None:
            return
        try:
            await upkeep.sweep(pool, OwnTask(in_place=False))
        except Exception as error:
            pool._counters.sweep_errors += 1
            log.exception("%s: a sweep failed; the recycler goes on", pool.name)
            pool._observe("failed", "sweep", error)
        del pool  # while this task sleeps, the pool must be free to go

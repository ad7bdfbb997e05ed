"""The daemon thread that sweeps a pool at intervals."""

from __future__ import annotations

import threading
import weakref
from typing import Any

from . import options
from .core import log
from .pool import Pool


class Recycler:
    """Calls `pool.recycle()` every `interval` seconds. Holds the pool weakly, so a dropped pool ends it; survives
    every error of a sweep, which is logged and counted.
    """

    def __init__(self, pool: Pool[Any], interval: float) -> None:
        self.interval = options.number("interval", interval)
        if not self.interval:
            raise ValueError("interval must be more than 0 seconds")
        self._stopping = stopping = threading.Event()
        # The end of the pool wakes the thread, which would else sleep on to the end of its interval.
        ref = weakref.ref(pool, lambda _: stopping.set())
        self._thread = threading.Thread(
            target=_sweep_for_ever, args=(ref, stopping, self.interval), name=f"{pool.name} recycler", daemon=True
        )
        self._thread.start()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def stop(self, wait: bool = True) -> None:
        """End the thread, and `wait` for its sweep to end unless called by that very sweep."""
        self._stopping.set()
        if wait and self._thread is not threading.current_thread():
            self._thread.join()

    def restarted(self, pool: Pool[Any]) -> Recycler:
        """Another like this one, for the child of a fork, in which this one's thread does not run."""
        return Recycler(pool, self.interval)


def _sweep_for_ever(ref: weakref.ref[Pool[Any]], stopping: threading.Event, interval: float) -> None:
    while not stopping.wait(interval):
        pool = ref()
        if pool is None:
            return
        try:
            pool.recycle()
        except Exception as error:
            pool._counters.sweep_errors += 1
            log.exception("%s: a sweep failed; the recycler goes on", pool.name)
            pool._observe("failed", "sweep", error)
        del pool  # while this thread sleeps, the pool must be free to go

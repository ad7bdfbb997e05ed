"""The daemon thread that sweeps a pool at intervals."""

from __future__ import annotations

import contextlib
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
        # Held until the thread shall end. Not an Event: a collection may strike in the thread that waits for it, and end
        # the pool there, and an Event's `set` would wait for a lock that `wait` holds.
        self._running = running = threading.Lock()
        running.acquire()
        # The end of the pool wakes the thread, which would else sleep on to the end of its interval.
        ref = weakref.ref(pool, lambda _: _release(running))
        self._thread = threading.Thread(
            target=_sweep_for_ever, args=(ref, running, self.interval), name=f"{pool.name} recycler", daemon=True
        )
        self._thread.start()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def stop(self, wait: bool = True) -> None:
        """End the thread, and `wait` for its sweep to end unless called by that very sweep."""
        _release(self._running)
        if wait and self._thread is not threading.current_thread():
            self._thread.join()

    def restarted(self, pool: Pool[Any]) -> Recycler | None:
        """Another like this one, for the child of a fork, in which this one's thread does not run."""
        return None if pool._closed else Recycler(pool, self.interval)


def _release(running: threading.Lock) -> None:
    with contextlib.suppress(RuntimeError):  # it was released before
        running.release()


def _sweep_for_ever(ref: weakref.ref[Pool[Any]], running: threading.Lock, interval: float) -> None:
    while not running.acquire(timeout=min(interval, threading.TIMEOUT_MAX)):
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

"""A deadline for calls into libpq, which know none: what takes too long has its socket shut down."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from types import TracebackType

from psycopg2.extensions import connection

from .pgsocket import sever

#: How long the watching thread stays without work, and how often it looks while it has some, in seconds.
LINGER, INTERVAL = 10.0, 0.25


class Deadline:
    """`with Deadline(conn, seconds):` ends with an error of psycopg2's what lasts longer. Costs no thread of its own."""

    __slots__ = ("_conn", "_ends_at", "passed")

    def __init__(self, conn: connection, seconds: float) -> None:
        self._conn = conn
        self._ends_at = time.monotonic() + seconds
        #: Whether it came, and the socket was shut down.
        self.passed = False

    def __enter__(self) -> Deadline:
        try:
            _watched[self] = None
            if not _state.running:
                _start()
        except BaseException:
            _watched.pop(self, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        _watched.pop(self, None)

    def enforce(self, now: float) -> None:
        if now >= self._ends_at:
            self.passed = True
            _watched.pop(self, None)
            sever(self._conn)


class _State:
    """Guarded by `starting`, which is held for the decision to start or end the thread and nothing else."""

    def __init__(self) -> None:
        self.running = False
        self.starting = threading.Lock()


#: What is being watched; each entry is put in and taken out in one step.
_watched: dict[Deadline, None] = {}
_state = _State()


def _start() -> None:
    with _state.starting:
        if not _state.running:
            with contextlib.suppress(RuntimeError):  # no thread is to be had: better unwatched for once than not at all
                threading.Thread(target=_watch, name="queuepool deadlines", daemon=True).start()
                _state.running = True


def _watch() -> None:
    idle_since = time.monotonic()
    while True:
        # Looking now and then is cheaper than being told of every call, most of which last less than a millisecond.
        time.sleep(INTERVAL)
        now = time.monotonic()
        for deadline in list(_watched):
            deadline.enforce(now)
            idle_since = now
        if now - idle_since > LINGER:
            with _state.starting:
                # Whoever comes in after this sees it and starts another; whoever came before is seen here.
                _state.running = False
                if not _watched:
                    return
                _state.running = True


def _after_in_child() -> None:
    """The parent's thread is not here, and its calls are not the child's to end."""
    _watched.clear()
    _state.__init__()  # type: ignore[misc]  # in place, for others hold on to it


if hasattr(os, "register_at_fork"):  # pragma: no branch - Windows has no fork
    os.register_at_fork(after_in_child=_after_in_child)

"""How threads wait and call: the driver that `Pool` runs the core's flows with.

The flows are written once, as coroutines, and a *driver* does for them what differs between threads and asyncio. With
this driver nothing in a flow ever suspends: each step blocks in place, and `run` gets the result in one go.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from .lifecycle import AnyLifecycle
from .slotqueue import Waiter

R = TypeVar("R")

#: The longest time in seconds that a lock can be waited for at once.
_LONGEST = threading.TIMEOUT_MAX

_log = logging.getLogger("queuepool")


class ThreadWaiter(Waiter):
    """Waits on a lock of its own: `Condition` may, when interrupted, release a lock that is another's."""

    __slots__ = ("_lock",)

    def __init__(self, owner: object = None) -> None:
        super().__init__(owner)
        self._lock = threading.Lock()
        self._lock.acquire()

    def wake(self) -> None:
        self._lock.release()

    def wait(self, seconds: float | None) -> bool:
        """Block until given something, at most `seconds`; whether it was."""
        if seconds is None:
            return self._lock.acquire()
        # On the way of every take that waits: `min` and `max` would take longer than all the rest of this.
        return self._lock.acquire(True, 0.0 if seconds < 0.0 else seconds if seconds < _LONGEST else _LONGEST)


class ThreadDriver:
    """Blocks where `asyncio`'s driver awaits."""

    #: How long a waiter sleeps before it looks whether something went wrong, in seconds.
    patience = 1.0

    def current(self) -> object:
        return threading.get_ident()

    def waiter(self) -> ThreadWaiter:
        return ThreadWaiter(threading.get_ident())

    def leaves(self, lifecycle: AnyLifecycle[Any], deadline: float | None) -> bool:
        """Whether a step of `lifecycle` must be run in such a way that its caller can leave before it ends."""
        return lifecycle.may_hang and deadline is not None

    async def wait(self, waiter: ThreadWaiter, seconds: float | None) -> bool:
        return waiter.wait(seconds)

    async def call(self, function: Callable[..., Any], *args: Any) -> Any:
        return function(*args)

    async def breathe(self) -> None:
        """Let others run, in the middle of a long sweep."""
        time.sleep(0)

    def spawn(self, flow: Coroutine[Any, Any, None], name: str) -> None:
        """Run `flow` in a thread of its own, which does not keep the program from ending."""
        thread = threading.Thread(target=_run_logged, args=(flow,), name=name, daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the system has no more threads
            flow.close()
            raise


def _run_logged(flow: Coroutine[Any, Any, None]) -> None:
    try:
        run(flow)
    except Exception:
        _log.exception("a step in the background failed")


def run(flow: Coroutine[Any, Any, R]) -> R:
    """The result of a flow whose driver is a `ThreadDriver`."""
    try:
        flow.send(None)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]
    finally:
        flow.close()  # an exception may strike before the first step; unstarted, it would warn
    raise RuntimeError("a flow of threads was suspended")  # pragma: no cover - only a defect of the flows leads here


THREADS = ThreadDriver()

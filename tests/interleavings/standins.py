"""Stand-ins for locks, events, threads and time, whose waiting is a choice of the scheduler.

They behave like the originals of `threading` and `time` for the code under test; each operation on
them is one step. Used by the driver (while a scenario is built or checked), they work as long as
nothing has to be waited for. Where the original is a call into C, an interruption may follow it;
that is `scheduler.after`. Entering a ``with`` is the exception: CPython delivers nothing there.
"""

from __future__ import annotations

import threading
import types
from collections.abc import Callable, Mapping
from typing import Any, Optional

from .scheduler import Scheduler
from .worker import Task

scheduler = Scheduler()  # tracing and patched modules belong to the process, so there is one


class Lock:
    """Stands in for `threading.Lock`."""

    def __init__(self) -> None:
        self._held = False

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        acquired = self._acquire(blocking, timeout)
        scheduler.after()
        return acquired

    def release(self) -> None:
        self._release()
        scheduler.after()

    def locked(self) -> bool:
        scheduler.before()
        return self._held

    def _acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        scheduler.before()
        patience = timeout if 0 <= timeout < threading.TIMEOUT_MAX else None
        if self._held and not (blocking and scheduler.block(self._free, patience)):
            return False
        self._held = True
        return True

    def _release(self) -> None:
        scheduler.before()
        if not self._held and not scheduler.ending:
            raise RuntimeError("release unlocked lock")
        self._held = False

    def _free(self) -> bool:
        return not self._held

    def __enter__(self) -> bool:
        return self._acquire()

    def __exit__(self, *error: object) -> None:
        self._release()
        if error[0] is None:
            scheduler.after()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {'held' if self._held else 'free'}>"


class RLock(Lock):
    """Stands in for `threading.RLock`, with what `Condition` asks of it."""

    def __init__(self) -> None:
        super().__init__()
        self._owner: Optional[Task] = None
        self._count = 0

    def _acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        if not self._is_owned():
            if not super()._acquire(blocking, timeout):
                return False
            self._owner = scheduler.current
        self._count += 1
        return True

    def _release(self) -> None:
        if not self._is_owned() and not scheduler.ending:
            raise RuntimeError("cannot release un-acquired lock")
        self._count -= 1
        if not self._count:
            self._owner = None
            super()._release()

    def _is_owned(self) -> bool:
        return self._held and self._owner is scheduler.current

    def _release_save(self) -> int:
        count, self._count = self._count, 1
        self._release()
        return count

    def _acquire_restore(self, count: int) -> None:
        self._acquire()
        self._count = count


class Event:
    """Stands in for `threading.Event`."""

    def __init__(self) -> None:
        self._set = False

    def is_set(self) -> bool:
        scheduler.before()
        return self._set

    def set(self) -> None:
        scheduler.before()
        self._set = True
        scheduler.after()

    def clear(self) -> None:
        scheduler.before()
        self._set = False

    def wait(self, timeout: Optional[float] = None) -> bool:
        scheduler.before()
        came = self._set or scheduler.block(lambda: self._set, timeout) or self._set
        scheduler.after()
        return came


class Thread:
    """Stands in for `threading.Thread`, for code that starts its own."""

    def __init__(
        self,
        group: None = None,
        target: Optional[Callable[..., object]] = None,
        name: Optional[str] = None,
        args: tuple[Any, ...] = (),
        kwargs: Optional[Mapping[str, Any]] = None,
        *,
        daemon: Optional[bool] = None,
    ) -> None:
        self._target, self._args, self._kwargs = target, args, kwargs or {}
        self.name = name or str(getattr(target, "__name__", type(self).__name__))
        self.daemon = bool(daemon)
        self._task: Optional[Task] = None

    def start(self) -> None:
        scheduler.before()
        if self._task is not None:
            raise RuntimeError("threads can only be started once")
        self._task = scheduler.spawn(self.run, self.name, self.daemon)

    def run(self) -> None:
        try:
            if self._target is not None:
                self._target(*self._args, **self._kwargs)
        finally:
            del self._target, self._args, self._kwargs

    def join(self, timeout: Optional[float] = None) -> None:
        scheduler.before()
        if self._task is None:
            raise RuntimeError("cannot join thread before it is started")
        if self.is_alive():
            scheduler.block(lambda: not self.is_alive(), timeout)

    def is_alive(self) -> bool:
        return self._task is not None and not self._task.done

    @property
    def ident(self) -> Optional[int]:
        return None if self._task is None else self._task.worker.thread.ident


def clock() -> float:
    """The virtual time in seconds; it moves only when a timed wait runs out."""
    return scheduler.now


def pause() -> None:
    """A switch point of the scenario's own."""
    scheduler.before()


def sleep(seconds: float) -> None:
    """Stands in for `time.sleep`: a wait that nothing but time ends."""
    scheduler.before()
    scheduler.block(lambda: False, seconds)


def _on_standins(original: type) -> type:
    """A class of `threading` made of locks, with its methods looking up the stand-ins instead."""
    names = {
        **vars(threading),
        "_allocate_lock": Lock,
        "Lock": Lock,
        "RLock": RLock,
        "_time": clock,
    }
    methods = {}
    for name, value in vars(original).items():
        if isinstance(value, types.FunctionType):
            method = types.FunctionType(value.__code__, names, name, value.__defaults__, value.__closure__)
            method.__kwdefaults__ = value.__kwdefaults__
            methods[name] = method
    names[original.__name__] = made = type(original.__name__, (), methods)
    return made


Condition = _on_standins(threading.Condition)

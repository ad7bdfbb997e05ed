"""Puts the stand-ins in the place of what the modules under test have imported."""

from __future__ import annotations

import _thread
import contextlib
import threading
import time
import types
from collections.abc import Iterator
from typing import Any

from .standins import Condition, Event, Lock, RLock, Thread, clock, sleep


class _Module:
    """A module of which some names are replaced."""

    def __init__(self, original: types.ModuleType, **replaced: object) -> None:
        self._original = original
        vars(self).update(replaced)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._original, name)


_STAND_INS: list[tuple[object, object]] = [
    (_thread.allocate_lock, Lock),
    (threading.Lock, Lock),
    (threading.RLock, RLock),
    (threading.Event, Event),
    (threading.Condition, Condition),
    (threading.Thread, Thread),
    (time.monotonic, clock),
    (time.perf_counter, clock),
    (time.time, clock),
    (time.sleep, sleep),
    (_thread, _Module(_thread, allocate_lock=Lock, RLock=RLock)),
    (
        threading,
        _Module(threading, Lock=Lock, RLock=RLock, Event=Event, Condition=Condition, Thread=Thread),
    ),
    (time, _Module(time, monotonic=clock, perf_counter=clock, time=clock, sleep=sleep)),
]


@contextlib.contextmanager
def patched(*modules: types.ModuleType, **names: object) -> Iterator[None]:
    """Replace all these modules have imported from `threading`, `_thread` and `time`.

    `names` are further names to set in each of the modules. Two things are out of reach: default
    arguments (pass ``clock=clock`` yourself) and base classes; a module that subclasses `Thread`
    must be imported while patched.
    """
    saved = []
    try:
        for module in modules:
            for name, value in list(vars(module).items()):
                for original, stand_in in _STAND_INS:
                    if value is original:
                        saved.append((module, name, value))
                        setattr(module, name, stand_in)
            for name, value in names.items():
                saved.append((module, name, getattr(module, name)))
                setattr(module, name, value)
        yield
    finally:
        for module, name, value in reversed(saved):
            setattr(module, name, value)

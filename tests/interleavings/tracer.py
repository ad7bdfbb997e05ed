"""Tells the scheduler of the points in the code under test, by `sys.settrace`, before Python 3.12.

No reference to a frame or to its locals is kept beyond the event, so that code which looks at
reference counts sees its own. But CPython 3.9 and 3.10 copy the locals of each frame that they have
reported, and what is in the copy counts twice.
"""

from __future__ import annotations

import sys
from types import CodeType, FrameType
from typing import Any, Optional, Protocol

from .points import ARM, CHECK, CHECKS_AFTER_PYTHON, EDGE, HOLD, SWITCH, Points
from .worker import Task, raise_if_any

_CHECKS_BEFORE_HANDLERS = sys.version_info < (3, 10)


class Host(Protocol):
    """What the tracer asks of the scheduler."""

    current: Optional[Task]

    def point(self, switch: bool, deliver: bool) -> Optional[BaseException]:
        """Let another task run; what is to be raised in the caller, if anything."""


class Tracer:
    """Traces the files under test, in each thread that calls `start`."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self.aim(frozenset(), False, False)

    def aim(self, files: frozenset[str], every_opcode: bool, interrupts: bool) -> None:
        """Choose the files, and what counts as a point there."""
        self._files = files
        self._points = Points(sorted(files), every_opcode)
        self._interrupts = interrupts
        self._locals: dict[int, tuple[Any, CodeType]] = {}
        self._edges: dict[int, frozenset[int]] = {}

    def leave(self) -> None:
        """Forget the code of the files."""
        self._locals.clear()
        self._edges.clear()

    def start(self) -> None:
        """Trace the calling thread from here on."""
        sys.settrace(self._trace)

    def stop(self) -> None:
        """Trace the calling thread no more."""
        sys.settrace(None)

    def _trace(self, frame: FrameType, event: str, arg: object) -> Any:
        code = frame.f_code
        task, traced = self._host.current, code.co_filename in self._files
        if task is not None and (traced or not CHECKS_AFTER_PYTHON):
            task.checked = traced
        if not traced:
            return None
        known = self._locals.get(id(code))
        if known is None:  # kept with the code, lest its id be used again
            known = self._locals[id(code)] = (self._local(code), code)
        frame.f_trace = known[0]  # before f_trace_opcodes, or 3.12 and 3.13 miss the first frame
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        return known[0]

    def _local(self, code: CodeType) -> Any:
        flags = self._points.flags_of(code)
        if self._interrupts:
            edges = frozenset(offset for offset, flag in flags.items() if flag & EDGE)
            self._edges[id(code)] = edges
            return self._local_with_interrupts(flags)
        switches = frozenset(offset for offset, flag in flags.items() if flag & SWITCH)
        host = self._host

        def local(frame: FrameType, event: str, arg: object) -> Any:
            if event == "opcode" and frame.f_lasti in switches and host.current:
                host.current.fresh = True
                host.point(True, False)
            return local

        return local

    def _local_with_interrupts(self, flags: dict[int, int]) -> Any:
        host = self._host

        def local(frame: FrameType, event: str, arg: object) -> Any:
            task = host.current
            if event == "opcode" and task:
                flag = flags.get(frame.f_lasti, 0)
                if flag & ARM:
                    sys.setprofile(self._on_return)
                elif sys.getprofile() is not None:
                    sys.setprofile(None)
                deliver = task.checked and not flag & HOLD
                task.checked = bool(flag & CHECK)
                task.fresh = bool(flag & SWITCH)
                if deliver or task.fresh:
                    self._raise_if_any(host.point(task.fresh, deliver))
            elif event == "exception" and task:
                task.checked = _CHECKS_BEFORE_HANDLERS  # a call that raised is followed by no check
            return local

        return local

    def _raise_if_any(self, error: BaseException | None) -> None:
        if error is not None:
            sys.setprofile(self._retrace)
            try:
                raise error
            finally:
                del error

    def _on_return(self, frame: FrameType, event: str, arg: object) -> None:
        """A profile function: makes a call into C raise, rather than the opcode after it."""
        if event == "call":
            sys.setprofile(None)  # of a Python function, which is traced itself
        elif event == "c_return" and frame.f_lasti in self._edges.get(id(frame.f_code), ()):
            raise_if_any(self._host.point(False, True))

    def _retrace(self, frame: FrameType, event: str, arg: object) -> None:
        """A profile function: a thread whose trace function raised is traced no more; go on."""
        sys.setprofile(None)
        outer: Optional[FrameType] = frame
        while outer is not None:
            self._trace(outer, "call", None)
            outer = outer.f_back
        self.start()
        if event == "c_call" and frame.f_code.co_filename in self._files:
            self._host.point(True, False)

"""Tells the scheduler of the points in the code under test, by `sys.monitoring`, from Python 3.12 on.

There, `sys.settrace` is made of monitoring, and switching it on and off in threads costs much and
loses events; monitoring is set once for the code under test. It also has an event where CPython
delivers asynchronous exceptions, after a call into C, so that the call itself can raise.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import CodeType, FunctionType, ModuleType
from typing import Any

from .points import SWITCH, Points
from .tracer import Host
from .worker import raise_if_any

_TOOL = 4  # of the six there are, one that none of the usual tools takes


class Monitor:
    """Monitors the files under test, in all threads at once."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._switches: dict[CodeType, frozenset[int]] = {}
        self._codes: dict[frozenset[str], list[CodeType]] = {}
        self._monitoring: Any = vars(sys)["monitoring"]  # which older Pythons do not have

    def aim(self, files: frozenset[str], every_opcode: bool, interrupts: bool) -> None:
        """Choose the files, and what counts as a point there; start."""
        monitoring, events = self._monitoring, self._monitoring.events
        points = Points(sorted(files), every_opcode)
        monitoring.use_tool_id(_TOOL, "interleavings")
        wanted = events.INSTRUCTION
        monitoring.register_callback(_TOOL, events.INSTRUCTION, self._on_instruction)
        if interrupts:
            wanted |= events.CALL | events.JUMP | events.PY_START | events.PY_RESUME
            monitoring.register_callback(_TOOL, events.C_RETURN, self._on_check)
            monitoring.register_callback(_TOOL, events.PY_START, self._on_check)
            monitoring.register_callback(_TOOL, events.PY_RESUME, self._on_check)
            monitoring.register_callback(_TOOL, events.JUMP, self._on_jump)
        if files not in self._codes:
            self._codes[files] = list(_live_codes(files))
        for code in self._codes[files]:
            flags = points.flags_of(code)
            switches = (offset for offset, flag in flags.items() if flag & SWITCH)
            self._switches[code] = frozenset(switches)
            monitoring.set_local_events(_TOOL, code, wanted)
        monitoring.restart_events()

    def leave(self) -> None:
        """Monitor nothing any more."""
        for code in self._switches:
            self._monitoring.set_local_events(_TOOL, code, 0)
        self._switches.clear()
        for event in ("INSTRUCTION", "C_RETURN", "PY_START", "PY_RESUME", "JUMP"):
            number = getattr(self._monitoring.events, event)
            self._monitoring.register_callback(_TOOL, number, None)
        self._monitoring.free_tool_id(_TOOL)

    def start(self) -> None:
        """Nothing, since all threads are monitored."""

    def stop(self) -> None:
        """Nothing."""

    def _on_instruction(self, code: CodeType, offset: int) -> Any:
        if offset not in self._switches[code]:
            return self._monitoring.DISABLE
        task = self._host.current
        if task is not None:
            task.fresh = True
            self._host.point(True, False)
        return None

    def _on_check(self, *_: object) -> None:
        raise_if_any(self._host.point(False, True))

    def _on_jump(self, code: CodeType, offset: int, target: int) -> Any:
        if target > offset:
            return self._monitoring.DISABLE
        return self._on_check()


def _live_codes(files: frozenset[str]) -> Iterator[CodeType]:
    pending = [each.__code__ for each in _functions(files) if each.__code__.co_filename in files]
    seen: set[int] = set()
    while pending:
        code = pending.pop()
        if id(code) not in seen:
            seen.add(id(code))
            pending += [const for const in code.co_consts if isinstance(const, CodeType)]
            yield code


def _functions(files: frozenset[str]) -> Iterator[FunctionType]:
    """The functions of the modules in `files`. Not by the collector, from which free-threaded builds hide some."""
    pending: list[Any] = [each for each in sys.modules.values() if getattr(each, "__file__", None) in files]
    names = {each.__name__ for each in pending}
    seen: set[int] = set()
    while pending:
        each = pending.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        if isinstance(each, FunctionType):
            yield each
            pending += [cell.cell_contents for cell in each.__closure__ or ()]
        elif isinstance(each, (type, ModuleType)):
            pending += vars(each).values() if (getattr(each, "__module__", None) or each.__name__) in names else ()
        elif isinstance(each, property):
            pending += [each.fget, each.fset]
        elif isinstance(each, (classmethod, staticmethod)):
            pending.append(each.__func__)

"""Names for people: of a place in the code, and of a thread or task. Made only when something is to be printed."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterable, Iterator
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Any

from .stats import Holder

if TYPE_CHECKING:
    from .core import LeaseRecord
    from .slot import Slot

# Whatever an error's text needs is there before: a process without file descriptors can import nothing more.
if sys.version_info < (3, 10):
    from dis import findlinestarts as _lines
else:

    def _lines(code: CodeType) -> Iterator[tuple[int, int | None]]:
        return ((start, line) for start, _, line in code.co_lines())


def place(code: CodeType, offset: int) -> str:
    """`file:line` of the instruction at `offset`."""
    at = code.co_firstlineno
    for start, line in _lines(code):
        if start > offset:
            break
        at = line or at
    return f"{code.co_filename}:{at}"


def _stacks() -> dict[int, FrameType]:
    """What each thread is at, where it can be told: without the GIL, nobody may look at a thread that runs."""
    has_gil = getattr(sys, "_is_gil_enabled", None)
    return sys._current_frames() if has_gil is None or has_gil() else {}


def _is_past(frame: FrameType | None, code: CodeType, offset: int) -> bool:
    """Whether a function on the stack of `frame` has run the instruction at `offset` of its `code`, and has not ended."""
    while frame is not None:
        if frame.f_code is code and frame.f_lasti != offset:
            return True
        frame = frame.f_back
    return False


def _who(record: LeaseRecord, names: dict[int | None, str], stacks: dict[int, FrameType]) -> str:
    code, offset, owner, _ = record
    if not isinstance(owner, int):
        task = owner()
        return "a task (ended)" if task is None else f"task {task.get_name()}"
    if owner not in names:
        return f"thread {owner} (ended)"
    # The system gives the identifier of a thread that has ended to the next that starts, which must not be accused.
    sure = owner == threading.main_thread().ident or owner not in stacks or _is_past(stacks[owner], code, offset)
    return f"thread {names[owner]}{'' if sure else ' (or one that ended before it)'}"


def holders_of(leases: Iterable[tuple[Slot[Any], LeaseRecord]], now: float) -> list[Holder]:
    """Who holds the slots, as the lease table has it."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    stacks = _stacks()
    try:
        return [
            Holder(slot.name, _who(record, names, stacks), now - record[3], place(record[0], record[1]))
            for slot, record in leases
        ]
    finally:
        stacks.clear()  # this very frame is among them, and would live on with the slots


def holder_of(slot: Slot[Any], record: LeaseRecord, now: float) -> Holder:
    """`holders_of` for one."""
    return holders_of([(slot, record)], now)[0]

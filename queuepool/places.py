"""Names for people: of a place in the code, and of a thread or task. Made only when something is to be printed."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from types import CodeType
from typing import TYPE_CHECKING, Any

from .stats import Holder

if TYPE_CHECKING:
    from .core import LeaseRecord
    from .slot import Slot

# Whatever an error's text needs is there before: a process without file descriptors can import nothing more.
if sys.version_info >= (3, 10):

    def _lines(code: CodeType) -> Iterator[tuple[int, int | None]]:
        return ((start, line) for start, _, line in code.co_lines())

else:
    from dis import findlinestarts as _lines


def place(code: CodeType, offset: int) -> str:
    """`file:line` of the instruction at `offset`."""
    at = code.co_firstlineno
    for start, line in _lines(code):
        if start > offset:
            break
        at = line or at
    return f"{code.co_filename}:{at}"


def who(owner: Any) -> str:
    """`thread NAME` for a thread's identifier, `task NAME` for a weak reference to a task."""
    if not isinstance(owner, int):
        task = owner()
        return "a task (ended)" if task is None else f"task {task.get_name()}"
    for thread in threading.enumerate():
        if thread.ident == owner:
            return f"thread {thread.name}"
    return f"thread {owner} (ended)"


def holder_of(slot: Slot[Any], record: LeaseRecord, now: float) -> Holder:
    """Who holds `slot`, as the lease table has it."""
    code, offset, owner, since = record
    return Holder(slot.name, who(owner), now - since, place(code, offset))

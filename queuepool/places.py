"""Names for people: of a place in the code, and of a thread or task. Made only when something is to be printed."""

from __future__ import annotations

import threading
from types import CodeType
from typing import TYPE_CHECKING, Any

from .stats import Holder

if TYPE_CHECKING:
    from .core import LeaseRecord
    from .slot import Slot


def place(code: CodeType, offset: int) -> str:
    """`file:line` of the instruction at `offset`."""
    from dis import findlinestarts  # a heavy import, for errors alone

    line = code.co_firstlineno
    for start, number in findlinestarts(code):
        if start > offset:
            break
        line = number or line
    return f"{code.co_filename}:{line}"


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

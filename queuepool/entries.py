"""What the handles for `with` hold: an entry for each time one was entered, since several threads or tasks may share it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from .errors import WrongSlot

X = TypeVar("X")

#: What was entered, and its lease.
Entries = list[tuple[X, Any]]


def pop_own(entries: Entries[X], current: Callable[[], object]) -> tuple[X, Any]:
    """Take out the newest entry of the `current()` thread or task.

    The fast way is the handles' own: a lone entry is that of whoever leaves, also of another thread than entered, as in a
    generator that is run by several; and it stays the first one until it is taken out, whoever enters meanwhile.
    """
    owner = current()
    own = [entry for entry in entries.copy() if entry[1][2] == owner]
    if not own:
        raise WrongSlot("this `with` was not entered by the thread or task that leaves it, but by several others")
    entries.remove(own[-1])  # one step, as others take out theirs; equal entries are of one lease, and are the same
    return own[-1]

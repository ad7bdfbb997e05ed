"""What a forked child does with the pools that it inherits: forget their resources, close none, start empty.

The parent and the child would share each resource (a socket, a session); closing one in the child would end it for
the parent too. So the child keeps them in a list for ever, lest a finalizer close them.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .core import BasePool

_parents: list[Any] = []


def keep(resource: Any) -> None:
    """Never let a finalizer close the parent's `resource`."""
    _parents.append(resource)


def forget(pool: BasePool[Any]) -> None:
    """Make `pool`, inherited from the parent, a fresh one. Of its threads only the one that forked lives on.

    A slot that this very thread holds may be put back, after which it is no more: until then its resource is the parent's,
    no nested take finds it, and an empty slot is there in its place.
    """
    me = threading.get_ident()
    pool._pid = os.getpid()
    queue = pool._queue
    for waiting in (queue.queue, queue._vacant, queue.line, queue.standby, pool._closing):
        waiting.clear()
    pool._gate.opening.clear()
    pool._resizing = threading.Lock()
    pool._nesting.clear()
    inherited = 0
    for slot in list(pool._slots):
        record = pool._leases.get(slot)
        if record is not None and record[2] == me:
            slot.inherited = slot.is_open
            slot.condemn("fork")
            if pool._lifecycle is not None and not slot.retiring:
                slot.retiring = True
                inherited += 1
            continue
        pool._leases.pop(slot, None)
        if slot.is_open:
            pool._by_resource.pop(id(slot.resource), None)
            pool._counters.past_uses += slot.use_count
            keep(slot.note_closed())
        queue._put(slot)
    pool._add_slots(inherited)
    if pool._recycler is not None:
        pool._recycler = pool._recycler.restarted(pool)


def _after_in_child() -> None:
    from .core import pools

    for pool in list(pools):
        forget(pool)


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_after_in_child)

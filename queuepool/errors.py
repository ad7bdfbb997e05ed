"""The tree of what a pool raises, all of it under `PoolError`.

A resource's own errors are not here: what `open` raises reaches the caller of `take` as it is.
"""

from __future__ import annotations


class PoolError(Exception):
    """The root: catch it for anything that a pool itself complains of."""


class PoolTimeout(PoolError, TimeoutError):
    """No slot, or none with a live resource, by the deadline."""


class Exhausted(PoolTimeout):
    """Every slot is taken: look at the holders that the message names, or raise `capacity`."""


class Unreachable(PoolTimeout):
    """Slots are free, but their resources do not open; `__cause__` is what the last attempt raised."""


class Refused(PoolError):
    """The pool declined to let the caller wait; try again later, or shed the work."""


class TooManyWaiting(Refused):
    """`max_waiting` callers wait already."""


class Overloaded(Refused):
    """Waits have been too long for too long, and this caller's was one of them (`shed_after`)."""


class PoolClosed(PoolError):
    """The pool was closed, so it neither lends nor lets wait."""


class WrongSlot(PoolError, ValueError):
    """What was given back is not out on loan from this pool: a second put, or another pool's slot."""


class WrongLoop(PoolError, RuntimeError):
    """An `AsyncPool` belongs to the first event loop that used it, and was asked from another."""


class NestedTake(PoolError, RuntimeError):
    """The caller holds a slot already, and the pool was made with `nested="error"`."""


class BadResource(PoolError, TypeError):
    """`open` returned None or something that the pool holds already, or a slot is not a proper slot."""


class LeaseClosed(PoolError):
    """The lease was closed: its resource may be somebody else's by now."""


class IllegalTransition(PoolError, RuntimeError):
    """A slot was asked for a step that its state does not allow; nothing was changed."""

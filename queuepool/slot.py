"""A slot: one of a pool's places for a resource, and the table of what may happen to it."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar

from .errors import IllegalTransition

if TYPE_CHECKING:
    from typing_extensions import Self

    from .core import BasePool
    from .lifecycle import SlotLifecycle

T = TypeVar("T")

EMPTY, OPEN, RETIRED = "empty", "open", "retired"

#: What a slot holds, and what each event makes of it. Anything else is an `IllegalTransition`.
#: Whether an open slot is idle or leased is not kept here: idle is what the queue has, leased what the lease table has.
TRANSITIONS = {
    (EMPTY, "open"): OPEN,
    (OPEN, "close"): EMPTY,
    (EMPTY, "retire"): RETIRED,
}

#: An instant that has always passed: a slot due since then is looked at before it is lent or queued again.
AT_ONCE = float("-inf")


class Slot(Generic[T]):
    """A place for one resource: empty until first taken, then open, until something closes the resource.

    Whoever has a slot out of the queue owns it alone (a taker, a sweep, a drain), so its fields need no lock.
    Read them freely; only the pool writes them. `with pool.take() as slot:` puts it back at the end.

    Attributes: `name`, unique in its pool; `resource`, what `open` returned, None while empty; `opened_at` and
    `last_used_at`, instants of the pool's clock in seconds, None while empty; `use_count`, takes since it opened.
    """

    __slots__ = (
        "__weakref__",
        "_holds",
        "_pool",
        # Since when `check` has vouched for it; and whether one like it was found dead since.
        "checked_at",
        # Why the resource shall be closed, if it shall, whatever the limits say.
        "condemned",
        # Where a lease was taken that its user dropped; its resource is not yet reset.
        "dropped",
        "due_at",
        # From `expires_at` on the resource is closed at put; from `due_at` on the slot is looked at before it is lent.
        "expires_at",
        # It was open when this process was forked: the parent's, to be forgotten and never closed here.
        "inherited",
        "last_used_at",
        "lifecycle",
        "name",
        "opened_at",
        "resource",
        "retiring",
        "suspect",
        # Who may take it again before those who wait do, having put it back, and until when (see `quantum`).
        "turn_of",
        "turn_until",
        "use_count",
    )

    _pool: BasePool[T] | None
    lifecycle: SlotLifecycle[T]

    def __init__(self, name: str) -> None:
        self.name = name
        self.resource: T = None  # type: ignore[assignment]  # an empty slot is never lent, so users see a T
        self.opened_at: float | None = None
        self.last_used_at: float | None = None
        self.use_count = 0
        self.expires_at = self.due_at = self.turn_until = AT_ONCE
        self.turn_of: object = None
        self.condemned: str | None = None
        self.checked_at = AT_ONCE
        self.suspect = self.retiring = False
        self.inherited = False
        self.dropped: Any = None
        self._holds = EMPTY
        self._pool = None

    @property
    def is_open(self) -> bool:
        return self._holds is OPEN

    @property
    def state(self) -> str:
        """`"empty"`, `"idle"` (open and in the queue, or on its way), `"leased"` or `"retired"`."""
        if self._pool is not None and self in self._pool._leases:
            return "leased"
        return "idle" if self._holds is OPEN else self._holds

    @property
    def open_time(self) -> float | None:
        """Seconds since the resource opened; None while empty."""
        return None if self.opened_at is None or self._pool is None else self._pool._clock() - self.opened_at

    @property
    def idle_time(self) -> float | None:
        """Seconds since the resource was last put back (or opened); None while empty or leased."""
        if self.last_used_at is None or self._pool is None or self in self._pool._leases:
            return None
        return self._pool._clock() - self.last_used_at

    def close(self) -> None:
        """Ask that the resource be closed when the slot is put back; the slot reopens at its next take."""
        self.condemn("asked")

    def condemn(self, reason: str) -> None:
        self.condemned = self.condemned or reason
        self.expires_at = self.due_at = AT_ONCE

    def _move(self, event: str) -> None:
        try:
            self._holds = TRANSITIONS[self._holds, event]
        except KeyError:
            raise IllegalTransition(f"{self.name}: cannot {event} a slot that is {self._holds}") from None

    def note_opened(self, resource: T, now: float) -> None:
        """Note that `open` returned `resource` at `now`."""
        self._move("open")
        self.resource = resource
        self.opened_at = self.last_used_at = now
        self.condemned = None
        self.suspect = False

    def note_closed(self) -> T:
        """Note that the resource leaves the slot, and return it for closing."""
        self._move("close")
        resource, self.resource = self.resource, None  # type: ignore[assignment]
        self.opened_at = self.last_used_at = None
        self.use_count = 0
        self.condemned = self.dropped = None
        self.expires_at = self.due_at = AT_ONCE
        return resource

    def retire(self) -> None:
        """Note that the slot, empty, is no longer the pool's."""
        self._move("retire")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            self._pool.put(self)  # type: ignore[union-attr]  # a slot that was taken has a pool
        else:
            self._pool._put_after(self, error)  # type: ignore[union-attr]

    def __repr__(self) -> str:
        # Not the resource: its repr may hold a password.
        return f"<{type(self).__name__} {self.name}: {self.state}, {self.use_count} uses>"

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"slot {self.name} cannot be pickled or copied: it stands for one live resource")

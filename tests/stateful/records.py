"""Resources, and what is written down about each, which outlives it: whoever refers to a resource counts as its user."""

from __future__ import annotations

import itertools
from typing import Any

from ..support import Clock


class Resource:
    """What is lent; everything to know about it is in its `record`."""

    def __init__(self, record: Record) -> None:
        self.record = record


class Record:
    """A resource as the pool ought to see it; times are the clock's, in seconds."""

    def __init__(self, number: int, now: float) -> None:
        self.number = number
        self.opened_at = self.used_at = self.seen_at = now
        self.uses = 0
        self.closed = self.dead = self.condemned = self.dropped = False

    def __repr__(self) -> str:
        return f"<{', '.join(f'{name}={value}' for name, value in vars(self).items())}>"


class Source:
    """Opens, closes, checks and resets, notes it, and fails when told to: `failing` has the names of hooks."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.records: list[Record] = []
        self._numbers = itertools.count(1)
        self.failing: set[str] = set()

    @property
    def live(self) -> list[Record]:
        return [record for record in self.records if not record.closed]

    def _maybe_fail(self, hook: str) -> None:
        if hook in self.failing:
            raise ValueError(f"{hook} fails")

    def open(self) -> Resource:
        self._maybe_fail("open")
        record = Record(next(self._numbers), self.clock())
        self.records.append(record)
        return Resource(record)

    def close(self, resource: Resource) -> None:
        assert not resource.record.closed, f"closed twice: {resource.record}"
        resource.record.closed = True
        self._maybe_fail("close")

    def check(self, resource: Resource) -> bool:
        assert not resource.record.closed
        resource.record.seen_at = self.clock()
        return not resource.record.dead

    def reset(self, resource: Resource) -> None:
        assert not resource.record.closed
        self._maybe_fail("reset")
        resource.record.dropped = False
        resource.record.used_at = self.clock()

    def hooks(self) -> dict[str, Any]:
        return {"open": self.open, "close": self.close, "check": self.check, "reset": self.reset}

"""The keys of `getconn`: which of them has which connection out."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from psycopg2.extensions import connection

from .core import LeaseRecord
from .slot import Slot


class Keys:
    """What a pool has lent by a key, known from the pool's own tables of leases and resources. Any thread may call it.

    An entry has the lease, so it means nothing more once that has ended, and it is removed by its own id, so nobody takes
    away another's. It has the connection too, which is why what is lent by a key is not taken for dropped.
    """

    __slots__ = ("_entries", "_leases", "_slots")

    def __init__(self, leases: dict[Slot[Any], LeaseRecord], slots: dict[int, Slot[Any]]) -> None:
        self._leases = leases
        self._slots = slots
        #: id of an entry -> the entry, the oldest first: where two threads ask for one key at once, all see the same first.
        self._entries: dict[int, tuple[Hashable, connection, LeaseRecord]] = {}

    def find(self, key: Hashable) -> connection | None:
        """The connection that `key` has out."""
        if key is not None:
            for each, conn, lease in list(self._entries.values()):
                if each == key and self._is_out(conn, lease):
                    return conn
        return None

    def claim(self, key: Hashable, conn: connection, lease: LeaseRecord) -> connection:
        """Note that `key` has `conn` out, unless another thread was quicker; return what it has."""
        entry = (key, conn, lease)
        self._entries[id(entry)] = entry
        first = self.find(key)
        if first is None or first is conn:
            return conn
        self._entries.pop(id(entry), None)
        return first

    def forget(self, conn: connection, lease: LeaseRecord | None, key: Hashable = None) -> None:
        """Forget all keys that had `conn` by `lease`; `key` alone, if the lease goes on (`nested="same"`)."""
        if self._entries:
            ended = not self._is_out(conn, lease)
            for name, (each, _, its_lease) in list(self._entries.items()):
                if its_lease is lease and (ended or each == key):
                    self._entries.pop(name, None)

    def _is_out(self, conn: connection, lease: LeaseRecord | None) -> bool:
        slot = self._slots.get(id(conn))
        return slot is not None and self._leases.get(slot) is lease and not slot.inherited

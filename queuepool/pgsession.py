"""What a connection was like when it had just been opened, and how to make it so again."""

from __future__ import annotations

import contextlib
from operator import attrgetter
from typing import Any

import psycopg2
from psycopg2 import extensions
from psycopg2.extensions import connection

#: What a user may change without the server being told, and last, what tells that nothing is going on.
_NAMES: tuple[str, ...] = (
    "autocommit", "isolation_level", "readonly", "deferrable", "encoding", "cursor_factory", "notices", "notifies",
    "string_types", "binary_types", "status", "info.transaction_status",
)  # fmt: skip
_TRANSACTION, _TYPES = ("isolation_level", "readonly", "deferrable"), ("string_types", "binary_types")
#: All of it in one call, which takes a third of a microsecond: to be compared with `Session.fresh` at every put.
state_of = attrgetter(*_NAMES)

READY = extensions.STATUS_READY
IDLE, ACTIVE, INTRANS, INERROR = (
    extensions.TRANSACTION_STATUS_IDLE,
    extensions.TRANSACTION_STATUS_ACTIVE,
    extensions.TRANSACTION_STATUS_INTRANS,
    extensions.TRANSACTION_STATUS_INERROR,
)


class _Exact(tuple[Any, ...]):
    """A state with typecasters in it, of which psycopg2 finds any two for the same types equal: these must be the same."""

    __slots__ = ()
    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, state: object) -> bool:
        if not isinstance(state, tuple) or not tuple.__eq__(self, state):
            return False
        pairs = [(self[i], state[i]) for i in map(_NAMES.index, _TYPES)]
        return all(types[oid] is others[oid] for types, others in pairs for oid in types)


class Session:
    """What the pool remembers of one connection. Whoever owns the slot owns this too."""

    __slots__ = ("_notices", "_notifies", "fresh")

    def __init__(self, conn: connection) -> None:
        self._notices, self._notifies = conn.notices, conn.notifies
        state = dict(zip(_NAMES, state_of(conn)))
        for name in ("notices", "notifies"):
            if isinstance(state[name], list):
                state[name] = []
        for name in _TYPES:
            state[name] = dict(state[name])
        # Whoever opened it may have left a transaction open, which must not pass for its natural state.
        state["status"], state["info.transaction_status"] = READY, IDLE
        #: What `state_of` returns while nothing has been changed and no transaction is open.
        self.fresh = (_Exact if any(state[name] for name in _TYPES) else tuple)(state.values())

    def restore(self, conn: connection) -> None:
        """Give `conn`, which is in no transaction, its attributes back; costs a round trip only where the server was told."""
        if state_of(conn) == self.fresh:
            return
        fresh = dict(zip(_NAMES, self.fresh))
        if any(getattr(conn, name) != fresh[name] for name in ("autocommit", *_TRANSACTION)):
            # While autocommit is on these are defaults of the server's session, which psycopg2 takes back as it goes off, and
            # sets only where they change: so from nothing.
            for name in _TRANSACTION:
                _assign(conn, name, None)
            _assign(conn, "autocommit", fresh["autocommit"])
            for name in _TRANSACTION:
                _assign(conn, name, fresh[name])
        _assign(conn, "cursor_factory", fresh["cursor_factory"])
        if conn.encoding != fresh["encoding"]:
            conn.set_client_encoding(fresh["encoding"])
        conn.notices, conn.notifies = self._notices, self._notifies
        for messages in (self._notices, self._notifies):
            if isinstance(messages, list):
                messages.clear()
        # A typecaster that a user registered on the connection would read the next user's values.
        for name in _TYPES:
            types = getattr(conn, name)
            types.clear()
            types.update(fresh[name])


def _assign(conn: connection, name: str, value: Any) -> None:
    if getattr(conn, name) != value:
        setattr(conn, name, value)


def end_transaction(conn: connection) -> None:
    """Roll back whatever is open on `conn`. Raises what psycopg2 does, and InterfaceError when that cannot be done."""
    if conn.closed:
        raise psycopg2.InterfaceError("the connection was closed, by its user or by the other end")
    if conn.info.transaction_status == ACTIVE:
        # A broken COPY, or another thread of the user's is still at it: psycopg2 would wait for that one.
        raise psycopg2.InterfaceError("the connection came back in the middle of a COPY or a query")
    if conn.status != extensions.STATUS_READY:
        conn.rollback()  # raises in a two-phase transaction, which only its owner can end
    if conn.info.transaction_status != IDLE:
        # A BEGIN of the user's own, of which psycopg2 knows nothing.
        conn.autocommit = True
        execute(conn, "ROLLBACK")


def commit(conn: connection) -> None:
    """Commit what is open on `conn`, also if the user began it by hand."""
    if conn.status != extensions.STATUS_READY or conn.closed:
        conn.commit()
    elif conn.info.transaction_status in (INTRANS, INERROR):
        execute(conn, "COMMIT")


def ping(conn: connection) -> None:
    """One round trip that opens no transaction; raises what psycopg2 does."""
    autocommit, conn.autocommit = conn.autocommit, True
    try:
        execute(conn, "SELECT 1")
    finally:
        with contextlib.suppress(psycopg2.Error):  # it may be closed by now, and another error on its way
            conn.autocommit = autocommit


def execute(conn: connection, statement: str) -> None:
    # Not conn.cursor(): the user's cursor_factory, or a subclass's cursor(), may do more than that.
    with extensions.cursor(conn) as cursor:
        cursor.execute(statement)

"""psycopg2 connections for pools that are filled as in queuepool 1.x; new code has `psycopg2pool.ConnectionPool`."""

from __future__ import annotations

import json
import re
import select
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Union
from urllib.parse import unquote

import psycopg2
from psycopg2.extensions import TRANSACTION_STATUS_IDLE, TRANSACTION_STATUS_UNKNOWN, cursor
from psycopg2.sql import SQL, Composable, Identifier, Literal

from .v1 import ResourceManager

#: A statement, as psycopg2 takes it.
Query = Union[str, Composable]

#: What of a connection a user may set on this side of the wire, and the next one would find.
_SETTINGS = ("isolation_level", "readonly", "deferrable", "autocommit", "cursor_factory")

_poll = getattr(select, "poll", None)  # Windows has none


class ConnectionManager(ResourceManager):
    """One psycopg2 connection; put as many as the pool's capacity into a `Pool` made without `open`.

    Arguments:
      name: of the slot, in messages.
      isolation_level, readonly, deferrable, autocommit: for `connection.set_session`; None leaves the server's default.
      Everything else goes to `psycopg2.connect`, whose errors reach the taker.

    At take a connection on which the server has hung up is replaced, at the cost of a poll of its socket. At put it is
    rolled back if need be, and what was set on it (autocommit and its kin, cursor_factory, encoding) is set back; what
    was SET in the session stays, as it did in 1.x. A connection that is closed, lost or beyond repair is closed and
    opens anew at the next take; put never raises for it. The password is in no repr, `vars()`, log or error.
    """

    def __init__(
        self,
        name: str,
        isolation_level: Any = None,
        readonly: bool | None = None,
        deferrable: bool | None = None,
        autocommit: bool | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        super().__init__(name)
        self.isolation_level = isolation_level
        self.readonly = readonly
        self.deferrable = deferrable
        self.autocommit = autocommit
        # In a function, where neither vars() nor a debugger's view of this object shows the password.
        self._connect_arguments: Callable[[], tuple[tuple[Any, ...], dict[str, Any]]] = lambda: (args, kwargs)
        self._settings: tuple[Any, ...] = ()

    @property
    def _args(self) -> tuple[Any, ...]:
        return self._connect_arguments()[0]

    @property
    def _kwargs(self) -> dict[str, Any]:
        return self._connect_arguments()[1]

    def open(self) -> None:
        """Connect. Raises what `psycopg2.connect` does, without what could be the password."""
        failure = None
        try:
            # By attribute and now, because tracing tools replace it.
            conn = psycopg2.connect(*self._args, **self._kwargs)
        except psycopg2.Error as error:
            failure = error
        if failure is not None:
            text = str(failure)
            hidden = self._hide(text)
            # The frames of the failed call hold the password, so the traceback begins here.
            raise (failure if hidden == text else type(failure)(hidden)).with_traceback(None)
        try:
            conn.set_session(self.isolation_level, self.readonly, self.deferrable, self.autocommit)
        except BaseException:
            conn.close()
            raise
        self.resource = conn
        super().open()

    def close(self) -> None:
        conn, self.resource = self.resource, None
        super().close()
        if conn is not None and not conn.closed:
            conn.close()

    def opened(self, resource: Any, now: float) -> None:
        super().opened(resource, now)
        # Here and not in `open`, which subclasses extend by settings of their own.
        self._settings = _settings(resource)

    def takeRepair(self) -> None:
        super().takeRepair()
        if self._isOpen and not _is_alive(self.resource):
            self.close()

    def putRepair(self) -> None:
        self.repair()
        super().putRepair()

    def repair(self) -> None:
        """Make the connection fit for its next user, or close it if that cannot be done."""
        if not self._isOpen:
            return
        try:
            fit = not self.resource.closed and _is_rolled_back(self.resource)
            if fit and self._settings:
                _restore(self.resource, self._settings)
        except psycopg2.Error:
            fit = False
        if not fit:
            self.close()

    def _hide(self, text: str) -> str:
        for part in _secret_parts([*self._args, self._kwargs.get("dsn")], self._kwargs.get("password")):
            text = text.replace(part, "***")
        return text


class ConnectionManagerExtended(ConnectionManager):
    """`ConnectionManager` with short cuts for queries. Each may be given a string or a `psycopg2.sql` object, and the
    arguments for its placeholders; commit is the caller's."""

    def now_expr(self, t: float | str = 0) -> str:
        """SQL for the server's time plus `t` seconds, in whole milliseconds since 1970.

        `t` is a number or an SQL expression; it becomes part of the statement, so it must not come from a stranger.
        """
        return f"(1000 * (extract(epoch FROM now()) + ({t})))::bigint"

    def query(self, query: Query, args: Any = None) -> list[dict[str, Any]]:
        """The rows, each as a dict from column name to value."""
        rows, description = self.querys(query, args)
        names = [column[0] for column in description]
        return [dict(zip(names, row)) for row in rows]

    def querys(self, query: Query, args: Any = None) -> tuple[list[Any], Any]:
        """The rows as the cursor gives them, and its `description`."""
        with self.resource.cursor() as c:
            c.execute(query, args)
            return c.fetchall(), c.description

    def query1(self, query: Query, args: Any = None) -> dict[str, Any] | None:
        """The row, if there is exactly one; else None."""
        rows = self.query(query, args)
        return rows[0] if len(rows) == 1 else None

    def qexec(self, query: Query, args: Any = None) -> None:
        """Execute a statement that returns no rows."""
        with self.resource.cursor() as c:
            c.execute(query, args)

    def geojson(
        self, geomColumn: str, attrColumns: Iterable[str], selectQuery: Query, args: Any = None, prec: int = 5
    ) -> dict[str, Any]:
        """The rows of `selectQuery` as a GeoJSON FeatureCollection; needs PostGIS.

        `geomColumn` names the column with the geometry, `attrColumns` those that become properties; they are names, not
        SQL, and are quoted. `prec` is the number of decimal digits of the coordinates.
        """
        names = list(attrColumns)
        select_query = selectQuery if isinstance(selectQuery, Composable) else SQL(selectQuery)
        geometry = SQL("ST_AsGeoJSON({}, {})").format(Identifier(geomColumn), Literal(int(prec)))
        columns = SQL(", ").join([geometry, *map(Identifier, names)])
        rows, _ = self.querys(SQL("WITH selected AS ({}) SELECT {} FROM selected").format(select_query, columns), args)
        return {"type": "FeatureCollection", "features": [_feature(row[0], names, row[1:]) for row in rows]}


def _feature(geometry: str | None, names: list[str], values: Sequence[Any]) -> dict[str, Any]:
    return {
        "type": "Feature",
        "geometry": None if geometry is None else json.loads(geometry),  # null is GeoJSON's "unlocated"
        "properties": dict(zip(names, values)),
    }


def _is_alive(conn: Any) -> bool:
    """Whether the connection is usable, as far as its socket tells; asks the server only if that has something to say."""
    try:
        if conn.closed:
            return False
        if not _has_something_to_read(conn.fileno()):
            return True
        # The server spoke unasked: its farewell, or a mere NOTIFY.
        with conn.cursor(cursor_factory=cursor) as c:
            c.execute("SELECT 1")
        return _is_rolled_back(conn)
    except psycopg2.Error:
        return False


def _has_something_to_read(descriptor: int) -> bool:
    if _poll is None:
        return bool(select.select([descriptor], [], [], 0)[0])
    poll = _poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))


def _is_rolled_back(conn: Any) -> bool:
    """Whether the session is in no transaction, after it was told to leave the one it was in."""
    status = conn.info.transaction_status
    if status == TRANSACTION_STATUS_IDLE:
        return True
    if status == TRANSACTION_STATUS_UNKNOWN:
        return False
    conn.rollback()
    if conn.info.transaction_status != TRANSACTION_STATUS_IDLE:
        # The user's own BEGIN, under autocommit: rollback() knows nothing of it and sends nothing.
        with conn.cursor(cursor_factory=cursor) as c:
            c.execute("ROLLBACK")
        conn.rollback()
    return bool(conn.info.transaction_status == TRANSACTION_STATUS_IDLE)


def _settings(conn: Any) -> tuple[Any, ...]:
    return (*(getattr(conn, name) for name in _SETTINGS), conn.encoding)


def _restore(conn: Any, settings: tuple[Any, ...]) -> None:
    """Set back what the user changed; only another encoding costs a round trip."""
    *plain, encoding = settings
    for name, value in zip(_SETTINGS, plain):
        if getattr(conn, name) != value:
            setattr(conn, name, value)
    if conn.encoding != encoding:
        conn.set_client_encoding(encoding)
        conn.rollback()


def _secret_parts(dsns: Iterable[Any], password: Any) -> list[str]:
    """What of these `psycopg2.connect` arguments no error may show, the longest first.

    libpq quotes parts of a connection string that it cannot read, and it is the password's characters that make it so:
    of "postgresql://me:se/cret@host" it says that "se" is no port.
    """
    parts = {str(password)} if password else set()
    for dsn in dsns:
        for secret in _passwords(str(dsn)):
            parts.update((secret, unquote(secret), *re.split(r"[\s'\\/?@:#]+", secret)))
    return sorted(parts - {""}, key=len, reverse=True)


def _passwords(dsn: str) -> Iterator[str]:
    uri = re.match(r"\w+://[^:]*:(.*)@", dsn, re.DOTALL)
    if uri:
        yield uri[1]
    for found in re.finditer(r"password\s*=\s*(.*?)(?=\s+\w+\s*=|&|$)", dsn, re.DOTALL):
        yield found[1]

"""psycopg2 connections for pools that are filled as in queuepool 1.x; new code has `psycopg2pool.ConnectionPool`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, Union

import psycopg2
from psycopg2.sql import SQL, Composable, Identifier, Literal

from . import pgsession
from .managers import ResourceManager
from .pgconnect import Target, hidden
from .pgsession import Session, state_of
from .pgsocket import is_dead, watch
from .pgwatch import Deadline

#: A statement, as psycopg2 takes it.
Query = Union[str, Composable]


class ConnectionManager(ResourceManager):
    """One psycopg2 connection; put as many as the pool's capacity into a `Pool` made without `open`.

    Arguments:
      name: of the slot, in messages.
      isolation_level, readonly, deferrable, autocommit: for `connection.set_session`; None leaves the server's default.
      Everything else goes to `psycopg2.connect`, whose errors reach the taker; timeouts that are not given are those of
      `pgconnect.DEFAULTS`. Raises TypeError for an asynchronous connection.

    At take a connection on which the server has hung up is replaced, at the cost of a poll of its socket. At put it is
    rolled back if need be, and what was set on it (autocommit and its kin, cursor_factory, encoding) is set back; what
    was SET in the session stays, as it did in 1.x. A connection that is closed, lost or beyond repair is closed and
    opens anew at the next take; put never raises for it. The password is in no repr, `vars()`, log or error.
    """

    #: No check of a connection, and no repair, takes longer, in seconds: then its socket is shut down.
    CHECK_TIME, REPAIR_TIME = 5.0, 10.0

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
        keywords = {**dict(zip(("dsn", "connection_factory", "cursor_factory"), args)), **kwargs}
        given = hidden(keywords.pop("dsn", None), keywords)
        # Whoever prints the variables of this frame, should the next line raise, is to see no password.
        del args, kwargs, keywords
        self._target = Target(given)
        self._session: Session | None = None

    def open(self) -> None:
        """Connect. Raises what `psycopg2.connect` does, without what could be the password."""
        conn = self._target.connect()
        try:
            conn.set_session(
                self.isolation_level,
                self.readonly,
                self.deferrable,
                self.autocommit,  # type: ignore[arg-type]  # the stubs know no None here
            )
        except BaseException:
            conn.close()
            raise
        self.resource = conn
        super().open()

    def close(self) -> None:
        conn, self.resource, self._session = self.resource, None, None
        super().close()
        if conn is not None and not conn.closed:
            conn.close()

    def note_opened(self, resource: Any, now: float) -> None:
        super().note_opened(resource, now)
        # Here and not in `open`, which subclasses extend by settings of their own.
        self._session = Session(resource)

    def takeRepair(self) -> None:
        super().takeRepair()
        if self._isOpen and not self._is_alive():
            self.close()

    def putRepair(self) -> None:
        self.repair()
        super().putRepair()

    def repair(self) -> None:
        """Make the connection fit for its next user, or close it if that cannot be done."""
        conn, session = self.resource, self._session
        if not self._isOpen or (session is not None and not conn.closed and state_of(conn) == session.fresh):
            return
        try:
            with Deadline(conn, self.REPAIR_TIME):
                pgsession.end_transaction(conn)
                if session is not None:  # None: its user closed it and opened another
                    session.restore(conn)
        except psycopg2.Error:
            self.close()

    def _is_alive(self) -> bool:
        conn = self.resource
        if conn.closed:
            return False
        news = watch(conn)()
        if not news or is_dead(conn):
            return not news
        try:
            # The server spoke unasked: its farewell, or a mere NOTIFY.
            with Deadline(conn, self.CHECK_TIME):
                pgsession.ping(conn)
        except psycopg2.Error:
            return False
        return True


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

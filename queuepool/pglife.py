"""The lifecycle of a psycopg2 connection in a pool."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Literal, Union

import psycopg2
from psycopg2.extensions import connection

from . import options, pgerrors, pgsession
from .errors import BadResource
from .lifecycle import Lifecycle
from .pgconnect import Target
from .pgprocess import process_mark
from .pgsession import Session, state_of
from .pgsocket import Watch, is_dead, sever, watch
from .pgwatch import Deadline

#: What is done at put: nothing but rollback and attributes; DISCARD ALL too; or a function of the connection too.
Reset = Union[Literal["rollback", "full"], Callable[[connection], Any]]

#: target_session_attrs -> whether a server in this state is meant by it: in recovery or not, read-only or not.
_ROLES: dict[str, Callable[[bool, bool], bool]] = {
    "read-write": lambda standby, read_only: not standby and not read_only,
    "read-only": lambda standby, read_only: standby or read_only,
    "primary": lambda standby, read_only: not standby,
    "standby": lambda standby, read_only: standby,
}


class ConnectionLifecycle(Lifecycle[connection]):
    """Opens, looks after and closes connections. Keeps what it remembers of each in a table by the connection's id."""

    may_hang = True

    #: No round trip of a check or a reset takes longer, in seconds: then its socket is shut down.
    CHECK_TIME, RESET_TIME = 5.0, 10.0
    #: For so long a refusal that time does not mend (a password, a database that is not there) is told again instead of
    #: being asked for again, in seconds: a program that tries in a loop must not have its account locked.
    REFUSAL_TIME = 0.5

    def __init__(self, target: Target, reset: Reset, configure: Callable[[connection], Any] | None) -> None:
        self._target = target
        self._reset = reset if callable(reset) else options.choice("reset", reset, "rollback", "full")
        self._configure = options.function_or_none("configure", configure)
        #: What the last connection was to be connected to; None: any server will do, or the next best.
        self._role: Callable[[bool, bool], bool] | None = None
        #: Until when a refusal is believed, and what it said.
        self._refusal: tuple[float, psycopg2.Error] | None = None
        #: By the id of each connection; the entries are made at open and removed at close, by whoever owns the slot.
        self._sessions: dict[int, Session] = {}
        self._fresh: dict[int, Any] = {}
        self._watches: dict[int, Watch] = {}
        self._mark = process_mark()

    def open(self) -> connection:
        conn = self._connect()
        self._mark[0] = 1
        try:
            if conn.async_:
                raise BadResource("the pool needs synchronous connections, and connection_factory made another")
            self._role = _ROLES.get(conn.get_dsn_parameters().get("target_session_attrs", "any"))
            self._configured(conn)
            # It had its role when it connected, so if it seems to have lost it, `configure` changed what the server tells.
            if not self._has_its_role(conn):
                self._role = None
            self._sessions[id(conn)] = session = Session(conn)
            self._fresh[id(conn)], self._watches[id(conn)] = session.fresh, watch(conn)
        except BaseException:
            conn.close()
            raise
        return conn

    def _connect(self) -> connection:
        refusal = self._refusal
        if refusal is not None and time.monotonic() < refusal[0]:
            raise type(refusal[1])(str(refusal[1]))
        try:
            conn = self._target.connect()
        except psycopg2.Error as error:
            if not self.transient(error):
                self._refusal = (time.monotonic() + self.REFUSAL_TIME, type(error)(str(error)))
            raise
        self._refusal = None
        return conn

    def _configured(self, conn: connection) -> None:
        """Have `configure` called, and commit what it, or whoever made the connection, has begun."""
        if self._configure is None and conn.info.transaction_status == pgsession.IDLE:
            return
        with Deadline(conn, self.RESET_TIME) as deadline:
            try:
                if self._configure is not None:
                    self._configure(conn)
                pgsession.commit(conn)
            except psycopg2.Error as error:
                if deadline.passed:
                    raise BadResource(f"configure took longer than {self.RESET_TIME:g} s") from error
                raise

    def close(self, resource: connection) -> None:
        for table in (self._sessions, self._fresh, self._watches):
            table.pop(id(resource), None)
        if not resource.closed and resource.info.transaction_status == pgsession.ACTIVE:
            sever(resource)  # else close() waits for the call that another thread is in
        resource.close()

    def poll(self, resource: connection) -> bool | None:
        # This and `is_clean` are part of every take and put, and so in as few steps as can be.
        news = self._watches[id(resource)]()
        if resource.closed or (news and is_dead(resource)):
            return False
        # Without its mark this is a forked child, whose take goes the long way now and forgets what is its parent's.
        return True if self._mark[0] and not news else None

    def check(self, resource: connection) -> bool:
        with Deadline(resource, self.CHECK_TIME):
            pgsession.ping(resource)
            self._sessions[id(resource)].restore(resource)  # a NOTIFY may have come
        return self._has_its_role(resource)

    def _has_its_role(self, conn: connection) -> bool:
        """Whether the server is still what `target_session_attrs` asks for; it tells with every answer (since 14)."""
        if self._role is None:
            return True
        standby, read_only = map(conn.info.parameter_status, ("in_hot_standby", "default_transaction_read_only"))
        return standby is None or self._role(standby == "on", read_only == "on")

    def is_clean(self, resource: connection) -> bool:
        """Whether `reset` has nothing to do: told in half a microsecond. Raises KeyError for what is not from here."""
        return state_of(resource) == self._fresh[id(resource)] and (self._role is None or self._has_its_role(resource))

    def reset(self, resource: connection) -> None:
        session = self._sessions[id(resource)]
        if self._reset == "rollback" and self.is_clean(resource):
            return
        with Deadline(resource, self.RESET_TIME):
            pgsession.end_transaction(resource)
            if self._reset == "full":
                resource.reset()
                session.restore(resource)
                self._configured(resource)
            elif callable(self._reset):
                session.restore(resource)
                self._reset(resource)
                if resource.info.transaction_status == pgsession.INERROR:
                    raise BadResource("reset left its transaction failed")
                pgsession.commit(resource)
            session.restore(resource)
        if not self._has_its_role(resource):
            raise BadResource("the server is no longer what target_session_attrs asks for")

    def transient(self, error: Exception) -> bool:
        return pgerrors.is_transient(error)

    def describe(self, error: BaseException) -> str:
        return f"{type(error).__name__}: {' '.join(str(error).split())}"

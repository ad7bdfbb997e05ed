"""What a psycopg2 error means for its connection, and for whether connecting again makes sense."""

from __future__ import annotations

import re

import psycopg2
import psycopg2.pool
from psycopg2.extensions import connection

from . import errors


class PoolError(errors.PoolError, psycopg2.pool.PoolError):
    """What `getconn`, `putconn` and `closeall` raise: caught as `psycopg2.pool.PoolError` and as `queuepool.PoolError`.

    `__cause__` is the pool's own error where there is one, such as `Exhausted` or `Unreachable`. (Those are
    TimeoutErrors, and C knows no exception that is both a TimeoutError and a psycopg2.Error.)
    """


#: A write where only reads are allowed.
READ_ONLY = "25006"


def costs_connection(error: BaseException) -> bool:
    """Whether a connection whose user raised `error` is stuck on a server for reads only, or in an unknown state.

    Not whether it is lost: `connection.closed` tells that, and its socket, while the error may be about another server
    (a failed `psycopg2.connect`, another pool, a foreign table). All other errors, of the statement or of the program,
    cost no connection: it is rolled back and kept. An error that was raised `from` a psycopg2 error means what that one
    means.
    """
    return any(isinstance(each, psycopg2.Error) and _costs(each) for each in (error, error.__cause__))


def _costs(error: psycopg2.Error) -> bool:
    if error.pgcode == READ_ONLY:
        return error.cursor is not None and _is_stuck(error.cursor.connection)
    # Not a subclass: psycopg2 raises the bare DatabaseError when libpq has nothing to say but that it failed, as where
    # two processes read from one socket.
    return type(error) is psycopg2.DatabaseError and error.pgcode is None


def _is_stuck(conn: connection) -> bool:
    """Whether it was the server that refused to write, a standby as after a failover, and not the transaction."""
    if conn.closed or conn.readonly:
        return False  # if closed, it was another pool's, or its own loss is seen anyway
    standby, read_only = map(conn.info.parameter_status, ("in_hot_standby", "default_transaction_read_only"))
    return standby is None or "on" in (standby, read_only)  # None: a server before 14, which does not tell


#: What a server or libpq says when to try again is of no use. The texts are those of the C locale: in another language
#: a wrong password is retried, too, until the take's deadline, and then told as the cause.
_PERMANENT = re.compile(
    r"authentication failed|no password supplied|pg_hba\.conf|(database|role) \".*\" does not exist"
    r"|is not permitted to log in|permission denied for database|is not currently accepting connections"
    r"|does not support SSL|certificate|invalid (integer |sslmode )?value|invalid port number"
    r"|unrecognized configuration parameter|unsupported (startup|frontend)|could not parse"
    r"|definition of service|service file|authentication method|password (is|has) expired|write @ as %40"
)


def is_transient(error: BaseException) -> bool:
    """Whether connecting may work in a moment: refused, timed out, unresolved, starting up (57P03), too many (53300)."""
    if isinstance(error, psycopg2.OperationalError):
        # Not in what it quotes: a folder may be called "certificates".
        return _PERMANENT.search(re.sub(r'"[^"]*"', '""', str(error))) is None
    return isinstance(error, OSError)

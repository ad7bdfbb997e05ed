"""What a psycopg2 error means for its connection, and for whether connecting again makes sense.

SQLSTATE alone does not tell: a session that was killed, timed out or refused raises an OperationalError without one.
"""

from __future__ import annotations

import re

import psycopg2
import psycopg2.pool

from . import errors


class PoolError(errors.PoolError, psycopg2.pool.PoolError):
    """What `getconn`, `putconn` and `closeall` raise: caught as `psycopg2.pool.PoolError` and as `queuepool.PoolError`.

    `__cause__` is the pool's own error where there is one, such as `Exhausted` or `Unreachable`. (Those are
    TimeoutErrors, and C knows no exception that is both a TimeoutError and a psycopg2.Error.)
    """


#: 08: connection exceptions; 57P01-57P03: the server goes down, crashed, or starts up.
_LOST = re.compile(r"08...|57P0[123]")
#: A write where only reads are allowed: after a failover, this connection is stuck on what is a standby now.
READ_ONLY = "25006"


def costs_connection(error: BaseException) -> bool:
    """Whether a connection whose user raised `error` is lost, stuck on a standby, or in an unknown state.

    A violated constraint, a cancelled query, a deadlock, or the program's own KeyError do not cost it: it is rolled
    back and kept. An error of the program's own that was raised `from` a psycopg2 error means what that one means.
    """
    for each in (error, error.__cause__):
        if isinstance(each, psycopg2.Error) and not isinstance(each, errors.PoolError) and _costs(each):
            return True
    return False


def _costs(error: psycopg2.Error) -> bool:
    code = error.pgcode
    if code is None:
        # Not a subclass: psycopg2 raises the bare DatabaseError when libpq has nothing to say but that it failed.
        return isinstance(error, (psycopg2.OperationalError, psycopg2.InterfaceError)) or (
            type(error) is psycopg2.DatabaseError
        )
    return code == READ_ONLY or _LOST.fullmatch(code) is not None


#: What a server or libpq says when to try again is of no use. The texts are those of the C locale: in another language
#: a wrong password is retried, too, until the take's deadline, and then told as the cause.
_PERMANENT = re.compile(
    r"authentication failed|no password supplied|pg_hba\.conf|(database|role) \".*\" does not exist"
    r"|is not permitted to log in|permission denied for database|is not currently accepting connections"
    r"|does not support SSL|certificate|invalid (integer |sslmode )?value|invalid port number"
    r"|unrecognized configuration parameter|unsupported (startup|frontend)|could not parse"
    r"|definition of service|authentication method|password (is|has) expired"
)


def is_transient(error: BaseException) -> bool:
    """Whether connecting may work in a moment: refused, timed out, unresolved, starting up (57P03), too many (53300)."""
    if isinstance(error, psycopg2.OperationalError):
        return _PERMANENT.search(str(error)) is None
    return isinstance(error, OSError)

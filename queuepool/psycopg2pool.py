"""Connection pools for psycopg2: `ConnectionPool`, and two that stand in for psycopg2.pool's by a change of the import."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from threading import get_ident
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar

import psycopg2
from psycopg2.extensions import connection as Connection

from . import errors, pgerrors, pgsession, pgsocket, steps
from .core import DEFAULT, CloseOnException, LeaseRecord, log
from .entries import Entries, pop_own
from .lease import Lease, lease_of
from .lifecycle import Lifecycle
from .pgconnect import Dsn, Target, hidden
from .pgerrors import PoolError
from .pgkeys import Keys
from .pglife import ConnectionLifecycle, Reset
from .pool import Pool
from .slot import Slot
from .slotqueue import FifoSlotQueue, LifoSlotQueue
from .stats import Holder, Observer
from .threads import THREADS, run

if TYPE_CHECKING:
    from .bridge import Bridged

__all__ = ["ConnectionPool", "PoolError", "ServerUnreachable", "SimpleConnectionPool", "ThreadedConnectionPool"]


class ServerUnreachable(PoolError, psycopg2.OperationalError):
    """What `getconn` raises for `Unreachable`: where psycopg2.pool's lets connecting fail with an OperationalError."""


class ConnectionLease(Lease):
    """What `ConnectionPool.lease()` returns: a `Lease` that is left as `ConnectionPool.connection()` is."""

    __slots__ = ()
    _queuepool_classes: ClassVar[weakref.WeakKeyDictionary[type, type[Lease]]] = weakref.WeakKeyDictionary()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        slot = self._queuepool_slot
        if slot is not None:
            object.__setattr__(self, "_queuepool_slot", None)
            self._queuepool_pool._end_transaction(slot, self._queuepool_record, error)
        elif error is None:
            self.unwrap()  # raises: what was done was rolled back by `close()`, as psycopg2's own `with` tells


class Transaction:
    """What `ConnectionPool.connection()` returns: entering it lends a connection, leaving it commits or rolls back."""

    __slots__ = ("_held", "_pool", "_timeout")

    def __init__(self, pool: ConnectionPool, timeout: float | None) -> None:
        self._pool = pool
        self._timeout = timeout
        self._held: Entries[Slot[Connection]] = []

    def __enter__(self) -> Connection:
        pool = self._pool
        slot = pool.take(self._timeout, 2)
        self._held.append((slot, pool._leases[slot]))
        return slot.resource

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        held = self._held
        slot, lease = held.pop(0) if len(held) == 1 else pop_own(held, get_ident)
        self._pool._end_transaction(slot, lease, error)


class ConnectionPool(Pool[Connection]):
    """A pool of psycopg2 connections, for threads.

        pool = ConnectionPool("host=db dbname=shop", name="shop", capacity=10)
        with pool.connection() as conn, conn.cursor() as cursor:
            cursor.execute("SELECT 1")

    Arguments, besides those of `Pool`:
      dsn, connect_kwargs: as for `psycopg2.connect`. The DSN, and any value that is neither `connection_factory` nor
        `cursor_factory`, may be a function that returns it; it is called at each opening, so passwords may rotate.
        libpq's `connect_timeout`, `tcp_user_timeout`, `keepalives_idle`, `keepalives_interval` and `keepalives_count`
        default to `pgconnect.DEFAULTS`. With `target_session_attrs`, a connection whose server has changed its role
        is recognised by its next answer, and closed.
      reset: what is done at put. "rollback" ends the transaction and restores the connection's attributes, with no
        round trip when there is nothing to do. "full" also undoes what rollback leaves (SET, temporary tables, LISTEN,
        advisory locks, PREPARE, WITH HOLD) by DISCARD ALL, one round trip. A function is called with the connection
        after the rollback. Whatever fails costs the connection its life and the user nothing.
      configure: is called with each new connection, and again after a full reset; what it sets on the connection is
        what `reset` restores. `lambda conn: conn.set_session(autocommit=True)` makes a pool of autocommit connections.
      close_on_exception: by default what an exception means decides, see `pgerrors.costs_connection`.
      check_after: a connection idle for so many seconds is asked by SELECT 1; each lend looks at its socket anyway.

    Connections are psycopg2's own, no proxies. Passwords are in no repr, log, error or variable of the pool's.
    Raises `psycopg2.ProgrammingError` for a DSN or keyword that libpq does not understand, TypeError and ValueError.
    """

    __slots__ = ("_is_clean", "_keys")

    _lifecycle: ConnectionLifecycle

    def __init__(
        self,
        dsn: Dsn = None,
        *,
        name: str = "postgres",
        capacity: int = 10,
        timeout: float | None = 30.0,
        reset: Reset = "rollback",
        configure: Callable[[Connection], Any] | None = None,
        check_after: float = 30.0,
        max_idle_time: float | None = 300.0,
        max_open_time: float | None = 3600.0,
        max_usage_count: int | None = None,
        close_on_exception: CloseOnException = pgerrors.costs_connection,
        overflow: int = 0,
        max_waiting: int | None = None,
        shed_after: float | None = None,
        min_idle: int = 0,
        jitter: float = 0.05,
        max_opening: int = 4,
        fail_fast: bool = False,
        leak_after: float | None = None,
        nested: str = "new",
        queue_class: type[LifoSlotQueue] | type[FifoSlotQueue] = LifoSlotQueue,
        observer: Observer | None = None,
        clock: Callable[[], float] = time.monotonic,
        quantum: float = 0.0,
        **connect_kwargs: Any,
    ) -> None:
        given = hidden(dsn, connect_kwargs)
        # Whoever prints the variables of this frame, should the next lines raise, is to see no password.
        del dsn, connect_kwargs
        lifecycle = ConnectionLifecycle(Target(given), reset, configure)
        self._is_clean = lifecycle.is_clean if reset == "rollback" else _never
        super().__init__(
            name, capacity, max_idle_time, max_open_time, max_usage_count, close_on_exception,
            lifecycle=lifecycle, overflow=overflow, timeout=timeout, max_waiting=max_waiting, shed_after=shed_after,
            min_idle=min_idle, jitter=jitter, check_after=check_after, max_opening=max_opening, fail_fast=fail_fast,
            leak_after=leak_after, nested=nested, queue_class=queue_class, observer=observer, clock=clock,
            quantum=quantum,
        )  # fmt: skip
        self._keys = Keys(self._leases, self._by_resource)

    # --- lending

    def connection(self, timeout: float | None = DEFAULT) -> Transaction:
        """`with pool.connection() as conn:` commits at the end, or rolls back on an exception, and puts the connection back.

        Waits, and raises, as `take` does. With autocommit there is nothing to commit, except after a BEGIN of one's own.
        With `nested="same"` the outermost `with` decides.
        """
        return Transaction(self, timeout)

    def lease(self, timeout: float | None = DEFAULT) -> Lease:
        """Lend a handle that behaves like the connection; as `take`. Its `close()` rolls back and gives the connection back.

        `with lease:` commits or rolls back, as psycopg2's `with conn:` does and in the manner of `connection`; but then it
        gives the connection back, as every `with` of a pool's does. What enters or uses it again gets `LeaseClosed`.
        """
        return lease_of(self, self.take(timeout, 2), ConnectionLease)

    def aconnection(self, timeout: float | None = DEFAULT) -> Bridged[Connection]:
        """`async with pool.aconnection() as conn:` is `connection` for coroutines; its statements belong in a thread too,
        as by `asyncio.to_thread`. See `bridge.borrow`."""
        from .bridge import borrow  # with asyncio, which programs of threads do without

        return borrow(self, timeout, self._end_transaction, _depth=2)

    def _end_transaction(self, slot: Slot[Connection], lease: LeaseRecord, error: BaseException | None) -> None:
        """Commit, unless there is an `error`, and put back the slot of `lease`."""
        if self._leases.get(slot) is not lease:
            # It may be somebody else's by now, and is not to be committed or put back again.
            log.warning("%s: slot %s was put back before its `with` ended", self.name, slot.name)
            return
        entry = self._nesting.get(lease[2]) if self._nesting else None
        nested = entry is not None and entry[0] is slot and entry[1] > 1
        if error is None and not slot.inherited and not nested:
            try:
                pgsession.commit(slot.resource)
            except BaseException as failure:
                self._put_after(slot, failure)
                raise
        slot.__exit__(None, error, None)

    def _heed(self, lifecycle: Lifecycle[Connection]) -> None:  # type: ignore[override]
        # Not the base's: it would send every put through the flow that resets, and `put` below sees to that.
        self._quiet_time = min(self._quiet_time, self._limits.check_after)

    def put(self, slot: Slot[Connection]) -> None:
        try:
            clean = self._is_clean(slot.resource)
        except (AttributeError, KeyError):  # no slot, or an empty one
            clean = False
        if not clean:
            lease = self._leases.pop(slot, None)
            if lease is not None:
                self._note_closed(slot)
                run(steps.put_leased(self, THREADS, slot, lease))
                return
        Pool.put(self, slot)  # there is nothing to reset, or it is to say what is wrong with it

    def _put_after(self, slot: Slot[Connection], error: BaseException) -> None:
        if slot in self._leases:
            self._note_closed(slot)
            if pgerrors.costs_connection(error):
                steps.suspect_all(self)  # what one has lost, others may have lost too
        super()._put_after(slot, error)

    def _note_closed(self, slot: Slot[Connection]) -> None:
        conn = slot.resource
        if conn is not None and conn.closed:
            slot.condemn("closed" if conn.closed == 1 else "lost")
            if conn.closed != 1:
                steps.suspect_all(self)

    # --- psycopg2.pool's names

    @property
    def closed(self) -> bool:
        """Whether `close` or `closeall` was called."""
        return self._closed

    @property
    def minconn(self) -> int:
        """How many connections sweeps keep open: `min_idle`."""
        return self._min_idle

    @property
    def maxconn(self) -> int:
        """How many connections there may be: `capacity` and `overflow`."""
        return self._capacity + self._overflow

    def getconn(self, key: Hashable = None, timeout: float | None = DEFAULT) -> Connection:
        """Lend a connection; give it back by `putconn`. With a `key` that has one out already, the same one again.

        It stays lent until it is put back, also if nobody refers to it and if the thread has ended: by the key, another may
        have it. Waits at most `timeout` seconds (default: the pool's). Raises `PoolError`, which in an outage is
        `ServerUnreachable`, or what psycopg2 raises on connecting.
        """
        conn = None if self._closed else self._keys.find(key)
        if conn is not None:
            return conn
        with _psycopg2_error():
            slot = self.take(timeout, 2)
        conn = slot.resource
        first = conn if key is None else self._keys.claim(key, conn, self._leases[slot])
        if first is not conn:
            self.put(slot)
        return first

    def putconn(self, conn: Connection | None = None, key: Hashable = None, close: bool = False) -> None:
        """Give back what `getconn` returned, named by itself or by its key; `close` closes it. Raises `PoolError`."""
        if conn is None:
            conn = self._keys.find(key)
        slot = self._by_resource.get(id(conn))
        lease = None if slot is None or slot.resource is not conn else self._leases.get(slot)
        if conn is None or slot is None or lease is None:
            raise PoolError(f"{self.name}: trying to put a connection that is not out on loan from here")
        if close:
            slot.close()
        with _psycopg2_error():
            self.put(slot)
        self._keys.forget(conn, lease, key)

    def release(self, resource: Connection) -> None:
        slot = self._by_resource.get(id(resource))
        lease = None if slot is None else self._leases.get(slot)
        super().release(resource)
        self._keys.forget(resource, lease)

    def closeall(self) -> None:
        """Close every connection, also those out on loan, whose users get errors. Raises `PoolError` the second time."""
        if self._closed:
            raise PoolError(f"{self.name}: the pool is closed")
        self.close(0.0)
        for slot in list(self._leases):
            conn = slot.resource
            if conn is not None:
                pgsocket.sever(conn)
                try:
                    conn.close()
                except Exception as error:
                    self._note_failure(slot, "close", error)

    # --- ending

    #: The share of `close`'s timeout that running queries are given to end by themselves, and then by being cancelled.
    GRACE, CANCEL = 0.6, 0.2

    def cancel_all(self, timeout: float = 1.0) -> int:
        """Cancel every query that is running on a connection of this pool; return how many. Their users get QueryCanceled.

        Asks the server first whether it answers newcomers within `timeout` seconds: psycopg2's `cancel()` stops the
        whole interpreter until the server has answered. Any thread may call it.
        """
        running = self._running()
        if not running:
            return 0
        if not pgsocket.answers(running[0][2], timeout):
            log.warning("%s: the server does not answer, so no query was cancelled", self.name)
            return 0
        count = 0
        for slot, lease, conn in running:
            # Each cancel takes its time, in which the next connection may have got another user.
            if self._leases.get(slot) is lease and _runs_query(conn):
                try:
                    conn.cancel()
                    count += 1
                except psycopg2.Error as error:  # it was closed just now, or the server takes no more connections
                    log.warning(
                        "%s: a query of %s could not be cancelled: %s", self.name, slot.name, type(error).__name__
                    )
        return count

    def _running(self) -> list[tuple[Slot[Connection], LeaseRecord, Connection]]:
        """The connections out on loan on which a query runs, with their slots and leases."""
        held = [(slot, lease, slot.resource) for slot, lease in list(self._leases.items())]
        return [each for each in held if each[2] is not None and _runs_query(each[2])]

    def close(self, timeout: float | None = 5.0) -> list[Holder]:
        """`Pool.close`, which cancels the queries that still run when most of `timeout` is over, and in the end shuts the
        sockets down under those that not even that has ended. None waits for as long as they take.
        """
        if timeout is None:
            return super().close(None)
        ends_at = time.monotonic() + timeout
        holders = super().close(timeout * self.GRACE)
        if holders and timeout:
            self.cancel_all(min(1.0, timeout * self.CANCEL))
            holders = super().close(max(0.0, ends_at - timeout * self.CANCEL - time.monotonic()))
        for _, _, conn in self._running():
            pgsocket.sever(conn)
        return super().close(max(0.0, ends_at - time.monotonic())) if holders else holders


#: The arguments of `psycopg2.connect` that may come by position.
_POSITIONAL = ("dsn", "connection_factory", "cursor_factory")


class ThreadedConnectionPool(ConnectionPool):
    """psycopg2.pool's class of this name, for code that changes nothing but its import. What is different: when all
    `maxconn` are taken, `getconn` waits for up to `timeout` seconds (30) before it raises; it lends no dead connection;
    it keeps up to `maxconn` open, while they are used; and it heals itself after an outage.

    The arguments are psycopg2.pool's: `minconn` connections are opened at once, the rest is for `psycopg2.connect`.
    Keyword arguments of `ConnectionPool`, such as `timeout` or `reset`, are understood too.
    """

    __slots__ = ()

    def __init__(self, minconn: int, maxconn: int, *args: Any, **kwargs: Any) -> None:
        surplus = len(args) > len(_POSITIONAL)
        given = hidden(dict(zip(_POSITIONAL, args)), kwargs)
        del args, kwargs  # as in the base
        if surplus:
            raise TypeError(f"at most {', '.join(_POSITIONAL)} may come by position")
        super().__init__(capacity=int(maxconn), min_idle=int(minconn), **given()[0], **given()[1])
        self.prefill(self._min_idle)


class SimpleConnectionPool(ThreadedConnectionPool):
    """psycopg2.pool's class of this name. It is safe to share between threads, which psycopg2's is not."""

    __slots__ = ()


def _never(conn: Connection) -> bool:
    return False


def _runs_query(conn: Connection) -> bool:
    return not conn.closed and conn.info.transaction_status == pgsession.ACTIVE


@contextmanager
def _psycopg2_error() -> Iterator[None]:
    """Raise what the pool raises as psycopg2.pool's error."""
    try:
        yield
    except errors.Unreachable as error:
        raise ServerUnreachable(str(error)) from error
    except errors.PoolError as error:
        raise PoolError(str(error)) from error

"""The server is away: takes end by their deadline and say why, attempts are few, and all is well once it is back."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import psycopg2
import pytest
from psycopg2.extensions import connection

import queuepool
from queuepool import pgerrors, pgwatch
from queuepool.pglife import ConnectionLifecycle
from queuepool.psycopg2pool import ConnectionPool, PoolError

from .processes import wait_until
from .proxy import Proxy
from .server import Postgres, Server

#: How much later than its deadline a take may end, in seconds.
MARGIN = 0.1


def ask(conn: connection, statement: str = "SELECT 1") -> Any:
    with conn.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchone()


def seconds(deed: Callable[[], object]) -> float:
    began = time.monotonic()
    deed()
    return time.monotonic() - began


def test_a_refused_connection_is_told_as_unreachable_by_the_deadline(database: Postgres) -> None:
    with ConnectionPool(database.dsn(port=1), name="shop") as pool:

        def take() -> None:
            with pytest.raises(queuepool.Unreachable, match=r"shop: no slot .*unreachable.*refused") as caught:
                pool.take(timeout=0.5)
            assert isinstance(caught.value.__cause__, psycopg2.OperationalError)

        assert 0.5 <= seconds(take) < 0.5 + MARGIN
        assert pool.stats().unreachable
        assert pool.stats().open_errors < 10
        with pytest.raises(PoolError, match="unreachable"):
            pool.getconn(timeout=0.2)


def test_without_patience_what_psycopg2_says_comes_at_once(database: Postgres) -> None:
    with ConnectionPool(database.dsn(port=1), timeout=None) as pool:
        with pytest.raises(psycopg2.OperationalError, match="refused"):
            pool.take()
        with pytest.raises(psycopg2.OperationalError, match="refused"):
            ConnectionPool(database.dsn(port=1), fail_fast=True).take(timeout=5)


def test_exhaustion_is_not_taken_for_an_outage(database: Postgres) -> None:
    with (
        ConnectionPool(database.dsn(), capacity=1) as pool,
        pool.connection(),
        pytest.raises(queuepool.Exhausted, match="oldest holder"),
    ):
        pool.take(timeout=0.05)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"password": "wrong"}, "password authentication failed"),
        ({"password": None}, "no password supplied"),
        ({"dbname": "nowhere"}, 'database "nowhere" does not exist'),
        ({"port": "70000"}, "port"),
        ({"sslmode": "require"}, "does not support SSL"),
    ],
)
def test_what_time_does_not_mend_is_told_at_once(own_postgres: Server, wrong: dict[str, Any], says: str) -> None:
    role = own_postgres.create_role("clerk", "right")
    with ConnectionPool(role.dsn(**wrong), timeout=20.0) as pool:

        def take() -> None:
            with pytest.raises(psycopg2.OperationalError, match=says):
                pool.take()

        assert seconds(take) < 2.0
        assert not pool.stats().unreachable


def test_a_refusal_is_not_asked_for_again_and_again(own_postgres: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    role = own_postgres.create_role("clerk", "right")
    passwords = iter(["wrong", "right"])
    with closing(Proxy(role)) as proxy, ConnectionPool(proxy.dsn(), password=lambda: next(passwords)) as pool:
        for _ in range(20):
            with pytest.raises(psycopg2.OperationalError, match="password"):
                pool.take()
        assert proxy.attempts == 1
        monkeypatch.setattr(ConnectionLifecycle, "REFUSAL_TIME", 0.0)
        threading.Event().wait(0.6)
        with pool.connection() as conn:
            assert ask(conn) == (1,)


def test_a_name_that_does_not_resolve_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    with ConnectionPool("host=no-such-host.invalid") as pool, pytest.raises(queuepool.Unreachable, match="translate"):
        assert seconds(lambda: pool.take(timeout=1.0)) < 1.0 + MARGIN


@pytest.mark.parametrize(
    ("text", "transient"),
    [
        ("connection refused", True),
        ("could not translate host name", True),
        ("FATAL:  the database system is starting up", True),
        ("FATAL:  sorry, too many clients already", True),
        ("session is read-only", True),
        ("timeout expired", True),
        ('FATAL:  password authentication failed for user "x"', False),
        ('FATAL:  role "x" does not exist', False),
        ('FATAL:  no pg_hba.conf entry for host "::1"', False),
        ('FATAL:  role "the "best"" does not exist', False),
        ('invalid integer value "x" for connection option "port"', False),
        ('connection to server on socket "/run/certificates/.s.PGSQL.5432" failed: No such file or directory', True),
    ],
)
def test_only_some_failures_are_worth_another_attempt(text: str, transient: bool) -> None:
    assert pgerrors.is_transient(psycopg2.OperationalError(text)) is transient


def test_failures_of_other_kinds_are_judged_by_their_class() -> None:
    assert pgerrors.is_transient(ConnectionRefusedError())
    assert not pgerrors.is_transient(psycopg2.ProgrammingError("invalid dsn"))
    assert not pgerrors.is_transient(KeyError())


def test_a_server_out_of_connections_is_waited_for_without_a_storm(make_postgres: Any) -> None:
    server = make_postgres(max_connections=7, superuser_reserved_connections=3, max_wal_senders=0)
    role = server.create_role("clerk", "secret")
    guests = [role.connect() for _ in range(4)]
    with ConnectionPool(role.dsn(), capacity=2) as pool:
        with pytest.raises(queuepool.Unreachable, match="connection slots"):
            pool.take(timeout=0.6)
        assert pool.stats().open_errors < 10
        threading.Timer(0.3, guests[0].close).start()
        with pool.connection(timeout=5.0) as conn:
            assert ask(conn) == (1,)
    for guest in guests:
        guest.close()


def test_a_server_that_recovers_is_waited_for(own_postgres: Server) -> None:
    with ConnectionPool(own_postgres.dsn(), capacity=2) as pool:
        pool.prefill()
        (own_postgres.local.data / "standby.signal").touch()
        own_postgres.configure(hot_standby="off")  # as primary_conninfo is empty, it recovers for ever: 57P03
        with pytest.raises(queuepool.Unreachable, match=r"not (yet )?accepting connections"):
            pool.take(timeout=0.6)
        assert pool.stats().open_errors < 10
        own_postgres.stop()
        (own_postgres.local.data / "standby.signal").unlink()
        own_postgres.start()
        with pool.connection(timeout=5.0) as conn:
            assert ask(conn) == (1,)


def test_an_outage_under_load_ends_for_everyone_at_once(own_postgres: Server) -> None:
    failures, first_success, lock = [], [0.0], threading.Lock()
    stop = threading.Event()

    with ConnectionPool(own_postgres.dsn(), capacity=8, timeout=1.0) as pool:
        pool.prefill()

        def work(_: int) -> None:
            while not stop.is_set():
                try:
                    with pool.connection() as conn:
                        ask(conn)
                    now = time.monotonic()
                    with lock:
                        if down_at and up_at and not first_success[0]:
                            first_success[0] = now
                except (psycopg2.Error, queuepool.PoolError):
                    failures.append(time.monotonic())

        down_at: list[float] = []
        up_at: list[float] = []
        with ThreadPoolExecutor(8) as executor:
            for number in range(8):
                executor.submit(work, number)
            threading.Event().wait(0.2)
            own_postgres.stop("immediate")
            down_at.append(time.monotonic())
            before = pool.stats().open_errors
            threading.Event().wait(2.0)
            attempts = pool.stats().open_errors - before
            own_postgres.start()
            up_at.append(time.monotonic())
            threading.Event().wait(1.0)
            stop.set()
        assert attempts <= 40  # 20 a second
        assert first_success[0] - up_at[0] < 1.0
        assert max(failures) - up_at[0] < 1.0
        slots = [pool.take() for _ in range(8)]
        assert [ask(slot.resource) for slot in slots] == [(1,)] * 8
        for slot in slots:
            pool.put(slot)


# --- frozen


def test_a_frozen_server_keeps_no_take_beyond_its_deadline(own_postgres: Server) -> None:
    with ConnectionPool(own_postgres.dsn(), capacity=4, check_after=0.0) as pool:
        pool.prefill(2)

        def take(_: int) -> float:
            def attempt() -> None:
                with pytest.raises(queuepool.PoolTimeout):
                    pool.take(timeout=0.5)

            return seconds(attempt)

        with own_postgres.frozen(), ThreadPoolExecutor(8) as executor:
            assert max(executor.map(take, range(8))) < 0.5 + 2 * MARGIN
        with pool.connection(timeout=10.0) as conn:
            assert ask(conn) == (1,)


def test_a_frozen_server_ends_a_reset_and_a_check_that_nobody_waits_for(
    own_postgres: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ConnectionLifecycle, "RESET_TIME", 0.3)
    monkeypatch.setattr(ConnectionLifecycle, "CHECK_TIME", 0.3)
    with ConnectionPool(own_postgres.dsn(), capacity=2, check_after=0.01) as pool:
        pool.prefill()
        slot = pool.take()
        ask(slot.resource)
        with own_postgres.frozen():
            assert seconds(lambda: pool.put(slot)) < 1.5  # it rolls back
            assert seconds(pool.recycle) < 1.5  # it checks
        assert pool.stats().closes == {"reset": 1, "check": 1}
        with pool.connection() as conn:
            assert ask(conn) == (1,)


def test_the_watch_over_deadlines_ends_when_there_is_nothing_to_watch_and_begins_again(
    monkeypatch: pytest.MonkeyPatch, database: Postgres
) -> None:
    monkeypatch.setattr(pgwatch, "INTERVAL", 0.01)
    monkeypatch.setattr(pgwatch, "LINGER", -1.0)  # it asks at every turn whether it can go

    def watching() -> bool:
        return any(thread.name == "queuepool deadlines" for thread in threading.enumerate())

    conn = database.connect()
    for _ in range(2):
        with pgwatch.Deadline(conn, 60.0):
            wait_until(watching, "it watches")
            threading.Event().wait(0.05)
            assert watching()
        wait_until(lambda: not watching(), "it has gone")
    assert not conn.closed
    conn.close()


def test_the_watch_is_begun_once_and_anew_in_a_forked_child(database: Postgres) -> None:
    conn = database.connect()
    with pgwatch.Deadline(conn, 0.0):
        before = threading.active_count()
        pgwatch._start()
        assert threading.active_count() == before
        pgwatch._after_in_child()  # the parent's calls are not the child's to end
        assert pgwatch._watched == {}
        assert not pgwatch._state.running
    conn.close()


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_a_watch_that_could_not_begin_is_begun_by_the_next_and_nothing_stays_watched(
    error: type[BaseException], monkeypatch: pytest.MonkeyPatch, database: Postgres
) -> None:
    def no_thread(self: threading.Thread) -> None:
        raise error

    pgwatch._after_in_child()  # as if nothing had been watched so far
    monkeypatch.setattr(pgwatch, "INTERVAL", 0.01)
    conn = database.connect()
    with monkeypatch.context() as patched, contextlib.suppress(KeyboardInterrupt):
        patched.setattr(threading.Thread, "start", no_thread)
        with pgwatch.Deadline(conn, 60.0):
            pass
    assert pgwatch._watched == {}
    with pgwatch.Deadline(conn, 0.0) as deadline:
        wait_until(lambda: deadline.passed, "its time is over")
        assert pgwatch._watched == {}, "it is told once"
    with pytest.raises(psycopg2.OperationalError):
        conn.cursor().execute("SELECT 1")


# --- a network that swallows


def test_a_connection_that_died_silently_while_idle_is_found_at_take(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ConnectionLifecycle, "CHECK_TIME", 0.3)
    with ConnectionPool(proxy.dsn(), capacity=1, check_after=0.0) as pool:
        pool.prefill()
        proxy.swallow()
        with pytest.raises(queuepool.PoolTimeout):
            pool.take(timeout=1.0)
        proxy.forward()
        with pool.connection(timeout=10.0) as conn:
            assert ask(conn) == (1,)


def test_a_reset_by_the_network_reaches_nobody_who_was_idle(proxy: Proxy) -> None:
    with ConnectionPool(proxy.dsn(), capacity=3) as pool:
        pool.prefill()
        proxy.reset()
        proxy.forward()
        for _ in range(6):
            with pool.connection() as conn:
                assert ask(conn) == (1,)


def test_refused_for_a_while_the_pool_comes_back_by_itself(proxy: Proxy) -> None:
    with ConnectionPool(proxy.dsn(), capacity=3) as pool:
        pool.prefill()
        proxy.hang_up()
        proxy.refuse()
        with pytest.raises(queuepool.Unreachable):
            pool.take(timeout=0.3)
        threading.Timer(0.5, proxy.forward).start()
        with pool.connection(timeout=5.0) as conn:
            assert ask(conn) == (1,)

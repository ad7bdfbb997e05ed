"""Lost connections: none is lent that could be known dead, and what an exception means decides whether one is kept."""

from __future__ import annotations

import select
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import psycopg2
import pytest
from psycopg2.extensions import connection

import queuepool
from queuepool import pgsession, pgsocket
from queuepool.psycopg2pool import ConnectionPool

from ..support import FREE_THREADED
from .processes import wait_until
from .server import Postgres, Server


@pytest.fixture
def pool(database: Postgres) -> Iterator[ConnectionPool]:
    with ConnectionPool(database.dsn(), capacity=3, timeout=10.0) as opened:
        yield opened


def ask(conn: connection, statement: str = "SELECT 1") -> Any:
    with conn.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchone()


@pytest.fixture(params=["libc", "poll", "select"])
def way_to_look(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    way: str = request.param
    if way != "libc":
        monkeypatch.setattr(pgsocket, "_watch", None)
    if way == "select":
        monkeypatch.delattr(select, "poll")
    return way


@pytest.mark.usefixtures("way_to_look")
def test_connections_killed_while_idle_reach_nobody(pool: ConnectionPool, database: Postgres) -> None:
    pool.prefill()
    assert database.terminate_backends() == 3
    for _ in range(6):
        with pool.connection() as conn:
            assert ask(conn) == (1,)
    assert pool.stats().open_errors == 0
    assert pool.stats().closes["check"] >= 1


def test_all_of_fifty_are_replaced_without_an_error(make_postgres: Any) -> None:
    # How fast is for the benchmark to say (`python -m tests.bench --only killed`), on a machine that does nothing else.
    server = make_postgres(max_connections=60)
    with ConnectionPool(server.dsn(), capacity=50, timeout=10.0, max_opening=50) as pool:
        pool.prefill()
        assert server.terminate_backends() == 50
        slots = [pool.take() for _ in range(50)]
        for slot in slots:
            assert ask(slot.resource) == (1,)
        for slot in slots:
            pool.put(slot)
        assert pool.stats().opens.count == 100


@pytest.mark.usefixtures("way_to_look")
def test_a_notification_is_not_a_death(pool: ConnectionPool, database: Postgres) -> None:
    with pool.connection() as conn:
        ask_nothing(conn, "LISTEN news")
        pid = conn.info.backend_pid
    database.execute("NOTIFY news, 'text'")
    with pool.take() as slot:
        assert slot.resource is conn
        assert slot.resource.info.backend_pid == pid
        assert conn.notifies == []
    assert pool.stats().closes == {}


def ask_nothing(conn: connection, statement: str) -> None:
    with conn.cursor() as cursor:
        cursor.execute(statement)


def test_a_worker_gets_its_notifications(pool: ConnectionPool, database: Postgres) -> None:
    with pool.connection() as conn:
        conn.autocommit = True
        ask_nothing(conn, "LISTEN news")
        database.execute("NOTIFY news, 'text'")
        select.select([conn], [], [], 10)
        conn.poll()
        assert [notify.payload for notify in conn.notifies] == ["text"]


def test_a_lend_costs_the_server_nothing(pool: ConnectionPool, database: Postgres) -> None:
    with pool.connection() as conn:
        ask(conn)
    last = "SELECT state_change FROM pg_stat_activity WHERE pid = %s"
    before = database.execute(last, [conn.info.backend_pid])
    with pool.connection():
        pass
    assert database.execute(last, [conn.info.backend_pid]) == before


@pytest.mark.parametrize("autocommit", [False, True])
def test_after_long_idleness_the_server_is_asked(database: Postgres, autocommit: bool) -> None:
    now = [0.0]

    def configure(conn: connection) -> None:
        conn.autocommit = autocommit

    with ConnectionPool(
        database.dsn(), capacity=1, check_after=30.0, clock=lambda: now[0], configure=configure
    ) as pool:
        with pool.connection() as conn:
            pid = conn.info.backend_pid
        last = "SELECT query FROM pg_stat_activity WHERE pid = %s"
        before = database.execute(last, [pid])
        now[0] = 31.0
        with pool.connection() as again:
            assert again is conn
            assert conn.autocommit is autocommit
        assert database.execute(last, [pid]) == [("SELECT 1",)] != before
        assert conn.info.transaction_status == 0


@pytest.mark.parametrize("autocommit", [False, True])
@pytest.mark.parametrize("end", ["SELECT pg_terminate_backend(pg_backend_pid())", "a severed socket", "conn.close()"])
def test_a_connection_lost_in_use_costs_its_user_one_error(pool: ConnectionPool, autocommit: bool, end: str) -> None:
    def lose(conn: connection) -> None:
        conn.autocommit = autocommit
        if end == "a severed socket":
            pgsocket.sever(conn)
        elif end == "conn.close()":
            conn.close()
        ask(conn, end)

    with pytest.raises((psycopg2.OperationalError, psycopg2.InterfaceError)), pool.connection() as conn:
        lose(conn)
    assert pool.stats().closes == {"closed" if end == "conn.close()" else "lost": 1}
    with pool.connection() as conn:
        assert ask(conn) == (1,)
    assert pool.stats().slots == 3


def test_terminated_in_a_transaction_is_never_replayed(pool: ConnectionPool, database: Postgres) -> None:
    database.execute("CREATE TABLE journal (n int)")

    def two_rows(conn: connection) -> None:
        ask_nothing(conn, "INSERT INTO journal VALUES (1)")
        database.terminate_backends(conn.info.backend_pid)
        ask_nothing(conn, "INSERT INTO journal VALUES (2)")

    with pytest.raises(psycopg2.OperationalError), pool.connection() as conn:
        two_rows(conn)
    assert database.execute("SELECT n FROM journal") == []


def test_a_commit_that_may_not_have_arrived_is_told_and_not_repeated(pool: ConnectionPool, database: Postgres) -> None:
    database.execute("CREATE TABLE journal (n int)")
    with pytest.raises(psycopg2.OperationalError), pool.connection() as conn:
        insert_and_die(conn, database)
    assert database.execute("SELECT n FROM journal") == []
    assert pool.stats().taken == 0


def insert_and_die(conn: connection, database: Postgres) -> None:
    ask_nothing(conn, "INSERT INTO journal VALUES (1)")
    database.terminate_backends(conn.info.backend_pid)


def test_a_loss_makes_the_pool_ask_the_others_before_lending_them(pool: ConnectionPool, database: Postgres) -> None:
    pool.prefill()
    with suppress(psycopg2.OperationalError), pool.connection() as conn:
        database.terminate_backends(conn.info.backend_pid)
        ask(conn)
    with pool.take() as slot:
        assert slot.checked_at > 0  # asked by SELECT 1, though it was idle but for a moment


def test_an_idle_session_timeout_reaches_nobody(pool: ConnectionPool, database: Postgres) -> None:
    name = str(database.kwargs()["dbname"])
    database.execute(f'ALTER DATABASE "{name}" SET idle_session_timeout = 100')
    with pool.connection() as conn:
        assert ask(conn) == (1,)
    database.wait_for_connections(0)
    with pool.connection() as conn:
        assert ask(conn) == (1,)


def test_an_idle_transaction_timeout_costs_that_connection_alone(pool: ConnectionPool, database: Postgres) -> None:
    def dawdle(conn: connection) -> None:
        ask_nothing(conn, "SET idle_in_transaction_session_timeout = 50")
        assert select.select([conn], [], [], 10)[0]
        ask(conn)

    with pytest.raises(psycopg2.Error), pool.connection() as conn:
        dawdle(conn)
    with pool.connection() as conn:
        assert ask(conn) == (1,)


def test_a_crash_of_the_server_rebuilds_every_slot(own_postgres: Server) -> None:
    with ConnectionPool(own_postgres.dsn(), capacity=3, timeout=20.0) as pool:
        pool.prefill()

        def work(conn: connection) -> None:
            own_postgres.kill_backend(conn.info.backend_pid)
            ask(conn)

        with pytest.raises(psycopg2.OperationalError), pool.connection() as conn:
            work(conn)
        slots = [pool.take() for _ in range(3)]
        assert [ask(slot.resource) for slot in slots] == [(1,)] * 3
        for slot in slots:
            pool.put(slot)


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_a_restart_of_the_server_reaches_nobody_who_was_not_using_it(own_postgres: Server, mode: str) -> None:
    with ConnectionPool(own_postgres.dsn(), capacity=3, timeout=20.0) as pool:
        pool.prefill()
        own_postgres.restart(mode)
        for _ in range(6):
            with pool.connection() as conn:
                assert ask(conn) == (1,)


def test_a_ping_of_a_dead_connection_raises_what_psycopg2_does(database: Postgres) -> None:
    conn = database.connect()
    database.terminate_backends(conn.info.backend_pid)
    with pytest.raises(psycopg2.OperationalError):
        pgsession.ping(conn)
    assert conn.closed


# --- what exceptions mean


@pytest.mark.parametrize(
    ("statement", "error"),
    [
        ("INSERT INTO one VALUES (1), (1)", psycopg2.errors.UniqueViolation),
        ("SET LOCAL statement_timeout = 20; SELECT pg_sleep(60)", psycopg2.errors.QueryCanceled),
        ("SELECT pg_cancel_backend(pg_backend_pid()), pg_sleep(60)", psycopg2.errors.QueryCanceled),
        ("nonsense", psycopg2.errors.SyntaxError),
        ("SELECT 1/0", psycopg2.errors.DivisionByZero),
        ("SET LOCAL lock_timeout = 1; SELECT 1 / (SELECT 0)", psycopg2.DataError),
    ],
)
def test_an_error_of_the_statement_keeps_the_connection(
    pool: ConnectionPool, database: Postgres, statement: str, error: type[Exception]
) -> None:
    database.execute("CREATE TABLE one (n int UNIQUE)")
    with pytest.raises(error), pool.connection() as conn:
        ask(conn, statement)
    with pool.connection() as again:
        assert again is conn
        assert ask(again) == (1,)


def test_an_error_of_the_program_keeps_the_connection(pool: ConnectionPool) -> None:
    with pytest.raises(ZeroDivisionError), pool.connection() as conn:
        print(1 / 0)
    with pool.connection() as again:
        assert again is conn


def fail_on_the_interface(conn: connection, database: Postgres) -> None:
    cursor = conn.cursor()
    cursor.close()
    cursor.execute("SELECT 1")


def fail_read_only(conn: connection, database: Postgres) -> None:
    conn.readonly = True
    ask(conn, "CREATE TABLE t (n int)")


def fail_read_only_by_hand(conn: connection, database: Postgres) -> None:
    ask_nothing(conn, "SET TRANSACTION READ ONLY")
    ask(conn, "CREATE TABLE t (n int)")


def fail_to_connect(conn: connection, database: Postgres) -> None:
    ask(conn)
    database.connect(port=1)


def fail_to_take(conn: connection, database: Postgres) -> None:
    with ConnectionPool(database.dsn(port=1), timeout=0.0) as other, other.connection():
        pass


def fail_in_another_pool(conn: connection, database: Postgres) -> None:
    with ConnectionPool(database.dsn(), capacity=1) as other, other.connection() as lost:
        ask(lost, "SELECT pg_terminate_backend(pg_backend_pid())")


def fail_to_write_in_another_pool(conn: connection, database: Postgres) -> None:
    options = "-c default_transaction_read_only=on"
    with ConnectionPool(database.dsn(options=options), capacity=1) as other, other.connection() as reader:
        ask(reader, "CREATE TABLE t (n int)")


@pytest.mark.parametrize(
    "deed",
    [
        fail_on_the_interface,
        fail_read_only,
        fail_read_only_by_hand,
        fail_to_connect,
        fail_to_take,
        fail_in_another_pool,
        fail_to_write_in_another_pool,
    ],
)
def test_an_error_that_is_not_the_connections_keeps_it_and_suspects_none(
    pool: ConnectionPool, database: Postgres, deed: Any
) -> None:
    pool.prefill()
    with pytest.raises((psycopg2.Error, queuepool.PoolError)), pool.connection() as conn:
        deed(conn, database)
    assert not conn.closed
    assert pool.stats().closes == {}
    assert not any(slot.suspect for slot in pool._queue.snapshot())


def raise_plainly(error: psycopg2.Error) -> None:
    raise error


def raise_wrapped(error: psycopg2.Error) -> None:
    raise RuntimeError("could not save") from error


@pytest.mark.parametrize("fail", [raise_plainly, raise_wrapped])
def test_an_error_after_which_nobody_knows_the_state_costs_the_connection(pool: ConnectionPool, fail: Any) -> None:
    with pytest.raises((psycopg2.Error, RuntimeError)), pool.connection() as conn:
        # What psycopg2 raises when a child process has read the answer from the socket it inherited.
        fail(psycopg2.DatabaseError("error with status PGRES_TUPLES_OK and no message from the libpq"))
    assert conn.closed
    assert pool.stats().closes == {"exception": 1}


@pytest.mark.parametrize(("rule", "closes"), [(True, 1), (False, 0), (KeyError, 1), (lambda error: False, 0)])
def test_the_rule_for_exceptions_may_be_ones_own(database: Postgres, rule: Any, closes: int) -> None:
    with ConnectionPool(database.dsn(), capacity=1, close_on_exception=rule) as pool:
        with pytest.raises(KeyError), pool.connection():
            raise KeyError
        assert pool.stats().closes.get("exception", 0) == closes


def test_an_error_of_the_program_makes_no_other_connection_suspect(database: Postgres) -> None:
    with ConnectionPool(database.dsn(), capacity=2, close_on_exception=True) as pool:
        pool.prefill()
        with pytest.raises(ZeroDivisionError), pool.connection():
            print(1 / 0)
        assert not any(slot.suspect for slot in pool._queue.snapshot())


# --- the socket


def test_severing_ends_a_query_that_is_running(pool: ConnectionPool, database: Postgres) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as executor, pool.take() as slot:
        query = executor.submit(ask, slot.resource, "SELECT pg_sleep(60)")
        running = "SELECT 1 FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%%' AND pid = %s"
        wait_until(lambda: database.execute(running, [slot.resource.info.backend_pid]), "the query runs")
        pgsocket.sever(slot.resource)
        with pytest.raises(psycopg2.OperationalError):
            query.result(5)


def test_a_socket_of_a_closed_connection_is_neither_severed_nor_asked(database: Postgres) -> None:
    conn = database.connect()
    conn.close()
    pgsocket.sever(conn)
    assert not pgsocket.answers(conn, 0.1)


def test_a_descriptor_too_large_for_select_is_left_to_the_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(select, "poll")
    monkeypatch.setattr(pgsocket, "_watch", None)

    class Far:
        def fileno(self) -> int:
            return 100_000

    far: Any = Far()
    assert pgsocket.watch(far)()
    assert not pgsocket.is_dead(far)


def test_a_socket_with_news_is_suspicious_and_one_hung_up_is_dead(way_to_look: str) -> None:
    sockets: Any = socket.socketpair()
    left, right = sockets
    look = pgsocket.watch(left)
    assert not look()
    right.send(b"news")
    assert look()
    assert not pgsocket.is_dead(left)
    right.close()
    assert look()
    assert pgsocket.is_dead(left) is (way_to_look != "select")
    left.close()


def test_an_interpreter_without_ctypes_looks_in_another_way() -> None:
    script = (
        "import sys; sys.modules['ctypes'] = None; from queuepool import psycopg2pool, pgsocket; print(pgsocket._watch)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60.0)
    assert done.stdout.strip() == "None", done.stderr


@pytest.mark.skipif(FREE_THREADED, reason="there is no GIL")
def test_a_take_and_a_put_never_let_go_of_the_gil(pool: ConnectionPool) -> None:
    """Whoever does, beside a thread that computes, gets it back 5 ms later."""
    go, times_that_it_ran = threading.Event(), []

    def neighbour() -> None:
        go.wait()
        times_that_it_ran.append(1)

    thread = threading.Thread(target=neighbour)
    thread.start()
    pool.put(pool.take())
    interval = sys.getswitchinterval()
    sys.setswitchinterval(30.0)  # from now on it runs only when this thread lets it
    try:
        go.set()
        for _ in range(5_000):
            pool.put(pool.take())
        assert not times_that_it_ran
    finally:
        sys.setswitchinterval(interval)
        thread.join()

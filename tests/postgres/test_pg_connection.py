"""`with pool.connection()`, on a real server: real connections, committed or rolled back, and bad input answered clearly."""

from __future__ import annotations

import copy
import pickle
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import psycopg2
import pytest
from psycopg2 import extensions, extras, sql
from psycopg2.extensions import connection

import queuepool
from queuepool import BadResource
from queuepool.pglife import ConnectionLifecycle
from queuepool.psycopg2pool import ConnectionPool, PoolError

from .server import Postgres

if TYPE_CHECKING:
    from typing_extensions import assert_type
else:

    def assert_type(value: Any, kind: Any) -> Any:
        return value


@pytest.fixture
def pool(database: Postgres) -> Iterator[ConnectionPool]:
    database.execute("CREATE TABLE line (text text UNIQUE)")
    with ConnectionPool(database.dsn(), name="shop", capacity=2, timeout=5.0) as opened:
        yield opened


def lines(database: Postgres) -> list[str]:
    return [text for (text,) in database.execute("SELECT text FROM line ORDER BY 1")]


def write(conn: connection, text: str) -> None:
    with conn.cursor() as cursor:
        cursor.execute("INSERT INTO line VALUES (%s)", [text])


def write_and_fail(conn: connection, text: str) -> None:
    write(conn, text)
    raise KeyError("mine")


def test_leaving_the_with_commits(pool: ConnectionPool, database: Postgres) -> None:
    with pool.connection() as conn:
        write(conn, "kept")
    assert lines(database) == ["kept"]


def test_an_exception_rolls_back_and_reaches_the_caller(pool: ConnectionPool, database: Postgres) -> None:
    with pytest.raises(KeyError, match="mine"), pool.connection() as conn:
        write_and_fail(conn, "lost")
    assert lines(database) == []
    assert pool.stats().closes == {}


def test_autocommit_needs_no_commit(pool: ConnectionPool, database: Postgres) -> None:
    def fail(conn: connection) -> None:
        conn.autocommit = True
        write_and_fail(conn, "kept")

    with pytest.raises(KeyError), pool.connection() as conn:
        fail(conn)
    assert lines(database) == ["kept"]


def test_a_begin_of_ones_own_is_committed_too(pool: ConnectionPool, database: Postgres) -> None:
    with pool.connection() as conn:
        conn.autocommit = True
        with conn.cursor() as cursor:
            cursor.execute("BEGIN")
        write(conn, "kept")
    assert lines(database) == ["kept"]


def test_a_commit_that_fails_is_told_and_keeps_the_connection(pool: ConnectionPool, database: Postgres) -> None:
    database.execute("CREATE TABLE late (n int UNIQUE DEFERRABLE INITIALLY DEFERRED)")
    with pytest.raises(psycopg2.IntegrityError), pool.connection() as conn, conn.cursor() as cursor:
        cursor.execute("INSERT INTO late VALUES (1), (1)")
    assert pool.stats().idle == 1
    assert pool.stats().closes == {}


def test_with_nested_same_the_outermost_with_decides(database: Postgres, pool: ConnectionPool) -> None:
    nesting = ConnectionPool(database.dsn(), capacity=1, nested="same")

    def fail(outer: connection) -> None:
        with nesting.connection() as inner:
            assert inner is outer
            write(inner, "lost")
        raise KeyError

    with pytest.raises(KeyError), nesting.connection() as outer:
        fail(outer)
    assert lines(database) == []
    nesting.close()


def test_a_connection_put_back_early_is_not_committed_for_its_next_user(
    pool: ConnectionPool, database: Postgres, caplog: pytest.LogCaptureFixture
) -> None:
    with pool.connection() as conn:
        pool.putconn(conn)
        assert pool.getconn() is conn
        write(conn, "the next user's")
    assert lines(database) == []
    assert "put back before its `with` ended" in caplog.text
    pool.putconn(conn)


def test_one_connection_that_two_threads_share_ends_for_each_its_own_transaction(
    pool: ConnectionPool, database: Postgres
) -> None:
    shared = pool.connection()
    written, committed = threading.Event(), threading.Event()

    def write_and_fail_later() -> None:
        with shared as conn:
            write(conn, "of the other, which raises")
            written.set()
            assert committed.wait(10)
            raise KeyError

    with ThreadPoolExecutor(1) as executor:
        with shared as conn:
            write(conn, "mine")
            other = executor.submit(write_and_fail_later)
            assert written.wait(10)
        committed.set()
        with pytest.raises(KeyError):
            other.result(10)
    assert lines(database) == ["mine"]
    assert pool.stats().idle == 2


def test_leaving_the_with_of_a_lease_commits_as_psycopg2s_own_does(pool: ConnectionPool, database: Postgres) -> None:
    def save(conn: Any, text: str) -> None:
        """Written for connections without a pool."""
        with conn:
            write(conn.unwrap() if isinstance(conn, queuepool.Lease) else conn, text)
        conn.close()

    save(psycopg2.connect(database.dsn()), "bare")
    save(pool.lease(), "leased")
    assert lines(database) == ["bare", "leased"]
    assert pool.stats().idle == 1


def test_an_exception_in_the_with_of_a_lease_rolls_back_and_keeps_the_connection(
    pool: ConnectionPool, database: Postgres
) -> None:
    with pytest.raises(KeyError), pool.lease() as lease:
        write_and_fail(lease.unwrap(), "lost")
    assert lines(database) == []
    assert pool.stats().idle == 1
    assert pool.stats().closes == {}


def test_a_lease_that_is_closed_and_not_left_rolls_back(pool: ConnectionPool, database: Postgres) -> None:
    lease = pool.lease()
    write(lease.unwrap(), "lost")
    lease.close()
    assert lines(database) == []


def test_closing_a_lease_inside_its_with_is_told_as_psycopg2_tells_it(pool: ConnectionPool, database: Postgres) -> None:
    def close(lease: queuepool.Lease) -> None:
        write(lease.unwrap(), "lost")
        lease.close()

    def close_and_fail(lease: queuepool.Lease) -> None:
        close(lease)
        raise KeyError

    with pytest.raises(queuepool.LeaseClosed), pool.lease() as lease:
        close(lease)
    with pytest.raises(KeyError), pool.lease() as lease:
        close_and_fail(lease)
    assert lines(database) == []
    assert pool.stats().idle == 1


def test_a_lease_entered_again_says_that_it_is_closed(pool: ConnectionPool) -> None:
    lease = pool.lease()
    with lease:
        pass
    with pytest.raises(queuepool.LeaseClosed), lease:
        lease.cursor()


def test_a_connection_is_what_psycopg2_takes_for_one(pool: ConnectionPool) -> None:
    with pool.connection() as conn, conn.cursor() as cursor:
        assert type(conn) is connection
        extras.execute_values(cursor, "INSERT INTO line VALUES %s", [("a",), ("b",)])
        assert sql.Identifier("x").as_string(conn) == '"x"'
        assert extensions.quote_ident("x", conn) == '"x"'
        extras.register_uuid(conn_or_curs=conn)  # type: ignore[no-untyped-call]
        extras.register_default_jsonb(conn)


def test_what_comes_out_is_typed_as_psycopg2s(pool: ConnectionPool) -> None:
    """Read by the type checkers, too."""
    assert_type(pool.stats().idle, int)
    with pool.connection() as conn:
        assert_type(conn, connection)
    with pool.take() as slot:
        assert_type(slot, queuepool.Slot[connection])
        assert_type(slot.resource, connection)
    with pool.get() as resource:
        assert_type(resource, connection)
    got = pool.getconn()
    assert_type(got, connection)
    pool.putconn(got)
    assert_type(pool.cancel_all(), int)


def test_both_factories_are_honoured(database: Postgres) -> None:
    class Mine(connection):
        pass

    with (
        ConnectionPool(database.dsn(), connection_factory=Mine, cursor_factory=extras.DictCursor) as pool,
        pool.connection() as conn,
    ):
        assert isinstance(conn, Mine)
        assert isinstance(conn.cursor(), extras.DictCursor)


def test_configure_is_what_reset_comes_back_to(database: Postgres) -> None:
    def configure(conn: connection) -> None:
        conn.autocommit = True

    with ConnectionPool(database.dsn(), capacity=1, configure=configure) as pool:
        with pool.connection() as conn:
            assert conn.autocommit
            conn.autocommit = False
        with pool.connection() as again:
            assert again is conn
            assert again.autocommit


def test_what_configure_sets_survives_a_full_reset(database: Postgres) -> None:
    def configure(conn: connection) -> None:
        with conn.cursor() as cursor:
            cursor.execute("SET application_name = 'configured'")

    with ConnectionPool(database.dsn(), capacity=1, reset="full", configure=configure) as pool:
        for _ in range(2):
            with pool.connection() as conn, conn.cursor() as cursor:
                cursor.execute("SHOW application_name")
                assert cursor.fetchone() == ("configured",)


def test_a_configure_that_takes_too_long_is_named(database: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ConnectionLifecycle, "RESET_TIME", 0.2)
    pool = ConnectionPool(
        database.dsn(), capacity=1, configure=lambda conn: conn.cursor().execute("SELECT pg_sleep(60)")
    )
    with pool, pytest.raises(BadResource, match=r"configure took longer than 0\.2 s"):
        pool.take()
    assert pool.stats().open_errors == 1


def test_a_session_that_is_read_only_by_configure_is_not_taken_for_a_standby(database: Postgres) -> None:
    def configure(conn: connection) -> None:
        conn.set_session(readonly=True, autocommit=True)

    pool = ConnectionPool(database.dsn(), capacity=1, target_session_attrs="read-write", configure=configure)
    with pool:
        for _ in range(3):
            with pool.connection():
                pass
        assert (pool.stats().opens.count, pool.stats().closes) == (1, {})


def test_what_configure_collects_messages_in_stays(database: Postgres) -> None:
    collected: deque[str] = deque(maxlen=100)

    def configure(conn: connection) -> None:
        conn.notices = collected  # type: ignore[assignment]

    with ConnectionPool(database.dsn(), capacity=1, configure=configure) as pool:
        for _ in range(2):
            with pool.connection() as conn, conn.cursor() as cursor:
                conn.autocommit = True
                cursor.execute("DO $$ BEGIN RAISE NOTICE 'mine'; END $$")
        conn = pool.getconn()
        conn.notices = []
        pool.putconn(conn)
        with pool.connection() as again:
            assert id(again.notices) == id(collected)
    assert len(collected) == 2


# --- bad input


@pytest.mark.parametrize("dsn", ["nonsense", "postgresql://%zz@h", "hostt=x"])
def test_a_bad_dsn_is_refused_at_once(dsn: str) -> None:
    with pytest.raises(psycopg2.ProgrammingError, match="dsn"):
        ConnectionPool(dsn)


def test_a_mistyped_option_is_refused_at_once() -> None:
    with pytest.raises(psycopg2.ProgrammingError, match="max_idel_time"):
        ConnectionPool("host=db", max_idel_time=3)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"async_": True}, TypeError),
        ({"async": 1}, TypeError),
        ({"dsn": 5}, TypeError),
        ({"reset": "everything"}, ValueError),
        ({"configure": "autocommit"}, TypeError),
        ({"capacity": 0}, ValueError),
        ({"timeout": -1}, ValueError),
    ],
)
def test_bad_options_are_refused_at_once(options: dict[str, object], error: type[Exception]) -> None:
    with pytest.raises(error):
        ConnectionPool(**options)  # type: ignore[arg-type]


def test_an_asynchronous_connection_of_a_factory_is_refused(database: Postgres) -> None:
    def factory(dsn: str, **_: object) -> connection:
        return connection(dsn, async_=1)

    with ConnectionPool(database.dsn(), capacity=1, connection_factory=factory) as pool:
        with pytest.raises(queuepool.BadResource, match="synchronous"):
            pool.take()
        assert pool.stats().empty == 1


def test_a_second_and_a_foreign_putconn_are_refused_and_change_nothing(
    pool: ConnectionPool, database: Postgres
) -> None:
    conn, foreign = pool.getconn(), database.connect()
    pool.putconn(conn)
    for wrong in (conn, foreign):
        with pytest.raises(PoolError, match="not out on loan"):
            pool.putconn(wrong)
    assert pool.stats().idle == 1
    foreign.close()


def test_a_connection_closed_by_its_user_is_replaced_quietly(
    pool: ConnectionPool, caplog: pytest.LogCaptureFixture
) -> None:
    conn = pool.getconn()
    conn.close()
    pool.putconn(conn)
    with pool.connection() as other:
        assert not other.closed
    assert pool.stats().closes == {"closed": 1}
    assert not caplog.records


def test_closing_inside_the_with_is_told_for_what_was_not_committed(pool: ConnectionPool) -> None:
    with pytest.raises(psycopg2.InterfaceError), pool.connection() as conn:
        conn.close()
    assert pool.stats().slots == 2
    assert pool.stats().taken == 0


def test_a_closed_pool_lends_nothing_more(database: Postgres) -> None:
    pool = ConnectionPool(database.dsn())
    assert pool.close() == []
    assert pool.closed
    with pytest.raises(queuepool.PoolClosed), pool.connection():
        pass
    with pytest.raises(PoolError, match="closed"):
        pool.getconn()


def test_a_pool_is_neither_pickled_nor_copied(pool: ConnectionPool) -> None:
    for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="cannot be pickled or copied"):
            attempt(pool)


def test_a_slot_put_twice_or_made_elsewhere_is_refused_whatever_its_connection_is_like(pool: ConnectionPool) -> None:
    slot = pool.take()
    conn = slot.resource
    pool.put(slot)
    conn.autocommit = True
    for wrong in (slot, conn, queuepool.Slot("mine")):
        with pytest.raises(queuepool.WrongSlot):
            pool.put(wrong)  # type: ignore[arg-type]
    assert pool.stats().idle == 1
    with pool.connection() as again:
        assert again is conn


def test_an_exception_after_an_early_put_is_not_hidden(pool: ConnectionPool, caplog: pytest.LogCaptureFixture) -> None:
    def work(slot: queuepool.Slot[connection]) -> None:
        pool.put(slot)
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"), pool.take() as slot:
        work(slot)
    assert "before its `with` ended" in caplog.text
    assert pool.stats().idle == 1

"""Nothing that one user changed on a connection reaches the next."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from typing import Any

import psycopg2
import pytest
from psycopg2 import extensions, extras
from psycopg2.extensions import connection

from queuepool.psycopg2pool import ConnectionPool

from .server import Postgres


def execute(conn: connection, *statements: str) -> Any:
    with conn.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
        return cursor.fetchone() if cursor.description else None


def begin_by_hand(conn: connection) -> None:
    conn.autocommit = True
    execute(conn, "BEGIN")


def begin_by_hand_and_leave_autocommit(conn: connection) -> None:
    begin_by_hand(conn)
    conn.autocommit = False


def commit_by_hand(conn: connection) -> None:
    execute(conn, "SELECT 1", "COMMIT")


def fail(conn: connection) -> None:
    with contextlib.suppress(psycopg2.Error):
        execute(conn, "SELECT 1/0")


def fail_by_hand(conn: connection) -> None:
    begin_by_hand(conn)
    fail(conn)


def leave_a_named_cursor(conn: connection) -> None:
    conn.cursor("left_open").execute("SELECT generate_series(1, 10)")


def change_attributes(conn: connection) -> None:
    conn.autocommit = True
    conn.isolation_level = extensions.ISOLATION_LEVEL_SERIALIZABLE
    conn.readonly = conn.deferrable = True
    conn.set_client_encoding("LATIN1")
    conn.cursor_factory = extras.DictCursor
    execute(conn, "DO $$ BEGIN RAISE NOTICE 'mine'; END $$")


def replace_collectors(conn: connection) -> None:
    class Collector(list[str]):
        pass

    conn.notices = Collector()
    conn.notifies = Collector()  # type: ignore[assignment]


def change_attributes_before_autocommit(conn: connection) -> None:
    conn.set_session(isolation_level="SERIALIZABLE", readonly=True, deferrable=True)
    conn.autocommit = True
    execute(conn, "SELECT 1")


def register_a_typecaster(conn: connection) -> None:
    extensions.register_type(extensions.new_type((23,), "NOT_INT", lambda value, cursor: "changed"), conn)


def notify_myself(conn: connection) -> None:
    conn.autocommit = True
    execute(conn, "LISTEN mine", "NOTIFY mine", "UNLISTEN *")


DEEDS = [
    begin_by_hand,
    begin_by_hand_and_leave_autocommit,
    commit_by_hand,
    fail,
    fail_by_hand,
    leave_a_named_cursor,
    change_attributes,
    replace_collectors,
    change_attributes_before_autocommit,
    register_a_typecaster,
    notify_myself,
]


def state(conn: connection) -> dict[str, Any]:
    return {
        "status": (conn.status, conn.info.transaction_status),
        "session": (conn.autocommit, conn.isolation_level, conn.readonly, conn.deferrable),
        "text": (conn.encoding, conn.cursor_factory, conn.notices, conn.notifies),
        "types": (conn.string_types, conn.binary_types),
        "answer": execute(conn, "SELECT 1"),
        "settings": execute(
            conn,
            "SELECT current_setting('transaction_isolation'), current_setting('transaction_read_only'),"
            " current_setting('transaction_deferrable'), current_setting('client_encoding')",
        ),
    }


@pytest.mark.parametrize("reset", ["rollback", "full"])
@pytest.mark.parametrize("deed", DEEDS)
def test_what_a_user_did_is_undone_and_the_connection_kept(
    database: Postgres, deed: Callable[[connection], None], reset: Any
) -> None:
    with ConnectionPool(database.dsn(), capacity=1, reset=reset) as pool:
        with pool.get() as conn:
            fresh = state(conn)
        with pool.get() as conn:
            deed(conn)
        with pool.get() as again:
            assert again is conn
            assert state(again) == fresh
        assert pool.stats().reset_errors == 0


def test_an_untouched_connection_goes_back_without_a_round_trip(database: Postgres) -> None:
    with ConnectionPool(database.dsn(), capacity=1) as pool:
        with pool.get() as conn:
            pid = conn.info.backend_pid
        query = "SELECT state_change FROM pg_stat_activity WHERE pid = %s"
        before = database.execute(query, [pid])
        for _ in range(3):
            with pool.connection():
                pass
        assert database.execute(query, [pid]) == before


class Broken(io.StringIO):
    def read(self, size: int | None = -1) -> str:
        raise KeyError("the program's own")

    def write(self, text: str) -> int:
        raise KeyError("the program's own")


@pytest.mark.parametrize("direction", ["copy_from", "copy_to"])
def test_a_broken_copy_does_not_reach_the_next_user(database: Postgres, direction: str) -> None:
    database.execute("CREATE TABLE number AS SELECT generate_series(1, 1000) AS n")
    with ConnectionPool(database.dsn(), capacity=1) as pool:
        with pytest.raises((KeyError, psycopg2.Error)), pool.connection() as conn, conn.cursor() as cursor:
            getattr(cursor, direction)(Broken(), "number")
        with pool.connection() as conn:
            assert execute(conn, "SELECT count(*) FROM number") == (1000,)


@pytest.mark.parametrize("stage", ["begun", "prepared"])
def test_a_two_phase_transaction_is_left_to_its_owner_and_the_connection_closed(make_postgres: Any, stage: str) -> None:
    server = make_postgres(max_prepared_transactions=2)
    server.execute("CREATE TABLE t (n int)")
    with ConnectionPool(server.dsn(), capacity=1) as pool:
        with pool.take() as slot:
            conn = slot.resource
            conn.tpc_begin(conn.xid(1, "gtrid", "bqual"))
            execute(conn, "INSERT INTO t VALUES (1)")
            if stage == "prepared":
                conn.tpc_prepare()
        assert conn.closed
        assert pool.stats().closes == {"reset": 1}
        with pool.connection() as other:
            assert len(other.tpc_recover()) == (stage == "prepared")
    for transaction in server.execute("SELECT gid FROM pg_prepared_xacts"):
        server.execute("ROLLBACK PREPARED %s", transaction)


#: What outlives a rollback, or a commit, by a statement each; and a query whose answer tells.
LEAKS = {
    "role": ("SET ROLE pg_monitor", "SELECT current_user"),
    "search_path": ("SET search_path = pg_catalog", "SHOW search_path"),
    "tenant": ("SET app.tenant = '42'", "SELECT coalesce(current_setting('app.tenant', true), '')"),
    "temporary table": ("CREATE TEMP TABLE mine (n int)", "SELECT to_regclass('pg_temp.mine')"),
    "advisory lock": (
        "SELECT pg_advisory_lock(7)",
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()",
    ),
    "prepared": ("PREPARE mine AS SELECT 1", "SELECT count(*) FROM pg_prepared_statements"),
    "listen": ("LISTEN mine", "SELECT count(*) FROM pg_listening_channels()"),
    "statement_timeout": ("SET statement_timeout = 1234", "SHOW statement_timeout"),
    "cursor": ("DECLARE mine CURSOR WITH HOLD FOR SELECT 1", "SELECT count(*) FROM pg_cursors"),
    "read only": (
        "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
        "SHOW default_transaction_read_only",
    ),
}


@pytest.mark.parametrize("leak", LEAKS)
def test_with_full_reset_no_session_state_reaches_the_next_user(database: Postgres, leak: str) -> None:
    deed, query = LEAKS[leak]
    with ConnectionPool(database.dsn(), capacity=1, reset="full") as pool:
        with pool.connection() as conn:
            before = execute(conn, query)
        with pool.connection() as conn:
            execute(conn, deed)
        with pool.connection() as again:
            assert again is conn
            assert execute(again, query) == before


def test_a_function_may_reset(database: Postgres) -> None:
    def reset(conn: connection) -> None:
        execute(conn, "DEALLOCATE ALL")  # begins a transaction, which is not left open

    with ConnectionPool(database.dsn(), capacity=1, reset=reset) as pool:
        for _ in range(2):
            with pool.connection() as conn:
                assert conn.info.transaction_status == extensions.TRANSACTION_STATUS_IDLE
                execute(conn, "PREPARE mine AS SELECT 1")
        assert pool.stats().opens.count == 1


def test_what_a_function_undoes_stays_undone_and_it_finds_the_connection_as_it_was_opened(database: Postgres) -> None:
    seen: list[Any] = []

    def reset(conn: connection) -> None:
        seen.append((conn.autocommit, conn.cursor_factory))
        execute(conn, "RESET ALL")
        conn.cursor_factory = extras.NamedTupleCursor

    with ConnectionPool(database.dsn(), capacity=1, reset=reset) as pool:
        for _ in range(2):
            with pool.connection() as conn:
                assert conn.cursor_factory is None
                assert execute(conn, "SHOW search_path") == ('"$user", public',)
                execute(conn, "SET search_path TO secret")
                conn.cursor_factory = extras.DictCursor
        assert (pool.stats().opens.count, seen) == (1, [(False, None)] * 2)


def test_a_function_whose_statement_fails_unnoticed_closes_the_connection(database: Postgres) -> None:
    with ConnectionPool(database.dsn(), capacity=1, reset=fail) as pool:
        with pool.connection():
            pass
        assert pool.stats().closes == {"reset": 1}


def test_a_user_who_turns_autocommit_off_leaves_the_next_one_as_read_only_as_before(database: Postgres) -> None:
    def configure(conn: connection) -> None:
        conn.set_session(readonly=True, isolation_level="SERIALIZABLE", autocommit=True)

    with ConnectionPool(database.dsn(), capacity=1, configure=configure) as pool:
        with pool.connection() as conn:
            conn.autocommit = False
        with pool.connection() as again:
            assert again is conn
            assert again.autocommit
            assert execute(again, "SHOW transaction_read_only") == ("on",)
            assert execute(again, "SHOW transaction_isolation") == ("serializable",)


def test_a_typecaster_in_place_of_a_configured_one_does_not_reach_the_next_user(database: Postgres) -> None:
    def caster(word: str) -> Any:
        return extensions.new_type((23,), "INT", lambda value, cursor: word)

    pool = ConnectionPool(
        database.dsn(), capacity=1, configure=lambda conn: extensions.register_type(caster("ours"), conn)
    )
    with pool:
        for _ in range(2):
            with pool.connection() as conn:
                assert execute(conn, "SELECT 1") == ("ours",)
                extensions.register_type(caster("theirs"), conn)
                assert execute(conn, "SELECT 1") == ("theirs",)
        assert pool.stats().opens.count == 1


def test_a_transaction_that_was_left_open_at_opening_is_nobodys(database: Postgres) -> None:
    database.execute("CREATE TABLE deed (who text)")

    class Mine(connection):
        def __init__(self, dsn: str, **options: Any) -> None:
            super().__init__(dsn, **options)
            execute(self, "SET search_path TO public")

    with ConnectionPool(database.dsn(), capacity=1, connection_factory=Mine) as pool:
        pool.prefill()
        with pool.get() as conn:
            assert conn.info.transaction_status == extensions.TRANSACTION_STATUS_IDLE
            assert execute(conn, "SHOW search_path") == ("public",)
            execute(conn, "INSERT INTO deed VALUES ('one that did not commit')")
        with pool.connection() as conn:
            assert execute(conn, "SELECT count(*) FROM deed") == (0,)


def test_a_reset_that_fails_closes_the_connection_and_hides_nothing(database: Postgres) -> None:
    def reset(conn: connection) -> None:
        raise RuntimeError("no")

    with ConnectionPool(database.dsn(), capacity=1, reset=reset) as pool:
        with pytest.raises(KeyError, match="mine"), pool.connection():
            raise KeyError("mine")
        assert pool.stats().closes == {"reset": 1}
        with pool.connection() as conn:
            assert not conn.closed


def test_a_function_that_closes_the_connection_costs_no_more_than_that(database: Postgres) -> None:
    with ConnectionPool(database.dsn(), capacity=1, reset=lambda conn: conn.close()) as pool:
        for _ in range(2):
            with pool.connection() as conn:
                assert execute(conn, "SELECT 1") == (1,)
        assert pool.stats().closes == {"reset": 2}

"""The psycopg2 managers of 1.x, on a real server: unchanged to their programs, and mended."""

from __future__ import annotations

import logging
import select
import threading
import traceback
from collections.abc import Callable
from typing import Any

import pytest

psycopg2 = pytest.importorskip("psycopg2")

from psycopg2 import extensions, extras  # noqa: E402
from psycopg2.sql import SQL, Identifier  # noqa: E402

from queuepool import Pool, ResourceManager  # noqa: E402
from queuepool.psycopg2cm import ConnectionManager, ConnectionManagerExtended  # noqa: E402
from tests.support import PATIENCE, assert_whole  # noqa: E402
from tests.v1_support import expected_of, output_of  # noqa: E402

from .proxy import Proxy  # noqa: E402
from .server import Postgres, Server  # noqa: E402

IDLE = extensions.TRANSACTION_STATUS_IDLE


def pool_of(database: Any, capacity: int = 1, cls: type[ConnectionManager] = ConnectionManager, **options: Any) -> Any:
    pool: Pool[Any] = Pool("bank", capacity)
    for number in range(capacity):
        pool.put(cls(f"bank-{number}", dsn=database.dsn(), **options))
    return pool


def fetch(conn: Any, statement: str) -> Any:
    with conn.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchone()[0] if cursor.description else None


def wait_for_farewell(conn: Any) -> None:
    assert select.select([conn], [], [], PATIENCE)[0], "the server says nothing"


def test_a_program_written_for_1_3_2_prints_what_it_printed_then(database: Postgres) -> None:
    assert output_of("accounts.py", database.dsn()) == expected_of("accounts.py")
    database.wait_for_connections(0)


def test_the_example_shows_the_old_spelling_beside_the_new(database: Postgres) -> None:
    printed = output_of("../../examples/migrate_from_1_3_2.py", database.dsn())
    old, new, best = printed.split("with a pool")
    assert "{'answer': 42}" in old
    assert "{'open': True}" in old
    assert "(42,)" in new
    assert "kept after it: True" in best


# --- opening


def test_the_session_is_as_the_manager_was_told(database: Postgres) -> None:
    pool = pool_of(database, isolation_level=extensions.ISOLATION_LEVEL_SERIALIZABLE, readonly=True, deferrable=True)
    with pool.take() as manager:
        conn = manager.resource
        assert fetch(conn, "SHOW transaction_isolation") == "serializable"
        assert fetch(conn, "SHOW transaction_read_only") == "on"
        assert fetch(conn, "SHOW transaction_deferrable") == "on"
        assert type(conn) is extensions.connection


def test_arguments_may_be_positional_as_in_psycopg2(database: Postgres) -> None:
    class Own(extensions.connection):
        pass

    manager = ConnectionManager("bank", None, None, None, True, database.dsn(), Own, extras.DictCursor)
    pool: Pool[Any] = Pool("bank", 1)
    pool.put(manager)
    with pool.take():
        assert isinstance(manager.resource, Own)
        assert manager.resource.autocommit
        assert manager.resource.cursor_factory is extras.DictCursor


def test_psycopg2_connect_is_looked_up_when_it_is_called(database: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    pool, connect, seen = pool_of(database), psycopg2.connect, []

    def traced(*args: Any, **kwargs: Any) -> Any:
        seen.append("traced")
        return connect(*args, **kwargs)

    monkeypatch.setattr(psycopg2, "connect", traced)
    with pool.take():
        assert seen == ["traced"]


def test_a_session_that_cannot_be_set_up_leaves_no_connection_open(database: Postgres) -> None:
    pool = pool_of(database, isolation_level="nonsense")
    for _ in range(2):
        with pytest.raises(ValueError, match="isolation_level"):
            pool.take()
    database.wait_for_connections(0)
    assert_whole(pool)


def test_an_asynchronous_connection_is_refused(database: Postgres) -> None:
    with pytest.raises(TypeError, match="synchronous"):
        ConnectionManager("bank", dsn=database.dsn(), async_=True)


def test_an_unavailable_server_raises_psycopg2s_error_and_keeps_the_slots(own_postgres: Server) -> None:
    pool = pool_of(own_postgres, 2)
    own_postgres.stop()
    for _ in range(5):
        with pytest.raises(psycopg2.OperationalError, match=r"refused|closed"):
            pool.take()
        assert_whole(pool)
    own_postgres.start()
    slots = [pool.take(), pool.take()]
    assert [fetch(slot.resource, "SELECT 1") for slot in slots] == [1, 1]


# --- dead connections


def test_connections_that_died_idle_reach_nobody(database: Postgres) -> None:
    pool = pool_of(database, 3)
    slots = [pool.take() for _ in range(3)]
    conns = [slot.resource for slot in slots]
    for slot in slots:
        pool.put(slot)
    assert database.terminate_backends() == 3
    for conn in conns:
        wait_for_farewell(conn)
    slots = [pool.take() for _ in range(3)]
    assert [fetch(slot.resource, "SELECT 1") for slot in slots] == [1, 1, 1]
    assert pool.stats().closes == {"check": 3}


@pytest.mark.parametrize("statement", ["SELECT 1", None])
def test_a_connection_that_died_in_use_is_put_without_an_error(database: Postgres, statement: str | None) -> None:
    pool = pool_of(database)
    slot = pool.take()
    fetch(slot.resource, "CREATE TABLE t ()")  # in a transaction, so that put has to ask the server
    database.terminate_backends()
    wait_for_farewell(slot.resource)
    if statement:
        with pytest.raises(psycopg2.OperationalError):
            fetch(slot.resource, statement)
    pool.put(slot)
    assert not slot.is_open
    assert_whole(pool)
    with pool.take() as again:
        assert fetch(again.resource, "SELECT 1") == 1


def test_a_connection_that_its_user_closed_is_replaced(database: Postgres) -> None:
    pool = pool_of(database)
    with pool.take() as manager:
        manager.resource.close()
    assert not manager._isOpen
    with pool.take():
        assert fetch(manager.resource, "SELECT 1") == 1
        kept = manager.resource
    kept.close()  # while it lies in the pool
    with pool.take():
        assert fetch(manager.resource, "SELECT 1") == 1


def test_a_manager_that_was_closed_by_hand_may_be_put_and_closed_again(database: Postgres) -> None:
    pool = pool_of(database)
    manager = pool.take()
    manager.close()
    manager.close()
    pool.put(manager)
    with pool.take():
        assert fetch(manager.resource, "SELECT 1") == 1
    manager.close()
    database.wait_for_connections(0)


def test_a_manager_that_was_reopened_by_hand_serves_its_holder_and_is_repaired(database: Postgres) -> None:
    pool = pool_of(database)
    with pool.take() as manager:
        manager.close()
        manager.open()
        manager.takeRepair()
        fetch(manager.resource, "SELECT 1")
        manager.repair()
        assert manager.resource.info.transaction_status == IDLE
    database.wait_for_connections(0)
    assert_whole(pool)


def test_a_notification_does_not_cost_the_connection_its_life(database: Postgres) -> None:
    pool = pool_of(database, autocommit=True)
    with pool.take() as manager:
        conn = manager.resource
        fetch(conn, "LISTEN news")
    database.execute("NOTIFY news")
    wait_for_farewell(conn)
    with pool.take():
        assert manager.resource is conn
        assert conn.info.transaction_status == IDLE


def test_a_farewell_that_is_not_yet_read_is_understood(proxy: Proxy) -> None:
    pool = pool_of(proxy)
    with pool.take() as manager:
        conn = manager.resource
    proxy.hang_up()
    wait_for_farewell(conn)
    proxy.forward()
    with pool.take():
        assert manager.resource is not conn
        assert fetch(manager.resource, "SELECT 1") == 1


def test_where_the_socket_tells_too_little_the_server_is_asked(
    database: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = pool_of(database)
    with pool.take() as manager:
        conn = manager.resource
    database.terminate_backends()
    monkeypatch.delattr(select, "poll")  # as on Windows, which cannot tell a farewell from a NOTIFY
    wait_for_farewell(conn)
    with pool.take():
        assert manager.resource is not conn


# --- transactions and settings


def begin_by_hand(conn: Any) -> None:
    conn.autocommit = True
    fetch(conn, "BEGIN")
    conn.autocommit = False


def fail(conn: Any) -> None:
    with pytest.raises(psycopg2.Error):
        fetch(conn, "SELECT 1/0")


LEFT_OPEN: list[Callable[[Any], Any]] = [lambda conn: fetch(conn, "SELECT 1"), begin_by_hand, fail]


@pytest.mark.parametrize("leave_open", LEFT_OPEN)
@pytest.mark.parametrize("autocommit", [True, False])
def test_a_transaction_that_was_left_open_is_rolled_back(
    database: Postgres, leave_open: Callable[[Any], Any], autocommit: bool
) -> None:
    database.execute("CREATE TABLE t ()")
    pool = pool_of(database, autocommit=autocommit)
    with pool.take() as manager:
        conn = manager.resource
        leave_open(conn)
    with pool.take():
        assert manager.resource is conn
        assert conn.info.transaction_status == IDLE
        assert conn.autocommit is autocommit


def test_a_users_own_begin_under_autocommit_is_undone(database: Postgres) -> None:
    database.execute("CREATE TABLE t (i int)")
    pool = pool_of(database, autocommit=True)
    with pool.take() as manager:
        fetch(manager.resource, "BEGIN")
        fetch(manager.resource, "INSERT INTO t VALUES (1)")
    assert manager.resource.info.transaction_status == IDLE
    with pool.take():
        fetch(manager.resource, "CREATE INDEX CONCURRENTLY ON t (i)")  # possible in no transaction
    assert database.execute("SELECT count(*) FROM t") == [(0,)]


def test_a_two_phase_transaction_costs_the_connection_and_nothing_else(database: Postgres) -> None:
    pool = pool_of(database)
    with pool.take() as manager:
        conn = manager.resource
        conn.tpc_begin(conn.xid(1, "transfer", "branch"))
    with pool.take():
        assert manager.resource is not conn
        assert conn.closed


def test_what_a_user_set_on_the_connection_is_set_back(database: Postgres) -> None:
    pool = pool_of(database, autocommit=False, isolation_level="REPEATABLE READ")
    with pool.take() as manager:
        conn = manager.resource
        conn.set_session(isolation_level="SERIALIZABLE", readonly=True, autocommit=True)
        conn.set_client_encoding("LATIN1")
        conn.cursor_factory = extras.DictCursor
    with pool.take():
        assert manager.resource is conn
        assert (conn.autocommit, conn.readonly, conn.encoding, conn.cursor_factory) == (False, None, "UTF8", None)
        assert fetch(conn, "SHOW transaction_isolation") == "repeatable read"


def test_what_a_subclass_set_when_it_opened_stays(database: Postgres) -> None:
    class Searching(ConnectionManager):
        def open(self) -> None:
            super().open()
            self.resource.cursor_factory = extras.DictCursor
            with self.resource, self.resource.cursor() as cursor:
                cursor.execute("SET search_path TO pg_catalog")

    pool = pool_of(database, cls=Searching)
    for _ in range(2):
        with pool.take() as manager:
            assert fetch(manager.resource, "SHOW search_path") == "pg_catalog"
            assert manager.resource.cursor_factory is extras.DictCursor
            manager.resource.cursor_factory = None


def test_a_transaction_that_a_subclass_left_open_when_it_opened_is_not_the_next_users(database: Postgres) -> None:
    class Asking(ConnectionManager):
        def open(self) -> None:
            super().open()
            with self.resource.cursor() as cursor:
                cursor.execute("SELECT 1")

    pool = pool_of(database, cls=Asking)
    with pool.take() as manager:
        fetch(manager.resource, "SELECT 2")
    with pool.take() as manager:
        assert manager.resource.info.transaction_status == extensions.TRANSACTION_STATUS_IDLE
    assert manager.use_count == 2


def test_repair_may_be_called_at_any_time(database: Postgres) -> None:
    manager = ConnectionManager("bank", dsn=database.dsn())
    manager.repair()
    manager.open()
    fetch(manager.resource, "SELECT 1")
    manager.repair()
    assert manager.resource.info.transaction_status == IDLE
    manager.close()
    manager.repair()
    assert manager.resource is None


# --- secrets

PASSWORD = "hunter2-or-so"


def test_the_password_is_shown_nowhere(own_postgres: Server, caplog: pytest.LogCaptureFixture) -> None:
    role = own_postgres.create_role("clerk", PASSWORD)
    own_postgres.execute("CREATE DATABASE clerk")
    pool: Pool[Any] = Pool("bank", 1)
    manager = ConnectionManager("bank", **role.kwargs(dbname="clerk"))
    pool.put(manager)
    with caplog.at_level(logging.DEBUG):
        with pool.take():
            shown = [repr(manager), str(manager), repr(vars(manager)), repr(pool), str(pool.holders())]
        manager.close()
        own_postgres.stop()
        with pytest.raises(psycopg2.OperationalError) as caught:
            pool.take()
    shown += [caplog.text, str(pool.stats()), repr(caught.value)]
    frames = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    # This test's own frame knows the password, as that of any program that has it in a variable.
    shown += [str(frame.locals) for frame in frames.stack if frame.filename != __file__]
    assert [text for text in shown if PASSWORD in text] == []


@pytest.mark.parametrize(
    "dsn", ["postgresql://me:hunter2@or@127.0.0.1:1/x", "host=127.0.0.1 port=1 password=hunter2 user=me"]
)
def test_libpqs_errors_quote_no_part_of_a_password(dsn: str, caplog: pytest.LogCaptureFixture) -> None:
    pool: Pool[Any] = Pool("bank", 1)
    pool.put(ConnectionManager("bank", dsn=dsn))
    with pytest.raises(psycopg2.OperationalError) as caught:
        pool.take()
    for text in (str(caught.value), caplog.text, str(pool.stats())):
        assert "hunter2" not in text
        assert "or@" not in text


# --- short cuts


@pytest.fixture
def places(database: Postgres) -> Any:
    """A pool over a database with two places, and a stand-in for PostGIS's function, which few servers have."""
    database.execute(
        """CREATE TABLE places (id int, "the name" text, spot text);
        INSERT INTO places VALUES (1, 'here', '1.25 2.5'), (2, 'nowhere', NULL);
        CREATE FUNCTION ST_AsGeoJSON(spot text, digits int) RETURNS text STRICT LANGUAGE sql AS $$
            SELECT format('{"type":"Point","coordinates":[%s,%s]}',
                round(split_part(spot, ' ', 1)::numeric, digits), round(split_part(spot, ' ', 2)::numeric, digits)) $$"""
    )
    return pool_of(database, cls=ConnectionManagerExtended)


def test_query_gives_dicts_and_query1_the_one_row_or_none(places: Any) -> None:
    with places.take() as manager:
        assert manager.query("SELECT id, spot FROM places WHERE id <= %s ORDER BY id", [1]) == [
            {"id": 1, "spot": "1.25 2.5"}
        ]
        assert manager.query1("SELECT id FROM places WHERE id = %(id)s", {"id": 2}) == {"id": 2}
        assert manager.query1("SELECT id FROM places") is None
        assert manager.query1("SELECT id FROM places WHERE false") is None
        rows, description = manager.querys(SQL("SELECT id FROM {} ORDER BY id").format(Identifier("places")))
        assert (rows, [column.name for column in description]) == ([(1,), (2,)], ["id"])


def test_qexec_executes_what_gives_no_rows(places: Any) -> None:
    with places.take() as manager:
        manager.qexec("INSERT INTO places VALUES (%s)", [3])
        assert manager.query1("SELECT count(*) FROM places") == {"count": 3}


@pytest.mark.parametrize(("shift", "ms"), [(0, 0), (60, 60_000), (-1.5, -1500), ("2 - 1", 1000)])
def test_now_expr_is_the_servers_time_in_milliseconds(places: Any, shift: Any, ms: int) -> None:
    with places.take() as manager:
        row = manager.query1(f"SELECT {manager.now_expr(shift)} - {manager.now_expr()} AS ms")
        assert row == {"ms": ms}
        [(epoch,)], _ = manager.querys("SELECT (extract(epoch FROM now()) * 1000)::bigint")
        assert manager.query1(f"SELECT {manager.now_expr()} AS ms") == {"ms": epoch}


@pytest.mark.parametrize(("digits", "spot"), [({}, [1.25, 2.5]), ({"prec": 1}, [1.3, 2.5])])
def test_geojson_makes_a_feature_of_each_row(places: Any, digits: dict[str, int], spot: list[float]) -> None:
    with places.take() as manager:
        made = manager.geojson("spot", ["id", "the name"], "SELECT * FROM places WHERE id < %s", [9], **digits)
    here, nowhere = made.pop("features")
    assert made == {"type": "FeatureCollection"}
    assert here == {
        "type": "Feature",
        "geometry": {"type": "Point", "coordinates": spot},
        "properties": {"id": 1, "the name": "here"},
    }
    assert (nowhere["geometry"], nowhere["properties"]["the name"]) == (None, "nowhere")


def test_geojson_takes_names_for_names_and_braces_for_braces(places: Any) -> None:
    with places.take() as manager:
        query = SQL("SELECT spot, '{{}}' AS {} FROM places").format(Identifier('a"; DROP TABLE places; --'))
        made = manager.geojson("spot", ['a"; DROP TABLE places; --'], query)
        assert made["features"][0]["properties"] == {'a"; DROP TABLE places; --': "{}"}
        assert manager.geojson("spot", [], "SELECT spot, '{}' FROM places")["features"][0]["properties"] == {}
        assert manager.query1("SELECT count(*) FROM places") == {"count": 2}


# --- in a pool


def test_threads_share_connections_and_none_is_lost(database: Postgres) -> None:
    database.execute("CREATE TABLE t (i int)")
    pool = pool_of(database, 3)

    def work(number: int) -> None:
        for turn in range(20):
            with pool.take() as manager:
                fetch(manager.resource, f"INSERT INTO t VALUES ({number})")
                if turn % 2:
                    manager.resource.commit()
                if turn % 5 == 0:
                    manager.resource.close()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    # Of the odd turns, those that a multiple of five spoils have committed already.
    assert database.execute("SELECT count(*) FROM t") == [(80,)]
    assert_whole(pool)
    assert isinstance(pool.take(), ResourceManager)

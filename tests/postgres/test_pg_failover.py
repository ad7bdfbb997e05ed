"""Several hosts, a primary that goes, and a standby that takes over."""

from __future__ import annotations

from typing import Any

import psycopg2
import pytest
from psycopg2.extensions import connection

from queuepool.psycopg2pool import ConnectionPool

from .processes import wait_until
from .server import Server


def ask(conn: connection, statement: str) -> Any:
    with conn.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchone() if cursor.description else None


def many_hosts(*servers: Server, **more: str) -> dict[str, Any]:
    return {
        **servers[0].kwargs(),
        "host": ",".join("127.0.0.1" for _ in servers),
        "port": ",".join(str(server.local.port) for server in servers),
        **more,
    }


def port(conn: connection) -> int:
    return int(conn.info.port)


def test_writes_go_on_at_the_standby_once_it_is_promoted(standby_pair: tuple[Server, Server]) -> None:
    primary, standby = standby_pair
    primary.execute("CREATE TABLE t (n int)")
    with ConnectionPool(
        **many_hosts(standby, primary, target_session_attrs="read-write"), capacity=3, timeout=20.0
    ) as pool:
        pool.prefill()
        with pool.connection() as conn:
            assert port(conn) == primary.local.port
            ask(conn, "INSERT INTO t VALUES (1)")
        [(written,)] = primary.execute("SELECT pg_current_wal_lsn()")
        arrived = "SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn"
        wait_until(lambda: standby.execute(arrived, [written]) == [(True,)], "the row has come")
        primary.kill()
        standby.promote()
        for _ in range(6):
            with pool.connection() as conn:
                assert port(conn) == standby.local.port
                ask(conn, "INSERT INTO t VALUES (2)")


def test_a_connection_whose_server_has_changed_its_role_is_recycled(standby_pair: tuple[Server, Server]) -> None:
    _, standby = standby_pair
    with ConnectionPool(**many_hosts(standby, target_session_attrs="standby"), capacity=1) as pool:
        with pool.connection() as conn:
            assert ask(conn, "SELECT pg_is_in_recovery()") == (True,)
        standby.promote()
        with pool.connection() as conn:
            ask(conn, "SELECT 1")  # its answer tells that this is a primary now
        assert conn.closed
        assert pool.stats().slots == 1


def test_a_primary_made_read_only_is_left_at_once_by_all(own_postgres: Server) -> None:
    own_postgres.execute("CREATE TABLE t (n int)")
    with ConnectionPool(own_postgres.dsn(target_session_attrs="read-write"), capacity=3, timeout=0.3) as pool:
        pool.prefill()
        own_postgres.configure(default_transaction_read_only="on")
        with pytest.raises(psycopg2.errors.ReadOnlySqlTransaction), pool.connection() as conn:
            ask(conn, "INSERT INTO t VALUES (1)")
        assert conn.closed
        with pytest.raises(TimeoutError, match="read-only"):
            pool.take()  # the others were asked, and have the same answer
        assert pool.stats().idle == 0
        own_postgres.configure(default_transaction_read_only="off")
        with pool.connection(timeout=5.0) as conn:
            ask(conn, "INSERT INTO t VALUES (1)")


def test_without_a_role_asked_for_a_write_on_a_standby_costs_that_connection(
    standby_pair: tuple[Server, Server],
) -> None:
    _, standby = standby_pair
    with ConnectionPool(standby.dsn(), capacity=1) as pool:
        with pytest.raises(psycopg2.errors.ReadOnlySqlTransaction), pool.connection() as conn:
            ask(conn, "CREATE TABLE t (n int)")
        assert conn.closed
        assert pool.stats().closes == {"exception": 1}

"""What stands around a pool: PgBouncer, TLS, gevent."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from psycopg2.extensions import connection

from queuepool.psycopg2pool import ConnectionPool

from .pgbouncer import PgBouncer
from .processes import wait_until
from .proxy import Proxy
from .server import Server


def ask(conn: connection, statement: str, *arguments: object) -> Any:
    with conn.cursor() as cursor:
        cursor.execute(statement, arguments)
        return cursor.fetchone() if cursor.description else None


# --- PgBouncer, in transaction mode


def test_threads_share_a_pgbouncer(pgbouncer: PgBouncer) -> None:
    pgbouncer.execute("CREATE TABLE counter AS SELECT 0 AS n")
    with ConnectionPool(pgbouncer.dsn(), capacity=4) as pool:

        def count(_: int) -> None:
            with pool.connection() as conn:
                ask(conn, "UPDATE counter SET n = n + 1")

        with ThreadPoolExecutor(8) as executor:
            list(executor.map(count, range(200)))
        assert pool.stats().opens.count <= 4
    assert pgbouncer.execute("SELECT n FROM counter") == [(200,)]


def test_backends_that_die_behind_a_pgbouncer_cost_the_pool_nothing(pgbouncer: PgBouncer, own_postgres: Server) -> None:
    with ConnectionPool(pgbouncer.dsn(), capacity=2) as pool:
        pool.prefill()
        with pool.connection() as conn:
            ask(conn, "SELECT 1")
        own_postgres.terminate_backends()
        for _ in range(4):
            with pool.connection() as conn:
                ask(conn, "SELECT 1")


def test_a_query_is_cancelled_by_way_of_pgbouncer(pgbouncer: PgBouncer, own_postgres: Server) -> None:
    with ConnectionPool(pgbouncer.dsn(), capacity=1) as pool, ThreadPoolExecutor(1) as executor:

        def sleep() -> None:
            with pool.connection() as conn:
                ask(conn, "SELECT pg_sleep(600)")

        query = executor.submit(sleep)
        running = "SELECT 1 FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(600)' AND state = 'active'"
        wait_until(lambda: own_postgres.execute(running), "the query runs")
        assert pool.cancel_all() == 1
        with pytest.raises(psycopg2.errors.QueryCanceled):
            query.result(10)


@pytest.mark.parametrize("reset", ["rollback", "full"])
def test_a_pgbouncer_that_hangs_up_reaches_nobody_who_was_idle(pgbouncer: PgBouncer, reset: Any) -> None:
    with closing(Proxy(pgbouncer)) as proxy, ConnectionPool(proxy.dsn(), capacity=2, reset=reset) as pool:
        pool.prefill()
        proxy.hang_up()
        proxy.forward()
        for _ in range(4):
            with pool.connection(timeout=10.0) as conn:
                assert ask(conn, "SELECT 1") == (1,)


# --- TLS


@pytest.fixture
def tls(own_postgres: Server) -> Server:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl on PATH, which makes the certificate")
    certificate, key = (own_postgres.local.data / name for name in ("server.crt", "server.key"))
    request = f"req -new -x509 -days 2 -nodes -subj /CN=localhost -out {certificate} -keyout {key}"
    subprocess.run([openssl, *request.split()], check=True, capture_output=True)
    for path in (certificate, key):
        path.chmod(0o600)
        if own_postgres.local.uid is not None and own_postgres.local.gid is not None:
            os.chown(path, own_postgres.local.uid, own_postgres.local.gid)
    own_postgres.configure(ssl="on")
    return own_postgres


def test_over_tls_a_live_connection_is_kept_and_a_dead_one_never_lent(tls: Server) -> None:
    with ConnectionPool(tls.dsn(sslmode="require"), capacity=3) as pool:
        pool.prefill()
        for _ in range(20):
            with pool.connection() as conn:
                assert conn.info.ssl_in_use
                ask(conn, "SELECT 1")
        assert pool.stats().opens.count == 3
        tls.terminate_backends()
        for _ in range(6):
            with pool.connection() as conn:
                assert ask(conn, "SELECT 1") == (1,)


def test_over_tls_a_notification_is_not_a_death(tls: Server) -> None:
    with ConnectionPool(tls.dsn(sslmode="require"), capacity=1) as pool:
        with pool.connection() as conn:
            ask(conn, "LISTEN news")
        tls.execute("NOTIFY news")
        with pool.connection() as again:
            assert again is conn


# --- gevent

#: Greenlets under monkey patching, with psycopg2 waiting through gevent's hub. The argument is the DSN.
GREENLETS = """
import gevent.monkey
gevent.monkey.patch_all()
import sys, time
import gevent, psycogreen.gevent
psycogreen.gevent.patch_psycopg()
import psycopg2
from queuepool.psycopg2pool import ConnectionPool

pool = ConnectionPool(sys.argv[1], capacity=4, timeout=20.0)
done = []

def work(number):
    with pool.connection() as conn, conn.cursor() as cursor:
        cursor.execute("SELECT pg_sleep(0.1), %s", [number])
        done.append(cursor.fetchone()[1])

began = time.monotonic()
gevent.joinall([gevent.spawn(work, number) for number in range(12)], raise_error=True)
assert sorted(done) == list(range(12))
assert 0.25 < time.monotonic() - began < 2.0, "the greenlets did not run side by side, four at a time"
assert pool.stats().opens.count <= 4

try:
    with gevent.Timeout(0.1), pool.connection() as conn, conn.cursor() as cursor:
        cursor.execute("SELECT pg_sleep(60)")
except gevent.Timeout:
    pass
assert pool.stats().taken == 0
for _ in range(8):
    with pool.connection() as conn, conn.cursor() as cursor:
        cursor.execute("SELECT 1")
print("ok")
"""


def test_greenlets_share_a_pool(own_postgres: Server) -> None:
    pytest.importorskip("gevent")
    pytest.importorskip("psycogreen")
    done = subprocess.run(
        [sys.executable, "-c", GREENLETS, own_postgres.dsn()],
        check=False, capture_output=True, text=True, timeout=50, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.stdout == "ok\n", done.stderr

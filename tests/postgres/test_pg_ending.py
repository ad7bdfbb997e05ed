"""Cancelling what runs, and closing a pool while its connections are in use, or in trouble."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import psycopg2
import pytest

import queuepool
from queuepool.psycopg2pool import ConnectionPool

from .processes import wait_until
from .server import Postgres, Server

ENDLESS = "SELECT pg_sleep(600)"


def seconds(deed: Callable[[], object]) -> float:
    began = time.monotonic()
    deed()
    return time.monotonic() - began


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as opened:
        yield opened


def run(pool: ConnectionPool, statement: str) -> None:
    with pool.connection() as conn, conn.cursor() as cursor:
        cursor.execute(statement)


def start_endless(
    pool: ConnectionPool, server: Postgres, executor: ThreadPoolExecutor, count: int = 1
) -> list[Future[None]]:
    queries = [executor.submit(run, pool, ENDLESS) for _ in range(count)]
    running = "SELECT count(*) FROM pg_stat_activity WHERE query = %s AND state = 'active'"
    wait_until(lambda: server.execute(running, [ENDLESS]) == [(count,)], "the queries run")
    return queries


def test_all_running_queries_are_cancelled_and_their_connections_kept(
    database: Postgres, executor: ThreadPoolExecutor
) -> None:
    with ConnectionPool(database.dsn(), capacity=4) as pool, pool.take() as idle:
        queries = start_endless(pool, database, executor, 3)
        assert pool.cancel_all() == 3
        for query in queries:
            with pytest.raises(psycopg2.errors.QueryCanceled):
                query.result(5)
        assert not idle.resource.closed
        assert pool.stats().closes == {}


def test_a_query_that_cannot_be_cancelled_keeps_no_other_from_it(
    database: Postgres, executor: ThreadPoolExecutor
) -> None:
    refused: list[psycopg2.extensions.connection] = []

    class Refusing(psycopg2.extensions.connection):
        def cancel(self) -> None:
            if not refused:
                refused.append(self)
                raise psycopg2.OperationalError("no more connections")
            super().cancel()

    pool = ConnectionPool(database.dsn(), capacity=2, connection_factory=Refusing)
    queries = start_endless(pool, database, executor, 2)
    assert pool.cancel_all() == 1
    assert pool.cancel_all() == 1
    for query in queries:
        with pytest.raises(psycopg2.errors.QueryCanceled):
            query.result(5)
    pool.close()


def test_a_query_that_began_while_others_were_cancelled_is_left_alone(
    database: Postgres, executor: ThreadPoolExecutor
) -> None:
    cancels: list[Callable[[], None]] = []

    class Cancelling(psycopg2.extensions.connection):
        def cancel(self) -> None:
            super().cancel()
            cancels.pop()()  # the second raises

    with ConnectionPool(database.dsn(), capacity=2, connection_factory=Cancelling) as pool:
        start_endless(pool, database, executor, 2)
        later: list[Future[None]] = []

        def begin_another() -> None:
            """Both queries end, and the connection that is to be cancelled next has another user's before it is."""
            for slot in list(pool._leases):
                psycopg2.extensions.connection.cancel(slot.resource)
            wait_until(lambda: not pool.stats().taken, "both are back")
            later.extend(start_endless(pool, database, executor, 2))

        cancels.append(begin_another)
        assert pool.cancel_all() == 1
        assert not any(query.done() for query in later)
        cancels += [lambda: None] * 2
        assert pool.cancel_all() == 2
        for query in later:
            with pytest.raises(psycopg2.errors.QueryCanceled):
                query.result(5)


def test_closing_cancels_what_still_runs_before_the_deadline(database: Postgres, executor: ThreadPoolExecutor) -> None:
    pool = ConnectionPool(database.dsn(), capacity=2)
    queries = start_endless(pool, database, executor, 2)
    assert seconds(lambda: pool.close(2.0)) < 2.0
    for query in queries:
        with pytest.raises(psycopg2.errors.QueryCanceled):
            query.result(1)
    database.wait_for_connections(0)


def test_closing_lets_what_is_quick_end_by_itself(database: Postgres, executor: ThreadPoolExecutor) -> None:
    pool = ConnectionPool(database.dsn(), capacity=1)
    query = executor.submit(run, pool, "SELECT pg_sleep(0.2)")
    wait_until(lambda: pool.stats().taken, "it is taken")
    assert pool.close(5.0) == []
    query.result(1)


def test_closing_tells_who_still_holds_a_connection_and_leaves_it_open(database: Postgres) -> None:
    pool = ConnectionPool(database.dsn(), capacity=1)
    with pool.connection() as conn:
        [holder] = pool.close(0.1)
        assert "test_pg_ending.py" in holder.where
        assert not conn.closed
    assert conn.closed


@pytest.mark.parametrize("method", ["close", "closeall"])
def test_closing_never_blocks_on_a_frozen_server(
    own_postgres: Server, executor: ThreadPoolExecutor, method: str
) -> None:
    pool = ConnectionPool(own_postgres.dsn(), capacity=3)
    pool.prefill()
    queries = start_endless(pool, own_postgres, executor, 2)
    with own_postgres.frozen():
        ending = (lambda: pool.close(1.0)) if method == "close" else pool.closeall
        assert seconds(ending) < 1.5
        for query in queries:
            with pytest.raises(psycopg2.Error):
                query.result(5)


def test_cancelling_gives_up_on_a_frozen_server(
    own_postgres: Server, executor: ThreadPoolExecutor, caplog: pytest.LogCaptureFixture
) -> None:
    pool = ConnectionPool(own_postgres.dsn(), capacity=1)
    [query] = start_endless(pool, own_postgres, executor)
    with own_postgres.frozen():
        assert seconds(lambda: pool.cancel_all(0.3)) < 0.6
    assert "does not answer" in caplog.text
    assert pool.cancel_all() == 1
    with pytest.raises(psycopg2.errors.QueryCanceled):
        query.result(5)
    pool.close()


def test_a_connection_put_back_while_another_thread_uses_it_is_closed_at_once(
    database: Postgres, executor: ThreadPoolExecutor
) -> None:
    with ConnectionPool(database.dsn(), capacity=1) as pool:
        conn = pool.getconn()

        def use() -> None:
            with conn.cursor() as cursor:
                cursor.execute(ENDLESS)

        query = executor.submit(use)
        running = "SELECT 1 FROM pg_stat_activity WHERE query = %s AND state = 'active'"
        wait_until(lambda: database.execute(running, [ENDLESS]), "the query runs")
        assert seconds(lambda: pool.putconn(conn)) < 1.0
        with pytest.raises(psycopg2.Error):
            query.result(5)
        assert conn.closed
        with pool.connection() as other:
            assert other is not conn


def test_those_who_wait_are_told_at_once(database: Postgres, executor: ThreadPoolExecutor) -> None:
    pool = ConnectionPool(database.dsn(), capacity=1)
    with pool.take():
        waiting: Any = executor.submit(pool.take)
        wait_until(lambda: pool.stats().waiting, "it waits")
        pool.close(0.0)
        with pytest.raises(queuepool.PoolClosed):
            waiting.result(1)


def test_closing_without_a_deadline_waits_for_what_runs(database: Postgres, executor: ThreadPoolExecutor) -> None:
    pool = ConnectionPool(database.dsn(), capacity=1)
    with suppress(psycopg2.Error):
        query = executor.submit(run, pool, "SELECT pg_sleep(0.3)")
        wait_until(lambda: pool.stats().taken, "it is taken")
        assert pool.close(None) == []
        query.result(1)

"""The pool of psycopg2 connections, used by coroutines."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time

import psycopg2
import pytest

from queuepool.psycopg2pool import ConnectionPool

from ..aio import in_loop, quiet, until
from ..support import assert_whole
from .server import Postgres, Server


def execute(conn: psycopg2.extensions.connection, query: str) -> list[tuple[object, ...]]:
    with conn.cursor() as cursor:
        cursor.execute(query)
        return cursor.fetchall() if cursor.description else []


@in_loop
async def test_aconnection_commits_or_rolls_back(database: Postgres) -> None:
    with contextlib.closing(ConnectionPool(database.dsn(), capacity=2)) as pool:
        async with pool.aconnection() as conn:
            await asyncio.to_thread(execute, conn, "CREATE TABLE t AS SELECT 1 AS n")
        with pytest.raises(psycopg2.errors.DivisionByZero):
            async with pool.aconnection() as conn:
                await asyncio.to_thread(execute, conn, "INSERT INTO t VALUES (2); SELECT 1 / 0")
        async with pool.aconnection() as conn:
            assert await asyncio.to_thread(execute, conn, "SELECT n FROM t") == [(1,)]
        assert_whole(pool)


@in_loop
async def test_a_commit_that_fails_reaches_the_coroutine(database: Postgres) -> None:
    database.execute("CREATE TABLE t (n int UNIQUE DEFERRABLE INITIALLY DEFERRED)")
    with contextlib.closing(ConnectionPool(database.dsn(), capacity=1)) as pool:
        with pytest.raises(psycopg2.IntegrityError):
            async with pool.aconnection() as conn:
                await asyncio.to_thread(execute, conn, "INSERT INTO t VALUES (1), (1)")
        async with pool.aconnection() as conn:
            assert await asyncio.to_thread(execute, conn, "SELECT count(*) FROM t") == [(0,)]
        assert_whole(pool)


@in_loop
async def test_a_thread_that_outlives_its_cancelled_task_writes_nothing_into_the_next_users_transaction(
    database: Postgres,
) -> None:
    database.execute("CREATE TABLE deed (who text)")
    begun, go_on, over = threading.Event(), threading.Event(), threading.Event()

    def insert(conn: psycopg2.extensions.connection, who: str) -> None:
        execute(conn, f"INSERT INTO deed VALUES ('{who}')")

    def work(conn: psycopg2.extensions.connection) -> None:
        insert(conn, "first")
        begun.set()
        go_on.wait(10.0)
        try:
            insert(conn, "late")
        finally:
            over.set()

    async def use(pool: ConnectionPool) -> None:
        async with pool.aconnection() as conn:
            await asyncio.to_thread(work, conn)

    with ConnectionPool(database.dsn(), capacity=1) as pool:
        task = asyncio.ensure_future(use(pool))
        await asyncio.to_thread(begun.wait, 10.0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with pool.aconnection() as conn:
            insert(conn, "next")
            go_on.set()
            await asyncio.to_thread(over.wait, 10.0)
        assert pool.stats().closes == {"cancelled": 1}
    assert database.execute("SELECT who FROM deed") == [("next",)]


@in_loop
async def test_coroutines_wait_in_one_line_with_threads_and_the_loop_goes_on(database: Postgres) -> None:
    with contextlib.closing(ConnectionPool(database.dsn(), capacity=2)) as pool:
        pids: set[object] = set()

        def in_threads() -> None:
            for _ in range(20):
                with pool.connection() as conn:
                    pids.add(execute(conn, "SELECT pg_backend_pid()")[0][0])

        async def in_tasks() -> None:
            for _ in range(5):
                async with pool.aconnection() as conn:
                    pids.add((await asyncio.to_thread(execute, conn, "SELECT pg_backend_pid()"))[0][0])

        threads = [threading.Thread(target=in_threads) for _ in range(3)]
        for thread in threads:
            thread.start()
        await asyncio.gather(*(in_tasks() for _ in range(6)))
        await until(lambda: not any(thread.is_alive() for thread in threads))
        assert len(pids) == 2
        assert pool.stats().takes == 90
        assert_whole(pool)


@in_loop
async def test_a_frozen_server_blocks_neither_the_loop_nor_the_deadline(own_postgres: Server) -> None:
    with contextlib.closing(ConnectionPool(own_postgres.dsn(), capacity=2, max_open_time=None)) as pool:
        with own_postgres.frozen():
            ticks = 0

            async def tick() -> None:
                nonlocal ticks
                while True:
                    ticks += 1
                    await asyncio.sleep(0.01)

            ticking = asyncio.ensure_future(tick())
            began = time.monotonic()
            with pytest.raises(TimeoutError):
                async with pool.aconnection(timeout=0.5):
                    pass
            assert time.monotonic() - began < 1.0
            ticking.cancel()
            assert ticks > 20
        await until(lambda: not pool.stats().opening)
        async with pool.aconnection() as conn:
            assert await asyncio.to_thread(execute, conn, "SELECT 1") == [(1,)]
    await quiet()

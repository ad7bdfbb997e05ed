"""`AsyncPool` with connections of asyncpg to a real server: reset, check, cancellation in the middle of a query, a crash."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from queuepool import AsyncLifecycle
from queuepool.aio import AsyncPool

from ..aio import in_loop, quiet, until
from ..support import assert_whole
from .server import Postgres, Server

asyncpg = pytest.importorskip("asyncpg")


class Connections(AsyncLifecycle[Any]):
    """What an asyncpg connection needs: its own `reset` undoes session state, a closed one is seen without asking."""

    def __init__(self, server: Postgres) -> None:
        arguments = server.kwargs()
        arguments["database"] = arguments.pop("dbname")
        self._arguments = arguments

    async def open(self) -> Any:
        return await asyncpg.connect(**self._arguments)

    async def close(self, resource: Any) -> None:
        await resource.close(timeout=2.0)

    def poll(self, resource: Any) -> bool:
        return not resource.is_closed()

    async def check(self, resource: Any) -> bool:
        return bool(await resource.fetchval("SELECT true"))

    async def reset(self, resource: Any) -> None:
        if resource.is_in_transaction():
            await resource.execute("ROLLBACK", timeout=2.0)  # else reset() complains to the loop, and does the same
        await resource.reset(timeout=2.0)

    def transient(self, error: Exception) -> bool:
        away = asyncpg.PostgresConnectionError, asyncpg.CannotConnectNowError, asyncpg.TooManyConnectionsError
        return isinstance(error, (OSError, *away))


def pool_of(server: Postgres, capacity: int = 2, **options: Any) -> AsyncPool[Any]:
    return AsyncPool("pg", capacity, lifecycle=Connections(server), **options)


@in_loop
async def test_what_a_user_set_does_not_reach_the_next(database: Postgres) -> None:
    async with pool_of(database, 1) as pool:
        async with pool.get() as conn:
            await conn.execute("SET search_path = nowhere")
            await conn.execute("CREATE TABLE IF NOT EXISTS public.t (n int)")
            await conn.execute("SELECT pg_advisory_lock(7)")
            await conn.execute("BEGIN")
            await conn.execute("INSERT INTO public.t VALUES (1)")
        async with pool.get() as again:
            assert again is conn
            assert await again.fetchval("SHOW search_path") == '"$user", public'
            assert await again.fetchval("SELECT count(*) FROM t") == 0
            assert await again.fetchval("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == 0
        assert pool.stats().opens.count == 1


@in_loop
async def test_many_tasks_share_few_connections(database: Postgres) -> None:
    async with pool_of(database, 4, timeout=20.0) as pool:

        async def query(number: int) -> int:
            async with pool.get() as conn:
                return int(await conn.fetchval("SELECT $1::int * 2", number))

        assert await asyncio.gather(*map(query, range(300))) == [2 * number for number in range(300)]
        assert 1 <= database.connection_count() <= 4
        assert_whole(pool)


@in_loop
async def test_a_query_that_is_cancelled_costs_its_connection_and_no_slot(database: Postgres) -> None:
    async with pool_of(database, 2, timeout=20.0) as pool:

        async def query() -> None:
            async with pool.get() as conn:
                await conn.fetchval("SELECT pg_sleep(30)")

        tasks = [asyncio.ensure_future(query()) for _ in range(6)]
        await until(lambda: pool.stats().taken == 2 and pool.stats().waiting == 4)
        await asyncio.sleep(0.05)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await quiet()
        assert_whole(pool)
        assert pool.stats().taken == 0
        async with pool.get() as one, pool.get() as other:
            assert await one.fetchval("SELECT 1") + await other.fetchval("SELECT 1") == 2


@in_loop
async def test_backends_killed_while_idle_cost_their_users_no_error(database: Postgres) -> None:
    async with pool_of(database, 3, timeout=20.0) as pool:
        await pool.prefill()
        database.terminate_backends(*database.backend_pids())
        for _ in range(2):
            async with pool.get() as one, pool.get() as two, pool.get() as three:
                for conn in (one, two, three):
                    assert await conn.fetchval("SELECT 1") == 1
        assert pool.stats().open_errors == 0
        assert_whole(pool)


@in_loop
async def test_takers_wait_out_a_restart_and_find_full_capacity(own_postgres: Server) -> None:
    async with pool_of(own_postgres, 2, timeout=20.0) as pool:
        await pool.prefill()
        await asyncio.to_thread(own_postgres.stop, "immediate")
        waiting = [asyncio.ensure_future(pool.acquire()) for _ in range(2)]
        await until(lambda: pool.stats().unreachable)
        await asyncio.to_thread(own_postgres.start)
        for conn in [await task for task in waiting]:
            assert await conn.fetchval("SELECT 1") == 1
            await pool.release(conn)
        assert_whole(pool)

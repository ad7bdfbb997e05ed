"""An asyncio service on a pool of asyncpg connections: ``python examples/asyncio_service.py [DSN]`` (``pip install asyncpg``).

It takes in orders, line by line, over TCP; the program is its clients too, for two seconds or for the time in
QUEUEPOOL_EXAMPLE_SECONDS. Ctrl-C or SIGTERM ends it earlier; whatever ends it, every order that was begun is answered.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shlex
import signal
import sys
from typing import Any

import asyncpg  # type: ignore[import-not-found, import-untyped, unused-ignore]
from local_postgres import server

from queuepool import AsyncLifecycle, AsyncPool, PoolError


class Connections(AsyncLifecycle[Any]):
    """What the pool must know of asyncpg's connections."""

    def __init__(self, dsn: str) -> None:
        # asyncpg understands URLs; libpq's other form is "name=value name=value".
        self.how = {"dsn": dsn} if "://" in dsn else dict(part.split("=", 1) for part in shlex.split(dsn))
        if "dbname" in self.how:
            self.how["database"] = self.how.pop("dbname")

    async def open(self) -> Any:
        return await asyncpg.connect(**self.how)

    async def close(self, conn: Any) -> None:
        await conn.close(timeout=2)

    def poll(self, conn: Any) -> bool:
        return not conn.is_closed()  # looked at on every take, for it costs nothing

    async def check(self, conn: Any) -> None:
        await conn.execute(
            "SELECT 1", timeout=2
        )  # an error says that it is dead; asked after `check_after` idle seconds

    async def reset(self, conn: Any) -> None:
        if conn.is_in_transaction():
            await conn.execute("ROLLBACK", timeout=2)
        await conn.reset(timeout=2)  # settings, locks, temporary tables, LISTEN

    def transient(self, error: Exception) -> bool:
        """Whether opening may work in a moment: then takers wait for it, as long as their timeouts allow."""
        return isinstance(error, (OSError, asyncpg.PostgresConnectionError, asyncpg.CannotConnectNowError))


class Service:
    def __init__(self, pool: AsyncPool[Any]) -> None:
        self.pool = pool
        self.under_way: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(ConnectionError):
            while line := await reader.readline():
                # A task of its own: the client may hang up, and its order is still recorded.
                task = asyncio.create_task(self.answer(line.decode().strip(), writer))
                self.under_way.add(task)
                task.add_done_callback(self.under_way.discard)
                await task

    async def answer(self, item: str, writer: asyncio.StreamWriter) -> None:
        try:
            async with self.pool.get() as conn, conn.transaction():
                number = await conn.fetchval("INSERT INTO orders (item) VALUES ($1) RETURNING number", item)
        except (PoolError, OSError, asyncpg.PostgresError) as error:
            writer.write(f"sorry: {error}\n".encode())
        else:
            writer.write(f"order {number}: {item}\n".encode())


async def client(port: int, answers: list[str]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        while True:
            writer.write(random.choice([b"tea\n", b"coffee\n", b"water\n"]))
            answers.append((await reader.readline()).decode())
    finally:
        writer.close()


async def main(dsn: str) -> None:
    async with AsyncPool("orders", capacity=4, lifecycle=Connections(dsn), timeout=5.0, check_after=30.0) as pool:
        pool.start_recycler(interval=10)
        async with pool.get() as conn:
            await conn.execute("DROP TABLE IF EXISTS orders; CREATE TABLE orders (number serial, item text)")

        service = Service(pool)
        tcp = await asyncio.start_server(service.serve, "127.0.0.1", 0)
        port = tcp.sockets[0].getsockname()[1]
        ended = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, ended.set)

        answers: list[str] = []
        clients = [asyncio.create_task(client(port, answers)) for _ in range(20)]
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(ended.wait(), float(os.environ.get("QUEUEPOOL_EXAMPLE_SECONDS") or 2))
        for task in clients:
            task.cancel()  # in the middle of an order, most of them
        await asyncio.wait(clients)
        tcp.close()
        if service.under_way:
            await asyncio.wait(service.under_way)

        async with pool.get() as conn:
            count = await conn.fetchval("SELECT count(*) FROM orders")
            await conn.execute("DROP TABLE orders")
        stats = pool.stats()
        assert count >= len(answers), "an answer without an order"
        print(f"{count} orders by 20 clients; answers like {answers[-1].strip()!r}")
        print(
            f"{stats.opens.count} connections, {pool.capacity} at a time, lent {stats.takes} times; {stats.taken} out now"
        )
    print("closed")


if __name__ == "__main__":
    with server(sys.argv[1] if len(sys.argv) > 1 else None) as dsn:
        asyncio.run(main(dsn))

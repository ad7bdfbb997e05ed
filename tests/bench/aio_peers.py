"""Adapters for asyncio, as ``peers`` has them for threads."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from types import SimpleNamespace
from typing import Any

from .driver import Spec, need, same
from .measure import Missing
from .stub import Stub


async def nothing() -> None:
    pass


@dataclass(frozen=True)
class AsyncDriver:
    """One pool, ready to be driven from the running loop."""

    take: Callable[[], Awaitable[Any]]
    put: Callable[[Any], Awaitable[object]]
    styles: Mapping[str, Callable[[], Any]] = field(default_factory=dict)
    """Callables that return an asynchronous context manager; the first is the form that the peer's users write."""
    pairs: Mapping[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = field(default_factory=dict)
    close: Callable[[], Awaitable[object]] = nothing
    resource: Callable[[Any], Any] = same


AsyncAdapter = Callable[[Spec], Awaitable[AsyncDriver]]


class AsyncStub(Stub):
    """A stub whose verbs are coroutines."""

    async def __aenter__(self) -> AsyncStub:
        return self

    async def __aexit__(self, *exception: object) -> None:
        pass

    async def rollback(self) -> None:  # type: ignore[override]
        pass

    async def close(self) -> None:  # type: ignore[override]
        pass


async def open_stub(*_: object, **__: object) -> AsyncStub:
    return AsyncStub()


async def bare_queue(spec: Spec) -> AsyncDriver:
    lifo: asyncio.LifoQueue[Any] = asyncio.LifoQueue(spec.capacity)
    for _ in range(spec.capacity):
        lifo.put_nowait(AsyncStub())
    return AsyncDriver(lifo.get, lifo.put)


async def lifoqueue_pool(spec: Spec) -> AsyncDriver:
    """What one writes without a library: an asyncio.LifoQueue of resources that are opened when first taken."""
    lifo: asyncio.LifoQueue[Any] = asyncio.LifoQueue(spec.capacity)
    for _ in range(spec.capacity):
        lifo.put_nowait(None)

    async def take() -> Any:
        resource = await lifo.get()
        if resource is None:
            try:
                resource = await open_stub()
            except BaseException:
                lifo.put_nowait(None)
                raise
        return resource

    return AsyncDriver(take, lifo.put)


async def queuepool(spec: Spec) -> AsyncDriver:
    pool = need("queuepool").AsyncPool(
        "bench", spec.capacity, max_usage_count=None, open=open_stub, timeout=spec.timeout, **spec.options
    )
    return AsyncDriver(
        pool.take,
        pool.put,
        {"with take()": pool.take, "with get()": pool.get},
        {"take, put": (pool.take, pool.put), "acquire, release": (pool.acquire, pool.release)},
        close=pool.close,
        resource=attrgetter("resource"),
    )


async def asyncpg_pool(spec: Spec) -> AsyncDriver:
    asyncpg = need("asyncpg")
    if spec.dsn:
        pool = await asyncpg.create_pool(spec.dsn, min_size=spec.capacity, max_size=spec.capacity)
        return AsyncDriver(pool.acquire, pool.release, {"with acquire()": pool.acquire}, close=pool.close)

    class Connection(asyncpg.Connection):  # type: ignore[misc, name-defined]
        """Its pool insists on a subclass of its connection: one without a protocol, that has nothing to reset."""

        def __init__(self) -> None:
            self._protocol = SimpleNamespace(
                queries_count=0, _is_cancelling=lambda: False, is_connected=lambda: True, abort=lambda: None
            )
            self._aborted = False
            self._proxy = self._pool_holder = self._source_traceback = None
            self._pool_release_ctr = 0
            self._listeners: dict[str, Any] = {}
            self._log_listeners: set[Any] = set()

        async def reset(self, *, timeout: float | None = None) -> None:
            pass

        async def close(self, *, timeout: float | None = None) -> None:
            self._aborted = True

        def __del__(self) -> None:
            pass

    async def connect(*_: object, **__: object) -> Connection:
        return Connection()

    pool = await asyncpg.create_pool(
        "postgresql://stub",
        min_size=spec.capacity,
        max_size=spec.capacity,
        connect=connect,
        connection_class=Connection,
    )
    return AsyncDriver(pool.acquire, pool.release, {"with acquire()": pool.acquire})


async def escudeiro(spec: Spec) -> AsyncDriver:
    if sys.version_info < (3, 12):
        raise Missing("escudeiro needs Python 3.12")
    module = need("escudeiro.ds.pools.asyncio")

    async def release(resource: Any) -> None:
        await resource.close()

    pool = module.AsyncPool(open_stub, release, pool_size=spec.capacity)
    return AsyncDriver(pool.acquire, pool.release, close=pool.dispose)


async def psycopg_pool(spec: Spec) -> AsyncDriver:
    connect = need("psycopg").AsyncConnection.connect if spec.dsn else open_stub
    pool = need("psycopg_pool").AsyncConnectionPool(
        spec.dsn or "",
        connection_class=SimpleNamespace(connect=connect),
        min_size=spec.capacity,
        max_size=spec.capacity,
        timeout=spec.timeout or 30,
        open=False,
    )
    await pool.open(wait=True)
    return AsyncDriver(pool.getconn, pool.putconn, {"with connection()": pool.connection}, close=pool.close)


async def generic_connection_pool(spec: Spec) -> AsyncDriver:
    module = need("generic_connection_pool.asyncio")

    class Manager(module.BaseConnectionManager):  # type: ignore[misc, name-defined]
        async def create(self, endpoint: str, timeout: float | None = None) -> Any:
            return await open_stub()

        async def dispose(self, endpoint: str, conn: Any, timeout: float | None = None) -> None:
            await conn.close()

    pool = module.ConnectionPool(
        Manager(), min_idle=spec.capacity, max_size=spec.capacity, total_max_size=spec.capacity
    )
    return AsyncDriver(
        lambda: pool.acquire("stub"),
        lambda connection: pool.release(connection, "stub"),
        {"with connection()": lambda: pool.connection("stub")},
        close=pool.close,
    )


ADAPTERS: dict[str, AsyncAdapter] = {
    "queuepool": queuepool,
    "asyncpg": asyncpg_pool,
    "psycopg_pool": psycopg_pool,
    "escudeiro": escudeiro,
    "generic-connection-pool": generic_connection_pool,
    "lifoqueue-pool": lifoqueue_pool,
    "bare-queue": bare_queue,
}

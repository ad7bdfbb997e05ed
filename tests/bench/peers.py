"""Adapters for threads: each makes one peer's pool and says how that peer is taken from and given back to.

What an adapter hands out are the peer's own bound methods wherever that is possible, so that no figure carries the
cost of the adapter. ``Missing`` and ``Unsuitable`` say why a peer stays out.
"""

from __future__ import annotations

import math
import threading
import warnings
from dataclasses import replace
from operator import attrgetter, methodcaller
from types import SimpleNamespace
from typing import Any

from . import legacy
from .driver import Adapter, Driver, Spec, need
from .floors import bare_handover, bare_list, bare_queue, lifoqueue_pool
from .measure import Unsuitable
from .ours import OPTIONS, queuepool


def queuepool_1_3_2(spec: Spec) -> Driver:
    if spec.overflow or spec.timeout:
        raise Unsuitable("has no overflow and no timeout")
    old = legacy.load()

    class Manager(old.ResourceManager):  # type: ignore[misc, name-defined]
        def open(self) -> None:
            self.resource = spec.open()
            super().open()

        def close(self) -> None:
            self.resource.close()
            super().close()

    pool = old.Pool("bench", spec.capacity, maxUsageCount=None)
    for number in range(spec.capacity):
        pool.put(Manager(str(number)))
    return Driver(pool.take, pool.put, {"with take()": pool.take}, resource=attrgetter("resource"), sweep=pool.recycle)


def psycopg2_pool(spec: Spec) -> Driver:
    module = need("psycopg2.pool")
    factory = spec.options if spec.dsn else {"connection_factory": spec.open}
    # What is returned above minconn it closes. A Semaphore stands before it, because it raises instead of waiting.
    dsn = spec.dsn or "host=stub"
    pool = module.ThreadedConnectionPool(spec.ahead, spec.maximum, dsn, **factory)
    free = threading.Semaphore(spec.maximum)

    def take() -> Any:
        if not free.acquire(timeout=spec.timeout):
            raise TimeoutError
        try:
            return pool.getconn()
        except BaseException:
            free.release()
            raise

    def put(connection: Any) -> None:
        try:
            pool.putconn(connection)
        finally:
            free.release()

    return Driver(take, put, pairs={"getconn, putconn": (pool.getconn, pool.putconn)}, close=pool.closeall)


def sqlalchemy(spec: Spec, *, lifo: bool) -> Driver:
    pool = need("sqlalchemy.pool").QueuePool(
        spec.open, pool_size=spec.capacity, max_overflow=spec.overflow, timeout=spec.timeout or 30, use_lifo=lifo
    )
    return Driver(
        pool.connect,
        methodcaller("close"),
        {"with connect()": pool.connect},
        close=pool.dispose,
    )


def psycopg_pool(spec: Spec) -> Driver:
    module = need("psycopg_pool")
    connect = need("psycopg").Connection.connect if spec.dsn else spec.open
    pool = module.ConnectionPool(
        spec.dsn or "",
        connection_class=SimpleNamespace(connect=connect),
        min_size=spec.ahead,
        max_size=spec.maximum,
        timeout=spec.timeout or 30,
        open=False,
    )
    pool.open(wait=True)
    return Driver(pool.getconn, pool.putconn, {"with connection()": pool.connection}, close=pool.close)


def dbutils(spec: Spec) -> Driver:
    if spec.timeout:
        raise Unsuitable("has no timeout")
    # It wants a DB-API module, to know its errors and its thread safety.
    errors = dict.fromkeys(("OperationalError", "InterfaceError", "InternalError"), OSError)
    module = need("psycopg2") if spec.dsn else SimpleNamespace(connect=spec.open, threadsafety=2, **errors)
    pool = need("dbutils.pooled_db").PooledDB(
        module,
        maxcached=spec.capacity,
        maxconnections=spec.maximum,
        blocking=True,
        **{"dsn": spec.dsn} if spec.dsn else {},
    )
    return Driver(pool.connection, methodcaller("close"), {"with connection()": pool.connection}, close=pool.close)


def cuttlepool(spec: Spec) -> Driver:
    module = need("cuttlepool")
    # Some releases warn of a deprecation of their own at every take.
    warnings.filterwarnings("ignore", category=DeprecationWarning, module="cuttlepool")

    class Pool(module.CuttlePool):  # type: ignore[misc, name-defined]
        def normalize_resource(self, resource: Any) -> None:
            resource.rollback()

        def ping(self, resource: Any) -> bool:
            return not resource.closed

    whole_seconds = None if spec.timeout is None else math.ceil(spec.timeout)
    pool = Pool(spec.open, spec.capacity, overflow=spec.overflow, timeout=whole_seconds)
    return Driver(pool.get_resource, methodcaller("close"), {"with get_resource()": pool.get_resource})


def generic_connection_pool(spec: Spec) -> Driver:
    module = need("generic_connection_pool.threading")

    class Manager(module.BaseConnectionManager):  # type: ignore[misc, name-defined]
        def create(self, endpoint: str, timeout: float | None = None) -> Any:
            return spec.open()

        def dispose(self, endpoint: str, conn: Any, timeout: float | None = None) -> None:
            conn.close()

        def on_release(self, endpoint: str, conn: Any) -> None:
            conn.rollback()

    pool = module.ConnectionPool(
        Manager(), min_idle=spec.ahead, max_size=spec.maximum, total_max_size=spec.maximum, acquire_timeout=spec.timeout
    )
    # One endpoint; the default argument spares a lookup, not a call.
    return Driver(
        lambda: pool.acquire("stub"),
        lambda connection: pool.release(connection, "stub"),
        {"with connection()": lambda: pool.connection("stub")},
        close=pool.close,
    )


ADAPTERS: dict[str, Adapter] = {
    "queuepool": queuepool,
    "queuepool-1.3.2": queuepool_1_3_2,
    "psycopg2.pool": psycopg2_pool,
    "sqlalchemy-fifo": lambda spec: sqlalchemy(spec, lifo=False),
    "sqlalchemy-lifo": lambda spec: sqlalchemy(spec, lifo=True),
    "psycopg_pool": psycopg_pool,
    "dbutils": dbutils,
    "cuttlepool": cuttlepool,
    "generic-connection-pool": generic_connection_pool,
    "lifoqueue-pool": lifoqueue_pool,
    "bare-handover": bare_handover,
    "bare-queue": bare_queue,
    "bare-list": bare_list,
}
POOLS = tuple(peer for peer in ADAPTERS if not peer.startswith("bare"))
"""Those that open what they lend; the bare ones are limits."""


def make(peer: str, spec: Spec) -> Driver:
    name, _, option = peer.partition("+")
    if option:
        spec = replace(spec, options={**spec.options, **OPTIONS[option](spec)})
    return ADAPTERS[name](spec)

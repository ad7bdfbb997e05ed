"""Adapters for threads: each makes one peer's pool and says how that peer is taken from and given back to.

What an adapter hands out are the peer's own bound methods wherever that is possible, so that no figure carries the
cost of the adapter. ``Missing`` and ``Unsuitable`` say why a peer stays out.
"""

from __future__ import annotations

import importlib
import math
import queue
import threading
import warnings
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from operator import attrgetter, methodcaller
from types import SimpleNamespace
from typing import Any

from . import legacy
from .measure import Missing, Unsuitable


@dataclass(frozen=True)
class Spec:
    """The pool that a scenario asks for. ``dsn`` is given where resources are real PostgreSQL connections."""

    capacity: int
    open: Callable[..., Any]
    overflow: int = 0
    timeout: float | None = None
    minimum: int | None = None
    """Resources that the peers which open ahead keep open; None for all of ``capacity``."""
    dsn: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments for queuepool's constructor alone."""

    @property
    def maximum(self) -> int:
        return self.capacity + self.overflow

    @property
    def ahead(self) -> int:
        return self.capacity if self.minimum is None else self.minimum


def same(taken: Any) -> Any:
    return taken


@dataclass(frozen=True)
class Driver:
    """One pool, ready to be driven."""

    take: Callable[[], Any]
    put: Callable[[Any], object]
    styles: Mapping[str, Callable[[], Any]] = field(default_factory=dict)
    """Callables that return a context manager; the first is the form that the peer's users write."""
    pairs: Mapping[str, tuple[Callable[[], Any], Callable[[Any], object]]] = field(default_factory=dict)
    close: Callable[[], object] = lambda: None
    resource: Callable[[Any], Any] = same
    """What ``take`` gave → the resource."""
    sweep: Callable[[], object] | None = None


def need(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise Missing(f"{error.name} is not installed") from None


Adapter = Callable[[Spec], Driver]


def bare_list(spec: Spec) -> Driver:
    resources = [spec.open() for _ in range(spec.capacity)]
    return Driver(resources.pop, resources.append)


def bare_queue(spec: Spec) -> Driver:
    lifo: queue.LifoQueue[Any] = queue.LifoQueue(spec.capacity)
    for _ in range(spec.capacity):
        lifo.put(spec.open())
    return Driver(lifo.get, lifo.put)


def lifoqueue_pool(spec: Spec) -> Driver:
    """What one writes without a library: a LifoQueue of resources that are opened when first taken."""
    lifo: queue.LifoQueue[Any] = queue.LifoQueue(spec.capacity)
    for _ in range(spec.capacity):
        lifo.put(None)

    def take() -> Any:
        resource = lifo.get(timeout=spec.timeout)
        if resource is None:
            try:
                resource = spec.open()
            except BaseException:
                lifo.put(None)
                raise
        return resource

    return Driver(take, lifo.put)


def bare_handover(spec: Spec) -> Driver:
    """The least that serves waiting threads in their order: a list of resources, and a line of locks to wake.

    What it has over `lifoqueue-pool` in time is what order costs on this machine, whatever the pool: the resource lies
    idle while the thread that it was given to wakes up.
    """
    free = [spec.open() for _ in range(spec.capacity)]
    line: deque[tuple[threading.Lock, list[Any]]] = deque()

    def take() -> Any:
        if free and not line:
            try:
                return free.pop()
            except IndexError:
                pass
        lock = threading.Lock()
        given: list[Any] = []
        lock.acquire()
        line.append((lock, given))
        serve()
        lock.acquire()
        return given[0]

    def serve() -> None:
        while free and line:
            try:
                resource = free.pop()
            except IndexError:
                return
            try:
                lock, given = line.popleft()
            except IndexError:
                free.append(resource)
            else:
                given.append(resource)
                lock.release()

    def put(resource: Any) -> None:
        free.append(resource)
        if line:
            serve()

    return Driver(take, put)


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
        return pool.getconn()

    def put(connection: Any) -> None:
        pool.putconn(connection)
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


def queuepool(spec: Spec) -> Driver:
    package = need("queuepool")
    options: dict[str, Any] = {"max_usage_count": None, "overflow": spec.overflow, "timeout": spec.timeout}
    if "lifecycle" not in spec.options:
        options["open"] = spec.open
    pool = package.Pool("bench", spec.capacity, **{**options, **spec.options})
    pool.start_recycler()
    return Driver(
        pool.take,
        pool.put,
        {"with take()": pool.take, "with get()": pool.get, "with lease()": pool.lease},
        {"take, put": (pool.take, pool.put), "acquire, release": (pool.acquire, pool.release)},
        close=pool.close,
        resource=attrgetter("resource"),
        sweep=pool.recycle,
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


def everything(spec: Spec) -> Mapping[str, Any]:
    """All that can be on at once without a callback at every take or put."""
    package = need("queuepool")

    class Watching(package.Observer):  # type: ignore[misc, name-defined]
        """Hears of everything but each take and put."""

        def opened(self, pool: Any, slot: Any, seconds: float) -> None: ...
        def closed(self, pool: Any, slot: Any, reason: str) -> None: ...
        def failed(self, pool: Any, step: str, error: BaseException) -> None: ...
        def refused(self, pool: Any, error: Exception) -> None: ...
        def held_long(self, pool: Any, holder: Any) -> None: ...
        def reclaimed(self, pool: Any, slot: Any, holder: Any) -> None: ...

    return {
        "max_idle_time": 300.0,
        "max_open_time": 3600.0,
        "max_usage_count": 1_000_000_000,
        "overflow": 2,
        "timeout": 30.0,
        "max_waiting": 1_000,
        "shed_after": 5.0,
        "min_idle": 1,
        "leak_after": 60.0,
        "close_on_exception": (OSError,),
        "observer": Watching(),
    }


def hearing(spec: Spec) -> Mapping[str, Any]:
    package = need("queuepool")

    class Hearing(package.Observer):  # type: ignore[misc, name-defined]
        def taken(self, pool: Any, slot: Any, waited: float) -> None: ...
        def given_back(self, pool: Any, slot: Any, held: float) -> None: ...

    return {"observer": Hearing()}


def polled(spec: Spec) -> Mapping[str, Any]:
    package = need("queuepool")

    class Polled(package.Lifecycle):  # type: ignore[misc, name-defined]
        def open(self) -> Any:
            return spec.open()

        def poll(self, resource: Any) -> bool:
            return True

    return {"lifecycle": Polled()}


OPTIONS: dict[str, Callable[[Spec], Mapping[str, Any]]] = {
    "everything": everything,
    "observer": hearing,
    "poll": polled,
    "check": lambda spec: {"check": lambda resource: True},
    "reset": lambda spec: {"reset": lambda resource: None},
    "nested": lambda spec: {"nested": "same"},
    "codel": lambda spec: {"shed_after": 0.005},
}
"""What stands behind the plus sign in ``queuepool+observer``."""


def make(peer: str, spec: Spec) -> Driver:
    name, _, option = peer.partition("+")
    if option:
        spec = replace(spec, options={**spec.options, **OPTIONS[option](spec)})
    return ADAPTERS[name](spec)

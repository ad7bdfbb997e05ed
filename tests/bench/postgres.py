"""Real PostgreSQL: statements and transactions through each pool, and what it costs to know that a connection lives."""

from __future__ import annotations

import functools
import random
import threading
from collections.abc import Callable
from dataclasses import replace
from itertools import repeat
from operator import attrgetter
from statistics import fmean
from time import perf_counter
from typing import Any

from . import ours, peers, server
from .driver import Driver, Spec, need
from .floors import bare_handover
from .goals import Goal, at_least, at_most
from .measure import Case, Figures, Metric, Scenario, best_time, quantile
from .threads import MICRO, MILLI, WAITS, contend, spin_pair

ACCOUNTS = 1_000


@functools.cache
def connection_class(autocommit: bool) -> type[Any]:
    """psycopg2's own, in autocommit mode or not: the pools that take no other way to say so take a class."""
    extensions = need("psycopg2.extensions")

    class Connection(extensions.connection):  # type: ignore[misc, name-defined]
        def __init__(self, dsn: str, **options: Any) -> None:
            super().__init__(dsn, **options)
            self.autocommit = autocommit

    return Connection


def spec_for(capacity: int, autocommit: bool, dsn: str | None = None) -> Spec:
    psycopg2, dsn, factory = need("psycopg2"), dsn or server.dsn(), connection_class(autocommit)

    def connect(*_: object, **__: object) -> Any:
        return psycopg2.connect(dsn, connection_factory=factory)

    return Spec(capacity, connect, dsn=dsn, options={"autocommit": autocommit, "factory": factory})


def bare(spec: Spec) -> Driver:
    """No pool: a connection for each thread, for as long as the thread lives."""
    own = threading.local()
    opened: list[Any] = []

    def take() -> Any:
        try:
            return own.connection
        except AttributeError:
            own.connection = spec.open()
            opened.append(own.connection)
            return own.connection

    def close() -> None:
        for connection in opened:
            connection.close()

    return Driver(take, lambda connection: None, close=close)


def bare_psycopg(spec: Spec) -> Driver:
    connect = need("psycopg").Connection.connect
    return bare(replace(spec, open=lambda: connect(spec.dsn, autocommit=spec.options["autocommit"])))


def queuepool(spec: Spec, **options: Any) -> Driver:
    autocommit = spec.options["autocommit"]
    pool = need("queuepool.psycopg2pool").ConnectionPool(
        spec.dsn,
        capacity=spec.capacity,
        timeout=spec.timeout or 30.0,
        configure=(lambda connection: connection.set_session(autocommit=True)) if autocommit else None,
        **options,
    )
    return Driver(
        pool.take,
        pool.put,
        {"with connection()": pool.connection},
        {"getconn, putconn": (pool.getconn, pool.putconn)},
        close=pool.close,
        resource=attrgetter("resource"),
    )


def unwatched(spec: Spec) -> Driver:
    """The generic pool over psycopg2.connect: it looks at no socket and resets nothing."""
    return ours.queuepool(replace(spec, options={}))


def psycopg2_pool(spec: Spec) -> Driver:
    return peers.psycopg2_pool(replace(spec, options={"connection_factory": spec.options["factory"]}))


def sqlalchemy(spec: Spec, *, pre_ping: bool = False) -> Driver:
    pool = need("sqlalchemy.pool")
    engine = need("sqlalchemy").create_engine("postgresql+psycopg2://", poolclass=pool.QueuePool, creator=spec.open)
    made = pool.QueuePool(
        spec.open,
        pool_size=spec.capacity,
        max_overflow=0,
        timeout=spec.timeout or 30.0,
        dialect=engine.dialect,
        pre_ping=pre_ping,
        use_lifo=True,
    )
    return Driver(made.connect, lambda one: one.close(), {"with connect()": made.connect}, close=made.dispose)


def psycopg_pool(spec: Spec, *, check: bool = False) -> Driver:
    kind = need("psycopg_pool").ConnectionPool
    pool = kind(
        spec.dsn,
        kwargs={"autocommit": spec.options["autocommit"]},
        check=kind.check_connection if check else None,
        min_size=spec.ahead,
        max_size=spec.capacity,
        timeout=spec.timeout or 30.0,
        open=False,
    )
    pool.open(wait=True)
    return Driver(pool.getconn, pool.putconn, {"with connection()": pool.connection}, close=pool.close)


def dbutils(spec: Spec, *, ping: int = 0) -> Driver:
    # With a function for a DB-API module it is told psycopg2's errors through `failures`.
    psycopg2 = need("psycopg2")
    pool = need("dbutils.pooled_db").PooledDB(
        spec.open,
        maxcached=spec.capacity,
        maxconnections=spec.capacity,
        blocking=True,
        failures=(psycopg2.OperationalError, psycopg2.InterfaceError),
        ping=ping,
    )
    return Driver(pool.connection, lambda one: one.close(), {"with connection()": pool.connection}, close=pool.close)


ADAPTERS: dict[str, Callable[[Spec], Driver]] = {
    "queuepool": queuepool,
    "queuepool+quantum": functools.partial(queuepool, quantum=0.001),
    "queuepool-1.3.2": lambda spec: peers.queuepool_1_3_2(replace(spec, options={})),
    "psycopg2.pool": psycopg2_pool,
    "sqlalchemy": sqlalchemy,
    "psycopg_pool": psycopg_pool,
    "dbutils": dbutils,
    "cuttlepool": lambda spec: peers.cuttlepool(replace(spec, options={})),
    "generic-connection-pool": lambda spec: peers.generic_connection_pool(replace(spec, options={})),
    "bare-handover": bare_handover,
    "bare": bare,
    "bare-psycopg": bare_psycopg,
}
LIVENESS: dict[str, tuple[str, Callable[[Spec], Driver]]] = {
    "queuepool": ("its socket, at every lend", queuepool),
    "queuepool, check_after=0": ("socket, then SELECT 1", functools.partial(queuepool, check_after=0.0)),
    "queuepool.Pool": ("nothing", unwatched),
    "queuepool-1.3.2": ("closed, at put", ADAPTERS["queuepool-1.3.2"]),
    "psycopg2.pool": ("nothing", psycopg2_pool),
    "sqlalchemy": ("nothing", sqlalchemy),
    "sqlalchemy, pre_ping": ("SELECT 1", functools.partial(sqlalchemy, pre_ping=True)),
    "psycopg_pool": ("nothing", psycopg_pool),
    "psycopg_pool, check": ("an empty statement", functools.partial(psycopg_pool, check=True)),
    "dbutils": ("nothing", dbutils),
    "dbutils, ping": ("psycopg2 has no ping", functools.partial(dbutils, ping=1)),
}
"""Peer → what it looks at before it lends a connection, and how it is made."""


def select_one(connection: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute("select 1")
        cursor.fetchone()


def transfer(connection: Any) -> None:
    """A transaction of five statements, the like of pgbench's."""
    source, target = random.sample(range(1, ACCOUNTS + 1), 2)
    # In one order, so that transfers in both directions cannot deadlock.
    first, second = sorted((source, target))
    with connection.cursor() as cursor:
        cursor.execute("select balance from account where id = %s", (source,))
        cursor.fetchone()
        cursor.execute("update account set balance = balance - %s where id = %s", (1, first))
        cursor.execute("update account set balance = balance + %s where id = %s", (1, second))
        cursor.execute("insert into history (account, amount) values (%s, %s)", (source, 1))
        cursor.execute("select balance from account where id = %s", (target,))
        cursor.fetchone()
    connection.commit()


def measure_statements(peer: str, case: Case) -> Figures:
    threads, work = case["threads"], case["work"]
    driver = ADAPTERS[peer](spec_for(case["connections"], autocommit=work is select_one))
    take, put, resource = driver.take, driver.put, driver.resource

    def spin(count: int) -> None:
        for _ in repeat(None, count):
            taken = take()
            work(resource(taken))
            put(taken)

    try:
        if threads == 1:
            # Many short runs, of which the best is undisturbed: nothing here depends on the order of threads.
            return {"throughput": 1 / best_time(spin, int(200 * case["duration"]))}
        return contend(driver, threads, case["duration"], lambda taken: work(resource(taken)), 100_000)
    finally:
        driver.close()


def measure_liveness(peer: str, case: Case) -> Figures:
    """A take and a put of an open connection, with nothing done on it."""
    driver = LIVENESS[peer][1](spec_for(4, autocommit=True))
    try:
        return {"cycle": best_time(spin_pair(driver.take, driver.put), case["runs"])}
    finally:
        driver.close()


def measure_beside(peer: str, case: Case) -> Figures:
    """Statements one after the other, beside threads that compute: whoever lets go of the GIL waits for it 5 ms and more."""
    driver = ADAPTERS[peer](spec_for(1, autocommit=True))
    take, put, resource = driver.take, driver.put, driver.resource
    ended = threading.Event()

    def compute() -> None:
        while not ended.is_set():
            sum(range(1_000))

    neighbours = [threading.Thread(target=compute) for _ in range(case["neighbours"])]
    times = []
    for neighbour in neighbours:
        neighbour.start()
    try:
        for _ in repeat(None, case["statements"]):
            began = perf_counter()
            taken = take()
            select_one(resource(taken))
            put(taken)
            times.append(perf_counter() - began)
    finally:
        ended.set()
        for neighbour in neighbours:
            neighbour.join()
        driver.close()
    return {"mean": fmean(times), "p95": quantile(sorted(times), 0.95)}


def _cases(loads: tuple[tuple[int, int], ...], duration: float) -> list[Case]:
    works: dict[str, Callable[[Any], None]] = {"SELECT 1": select_one, "5-statement transaction": transfer}
    return [
        Case(
            f"{name}, {threads} thread{'s' if threads > 1 else ''}, {connections} connection{'s' if connections > 1 else ''}",
            {"threads": threads, "connections": connections, "work": work, "duration": duration},
        )
        for name, work in works.items()
        for threads, connections in loads
    ]


UNFAIR = ("queuepool-1.3.2", "psycopg2.pool", "sqlalchemy", "dbutils")
"""Whoever comes by as a connection comes back may overtake those who wait."""
PEERS = tuple(
    peer for peer in ADAPTERS if peer not in ("queuepool", "queuepool+quantum") and not peer.startswith("bare")
)
CASES = _cases(((1, 1), (16, 4), (64, 8)), 0.7)
STATEMENTS = Scenario(
    "postgres",
    "Statements on PostgreSQL",
    [Metric("throughput", "/s", more_is_better=True), *WAITS, Metric("jain", more_is_better=True), Metric("errors")],
    CASES,
    _cases(((1, 1), (4, 2)), 0.3),
    tuple(ADAPTERS),
    measure_statements,
    limit="bare",
    drawn_too=("max",),
    note="bare has a connection for each thread, and no pool. bare-handover is the least that serves in order. psycopg_pool "
    "comes with psycopg 3, whose own speed bare-psycopg shows. queuepool+quantum has quantum=0.001. "
    "SELECT 1 runs in autocommit mode: one round trip.",
    goals=(
        Goal("throughput at least the best peer's", at_least(1.0, "throughput", "queuepool", *PEERS)),
        Goal(
            "with a quantum: throughput at least the best peer's",
            at_least(1.0, "throughput", "queuepool+quantum", *PEERS),
            [case.label for case in CASES if case["threads"] > 1],
        ),
        Goal(
            "at least 0.95 of a bare connection",
            at_least(0.95, "throughput", "queuepool", "bare"),
            [case.label for case in CASES if case["threads"] == 1],
        ),
        Goal(
            "the longest wait at most a tenth of that of any unfair peer",
            at_most(0.1, "max", "queuepool", *UNFAIR),
            [case.label for case in CASES if case["work"] is select_one],
        ),
        Goal(
            "with a quantum: the longest wait at most a tenth of that of any unfair peer",
            at_most(0.1, "max", "queuepool+quantum", *UNFAIR),
            [case.label for case in CASES if case["work"] is select_one and case["threads"] > 1],
        ),
    ),
    rounds=7,
)
ALIVE = Scenario(
    "liveness",
    "Knowing that a connection is alive",
    [Metric("cycle", "µs", MICRO)],
    [Case("take, put", {"runs": 40})],
    [Case("take, put", {"runs": 3})],
    tuple(LIVENESS),
    measure_liveness,
    limit="queuepool.Pool",
    note="what each looks at before it lends: " + "; ".join(f"{peer}: {look}" for peer, (look, _) in LIVENESS.items()),
    rounds=5,
)
BESIDE = Scenario(
    "beside",
    "SELECT 1 beside threads that compute",
    [Metric("mean", "ms", MILLI), Metric("p95", "ms", MILLI)],
    [Case(f"{neighbours} computing", {"neighbours": neighbours, "statements": 150}) for neighbours in (1, 3)],
    [Case("1 computing", {"neighbours": 1, "statements": 5})],
    ("queuepool", "queuepool-1.3.2", "psycopg2.pool", "sqlalchemy", "psycopg_pool", "dbutils", "bare"),
    measure_beside,
    limit="bare",
    note="CPython gives the GIL to the next thread every 5 ms, so each time that a call lets go of it costs as much.",
    goals=(Goal("at most 1.1 of a bare connection", at_most(1.1, "mean", "queuepool", "bare")),),
    rounds=5,
)
SCENARIOS = (STATEMENTS, ALIVE, BESIDE)

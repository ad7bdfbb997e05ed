"""A PostgreSQL server that is down for seconds under load."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from time import monotonic
from typing import Any

from .driver import Driver, need
from .goals import Goal, level
from .measure import Case, Figures, Metric, Missing, Scenario
from .postgres import ADAPTERS, spec_for, sqlalchemy

THREADS = CONNECTIONS = 8
AFTERWARDS = 3.0
"""Seconds of load once the server accepts connections again."""
MILLI = 1e3

PEERS: dict[str, Callable[[Any], Driver]] = {
    **{peer: ADAPTERS[peer] for peer in ("queuepool", "queuepool-1.3.2", "psycopg2.pool", "psycopg_pool", "dbutils")},
    "sqlalchemy, pre_ping": lambda spec: sqlalchemy(spec, pre_ping=True),
}


@contextmanager
def broken_server(**settings: object) -> Iterator[Any]:
    """A server of one's own, to be stopped and started."""
    try:
        from tests.postgres.server import Server

        server = Server(**settings)
    except (ModuleNotFoundError, LookupError) as error:
        raise Missing(str(error).splitlines()[0]) from None
    try:
        server.start()
        yield server
    finally:
        server.close()


@contextmanager
def counted_attempts() -> Iterator[list[float]]:
    """The instants at which anybody tries to connect, by either driver."""
    attempts: list[float] = []
    originals = [(need("psycopg2"), "connect")]
    with suppress(Missing):
        originals.append((need("psycopg").Connection, "connect"))
    saved = [(owner, name, getattr(owner, name), name in vars(owner)) for owner, name in originals]
    for owner, name, connect, _ in saved:

        def counting(*args: Any, _connect: Callable[..., Any] = connect, **options: Any) -> Any:
            attempts.append(monotonic())
            return _connect(*args, **options)

        setattr(owner, name, counting)
    try:
        yield attempts
    finally:
        for owner, name, connect, _ in saved:
            setattr(owner, name, connect)


def use(driver: Driver, work: Callable[[Any], object]) -> None:
    """Take, work and put, in the form that the peer's users write."""
    for style in driver.styles.values():
        with style() as taken:
            work(getattr(taken, "resource", taken))
        return
    taken = driver.take()
    try:
        work(driver.resource(taken))
    finally:
        driver.put(taken)


def ask(connection: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute("select 1")
        cursor.fetchone()


class Load:
    """Threads that use a pool until told to stop, and note how each attempt ended. Those that hang are left behind."""

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self.stopping = threading.Event()
        self.successes: list[float] = []
        self.failures: list[float] = []
        self.longest = 0.0
        self.began: dict[int, float] = {}
        self.threads = [threading.Thread(target=self._run, daemon=True) for _ in range(THREADS)]
        for thread in self.threads:
            thread.start()

    def _run(self) -> None:
        me = threading.get_ident()
        while not self.stopping.is_set():
            self.began[me] = began = monotonic()
            try:
                use(self.driver, ask)
            except Exception:
                self.failures.append(monotonic())
                self.stopping.wait(0.01)  # as a program would that logs, or answers with an error
            else:
                self.successes.append(monotonic())
            self.longest = max(self.longest, monotonic() - began)
        del self.began[me]

    def stop(self) -> float:
        """End the load; return the longest attempt, those that have not ended included."""
        self.stopping.set()
        for thread in self.threads:
            thread.join(2.0)
        return max([self.longest, *(monotonic() - began for began in list(self.began.values()))])


def capacity_after(driver: Driver) -> int:
    """How many working connections the pool lends at the same time, within two seconds."""
    ready: list[int] = []
    enough = threading.Event()

    def hold(connection: Any) -> None:
        ask(connection)
        ready.append(1)
        if len(ready) == CONNECTIONS:
            enough.set()
        enough.wait(2.0)

    def attempt() -> None:
        with suppress(Exception):
            use(driver, hold)

    threads = [threading.Thread(target=attempt, daemon=True) for _ in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    enough.wait(2.0)
    count = len(ready)
    enough.set()
    for thread in threads:
        thread.join(0.5)
    return count


def measure_outage(peer: str, case: Case) -> Figures:
    with broken_server() as server, counted_attempts() as attempts:
        driver = PEERS[peer](spec_for(CONNECTIONS, autocommit=True, dsn=server.dsn()))
        load = Load(driver)
        pause = threading.Event().wait
        pause(0.5)
        server.stop("immediate")
        down_at = monotonic()
        pause(case["seconds"])
        server.start()
        up_at = monotonic()
        pause(AFTERWARDS)
        longest = load.stop()
        after = [instant for instant in load.successes if instant > up_at]
        figures = {
            "failures": float(len(load.failures)),
            "failures after": float(sum(instant > up_at for instant in load.failures)),
            "longest": longest,
            "first success": min(after) - up_at if after else AFTERWARDS,
            "attempts": sum(down_at < instant < up_at for instant in attempts) / (up_at - down_at),
            "capacity after": float(capacity_after(driver)),
        }
        server.stop("immediate")  # else the peers that hang would not let it go
        threading.Thread(target=driver.close, daemon=True).start()
        return figures


OUTAGE = Scenario(
    "outage",
    "The server is down for five seconds",
    [
        Metric("first success", "ms", MILLI),
        Metric("failures"),
        Metric("failures after"),
        Metric("longest", "s"),
        Metric("attempts", "/s"),
        Metric("capacity after", more_is_better=True),
    ],
    [Case("5 s, 8 threads, 8 connections", {"seconds": 5.0})],
    [Case("0.5 s, 8 threads, 8 connections", {"seconds": 0.5})],
    tuple(PEERS),
    measure_outage,
    note="first success and failures after: counted from the instant at which the server accepts connections. A caller "
    f"that failed tries again after 10 ms. Load goes on for {AFTERWARDS:.0f} s afterwards.",
    goals=(
        Goal(
            "the first success within 0.5 s of the server accepting",
            level(lambda case: 0.5, "first success", "queuepool", pick=max, unit=" ms", scale=MILLI),
        ),
        Goal("at most 20 attempts a second", level(lambda case: 20, "attempts", "queuepool", pick=max, unit="/s")),
        Goal(
            "full capacity after",
            level(lambda case: CONNECTIONS, "capacity after", "queuepool", pick=min, upper=False),
        ),
    ),
    rounds=3,
)

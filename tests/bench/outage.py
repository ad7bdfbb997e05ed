"""A PostgreSQL server that is down for seconds under load."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from time import monotonic
from typing import Any

from .driver import Driver, need
from .goals import Goal, level
from .measure import Case, Figures, Metric, Missing, Scenario
from .postgres import LIVENESS, spec_for

THREADS = CONNECTIONS = 8
MILLI = 1e3

PEERS = {
    peer: LIVENESS[peer][1]
    for peer in (
        "queuepool",
        "queuepool-1.3.2",
        "psycopg2.pool",
        "sqlalchemy",
        "sqlalchemy, pre_ping",
        "psycopg_pool",
        "psycopg_pool, check",
        "dbutils",
    )
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
    # Its own pair: there are as many threads as connections, and nothing is to stand before a pool that raises at once.
    take, put = next(iter(driver.pairs.values()), (driver.take, driver.put))
    taken = take()
    try:
        work(driver.resource(taken))
    finally:
        put(taken)


def ask(connection: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute("select 1")
        cursor.fetchone()


def join_all(threads: Sequence[threading.Thread], seconds: float) -> None:
    """Wait for all of them together; those that hang are left behind."""
    ends_at = monotonic() + seconds
    for thread in threads:
        thread.join(max(0.0, ends_at - monotonic()))


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
        join_all(self.threads, 2.0)
        return max([self.longest, *(monotonic() - began for began in list(self.began.values()))])


def capacity_after(driver: Driver, work: Callable[[Any], object] = ask) -> int:
    """How many resources that can do the work the pool lends at the same time, within two seconds."""
    ready: list[int] = []
    enough = threading.Event()

    def hold(resource: Any) -> None:
        work(resource)
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
    join_all(threads, 0.5)
    return count


def measure_under_load(peer: str, case: Case, harm: Callable[[Any], object], mend: Callable[[Any], object]) -> Figures:
    """What users see of a server that is harmed and then mended."""
    with broken_server() as server, counted_attempts() as attempts:
        driver = PEERS[peer](spec_for(CONNECTIONS, autocommit=True, dsn=server.dsn()))
        load = Load(driver)
        pause = threading.Event().wait
        pause(0.5)
        harm(server)
        down_at = monotonic()
        pause(case["seconds"])
        mend(server)
        up_at = monotonic()
        while monotonic() < up_at + case["patience"] and load.successes[-1] < up_at:
            pause(0.05)
        pause(case["afterwards"])
        longest = load.stop()
        after = [instant for instant in load.successes if instant > up_at]
        figures = {
            "failures": float(len(load.failures)),
            "failures after": float(sum(instant > up_at for instant in load.failures)),
            "longest": longest,
            "first success": min(after) - up_at if after else case["patience"],
            "attempts": sum(down_at < instant < up_at for instant in attempts) / (up_at - down_at),
            "capacity after": float(capacity_after(driver)),
        }
        server.stop("immediate")  # else the peers that hang would not let it go
        threading.Thread(target=driver.close, daemon=True).start()
        return figures


def measure_outage(peer: str, case: Case) -> Figures:
    return measure_under_load(peer, case, lambda server: server.stop("immediate"), lambda server: server.start())


def load_case(seconds: float, patience: float = 15.0, afterwards: float = 3.0) -> Case:
    """Load goes on for ``afterwards`` after the first success, and for ``patience`` if there is none."""
    values = {"seconds": seconds, "patience": patience, "afterwards": afterwards}
    return Case(f"{seconds:g} s, {THREADS} threads, {CONNECTIONS} connections", values)


OUTAGE = Scenario(
    "outage",
    "The server is down for seconds",
    [
        Metric("first success", "ms", MILLI),
        Metric("failures"),
        Metric("failures after"),
        Metric("longest", "s"),
        Metric("attempts", "/s"),
        Metric("capacity after", more_is_better=True),
    ],
    [load_case(5.0)],
    [load_case(0.5, 2.0, 0.5)],
    tuple(PEERS),
    measure_outage,
    note="first success and failures after: counted from the instant at which the server is well again "
    "(15 s: none came). A caller that failed tries again after 10 ms. Load goes on for 3 s after the first success.",
    goals=(
        Goal(
            "no more failures than requests were in flight",
            level(lambda case: THREADS, "failures", "queuepool", pick=max),
        ),
        Goal(
            "the first success within 0.5 s of the server being well",
            level(lambda case: 0.5, "first success", "queuepool", pick=max, unit=" ms", scale=MILLI),
        ),
        Goal("at most 10 attempts a second", level(lambda case: 10, "attempts", "queuepool", pick=max, unit="/s")),
        Goal(
            "full capacity after",
            level(lambda case: CONNECTIONS, "capacity after", "queuepool", pick=min, upper=False),
        ),
    ),
    rounds=3,
)
LONG_OUTAGE = replace(
    OUTAGE,
    name="long-outage",
    title="The server is down for long",
    cases=[load_case(20.0)],
    quick_cases=[load_case(1.0, 2.0, 0.5)],
    rounds=1,
)

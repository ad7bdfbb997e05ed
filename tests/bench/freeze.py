"""A PostgreSQL server that is frozen: it neither answers nor goes away, and the kernel accepts connections for it."""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import replace
from time import monotonic

from .driver import Driver
from .goals import Goal, level
from .measure import Case, Figures, Metric, Scenario
from .outage import CONNECTIONS, OUTAGE, PEERS, THREADS, broken_server, join_all, measure_under_load
from .postgres import LIVENESS, spec_for

MARGIN = 0.1
"""Seconds after its deadline by which a take has to be over."""
PATIENCE = 3
"""Timeouts after which one that is still blocked counts as blocked for good."""
CHECKED = "queuepool, check_after=0"
WITHOUT_TIMEOUT = ("queuepool-1.3.2", "dbutils")


def measure_freeze(peer: str, case: Case) -> Figures:
    # At the limit a process of its own thaws the server, even if nothing in this one runs any more.
    return measure_under_load(
        peer, case, lambda server: server.freeze(limit=case["seconds"] + 0.2), lambda server: server.thaw()
    )


class Caller:
    """Takes once, in a thread of its own, notes how long that took, and holds what it got until told."""

    def __init__(self, driver: Driver, done: threading.Event) -> None:
        self.took: float | None = None
        self._driver = driver
        self._done = done
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        self.began = monotonic()
        with suppress(Exception):
            taken = self._driver.take()
            self.took = monotonic() - self.began
            self._done.wait()
            self._driver.put(taken)
        if self.took is None:
            self.took = monotonic() - self.began


def measure_deadline(peer: str, case: Case) -> Figures:
    timeout, connections = case["timeout"], CONNECTIONS // 2
    limit = PATIENCE * timeout
    with broken_server() as server:
        spec = replace(
            spec_for(connections, autocommit=True, dsn=server.dsn()),
            timeout=None if peer in WITHOUT_TIMEOUT else timeout,
            minimum=connections if case["warm"] else 0,
        )
        driver = LIVENESS[peer][1](spec)
        if case["warm"]:
            for taken in [driver.take() for _ in range(connections)]:
                driver.put(taken)
        done = threading.Event()
        with server.frozen(limit + 5.0):
            callers = [Caller(driver, done) for _ in range(THREADS)]
            ends_at = monotonic() + limit
            while monotonic() < ends_at and any(caller.took is None for caller in callers):
                done.wait(0.02)
            took = [limit if caller.took is None else caller.took for caller in callers]
        done.set()
        join_all([caller.thread for caller in callers], 0.5)
        server.stop("immediate")  # ends those that are still blocked
        threading.Thread(target=driver.close, daemon=True).start()
        return {
            "longest": max(took),
            "late": float(sum(time > timeout + MARGIN for time in took)),
            "blocked": float(sum(time >= limit for time in took)),
        }


def _cases(timeout: float) -> list[Case]:
    return [Case(name, {"timeout": timeout, "warm": name == "warm"}) for name in ("warm", "cold")]


FREEZE = replace(
    OUTAGE,
    name="freeze",
    title="The server is frozen for seconds",
    measure=measure_freeze,
    rounds=1,
)
DEADLINE = Scenario(
    "deadline",
    "Taking from a pool whose server is frozen",
    [Metric("longest", "s"), Metric("late"), Metric("blocked")],
    _cases(2.0),
    _cases(0.3),
    (*PEERS, CHECKED),
    measure_deadline,
    note=f"{THREADS} callers take, with a timeout of 2 s, from a pool of {CONNECTIONS // 2} that has all of its connections open "
    "(warm) or none (cold), and hold what they get. Only the take is measured, however it ends. late: of these, over "
    f"more than {MARGIN} s after the deadline; blocked: not over after {PATIENCE * 2} s, when the measurement ends. "
    f"{' and '.join(WITHOUT_TIMEOUT)} have no timeout; psycopg2.pool raises at once when all are taken, and here waits "
    "before a semaphore that has the timeout.",
    goals=(
        Goal("everyone is out 0.1 s after the deadline", level(lambda case: 0, "late", "queuepool", pick=max)),
        Goal("also where each take checks", level(lambda case: 0, "late", CHECKED, pick=max)),
    ),
    rounds=1,
)

"""Connections of PostgreSQL that are killed while they are idle."""

from __future__ import annotations

import threading
from time import monotonic
from typing import Any

from .driver import Driver
from .goals import Goal, level
from .measure import Case, Figures, Metric, Scenario
from .outage import MILLI, PEERS, ask, broken_server, join_all, use
from .postgres import spec_for

PATIENCE = 10.0
"""Seconds after which a use that is not over counts as an error."""


class Uses:
    """So many uses of a pool by each of some threads: those that succeeded, and those that raised."""

    def __init__(self, driver: Driver, threads: int, each: int, together: bool = False) -> None:
        self.driver = driver
        self.each = each
        self.count = threads * each
        self.ends_at = monotonic() + PATIENCE
        self.answered_at: list[float] = []
        self.errors: list[Exception] = []
        # Where all are to come together, each holds its connection until every other has one, or an error.
        self.over = threading.Event()
        if not together:
            self.over.set()
        users = [threading.Thread(target=self._run, daemon=True) for _ in range(threads)]
        for user in users:
            user.start()
        join_all(users, PATIENCE)
        self.missing = self.count - len(self.answered_at)

    def _run(self) -> None:
        for _ in range(self.each):
            if monotonic() > self.ends_at:
                break
            try:
                use(self.driver, self._work)
            except Exception as error:
                self.errors.append(error)
                self._look_around()

    def _work(self, connection: Any) -> None:
        ask(connection)
        self.answered_at.append(monotonic())
        self._look_around()
        self.over.wait(PATIENCE)

    def _look_around(self) -> None:
        if len(self.answered_at) + len(self.errors) == self.count:
            self.over.set()


def measure_killed(peer: str, case: Case) -> Figures:
    """All of a pool's idle connections are terminated; then it is used."""
    count = case["connections"]
    with broken_server(max_connections=count + 10) as server:
        driver = PEERS[peer](spec_for(count, autocommit=True, dsn=server.dsn()))
        opened = Uses(driver, count, 1, together=True)
        if opened.missing:
            raise RuntimeError(f"opened only {len(opened.answered_at)}: {opened.errors[:1]}")
        server.terminate_backends()
        began = monotonic()
        uses = Uses(driver, case["threads"], case["uses"], case["together"])
        threading.Thread(target=driver.close, daemon=True).start()
        return {
            "errors": float(uses.missing),
            "answered": PATIENCE if uses.missing else max(uses.answered_at) - began,
        }


def _cases(count: int, threads: int) -> list[Case]:
    ways = {
        f"burst: {count} threads at once": (count, 1, True),
        f"parallel: {threads} threads": (threads, count // threads, False),
        "sequential: 1 thread": (1, count, False),
    }
    return [
        Case(
            f"{count} connections, {way}", {"connections": count, "threads": users, "uses": each, "together": together}
        )
        for way, (users, each, together) in ways.items()
    ]


FIFTY = Case(
    "50 connections, burst: 50 threads at once", {"connections": 50, "threads": 50, "uses": 1, "together": True}
)
KILLED = Scenario(
    "killed",
    "All idle connections are killed",
    [Metric("answered", "ms", MILLI), Metric("errors")],
    [FIFTY, *_cases(200, 8)],
    _cases(5, 2),
    tuple(PEERS),
    measure_killed,
    note="as many uses as there are connections. burst: each holds its connection until all have one. "
    f"errors: uses that failed, or were not over after {PATIENCE:.0f} s. answered: until every one was "
    f"({PATIENCE:.0f} s if any was not).",
    goals=(
        Goal("no user sees an error", level(lambda case: 0, "errors", "queuepool", pick=max)),
        Goal(
            "all answered within a second",
            level(lambda case: 1.0, "answered", "queuepool", pick=max, unit=" ms", scale=MILLI),
            [FIFTY.label],
        ),
    ),
    rounds=2,
)

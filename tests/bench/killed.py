"""Connections of PostgreSQL that are killed while they are idle."""

from __future__ import annotations

import threading
from contextlib import suppress
from time import monotonic
from typing import Any

from .goals import Goal, level
from .measure import Case, Figures, Metric, Scenario
from .outage import MILLI, PEERS, ask, broken_server, use
from .postgres import spec_for


def measure_killed(peer: str, case: Case) -> Figures:
    """All of a pool's idle connections are terminated; then as many threads use it at the same time."""
    count = case["connections"]
    with broken_server(max_connections=count + 10) as server:
        driver = PEERS[peer](spec_for(count, autocommit=True, dsn=server.dsn()))
        errors: list[Exception] = []
        replaced_at: list[float] = []

        def attempt(together: threading.Barrier, note: bool) -> None:
            def hold(connection: Any) -> None:
                ask(connection)
                replaced_at.append(monotonic())
                with suppress(threading.BrokenBarrierError):
                    together.wait(10.0)

            try:
                use(driver, hold)
            except Exception as error:
                if note:
                    errors.append(error)

        def everyone(note: bool) -> None:
            replaced_at.clear()
            together = threading.Barrier(count)
            threads = [threading.Thread(target=attempt, args=(together, note), daemon=True) for _ in range(count)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(12.0)

        everyone(note=False)  # opens all of them
        server.terminate_backends()
        began = monotonic()
        everyone(note=True)
        figures = {
            "errors": float(len(errors)),
            "replaced": max(replaced_at) - began if len(replaced_at) == count else 12.0,
        }
        threading.Thread(target=driver.close, daemon=True).start()
        return figures


KILLED = Scenario(
    "killed",
    "All idle connections are killed",
    [Metric("replaced", "ms", MILLI), Metric("errors")],
    [Case("50 connections, 50 threads", {"connections": 50})],
    [Case("5 connections, 5 threads", {"connections": 5})],
    tuple(PEERS),
    measure_killed,
    note="errors: seen by users. replaced: until every thread has had its answer from a connection of its own.",
    goals=(
        Goal("no user sees an error", level(lambda case: 0, "errors", "queuepool", pick=max)),
        Goal(
            "all replaced within a second",
            level(lambda case: 1.0, "replaced", "queuepool", pick=max, unit=" ms", scale=MILLI),
        ),
    ),
    rounds=3,
)

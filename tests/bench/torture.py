"""Exceptions that strike the users of a pool at random instants: how many of its slots can still be lent.

Each peer has an interpreter of its own, ``python -m tests.bench.torture PEER STRIKES``: an exception may strike where
that wedges the whole of it.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import random
import subprocess
import sys
import threading

from ..torture.striking import Victims
from . import legacy, peers
from .driver import Driver, Spec
from .goals import Goal, level
from .measure import Case, Figures, Metric, Missing, Scenario
from .outage import CONNECTIONS, capacity_after, join_all, use
from .startup import ROOT
from .stub import Opener

PEERS = ("queuepool", "queuepool-1.3.2", "psycopg2.pool", "sqlalchemy-fifo", "psycopg_pool", "dbutils")


def sweep(driver: Driver, over: threading.Event) -> None:
    """Sweep again and again, where that can be done, and twice more in the end."""
    if driver.sweep is not None:
        while not over.wait(0.002):
            driver.sweep()
        driver.sweep()
        driver.sweep()


def torture(peer: str, strikes: int) -> Figures:
    """Strike as many users as there are slots, while the pool is swept; then count the slots."""
    # Threads change over at any instruction, and it is then that one of them is struck: not where it waits anyway.
    sys.setswitchinterval(1e-6)
    threading.excepthook = lambda _: None
    driver = peers.make(peer, Spec(CONNECTIONS, Opener()))
    # Their locks are no part of a pool, and an exception may leave them locked.
    for name in list(logging.root.manager.loggerDict):
        logging.getLogger(name).disabled = True

    def act(_: random.Random) -> None:
        use(driver, id)

    # Else those that are struck are mostly those that wait for what the struck have lost.
    over = threading.Event()
    sweeper = threading.Thread(target=sweep, args=(driver, over), daemon=True)
    sweeper.start()
    victims = Victims(act)
    victims.start(CONNECTIONS)
    victims.strike(KeyboardInterrupt, strikes)
    stuck = victims.finish(5.0)
    over.set()
    join_all([sweeper], 5.0)
    gc.collect()
    return {"slots left": float(capacity_after(driver, id)), "stuck": float(stuck)}


def measure_torture(peer: str, case: Case) -> Figures:
    command = [sys.executable, "-W", "ignore", "-m", "tests.bench.torture", peer, str(case["strikes"])]
    fetched = {"QUEUEPOOL_BENCH_CACHE": str(legacy.folder().parent)} if peer == "queuepool-1.3.2" else {}
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=60 + case["strikes"] / 50,
            check=False,
            env={**os.environ, **fetched},
            cwd=ROOT,
        )
    except subprocess.TimeoutExpired:
        return {"slots left": 0.0, "stuck": float(CONNECTIONS)}
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise Missing(last.partition(": ")[2]) if Missing.__name__ in last else RuntimeError(last)
    figures: Figures = json.loads(done.stdout)
    return figures


TORTURE = Scenario(
    "torture",
    "Exceptions at random instants of take and put",
    [Metric("slots left", more_is_better=True), Metric("stuck")],
    [Case("2,000 strikes, 8 threads, 8 slots", {"strikes": 2_000})],
    [Case("100 strikes, 8 threads, 8 slots", {"strikes": 100})],
    PEERS,
    measure_torture,
    note="KeyboardInterrupt, by PyThreadState_SetAsyncExc, while a pool that has sweeps is swept. slots left: lent at the same "
    "time within 2 s, after a garbage collection. stuck: threads that did not end within 5 s.",
    goals=(
        Goal("every slot is left", level(lambda case: CONNECTIONS, "slots left", "queuepool", pick=min, upper=False)),
        Goal("nobody is stuck", level(lambda case: 0, "stuck", "queuepool", pick=max)),
    ),
    rounds=2,
)

if __name__ == "__main__":
    print(json.dumps(torture(sys.argv[1], int(sys.argv[2]))), flush=True)
    os._exit(0)  # threads that hang are in the way of any other exit

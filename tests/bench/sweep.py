"""Takes while a sweep closes slowly: does anyone wait for it?"""

from __future__ import annotations

import gc
import threading
import time
from datetime import timedelta
from time import perf_counter

from .driver import Spec
from .goals import Goal, level
from .measure import Case, Figures, Metric, Recorder, Scenario, waiting_figures
from .peers import make
from .stub import Opener
from .threads import MILLI, WAITS, in_threads


class Aged:
    """A pool of open, idle slots, some of which a sweep will find due."""

    def __init__(self, peer: str, slots: int, due: int, slow_close: float) -> None:
        self.opener = Opener(before_close=lambda: time.sleep(slow_close))
        self.late = 0.0
        options = {"clock": lambda: time.monotonic() + self.late, "max_open_time": None, "jitter": 0}
        self.driver = make(peer, Spec(slots, self.opener, options=options))
        taken = [self.driver.take() for _ in range(slots)]
        for one in taken[:due]:
            self.driver.put(one)
        self.late = 400.0
        for one in taken[due:]:
            self.driver.put(one)
        if peer == "queuepool-1.3.2":
            # Its clock is the wall's and cannot be set: date the slots back instead.
            for one in taken[:due]:
                one._lastUsed -= timedelta(seconds=400)


def measure_sweep(peer: str, case: Case) -> Figures:
    """Threads that take and put once every half millisecond, while one sweep closes what is due."""
    slots, due = case["slots"], case["due"]
    aged = Aged(peer, slots, due, case["close"])
    driver = aged.driver
    sweep = driver.sweep or (lambda: time.sleep(due * case["close"]))
    over = threading.Event()
    recorders = [Recorder(100_000) for _ in range(case["takers"])]

    def taker(recorder: Recorder) -> None:
        while not over.is_set():
            asked_at = perf_counter()
            taken = driver.take()
            recorder.add(perf_counter() - asked_at)
            driver.put(taken)
            time.sleep(0.0005)

    def work(number: int) -> None:
        if number < len(recorders):
            taker(recorders[number])
        else:
            try:
                sweep()
            finally:
                over.set()

    gc.collect()
    # The bench's own ten thousand stubs are not what a collection should look through.
    gc.freeze()
    try:
        begun_at = perf_counter()
        in_threads(len(recorders) + 1, work)
        lasted = perf_counter() - begun_at
    finally:
        gc.unfreeze()
    closed = aged.opener.opened - aged.opener.open_now
    aged.opener.before_close = lambda: None
    driver.close()
    return waiting_figures(recorders, lasted) | {"closed": float(closed), "sweep": lasted}


SWEEP = Scenario(
    "sweep",
    "Takes while a sweep closes slowly",
    [*WAITS, Metric("sweep", "s"), Metric("closed")],
    [Case("10,000 slots, 100 due, 50 ms close", {"slots": 10_000, "due": 100, "close": 0.05, "takers": 2})],
    [Case("1,000 slots, 10 due, 20 ms close", {"slots": 1_000, "due": 10, "close": 0.02, "takers": 2})],
    ("queuepool", "queuepool-1.3.2", "lifoqueue-pool"),
    measure_sweep,
    limit="lifoqueue-pool",
    note="lifoqueue-pool sweeps nothing: its waits are those of this machine. No other peer has a sweep to call.",
    goals=(
        Goal(
            "no take waits 2 ms",
            level(lambda _: 0.002, "max", "queuepool", pick=min, unit=" ms", scale=MILLI),
        ),
    ),
)

"""Threads that use a pool at random, each lease of which is written down, and what must hold of all of them."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections import defaultdict
from typing import Any, NamedTuple

from queuepool import Pool, PoolTimeout

from ..support import PATIENCE, Clock
from .records import Resource, Source


class Take(NamedTuple):
    """One take, at instants in seconds; `resource` is the number of what was lent, None if none was in time."""

    worker: int
    asked_at: float
    ended_at: float
    deadline: float
    resource: int | None
    put_at: float


class FastClock(Clock):
    """Passes 100 times as fast, so that limits are reached often."""

    def __call__(self) -> float:
        return time.monotonic() * 100.0


class RareFailures(Source):
    """Hooks that fail now and then, and opens that take a moment."""

    def _maybe_fail(self, hook: str) -> None:
        if hook == "open":
            time.sleep(0.0005)
        elif random.random() < 0.01:
            raise ValueError(f"{hook} fails")


class Pulse:
    """A thread that sleeps a millisecond again and again, and notes each time that the machine made it sleep longer."""

    def __init__(self) -> None:
        self.stalls: list[tuple[float, float]] = []
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join()

    def _beat(self) -> None:
        before = time.monotonic()
        while not self._ending.wait(0.001):
            now = time.monotonic()
            if now - before > 0.01:
                self.stalls.append((before, now))
            before = now

    def stalled(self, since: float, until: float) -> float:
        """For how many seconds between the two instants the machine let nobody run, as far as is known."""
        return sum(max(0.0, min(until, end) - max(since, begin)) for begin, end in self.stalls)


class Stress:
    """A pool under more threads than it has slots, beside sweeps, resizes, pauses and disposals."""

    WORKERS = 12
    CAPACITY = 4

    def __init__(self, seed: int, calm: bool = False) -> None:
        self.random = random.Random(seed)
        self.calm = calm
        clock = FastClock()
        self.source = RareFailures(clock)
        self.pool: Pool[Resource] = Pool(
            "stressed", self.CAPACITY, 2.0, 5.0, 50, jitter=0.2, check_after=1.0, clock=clock, **self.source.hooks()
        )
        self.takes: list[Take] = []
        self.errors: list[BaseException] = []
        self._stop_at = 0.0
        self.pulse = Pulse()

    def run(self, seconds: float) -> None:
        """Run for `seconds`, and see that everyone comes to an end."""
        self._stop_at = time.monotonic() + seconds
        bodies: list[Any] = [self._work] * self.WORKERS + ([] if self.calm else [self._meddle])
        seeds = [self.random.random() for _ in bodies]
        threads = [
            threading.Thread(target=self._guarded, args=(body, number, random.Random(seed)), daemon=True)
            for number, (body, seed) in enumerate(zip(bodies, seeds))
        ]
        with self.pulse:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(seconds + PATIENCE)
        assert not any(thread.is_alive() for thread in threads), f"somebody is stuck: {self.pool!r}"
        self.pool.resume()

    def _guarded(self, body: Any, *args: Any) -> None:
        try:
            while time.monotonic() < self._stop_at:
                body(*args)
        except BaseException as error:
            self.errors.append(error)

    def _work(self, number: int, rng: random.Random) -> None:
        patience = 5.0 if self.calm else rng.choice((0.0, 0.002, 0.02, 5.0))
        asked_at = time.monotonic()
        lent: int | None = None
        ended_at = put_at = 0.0
        try:
            with self.pool.get(patience) as resource:
                ended_at = time.monotonic()
                lent = resource.record.number
                assert not resource.record.closed
                time.sleep(0.0005 if self.calm else rng.choice((0.0, 0.0, 0.0003, 0.002)))
                assert not resource.record.closed
                put_at = time.monotonic()
                if rng.random() < 0.02:
                    raise ZeroDivisionError
        except PoolTimeout:
            ended_at = time.monotonic()
        except ZeroDivisionError:
            pass
        self.takes.append(Take(number, asked_at, ended_at, asked_at + patience, lent, put_at))

    def _meddle(self, _: int, rng: random.Random) -> None:
        pool = self.pool
        rng.choice((pool.recycle, pool.recycle, pool.recycle_all, self._resize, self._pause))()
        time.sleep(rng.choice((0.001, 0.01)))

    def _resize(self) -> None:
        self.pool.resize(self.random.choice((2, self.CAPACITY)))

    def _pause(self) -> None:
        self.pool.pause()
        time.sleep(0.002)
        self.pool.resume()

    # --- what must hold

    def overlaps(self) -> list[tuple[Take, Take]]:
        """Leases of one resource that overlap in time."""
        by_resource: dict[int, list[Take]] = defaultdict(list)
        for take in self.takes:
            if take.resource is not None:
                by_resource[take.resource].append(take)
        pairs = []
        for leases in by_resource.values():
            leases.sort(key=lambda take: take.ended_at)
            pairs += [(one, other) for one, other in zip(leases, leases[1:]) if other.ended_at < one.put_at]
        return pairs

    def late(self, by: float) -> list[Take]:
        """Takes that ended more than `by` seconds after their deadline, not counting those for which the machine stood."""
        return [
            take
            for take in self.takes
            if take.ended_at - take.deadline - self.pulse.stalled(take.deadline, take.ended_at) > by
        ]

    def overtaken(self, margin: float) -> int:
        """How many were served after one that had asked more than `margin` seconds later.

        The instants are the callers', whom the machine may halt between asking and joining the line: hence the margin.
        """
        served = sorted((take.ended_at, take.asked_at) for take in self.takes if take.resource is not None)
        newest_before = itertools.accumulate((asked for _, asked in served), max)
        return sum(newest - asked > margin for newest, (_, asked) in zip(newest_before, served))

    def fairness(self) -> float:
        """Jain's index over the workers' leases: 1.0 if all had as many, 1 / WORKERS if one had all."""
        counts = [
            sum(take.worker == number and take.resource is not None for take in self.takes)
            for number in range(self.WORKERS)
        ]
        return sum(counts) ** 2 / (len(counts) * sum(count**2 for count in counts))

"""Users of a pool in threads of their own, and exceptions thrown at them at random instants."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import random
import threading
import time
from collections.abc import Callable

from queuepool import Lifecycle, Pool

from ..support import PATIENCE, Resource

_throw = ctypes.pythonapi.PyThreadState_SetAsyncExc


class Victims:
    """Threads that do the same over and over, for exceptions to be thrown at."""

    def __init__(self, act: Callable[[random.Random], object]) -> None:
        self.stopping = False
        self._act = act
        self._threads: list[threading.Thread] = []

    def start(self, count: int) -> None:
        """Begin with `count` more threads."""
        for seed in range(count):
            thread = threading.Thread(target=self._live, args=(seed,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def strike(self, error: type[BaseException], times: int) -> None:
        """Throw `error` at random threads at random instants. One that it has killed is replaced."""
        rng = random.Random(times)
        while times:
            time.sleep(rng.choice((0.0, 0.0002, 0.0005, 0.001)))
            victim = rng.choice(self._threads)
            if victim.is_alive():  # else its identifier may be another thread's by now
                times -= _throw(ctypes.c_ulong(victim.ident or 0), ctypes.py_object(error))
            else:
                self._threads.remove(victim)
                self.start(1)

    def finish(self, patience: float = PATIENCE) -> int:
        """Have everyone finish; return how many are stuck."""
        self.stopping = True
        deadline = time.monotonic() + patience
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return sum(thread.is_alive() for thread in self._threads)

    def _live(self, seed: int) -> None:
        rng = random.Random(seed)
        while not self.stopping:
            # What strikes the handler ends the thread, so there is another around it.
            with contextlib.suppress(BaseException):
                self._go_on(rng)

    def _go_on(self, rng: random.Random) -> None:
        while not self.stopping:
            with contextlib.suppress(BaseException):
                self._act(rng)


class Users(Victims):
    """Victims that use a pool in every way there is. Each notes what must never happen, and how long it has waited."""

    def __init__(self, pool: Pool[Resource], patience: float | None = None) -> None:
        super().__init__(self._use)
        self.pool = pool
        self.patience = patience
        self.overlaps: list[Resource] = []
        self.longest_wait = 0.0
        self.uses = 0
        self._ways: list[Callable[[], None]] = [
            self._take_and_put,
            self._with_take,
            self._with_get,
            self._acquire_and_release,
            self._lease,
            self._drop,
        ]

    def stop(self) -> None:
        """Have everyone finish; fails if anyone is stuck."""
        assert not self.finish(), f"somebody is stranded: {self.pool!r}"

    def _use(self, rng: random.Random) -> None:
        began = time.monotonic()
        rng.choice(self._ways)()
        self.longest_wait = max(self.longest_wait, time.monotonic() - began)

    def _touch(self, resource: Resource) -> None:
        """Use `resource`, and note if somebody else does, or if it is closed."""
        # Tokens, not a flag: who is struck here leaves one behind that harms nobody.
        token = self.uses = self.uses + 1
        resource.history = [str(token)]
        for _ in range(3):
            time.sleep(0)
        if resource.closed or resource.history != [str(token)]:
            self.overlaps.append(resource)

    def _take_and_put(self) -> None:
        slot = self.pool.take(self.patience)
        try:
            self._touch(slot.resource)
        finally:
            self.pool.put(slot)

    def _with_take(self) -> None:
        with self.pool.take(self.patience) as slot:
            self._touch(slot.resource)

    def _with_get(self) -> None:
        with self.pool.get(self.patience) as resource:
            self._touch(resource)

    def _acquire_and_release(self) -> None:
        resource = self.pool.acquire(self.patience)
        try:
            self._touch(resource)
        finally:
            self.pool.release(resource)

    def _lease(self) -> None:
        with self.pool.lease(self.patience) as lease:
            self._touch(lease.unwrap())

    def _drop(self) -> None:
        self._touch(self.pool.lease(self.patience).unwrap())


class Source(Lifecycle[Resource]):
    """Opens resources, and refers to none: one that anybody but its slot refers to counts as in use.

    `kind` says how its opens go: "fine", "slow" or "failing", which is three times in ten. If they `may_hang`, its steps
    run in threads of their own.
    """

    def __init__(self, kind: str, may_hang: bool = False) -> None:
        self.kind = kind
        self.may_hang = may_hang
        self.closed_twice = 0
        self._numbers = itertools.count()
        self._rng = random.Random(kind)

    def open(self) -> Resource:
        if self.kind == "slow":
            time.sleep(0.001)
        if self.kind == "failing" and self._rng.random() < 0.3:
            raise OSError("no such host")
        return Resource(next(self._numbers))

    def close(self, resource: Resource) -> None:
        self.closed_twice += resource.closed
        resource.closed = True

    def check(self, resource: Resource) -> bool:
        return not resource.closed

    def reset(self, resource: Resource) -> None:
        resource.history.clear()

    def pool(self, capacity: int, timeout: float | None = None) -> Pool[Resource]:
        """A pool whose takes and puts go through every step."""
        return Pool("struck", capacity, max_usage_count=5, timeout=timeout, lifecycle=self)

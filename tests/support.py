"""What the tests of the core share: a clock that stands still, resources that remember, and waiting for a condition."""

from __future__ import annotations

import sysconfig
import time
from collections.abc import Callable
from typing import Any

#: How long a test waits for what should come at once, in seconds; only a failing test waits that long.
PATIENCE = 10.0

#: Whether this is a build that can do without the GIL, which counts references in another way too.
FREE_THREADED = sysconfig.get_config_var("Py_GIL_DISABLED") == 1


class Clock:
    """Seconds that pass only when a test says so."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


class Resource:
    """What a `Source` opens; knows its number, whether it is closed, and what was done to it."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.closed = False
        self.history: list[str] = []

    def __repr__(self) -> str:
        return f"Resource {self.number}"


class Source:
    """Opens resources, remembers them, and raises what it is told to: `failing` maps a hook's name to an error."""

    def __init__(self) -> None:
        self.made: list[Resource] = []
        self.attempts = 0
        self.failing: dict[str, BaseException] = {}
        self.dead: set[Resource] = set()

    @property
    def live(self) -> list[Resource]:
        return [resource for resource in self.made if not resource.closed]

    def _maybe_fail(self, hook: str) -> None:
        error = self.failing.get(hook)
        if error is not None:
            raise error

    def open(self) -> Resource:
        self.attempts += 1
        self._maybe_fail("open")
        resource = Resource(len(self.made) + 1)
        self.made.append(resource)
        return resource

    def close(self, resource: Resource) -> None:
        assert not resource.closed, f"{resource} was closed twice"
        resource.closed = True
        self._maybe_fail("close")

    def check(self, resource: Resource) -> bool:
        resource.history.append("check")
        self._maybe_fail("check")
        return resource not in self.dead

    def reset(self, resource: Resource) -> None:
        resource.history.append("reset")
        self._maybe_fail("reset")


def wait_until(condition: Callable[[], Any], seconds: float = PATIENCE) -> None:
    """Return as soon as `condition()` is true; fail the test if it does not become so."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "what the test waits for did not come"
        time.sleep(0.0005)


def assert_whole(pool: Any) -> None:
    """Every slot of `pool` is in the queue once, or leased once; nobody is left waiting or opening."""
    queue = pool._queue
    found = [*queue.queue, *queue._vacant, *pool._leases]
    assert sorted(map(id, found)) == sorted(map(id, pool._slots)), f"slots lost or doubled in {pool!r}: {found}"
    assert all(slot.is_open for slot in queue.queue)
    assert not any(slot.is_open for slot in queue._vacant)
    resources = [slot.resource for slot in found if slot.resource is not None]  # a manager may keep its own elsewhere
    assert set(map(id, resources)) == set(pool._by_resource)
    assert not queue.line
    assert not queue.standby
    assert not pool._gate.opening

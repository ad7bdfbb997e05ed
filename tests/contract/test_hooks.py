"""open, close, check and reset, each of which works, raises, is slow, or never ends: all 256 ways.

Whatever one user's hooks do, no slot is lost, and others are not held up.
"""

from __future__ import annotations

import time
from itertools import product
from typing import Any

import pytest

from queuepool import PoolTimeout, lending

from ..support import Source
from .apis import HOOKS, Api

OUTCOMES = ("ok", "error", "slow", "never")
DEADLINE = 0.02


class Trouble(Source):
    """A source whose hooks misbehave as planned, each once: the first time that it is called."""

    def __init__(self, api: Api, plan: dict[str, str]) -> None:
        super().__init__()
        self.api = api
        self.plan = plan
        self.stuck: list[tuple[str, Any]] = []

    async def _trouble(self, hook: str) -> None:
        outcome = self.plan.pop(hook, "ok")
        if outcome == "error":
            raise RuntimeError(hook)
        if outcome != "ok":
            over = self.api.event()
            self.stuck.append((outcome, over))
            await over.waited()

    async def opening(self) -> Any:
        await self._trouble("open")
        return self.open()

    async def closing(self, resource: Any) -> None:
        await self._trouble("close")
        self.close(resource)

    async def checking(self, resource: Any) -> bool:
        await self._trouble("check")
        return self.check(resource)

    async def resetting(self, resource: Any) -> None:
        await self._trouble("reset")
        self.reset(resource)

    def lifecycle(self) -> Any:
        """One with `may_hang`, so that a take leaves a hook at its deadline."""
        base: Any = self.api.kind._functions
        kind: Any = type("Hanging", (base,), {"may_hang": True})
        hooks: list[Any] = [self.opening, self.closing, self.checking, self.resetting]
        return kind(*[self.api.hook(hook) for hook in hooks])


async def others_go_on(pool: Any, trouble: Trouble) -> None:
    plan, trouble.plan = trouble.plan, {}
    began = time.monotonic()
    await pool.put(await pool.take(5.0))
    assert time.monotonic() - began < 1.0
    trouble.plan = plan


async def carried_out(pool: Any, trouble: Trouble, step: Any, *, has_deadline: bool) -> Any:
    """What one user's `step` gives, or None if it fails as it may; others are not held up meanwhile."""
    job = trouble.api.start(step)
    while True:
        await trouble.api.until(lambda: job.done or trouble.stuck)
        if not trouble.stuck:
            break
        outcome, over = trouble.stuck.pop()
        await others_go_on(pool, trouble)
        if outcome == "slow":
            over.set()
        elif not has_deadline:
            return None  # a put stays as long as its hooks
    try:
        return await job.result()
    except (RuntimeError, PoolTimeout):
        return None


@pytest.mark.parametrize("outcomes", list(product(OUTCOMES, repeat=4)), ids="-".join)
async def test_no_hook_can_lose_a_slot_or_hold_up_others(api: Api, outcomes: tuple[str, ...]) -> None:
    trouble = Trouble(api, dict(zip(HOOKS, outcomes)))
    pool = api.pool(capacity=6, lifecycle=trouble.lifecycle(), max_opening=6)
    for closes in (False, False, True, False):  # through each hook: open, reset at put, check at take, close at put
        slot = await carried_out(pool, trouble, pool.take(DEADLINE), has_deadline=True)
        if slot is None:
            continue
        if closes:
            slot.close()
        await carried_out(pool, trouble, pool.put(slot), has_deadline=False)
    trouble.plan.clear()
    for over in api.events:
        over.set()
    await api.until(lambda: pool.stats().taken == 0 and pool._queue.qsize() == 6)
    assert len({resource.number for resource in await pool.cycle_together(6)}) == 6


@pytest.mark.parametrize("hook", ["open", "check", "close"])
async def test_a_take_ends_by_its_deadline_though_a_hook_never_does(api: Api, hook: str) -> None:
    trouble = Trouble(api, {})
    pool = api.pool(capacity=1, lifecycle=trouble.lifecycle())
    resource = await pool.cycle()
    trouble.dead.add(resource)
    trouble.plan[hook] = "never"
    if hook == "open":
        await pool.recycle_all()
    began = time.monotonic()
    with pytest.raises(PoolTimeout):
        await pool.take(DEADLINE)
    assert time.monotonic() - began < 1.0, "0.1 s beyond the deadline is promised, but this machine may be busy"
    assert pool.stats().taken == 0
    ((_, over),) = trouble.stuck
    over.set()
    await pool.put(await pool.take(5.0))


async def test_a_hook_that_may_hang_is_waited_for_where_there_is_no_deadline(api: Api) -> None:
    trouble = Trouble(api, {"open": "slow"})
    pool = api.pool(capacity=1, lifecycle=trouble.lifecycle())
    job = api.start(pool.take())
    await api.until(lambda: trouble.stuck)
    trouble.stuck[0][1].set()
    await pool.put(await job.result())


async def test_what_a_hook_that_may_hang_raises_reaches_the_taker(api: Api) -> None:
    trouble = Trouble(api, {"open": "error"})
    pool = api.pool(capacity=1, lifecycle=trouble.lifecycle())
    with pytest.raises(RuntimeError, match="open"):
        await pool.take(5.0)
    assert (await pool.cycle()).number == 1


async def test_a_take_that_may_not_wait_still_has_a_moment_to_open_check_and_close(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a cold pool could never lend anything at once."""
    monkeypatch.setattr(lending, "GRACE", 5.0)  # more than a moment, for the machine may be busy
    trouble = Trouble(api, {"open": "slow"})
    pool = api.pool(capacity=1, lifecycle=trouble.lifecycle(), timeout=0)

    async def lent_after_a_slow_step() -> int:
        job = api.start(pool.cycle())
        await api.until(lambda: trouble.stuck)
        trouble.stuck.pop()[1].set()
        return (await job.result()).number  # type: ignore[no-any-return]

    assert await lent_after_a_slow_step() == 1
    trouble.plan["check"] = "slow"
    assert await lent_after_a_slow_step() == 1
    trouble.dead.add(trouble.made[0])
    trouble.plan["close"] = "slow"
    assert await lent_after_a_slow_step() == 2

"""A take and its deadline where a hook takes long: it opens even if it may not wait, and says what kept it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from queuepool import Exhausted, Unreachable, ending

from ..support import Clock, Source
from .apis import Api


def lifecycle(api: Api, *hooks: Callable[..., Any]) -> Any:
    """A lifecycle of async functions whose takers leave at their deadlines."""
    base: Any = api.kind._functions
    return type("Hanging", (base,), {"may_hang": True})(*map(api.hook, hooks))


async def test_a_take_that_may_not_wait_for_others_still_opens_a_free_slot(api: Api, source: Source) -> None:
    looks = iter(range(4))

    async def open_resource() -> Any:
        await api.until(lambda: next(looks) == 3)  # takes a moment, as connecting does
        return source.open()

    pool = api.pool(capacity=1, lifecycle=lifecycle(api, open_resource), timeout=0)
    slot = await pool.take()
    with pytest.raises(Exhausted):
        await pool.take()
    await pool.put(slot)


@pytest.mark.parametrize("timeout", [1e10, 1e300])
async def test_a_timeout_longer_than_a_thread_can_wait_is_one_like_any_other(
    api: Api, source: Source, timeout: float
) -> None:
    async def open_resource() -> Any:
        return source.open()

    pool = api.pool(capacity=1, lifecycle=lifecycle(api, open_resource), timeout=timeout)
    async with pool.taken():
        job = api.start(pool.cycle())
        await api.until(lambda: pool.stats().waiting == 1)
    assert await job.result() is source.made[0]
    assert await pool.close(timeout) == []


async def test_an_open_that_hangs_is_not_told_as_too_many_holders(api: Api, source: Source) -> None:
    thawed = api.event()

    async def open_resource() -> Any:
        await thawed.waited()
        return source.open()

    pool = api.pool("frozen", capacity=2, lifecycle=lifecycle(api, open_resource), max_opening=1)
    with pytest.raises(Unreachable, match="open of frozen-2 did not end"):
        await pool.take(0.01)
    pool._gate.open_time = 10.0  # so that the next waits for the first to open
    with pytest.raises(Unreachable, match="frozen-1 waited to open"):
        await pool.take(0.01)
    patient = api.start(pool.take(5.0))
    await api.until(lambda: pool._standby)
    with pytest.raises(Unreachable, match=re.escape("(0 taken, 0 idle, 1 waiting); opening: 1")):
        await pool.take(0.01)
    thawed.set()
    await pool.put(await patient.result())


async def test_a_check_that_hangs_is_named_when_the_deadline_comes(api: Api, source: Source) -> None:
    thawed = api.event()

    async def open_resource() -> Any:
        return source.open()

    async def close(resource: Any) -> None:
        source.close(resource)

    async def check(resource: Any) -> bool:
        await thawed.waited()
        return True

    pool = api.pool("frozen", capacity=1, lifecycle=lifecycle(api, open_resource, close, check))
    await pool.cycle()
    with pytest.raises(Unreachable, match="check of frozen-1 did not end"):
        await pool.take(0.01)
    thawed.set()
    await api.until(lambda: pool.stats().idle == 1)


async def test_a_close_that_hangs_keeps_nobody_from_ending_the_pool(
    api: Api, source: Source, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ending, "CLOSE_GRACE", 0.05)
    thawed = api.event()

    async def open_resource() -> Any:
        return source.open()

    async def close(resource: Any) -> None:
        if resource is source.made[1]:
            await thawed.waited()
        source.close(resource)

    pool = api.pool("frozen", capacity=3, lifecycle=lifecycle(api, open_resource, close))
    slots = [await pool.take() for _ in range(3)]
    for slot in slots:
        await pool.put(slot)
    assert await pool.close(0.01) == []
    assert source.live == [source.made[1]], "and the others closed"
    assert "frozen: 1 slots are still being closed, reset or opened" in caplog.text
    thawed.set()
    await api.until(lambda: not source.live)
    await api.until(lambda: not pool.stats().slots)


@pytest.mark.parametrize("seconds", [0.0, 30.0, None])
async def test_a_close_that_takes_its_time_is_waited_for(api: Api, source: Source, seconds: float | None) -> None:
    looks = iter(range(20))

    async def open_resource() -> Any:
        return source.open()

    async def close(resource: Any) -> None:
        await api.until(lambda: next(looks) % 5 == 4)
        source.close(resource)

    pool = api.pool(capacity=2, lifecycle=lifecycle(api, open_resource, close))
    slots = [await pool.take() for _ in range(2)]
    for slot in slots:
        await pool.put(slot)
    assert await pool.close(seconds) == []
    assert source.live == []
    assert pool.stats().slots == 0


@pytest.mark.parametrize("error", [None, ConnectionResetError("gone")])
async def test_a_check_that_finds_its_resource_dead_when_the_taker_has_gone_is_heeded(
    api: Api, source: Source, clock: Clock, error: Exception | None
) -> None:
    thawed = api.event()

    async def open_resource() -> Any:
        return source.open()

    async def close(resource: Any) -> None:
        source.close(resource)

    async def check(resource: Any) -> bool:
        await thawed.waited()
        return source.check(resource)

    hooks = lifecycle(api, open_resource, close, check)
    pool = api.pool(capacity=2, lifecycle=hooks, check_after=60.0, clock=clock)
    first, second = await pool.cycle_together(2)
    clock.advance(50.0)
    assert await pool.cycle() is second
    source.dead.update([first, second])
    if error is not None:
        source.failing["check"] = error
    clock.advance(70.0)
    with pytest.raises(Unreachable, match="check of pool-1 did not end"):
        await pool.take(0.01)
    thawed.set()
    await api.until(lambda: second.closed)
    clock.advance(-50.0)
    source.failing.clear()
    assert await pool.cycle() not in (first, second), "and the other is under suspicion since"
    assert pool.stats().closes == {"check": 2}


async def test_a_reset_that_hangs_is_told_where_no_holder_is(api: Api, source: Source) -> None:
    thawed = api.event()

    async def open_resource() -> Any:
        return source.open()

    async def close(resource: Any) -> None:
        source.close(resource)

    async def reset(resource: Any) -> None:
        await thawed.waited()

    hooks = {"open": open_resource, "close": close, "reset": reset}
    pool = api.pool("frozen", capacity=2, **hooks)
    slots = [await pool.take() for _ in range(2)]
    putting = [api.start(pool.put(slot)) for slot in slots]
    await api.until(lambda: not pool.stats().taken)
    with pytest.raises(Exhausted, match=re.escape("(0 taken, 0 idle, 0 waiting); 2 being checked, reset or closed")):
        await pool.take(0.01)
    thawed.set()
    for each in putting:
        await each.result()

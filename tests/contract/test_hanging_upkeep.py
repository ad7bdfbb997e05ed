"""Sweeps, and the end of the pool, where a hook takes long: neither waits for ever, and nothing stays open."""

from __future__ import annotations

from typing import Any

import pytest

from queuepool import ending, upkeep

from ..support import Clock, Source
from .apis import Api, settled
from .test_hanging import lifecycle


@pytest.fixture(autouse=True)
def impatient_close(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ending, "CLOSE_GRACE", 0.01)


@pytest.fixture
def impatient_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "PATIENCE", 0.01)


@pytest.mark.usefixtures("impatient_sweep")
@pytest.mark.parametrize("hook", ["check", "close"])
async def test_a_hook_that_hangs_keeps_no_sweep_from_the_other_slots_and_the_recycler_from_no_end(
    api: Api, source: Source, clock: Clock, hook: str
) -> None:
    thawed = api.event()
    hung: list[Any] = []

    async def open_resource() -> Any:
        return source.open()

    async def hang_once(resource: Any) -> None:
        if not hung:
            hung.append(resource)
            await thawed.waited()

    async def close(resource: Any) -> None:
        if hook == "close":
            await hang_once(resource)
        source.close(resource)

    async def check(resource: Any) -> None:
        if hook == "check":
            await hang_once(resource)

    hooks = lifecycle(api, open_resource, close, check)
    pool = api.pool(capacity=3, lifecycle=hooks, check_after=60.0, max_idle_time=100.0, clock=clock)
    await pool.cycle_together(3)
    clock.advance(61.0)
    assert await pool.recycle() == 0
    clock.advance(61.0)
    pool.start_recycler(0.001)
    await api.until(lambda: len(source.live) == 1)
    await settled(pool.stop_recycler())
    assert source.live == hung
    thawed.set()
    await api.until(lambda: pool._queue.qsize() == 3)


@pytest.mark.usefixtures("impatient_sweep")
async def test_an_open_that_hangs_is_not_joined_by_another_at_each_sweep(api: Api, source: Source) -> None:
    thawed = api.event()
    begun: list[None] = []

    async def open_resource() -> Any:
        begun.append(None)
        await thawed.waited()
        return source.open()

    async def close(resource: Any) -> None:
        source.close(resource)

    pool = api.pool(capacity=5, lifecycle=lifecycle(api, open_resource, close), min_idle=2)
    for _ in range(5):
        await pool.recycle()
    assert len(begun) == 2
    thawed.set()
    await api.until(lambda: pool.stats().idle == 2)


@pytest.mark.parametrize("may_hang", [False, True])
@pytest.mark.parametrize("opener", ["prefill", "recycle", "take"])
async def test_what_opens_as_the_pool_has_closed_is_closed(
    api: Api, source: Source, opener: str, may_hang: bool
) -> None:
    thawed = api.event()

    async def open_resource() -> Any:
        await thawed.waited()
        return source.open()

    async def close(resource: Any) -> None:
        source.close(resource)

    hooks = lifecycle(api, open_resource, close)
    hooks.may_hang = may_hang
    pool = api.pool(capacity=3, lifecycle=hooks, min_idle=3)
    job = api.start(getattr(pool, opener)())
    await api.until(lambda: pool.stats().opening)
    assert await pool.close(0.0) == []
    thawed.set()
    await job.ended()
    await api.until(lambda: not pool.stats().slots)
    assert source.made
    assert source.live == []


async def test_what_a_sweep_has_found_alive_as_the_pool_has_closed_is_closed(
    api: Api, source: Source, clock: Clock
) -> None:
    checking, thawed = api.event(), api.event()

    async def check(resource: Any) -> None:
        checking.set()
        await thawed.waited()

    pool = api.pool(capacity=1, open=source.open, close=source.close, check=check, check_after=60.0, clock=clock)
    await pool.cycle()
    clock.advance(61.0)
    sweep = api.start(pool.recycle())
    await checking.waited()
    assert await pool.close(0.0) == []
    thawed.set()
    assert await sweep.result() == 1
    assert source.live == []

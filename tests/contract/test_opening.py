"""Opening: what goes wrong with one resource, and spikes."""

from __future__ import annotations

import pytest

from queuepool import BadResource, Exhausted

from ..support import Source
from .apis import Api


async def test_a_failed_open_raises_its_own_error_and_keeps_the_slot(api: Api, source: Source) -> None:
    """In queuepool 1.3.2 two such errors emptied a pool of two for ever; escudeiro loses the slot too."""
    pool = api.pool(capacity=2, open=source.open)
    source.failing["open"] = RuntimeError("no such role")
    for _ in range(5):
        with pytest.raises(RuntimeError, match="no such role"):
            await pool.take()
    assert (pool.stats().open_errors, pool.stats().slots, pool.stats().last_open_error) == (
        5,
        2,
        "RuntimeError: no such role",
    )
    source.failing.clear()
    assert len(await pool.cycle_together(2)) == 2


@pytest.mark.parametrize("error", [MemoryError(), RecursionError(), KeyboardInterrupt(), SystemExit(), GeneratorExit()])
@pytest.mark.parametrize("hook", ["open", "close", "check", "reset"])
async def test_whatever_a_hook_raises_no_slot_is_lost(
    api: Api, source: Source, hook: str, error: BaseException
) -> None:
    if api.kind.__name__ == "AsyncPool" and not isinstance(error, Exception):
        return  # asyncio itself ends its loop on these
    pool = api.pool(capacity=1, open=source.open, close=source.close, check=source.check, reset=source.reset, timeout=0)
    await pool.cycle()
    source.failing[hook] = error
    try:
        async with pool.taken() as slot:
            if hook in ("open", "close"):
                slot.close()
        await pool.cycle()
    except type(error):
        pass
    source.failing.clear()
    await pool.cycle()
    assert pool.stats().slots == 1
    assert len(source.live) == 1


async def test_an_open_that_returns_none_is_told_apart_from_a_resource(api: Api) -> None:
    pool = api.pool("orders", capacity=1, open=lambda: None)
    for _ in range(2):
        with pytest.raises(BadResource, match="open returned None for slot orders-1; it must return the resource"):
            await pool.take()


async def test_an_open_that_returns_one_resource_twice_never_lends_it_to_two(api: Api) -> None:
    only = [1]
    pool = api.pool("orders", capacity=2, open=lambda: only)
    async with pool.got() as resource:
        assert resource is only
        with pytest.raises(BadResource, match=r"open returned for slot orders-\d what orders-\d holds already"):
            await pool.take()
    async with pool.got() as resource:
        assert resource is only


async def test_one_slot_that_does_not_open_is_tried_last(api: Api, source: Source) -> None:
    """A failed slot sinks below the other empty ones, so that it does not take every second attempt."""
    pool = api.pool(capacity=3, open=source.open)
    source.failing["open"] = RuntimeError()
    with pytest.raises(RuntimeError):
        await pool.take()
    assert [slot.name for slot in pool._queue._vacant] == ["pool-3", "pool-1", "pool-2"]


async def test_a_slow_open_holds_up_neither_returns_nor_other_takes(api: Api, source: Source) -> None:
    """DBUtils, psycopg2.pool and CuttlePool open under their lock."""
    go = api.event()
    slow: list[bool] = []

    async def open_resource() -> object:
        if slow:
            await go.waited()
        return source.open()

    pool = api.pool(capacity=3, open=open_resource)
    warm = await pool.take()
    slow.append(True)
    job = api.start(pool.take())
    await api.until(lambda: pool.stats().opening == 1)
    await pool.put(warm)
    for _ in range(100):
        assert await pool.cycle() is source.made[0]
    assert pool.stats().opening == 1
    assert not job.done
    go.set()
    await pool.put(await job.result())


async def test_many_slow_opens_run_side_by_side(api: Api, source: Source) -> None:
    """In psycopg_pool ten getters with a 0.3 s connect are served one by one in 3 s."""
    started: list[int] = []
    go = api.event()

    async def open_resource() -> object:
        started.append(1)
        await go.waited()
        return source.open()

    pool = api.pool(capacity=10, open=open_resource, max_opening=10)
    jobs = [api.start(pool.take()) for _ in range(10)]
    await api.until(lambda: len(started) == 10)
    go.set()
    for job in jobs:
        await pool.put(await job.result())


async def test_in_a_spike_of_short_calls_a_taker_gets_what_was_returned_instead_of_opening_more(
    api: Api, source: Source
) -> None:
    """HikariCP's spike: pools that open for every waiter end with as many connections as there were callers."""
    pool = api.pool(capacity=10, open=source.open, max_opening=1)
    pool._gate.open_time = 60.0  # opening is known to be slow, so a return is worth waiting for
    go = api.event()
    blocked: list[int] = []

    async def open_resource() -> object:
        if source.made:
            blocked.append(1)
            await go.waited()
        return source.open()

    pool._lifecycle.open = api.hook(open_resource)
    warm = await pool.take()
    opening = api.start(pool.take())
    await api.until(lambda: blocked)
    waiting = api.start(pool.take())
    await api.until(lambda: pool.stats().waiting == 1)
    await pool.put(warm)
    assert await waiting.result() is warm
    go.set()
    slot = await opening.result()
    await pool.put(slot)
    await pool.put(warm)
    assert len(source.made) == 2


async def test_a_taker_beyond_max_opening_opens_after_all_when_nothing_comes_back(api: Api, source: Source) -> None:
    go = api.event()
    blocked: list[int] = []

    async def open_resource() -> object:
        blocked.append(1)
        await go.waited()
        return source.open()

    pool = api.pool(capacity=2, open=open_resource, max_opening=1)
    first = api.start(pool.take())
    await api.until(lambda: len(blocked) == 1)
    second = api.start(pool.take())
    await api.until(lambda: pool.stats().waiting == 1)  # nothing is known of how long opening takes, so it asks again
    pool._gate.open_time = 0.0001
    await api.until(lambda: len(blocked) == 2)
    go.set()
    for job in (first, second):
        await pool.put(await job.result())


async def test_the_last_failure_is_named_when_a_take_finds_every_slot_taken(api: Api, source: Source) -> None:
    pool = api.pool("orders", capacity=1, open=source.open)
    source.failing["open"] = RuntimeError("wrong password")
    with pytest.raises(RuntimeError):
        await pool.take()
    source.failing.clear()
    async with pool.taken():
        with pytest.raises(Exhausted, match="last failed open: RuntimeError: wrong password"):
            await pool.take(0)

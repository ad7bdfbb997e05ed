"""Opening: failures, spikes and outages."""

from __future__ import annotations

import logging
import time

import pytest

from queuepool import BadResource, Exhausted, PoolClosed, Unreachable
from queuepool.outage import Gate

from ..support import Clock, Source
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


async def test_a_transient_failure_is_retried_until_the_deadline_and_then_named(
    api: Api, source: Source, caplog: pytest.LogCaptureFixture
) -> None:
    pool = api.pool("orders", capacity=2, open=source.open)
    source.failing["open"] = ConnectionRefusedError("port 5432: refused")
    with caplog.at_level(logging.WARNING, "queuepool"), pytest.raises(Unreachable) as caught:
        await pool.take(0.02)
    assert "orders: no slot within 0." in str(caught.value)
    assert str(caught.value).endswith(": ConnectionRefusedError: port 5432: refused")
    assert isinstance(caught.value.__cause__, ConnectionRefusedError)
    assert pool.stats().unreachable
    assert not isinstance(caught.value, Exhausted), "unreachable and exhausted are told apart"
    assert "open of orders-2 failed: ConnectionRefusedError" in caplog.text


async def test_without_a_deadline_a_transient_failure_is_raised_as_it_is(api: Api, source: Source) -> None:
    pool = api.pool(capacity=2, open=source.open)
    error = ConnectionRefusedError("refused")
    source.failing["open"] = error
    with pytest.raises(ConnectionRefusedError):
        await pool.take()
    assert pool.stats().unreachable


async def test_in_an_outage_one_probes_and_the_first_success_ends_it_for_all(
    api: Api, source: Source, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """psycopg_pool needs 8.7 s more after an outage of 20 s; SQLAlchemy makes 761 attempts a second."""
    monkeypatch.setattr(Gate, "FIRST_BACKOFF", 0.005)
    monkeypatch.setattr(Gate, "LONGEST_BACKOFF", 0.01)
    at_once: list[int] = []
    most: list[int] = []

    async def open_resource() -> object:
        at_once.append(1)
        most.append(len(at_once))
        try:
            return source.open()
        finally:
            at_once.pop()

    pool = api.pool("orders", capacity=8, open=open_resource, max_opening=8, timeout=10.0)
    source.failing["open"] = ConnectionRefusedError("refused")
    jobs = [api.start(pool.take()) for _ in range(8)]
    await api.until(lambda: source.attempts >= 20)
    most.clear()
    await api.until(lambda: len(most) >= 5)
    assert set(most) == {1}, "one prober at a time"
    assert not any(job.done for job in jobs)
    with caplog.at_level(logging.WARNING, "queuepool"):
        source.failing.clear()
        slots = [await job.result() for job in jobs]
    assert len({slot.resource for slot in slots}) == 8
    assert not pool.stats().unreachable
    assert "orders: resources open again" in caplog.text
    for slot in slots:
        await pool.put(slot)


async def test_after_the_first_success_full_capacity_is_there_at_once(api: Api, source: Source) -> None:
    pool = api.pool(capacity=8, open=source.open)
    source.failing["open"] = ConnectionRefusedError("refused")
    with pytest.raises(ConnectionRefusedError):
        await pool.take()
    source.failing.clear()
    assert len({resource.number for resource in await pool.cycle_together(8)}) == 8


async def test_with_fail_fast_nobody_waits_in_an_outage(api: Api, source: Source) -> None:
    pool = api.pool("orders", capacity=2, open=source.open, fail_fast=True, timeout=60.0)
    source.failing["open"] = ConnectionRefusedError("refused")
    with pytest.raises(ConnectionRefusedError):
        await pool.take()
    pool._gate._next_probe_at = time.monotonic() + 60.0
    with pytest.raises(Unreachable, match=r"unreachable, .*: ConnectionRefusedError: refused"):
        await pool.take()
    assert source.attempts == 1


async def test_in_an_outage_open_resources_are_lent_as_ever(api: Api, source: Source) -> None:
    pool = api.pool(capacity=2, open=source.open)
    warm = await pool.take()
    source.failing["open"] = ConnectionRefusedError("refused")
    with pytest.raises(ConnectionRefusedError):
        await pool.take()
    await pool.put(warm)
    assert [await pool.cycle() for _ in range(3)] == [warm.resource] * 3


async def test_in_an_outage_a_waiter_without_a_deadline_hears_of_the_next_failure(api: Api, source: Source) -> None:
    """It must neither wait for ever nor join the probers."""
    pool = api.pool("orders", capacity=2, open=source.open)
    source.failing["open"] = ConnectionRefusedError("refused")
    with pytest.raises(ConnectionRefusedError):
        await pool.take()
    jobs = [api.start(pool.take()) for _ in range(2)]
    errors = []
    for job in jobs:
        with pytest.raises((ConnectionRefusedError, Unreachable)) as caught:
            await job.result()
        errors.append(type(caught.value))
    assert ConnectionRefusedError in errors


async def test_a_taker_that_waits_to_open_is_told_when_the_pool_closes(api: Api, source: Source) -> None:
    pool = api.pool("orders", capacity=2, open=source.open, timeout=60.0)
    source.failing["open"] = ConnectionRefusedError("refused")
    job = api.start(pool.take())
    await api.until(lambda: pool.stats().waiting == 1)
    await pool.close(0)
    with pytest.raises(PoolClosed):
        await job.result()


async def test_a_taker_that_waits_to_open_and_is_not_told_notices_itself_that_the_pool_closes(
    api: Api, source: Source
) -> None:
    pool = api.pool("orders", capacity=2, open=source.open, timeout=60.0)
    source.failing["open"] = ConnectionRefusedError("refused")
    job = api.start(pool.take())
    await api.until(lambda: pool.stats().waiting == 1)
    pool.pool._closed = True  # the first that close() does; then it tells those who wait
    with pytest.raises(PoolClosed, match="orders: the pool is closed"):
        await job.result()


async def test_the_last_failure_is_named_when_a_take_finds_every_slot_taken(api: Api, source: Source) -> None:
    pool = api.pool("orders", capacity=1, open=source.open)
    source.failing["open"] = RuntimeError("wrong password")
    with pytest.raises(RuntimeError):
        await pool.take()
    source.failing.clear()
    async with pool.taken():
        with pytest.raises(Exhausted, match="last failed open: RuntimeError: wrong password"):
            await pool.take(0)


async def test_a_check_at_every_take_replaces_what_is_dead(api: Api, source: Source) -> None:
    pool = api.pool(capacity=1, open=source.open, close=source.close, check=source.check)
    await pool.cycle()
    await pool.cycle()
    assert source.made[0].history == ["check"], "what has just opened needs none"
    source.dead.add(source.made[0])
    assert (await pool.cycle()).number == 2
    assert pool.stats().closes == {"check": 1}


@pytest.mark.parametrize("nested", ["new", "same"])
async def test_what_was_used_a_moment_ago_is_not_checked_again(api: Api, source: Source, nested: str) -> None:
    pool = api.pool(capacity=1, open=source.open, check=source.check, check_after=60.0, nested=nested)
    assert [(await pool.cycle()).number for _ in range(3)] == [1, 1, 1]
    assert source.made[0].history == []


async def test_a_check_that_raises_means_dead_and_is_logged(
    api: Api, source: Source, caplog: pytest.LogCaptureFixture
) -> None:
    pool = api.pool("orders", capacity=1, open=source.open, close=source.close, check=source.check)
    await pool.cycle()
    source.failing["check"] = ConnectionResetError("gone")
    with caplog.at_level(logging.WARNING, "queuepool"):
        assert (await pool.cycle()).number == 2
    assert "check of orders-1 failed: ConnectionResetError: gone" in caplog.text


@pytest.mark.parametrize(
    ("answer", "alive"), [(None, True), (True, True), (1, True), ("yes", True), (False, False), (0, False), ("", False)]
)
async def test_whatever_a_check_returns_none_and_truth_mean_alive(
    api: Api, source: Source, answer: object, alive: bool
) -> None:
    pool = api.pool(capacity=1, open=source.open, check=lambda resource: answer)
    assert [(await pool.cycle()).number for _ in range(3)] == ([1, 1, 1] if alive else [1, 2, 3])


async def test_six_dead_resources_cost_a_take_six_opens_at_most_and_no_sleep(api: Api, source: Source) -> None:
    """In psycopg_pool the first getconn then takes 0.9, 3.2, 6.9, 15.3 s for two to five of them, and times out at six."""
    pool = api.pool(capacity=6, open=source.open, close=source.close, check=source.check, timeout=10.0)
    source.dead.update(await pool.cycle_together(6))
    began = time.monotonic()
    assert (await pool.cycle()) not in source.dead
    assert not set(await pool.cycle_together(6)) & source.dead
    assert time.monotonic() - began < 5.0
    assert source.attempts == 12


async def test_one_dead_resource_makes_all_idle_ones_suspect(api: Api, source: Source, clock: Clock) -> None:
    """With check= and six dead connections psycopg_pool's first getconn times out."""
    pool = api.pool(capacity=6, open=source.open, close=source.close, check=source.check, check_after=60.0, clock=clock)
    resources = await pool.cycle_together(6)
    source.dead.update(resources)
    clock.advance(50.0)
    await pool.cycle_together(5)
    clock.advance(15.0)
    assert await pool.recycle() == 6, "one has been idle for long, and the others fall under suspicion"
    fresh = await pool.cycle_together(6)
    assert not set(fresh) & source.dead
    assert pool.stats().closes == {"check": 6}


async def test_a_suspect_that_proves_alive_is_lent_without_further_checks(
    api: Api, source: Source, clock: Clock
) -> None:
    pool = api.pool(capacity=3, open=source.open, close=source.close, check=source.check, check_after=60.0, clock=clock)
    await pool.cycle_together(3)
    oldest = pool._queue.snapshot()[0].resource
    clock.advance(50.0)
    others = await pool.cycle_together(2)
    assert oldest not in others
    clock.advance(15.0)
    source.dead.add(oldest)
    assert await pool.recycle() == 1
    assert await pool.cycle_together(2) == others[::-1]
    assert [resource.history for resource in others] == [["check"], ["check"]]

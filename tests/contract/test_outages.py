"""Outages: nothing opens for a while."""

from __future__ import annotations

import logging
import time

import pytest

from queuepool import Exhausted, PoolClosed, Unreachable
from queuepool.outage import Gate

from ..support import Source
from .apis import Api


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

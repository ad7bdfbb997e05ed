"""What a second take by the same thread or task gets: `nested`."""

from __future__ import annotations

import gc

import pytest

from queuepool import Exhausted, NestedTake, WrongSlot

from ..support import Source
from .apis import Api, settled


async def test_by_default_a_second_take_gets_another_slot(api: Api, source: Source) -> None:
    pool = api.pool(capacity=2, open=source.open)
    async with pool.taken() as outer, pool.taken() as inner:
        assert inner is not outer


async def test_with_same_a_second_take_gets_the_same_slot_and_cannot_deadlock(api: Api, source: Source) -> None:
    pool = api.pool(capacity=1, open=source.open, reset=source.reset, nested="same")
    async with pool.got() as outer:
        async with pool.got(0) as inner:
            assert inner is outer
            async with pool.got(0) as innermost:
                assert innermost is outer
        assert pool.stats().taken == 1
        assert source.made[0].history == [], "the lease goes on"
    assert pool.stats().taken == 0
    assert source.made[0].history == ["reset"]
    with pytest.raises(WrongSlot):
        await pool.release(outer)


async def test_with_same_another_thread_or_task_gets_another_slot(api: Api, source: Source) -> None:
    pool = api.pool(capacity=2, open=source.open, nested="same")
    async with pool.got() as mine:
        assert await api.start(pool.cycle()).result() is not mine


async def test_with_same_an_exception_closes_the_resource_only_when_the_last_lets_go(api: Api, source: Source) -> None:
    pool = api.pool(capacity=1, open=source.open, close=source.close, nested="same")
    async with pool.got() as resource:
        with pytest.raises(KeyError):
            async with pool.got():
                raise KeyError
        assert not resource.closed
    with pytest.raises(KeyError):
        async with pool.got(), pool.got():
            raise KeyError
    assert resource.closed


async def test_with_same_an_inner_lease_that_is_dropped_leaves_the_outer_its_resource(api: Api, source: Source) -> None:
    pool = api.pool(capacity=1, open=source.open, nested="same")
    outer = await pool.lease()
    inner = await pool.lease()
    assert inner.unwrap() is outer.unwrap()
    del inner
    assert pool.stats().taken == 1
    outer.number  # noqa: B018  # it is no empty shell
    await settled(outer.close())
    assert pool.stats().taken == 0


async def test_with_same_a_slot_that_another_puts_back_is_forgotten_by_its_taker(api: Api, source: Source) -> None:
    pool = api.pool(capacity=1, open=source.open, nested="same")
    slot = await pool.take()
    await api.start(pool.put(slot)).result()
    assert pool.stats().taken == 0
    again = await pool.take(0)
    await pool.put(again)
    assert pool.stats().taken == 0


async def test_with_same_a_dropped_slot_is_forgotten_by_its_taker(api: Api, source: Source) -> None:
    pool = api.pool(capacity=1, open=source.open, nested="same")
    await pool.take()
    source.made.clear()
    gc.collect()
    await pool.recycle()
    assert pool.stats().taken == 0
    assert await pool.cycle() is not None
    assert pool.stats().taken == 0


async def test_with_error_a_second_take_says_where_the_first_was(api: Api, source: Source) -> None:
    pool = api.pool("orders", capacity=2, open=source.open, nested="error")
    async with pool.taken():
        with pytest.raises(NestedTake, match=r"orders: the caller holds slot orders-\d already: .*\.py:\d+"):
            await pool.take()
        assert await api.start(pool.cycle()).result() is source.made[1]
    assert await pool.cycle() in source.made


async def test_when_the_holders_are_the_waiters_the_error_says_so(api: Api, source: Source) -> None:
    pool = api.pool("orders", capacity=1, open=source.open)
    async with pool.taken():
        with pytest.raises(Exhausted, match=r'every holder waits for a second slot itself \(see nested="same"\)'):
            await pool.take(0)


async def test_when_somebody_else_holds_the_slots_the_error_does_not_blame_nesting(api: Api, source: Source) -> None:
    pool = api.pool("orders", capacity=1, open=source.open)
    go = api.event()

    async def holder() -> None:
        async with pool.taken():
            await go.waited()

    job = api.start(holder())
    await api.until(lambda: pool.stats().taken == 1)
    with pytest.raises(Exhausted) as caught:
        await pool.take(0)
    assert "nested" not in str(caught.value)
    go.set()
    await job.result()

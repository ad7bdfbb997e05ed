"""take: which slot, when, and for how long it waits."""

from __future__ import annotations

from typing import Any

import pytest

from queuepool import Exhausted, FifoSlotQueue, LifoSlotQueue, PoolClosed, PoolTimeout

from ..support import Source
from .apis import Api


async def test_nothing_opens_before_it_is_taken(api: Api, source: Source) -> None:
    pool = api.pool(capacity=3, open=source.open)
    assert source.made == []
    slot = await pool.take()
    assert slot.resource is source.made[0]
    assert len(source.made) == 1
    await pool.put(slot)


async def test_the_newest_is_taken_first_so_that_few_stay_open(api: Api, source: Source) -> None:
    pool = api.pool(capacity=3, open=source.open)
    first, second = await pool.take(), await pool.take()
    await pool.put(first)
    await pool.put(second)
    assert await pool.cycle() is source.made[1]
    assert [await pool.cycle() for _ in range(10)] == [source.made[1]] * 10


async def test_with_the_fifo_queue_all_are_used_in_turn(api: Api, source: Source) -> None:
    pool = api.pool(capacity=3, open=source.open, queue_class=FifoSlotQueue)
    await pool.cycle_together(3)
    assert [(await pool.cycle()).number for _ in range(6)] == [1, 2, 3, 1, 2, 3]


async def test_a_queue_class_of_ones_own_says_which_slot_is_lent(api: Api, source: Source) -> None:
    class Underneath(LifoSlotQueue):
        def pop_open(self) -> Any:
            try:
                return self.queue.pop(0)
            except IndexError:
                return None

    pool = api.pool(capacity=3, open=source.open, queue_class=Underneath)
    slots = [await pool.take() for _ in range(3)]
    for slot in slots:
        await pool.put(slot)
    assert [await pool.take() for _ in range(3)] == slots
    for slot in slots:
        await pool.put(slot)


async def test_a_closed_slot_never_hides_a_warm_one(api: Api, source: Source) -> None:
    pool = api.pool(capacity=3, open=source.open, close=source.close)
    warm, closed = await pool.take(), await pool.take()
    await pool.put(warm)
    closed.close()
    await pool.put(closed)
    assert await pool.cycle() is source.made[0]
    assert len(source.made) == 2


async def test_a_take_that_may_not_wait_raises_at_once(api: Api, source: Source) -> None:
    pool = api.pool(capacity=1, open=source.open)
    slot = await pool.take()
    with pytest.raises(Exhausted):
        await pool.take(0)
    await pool.put(slot)


async def test_a_take_that_waits_too_long_raises_a_timeout_error(api: Api, source: Source) -> None:
    pool = api.pool(capacity=1, open=source.open)
    slot = await pool.take()
    with pytest.raises(TimeoutError) as caught:
        await pool.take(0.01)
    assert isinstance(caught.value, PoolTimeout)
    await pool.put(slot)
    assert pool.stats().timeouts == 1
    assert await pool.cycle() is source.made[0]


async def test_the_pools_timeout_holds_unless_a_take_brings_its_own(api: Api, source: Source) -> None:
    pool = api.pool(capacity=1, open=source.open, timeout=0)
    slot = await pool.take()
    with pytest.raises(Exhausted):
        await pool.take()
    job = api.start(pool.take(None))
    await api.until(lambda: pool.stats().waiting == 1)
    await pool.put(slot)
    await pool.put(await job.result())


async def test_a_returned_slot_goes_straight_to_the_first_who_waits(api: Api, source: Source) -> None:
    pool = api.pool(capacity=1, open=source.open)
    slot = await pool.take()
    job = api.start(pool.take())
    await api.until(lambda: pool.stats().waiting == 1)
    await pool.put(slot)
    assert await job.result() is slot
    assert slot.state == "leased"
    await pool.put(slot)


async def test_a_pool_of_one_never_has_two(api: Api, source: Source) -> None:
    """In escudeiro size 1 yields two live resources, and releasing the second raises Full."""
    pool = api.pool(capacity=1, open=source.open, close=source.close)
    jobs = [api.start(pool.cycle()) for _ in range(10)]
    assert {await job.result() for job in jobs} == {source.made[0]}
    assert len(source.made) == 1


async def test_nobody_overtakes_those_who_wait(api: Api, source: Source) -> None:
    pool = api.pool(capacity=1, open=source.open)
    served: list[int] = []

    async def waiter(number: int) -> None:
        async with pool.taken():
            served.append(number)

    slot = await pool.take()
    jobs = []
    for number in range(6):
        jobs.append(api.start(waiter(number)))
        await api.until(lambda: pool.stats().waiting == len(jobs))
    await pool.put(slot)
    for job in jobs:
        await job.result()
    assert served == [0, 1, 2, 3, 4, 5]


async def test_many_waiters_are_served_in_order_though_half_of_them_time_out(api: Api, source: Source) -> None:
    """The cost must not be quadratic: with the slot held, 1,000 leave the line from its middle."""
    waiters = 2000 if api.kind.__name__ == "AsyncPool" else 100  # threads are dear, each with a loop of its own
    pool = api.pool(capacity=1, open=source.open)
    served: list[int] = []
    gone: list[int] = []
    numbers: dict[object, int] = {}

    async def waiter(number: int) -> None:
        numbers[pool._driver.current()] = number
        try:
            async with pool.taken(0.05 if number % 2 else None):
                served.append(number)
        except Exhausted:
            gone.append(number)

    slot = await pool.take()
    jobs = [api.start(waiter(number)) for number in range(waiters)]
    await api.until(lambda: len(gone) == waiters // 2 and pool.stats().waiting == waiters // 2)
    order = [numbers[waiter.owner] for waiter in pool._line]
    await pool.put(slot)
    for job in jobs:
        await job.result()
    assert served == order
    assert sorted(served) == list(range(0, waiters, 2))
    assert sorted(gone) == list(range(1, waiters, 2))


async def test_a_waiter_whose_deadline_has_passed_is_never_served(api: Api, source: Source) -> None:
    pool = api.pool(capacity=1, open=source.open)
    slot = await pool.take()
    job = api.start(pool.take(0.01))
    with pytest.raises(Exhausted):
        await job.result()
    await pool.put(slot)
    assert slot.state == "idle"


async def test_a_take_after_close_says_that_the_pool_is_closed(api: Api, source: Source) -> None:
    pool = api.pool("orders", open=source.open)
    await pool.cycle()
    await pool.close()
    with pytest.raises(PoolClosed, match="orders: the pool is closed"):
        await pool.take()


@pytest.mark.parametrize("timeout", [-1, float("nan"), float("inf"), "1", True])
async def test_a_nonsensical_timeout_is_named_in_the_error(api: Api, source: Source, timeout: object) -> None:
    pool = api.pool(open=source.open)
    with pytest.raises((TypeError, ValueError), match="timeout must be a"):
        await pool.take(timeout)


async def test_a_pool_that_nobody_has_filled_says_so(api: Api) -> None:
    pool = api.pool("managers", timeout=0)
    with pytest.raises(Exhausted, match="no slot was ever put into it"):
        await pool.take()


@pytest.fixture
def impatient(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiters look every few milliseconds whether something went wrong."""
    monkeypatch.setattr(type(api.driver), "patience", 0.005)


@pytest.mark.usefixtures("impatient")
async def test_a_waiter_that_an_exception_elsewhere_put_out_of_the_line_gets_its_place_back(
    api: Api, source: Source
) -> None:
    pool = api.pool(capacity=1, open=source.open)
    slot = await pool.take()
    first = api.start(pool.take())
    await api.until(lambda: pool.stats().waiting == 1)
    second = api.start(pool.take())
    await api.until(lambda: pool.stats().waiting == 2)
    pool._line.popleft()  # as an asynchronous exception does in `serve`, before it gives
    await api.until(lambda: pool.stats().waiting == 2)
    tickets = [waiter.ticket for waiter in pool._line]
    assert tickets == sorted(tickets), "else each would find itself out of line from now on"
    await pool.put(slot)
    assert await first.result() is slot
    await pool.put(slot)
    await pool.put(await second.result())


@pytest.mark.usefixtures("impatient")
async def test_what_reaches_a_waiter_just_as_it_finds_itself_out_of_line_is_taken(api: Api, source: Source) -> None:
    pool = api.pool(capacity=1, open=source.open)
    slot = await pool.take()
    is_stranded = pool._queue.is_stranded

    def given_meanwhile(waiter: Any, line: Any) -> bool:
        pool._queue.is_stranded = is_stranded
        line.clear()
        pool._leases.clear()
        waiter.give(slot)
        return True

    pool._queue.is_stranded = given_meanwhile
    assert await pool.take() is slot
    await pool.put(slot)


@pytest.mark.usefixtures("impatient")
async def test_a_slow_open_without_a_deadline_is_waited_for(api: Api, source: Source) -> None:
    go = api.event()
    opening: list[int] = []

    async def open_resource() -> object:
        opening.append(1)
        await go.waited()
        return source.open()

    pool = api.pool(capacity=1, open=open_resource)
    job = api.start(pool.take())
    await api.until(lambda: opening)
    with pytest.raises(PoolTimeout):
        await pool.take(0.02)  # longer than the patience, several times
    go.set()
    await pool.put(await job.result())


async def test_an_exception_as_a_take_pops_its_slot_is_not_taken_for_an_empty_queue(api: Api, source: Source) -> None:
    class Strike(BaseException):
        pass

    def struck() -> Any:
        raise Strike

    pool = api.pool(capacity=1, open=source.open)
    await pool.cycle()
    pop, pool.pool._pop = pool._pop, struck
    with pytest.raises(Strike):
        await pool.take()
    pool.pool._pop = pop
    assert await pool.cycle() is source.made[0]

"""Many tasks on few slots: nothing is lost, nobody is overtaken, and waiting costs little."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import queue
import random
import threading
import time
import tracemalloc
from typing import Any

from queuepool import Pool, PoolTimeout
from queuepool.aio import AsyncPool

from .aio import in_loop, quiet, until
from .support import assert_whole

TASKS, SLOTS, CANCELS = 10_000, 10, 2_500
#: Multiplies the tasks, for those who want to look for longer.
FACTOR = int(os.environ.get("QUEUEPOOL_STRESS", "1"))


class Seat:
    """A resource that knows who is on it."""

    def __init__(self) -> None:
        self.user: object = None
        self.closed = False


async def open_seat() -> Seat:
    await asyncio.sleep(0)
    return Seat()


async def close_seat(seat: Seat) -> None:
    assert seat.user is None
    await asyncio.sleep(0)
    seat.closed = True


async def reset_seat(seat: Seat) -> None:
    assert seat.user is None
    await asyncio.sleep(0)


async def check_seat(seat: Seat) -> bool:
    assert seat.user is None
    await asyncio.sleep(0)
    return not seat.closed


class Crowd:
    """Tasks that each sit on a seat of the pool once, some of which are cancelled at a random moment."""

    def __init__(self, pool: AsyncPool[Seat], seed: int) -> None:
        self.pool = pool
        self.random = random.Random(seed)
        self.served = self.cancelled = self.failed = 0
        self.sitting = 0

    async def sit(self, turns: int, fails: bool) -> None:
        me = object()
        async with self.pool.get() as seat:
            assert seat.user is None, "lent to two at once"
            assert not seat.closed
            seat.user = me
            self.sitting += 1
            assert self.sitting <= self.pool.capacity
            try:
                for _ in range(turns):
                    await asyncio.sleep(0)
                    assert seat.user is me
                if fails:
                    raise ZeroDivisionError
            finally:
                self.sitting -= 1
                seat.user = None
        self.served += 1

    async def run(self, tasks: int, cancels: int) -> None:
        crowd = [
            asyncio.ensure_future(self.sit(self.random.randrange(4), self.random.random() < 0.02)) for _ in range(tasks)
        ]
        victims = self.random.sample(crowd, cancels + cancels // 2)
        while victims:
            await asyncio.sleep(0)
            for victim in victims[-self.random.randrange(1, 8) :]:
                victim.cancel()
                victims.remove(victim)
        await asyncio.wait(crowd)
        for task in crowd:
            if task.cancelled():
                self.cancelled += 1
            elif task.exception() is not None:
                assert isinstance(task.exception(), ZeroDivisionError)
                self.failed += 1


@in_loop
async def test_ten_thousand_tasks_and_thousands_of_cancellations_leave_full_capacity() -> None:
    pool = AsyncPool(
        "pool", SLOTS, open=open_seat, close=close_seat, reset=reset_seat, check=check_seat, max_usage_count=7
    )
    crowd = Crowd(pool, seed=4)
    tasks, cancels = TASKS * FACTOR, CANCELS * FACTOR
    await crowd.run(tasks, cancels)
    await quiet()
    assert crowd.cancelled >= 2_000
    assert crowd.served + crowd.cancelled + crowd.failed == tasks, "somebody was starved"
    assert_whole(pool)
    slots = [await pool.take(1.0) for _ in range(SLOTS)]
    assert len({id(slot.resource) for slot in slots}) == SLOTS
    for slot in slots:
        await pool.put(slot)
    assert await pool.close() == []
    await quiet()


@in_loop
async def test_threads_put_while_tasks_take_time_out_and_are_cancelled() -> None:
    """A hand-over, a timeout and a cancellation may meet at the same instant, in different threads."""
    pool = AsyncPool("pool", 4, open=open_seat, close=close_seat)
    chance, loans, gave_up = random.Random(5), queue.SimpleQueue[Any](), 0

    def put() -> None:
        for slot in iter(loans.get, None):
            pool.put(slot)

    async def take(timeout: float | None) -> None:
        nonlocal gave_up
        try:
            slot = await pool.take(timeout)
        except PoolTimeout:
            gave_up += 1
            return
        assert slot.resource.user is None, "lent to two at once"
        slot.resource.user = take
        try:
            await asyncio.sleep(0)
        finally:
            slot.resource.user = None
            loans.put(slot)

    threads = [threading.Thread(target=put) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(60 * FACTOR):
        tasks = [asyncio.ensure_future(take(chance.choice((None, 0.0005, 0.002)))) for _ in range(50)]
        await asyncio.sleep(chance.random() * 0.002)
        for task in chance.sample(tasks, 10):
            task.cancel()
        await asyncio.wait(tasks)
        assert not [task for task in tasks if not task.cancelled() and task.exception()]
    for _ in threads:
        loans.put(None)
    await until(lambda: not any(thread.is_alive() for thread in threads))
    await quiet()
    assert gave_up
    assert_whole(pool)
    assert pool.stats().taken == 0


@in_loop
async def test_threads_and_tasks_share_a_pool_while_tasks_time_out_and_are_cancelled() -> None:
    pool = Pool("pool", 3, open=Seat, max_usage_count=20, reset=lambda seat: None)
    chance, over = random.Random(6), threading.Event()
    errors: list[BaseException] = []

    def sit(seat: Seat, me: object) -> None:
        assert seat.user is None, "lent to two at once"
        seat.user = me
        time.sleep(0)
        assert seat.user is me
        seat.user = None

    def use_in_a_thread() -> None:
        try:
            while not over.is_set():
                with pool.take() as slot:
                    sit(slot.resource, object())
        except BaseException as error:
            errors.append(error)

    async def use(timeout: float | None) -> None:
        with contextlib.suppress(PoolTimeout):
            async with pool.aget(timeout) as seat:
                sit(seat, object())
                await asyncio.sleep(0)

    threads = [threading.Thread(target=use_in_a_thread) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(15 * FACTOR):
            tasks = [asyncio.ensure_future(use(chance.choice((None, 0.001, 0.01)))) for _ in range(10)]
            await asyncio.sleep(chance.random() * 0.005)
            for task in chance.sample(tasks, 4):
                task.cancel()
            await asyncio.wait(tasks)
            errors += [task.exception() for task in tasks if not task.cancelled() and task.exception()]  # type: ignore[misc]
    finally:
        over.set()
    await until(lambda: not any(thread.is_alive() for thread in threads) and not pool._leases)
    await until(lambda: pool._queue.qsize() == 3)
    assert errors == []
    assert_whole(pool)


@in_loop
async def test_tasks_are_served_in_the_order_in_which_they_came() -> None:
    pool = AsyncPool("pool", 3, open=open_seat)
    await pool.prefill()
    served: list[int] = []

    async def use(number: int) -> None:
        async with pool.get():
            served.append(number)
            await asyncio.sleep(0)

    tasks = [asyncio.ensure_future(use(number)) for number in range(500)]
    await until(lambda: pool.stats().waiting)
    for task in tasks[10:490:7]:
        task.cancel()
    await asyncio.wait(tasks)
    assert served == sorted(served)
    assert len(served) == 500 - len(tasks[10:490:7])


@in_loop
async def test_a_waiting_task_costs_a_few_kilobytes() -> None:
    pool: AsyncPool[Any] = AsyncPool("pool", 1, open=open_seat)

    async def wait() -> None:
        async with pool.get():
            pass

    async def idle(gate: asyncio.Event) -> None:
        await gate.wait()

    async def weigh(flow: Any, count: int = 1_000) -> float:
        gc.collect()
        tracemalloc.start()
        tasks = [asyncio.ensure_future(flow()) for _ in range(count)]
        for _ in range(3):
            await asyncio.sleep(0)
        size, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        return size / count

    async with pool.get():
        gate = asyncio.Event()
        bare = await weigh(lambda: idle(gate))
        waiting = await weigh(wait)
    print(f"bytes of a task that waits for a slot: {waiting:.0f}, of one that waits for an event: {bare:.0f}")
    assert waiting - bare < 8_000  # 3.0 kB on CPython 3.11, 5.6 kB on 3.9
    assert_whole(pool)

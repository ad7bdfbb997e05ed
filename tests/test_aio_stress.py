"""Many tasks on few slots: nothing is lost, nobody is overtaken, and waiting costs little."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import tracemalloc
from typing import Any

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

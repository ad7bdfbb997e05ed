"""What a take and a put may cost, in bytecode instructions and calls: a guard that no busy machine disturbs.

A time says whether a machine was idle; these counts say whether somebody has added to the hot path. The bounds are what
the most talkative of CPython 3.9 to 3.13 needs, and five instructions. Where a change is worth its cost, raise them by
as much in the same commit, with the figures of `python -m tests.bench --only must`.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from types import CodeType, FrameType
from typing import Any, NamedTuple

import pytest

import queuepool
from queuepool import AsyncPool, FifoSlotQueue, LifoSlotQueue, Observer, Pool
from queuepool.loops import LoopWaiter
from queuepool.threads import ThreadWaiter

PACKAGE = os.path.dirname(queuepool.__file__)
#: Before the counting, for what is imported, cached or specialised at the first calls.
WARM_UP = 20


class Resource:
    """What the pools of these tests lend."""


class Cost(NamedTuple):
    """What a piece of work costs within the package: instructions executed, functions called there and from there."""

    instructions: int
    calls: int


def is_ours(code: CodeType) -> bool:
    return code.co_filename.startswith(PACKAGE)


def instructions_of(work: Callable[[], object]) -> int:
    return _monitored(work) if sys.version_info >= (3, 12) else _traced(work)


def _traced(work: Callable[[], object]) -> int:
    count = 0

    def trace(frame: FrameType, event: str, arg: Any) -> Any:
        nonlocal count
        if not is_ours(frame.f_code):
            return None
        frame.f_trace_lines, frame.f_trace_opcodes = False, True
        count += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


def _monitored(work: Callable[[], object]) -> int:
    monitoring: Any = sys.monitoring  # type: ignore[attr-defined, unused-ignore]
    count = 0

    def instruction(code: CodeType, offset: int) -> Any:
        nonlocal count
        count += is_ours(code)

    tool = next(number for number in (3, 4) if monitoring.get_tool(number) is None)
    monitoring.use_tool_id(tool, "queuepool's hot path")
    monitoring.register_callback(tool, monitoring.events.INSTRUCTION, instruction)
    monitoring.set_events(tool, monitoring.events.INSTRUCTION)
    try:
        work()
    finally:
        monitoring.set_events(tool, 0)
        monitoring.register_callback(tool, monitoring.events.INSTRUCTION, None)
        monitoring.free_tool_id(tool)
    return count


def calls_of(work: Callable[[], object]) -> int:
    count = 0

    def profile(frame: FrameType, event: str, arg: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call") and is_ours(frame.f_code)

    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        work()
    finally:
        sys.setprofile(before)
    return count


def cost_of(work: Callable[[], object]) -> Cost:
    for _ in range(WARM_UP):
        work()
    return Cost(instructions_of(work), calls_of(work))


def with_take(pool: Pool[Resource]) -> Callable[[], object]:
    def work() -> None:
        with pool.take():
            pass

    return work


def take_put(pool: Pool[Resource]) -> Callable[[], object]:
    return lambda: pool.put(pool.take())


def with_get(pool: Pool[Resource]) -> Callable[[], object]:
    def work() -> None:
        with pool.get():
            pass

    return work


def acquire_release(pool: Pool[Resource]) -> Callable[[], object]:
    return lambda: pool.release(pool.acquire())


def with_lease(pool: Pool[Resource]) -> Callable[[], object]:
    def work() -> None:
        with pool.lease():
            pass

    return work


@pytest.mark.parametrize(
    ("style", "instructions", "calls"),
    [(take_put, 140, 9), (with_take, 153, 11), (acquire_release, 173, 13), (with_get, 223, 17), (with_lease, 278, 18)],
    ids=lambda value: value.__name__ if callable(value) else None,
)
def test_a_cycle_executes_no_more_than_its_bound(
    style: Callable[[Pool[Resource]], Callable[[], object]], instructions: int, calls: int
) -> None:
    with Pool("hot", 4, open=Resource, max_usage_count=None) as pool:
        cost = cost_of(style(pool))
    assert 0 < cost.instructions <= instructions
    assert 0 < cost.calls <= calls


def test_a_take_that_waits_executes_no_more_than_its_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy pool most takes do, and what one does here all the others wait for."""
    pool = Pool("line", 1, timeout=30.0, open=Resource, max_usage_count=None)
    held = [pool.take()]

    def served_as_it_falls_asleep(waiter: ThreadWaiter, seconds: float) -> bool:
        pool._line.popleft()
        pool.put(held.pop())
        return True

    def wait_and_put() -> None:
        pool._line.append(ThreadWaiter())  # for whoever finds the line empty goes another way
        held.append(pool.take())

    monkeypatch.setattr(ThreadWaiter, "wait", served_as_it_falls_asleep)
    cost = cost_of(wait_and_put)
    assert pool.stats().waits.count > WARM_UP
    assert 0 < cost.instructions <= 514
    assert 0 < cost.calls <= 41


class Watching(Observer):
    """Hears of everything but each take and put."""

    def opened(self, pool: Any, slot: Any, seconds: float) -> None: ...
    def closed(self, pool: Any, slot: Any, reason: str) -> None: ...
    def refused(self, pool: Any, error: Exception) -> None: ...


@pytest.mark.parametrize(
    "options",
    [
        {"timeout": 30.0, "max_waiting": 5, "shed_after": 0.5},
        {"overflow": 3, "min_idle": 2, "leak_after": 60.0},
        {"max_idle_time": 600.0, "max_open_time": 7200.0, "jitter": 0.5, "max_usage_count": 1_000_000},
        {"observer": Watching(), "close_on_exception": (OSError,), "fail_fast": True},
        {"queue_class": FifoSlotQueue},
        {"capacity": 1_000},
    ],
    ids=lambda options: ", ".join(options),
)
def test_an_option_that_is_on_costs_the_cycle_not_one_instruction(options: dict[str, Any]) -> None:
    costs = []
    for given in ({}, options):
        with Pool("hot", **{"capacity": 4, "open": Resource, "queue_class": LifoSlotQueue, **given}) as pool:
            costs.append(cost_of(with_take(pool)))
    assert costs[0] == costs[1]


def test_the_cycle_costs_the_same_while_a_recycler_runs_and_others_hold_slots() -> None:
    with Pool("hot", 4, open=Resource) as pool:
        alone = cost_of(with_take(pool))
        pool.start_recycler(60.0)
        held = [pool.take(), pool.take()]
        assert cost_of(with_take(pool)) == alone
        for slot in held:
            pool.put(slot)


async def async_cycle(pool: AsyncPool[Resource], take: Callable[[], Awaitable[Any]]) -> Cost:
    """The cost of what runs without a suspension; driven by hand, so that no loop is counted."""

    async def cycle() -> None:
        await pool.put(await take())

    def work() -> None:
        try:
            cycle().send(None)
        except StopIteration:
            return
        raise AssertionError("the cycle was suspended")

    cost = cost_of(work)
    await pool.close()
    return cost


def test_an_async_cycle_executes_no_more_than_its_bound() -> None:
    async def main() -> Cost:
        pool: AsyncPool[Resource] = AsyncPool("hot", 4, open=Resource, max_usage_count=None)
        await pool.prefill()
        return await async_cycle(pool, pool.take)

    cost = asyncio.run(main())
    assert 0 < cost.instructions <= 186
    assert 0 < cost.calls <= 15


def test_an_async_take_that_waits_executes_no_more_than_its_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> Cost:
        pool: AsyncPool[Resource] = AsyncPool("hot", 1, timeout=30.0, open=Resource, max_usage_count=None)
        held = [await pool.take()]
        monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: 1_000.5)  # a second that begins costs a timer

        def wait_and_put() -> None:
            pool._line.append(LoopWaiter())  # for whoever finds the line empty goes another way
            taking = pool.take()
            taking.send(None)
            pool._line.popleft()
            pool.put(held.pop())
            try:
                taking.send(None)
            except StopIteration as stop:
                held.append(stop.value)

        cost = cost_of(wait_and_put)
        assert pool.stats().waits.count > WARM_UP
        return cost

    cost = asyncio.run(main())
    assert 0 < cost.instructions <= 708
    assert 0 < cost.calls <= 61

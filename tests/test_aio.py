"""What `AsyncPool` owes besides the contract that all pools share: its handles, its tasks, its hooks."""

from __future__ import annotations

import asyncio
import gc
import inspect
import subprocess
import sys
from typing import Any

import pytest

import queuepool
from queuepool import AsyncLifecycle, BadResource, Pool, WrongSlot
from queuepool.aio import AsyncPool

from .aio import AsyncSource, in_loop, until
from .support import Clock, Resource, Source, assert_whole


def test_to_import_queuepool_does_not_import_asyncio() -> None:
    program = "import sys, queuepool; print('asyncio' in sys.modules, queuepool.AsyncPool.__module__)"
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert printed == "False queuepool.aio\n"


def test_the_package_knows_the_pool_by_its_name_and_no_other() -> None:
    assert queuepool.AsyncPool is AsyncPool
    with pytest.raises(AttributeError, match="no attribute 'AsynPool'"):
        queuepool.AsynPool  # noqa: B018


def test_both_pools_take_the_same_options_and_have_the_same_methods() -> None:
    threads, tasks = (list(inspect.signature(kind.__init__).parameters) for kind in (Pool, AsyncPool))
    # To switch tasks costs next to nothing, and one that goes on without a wait would hold up the loop.
    assert [name for name in threads if name not in ("camel_case", "quantum")] == tasks
    public = [{name for name in dir(kind) if not name.startswith("_")} for kind in (Pool, AsyncPool)]
    assert public[0] - public[1] == {"aget", "closeOnException", "startRecycler"}
    assert public[1] <= public[0]


@in_loop
async def test_a_take_may_be_awaited_entered_or_made_a_task() -> None:
    pool = AsyncPool("pool", 1, open=AsyncSource().aopen)
    for cold in (True, False):
        slot = await pool.take()
        await pool.put(slot)
        async with pool.take() as slot:
            assert slot.state == "leased"
        slot = await asyncio.get_running_loop().create_task(pool.take())
        await pool.put(slot)
        (slot,) = await asyncio.gather(pool.take())
        await pool.put(slot)
        slot = await asyncio.wait_for(pool.take(), 1.0)
        await pool.put(slot)
        if cold:
            await pool.recycle_all()
    assert_whole(pool)


@in_loop
async def test_a_get_may_be_awaited_for_the_resource_and_a_lease_entered() -> None:
    source = AsyncSource()
    pool = AsyncPool("pool", 1, open=source.aopen)
    resource = await pool.get()
    assert resource is source.made[0]
    await pool.release(resource)
    async with pool.lease() as lease:
        assert lease.unwrap() is resource
    async with await pool.lease() as lease:
        assert lease.number == 1
    assert_whole(pool)


def test_a_take_that_is_never_awaited_takes_nothing() -> None:
    pool = AsyncPool("pool", 1, open=AsyncSource().aopen)
    taking = pool.take()
    taking.close()
    del taking
    assert pool.stats().taken == 0


@in_loop
async def test_a_take_is_driven_like_a_coroutine() -> None:
    pool = AsyncPool("pool", 1, open=AsyncSource().aopen)
    slot = await pool.take()
    taking = pool.take()
    taking.send(None)
    assert pool.stats().waiting == 1
    taking.close()
    assert pool.stats().waiting == 0
    with pytest.raises(ZeroDivisionError):
        pool.take().throw(ZeroDivisionError())
    await pool.put(slot)
    assert_whole(pool)


def test_a_timeout_that_is_no_number_is_refused_at_the_call() -> None:
    pool = AsyncPool("pool", 1, open=AsyncSource().aopen)
    with pytest.raises(TypeError, match="timeout must be a number"):
        pool.take("1")  # type: ignore[arg-type]


@in_loop
async def test_holders_name_the_task_and_the_line_of_its_take() -> None:
    pool = AsyncPool("pool", 2, open=AsyncSource().aopen)

    async def hold() -> None:
        async with pool.get():
            await asyncio.sleep(10)

    for name in ("billing", "mailing"):  # the first opens, the second finds it open
        task = asyncio.get_running_loop().create_task(hold(), name=name)
        await until(lambda: pool.stats().taken)
        (holder,) = pool.holders()
        assert holder.who == f"task {name}"
        assert holder.where == f"{__file__}:{hold.__code__.co_firstlineno + 1}"
        task.cancel()
        await asyncio.wait([task])


@in_loop
async def test_what_a_task_held_that_died_comes_back_though_its_error_is_kept() -> None:
    """The error has the traceback, that the frame, that the slot; were the lease to keep the task, it would keep all."""
    pool = AsyncPool("pool", 1, open=object)
    held: list[Any] = []

    async def die() -> None:
        slot = await pool.take()
        held.append(slot.name)
        raise ZeroDivisionError

    task = asyncio.ensure_future(die())
    await asyncio.wait([task])
    assert isinstance(task.exception(), ZeroDivisionError)
    assert pool.holders()[0].who.startswith("task ")
    del task
    gc.collect()
    assert pool.holders()[0].who == "a task (ended)"
    async with pool.take(1.0) as slot:
        assert slot.name == held[0]
    assert pool.stats().reclaimed == 1


@in_loop
async def test_nesting_is_told_by_task() -> None:
    pool = AsyncPool("pool", 2, open=AsyncSource().aopen, nested="same")
    async with pool.get() as outer:
        async with pool.get() as inner:
            assert inner is outer
        other = await asyncio.get_running_loop().create_task(pool.acquire())
        assert other is not outer
        await pool.release(other)
    assert_whole(pool)
    assert not pool._nesting


@in_loop
async def test_an_error_in_with_closes_the_resource_and_reaches_the_caller() -> None:
    source = AsyncSource()
    pool = AsyncPool("pool", 1, open=source.aopen, close=source.aclose)
    for context in (pool.take, pool.get, pool.lease):
        with pytest.raises(ZeroDivisionError):
            async with context():
                raise ZeroDivisionError
    assert len(source.made) == 3
    assert source.live == []


@in_loop
async def test_what_was_put_back_before_its_with_ends_by_an_error_is_left_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    pool = AsyncPool("pool", 1, open=AsyncSource().aopen)

    async def use() -> None:
        async with pool.take() as slot:
            await pool.put(slot)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await use()
    assert "was put back before its `with` ended" in caplog.text
    assert_whole(pool)


@in_loop
async def test_an_exception_in_the_clock_leaves_the_slot_where_it_was() -> None:
    clock = Clock()
    failing: list[BaseException] = []

    def now() -> float:
        if failing:
            raise failing.pop()
        return clock()

    pool = AsyncPool("pool", 1, open=AsyncSource().aopen, clock=now)
    slot = await pool.take()
    failing.append(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        pool.put(slot)
    assert_whole(pool)
    failing.append(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        pool.take().send(None)
    assert_whole(pool)
    await pool.put(await pool.take(0))


@in_loop
async def test_a_dead_resource_is_found_by_poll_on_the_fast_way() -> None:
    source = AsyncSource()

    class Polled(AsyncLifecycle[Resource]):
        async def open(self) -> Resource:
            return source.open()

        async def close(self, resource: Resource) -> None:
            source.close(resource)

        def poll(self, resource: Resource) -> bool:
            return resource not in source.dead

    pool = AsyncPool("pool", 1, lifecycle=Polled())
    async with pool.get() as first:
        pass
    async with pool.get() as again:
        assert again is first
    source.dead.add(first)
    async with pool.get() as second:
        assert second is not first
    assert source.live == [second]


@in_loop
async def test_plain_functions_and_classes_do_for_hooks_and_need_no_task() -> None:
    source = Source()
    pool = AsyncPool("pool", 1, open=source.open, close=source.close, check=source.check, reset=source.reset)
    async with pool.get():
        pass
    pool.put(await pool.take())
    assert source.made[0].history == ["reset", "check", "reset"]
    assert pool.stats().idle == 1, "the reset was done in place"
    await pool.recycle_all()
    assert source.live == []


@in_loop
async def test_a_resource_with_a_close_of_its_own_is_closed_by_it_plain_or_async() -> None:
    closed = []

    class Plain:
        def close(self) -> None:
            closed.append("plain")

    class Async:
        async def close(self) -> None:
            closed.append("async")

    class Life(AsyncLifecycle[Any]):
        async def open(self) -> Any:
            return kinds.pop()

    kinds = [object(), Async(), Plain()]
    pool = AsyncPool("pool", 3, lifecycle=Life())
    await pool.prefill()
    await pool.recycle_all()
    assert closed == ["plain", "async"]
    for kind in (Plain, Async):
        async with AsyncPool("pool", 1, open=kind) as other, other.get():
            pass
    assert closed[2:] == ["plain", "async"]


@in_loop
async def test_a_lifecycle_for_threads_is_refused() -> None:
    with pytest.raises(TypeError, match="must be an instance of AsyncLifecycle"):
        AsyncPool("pool", 1, lifecycle=queuepool.Lifecycle())  # type: ignore[call-overload]


@in_loop
async def test_slots_that_the_program_makes_are_put_in_as_in_queuepool_1() -> None:
    class Manager(queuepool.ResourceManager):
        def open(self) -> None:
            super().open()
            self.resource = Resource(1)

    pool = AsyncPool[Any]("pool", 1)
    await pool.put(Manager("m"))
    async with pool.take() as manager:
        assert manager.resource.number == 1
    with pytest.raises(WrongSlot):
        pool.put(manager)
    with pytest.raises(WrongSlot):
        pool.release(manager.resource)
    with pytest.raises(BadResource):
        async with AsyncPool("none", 1, open=lambda: None).take():
            pass


@in_loop
async def test_one_handle_that_two_tasks_share_gives_back_what_each_has_entered() -> None:
    pool = AsyncPool("pool", 2, open=AsyncSource().aopen, nested="error")
    for shared in (pool.take(), pool.get(), pool.lease()):
        entered, leave = asyncio.Event(), asyncio.Event()

        async def enter_and_wait(shared: Any = shared, entered: Any = entered, leave: Any = leave) -> None:
            async with shared:
                entered.set()
                await leave.wait()

        async with shared:
            other = asyncio.get_running_loop().create_task(enter_and_wait(), name="the other")
            await entered.wait()
        (holder,) = pool.holders()
        assert holder.who == "task the other"
        leave.set()
        await other
        assert_whole(pool)
        assert pool.stats().taken == 0

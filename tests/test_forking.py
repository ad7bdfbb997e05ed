from __future__ import annotations

import gc
import os
import pickle
import threading
import traceback
import warnings
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from queuepool import FifoSlotQueue, LifoSlotQueue, Pool, ResourceManager, core, forking

from .support import Source, assert_whole, wait_until

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


def in_child(function: Callable[[], Any]) -> Any:
    """What `function` returns in a forked child; fails the test with its traceback if it raises there."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # forking a program that has threads is the point
        pid = os.fork()
    if not pid:
        try:
            try:
                answer = True, function()
            except BaseException:
                answer = False, traceback.format_exc()
            os.write(writing, pickle.dumps(answer))
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        worked, value = pickle.loads(pipe.read())
    os.waitpid(pid, 0)
    assert worked, value
    return value


@needs_fork
def test_a_child_starts_empty_and_its_parent_notices_nothing() -> None:
    """In a child of queuepool 1.3.2 closing a resource ended the parent's session."""
    source = Source()
    pool = Pool("pool", 3, open=source.open, close=source.close)
    with pool.take(), pool.take():
        pass

    def child() -> Any:
        first = (pool.stats().slots, pool.stats().idle, pool.stats().takes)
        with pool.take() as slot:
            number = slot.resource.number
        pool.close()
        return first, number, [resource.number for resource in source.made if resource.closed]

    assert in_child(child) == ((3, 0, 2), 3, [3]), "what the parent opened is neither used nor closed"
    assert (pool.stats().idle, len(source.live)) == (2, 2)
    with pool.take() as slot:
        assert slot.resource in source.made


@needs_fork
def test_what_the_child_forgets_is_not_closed_by_a_finalizer_either() -> None:
    closed: list[int] = []

    class Session:
        def __del__(self) -> None:
            closed.append(os.getpid())

    pool = Pool("pool", 1, open=Session)
    with pool.take():
        pass

    def child() -> list[int]:
        gc.collect()
        return closed

    assert in_child(child) == []


@needs_fork
def test_a_child_that_holds_a_slot_may_put_it_back_and_its_resource_stays_the_parents() -> None:
    source = Source()
    pool = Pool("pool", 2, open=source.open, close=source.close)
    slot = pool.take()

    def child() -> Any:
        state = slot.state
        pool.put(slot)
        with pool.take() as fresh:
            return state, source.made[0].closed, fresh.resource.number, pool.stats().slots

    assert in_child(child) == ("leased", False, 2, 2)
    pool.put(slot)
    assert pool.stats().idle == 1


@needs_fork
@pytest.mark.parametrize("nested", ["new", "same", "error"])
def test_a_child_forked_inside_a_with_is_lent_a_resource_of_its_own(nested: Any) -> None:
    source = Source()
    pool = Pool("pool", 1, open=source.open, close=source.close, nested=nested)

    def child() -> Any:
        with pool.take(0) as slot:
            mine = slot.resource.number
        pool.put(held)
        return mine, source.made[0].closed, pool.stats().slots, pool.stats().taken

    with pool.take() as held:
        assert in_child(child) == (2, False, 1, 0)
    assert_whole(pool)


@needs_fork
def test_a_child_forked_inside_a_with_of_a_1_x_manager_may_go_on_with_it_afterwards() -> None:
    class Manager(ResourceManager):
        def open(self) -> None:
            super().open()
            self.resource = os.getpid()

    pool: Pool[Any] = Pool("pool", 1)
    pool.put(Manager("one"))

    def child() -> Any:
        pool.put(held)
        with pool.take(0) as slot:
            return slot is held, slot.resource == os.getpid()

    with pool.take() as held:
        assert in_child(child) == (True, True)
        assert held.resource == os.getpid()


@needs_fork
def test_what_other_threads_of_the_parent_hold_or_wait_for_does_not_bind_the_child() -> None:
    source = Source()
    pool = Pool("pool", 1, open=source.open, nested="same")
    go, done = threading.Event(), []

    def hold() -> None:
        with pool.take():
            go.wait(10.0)

    holder = threading.Thread(target=hold)
    holder.start()
    wait_until(lambda: pool.stats().taken == 1)
    waiter = threading.Thread(target=lambda: done.append(pool.take()))
    waiter.start()
    wait_until(lambda: pool.stats().waiting == 1)

    def child() -> Any:
        with pool.take(0) as slot:
            return slot.resource.number, pool.stats().waiting, pool.stats().taken, len(pool.holders())

    assert in_child(child) == (2, 0, 1, 1)
    go.set()
    holder.join()
    waiter.join()
    pool.put(done[0])
    assert_whole(pool)


@needs_fork
def test_a_fork_in_the_middle_of_an_open_and_a_resize_leaves_the_child_free_of_both() -> None:
    source = Source()
    opening, go = threading.Event(), threading.Event()

    def open_resource() -> object:
        opening.set()
        go.wait(10.0)
        return source.open()

    pool = Pool("pool", 2, open=open_resource, max_opening=1)
    thread = threading.Thread(target=lambda: pool.put(pool.take()))
    thread.start()
    assert opening.wait(10.0)

    def child() -> Any:
        go.set()
        with pool.take(5.0), pool.take(5.0):
            pool.resize(3)
        return pool.stats().slots, pool.stats().opening

    with pool._resizing:  # somebody resizes at that moment
        assert in_child(child) == (3, 0)
    go.set()
    thread.join()
    assert_whole(pool)


@needs_fork
def test_the_recycler_runs_on_in_the_parent_and_anew_in_the_child() -> None:
    pool = Pool("forked", open=object)
    pool.start_recycler(60.0)

    def child() -> bool:
        alive = pool._recycler is not None and pool._recycler.alive
        pool.stop_recycler()
        return alive

    assert in_child(child)
    assert pool._recycler is not None
    assert pool._recycler.alive
    pool.stop_recycler()


@needs_fork
def test_no_thread_sweeps_a_closed_pool_in_the_child() -> None:
    pool = Pool("closed", open=object)
    pool.start_recycler(60.0)
    pool.close()
    names = in_child(lambda: [thread.name for thread in threading.enumerate()])
    assert "closed recycler" not in names


@needs_fork
def test_a_child_of_a_child_starts_empty_too() -> None:
    source = Source()
    pool = Pool("pool", 1, open=source.open)
    with pool.take():
        pass

    def child() -> Any:
        with pool.take() as slot:
            mine = slot.resource.number
        return mine, in_child(grandchild)

    def grandchild() -> Any:
        with pool.take() as slot:
            return slot.resource.number

    assert in_child(child) == (2, 3)


@pytest.fixture(params=[LifoSlotQueue, FifoSlotQueue])
def inherited(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Pool[Any]:
    """A pool with one idle and one leased resource, alone in the hook's list."""
    source = Source()
    pool = Pool("pool", 4, open=source.open, close=source.close, nested="same", queue_class=request.param)
    with pool.take():
        threading.Thread(target=pool.take).start()
        wait_until(lambda: pool.stats().taken == 2)
    monkeypatch.setattr(core, "pools", weakref.WeakSet([pool]))
    monkeypatch.setattr(forking, "_parents", [])
    return pool


def test_the_hook_forgets_every_pools_resources_without_closing_them(inherited: Pool[Any]) -> None:
    resources = [slot.resource for slot in inherited._slots if slot.is_open]
    mine = inherited.take()
    forking._after_in_child()
    assert inherited.stats().taken == 1, "only what the thread that forked holds is still out"
    assert mine.resource in resources
    inherited.put(mine)
    assert_whole(inherited)
    assert inherited.stats().empty == 4
    assert len(inherited._nesting) == 0
    assert not [resource for resource in resources if resource.closed]
    assert len(forking._parents) == 2, "and no finalizer closes them"


def test_the_hook_leaves_a_1_x_manager_that_is_held_in_the_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    pool: Pool[Any] = Pool("pool", 1)
    pool.put(ResourceManager("one"))
    monkeypatch.setattr(core, "pools", weakref.WeakSet([pool]))
    with pool.take():
        forking._after_in_child()
    assert (pool.stats().slots, pool.stats().closes) == (1, {"fork": 1})


def test_a_recycler_is_started_again_by_the_hook(inherited: Pool[Any]) -> None:
    inherited.start_recycler(60.0)
    before: Any = inherited._recycler
    forking._after_in_child()
    after: Any = inherited._recycler
    assert after is not before
    assert (after.interval, after.alive) == (60.0, True)
    before.stop()
    inherited.stop_recycler()


def test_the_recycler_of_a_closed_pool_is_not_started_again_by_the_hook(inherited: Pool[Any]) -> None:
    inherited.start_recycler(60.0)
    inherited.close(timeout=0)
    forking._after_in_child()
    assert inherited._recycler is None


def test_a_server_that_skips_the_hooks_is_noticed_by_the_process_identifier(
    inherited: Pool[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    resources = {slot.resource for slot in inherited._slots if slot.is_open}
    pid = os.getpid() + 1
    monkeypatch.setattr(os, "getpid", lambda: pid)
    with inherited.take() as slot:
        assert slot.resource not in resources
        assert inherited._pid == pid
    assert_whole(inherited)

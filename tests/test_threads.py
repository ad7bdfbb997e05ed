"""How threads wait and call, and many of them at once."""

from __future__ import annotations

import gc
import logging
import queue
import threading
from typing import Any

import pytest

from queuepool import Lifecycle, Pool, Slot, WrongSlot
from queuepool.threads import THREADS, ThreadWaiter, run

from .support import PATIENCE, Resource, Source, assert_whole, wait_until


def test_a_waiter_is_woken_by_what_it_is_given() -> None:
    waiter = ThreadWaiter()
    assert not waiter.wait(0.001)
    assert not waiter.wait(-1.0), "a deadline that has passed is no wait at all"
    slot: Slot[Any] = Slot("slot")
    threading.Thread(target=waiter.give, args=(slot,)).start()
    assert waiter.wait(None)
    assert waiter.accept() is slot


def test_a_flow_gives_its_result_or_raises_its_error() -> None:
    async def flow(error: Exception | None = None) -> int:
        if error is not None:
            raise error
        return 7

    assert run(flow()) == 7
    with pytest.raises(ZeroDivisionError):
        run(flow(ZeroDivisionError()))


def test_a_step_that_fails_after_its_caller_has_left_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def flow() -> None:
        raise RuntimeError("in the background")

    with caplog.at_level(logging.ERROR, "queuepool"):
        THREADS.spawn(flow(), "failing step")
        wait_until(lambda: "a step in the background failed" in caplog.text)


def no_more_threads(self: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


def test_a_step_that_cannot_get_a_thread_loses_no_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    class Hanging(Lifecycle[object]):
        may_hang = True

        def open(self) -> object:
            return object()

    pool = Pool("pool", 1, lifecycle=Hanging())
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", no_more_threads)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            pool.take(5.0)
    assert_whole(pool)
    with pool.take(5.0):
        pass
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", no_more_threads)
        assert pool.close(5.0) == []
    assert pool.stats().slots == 0, "it closed in the caller's own thread"


def test_a_dropped_lease_whose_reset_cannot_get_a_thread_is_reset_for_whoever_takes_it_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Hanging(Lifecycle[Resource]):
        may_hang = True

        def open(self) -> Resource:
            return Resource(1)

        def reset(self, resource: Resource) -> None:
            resource.history.append("reset")

    pool = Pool("pool", 1, lifecycle=Hanging())
    pool.lease()
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", no_more_threads)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            pool.take(5.0)
    with pool.get(5.0) as resource:
        assert resource.history == ["reset"]
    assert pool.stats().reclaimed == 1


@pytest.mark.parametrize("begun", [True, False])
def test_ctrl_c_as_a_step_gets_its_thread_leaves_the_slot_to_one_of_the_two(
    begun: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    opening, go = threading.Event(), threading.Event()

    class Hanging(Lifecycle[object]):
        may_hang = True

        def open(self) -> object:
            opening.set()
            assert go.wait(PATIENCE)
            return object()

    start, threads = threading.Thread.start, []

    def interrupted(self: threading.Thread) -> None:
        threads.append(self)
        if begun:
            start(self)
            assert opening.wait(PATIENCE)
        raise KeyboardInterrupt

    pool = Pool("pool", 1, lifecycle=Hanging())
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", interrupted)
        with pytest.raises(KeyboardInterrupt):
            pool.take(5.0)
    assert pool._queue.qsize() == (0 if begun else 1), "while it opens, the slot is the step's"
    if not begun:
        start(threads[0])
    go.set()
    threads[0].join()
    assert_whole(pool)
    assert pool.stats().opens.count == begun
    with pool.take(5.0):
        pass


@pytest.mark.parametrize("nested", ["same", "error"])
def test_a_thread_that_is_given_the_identifier_of_one_that_ended_is_not_given_its_slot(nested: Any) -> None:
    pool = Pool("pool", 2, open=object, nested=nested)
    kept = []
    first = threading.Thread(target=lambda: kept.append(pool.take()))
    first.start()
    first.join()

    def take_as_namesake() -> None:
        if threading.get_ident() == first.ident:
            kept.append(pool.take(0))

    for _ in range(100):
        thread = threading.Thread(target=take_as_namesake)
        thread.start()
        thread.join()
        if len(kept) == 2:
            break
    else:
        pytest.skip("this system gave the identifier to none of a hundred threads")
    assert kept[0] is not kept[1]
    for slot in kept:
        pool.put(slot)
    assert_whole(pool)


def test_a_slot_held_by_a_thread_that_died_comes_back(caplog: pytest.LogCaptureFixture) -> None:
    pool = Pool("orders", 1, open=object)
    thread = threading.Thread(target=pool.take, name="worker-3")
    thread.start()
    thread.join()
    gc.collect()
    with caplog.at_level(logging.WARNING, "queuepool"), pool.take(0.001):
        pass
    assert "slot orders-1 was taken and never put back, and is back: thread " in caplog.text


def test_a_lease_has_no_thread_so_another_may_put_it_back() -> None:
    """A web framework may enter and leave a dependency in different threads."""
    pool = Pool("pool", 1, open=object)
    slot = pool.take()
    thread = threading.Thread(target=pool.put, args=(slot,))
    thread.start()
    thread.join()
    assert pool.stats().idle == 1
    with pytest.raises(WrongSlot):
        pool.put(slot)


# --- many threads at once


def test_no_resource_is_ever_lent_to_two_and_everyone_gets_a_turn() -> None:
    source = Source()
    pool = Pool("pool", 3, open=source.open, close=source.close, reset=source.reset, max_usage_count=50, max_opening=3)
    users: dict[Any, int] = {}
    turns = [0] * 8
    overlaps = []
    stop = threading.Event()

    def work(number: int) -> None:
        while not stop.is_set():
            with pool.get() as resource:
                if users.setdefault(resource, number) != number:
                    overlaps.append((resource, number))
                turns[number] += 1
                del users[resource]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    wait_until(lambda: min(turns) >= 100)
    stop.set()
    for thread in threads:
        thread.join()
    assert overlaps == []
    assert_whole(pool)
    assert pool.stats().takes == sum(turns)


def test_hand_over_is_strict_so_nobody_starves() -> None:
    """Eight threads on one resource: in five of the peers one thread got 1,350 turns and another 1."""
    pool = Pool("pool", 1, open=object)
    order: queue.SimpleQueue[int] = queue.SimpleQueue()
    stop = threading.Event()

    def work(number: int) -> None:
        while not stop.is_set():
            with pool.take():
                order.put(number)
                wait_until(lambda: stop.is_set() or pool.stats().waiting == 7)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    wait_until(lambda: order.qsize() >= 80)
    stop.set()
    for thread in threads:
        thread.join()
    turns = [order.get() for _ in range(80)]
    counts = [turns[-64:].count(number) for number in range(8)]
    assert counts == [8] * 8

"""Instants at which an exception or another thread did harm once, each made to come every time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from queuepool import Pool, PoolClosed
from queuepool.slotqueue import Waiter
from queuepool.threads import ThreadDriver, ThreadWaiter

from ..support import PATIENCE, assert_whole, wait_until


class InterruptedAfterAppend(list[Any]):
    """A list whose next `append` is the last that its caller does."""

    armed = True

    def append(self, item: Any) -> None:
        super().append(item)
        if self.armed:
            self.armed = False
            raise KeyboardInterrupt


def test_a_put_interrupted_before_it_looks_at_the_line_strands_no_waiter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ThreadDriver, "patience", 0.01)
    pool: Pool[object] = Pool("pool", 1, open=object)
    slot = pool.take()
    waiter = threading.Thread(target=lambda: pool.put(pool.take(PATIENCE)))
    waiter.start()
    wait_until(lambda: pool.stats().waiting == 1)
    pool._queue.queue = InterruptedAfterAppend()
    pool._prepare_hot_path()
    with pytest.raises(KeyboardInterrupt):
        pool.put(slot)
    waiter.join()
    assert pool.stats().timeouts == 0
    assert_whole(pool)


def test_a_waiter_that_was_given_a_slot_but_not_woken_finds_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even while the line is headed by one that came before it, and has lost its place once."""
    monkeypatch.setattr(ThreadDriver, "patience", 0.01)
    pool: Pool[object] = Pool("pool", 1, open=object)
    slot = pool.take()
    earlier = ThreadWaiter()
    waiter = threading.Thread(target=lambda: pool.put(pool.take(PATIENCE)))
    waiter.start()
    wait_until(lambda: pool.stats().waiting == 1)

    def struck(_: object) -> None:
        pool._line.appendleft(earlier)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(ThreadWaiter, "wake", struck)
        with pytest.raises(KeyboardInterrupt):
            pool.put(slot)
    assert earlier.wait(PATIENCE / 2)
    pool._give_back(earlier.accept())  # type: ignore[arg-type]
    waiter.join()
    assert_whole(pool)


class RunsBeforePop(list[Any]):
    """A list to which something happens between somebody's look at it and the same one's `pop`."""

    def __init__(self, meanwhile: Callable[[list[Any]], Any]) -> None:
        self.meanwhile = meanwhile

    def pop(self, *args: Any) -> Any:
        if self.meanwhile is not None:
            meanwhile, self.meanwhile = self.meanwhile, None  # type: ignore[assignment]
            meanwhile(self)
        return super().pop(*args)


def test_a_giver_may_take_back_what_the_waiter_that_leaves_has_just_seen() -> None:
    waiter = Waiter()
    waiter._items = RunsBeforePop(list.pop)
    waiter._items.append("a slot")
    assert waiter.abandon() is None


def test_a_take_that_joins_the_line_as_the_pool_closes_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    pool: Pool[object] = Pool("pool", 1, open=object)

    def closes_meanwhile() -> None:
        pool.close(0)

    monkeypatch.setattr(pool._queue, "get_now", closes_meanwhile)
    with pytest.raises(PoolClosed):
        pool.take(PATIENCE)


class Struck(dict[Any, Any]):
    """An exception strikes the first who takes something out of here."""

    armed = True

    def pop(self, *args: Any) -> Any:
        if self.armed:
            self.armed = False
            raise KeyboardInterrupt
        return super().pop(*args)


def test_a_close_that_was_struck_before_it_began_is_made_good() -> None:
    closed: list[object] = []
    pool: Pool[object] = Pool("pool", 1, open=object, close=closed.append)
    pool.prefill()
    pool._by_resource = Struck(pool._by_resource)
    with pytest.raises(KeyboardInterrupt), pool.take():
        raise ZeroDivisionError
    pool.recycle()
    assert len(closed) == 1
    assert_whole(pool)


def test_a_slot_that_was_lost_as_it_opened_is_back_after_a_sweep() -> None:
    pool: Pool[object] = Pool("pool", 1, open=object)
    pool._gate.opening[pool._queue.pop_empty()] = 0.0  # type: ignore[index]  # and nobody has it
    pool.recycle()
    assert_whole(pool)
    pool.put(pool.take(PATIENCE))

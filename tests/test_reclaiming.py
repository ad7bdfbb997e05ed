from __future__ import annotations

import gc
import threading
from typing import Any

import pytest

from queuepool import Pool, reclaiming

from .support import Source, assert_whole


def pool_of(capacity: int = 2, **options: Any) -> Pool[Any]:
    return Pool("pool", capacity, open=object, **options)


def test_nothing_is_taken_back_that_is_queued_leased_or_in_somebodys_hands() -> None:
    pool = pool_of(4)
    with pool.take():
        pass
    leased, owned = pool.take(), pool._queue.pop_any()
    assert reclaiming.reclaim(pool) == 0
    pool._give_back(owned)  # type: ignore[arg-type]
    pool.put(leased)
    assert_whole(pool)


@pytest.mark.parametrize("nested", ["new", "same"])
def test_what_was_lost_or_dropped_is_taken_back_once(nested: str) -> None:
    pool = pool_of(4, nested=nested)
    with pool.take():
        pool._queue.pop_any()
    pool._queue.pop_any()
    pool.take()
    assert reclaiming.reclaim(pool) == 3
    assert reclaiming.reclaim(pool) == 0
    assert_whole(pool)


def test_a_slot_whose_user_keeps_only_the_resource_is_still_leased() -> None:
    pool = pool_of(1)
    resource = pool.acquire()
    gc.collect()
    assert reclaiming.reclaim(pool) == 0
    pool.release(resource)
    assert pool.stats().idle == 1


def test_a_slot_whose_user_keeps_only_the_slot_is_still_leased() -> None:
    pool = pool_of(1)
    slot = pool.take()
    assert reclaiming.reclaim(pool) == 0
    pool.put(slot)


def test_a_slot_that_is_put_back_as_it_is_dropped_is_not_put_back_twice() -> None:
    pool = pool_of(1)
    slot = pool.take()
    pool.put(slot)
    assert reclaiming.drop(pool, slot) == 0
    assert_whole(pool)


def test_two_searches_at_once_find_each_lost_slot_once() -> None:
    pool = pool_of(50)
    for _ in range(50):
        pool._queue.pop_any()
    found: list[int] = []
    threads = [threading.Thread(target=lambda: found.append(reclaiming.reclaim(pool))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    reclaiming.reclaim(pool)
    assert_whole(pool)


def test_what_changes_while_it_is_counted_is_not_taken_for_lost() -> None:
    pool = pool_of(1)
    slot = pool.take()

    class PutBackMeanwhile(dict):  # type: ignore[type-arg]
        """A table of resources in the middle of whose reading the slot is put back and taken again."""

        armed = True

        def get(self, key: Any, default: Any = None) -> Any:
            if self.armed:
                self.armed = False
                pool.put(slot)
                pool.take()
            return super().get(key, default)

    pool._by_resource = PutBackMeanwhile(pool._by_resource)
    assert reclaiming._spare_references(pool, slot) > 1_000_000
    pool.put(slot)


def test_a_long_search_lets_other_threads_run(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    pool = pool_of(2 * reclaiming.BREATH)
    monkeypatch.setattr("queuepool.reclaiming.time.sleep", pauses.append)
    reclaiming.reclaim(pool)
    assert pauses == [0, 0]


def test_searches_take_but_a_small_share_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("queuepool.reclaiming.time.monotonic", lambda: now[0])
    searched: list[float] = []

    def slow_search(pool: Any) -> int:
        searched.append(now[0])
        now[0] += 1.0
        return 0

    pool = pool_of(1)
    monkeypatch.setattr(reclaiming, "reclaim", slow_search)
    for _ in range(100):
        now[0] += 1.0
        reclaiming.heal(pool)
    assert len(searched) <= 100 / reclaiming.PAUSE + 1
    pool._orphaned = True  # somebody has just dropped a lease whose resource was still held
    assert reclaiming.heal(pool) == 0
    assert searched[-1] == now[0] - 1.0


def test_a_lost_slot_that_was_to_retire_goes_for_good() -> None:
    source = Source()
    pool = Pool("pool", 2, open=source.open)
    pool._queue.pop_any()
    with pool.take():
        pool.resize(1)  # the one that is nowhere to be seen is marked, or the leased one
    reclaiming.reclaim(pool)
    assert pool.stats().slots == 1
    assert_whole(pool)


def test_a_slot_lost_by_one_thread_is_found_though_the_one_that_made_it_sleeps() -> None:
    pool = pool_of(1)  # made here, so that a free-threaded build leaves the last reference to this thread
    served: list[Any] = []

    def lose_and_take() -> None:
        pool._queue.pop_any()
        with pool.take(10.0) as slot:
            served.append(slot.resource)

    thread = threading.Thread(target=lose_and_take)
    thread.start()
    thread.join()
    assert served
    assert_whole(pool)


def test_where_counts_may_be_one_too_high_an_exhausted_pool_looks_again_after_a_collection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    collections: list[None] = []
    monkeypatch.setattr(reclaiming, "_DELAYED", True)
    monkeypatch.setattr("queuepool.reclaiming.gc.collect", lambda: collections.append(None))
    pool = pool_of(1)
    assert reclaiming.reclaim(pool) == 0
    assert not collections  # it has a slot to lend
    owned = pool._queue.pop_any()
    assert reclaiming.reclaim(pool) == 0
    assert len(collections) == 1
    del owned
    assert reclaiming.reclaim(pool) == 1
    with pool.take():
        reclaiming.reclaim(pool)
    assert len(collections) == 1  # who holds the slot is known

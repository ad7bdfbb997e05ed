"""What only `Pool`, for threads, owes; what every pool owes is in tests/contract."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from queuepool import Lifecycle, Pool, WrongSlot
from queuepool.outage import Gate

from .support import PATIENCE, Clock, Resource, Source, assert_whole


def line() -> int:
    return sys._getframe(1).f_lineno


def test_a_holder_is_named_with_the_line_of_the_programs_own_code() -> None:
    pool = Pool("pool", open=object)
    places = []

    slot = pool.take()
    places.append((line() - 1, pool.holders()[0].where))
    pool.put(slot)
    with pool.take():
        places.append((line() - 1, pool.holders()[0].where))
    with pool.get():
        places.append((line() - 1, pool.holders()[0].where))
    resource = pool.acquire()
    places.append((line() - 1, pool.holders()[0].where))
    pool.release(resource)
    with pool.lease():
        places.append((line() - 1, pool.holders()[0].where))
    assert [where for _, where in places] == [f"{__file__}:{number}" for number, _ in places]


class Polling(Lifecycle[Resource]):
    """Says of each resource what the test wants: True, False, None for "ask check", or an error."""

    def __init__(self) -> None:
        self.source = Source()
        self.answer: Any = True
        self.checks = 0

    def open(self) -> Resource:
        return self.source.open()

    def poll(self, resource: Resource) -> bool | None:
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer  # type: ignore[no-any-return]

    def check(self, resource: Resource) -> bool:
        self.checks += 1
        return resource not in self.source.dead


def cycle(pool: Pool[Any]) -> Any:
    with pool.get() as resource:
        return resource


def test_a_resource_that_polls_alive_is_lent_without_a_check() -> None:
    lifecycle = Polling()
    pool = Pool("pool", 1, lifecycle=lifecycle, check_after=60.0)
    assert [cycle(pool).number for _ in range(3)] == [1, 1, 1]
    assert lifecycle.checks == 0


def test_a_resource_that_polls_dead_is_replaced() -> None:
    lifecycle = Polling()
    pool = Pool("pool", 1, lifecycle=lifecycle, check_after=60.0)
    cycle(pool)
    lifecycle.answer = False
    assert cycle(pool).number == 2
    assert pool.stats().closes == {"check": 1}
    assert lifecycle.checks == 0


def test_a_resource_whose_poll_cannot_tell_is_checked() -> None:
    lifecycle = Polling()
    pool = Pool("pool", 1, lifecycle=lifecycle, check_after=60.0)
    resource = cycle(pool)
    lifecycle.answer = None
    assert cycle(pool) is resource
    assert lifecycle.checks == 1
    lifecycle.source.dead.add(resource)
    assert cycle(pool).number == 2


def test_a_sweep_closes_what_polls_dead(clock: Clock) -> None:
    lifecycle = Polling()
    pool = Pool("pool", 1, lifecycle=lifecycle, check_after=60.0, clock=clock)
    cycle(pool)
    clock.advance(61.0)
    lifecycle.answer = False
    assert pool.recycle() == 1
    assert lifecycle.checks == 0


def test_a_poll_alone_is_enough_for_a_sweep(clock: Clock) -> None:
    class PollingOnly(Lifecycle[object]):
        def open(self) -> object:
            return object()

        def poll(self, resource: object) -> bool:
            return False

    pool = Pool("pool", 1, lifecycle=PollingOnly(), check_after=60.0, clock=clock)
    cycle(pool)
    clock.advance(61.0)
    assert pool.recycle() == 1


class FailingClock(Clock):
    """Raises at its `countdown`-th call."""

    countdown = -1
    error: type[BaseException] = MemoryError

    def __call__(self) -> float:
        self.countdown -= 1
        if self.countdown == -1:
            raise self.error
        return super().__call__()


@pytest.mark.parametrize("error", [MemoryError, RecursionError, KeyboardInterrupt])
@pytest.mark.parametrize("reset", [None, lambda resource: None])
@pytest.mark.parametrize("calls", range(12))
def test_an_error_in_the_middle_of_anything_keeps_the_slot(
    calls: int, reset: Callable[[object], None] | None, error: type[BaseException]
) -> None:
    clock, source = FailingClock(), Source()
    clock.error = error
    pool = Pool("pool", 1, open=source.open, close=source.close, reset=reset, clock=clock, timeout=0)
    clock.countdown = calls
    for _ in range(4):
        try:
            with pool.take():
                pass
        except error:
            pass
    clock.countdown = -1
    assert pool.recycle() in (0, 1)
    assert_whole(pool)
    with pool.take():
        pass


def test_an_index_error_of_the_clock_is_not_taken_for_an_empty_queue() -> None:
    clock = FailingClock()
    clock.error = IndexError
    pool = Pool("pool", 1, open=object, timeout=0, clock=clock)
    first = cycle(pool)
    clock.countdown = 0
    assert cycle(pool) is first
    assert_whole(pool)


def test_a_take_interrupted_as_it_begins_to_open_leaves_nothing_among_the_opens_in_flight(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begin = Gate.begin

    def interrupted(self: Gate, *args: Any) -> float:
        begin(self, *args)
        raise KeyboardInterrupt

    source = Source()
    pool = Pool("pool", 1, open=source.open)
    with monkeypatch.context() as patched:
        patched.setattr(Gate, "begin", interrupted)
        with pytest.raises(KeyboardInterrupt):
            pool.take()
    assert_whole(pool)
    assert cycle(pool) is source.made[0]


def test_an_option_of_1x_is_taken_by_its_old_name() -> None:
    pool = Pool("pool", 2, maxIdleTime=1.0, maxOpenTime=None, maxUsageCount=3, closeOnException=False, open=object)
    limits = pool._limits
    assert (limits.max_idle_time, limits.max_open_time, limits.max_usage_count) == (1.0, None, 3)
    assert pool.close_on_exception is False


def test_a_subclass_of_either_queue_may_be_given() -> None:
    from queuepool import FifoSlotQueue, LifoSlotQueue

    for kind in (LifoSlotQueue, FifoSlotQueue):
        mine = type("Mine", (kind,), {})
        pool = Pool("pool", 1, open=object, queue_class=mine)
        assert type(pool._queue) is mine
        assert cycle(pool) is cycle(pool)


def test_a_pool_that_nobody_refers_to_any_more_goes_away() -> None:
    import gc
    import weakref

    pool = Pool("pool", 2, open=object)
    cycle(pool)
    ref = weakref.ref(pool)
    del pool
    gc.collect()
    assert ref() is None


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_one_get_that_two_threads_share_gives_back_what_each_has_entered() -> None:
    pool = Pool("pool", 3, open=Source().open)
    shared = pool.get()
    entered, leave = threading.Event(), threading.Event()

    def enter_and_wait() -> None:
        with shared:
            entered.set()
            assert leave.wait(PATIENCE)

    with ThreadPoolExecutor(1) as executor:
        with shared:
            other = executor.submit(enter_and_wait)
            assert entered.wait(PATIENCE)
            with shared:
                assert pool.stats().taken == 3
        (holder,) = pool.holders()
        assert holder.who != f"thread {threading.current_thread().name}"
        leave.set()
        other.result(PATIENCE)
    assert_whole(pool)
    assert pool.stats().taken == 0


def test_a_get_entered_in_one_thread_may_be_left_in_another() -> None:
    """As by a generator that is resumed wherever a thread is free."""
    pool = Pool("pool", 1, open=object)
    handle = pool.get()
    with ThreadPoolExecutor(1) as executor:
        executor.submit(handle.__enter__).result(PATIENCE)
    handle.__exit__(None, None, None)
    assert pool.stats().taken == 0


def test_a_get_that_others_share_is_not_left_by_a_thread_that_has_not_entered_it() -> None:
    pool = Pool("pool", 2, open=object)
    shared = pool.get()
    both = threading.Barrier(3)

    def enter() -> None:
        with shared:
            both.wait(PATIENCE)
            both.wait(PATIENCE)

    with ThreadPoolExecutor(2) as executor:
        work = [executor.submit(enter) for _ in range(2)]
        both.wait(PATIENCE)
        with pytest.raises(WrongSlot, match="not entered by the thread or task that leaves it"):
            shared.__exit__(None, None, None)
        assert pool.stats().taken == 2
        both.wait(PATIENCE)
        for each in work:
            each.result(PATIENCE)
    assert_whole(pool)

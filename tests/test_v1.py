"""Programs for queuepool 1.3.2 run unchanged."""

from __future__ import annotations

import logging
import math
import threading
from datetime import datetime, timedelta
from typing import Any

import pytest

import queuepool
import queuepool.pool
from queuepool import Pool, ResourceManager, WrongSlot
from tests.support import Clock, assert_whole
from tests.v1_support import Plain, Recording, expected_of, output_of, pool_of

GENERIC = ("failing.py", "loops.py", "repairing.py", "workers.py")


@pytest.mark.parametrize("program", GENERIC)
def test_a_program_written_for_1_3_2_prints_what_it_printed_then(program: str) -> None:
    assert output_of(program) == expected_of(program)


# --- names


def test_the_old_import_paths_hold_the_present_classes() -> None:
    assert queuepool.name == "queuepool"
    assert queuepool.pool.Pool is queuepool.Pool
    assert queuepool.pool.ResourceManager is queuepool.ResourceManager


def test_positional_arguments_keep_their_order_and_camel_case_keywords_their_meaning() -> None:
    positional: Pool[Any] = Pool("p", 3, 1.0, 2.0, 3, False)
    keywords: Any = Pool(
        name="p", capacity=3, maxIdleTime=1.0, maxOpenTime=2.0, maxUsageCount=3, closeOnException=False
    )
    for pool in (positional, keywords):
        assert (pool.name, pool.capacity, str(pool)) == ("p", 3, "p")
        assert (pool._maxIdleTime, pool._maxOpenTime, pool._maxUsageCount) == (1.0, 2.0, 3)
        assert pool.closeOnException is False


def test_infinite_limits_and_1e6_are_taken_as_they_were() -> None:
    pool: Any = Pool("p", 1, maxIdleTime=math.inf, maxOpenTime=math.inf, maxUsageCount=1e6)
    assert (pool._maxIdleTime, pool._maxOpenTime, pool._maxUsageCount) == (None, None, 1_000_000)
    unlimited: Any = Pool("p", 1, maxUsageCount=math.inf)
    assert unlimited._maxUsageCount is None
    positional: Any = Pool("p", 1, math.inf, math.inf, 1e6, None)  # type: ignore[arg-type]
    assert (positional._maxIdleTime, positional._maxOpenTime, positional._maxUsageCount) == (None, None, 1_000_000)
    assert positional.closeOnException is False


@pytest.mark.parametrize(("value", "closes"), [(0, False), (1, True), (None, False), (True, True), (KeyError, True)])
def test_close_on_exception_may_be_set_while_the_pool_runs(value: Any, closes: bool) -> None:
    manager = Recording()
    pool = pool_of(manager)
    pool.closeOnException = value
    with pytest.raises(KeyError), pool.take():
        raise KeyError
    assert ("close" in manager.calls) is closes
    made: Any = Pool("made", 1, closeOnException=value)
    assert made.close_on_exception == pool.close_on_exception == pool.closeOnException


def test_an_option_that_no_release_knew_is_refused_with_a_guess_at_what_was_meant() -> None:
    with pytest.raises(TypeError, match="no option 'maxidletime'; did you mean 'max_idle_time'"):
        Pool("p", maxidletime=3)
    with pytest.raises(TypeError, match=r"no option 'xyzzy'$"):
        Pool("p", xyzzy=3)


def test_start_recycler_twice_is_once() -> None:
    pool = pool_of(Plain("a"))
    before = threading.active_count()
    pool.startRecycler(60)
    recycler = pool._recycler
    pool.startRecycler(interval=5)
    assert pool._recycler is recycler
    assert threading.active_count() == before + 1
    pool.stop_recycler()


def test_the_clock_of_a_manager_may_be_read_as_dates() -> None:
    clock = Clock()
    manager = Plain("a")
    assert (manager._isOpen, manager._lastOpened, manager._lastUsed, manager._usageCount) == (False, None, None, None)
    pool = pool_of(manager, clock=clock)

    def seconds_ago(instant: datetime | None) -> float:
        assert instant is not None
        return round((datetime.now() - instant) / timedelta(seconds=1))

    pool.put(pool.take())
    clock.advance(50)
    assert (manager._isOpen, manager._usageCount, seconds_ago(manager._lastUsed)) == (True, 1, 50)
    slot = pool.take()
    clock.advance(7)
    assert (manager._usageCount, seconds_ago(manager._lastUsed), seconds_ago(manager._lastOpened)) == (2, 7, 0)
    slot.close()
    pool.put(slot)
    assert (manager._isOpen, manager._usageCount, manager._lastUsed) == (False, 0, manager._lastOpened)


def test_a_manager_may_keep_the_clock_by_itself() -> None:
    class Own(ResourceManager):
        def open(self) -> None:
            self.resource = object()
            self._isOpen = True
            self._lastOpened = self._lastUsed = datetime.now()
            self._usageCount = 0

        def close(self) -> None:
            super().close()
            self._lastOpened = self._lastUsed = self._usageCount = None

    manager = Own("a")
    pool = pool_of(manager)
    with pool.take() as slot:
        resource = slot.resource
        assert manager._lastOpened is not None
        assert abs(datetime.now() - manager._lastOpened) < timedelta(minutes=1)
    with pool.take() as slot:
        assert (slot.resource, manager._usageCount) == (resource, 2)
        slot.close()
        assert [getattr(manager, name) for name in ("_lastOpened", "_usageCount")] == [None, None]
    with pool.take() as slot:
        assert slot.resource is not resource


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("_lastOpened", datetime(2001, 1, 1), "max_open_time"),
        ("_usageCount", 1000, "max_usage_count"),
    ],
)
def test_a_program_may_make_a_manager_that_it_holds_due(name: str, value: Any, reason: str) -> None:
    manager = Recording()
    pool = pool_of(manager)
    with pool.take():
        setattr(manager, name, value)
        assert getattr(manager, name) == value
    assert pool.stats().closes == {reason: 1}
    assert manager.calls == ["takeRepair", "open", "close", "putRepair"]


@pytest.mark.parametrize(("name", "reason"), [("_lastOpened", "max_open_time"), ("_lastUsed", "max_idle_time")])
def test_a_program_may_date_an_idle_manager_back(name: str, reason: str) -> None:
    manager, younger = Plain("a"), Plain("b")
    pool = pool_of(manager, younger, clock=Clock(), jitter=0)
    slots = [pool.take(), pool.take()]
    for slot in slots:
        pool.put(slot)
    setattr(manager, name, getattr(manager, name) - timedelta(seconds=290))
    assert pool.recycle() == 0, "the limit is 300 seconds"
    setattr(manager, name, getattr(manager, name) - timedelta(seconds=20))
    assert pool.recycle() == 1
    assert (manager._isOpen, younger._isOpen) == (False, True)
    assert pool.stats().closes == {reason: 1}


def test_a_use_count_that_the_program_sets_hides_no_use_from_put_repair() -> None:
    manager = Recording()
    pool = pool_of(manager)
    for _ in range(3):
        pool.put(pool.take())
    manager.calls.clear()
    with pool.take() as slot:
        manager._usageCount = 0
        slot.close()
    assert manager.calls == ["takeRepair", "close", "putRepair"]


def test_the_capacity_may_be_set_as_an_attribute() -> None:
    class Sized(Pool[Any]):
        def __init__(self, capacity: int) -> None:
            self.capacity = capacity  # type: ignore[misc]
            super().__init__("sized", self.capacity)

    pool = Sized(1)
    pool.put(Plain("a"))
    pool.capacity = 2  # type: ignore[misc]
    pool.put(Plain("b"))
    assert (pool.capacity, pool.stats().slots) == (2, 2)
    pool.capacity = 1  # type: ignore[misc]
    assert (pool.capacity, pool.stats().slots) == (1, 1)


def test_the_recyclers_thread_may_be_looked_at() -> None:
    pool = pool_of(Plain("a"))
    assert pool._recyclerThread is None
    pool.startRecycler(60)
    thread = pool._recyclerThread
    assert thread is not None
    assert thread.is_alive()
    pool.stop_recycler()


def test_a_subclass_may_have_attributes_of_names_that_the_pool_uses_now() -> None:
    class Own(Recording):
        state: Any
        open_time: Any
        idle_time: Any

        def __init__(self) -> None:
            super().__init__()
            self.state, self.opened, self.closed, self.open_time, self.idle_time = "new", 0, 0, 5, 6

    manager = Own()
    pool = pool_of(manager)
    with pytest.raises(KeyError), pool.take():
        raise KeyError
    pool.put(pool.take())
    assert (manager.state, manager.opened, manager.closed) == ("new", 0, 0)
    assert Plain("other").state == "empty"
    assert Plain.state is vars(ResourceManager)["state"]
    assert_whole(pool)


# --- opening and closing


def test_a_manager_opens_at_its_first_take_and_stays_open() -> None:
    manager = Recording()
    pool = pool_of(manager)
    pool.put(pool.take())
    assert manager.calls == ["takeRepair", "open", "putRepair"]
    pool.put(pool.take())
    assert manager.calls[3:] == ["takeRepair", "putRepair"]


def test_a_manager_that_was_opened_before_it_was_put_in_is_lent_as_it_is() -> None:
    manager = Recording()
    manager.open()
    resource = manager.resource
    pool = pool_of(manager)
    assert pool.take().resource is resource
    assert manager.calls == ["takeRepair"]


def test_repairs_that_are_not_overridden_leave_the_short_way_open() -> None:
    pool = pool_of(Plain("a"))
    pool.put(pool.take())
    assert pool._most_uses > 1
    assert pool._quiet_time > 1
    lifecycle: Any = pool.take().lifecycle
    assert not lifecycle.offers("poll")


def test_a_repair_may_be_given_to_one_manager_alone() -> None:
    manager, repaired = Plain("a"), []
    manager.putRepair = lambda: repaired.append(manager.name)  # type: ignore[method-assign]
    pool = pool_of(manager)
    repaired.clear()
    pool.put(pool.take())
    assert repaired == ["a"]


def test_closing_by_hand_lets_the_slot_open_anew_and_counts_each_resource_once() -> None:
    managers = [Recording("a"), Recording("b")]
    pool = pool_of(*managers)
    for _ in range(5):
        slot = pool.take()
        slot.close()
        pool.put(slot)
        assert_whole(pool)
    assert sum(manager.calls.count("close") for manager in managers) == 5
    assert pool.stats().closes == {"asked": 5}


def test_a_manager_that_its_holder_closed_and_opened_again_is_closed_at_put() -> None:
    manager = Recording()
    pool = pool_of(manager)
    with pool.take() as slot:
        slot.close()
        manager.open()
        assert slot.resource is manager.resource is not None
    assert manager.calls == ["takeRepair", "open", "close", "open", "close", "putRepair"]
    assert not manager._isOpen
    assert_whole(pool)


def test_a_resource_that_its_holder_replaced_leaves_no_trace_of_the_old_one() -> None:
    manager = Plain("a")
    pool = pool_of(manager)
    with pool.take() as slot:
        slot.resource = object()
        slot.condemn("asked")
    assert pool._by_resource == {}
    assert_whole(pool)


def test_managers_that_keep_their_resource_elsewhere_are_lent_too() -> None:
    class Elsewhere(ResourceManager):
        def open(self) -> None:
            self.door = "open"  # and forgets super().open()

    managers = [Elsewhere("a"), Elsewhere("b")]
    pool = pool_of(*managers)
    slots = [pool.take(), pool.take()]
    assert [manager.door for manager in managers] == ["open", "open"]
    assert all(manager._isOpen for manager in managers)
    for slot in slots:
        pool.put(slot)
    pool.recycle_all()
    assert not any(manager._isOpen for manager in managers)


# --- repairs


def test_put_repair_is_called_once_at_every_put_and_at_no_sweep() -> None:
    clock = Clock()
    manager = Recording()
    pool = pool_of(manager, clock=clock, maxUsageCount=3)
    for _ in range(3):
        pool.put(pool.take())
    assert manager.calls.count("putRepair") == 3
    assert manager.calls[-2:] == ["close", "putRepair"]  # in this order 1.x closed what was due, and then repaired
    pool.put(pool.take())
    clock.advance(10_000)
    manager.calls.clear()
    assert pool.recycle() == 1
    assert manager.calls == ["close"]


def test_put_repair_is_called_at_the_first_put_too() -> None:
    manager = Recording()
    Pool("old", 1).put(manager)
    assert manager.calls == ["putRepair"]


def test_put_repair_may_ask_the_pool_from_its_first_call_on() -> None:
    asked = []

    class Asking(Plain):
        def putRepair(self) -> None:
            assert self._pool is not None
            asked.append(self._pool.name)

    Pool[Any]("old", 1).put(Asking("a"))
    assert asked == ["old"]


def test_a_manager_whose_first_put_repair_fails_is_not_taken_in() -> None:
    pool: Pool[Any] = Pool("old", 1)
    manager = Recording(putRepair=OSError("not now"))
    with pytest.raises(OSError, match="not now"):
        pool.put(manager)
    assert pool.stats().slots == 0
    manager.failing.clear()
    pool.put(manager)
    assert pool.take() is manager


def test_put_repair_is_called_after_a_pause_too() -> None:
    manager = Recording()
    pool = pool_of(manager)
    pool.put(pool.take())
    pool.pause()
    pool.resume()
    manager.calls.clear()
    pool.put(pool.take())
    assert manager.calls == ["takeRepair", "putRepair"]


@pytest.mark.parametrize("closes", [True, False])
def test_an_exception_of_the_user_reaches_put_repair_and_the_user(closes: bool) -> None:
    manager = Recording()
    pool = pool_of(manager, closeOnException=closes)
    with pytest.raises(KeyError, match="mine"), pool.take():
        raise KeyError("mine")
    assert manager.calls == ["takeRepair", "open", *(["close"] if closes else []), "putRepair"]
    assert_whole(pool)


def test_a_subclass_of_pool_sees_every_put() -> None:
    puts = []

    class Counting(Pool[Any]):
        def put(self, slot: Any) -> None:
            puts.append(slot.name)
            super().put(slot)

    pool = Counting("counting", 1)
    pool.put(Plain("a"))
    with pytest.raises(KeyError), pool.take():
        raise KeyError
    with pool.take():
        pass
    assert puts == ["a"] * 3


def test_an_override_of_put_sees_that_an_exception_has_closed_the_manager() -> None:
    seen = []

    class Looking(Pool[Any]):
        def put(self, slot: Any) -> None:
            seen.append(slot._isOpen)
            super().put(slot)

    manager = Recording()
    pool = Looking("looking", 1)
    pool.put(manager)
    with pytest.raises(KeyError), pool.take():
        raise KeyError
    with pool.take():
        pass
    assert seen == [False, False, True]
    assert manager.calls == ["putRepair", "takeRepair", "open", "close", "putRepair", "takeRepair", "open", "putRepair"]
    assert pool.stats().closes == {"exception": 1}
    assert_whole(pool)


def test_a_close_that_fails_after_an_exception_hides_it_from_nobody_and_is_tried_once() -> None:
    manager = Recording(close=OSError("gone"))
    pool = pool_of(manager)
    with pytest.raises(KeyError), pool.take():
        raise KeyError
    assert manager.calls == ["takeRepair", "open", "close"]
    assert (pool.stats().close_errors, manager._isOpen) == (1, False)
    assert_whole(pool)


def test_an_exception_leaves_a_manager_open_that_the_same_thread_has_taken_twice() -> None:
    manager = Recording()
    pool = pool_of(manager, nested="same")
    with pool.take() as outer:
        with pytest.raises(KeyError), pool.take():
            raise KeyError
        assert outer.resource is not None
        assert manager._isOpen
    assert manager.calls[-2:] == ["close", "putRepair"]
    assert pool.stats().closes == {"exception": 1}


# --- replacing managers


def test_a_new_manager_takes_the_place_of_one_that_is_never_put_back() -> None:
    pool = pool_of(Plain("broken"))
    pool.take()
    new = Plain("new")
    pool.put(new)
    with pool.take(timeout=0) as slot:
        assert slot is new
    pool.recycle()  # finds that nobody has the broken one any more
    with pool.take(timeout=0) as slot:
        assert slot is new
    assert_whole(pool)
    assert pool.stats().slots == pool.capacity == 1


def test_a_manager_that_was_replaced_and_comes_back_all_the_same_is_closed_and_goes() -> None:
    old = Recording()
    pool = pool_of(old)
    with pool.take():
        pool.put(Plain("new"))
        assert old._isOpen
    assert old.calls == ["takeRepair", "open", "close", "putRepair"]
    assert pool.stats().closes == {"replaced": 1}
    assert pool.stats().slots == 1
    with pytest.raises(WrongSlot, match="all 1 slots are there"):
        pool.put(Plain("one too many"))
    assert pool.take().name == "new"


@pytest.mark.parametrize(
    ("closed", "replaced"), [("theirs", "theirs"), (None, "ours, older")], ids=["closed", "of this thread, the oldest"]
)
def test_what_a_new_manager_replaces_is_what_its_holder_closed_or_else_one_of_the_callers(
    closed: str | None, replaced: str
) -> None:
    clock = Clock()
    managers = {name: Plain(name) for name in ("ours", "ours, older", "theirs")}
    pool = pool_of(*managers.values(), clock=clock)
    other = threading.Thread(target=pool.take)
    other.start()
    other.join()
    for _ in range(2):
        clock.advance(1)
        pool.take()
    assert [holder.slot for holder in pool.holders()] == ["theirs", "ours, older", "ours"]
    if closed:
        managers[closed].close()
    pool.put(Plain("new"))
    assert [name for name, manager in managers.items() if manager.retiring] == [replaced]
    assert pool.take(timeout=0).name == "new"


def test_of_two_managers_put_at_once_where_one_fits_one_retires() -> None:
    class Slow(Plain):
        def putRepair(self) -> None:
            if self.name == "first":
                pool.put(Slow("second"))

    pool: Pool[Any] = Pool("old", 1)
    pool.put(Slow("first"))
    assert [slot.name for slot in pool._slots if not slot.retiring] == ["second"]
    for _ in range(2):
        with pool.take(timeout=0) as slot:
            assert slot.name == "second"
    assert pool.recycle() == 0
    assert_whole(pool)


# --- repairs that do more


@pytest.mark.parametrize("hook", ["takeRepair", "putRepair"])
def test_a_repair_may_close(hook: str) -> None:
    manager = Recording()
    pool = pool_of(manager)
    pool.put(pool.take())
    setattr(manager, hook, lambda: manager.close() if manager._isOpen else None)
    for opens in (2, 3):
        pool.put(pool.take())
        assert manager.calls.count("open") == (opens if hook == "takeRepair" else opens - 1)
    assert_whole(pool)


def test_a_repair_that_only_says_so_closes_too() -> None:
    manager = Plain("a")
    manager.putRepair = lambda: setattr(manager, "_isOpen", False)  # type: ignore[method-assign]
    pool = pool_of(manager)
    first = pool.take().resource
    pool.put(manager)
    assert not manager.is_open
    assert pool.take().resource is not first


def test_take_repair_may_reconnect_by_itself() -> None:
    manager = Recording()
    pool = pool_of(manager)
    pool.put(pool.take())

    def reconnect() -> None:
        manager.close()
        manager.open()

    manager.takeRepair = reconnect  # type: ignore[method-assign]
    with pool.take() as slot:
        assert slot.resource is manager.resource is not None
        assert slot.is_open
    assert_whole(pool)


def test_a_manager_shows_its_name_and_state_and_not_its_resource() -> None:
    manager = Plain("a")
    pool = pool_of(manager)
    with pool.take() as slot:
        assert str(slot) == "a"
        assert repr(slot) == "<Plain a: leased, 1 uses>"


def test_what_a_manager_hides_is_in_no_log(caplog: pytest.LogCaptureFixture) -> None:
    class Secretive(Recording):
        def _hide(self, text: str) -> str:
            return text.replace("hunter2", "***")

    pool = pool_of(Secretive(open=OSError("wrong password hunter2")))
    with caplog.at_level(logging.DEBUG), pytest.raises(OSError, match="hunter2"):
        pool.take()
    assert "wrong password ***" in caplog.text
    assert "hunter2" not in caplog.text
    assert pool.stats().last_open_error == "OSError: wrong password ***"

"""What queuepool 1.3.2 lost or hid in its programs is kept and told now."""

from __future__ import annotations

import gc
import os
import threading
import weakref
from typing import Any

import pytest

from queuepool import BadResource, Pool, PoolClosed, ResourceManager, WrongSlot
from tests.support import PATIENCE, assert_whole
from tests.v1_support import Plain, Recording, pool_of


def test_an_exception_after_close_is_not_hidden() -> None:
    manager = Recording()
    pool = pool_of(manager)
    slot = pool.take()
    slot.close()
    with pytest.raises(KeyError, match="mine"), slot:
        raise KeyError("mine")
    assert manager.calls.count("close") == 1
    assert_whole(pool)


def test_an_exception_after_put_is_not_hidden_either(caplog: pytest.LogCaptureFixture) -> None:
    pool = pool_of(Recording())
    slot = pool.take()
    pool.put(slot)
    with pytest.raises(KeyError, match="mine"), slot:
        raise KeyError("mine")
    assert "was put back before its `with` ended" in caplog.text
    assert_whole(pool)


@pytest.mark.parametrize("first_super", [True, False])
def test_a_failed_open_loses_no_slot_and_lends_nothing_half_open(first_super: bool) -> None:
    class Failing(ResourceManager):
        attempts = 0

        def open(self) -> None:
            if first_super:
                super().open()
            Failing.attempts += 1
            self.resource = object()
            if Failing.attempts < 4:
                raise ConnectionRefusedError(f"attempt {Failing.attempts}")
            super().open()

    pool = pool_of(Failing("a"), Failing("b"))
    for number in (1, 2, 3):
        with pytest.raises(ConnectionRefusedError, match=f"attempt {number}"):
            pool.take()
        assert_whole(pool)
        assert all(slot.resource is None for slot in pool._slots)
    assert pool.take().resource is not None


def test_each_taker_gets_the_error_of_its_own_attempt_and_no_other() -> None:
    manager = Recording(open=ConnectionRefusedError("no"))
    pool = pool_of(manager, Recording(open=ConnectionRefusedError("no")))
    errors = []

    def taker() -> None:
        try:
            pool.take()
        except Exception as error:
            errors.append(type(error))

    threads = [threading.Thread(target=taker) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert errors == [ConnectionRefusedError] * 6
    assert not pool.stats().unreachable


@pytest.mark.parametrize("hook", ["close", "putRepair"])
def test_what_fails_at_put_is_logged_and_loses_no_slot(hook: str, caplog: pytest.LogCaptureFixture) -> None:
    manager = Recording()
    pool = pool_of(manager)
    manager.failing = {hook: OSError("trouble")}
    with pytest.raises(KeyError), pool.take():
        raise KeyError
    assert "trouble" in caplog.text
    assert not manager._isOpen
    manager.failing = {}
    assert pool.take() is manager
    assert manager.resource is not None


def test_a_put_repair_that_fails_closes_and_is_not_called_again() -> None:
    manager = Recording()
    pool = pool_of(manager)
    manager.failing = {"putRepair": OSError("trouble")}
    pool.put(pool.take())
    assert manager.calls == ["takeRepair", "open", "putRepair", "close"]
    assert pool.stats().reset_errors == 1


def test_a_take_repair_that_fails_replaces_the_resource(caplog: pytest.LogCaptureFixture) -> None:
    manager = Recording()
    pool = pool_of(manager)
    pool.put(pool.take())
    manager.failing = {"takeRepair": OSError("trouble")}
    with pytest.raises(OSError, match="trouble"):
        pool.take()
    assert manager.calls.count("close") == 1
    manager.failing = {}
    pool.put(pool.take())
    assert_whole(pool)


def test_a_second_put_and_a_foreign_one_change_nothing() -> None:
    pool, other = pool_of(Plain("a")), pool_of(Plain("b"))
    slot = pool.take()
    with pytest.raises(WrongSlot, match="pool old and is leased"):
        other.put(slot)
    pool.put(slot)
    with pytest.raises(WrongSlot, match="put back before"):
        pool.put(slot)
    with pytest.raises(WrongSlot, match="all 1 slots are there"):
        pool.put(Plain("more"))
    assert_whole(pool)
    assert_whole(other)


def test_a_pool_that_opens_its_resources_itself_takes_no_manager_in() -> None:
    with pytest.raises(WrongSlot, match="makes its own slots"):
        Pool("new", 1, open=object).put(Plain("a"))


def test_a_manager_must_call_the_constructor_of_its_base() -> None:
    class Careless(ResourceManager):
        def __init__(self) -> None:
            pass

    with pytest.raises(BadResource, match="must call super"):
        Pool("old", 1).put(Careless())


def test_a_closed_pool_takes_no_manager_in() -> None:
    pool: Pool[Any] = Pool("old", 1)
    pool.close()
    with pytest.raises(PoolClosed):
        pool.put(Plain("a"))


def test_a_manager_that_was_taken_and_dropped_comes_back(caplog: pytest.LogCaptureFixture) -> None:
    manager = Recording()
    pool = pool_of(manager)
    del manager
    pool.take()
    assert pool.recycle() == 0
    assert "was taken and never put back" in caplog.text
    slot = pool.take(timeout=0)
    assert slot.calls[-2:] == ["putRepair", "takeRepair"]  # type: ignore[attr-defined]


def test_a_dropped_pool_and_its_managers_go_at_once() -> None:
    gc.collect()
    gc.disable()
    try:
        manager = Recording()
        pool = pool_of(manager)
        pool.put(pool.take())
        gone = weakref.ref(pool), weakref.ref(manager)
        pool.recycle()
        del pool, manager
        # The pool and its slots refer to one another, so the collector takes them; no thread holds them.
        gc.collect()
        assert [ref() for ref in gone] == [None, None]
    finally:
        gc.enable()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # other tests' daemon threads may linger
@pytest.mark.parametrize("held", [True, False])
def test_a_forked_child_opens_its_own_and_leaves_the_parents_alone(held: bool) -> None:
    manager = Recording()
    pool = pool_of(manager)
    slot = pool.take()
    if not held:
        pool.put(slot)
    resource = manager.resource
    manager.calls.clear()
    child = os.fork()
    if not child:
        status = 1
        try:
            if held:
                pool.put(slot)
            with pool.take(timeout=5) as mine:
                fresh = mine.resource is not None and mine.resource is not resource
            status = 0 if fresh and "close" not in manager.calls and "open" in manager.calls else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert manager.resource is resource
    assert manager.calls == []

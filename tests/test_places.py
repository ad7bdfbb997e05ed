from __future__ import annotations

import asyncio
import gc
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from queuepool import Exhausted, Pool, Slot
from queuepool.places import holder_of, place

from .support import FREE_THREADED, PATIENCE

looks_at_stacks = pytest.mark.skipif(FREE_THREADED, reason="without the GIL nobody may look at the stack of a thread")


def test_a_place_is_the_file_and_line_of_the_instruction() -> None:
    frame = sys._getframe()
    line = frame.f_lineno + 1
    found = place(frame.f_code, frame.f_lasti)
    assert found == f"{__file__}:{line}"


def test_the_place_of_the_first_instruction_is_in_the_function_and_of_the_last_too() -> None:
    code = test_a_place_is_the_file_and_line_of_the_instruction.__code__
    first, last = (int(place(code, offset).rpartition(":")[2]) for offset in (0, len(code.co_code)))
    assert code.co_firstlineno <= first <= last <= code.co_firstlineno + 5


def who(owner: Any) -> str:
    return holder_of(Slot("a"), (sys._getframe().f_code, 0, owner, 0.0), 0.0).who


def test_a_thread_is_known_by_its_name_while_it_runs() -> None:
    assert who(threading.get_ident()) == f"thread {threading.current_thread().name}"
    thread = threading.Thread(target=lambda: None, name="worker-3")
    thread.start()
    ident = thread.ident
    thread.join()
    assert who(ident) == f"thread {ident} (ended)"


class Worker:
    """Takes, in a thread of its own, and stays alive until it is told to end."""

    def __init__(self, target: Callable[[Worker], None]) -> None:
        self.taken, self.over = threading.Event(), threading.Event()
        self.thread = threading.Thread(target=target, args=(self,), name="worker-3", daemon=True)
        self.thread.start()

    def stay(self) -> None:
        self.taken.set()
        assert self.over.wait(PATIENCE)

    def end(self) -> None:
        self.over.set()
        self.thread.join()


def held_by(target: Callable[[Worker], None], pool: Pool[Any]) -> str:
    """Whom the pool names while a worker is at what `target` does."""
    worker = Worker(target)
    assert worker.taken.wait(PATIENCE)
    try:
        (holder,) = pool.holders()
        return holder.who
    finally:
        worker.end()


def test_a_thread_that_has_not_left_the_function_that_took_is_the_holder() -> None:
    pool = Pool("orders", 1, open=object)

    def work(worker: Worker) -> None:
        with pool.take():
            worker.stay()

    assert held_by(work, pool) == "thread worker-3"


@looks_at_stacks
def test_a_thread_that_may_have_its_identifier_from_the_holder_is_not_accused() -> None:
    pool = Pool("orders", 1, open=object)

    def work(worker: Worker) -> None:
        kept = (lambda: pool.take())()  # for all the pool can tell, a thread that has ended did this
        worker.stay()
        pool.put(kept)

    assert held_by(work, pool) == "thread worker-3 (or one that ended before it)"


def test_where_stacks_cannot_be_looked_at_the_name_has_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = Pool("orders", 1, open=object)

    def work(worker: Worker) -> None:
        kept = (lambda: pool.take())()
        worker.stay()
        pool.put(kept)

    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: False, raising=False)
    assert held_by(work, pool) == "thread worker-3"


@looks_at_stacks
def test_one_that_waits_for_a_slot_where_an_ended_thread_took_it_is_not_accused_of_having_it() -> None:
    pool = Pool("orders", 1, open=object)
    kept, errors = [], []

    def work() -> None:
        try:
            kept.append(pool.take(timeout=0))
        except Exhausted as error:
            errors.append(str(error))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    ((code, offset, _, since),) = pool._leases.values()

    def successor() -> None:
        # As where the system gives it the same identifier, which it does nearly always.
        pool._leases[kept[0]] = code, offset, threading.get_ident(), since
        work()

    thread = threading.Thread(target=successor, name="innocent")
    thread.start()
    thread.join()
    assert "oldest holder: thread innocent (or one that ended before it), " in errors[0]


def test_to_ask_for_the_holders_leaves_nothing_behind_that_refers_to_slots() -> None:
    gc.collect()
    gc.disable()
    try:
        pool = Pool("orders", 1, open=object)
        ref = weakref.ref(pool.take())
        pool.holders()
        assert pool.recycle() == 0
        assert pool.stats().reclaimed == 1
        pool.close()
        assert ref() is None
    finally:
        gc.enable()


def test_a_task_is_known_by_its_name_while_it_lives() -> None:
    async def ask() -> weakref.ref[asyncio.Task[Any]]:
        task = asyncio.current_task()
        assert task is not None
        task.set_name("fetcher")
        assert who(weakref.ref(task)) == "task fetcher"
        return weakref.ref(task)

    ref = asyncio.run(ask())
    gc.collect()
    assert ref() is None
    assert who(ref) == "a task (ended)"

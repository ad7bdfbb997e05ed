from __future__ import annotations

import asyncio
import gc
import sys
import threading
import weakref
from typing import Any

from queuepool.places import place, who


def test_a_place_is_the_file_and_line_of_the_instruction() -> None:
    frame = sys._getframe()
    line = frame.f_lineno + 1
    found = place(frame.f_code, frame.f_lasti)
    assert found == f"{__file__}:{line}"


def test_the_place_of_the_first_instruction_is_in_the_function_and_of_the_last_too() -> None:
    code = test_a_place_is_the_file_and_line_of_the_instruction.__code__
    first, last = (int(place(code, offset).rpartition(":")[2]) for offset in (0, len(code.co_code)))
    assert code.co_firstlineno <= first <= last <= code.co_firstlineno + 5


def test_a_thread_is_known_by_its_name_while_it_runs() -> None:
    assert who(threading.get_ident()) == f"thread {threading.current_thread().name}"
    thread = threading.Thread(target=lambda: None, name="worker-3")
    thread.start()
    ident = thread.ident
    thread.join()
    assert who(ident) == f"thread {ident} (ended)"


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

"""Errors of the interpreter itself, and its end."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from queuepool import Pool

from .support import FREE_THREADED, Source, assert_whole

ROOT = Path(__file__).parents[1]


def test_a_recursion_that_runs_out_anywhere_in_take_or_put_loses_no_slot() -> None:
    source = Source()
    pool = Pool("pool", 2, open=source.open, close=source.close, reset=source.reset, max_usage_count=2)
    failures = 0

    def at_depth(depth: int) -> None:
        if depth:
            at_depth(depth - 1)
        else:
            with pool.take(0):
                pass

    limit = sys.getrecursionlimit()
    here = len(_frames())
    try:
        sys.setrecursionlimit(here + 120)
        for depth in range(60, 118):
            try:
                at_depth(depth)
            except RecursionError:
                failures += 1
    finally:
        sys.setrecursionlimit(limit)
    assert failures
    gc.collect()
    pool.recycle()
    pool.recycle()
    assert_whole(pool)
    with pool.take(0), pool.take(0):
        pass


def _frames() -> list[Any]:
    frame: Any = sys._getframe()
    frames = []
    while frame is not None:
        frames.append(frame)
        frame = frame.f_back
    return frames


def python(script: str, *, seconds: float = 20.0) -> subprocess.CompletedProcess[str]:
    """Run `script` in an interpreter of its own, which must end in time."""
    return subprocess.run(
        [sys.executable, "-X", "dev", "-c", textwrap.dedent(script)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )


@pytest.mark.skipif(FREE_THREADED, reason="the free-threaded 3.13 crashes where a thread cannot start")
def test_an_allocation_that_fails_anywhere_in_take_or_put_loses_no_slot() -> None:
    pytest.importorskip("_testcapi", reason="CPython's own test module makes allocations fail")
    done = python("""
        import logging, _testcapi
        from queuepool import Pool

        logging.disable(logging.CRITICAL)
        pool = Pool("pool", 2, open=object, reset=lambda resource: None, max_usage_count=2)

        def cycle():
            slot = pool.take(0)
            pool.put(slot)

        cycle()
        failures = 0
        for start in range(1, 250):
            _testcapi.set_nomemory(start, start + 1)
            try:
                cycle()
            except MemoryError:
                failures += 1
            except Exception:
                pass
            finally:
                _testcapi.remove_mem_hooks()
            pool.recycle()  # finds what was lost where nothing could guard it
        with pool.take(0), pool.take(0):
            stats = pool.stats()
            print(failures > 20, stats.slots, stats.taken, stats.idle)
    """)
    assert done.stdout.split() == ["True", "2", "2", "0"], done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="has no limit on file descriptors to set")
def test_a_process_that_has_run_out_of_file_descriptors_still_hears_why() -> None:
    done = python("""
        import os, resource
        from queuepool import Exhausted, Pool, Unreachable

        def open_null():
            try:
                return os.open(os.devnull, os.O_RDONLY)
            except OSError as error:
                raise OSError(error.errno, "none left") from None

        pool, full = Pool("files", 2, open=open_null, close=os.close), Pool("full", 1, open=object)
        held, other = pool.take(), full.take()
        resource.setrlimit(resource.RLIMIT_NOFILE, (held.resource + 1, held.resource + 1))
        try:
            pool.take(0)
        except Unreachable as error:
            print(error)
        try:
            full.take(0)
        except Exhausted as error:
            print(error)
        print(full.holders()[0].where, pool.stats().open_errors)
    """)
    unreachable, exhausted, holders = done.stdout.splitlines()
    assert unreachable.endswith("the last failed open: OSError: [Errno 24] none left"), done.stderr
    assert holders == "<string>:12 1"
    assert "thread MainThread" in exhausted
    assert "<string>:12" in exhausted


@pytest.mark.parametrize("closed", [False, True])
def test_the_interpreter_ends_at_once_and_in_silence_whatever_the_pool_is_at(closed: bool) -> None:
    done = python(f"""
        import threading, time
        from queuepool import Lifecycle, Pool

        class Slow(Lifecycle):
            may_hang = True

            def open(self):
                if opened:
                    threading.Event().wait()  # hangs for ever
                opened.append(1)
                return object()

        opened = []
        pool = Pool("pool", 2, lifecycle=Slow(), timeout=60.0)
        pool.start_recycler(0.001)
        held, lease = pool.take(), None
        takers = [threading.Thread(target=pool.take, daemon=True) for _ in range(4)]
        for taker in takers:
            taker.start()
        while pool.stats().waiting < 3:
            time.sleep(0.001)
        other = Pool("other", 1, open=list)
        lease = other.lease()
        lease.append(lease)  # a cycle that only the end breaks
        if {closed}:
            pool.close(0)
            other.close(0)
        print("ends")
    """)
    if closed:  # the takers' threads are told that the pool was closed, and say so
        assert done.stdout == "ends\n"
        assert done.returncode == 0
    else:
        assert (done.stdout, done.stderr, done.returncode) == ("ends\n", "", 0)

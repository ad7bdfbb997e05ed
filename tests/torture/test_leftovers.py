"""What fails leaves nothing behind that only the garbage collector would free: until it ran, `reclaim` would see users."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from queuepool import Lifecycle, Pool
from queuepool.aio import AsyncPool

from ..support import wait_until


class Hanging(Lifecycle[object]):
    """Its steps run apart from their callers, and its opens fail."""

    may_hang = True

    def open(self) -> object:
        raise ValueError("nothing to open")


class Local:
    """What a caller has in a variable."""


@pytest.fixture(autouse=True)
def _no_collector() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


def take_in_vain(pool: Pool[Any]) -> weakref.ref[Local]:
    local = Local()
    with contextlib.suppress(ValueError):
        pool.take(5.0)
    return weakref.ref(local)


async def await_in_vain(pool: AsyncPool[Any]) -> weakref.ref[Local]:
    local = Local()
    with contextlib.suppress(ValueError):
        await pool.take(5.0)
    return weakref.ref(local)


def test_a_failed_open_in_a_thread_of_its_own_leaves_no_cycle_of_frames() -> None:
    seen = take_in_vain(Pool("pool", 1, lifecycle=Hanging()))
    wait_until(lambda: seen() is None, 1.0)


def test_a_failed_open_in_a_task_of_its_own_leaves_no_cycle_of_frames() -> None:
    async def fail() -> object:
        await asyncio.sleep(0)
        raise ValueError("nothing to open")

    async def main() -> None:
        seen = await await_in_vain(AsyncPool("pool", 1, open=fail))
        await asyncio.sleep(0.01)
        assert seen() is None

    asyncio.run(main())


def test_a_slot_whose_close_failed_is_found_when_its_next_user_drops_it() -> None:
    def fail(resource: object) -> None:
        raise OSError("close failed")

    pool = Pool("pool", 1, open=Local, close=fail, max_usage_count=1)
    with pool.take():
        pass  # it is closed at put, and the slot stays
    pool.take()
    for _ in range(2):
        pool.recycle()
    with pool.take(0):
        pass


def test_a_failed_connect_leaves_no_cycle_of_frames() -> None:
    psycopg2 = pytest.importorskip("psycopg2")
    from queuepool.psycopg2pool import ConnectionPool

    def take_in_vain(pool: Any) -> weakref.ref[Local]:
        local = Local()
        with contextlib.suppress(psycopg2.OperationalError):
            pool.take(5.0)
        return weakref.ref(local)

    seen = take_in_vain(ConnectionPool("host=127.0.0.1 port=1", capacity=1, fail_fast=True))
    wait_until(lambda: seen() is None, 1.0)

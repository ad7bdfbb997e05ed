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

"""A `CancelledError` that no cancellation has caused: the usual end of a hook whose connection has died."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from queuepool import loops
from queuepool.aio import AsyncPool

from .aio import AsyncSource, in_loop, quiet
from .support import assert_whole


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("hook", ["open", "close", "check", "reset"])
@in_loop
async def test_a_hook_that_meets_a_future_which_its_driver_cancelled_fails_and_cancels_nobody(
    hook: str, plain: bool
) -> None:
    source = AsyncSource()
    dead = asyncio.get_running_loop().create_future()
    dead.cancel()

    async def waiting(*args: Any) -> Any:
        return await dead

    def asking(*args: Any) -> Any:
        return dead.result()

    hooks = source.hooks
    pool = AsyncPool("pool", 1, **{**hooks, hook: asking if plain else waiting})
    if hook == "open":
        with pytest.raises(ConnectionAbortedError, match="raised CancelledError, though nobody has cancelled it"):
            await pool.take()
    else:
        async with pool.take():
            pass
        async with pool.take() as slot:
            slot.close()
    stats = pool.stats()
    assert (stats.open_errors, stats.reset_errors, stats.close_errors) == {
        "open": (1, 0, 0), "close": (0, 0, 1), "check": (0, 0, 0), "reset": (0, 1, 0)
    }[hook]  # fmt: skip
    assert stats.closes == {"open": {}, "close": {"asked": 1}, "check": {"check": 1, "asked": 1}}.get(
        hook, {"reset": 1, "asked": 1}
    )
    await quiet()
    assert_whole(pool)


@in_loop
async def test_a_hook_that_is_cut_off_by_the_end_of_the_loop_is_cancelled_and_has_not_failed() -> None:
    begun = asyncio.Event()

    async def endless() -> Any:
        begun.set()
        await asyncio.get_running_loop().create_future()

    pool = AsyncPool("pool", 1, open=endless)
    taking = asyncio.ensure_future(pool.take())
    await begun.wait()
    for task in {taking, *loops._background}:  # as asyncio.run does
        task.cancel()
    await asyncio.wait([taking])
    assert taking.cancelled()
    await quiet()
    assert pool.stats().open_errors == 0
    assert_whole(pool)

"""What the tests of `AsyncPool` share: loops to run in, async resources, and tasks that are cancelled at a chosen await."""

from __future__ import annotations

import asyncio
import functools
import gc
import importlib
import inspect
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from queuepool import loops

from .support import PATIENCE, Resource, Source


def _uvloop() -> asyncio.AbstractEventLoop:
    try:
        made: asyncio.AbstractEventLoop = importlib.import_module("uvloop").new_event_loop()
    except ImportError:
        pytest.skip("not installed: uvloop")
    return made


def _eager() -> asyncio.AbstractEventLoop:
    made = asyncio.new_event_loop()
    made.set_task_factory(vars(asyncio)["eager_task_factory"])
    return made


LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": _uvloop}
if sys.version_info >= (3, 12):
    LOOPS["eager"] = _eager  # its tasks run up to their first wait before create_task returns


def run_in(new_loop: Callable[[], asyncio.AbstractEventLoop], flow: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    """Run `flow` as `asyncio.run` does; the loop must have nothing to complain of, and nothing may go on at its end."""
    loop, complaints = new_loop(), []
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    try:
        result = loop.run_until_complete(asyncio.wait_for(flow(), 3 * PATIENCE))
        loop.run_until_complete(quiet())
        gc.collect()  # tasks and futures complain when they go
        loop.run_until_complete(asyncio.sleep(0))
        assert not complaints
        return result
    finally:
        _end(loop)


def _end(loop: asyncio.AbstractEventLoop) -> None:
    left = asyncio.all_tasks(loop)
    for task in left:
        task.cancel()
    if left:
        loop.run_until_complete(asyncio.wait(left))
    loop.close()


def in_loop(test: Callable[..., Coroutine[Any, Any, Any]]) -> Any:
    """Make an async function a test that runs in a loop of asyncio's, and in one of uvloop's."""
    signature = inspect.signature(test)
    new_loop = inspect.Parameter("new_loop", inspect.Parameter.KEYWORD_ONLY)

    @functools.wraps(test)
    def run(new_loop: Callable[[], asyncio.AbstractEventLoop], **arguments: Any) -> None:
        run_in(new_loop, lambda: test(**arguments))

    run.__signature__ = signature.replace(parameters=[*signature.parameters.values(), new_loop])  # type: ignore[attr-defined]
    return pytest.mark.parametrize("new_loop", LOOPS.values(), ids=LOOPS.keys())(run)


class AsyncSource(Source):
    """A `Source` whose hooks are async functions that suspend `suspensions` times each."""

    def __init__(self, suspensions: int = 1) -> None:
        super().__init__()
        self.suspensions = suspensions

    async def _suspend(self) -> None:
        for _ in range(self.suspensions):
            await asyncio.sleep(0)

    async def aopen(self) -> Resource:
        await self._suspend()
        return self.open()

    async def aclose(self, resource: Resource) -> None:
        await self._suspend()
        self.close(resource)

    async def acheck(self, resource: Resource) -> bool:
        await self._suspend()
        return self.check(resource)

    async def areset(self, resource: Resource) -> None:
        await self._suspend()
        self.reset(resource)

    @property
    def hooks(self) -> dict[str, Any]:
        return {"open": self.aopen, "close": self.aclose, "check": self.acheck, "reset": self.areset}


async def until(condition: Callable[[], Any]) -> None:
    """Return as soon as `condition()` is true; fail the test if it does not become so."""
    deadline = asyncio.get_running_loop().time() + PATIENCE
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, "what the test waits for did not come"
        await asyncio.sleep(0)


async def quiet() -> None:
    """Return when no task of a pool's goes on."""
    await until(lambda: not loops._background)


class CancelledAt(Coroutine[Any, Any, Any]):
    """Runs a coroutine whose task is cancelled at its await number `count`: while it waits there, or just as what it
    waits for has come (`as_woken`), which is when a cancellation is easiest to get wrong.
    """

    def __init__(self, flow: Coroutine[Any, Any, Any], count: int, as_woken: bool) -> None:
        self._flow = flow
        self._left = count
        self._as_woken = as_woken
        self.task: asyncio.Task[Any] | None = None

    @property
    def struck(self) -> bool:
        return self._left <= 0

    def send(self, value: Any) -> Any:
        self.task = asyncio.current_task()  # an eager one runs before its maker knows it
        return self._arm(self._flow.send(value))

    def throw(self, *error: Any) -> Any:
        return self._arm(self._flow.throw(*error))

    def close(self) -> None:
        self._flow.close()

    def __await__(self) -> Any:
        raise NotImplementedError("it is for tasks")

    def _arm(self, future: Any) -> Any:
        self._left -= 1
        if self._left == 0:
            assert self.task is not None
            if self._as_woken and future is not None:
                # Before the task's own callback, which it adds when it is handed the future.
                future.add_done_callback(lambda _: self.task.cancel())
            else:
                asyncio.get_running_loop().call_soon(self.task.cancel)
        return future

    async def run(self) -> bool:
        """Whether the cancellation struck and ended the task by `CancelledError`; raises whatever else it raised."""
        task = asyncio.get_running_loop().create_task(self)
        await asyncio.wait([task])
        if task.cancelled():
            return True
        task.result()
        return False

"""How asyncio tasks wait and call: the drivers that `AsyncPool` runs the core's flows with (`threads` has the other).

Nothing here knows of pools. A waiter stands in the same line whether a thread or a task waits by it, and may be woken
from any thread, finalizer or signal handler.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import weakref
from asyncio.events import _get_running_loop  # None instead of an error where no loop runs
from collections.abc import Awaitable, Callable, Coroutine, Generator
from types import coroutine
from typing import Any, TypeVar

from .lifecycle import AnyLifecycle
from .slotqueue import Item, Waiter

R = TypeVar("R")

_log = logging.getLogger("queuepool")

#: Event loops refer weakly to their tasks; here are those that nobody else may refer to.
_background: set[asyncio.Task[Any]] = set()


class Sleepers(dict[int, "set[LoopWaiter]"]):
    """Those that a loop wakes as a second begins, by its clock. Its timers alone keep this: who waits refers to the loop."""

    __slots__ = ("__weakref__",)

    def at(self, loop: asyncio.AbstractEventLoop, second: int) -> set[LoopWaiter]:
        sleepers = self.get(second)
        if sleepers is None:
            loop.call_at(second, self.wake, loop, second)
            sleepers = self[second] = set()
        return sleepers

    def wake(self, loop: asyncio.AbstractEventLoop, second: int) -> None:
        try:
            for waiter in tuple(self.get(second, ())):
                waiter._resolve(False)
            self.pop(second, None)
        except BaseException:  # of a signal handler
            loop.call_soon(self.wake, loop, second)
            raise


_sleepers: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, weakref.ref[Sleepers]] = weakref.WeakKeyDictionary()


def _sleepers_of(loop: asyncio.AbstractEventLoop) -> Sleepers:
    known = _sleepers.get(loop)
    sleepers = None if known is None else known()
    if sleepers is None:
        sleepers = Sleepers()
        _sleepers[loop] = weakref.ref(sleepers)
    return sleepers


class LoopWaiter(Waiter):
    """Waits by a future of the running loop."""

    __slots__ = ("_future", "_loop")

    def __init__(self, owner: object = None) -> None:
        super().__init__(owner)
        self._loop = asyncio.get_running_loop()
        self._future: asyncio.Future[bool] | None = None

    def give(self, item: Item) -> bool:
        try:
            return super().give(item)
        except RuntimeError:
            # The loop is closed, so its task will never come for the item.
            return self.abandon() is not item

    def wake(self) -> None:
        # A signal handler may run while the loop sleeps in its selector, which only call_soon_threadsafe ends: hence
        # the look for a task.
        if _get_running_loop() is self._loop and asyncio.current_task(self._loop) is not None:
            self._resolve(True)
        else:
            self._loop.call_soon_threadsafe(self._resolve, True)

    def _resolve(self, woken: bool) -> None:
        if self._future is not None and not self._future.done():
            self._future.set_result(woken)

    def waiting(self, seconds: float | None) -> Generator[Any, Any, bool]:
        """Wait until given something, at most `seconds`; whether it was. For `yield from`; `wait` is for `await`."""
        loop = self._loop
        future = self._future = loop.create_future()
        if self._items:  # the future first, then the look: a signal handler may give in between
            return True
        if seconds is None:
            yield from future
            return True
        # Nearly all are woken long before, so the loop has one timer for all whose time is up in the same second. Who still
        # waits as that second begins has a timer alone.
        until = loop.time() + seconds
        if seconds >= 1.0:
            sleepers = _sleepers_of(loop).at(loop, int(until))
            sleepers.add(self)
            try:
                if (yield from future):
                    return True
            finally:
                sleepers.discard(self)
            future = self._future = loop.create_future()
            if self._items:
                return True
        timer = loop.call_at(until, self._resolve, False)
        try:
            woken: bool = yield from future
            return woken
        finally:
            timer.cancel()

    wait = coroutine(waiting)


class LoopDriver:
    """Awaits where `ThreadDriver` blocks."""

    #: How long a waiter sleeps before it looks whether something went wrong, in seconds.
    patience = 1.0

    def current(self) -> object:
        """The current task, weakly: a lease would else keep a task that died with it, and by its traceback the slot."""
        owner = weakref.ref(asyncio.current_task())
        hash(owner)  # it is remembered: of a task that has gone it could no longer be told
        return owner

    def waiter(self) -> LoopWaiter:
        return LoopWaiter(self.current())

    def leaves(self, lifecycle: AnyLifecycle[Any], deadline: float | None) -> bool:
        """Always: what a cancelled caller began shall end, and what opened for it go idle."""
        return True

    async def wait(self, waiter: LoopWaiter, seconds: float | None) -> bool:
        return await waiter.wait(seconds)

    async def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """What `function` returns, awaited where that is needed; a `CancelledError` of its own is an error like others."""
        result = _called(function, args)
        return await _awaited(function, result) if isinstance(result, Awaitable) else result

    async def breathe(self) -> None:
        """Let others run, in the middle of a long sweep."""
        await asyncio.sleep(0)

    def spawn(self, flow: Coroutine[Any, Any, R], name: str) -> asyncio.Task[R]:
        """Run `flow` in a task of its own."""
        task = asyncio.get_running_loop().create_task(flow, name=name)
        _background.add(task)
        task.add_done_callback(_background.discard)
        return task


LOOPS = LoopDriver()


class OwnTask(LoopDriver):
    """The driver of one flow that runs in place up to where it must wait, and from there in a task of its own.

    So a flow that need not wait costs no task, and one that must is not cancelled with the caller.
    """

    def __init__(self, in_place: bool = True) -> None:
        self._in_place = in_place

    def start(self, flow: Coroutine[Any, Any, R], name: str) -> R | asyncio.Future[R]:
        """The result of `flow`, or a future of it. Needs a running loop, but no task."""
        try:
            flow.send(None)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]
        return asyncio.shield(self.spawn(flow, name))

    async def wait(self, waiter: LoopWaiter, seconds: float | None) -> bool:
        await self._leave_place()
        return await super().wait(waiter, seconds)

    async def call(self, function: Callable[..., Any], *args: Any) -> Any:
        result = _called(function, args)
        if not isinstance(result, Awaitable):
            return result
        try:
            await self._leave_place()
        except BaseException:
            _drop(result)
            raise
        return await _awaited(function, result)

    async def _leave_place(self) -> None:
        if self._in_place:
            self._in_place = False
            await _suspended()


@coroutine
def _suspended() -> Generator[None, None, None]:
    yield


def _drop(result: Awaitable[Any]) -> None:
    """Have no warning of a coroutine that was never awaited."""
    if isinstance(result, Coroutine):
        result.close()


# A hook whose connection has died often ends by the CancelledError of a future that its driver cancelled. Let through,
# that would cancel a task which nobody has cancelled: the taker's, or the recycler's.


def _called(function: Callable[..., Any], args: Any) -> Any:
    try:
        return function(*args)
    except asyncio.CancelledError as error:
        raise _aborted(function) from error


if sys.version_info < (3, 11):

    async def _awaited(function: Callable[..., Any], result: Awaitable[Any]) -> Any:
        # A task that was cancelled cannot be told from one that awaits what was; so two tasks, of which this one is not.
        task = asyncio.ensure_future(result)
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            task.cancel()
            raise
        if task.cancelled():
            raise _aborted(function)
        return task.result()

else:

    async def _awaited(function: Callable[..., Any], result: Awaitable[Any]) -> Any:
        task: Any = asyncio.current_task()
        requests = task.cancelling()
        try:
            return await result
        except asyncio.CancelledError as error:
            if task.cancelling() > requests:
                raise
            raise _aborted(function) from error


def _aborted(function: Callable[..., Any]) -> ConnectionAbortedError:
    name = getattr(function, "__name__", type(function).__name__)
    return ConnectionAbortedError(f"{name} raised CancelledError, though nobody has cancelled it")

"""The pool for asyncio."""

from __future__ import annotations

import asyncio
import os
import time
from asyncio import get_running_loop
from asyncio.events import _get_running_loop  # None instead of an error where no loop runs
from collections.abc import Awaitable, Callable, Coroutine
from sys import _getframe
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypedDict, TypeVar, overload

from . import ending, options, steps, upkeep
from .aiohandles import DONE, Getting, Leasing, Taking
from .core import DEFAULT, BasePool, CloseOnException, log
from .errors import WrongLoop, WrongSlot
from .lifecycle import AsyncFunctionLifecycle, AsyncLifecycle
from .loops import LOOPS, OwnTask
from .slot import Slot
from .slotqueue import FifoSlotQueue, LifoSlotQueue
from .stats import Holder, Observer

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

T = TypeVar("T")
R = TypeVar("R")


if TYPE_CHECKING:

    class _Options(TypedDict, Generic[T], total=False):
        close: Callable[[T], Any] | None
        check: Callable[[T], Any] | None
        reset: Callable[[T], Any] | None
        lifecycle: AsyncLifecycle[T] | None
        overflow: int
        timeout: float | None
        max_waiting: int | None
        shed_after: float | None
        min_idle: int
        jitter: float
        check_after: float
        max_opening: int
        fail_fast: bool
        leak_after: float | None
        nested: str
        queue_class: type[LifoSlotQueue] | type[FifoSlotQueue]
        observer: Observer | None
        clock: Callable[[], float]


class AsyncPool(BasePool[T]):
    """`Pool` for asyncio (and uvloop; trio is not served): the same options and methods, of which those that may wait
    are awaited. It shares queue, limits, admission, outages and all else with `Pool`.

    `open`, `close`, `check` and `reset`, or the methods of an `AsyncLifecycle`, are async functions, or plain ones that
    do not block the loop. A take that is cancelled leaves no trace, except that the resource which was being opened for
    it opens to the end and goes idle. A put that is cancelled ends in the background.

    The pool may be made before a loop runs. It belongs to the first loop that awaits it, and raises `WrongLoop` in any
    other. `put`, `release` and the end of a lease may be called, without awaiting the result, from callbacks, finalizers
    and other threads; `stats`, `holders`, `pause` and `resume` from any thread; the rest in tasks of that loop.
    """

    __slots__ = ("__weakref__", "_bound_pid", "_loop")

    _driver: ClassVar[Any] = LOOPS
    _functions: ClassVar[Any] = AsyncFunctionLifecycle

    # Two signatures, for type checkers to tell what an async `open` returns from what a plain one does.
    @overload
    def __init__(
        self, name: str, capacity: int = ..., max_idle_time: float | None = ..., max_open_time: float | None = ...,
        max_usage_count: int | None = ..., close_on_exception: CloseOnException = ..., *,
        open: Callable[[], Awaitable[T]], **options: Unpack[_Options[T]],
    ) -> None: ...  # fmt: skip

    @overload
    def __init__(
        self, name: str, capacity: int = ..., max_idle_time: float | None = ..., max_open_time: float | None = ...,
        max_usage_count: int | None = ..., close_on_exception: CloseOnException = ..., *,
        open: Callable[[], T] | None = ..., **options: Unpack[_Options[T]],
    ) -> None: ...  # fmt: skip

    def __init__(
        self,
        name: str,
        capacity: int = 10,
        max_idle_time: float | None = 300.0,
        max_open_time: float | None = 300.0,
        max_usage_count: int | None = 1000,
        close_on_exception: CloseOnException = True,
        *,
        open: Callable[[], Any] | None = None,
        close: Callable[[T], Any] | None = None,
        check: Callable[[T], Any] | None = None,
        reset: Callable[[T], Any] | None = None,
        lifecycle: AsyncLifecycle[T] | None = None,
        overflow: int = 0,
        timeout: float | None = None,
        max_waiting: int | None = None,
        shed_after: float | None = None,
        min_idle: int = 0,
        jitter: float = 0.05,
        check_after: float = 0.0,
        max_opening: int = 4,
        fail_fast: bool = False,
        leak_after: float | None = None,
        nested: str = "new",
        queue_class: type[LifoSlotQueue] | type[FifoSlotQueue] = LifoSlotQueue,
        observer: Observer | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._bound_pid: int | None = None
        super().__init__(
            name, capacity, max_idle_time, max_open_time, max_usage_count, close_on_exception,
            open=open, close=close, check=check, reset=reset, lifecycle=lifecycle, overflow=overflow, timeout=timeout,
            max_waiting=max_waiting, shed_after=shed_after, min_idle=min_idle, jitter=jitter, check_after=check_after,
            max_opening=max_opening, fail_fast=fail_fast, leak_after=leak_after, nested=nested,
            queue_class=queue_class, observer=observer, clock=clock,
        )  # fmt: skip

    def _bind(self, loop: asyncio.AbstractEventLoop) -> None:
        """Belong to `loop`, unless to another already; the loop of a forked child's parent does not count."""
        if loop is self._loop:
            return
        if self._loop is not None and self._bound_pid == os.getpid():
            state = "has been closed" if self._loop.is_closed() else "is another one"
            raise WrongLoop(
                f"{self.name}: the pool belongs to the event loop that used it first, which {state}; "
                "its resources cannot be used in two: make a pool for each loop"
            )
        self._loop, self._bound_pid = loop, os.getpid()
        if self._recycler is not None:
            self._recycler.start()

    # --- take and put

    def take(self, timeout: float | None = DEFAULT) -> Taking[Slot[T]]:
        """`async with pool.take() as slot` or `slot = await pool.take()`: lend a slot with a live resource.

        Waits its turn for at most `timeout` seconds (default: the pool's; None: for ever; 0: not at all). Raises
        `Exhausted`, `Unreachable`, `TooManyWaiting`, `Overloaded`, `PoolClosed`, `NestedTake`, `WrongLoop`, or what
        `open` raises; whatever it raises, no slot is lost by it.
        """
        return Taking(self, timeout, _getframe(1))

    def put(self, slot: Slot[T]) -> Awaitable[None]:
        """Give back a slot. Raises `WrongSlot`, and changes nothing, if it is not out on loan from this pool.

        This happens at the call; awaiting the result waits for `reset` and `close`, where there is such work.
        """
        lease = self._leases.pop(slot, None)
        if lease is None:
            self._adopt(slot)
            return DONE
        try:
            now = self._clock()
            fit = now < slot.expires_at and slot.use_count < self._most_uses
            if fit:
                slot.last_used_at = now
                due_at = now + self._quiet_time
                slot.due_at = due_at if due_at < slot.expires_at else slot.expires_at
        except BaseException:
            self._queue.put(slot)
            raise
        if not fit:
            return self._put_slowly(slot, lease, None)
        self._push(slot)
        if self._line or self._standby:
            self._queue.serve()
        return DONE

    def _put_after(self, slot: Slot[T], error: BaseException) -> Awaitable[None]:
        """Give back a slot whose user raised `error`, which nothing that happens here may hide."""
        lease = self._leases.pop(slot, None)
        if lease is None:
            log.warning("%s: slot %s was put back before its `with` ended by %r", self.name, slot.name, type(error))
            return DONE
        return self._put_slowly(slot, lease, error)

    def _put_slowly(self, slot: Slot[T], lease: Any, error: BaseException | None) -> Awaitable[None]:
        driver, name = OwnTask(), f"{self.name} put"
        flow = steps.put_leased(self, driver, slot, lease, error)
        if _get_running_loop() is self._loop:
            return driver.start(flow, name) or DONE
        try:
            self._loop.call_soon_threadsafe(driver.start, flow, name)  # type: ignore[union-attr]  # it has lent a slot
        except RuntimeError:  # the loop is closed: nobody can reset the resource, nor use it again
            flow.close()
            slot.condemn("loop closed")
            self._give_back(slot)
        return DONE

    # --- other handles

    def get(self, timeout: float | None = DEFAULT) -> Getting[T]:
        """`async with pool.get() as resource:` lends the bare resource; the `with` takes and always puts back. As `take`."""
        return Getting(self, timeout, _getframe(1))

    def acquire(self, timeout: float | None = DEFAULT) -> Getting[T]:
        """`await` the bare resource where no `with` fits; give it back by `release`. As `take`."""
        return Getting(self, timeout, _getframe(1))

    def release(self, resource: T) -> Awaitable[None]:
        """Give back what `acquire` returned. Raises `WrongSlot` if it is not out on loan from this pool. As `put`."""
        slot = self._by_resource.get(id(resource))
        if slot is None or slot.resource is not resource:
            raise WrongSlot(f"{self.name}: this {type(resource).__name__} is not out on loan from here")
        return self.put(slot)

    def lease(self, timeout: float | None = DEFAULT) -> Leasing:
        """Lend a handle that behaves like the resource, and gives it back by `await lease.close()`, `async with`, or when
        dropped. As `take`."""
        return Leasing(self, timeout, _getframe(1))

    def _nothing(self) -> Awaitable[None]:
        return DONE

    # --- upkeep

    async def _finish(self, flow: Callable[..., Coroutine[Any, Any, R]], *args: Any) -> R:
        """The result of `flow`, which ends in the background if this task is cancelled."""
        self._bind(get_running_loop())
        driver = OwnTask()
        result: Any = driver.start(flow(self, driver, *args), f"{self.name} {flow.__name__}")
        return await result if isinstance(result, asyncio.Future) else result  # type: ignore[no-any-return]

    async def prefill(self, count: int | None = None) -> int:
        """Open resources, `max_opening` at a time, until `count` are open (default: `capacity`); return how many it opened.
        Raises what `open` does, after which, as after a cancellation, it begins no more."""
        count = self._capacity if count is None else options.count("count", count)
        wanted = [count]

        def have() -> int:
            return len(self._by_resource) + len(self._gate.opening) if wanted else count

        fills = [self._finish(upkeep.fill, count, have) for _ in range(min(count, self._gate.max_opening))]
        try:
            return sum(await asyncio.gather(*fills))
        except BaseException:
            wanted.clear()
            raise

    async def recycle(self) -> int:
        """Sweep once: close what is due, see to `min_idle`, overflow, leaks and lost slots; return how many it closed."""
        return await self._finish(upkeep.sweep)

    def start_recycler(self, interval: float = 60.0) -> None:
        """Sweep every `interval` seconds in a task; twice is once. It ends with the pool.

        Called before a loop runs, it begins when the pool is first awaited.
        """
        from .aiorecycler import AsyncRecycler

        if self._recycler is None:
            self._recycler = AsyncRecycler(self, interval)
        loop = _get_running_loop()
        if loop is not None:
            self._bind(loop)
            self._recycler.start()

    async def stop_recycler(self) -> None:
        """End the task, waiting for its sweep to end; harmless without one."""
        recycler, self._recycler = self._recycler, None
        if recycler is not None:
            await recycler.stop()

    def pause(self) -> None:
        """Lend nothing until `resume`: takers wait, within their timeouts; returns go on."""
        ending.pause(self)

    def resume(self) -> None:
        """End a pause."""
        ending.resume(self)

    async def resize(self, capacity: int) -> None:
        """Change the capacity. Surplus slots go at once, those out on loan when they come back, so if it grows again before,
        there are more than `capacity` until then. Raises ValueError."""
        await self._finish(ending.resize, capacity)

    async def recycle_all(self) -> None:
        """Close every resource that was opened before this instant: idle ones now, leased ones at put."""
        await self._finish(ending.recycle_all, "recycle_all")

    async def dispose(self) -> None:
        """`recycle_all`, but what `close` raised is raised, in one ExceptionGroup, after all were closed. The pool lives on."""
        await self._finish(ending.dispose)

    async def close(self, timeout: float | None = 5.0) -> list[Holder]:
        """Lend no more, tell those who wait (`PoolClosed`), close what is idle, and wait for what is out on loan, at most
        `timeout` seconds (None: as long as it takes). Returns who still holds slots; those are closed at put. Repeatable.
        """
        if self._recycler is not None:
            self._recycler.end()  # what its sweep may hold is waited for like any other slot
        return await self._finish(ending.close, timeout)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

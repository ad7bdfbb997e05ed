"""One way to write a test for each kind of pool: there blocking calls and threads, here awaits and tasks."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from queuepool import Pool

from ..support import PATIENCE, assert_whole, wait_until

HOOKS = ("open", "close", "check", "reset")


async def settled(value: Any) -> Any:
    """What a method returned, whether it blocked or is to be awaited."""
    return await value if inspect.isawaitable(value) else value


class AnyPool:
    """A pool of either kind: what blocks or is to be awaited there is to be awaited here."""

    def __init__(self, pool: Any) -> None:
        self.pool = pool

    def __getattr__(self, name: str) -> Any:
        return getattr(self.pool, name)

    def __repr__(self) -> str:
        return repr(self.pool)

    async def take(self, *args: Any) -> Any:
        return await settled(self.pool.take(*args))

    async def put(self, slot: Any) -> None:
        await settled(self.pool.put(slot))

    async def acquire(self, *args: Any) -> Any:
        return await settled(self.pool.acquire(*args))

    async def release(self, resource: Any) -> None:
        await settled(self.pool.release(resource))

    async def lease(self, *args: Any) -> Any:
        return await settled(self.pool.lease(*args))

    async def prefill(self, *args: Any) -> int:
        return int(await settled(self.pool.prefill(*args)))

    async def recycle(self) -> int:
        return int(await settled(self.pool.recycle()))

    async def resize(self, capacity: Any) -> None:
        await settled(self.pool.resize(capacity))

    async def recycle_all(self) -> None:
        await settled(self.pool.recycle_all())

    async def dispose(self) -> None:
        await settled(self.pool.dispose())

    async def close(self, *args: Any) -> Any:
        return await settled(self.pool.close(*args))

    @asynccontextmanager
    async def entered(self, manager: Any) -> AsyncIterator[Any]:
        """`with manager` or `async with manager`, whichever is for this kind of pool."""
        if isinstance(self.pool, Pool):
            with manager as value:
                yield value
        else:
            async with manager as value:
                yield value

    def taken(self, *args: Any) -> Any:
        """`with pool.take() as slot:`"""
        return self.entered(self.pool.take(*args))

    def got(self, *args: Any) -> Any:
        """`with pool.get() as resource:`"""
        return self.entered(self.pool.get(*args))

    def leased(self, *args: Any) -> Any:
        """`with pool.lease() as lease:`"""
        return self.entered(self.pool.lease(*args))

    async def cycle(self) -> Any:
        """Take and put once; return the resource that was lent."""
        slot = await self.take()
        resource = slot.resource
        await self.put(slot)
        return resource

    async def cycle_together(self, count: int) -> list[Any]:
        """Hold `count` slots at the same time, put them back in order, and return their resources."""
        slots = [await self.take() for _ in range(count)]
        resources = [slot.resource for slot in slots]
        for slot in slots:
            await self.put(slot)
        return resources


class Api:
    """What a test needs besides the pool. At its end every pool must be whole and every job over."""

    kind: type[Any]

    def __init__(self) -> None:
        self.jobs: list[Any] = []
        self.pools: list[AnyPool] = []
        self.events: list[Any] = []

    @property
    def driver(self) -> Any:
        return self.kind._driver

    def pool(self, name: str = "pool", capacity: int = 2, **options: Any) -> AnyPool:
        """A pool; hooks that are async functions may wait for events."""
        for hook in HOOKS:
            if inspect.iscoroutinefunction(options.get(hook)):
                options[hook] = self.hook(options[hook])
        made = AnyPool(self.kind(name, capacity, **options))
        self.pools.append(made)
        return made

    async def finish(self) -> None:
        """Let everything that still waits for an event go on, and look at what is left."""
        for event in self.events:
            event.set()
        for job in self.jobs:
            await job.ended()
        for pool in self.pools:
            await self.until(lambda pool=pool: not pool._gate.opening)  # type: ignore[misc]
            assert_whole(pool)
            await pool.close(0)

    def run(self, flow: Coroutine[Any, Any, Any]) -> None:
        """Run a whole test."""
        raise NotImplementedError

    def hook(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """An async function as this kind of pool takes hooks."""
        raise NotImplementedError

    def event(self) -> Any:
        """An event with `set()`, `is_set()` and `await waited()`; `finish` sets it."""
        raise NotImplementedError

    def start(self, flow: Coroutine[Any, Any, Any]) -> Any:
        """Run `flow` beside the test: a job with `done` and `await result()`."""
        raise NotImplementedError

    async def until(self, condition: Callable[[], Any]) -> None:
        """Return as soon as `condition()` is true."""
        raise NotImplementedError


class ThreadJob:
    """A coroutine that runs, blocking, in a thread of its own."""

    def __init__(self, flow: Coroutine[Any, Any, Any]) -> None:
        self._result: Any = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(flow,), name="job", daemon=True)
        self._thread.start()

    def _run(self, flow: Coroutine[Any, Any, Any]) -> None:
        try:
            self._result = in_one_go(flow)
        except BaseException as error:
            self._error = error

    @property
    def done(self) -> bool:
        return not self._thread.is_alive()

    async def ended(self) -> None:
        self._thread.join(PATIENCE)
        assert self.done, "a job did not end"

    async def result(self) -> Any:
        await self.ended()
        if self._error is not None:
            raise self._error
        return self._result


def in_one_go(flow: Coroutine[Any, Any, Any]) -> Any:
    """The result of a coroutine that never suspends, for all that it awaits blocks."""
    try:
        flow.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("a coroutine of threads was suspended")


class ThreadEvent(threading.Event):
    async def waited(self) -> None:
        assert self.wait(PATIENCE), "an event did not come"


class ThreadApi(Api):
    kind = Pool

    def run(self, flow: Coroutine[Any, Any, Any]) -> None:
        in_one_go(flow)

    def hook(self, function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *args: in_one_go(function(*args))

    def event(self) -> ThreadEvent:
        event = ThreadEvent()
        self.events.append(event)
        return event

    def start(self, flow: Coroutine[Any, Any, Any]) -> ThreadJob:
        job = ThreadJob(flow)
        self.jobs.append(job)
        return job

    async def until(self, condition: Callable[[], Any]) -> None:
        wait_until(condition)


class TaskJob:
    """A coroutine that runs in a task of its own."""

    def __init__(self, flow: Coroutine[Any, Any, Any]) -> None:
        self._task = asyncio.ensure_future(flow)

    @property
    def done(self) -> bool:
        return self._task.done()

    async def ended(self) -> None:
        done, _ = await asyncio.wait([self._task], timeout=PATIENCE)
        assert done, "a job did not end"
        if not self._task.cancelled():
            self._task.exception()  # retrieved, for `result` may never be asked

    async def result(self) -> Any:
        await self.ended()
        return self._task.result()


class TaskEvent(asyncio.Event):
    async def waited(self) -> None:
        await asyncio.wait_for(self.wait(), PATIENCE)


class TaskApi(Api):
    """For `AsyncPool`; made only where there is one."""

    def __init__(self) -> None:
        super().__init__()
        self.kind = importlib.import_module("queuepool.aio").AsyncPool

    def run(self, flow: Coroutine[Any, Any, Any]) -> None:
        asyncio.run(flow)

    def hook(self, function: Callable[..., Any]) -> Callable[..., Any]:
        return function

    def event(self) -> TaskEvent:
        event = TaskEvent()
        self.events.append(event)
        return event

    def start(self, flow: Coroutine[Any, Any, Any]) -> TaskJob:
        job = TaskJob(flow)
        self.jobs.append(job)
        return job

    async def until(self, condition: Callable[[], Any]) -> None:
        for _ in range(int(PATIENCE / 0.0005)):
            if condition():
                return
            await asyncio.sleep(0.0005)
        raise AssertionError("what the test waits for did not come")

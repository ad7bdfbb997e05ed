"""A pool for threads, used from a coroutine: waiting in the same line as the threads, and never blocking the loop."""

from __future__ import annotations

import contextvars
import logging
import threading
from asyncio import CancelledError
from collections.abc import Callable
from sys import _getframe
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from . import lending, options
from .core import DEFAULT, LeaseRecord
from .entries import Entries, pop_own
from .lifecycle import AnyLifecycle
from .loops import LOOPS, LoopWaiter
from .slot import Slot
from .threads import ThreadDriver

if TYPE_CHECKING:
    from .pool import Pool

T = TypeVar("T")
R = TypeVar("R")

#: How a slot is given back, in a thread: by its lease, and by what its user raised.
Leave = Callable[[Slot[T], LeaseRecord, "BaseException | None"], Any]

_log = logging.getLogger("queuepool")


class BridgeDriver(ThreadDriver):
    """Waits as a task does, and has each step of a resource (which blocks) done by a thread of its own.

    Not by the loop's executor: its few threads may all be waiting for a slot, and the one who is to give it back would
    wait behind them; and they would keep the program from ending for as long as a step hangs.
    """

    def current(self) -> object:
        return LOOPS.current()

    def waiter(self) -> LoopWaiter:  # type: ignore[override]  # it waits in a loop, not on a lock
        return LOOPS.waiter()

    def leaves(self, lifecycle: AnyLifecycle[Any], deadline: float | None) -> bool:
        return True

    async def wait(self, waiter: LoopWaiter, seconds: float) -> bool:  # type: ignore[override]  # as `waiter`
        return await waiter.wait(seconds)


BRIDGE = BridgeDriver()


async def in_thread(name: str, function: Callable[..., R], *args: Any) -> R:
    """What `function(*args)` returns or raises in a thread of its own, where it ends even if this task is cancelled."""
    waiter = LoopWaiter()
    context = contextvars.copy_context()
    work = threading.Thread(target=context.run, args=(_hand_over, waiter, function, args), name=name, daemon=True)
    try:
        work.start()
    except RuntimeError:  # the system has no more threads; better the loop waits than that a slot does not come back
        return function(*args)
    try:
        await waiter.wait(None)
        outcome: Any = waiter.accept()
    except BaseException:
        _tell_unheard(waiter.abandon())
        raise
    result, error = outcome
    if error is not None:
        raise error
    return result  # type: ignore[no-any-return]


def _hand_over(waiter: LoopWaiter, function: Callable[..., Any], args: Any) -> None:
    outcome: Any
    try:
        outcome = function(*args), None
    except BaseException as error:
        outcome = None, error
    if not waiter.give(outcome):
        _tell_unheard(outcome)


def _tell_unheard(outcome: Any) -> None:
    """Log the error of a step whose task was cancelled meanwhile."""
    if outcome is not None and outcome[1] is not None:
        _log.error("a step whose task was cancelled failed", exc_info=outcome[1])


class Bridged(Generic[T]):
    """What `borrow` returns: entering it takes a slot and gives the resource, leaving it gives the slot back."""

    __slots__ = ("_caller", "_held", "_leave", "_pool", "_timeout")

    def __init__(self, pool: Pool[T], timeout: float | None, leave: Leave[T], caller: Any) -> None:
        if timeout is not DEFAULT:
            options.number_or_none("timeout", timeout)
        self._pool = pool
        self._timeout = timeout
        self._leave = leave
        self._caller = caller.f_code, caller.f_lasti
        self._held: Entries[Slot[T]] = []

    async def __aenter__(self) -> T:
        slot = await lending.Take(self._pool, BRIDGE, self._timeout).run(None, *self._caller)
        self._held.append((slot, self._pool._leases[slot]))
        return slot.resource

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        held = self._held
        slot, lease = held.pop(0) if len(held) == 1 else pop_own(held, LOOPS.current)
        if isinstance(error, CancelledError) and self._pool._leases.get(slot) is lease:
            slot.condemn(
                "cancelled"
            )  # a thread that the task awaited goes on, and must not find the next user's work here
        await in_thread(f"{self._pool.name} put", self._leave, slot, lease, error)


def _put_back(slot: Slot[Any], lease: LeaseRecord, error: BaseException | None) -> None:
    slot.__exit__(None, error, None)


def borrow(pool: Pool[T], timeout: float | None = DEFAULT, leave: Leave[T] = _put_back, _depth: int = 1) -> Bridged[T]:
    """`async with borrow(pool) as resource:` lends a resource of a `Pool` to a coroutine (of asyncio or uvloop).

    The task waits in one line with the pool's threads, first come, first served. Whatever may block (open, check, reset,
    close) runs in a thread; so must, by `asyncio.to_thread`, what the coroutine does with the resource. If the task is
    cancelled, a resource that was being opened for it goes idle, one that is being given back comes back, and one in use
    is closed: the thread that uses it may go on, but on nobody else's resource.

    `leave` is what gives the slot back, called in a thread with the slot, its lease and what the user raised, if anything.
    Waits at most `timeout` seconds, and raises, as `Pool.take` does.
    """
    return Bridged(pool, timeout, leave, _getframe(_depth))

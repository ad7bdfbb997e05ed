"""What the methods of `AsyncPool` return: objects to await, or to use in `async with`."""

from __future__ import annotations

from asyncio import current_task, get_running_loop
from collections.abc import Awaitable, Coroutine, Generator
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import ref

from . import lending, options
from .core import DEFAULT
from .entries import Entries, pop_own
from .lease import Lease, lease_of
from .loops import LOOPS, LoopWaiter

if TYPE_CHECKING:
    from typing_extensions import Self

    from .aio import AsyncPool
    from .slot import Slot

T = TypeVar("T")
H = TypeVar("H")


class Taking(Coroutine[Any, Any, H]):
    """What `AsyncPool.take()` returns: await it, or use it in `async with`. Nothing is taken before that.

    It is a coroutine in all but its type, so that `create_task` and `wait_for` accept it, and has a fast way for a slot
    that can be lent at once, which needs none of the flows.
    """

    __slots__ = ("_code", "_held", "_offset", "_pool", "_steps", "_timeout")

    def __init__(self, pool: AsyncPool[Any], timeout: float | None, caller: Any) -> None:
        if timeout is not DEFAULT:
            options.number_or_none("timeout", timeout)
        self._pool = pool
        self._timeout = timeout
        self._code = caller.f_code
        self._offset = caller.f_lasti
        self._held: Entries[Any] = []
        self._steps: Generator[Any, Any, H] | None = None

    def __await__(self) -> Generator[Any, Any, H]:
        pool, loop = self._pool, get_running_loop()
        if loop is not pool._loop:
            pool._bind(loop)
        slot: Any = None
        waiter = None
        # As in Pool.take.
        if pool._plain:
            try:
                owner = ref(current_task(loop))
                hash(owner)  # see LoopDriver.current
                if pool._line:
                    waiter = LoopWaiter(owner)
                    slot = yield from self._turn(waiter)
                else:
                    slot = pool._pop()
                now = pool._clock()
                if now < slot.due_at and (pool._poll is None or pool._poll(slot.resource)):
                    slot.use_count += 1
                    lease = (self._code, self._offset, owner, now)
                    pool._leases[slot] = lease
                    self._held.append((slot, lease))
                    return slot  # type: ignore[no-any-return]
            except BaseException as error:
                if slot is not None:
                    pool._leases.pop(slot, None)
                    if not isinstance(error, Exception):  # else the long way deals with it: `poll` may have raised
                        pool._queue.put(slot)
                        raise
                elif not isinstance(error, IndexError):
                    raise
        flow = lending.Take(pool, LOOPS, self._timeout, waiter).run(slot, self._code, self._offset)
        del slot  # the flow's now; this frame waits for long, and must not look like a user of it
        slot = yield from flow.__await__()
        self._held.append((slot, pool._leases[slot]))
        return slot  # type: ignore[no-any-return]

    def _turn(self, waiter: LoopWaiter) -> Generator[Any, Any, Slot[Any]]:
        """As Pool._turn."""
        pool = self._pool
        queue, line = pool._queue, pool._line
        try:
            lending.admit(pool, waiter)
            queue.join_line(waiter, line)
            seconds = lending.patience(LOOPS, line, pool._timeout if self._timeout is DEFAULT else self._timeout)
            item = waiter.accept() if not pool._closed and (yield from waiter.waiting(seconds)) else None
        except BaseException:
            queue.give_up(waiter, line)
            raise
        if item is None:
            raise IndexError
        lending.note_wait(pool, waiter.joined_at, item)
        return item

    def __aenter__(self) -> Self:
        return self

    def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> Awaitable[None]:
        slot = self._left()
        return self._pool.put(slot) if error is None else self._pool._put_after(slot, error)

    def _left(self) -> Any:
        held = self._held
        return (held.pop(0) if len(held) == 1 else pop_own(held, LOOPS.current))[0]

    # What makes it a coroutine.

    def send(self, value: Any) -> Any:
        if self._steps is None:
            self._steps = self.__await__()
        return self._steps.send(value)

    def throw(self, *error: Any) -> Any:
        if self._steps is None:
            self._steps = self.__await__()
        return self._steps.throw(*error)

    def close(self) -> None:
        if self._steps is not None:
            self._steps.close()


class Getting(Taking[T]):
    """What `AsyncPool.get()` and `acquire()` return: as `Taking`, with the bare resource."""

    __slots__ = ()

    def __await__(self) -> Generator[Any, Any, T]:
        slot: Any = yield from super().__await__()
        return slot.resource  # type: ignore[no-any-return]


class Leasing(Taking[Lease]):
    """What `AsyncPool.lease()` returns: as `Taking`, with a lease."""

    __slots__ = ()

    def __await__(self) -> Generator[Any, Any, Lease]:
        slot: Any = yield from super().__await__()
        lease = lease_of(self._pool, slot)
        # Not the slot, which would else never be found when the lease is dropped; and not the lease, whose == is the
        # resource's.
        self._held[-1] = lease._queuepool_end, self._held[-1][1]
        return lease

    def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> Awaitable[None]:
        return self._left()(error)  # type: ignore[no-any-return]


class Done:
    """Awaiting it takes no time: the work has been done."""

    def __await__(self) -> Generator[None, None, None]:
        return _NO_STEPS


_NO_STEPS: Generator[None, None, None] = iter(())  # type: ignore[assignment]  # `await` needs no more than its __next__
DONE = Done()

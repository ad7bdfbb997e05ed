"""The pool for threads."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from sys import _getframe
from threading import get_ident
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from . import ending, lending, options, steps, upkeep, v1
from .core import DEFAULT, BasePool, CloseOnException, log
from .entries import Entries, pop_own
from .errors import WrongSlot
from .lease import Lease, lease_of
from .lifecycle import FunctionLifecycle, Lifecycle
from .managers import ResourceManager
from .slot import Slot
from .slotqueue import FifoSlotQueue, LifoSlotQueue
from .stats import Holder, Observer
from .threads import THREADS, ThreadWaiter, run
from .turns import Turns

if TYPE_CHECKING:
    from typing_extensions import Self

    from .bridge import Bridged

T = TypeVar("T")

__all__ = ["Pool", "ResourceManager"]  # what queuepool 1.x programs import from here


class Borrowed(Generic[T]):
    """What `Pool.get()` returns: entering it takes a slot and gives the resource, leaving it puts the slot back."""

    __slots__ = ("_held", "_pool", "_timeout")

    def __init__(self, pool: Pool[T], timeout: float | None) -> None:
        self._pool = pool
        self._timeout = timeout
        self._held: Entries[Slot[T]] = []

    def __enter__(self) -> T:
        pool = self._pool
        slot = pool.take(self._timeout, 2)
        self._held.append((slot, pool._leases[slot]))
        return slot.resource

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        held = self._held
        slot, _ = held.pop(0) if len(held) == 1 else pop_own(held, get_ident)
        slot.__exit__(kind, error, traceback)


class Pool(v1.CamelCase, BasePool[T]):
    """A pool of up to `capacity` resources, opened as needed, for threads. All methods may be called from any thread.

    Arguments (times are seconds; None switches a limit off):
      name: in every message, thread name and metric.
      capacity: how many resources there are at most, besides `overflow`.
      max_idle_time, max_open_time, max_usage_count: what closes a resource, looked at on take, put and sweeps.
      close_on_exception: whether an exception in `with pool.take()` (and its kin) closes the resource: True, False,
        exception classes, or a function of the exception.
      open: a class or function that returns a new resource. close (default: its own `close()`), check (False or an
        exception: dead), reset (an exception: close it) receive the resource. Or a `Lifecycle` with all of them. With
        neither the program fills the pool by putting `ResourceManager` objects in, as in queuepool 1.x.
      overflow: how many more may be open when all are taken; sweeps close them as demand falls.
      timeout: how long a take waits, None for ever, 0 not at all; each take may say otherwise.
      max_waiting: how many callers may wait; one more gets `TooManyWaiting`.
      shed_after: in an overload, whoever has waited longer than this gets `Overloaded` as its turn comes, if others wait
        behind it (CoDel).
      min_idle: how many a sweep keeps open and idle.
      jitter: each lifetime is shortened by up to this fraction of `max_open_time`, drawn once when it opens.
      check_after: `check` a resource that nobody has used for this long; 0 checks at every take. Sweeps, too, check what
        has been idle this long, unless it is 0.
      max_opening: how many open at a time before others wait for a return instead, about as long as opening takes.
      fail_fast: during an outage (opens fail, transiently) raise `Unreachable` at once instead of retrying until the deadline.
      leak_after: sweeps warn of a slot that has been out for longer, once, with its holder.
      nested: what a thread that holds a slot gets from another take: "new" another, "same" the same, "error" `NestedTake`.
      queue_class: `LifoSlotQueue` or `FifoSlotQueue`.
      observer: an `Observer`.
      clock: monotonic seconds, for the ages of resources.
      quantum: for how long a thread whose turn has come may put back and take again before those who wait; 0: they come first,
        whatever it does. About 0.001 for threads that keep the cores busy and take again at once: most of them sleep then. A
        second or more is as 0, for nobody would look in time after a thread that does not come again.
    Raises TypeError or ValueError that names the argument and its value, where that is no secret.
    """

    _driver: ClassVar[Any] = THREADS
    _functions: ClassVar[Any] = FunctionLifecycle

    def __init__(
        self,
        name: str,
        capacity: int = 10,
        max_idle_time: float | None = 300.0,
        max_open_time: float | None = 300.0,
        max_usage_count: int | None = 1000,
        close_on_exception: CloseOnException = True,
        *,
        open: Callable[[], T] | None = None,
        close: Callable[[T], Any] | None = None,
        check: Callable[[T], Any] | None = None,
        reset: Callable[[T], Any] | None = None,
        lifecycle: Lifecycle[T] | None = None,
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
        quantum: float = 0.0,
        **camel_case: Any,
    ) -> None:
        limits = {
            "max_idle_time": max_idle_time,
            "max_open_time": max_open_time,
            "max_usage_count": max_usage_count,
            "close_on_exception": close_on_exception,
        }
        quantum = options.number("quantum", quantum)
        super().__init__(
            name, capacity, **v1.translated(limits, camel_case),
            open=open, close=close, check=check, reset=reset, lifecycle=lifecycle, overflow=overflow, timeout=timeout,
            max_waiting=max_waiting, shed_after=shed_after, min_idle=min_idle, jitter=jitter, check_after=check_after,
            max_opening=max_opening, fail_fast=fail_fast, leak_after=leak_after, nested=nested,
            queue_class=queue_class, observer=observer, clock=clock,
        )  # fmt: skip
        self._turns = Turns(quantum, self._queue, self._clock) if quantum else None

    # --- take and put

    def take(self, timeout: float | None = DEFAULT, _depth: int = 1) -> Slot[T]:
        """Lend a slot with a live resource (`slot.resource`); use it in `with`, or give it to `put`.

        Waits its turn for at most `timeout` seconds (default: the pool's; None: for ever; 0: not at all). Raises
        `Exhausted`, `Unreachable`, `TooManyWaiting`, `Overloaded`, `PoolClosed`, `NestedTake`, or what `open` raises;
        whatever it raises, no slot is lost by it.
        """
        if timeout is not DEFAULT:
            options.number_or_none("timeout", timeout)
        slot = waiter = None
        if self._plain:
            try:
                clock = self._clock  # calls of locals are the faster ones
                # Nobody may be overtaken, unless in a turn, hence the look at who waits. Then one pop, which is atomic, makes the slot ours.
                if self._line:
                    if self._turns is not None:
                        slot = self._turns.again()
                    if slot is None:
                        waiter = ThreadWaiter(get_ident())
                        slot = self._turn(waiter, timeout)
                        if self._turns is not None:
                            self._turns.begin(slot)
                else:
                    pop = self._pop
                    slot = pop()
                now = clock()
                if now < slot.due_at and (self._poll is None or self._poll(slot.resource)):
                    slot.use_count += 1
                    frame = _getframe(_depth)
                    self._leases[slot] = (frame.f_code, frame.f_lasti, get_ident(), now)
                    return slot
            except BaseException as error:
                if slot is not None:
                    self._leases.pop(slot, None)
                    if not isinstance(error, Exception):  # else the long way deals with it: `poll` may have raised
                        self._queue.put(slot)
                        raise
                elif not isinstance(error, IndexError):
                    raise
        frame = _getframe(_depth)
        return run(lending.Take(self, THREADS, timeout, waiter).run(slot, frame.f_code, frame.f_lasti))

    def _turn(self, waiter: ThreadWaiter, timeout: float | None) -> Slot[T]:
        """The slot that `waiter` is given in its turn; IndexError, as of `pop`, says that the long way is to go on waiting.

        What a thread does between waking another and falling asleep itself, the other waits for, in vain awake: each
        microsecond here costs a busy pool three in a hundred of what it lends.
        """
        queue, line = self._queue, self._line
        try:
            lending.admit(self, waiter)
            queue.join_line(waiter, line)
            seconds = lending.patience(THREADS, line, self._timeout if timeout is DEFAULT else timeout)
            turns = self._turns
            wait = waiter.wait if turns is None else partial(turns.wait, waiter)
            item = waiter.accept() if not self._closed and wait(seconds) else None
        except BaseException:
            queue.give_up(waiter, line)
            raise
        if item is None:
            raise IndexError
        lending.note_wait(self, waiter.joined_at, item)
        return item

    def put(self, slot: Slot[T]) -> None:
        """Give back a slot. Raises `WrongSlot`, and changes nothing, if it is not out on loan from this pool.

        May be called from any thread, finalizer or signal handler: it waits for nothing but `reset` and `close`. A pool
        made without `open` takes in new slots (`ResourceManager`) by it.
        """
        # Popping the lease is atomic, so of two puts of one slot only one goes on.
        lease = self._leases.pop(slot, None)
        if lease is None:
            self._adopt(slot)
            return
        try:
            clock, push = self._clock, self._push
            now = clock()
            fit = now < slot.expires_at and slot.use_count < self._most_uses
            if fit:
                slot.last_used_at = now
                due_at = now + self._quiet_time
                slot.due_at = due_at if due_at < slot.expires_at else slot.expires_at
        except BaseException:
            self._queue.put(slot)
            raise
        # An exception from here on may find the slot put or not, so nobody puts it again: if it was lost, `reclaim`
        # finds it.
        if fit:
            push(slot)
            # The slot first, the line after: see slotqueue for why no wake-up is lost.
            if self._standby or (self._line and (self._turns is None or not self._turns.goes_on(slot, now))):
                self._queue.serve()
        else:
            run(steps.put_leased(self, THREADS, slot, lease))

    def _put_after(self, slot: Slot[T], error: BaseException) -> None:
        """Give back a slot whose user raised `error`, which nothing that happens here may hide."""
        lease = self._leases.pop(slot, None)
        if lease is None:
            log.warning("%s: slot %s was put back before its `with` ended by %r", self.name, slot.name, type(error))
        else:
            run(steps.put_leased(self, THREADS, slot, lease, error))

    # --- other handles

    def get(self, timeout: float | None = DEFAULT) -> Borrowed[T]:
        """`with pool.get() as resource:` lends the bare resource; the `with` takes and always puts back. As `take`."""
        return Borrowed(self, timeout)

    def acquire(self, timeout: float | None = DEFAULT) -> T:
        """Lend the bare resource where no `with` fits; give it back by `release`. As `take`."""
        return self.take(timeout, 2).resource

    def release(self, resource: T) -> None:
        """Give back what `acquire` returned. Raises `WrongSlot` if it is not out on loan from this pool."""
        slot = self._by_resource.get(id(resource))
        if slot is None or slot.resource is not resource:
            raise WrongSlot(f"{self.name}: this {type(resource).__name__} is not out on loan from here")
        self.put(slot)

    def lease(self, timeout: float | None = DEFAULT) -> Lease:
        """Lend a handle that behaves like the resource, and gives it back by `close()`, `with`, or when dropped. As `take`."""
        return lease_of(self, self.take(timeout, 2))

    def aget(self, timeout: float | None = DEFAULT) -> Bridged[T]:
        """`get` for coroutines: `async with pool.aget() as resource:`, see `bridge.borrow`."""
        from .bridge import borrow  # with asyncio, which programs of threads do without

        return borrow(self, timeout, _depth=2)

    def _nothing(self) -> None:
        return None

    # --- upkeep

    def prefill(self, count: int | None = None) -> int:
        """Open resources until `count` are open (default: `capacity`); return how many it opened. Raises what `open` does."""
        count = self._capacity if count is None else options.count("count", count)
        return run(upkeep.fill(self, THREADS, count, lambda: len(self._by_resource)))

    def recycle(self) -> int:
        """Sweep once: close what is due, see to `min_idle`, overflow, leaks and lost slots; return how many it closed."""
        return run(upkeep.sweep(self, THREADS))

    def start_recycler(self, interval: float = 60.0) -> None:
        """Sweep every `interval` seconds in a daemon thread; twice is once. It ends with the pool."""
        from .recycler import Recycler

        with self._resizing:  # any lock of the pool's own will do, so that of two threads one starts it
            if self._recycler is None or not self._recycler.alive:
                self._recycler = Recycler(self, interval)

    def stop_recycler(self) -> None:
        """End the daemon thread, waiting for its sweep to end; harmless without one."""
        with self._resizing:
            recycler, self._recycler = self._recycler, None
        if recycler is not None:
            recycler.stop()

    def pause(self) -> None:
        """Lend nothing until `resume`: takers wait, within their timeouts; returns go on."""
        ending.pause(self)

    def resume(self) -> None:
        """End a pause."""
        ending.resume(self)

    def resize(self, capacity: int) -> None:
        """Change the capacity. Surplus slots go at once, those out on loan when they come back, so if it grows again before,
        there are more than `capacity` until then. Raises ValueError."""
        run(ending.resize(self, THREADS, capacity))

    def recycle_all(self) -> None:
        """Close every resource that was opened before this instant: idle ones now, leased ones at put."""
        run(ending.recycle_all(self, THREADS, "recycle_all"))

    def dispose(self) -> None:
        """`recycle_all`, but what `close` raised is raised, in one ExceptionGroup, after all were closed. The pool lives on."""
        run(ending.dispose(self, THREADS))

    def close(self, timeout: float | None = 5.0) -> list[Holder]:
        """Lend no more, tell those who wait (`PoolClosed`), close what is idle, and wait for what is out on loan, at most
        `timeout` seconds (None: as long as it takes). Returns who still holds slots; those are closed at put. Repeatable.
        """
        if self._recycler is not None:
            self._recycler.stop(wait=False)  # what its sweep may hold is waited for like any other slot
        return run(ending.close(self, THREADS, timeout))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

"""What `Pool` and `AsyncPool` share: options, tables, and what they tell about themselves.

What they do is in `lending` (take), `steps` (open to put), `upkeep` (sweeps) and `ending` (resize, drain, close), as
flows that receive the pool; the errors of a take that gets nothing are made in `refusals`. The tables and what guards them:

* `_queue`: the slots that nobody owns. Whoever removes a slot from it owns it (see `slotqueue`).
* `_leases`: slot -> (code, offset, thread or task, instant). Popping a key is atomic, and is what ends a lease.
* `_slots`: every slot of this pool, as keys. Changed by adoption and retirement, one key at a time.
* `_by_resource`: id of an open resource -> its slot. Changed by the slot's owner alone.
"""

from __future__ import annotations

import itertools
import logging
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable
from types import CodeType
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NoReturn, TypeVar, Union

from . import options
from .admission import Admission
from .errors import BadResource, PoolClosed, WrongSlot
from .lifecycle import SlotLifecycle
from .limits import Limits
from .outage import Gate
from .slot import AT_ONCE, Slot
from .slotqueue import FifoSlotQueue, LifoSlotQueue, SlotQueue, Waiter
from .stats import Counters, Holder, Observer, Stats, snapshot

T = TypeVar("T")

#: Who holds a slot since when: code and offset of the caller, its thread's identifier or its task, the clock's instant.
LeaseRecord = tuple[CodeType, int, Any, float]

#: What closes a resource when its user raised: always, never, for these classes, or when the function says so.
CloseOnException = Union[bool, type, tuple[type, ...], Callable[[BaseException], bool]]


class _PoolsOwn:
    """The default of arguments for which the pool has an option, since None has a meaning of its own."""

    def __repr__(self) -> str:
        return "DEFAULT"


DEFAULT: Any = _PoolsOwn()

#: All pools of this process, for the hook after a fork.
pools: weakref.WeakSet[BasePool[Any]] = weakref.WeakSet()

log = logging.getLogger("queuepool")


class BasePool(Generic[T]):
    """The base of both pools; see `Pool` for the options."""

    # Slots, not a dict: CPython finds the fields and methods of objects with few or no dict entries faster.
    __slots__ = (
        "_admission",
        "_by_resource",
        "_capacity",
        "_clock",
        "_closed",
        "_closing",
        "_counters",
        "_fail_fast",
        "_gate",
        "_generation",
        "_heal_at",
        "_leak_after",
        "_leases",
        "_lifecycle",
        "_limits",
        "_line",
        "_min_idle",
        "_most_uses",
        "_nested",
        "_nesting",
        "_observer",
        "_orphaned",
        "_overflow",
        "_paused",
        "_pid",
        "_plain",
        "_poll",
        "_pop",
        "_push",
        "_queue",
        "_quiet_time",
        "_recycler",
        "_resizing",
        "_slots",
        "_standby",
        "_swept_at",
        "_timeout",
        "_turns",
        "_watches_given_back",
        "_watches_taken",
        "close_on_exception",
        "name",
    )

    if TYPE_CHECKING:
        _clock: Callable[[], float]
        _line: deque[Waiter]
        _standby: deque[Waiter]
        _pop: Callable[[], Slot[T]]
        _push: Callable[[Slot[T]], None]

        # What each kind of pool has in its own way: plain here, awaitable there.
        def put(self, slot: Slot[T]) -> Any: ...
        def _put_after(self, slot: Slot[T], error: BaseException) -> Any: ...
        def _nothing(self) -> Any: ...

    _driver: ClassVar[Any]
    _functions: ClassVar[Any]

    def __init__(
        self,
        name: str,
        capacity: int,
        max_idle_time: float | None,
        max_open_time: float | None,
        max_usage_count: int | None,
        close_on_exception: CloseOnException,
        *,
        open: Callable[[], Any] | None,
        close: Callable[[T], Any] | None,
        check: Callable[[T], Any] | None,
        reset: Callable[[T], Any] | None,
        lifecycle: SlotLifecycle[T] | None,
        overflow: int,
        timeout: float | None,
        max_waiting: int | None,
        shed_after: float | None,
        min_idle: int,
        jitter: float,
        check_after: float,
        max_opening: int,
        fail_fast: bool,
        leak_after: float | None,
        nested: str,
        queue_class: type[Any],
        observer: Observer | None,
        clock: Callable[[], float],
    ) -> None:
        if not isinstance(name, str):
            raise options.wrong_type("name", "a string", name)
        if not name:
            raise ValueError("name must have at least one character")
        self.name = name
        self._capacity = options.count("capacity", capacity, least=1)
        self._overflow = options.count("overflow", overflow)
        self._limits = Limits(max_idle_time, max_open_time, max_usage_count, jitter, check_after)
        self.close_on_exception = options.exception_rule("close_on_exception", close_on_exception)
        self._timeout = options.number_or_none("timeout", timeout)
        unbounded = max_waiting is None and shed_after is None
        self._admission = None if unbounded else Admission(max_waiting, shed_after)
        self._min_idle = options.count("min_idle", min_idle)
        if self._min_idle > self._capacity:
            raise ValueError(f"min_idle must be at most capacity ({capacity}), not {min_idle!r}")
        self._gate = Gate(max_opening)
        self._fail_fast = bool(fail_fast)
        self._leak_after = options.number_or_none("leak_after", leak_after)
        self._nested = options.choice("nested", nested, "new", "same", "error")
        if observer is not None and not isinstance(observer, Observer):
            raise options.wrong_type("observer", "an Observer", observer)
        self._observer = observer
        self._clock = options.function("clock", clock)
        self._lifecycle = self._lifecycle_of(open, close, check, reset, lifecycle)

        self._counters = Counters()
        self._slots: dict[Slot[T], None] = {}
        self._leases: dict[Slot[T], LeaseRecord] = {}
        self._by_resource: dict[int, Slot[T]] = {}
        #: thread or task -> [its slot, how often it has taken it, the thread]; used unless `nested` is "new".
        self._nesting: dict[object, list[Any]] = {}
        #: Callers of `close` that wait for the last slot to come home.
        self._closing: deque[Waiter] = deque()
        self._swept_at = self._clock()
        self._heal_at = AT_ONCE
        self._orphaned = False
        self._resizing = threading.Lock()  # guards the choice of who retires; no user code runs under it
        self._generation = 0
        self._paused = self._closed = False
        self._pid = os.getpid()
        self._recycler: Any = None
        if not (isinstance(queue_class, type) and issubclass(queue_class, SlotQueue)):
            raise TypeError(f"queue_class must be LifoSlotQueue, FifoSlotQueue or a subclass, not {queue_class!r}")
        self._queue: SlotQueue = queue_class()
        self._line, self._standby = self._queue.line, self._queue.standby
        self._prepare_hot_path()
        if self._lifecycle is not None:
            self._add_slots(self._capacity + self._overflow)
        elif self._overflow or self._min_idle:
            raise TypeError("overflow and min_idle need a pool that opens its resources: give open= or lifecycle=")
        pools.add(self)

    def _lifecycle_of(
        self, open: Any, close: Any, check: Any, reset: Any, lifecycle: SlotLifecycle[T] | None
    ) -> SlotLifecycle[T] | None:
        given = {"open": open, "close": close, "check": check, "reset": reset}
        functions = [hook for hook, function in given.items() if function is not None]
        if lifecycle is not None:
            if functions:
                raise TypeError(f"give either lifecycle= or functions, not both: {', '.join(functions)}")
            wanted = self._functions.__mro__[1]
            if not isinstance(lifecycle, wanted):
                raise options.wrong_type("lifecycle", f"an instance of {wanted.__name__}", lifecycle)
            return lifecycle  # type: ignore[no-any-return]
        if open is None:
            if functions:
                raise TypeError(f"{', '.join(functions)} need open=, which makes the resources")
            return None
        made: SlotLifecycle[T] = self._functions(**given)
        return made

    def _prepare_hot_path(self) -> None:
        """Work out which shortcuts take and put may use; they ask these attributes and nothing else."""
        lifecycle, observer = self._lifecycle, self._observer

        def watches(event: str) -> bool:
            # What a mock or the instance itself has for it is no method of this class either.
            method = getattr(observer, event, None)
            return observer is not None and getattr(method, "__func__", method) is not getattr(Observer, event)

        self._watches_taken, self._watches_given_back = watches("taken"), watches("given_back")
        self._poll = lifecycle.poll if lifecycle is not None and lifecycle.offers("poll") else None
        plain = self._nested == "new" and not self._watches_taken and not self._paused and not self._closed
        plain = plain and type(self._queue).pop_open in (LifoSlotQueue.pop_open, FifoSlotQueue.pop_open)
        # Whether a take may do no more than to pop a slot, or to wait its turn for one.
        self._plain = plain
        # How long after a put a slot may be lent without a second look, in seconds; after how many uses, put gives one.
        self._quiet_time = self._limits.quiet_time
        self._most_uses = self._limits.most_uses
        if self._nested != "new" or self._watches_given_back:
            self._most_uses = 0
        if lifecycle is not None:
            self._heed(lifecycle)
        slots = self._queue.queue
        self._pop = slots.pop if isinstance(slots, list) else slots.popleft
        self._push = slots.append

    def _heed(self, lifecycle: SlotLifecycle[T]) -> None:
        """Let take and put make no shortcut around what `lifecycle` offers."""
        if lifecycle.offers("reset"):
            self._most_uses = 0
        if lifecycle.offers("check"):
            self._quiet_time = min(self._quiet_time, self._limits.check_after)

    # --- slots

    @property
    def capacity(self) -> int:
        """How many slots the pool has, without `overflow`; `resize` changes it."""
        return self._capacity

    def _add_slots(self, count: int) -> None:
        taken = {slot.name for slot in list(self._slots)}
        names = (f"{self.name}-{number}" for number in itertools.count(1))
        for name in itertools.islice((name for name in names if name not in taken), count):
            slot: Slot[T] = Slot(name)
            slot.lifecycle = self._lifecycle  # type: ignore[assignment]
            self._join(slot)

    def _join(self, slot: Slot[T]) -> None:
        slot._pool = self
        self._slots[slot] = None
        self._queue.put(slot)

    def _adopt(self, slot: Any) -> None:
        """Take in a slot that the program made (queuepool 1.x), or say why it is none of ours."""
        if not isinstance(slot, Slot):
            kind = type(slot).__name__
            raise WrongSlot(f"{self.name}: cannot put {kind} objects, only slots; a resource goes to release()")
        if not hasattr(slot, "_pool"):
            raise BadResource(f"{self.name}: {type(slot).__name__}.__init__ must call super().__init__(name)")
        if slot._pool is not None:
            owner = "this pool" if slot._pool is self else f"pool {slot._pool.name}"
            raise WrongSlot(
                f"{self.name}: slot {slot.name} is not out on loan (it belongs to {owner} and is {slot.state}): "
                "it was put back before, or never taken from here"
            )
        lifecycle = getattr(slot, "lifecycle", None)
        if lifecycle is None or self._lifecycle is not None:
            raise WrongSlot(f"{self.name}: slot {slot.name} was not made by this pool, which makes its own slots")
        if type(slot).__eq__ is not object.__eq__ or type(slot).__hash__ is not object.__hash__:
            kind = type(slot).__name__
            raise BadResource(f"{self.name}: {kind} must not define __eq__ or __hash__ (a dataclass: eq=False)")
        if self._closed:
            raise PoolClosed(f"{self.name}: the pool is closed")
        # Those that are out do not count: 1.x programs put in a new one for one that broke, and that they never put back.
        if sum(not each.retiring and each not in self._leases for each in list(self._slots)) >= self._capacity:
            raise WrongSlot(f"{self.name}: cannot add {slot.name}, all {self._capacity} slots are there (capacity)")
        self._heed(lifecycle)
        self._join(slot)

    def _forget(self, slot: Slot[T]) -> None:
        """Retire an empty slot that is in nobody's hands but the caller's."""
        # Out of the table first: an interrupt in between must not leave a retired slot in it.
        self._slots.pop(slot, None)
        slot.retire()  # it still knows its pool, which a `with` or a second put may yet ask
        if not self._slots and self._closing:
            self._queue.wake(self._closing, None)

    def _give_back(self, slot: Slot[T]) -> None:
        """Queue a slot that the caller owns; one that was retiring and is empty goes for good."""
        if slot.retiring and not slot.is_open:
            self._forget(slot)
        else:
            self._queue.put(slot)

    # --- what went wrong

    def _observe(self, event: str, *args: Any) -> None:
        """Tell the observer, whose errors are logged and counted and go no further."""
        if self._observer is None:
            return
        try:
            getattr(self._observer, event)(self, *args)
        except Exception:
            self._counters.observer_errors += 1
            log.exception("%s: the observer's %s() failed", self.name, event)

    def _note_failure(self, slot: Slot[T], step: str, error: BaseException) -> None:
        log.warning("%s: %s of %s failed: %s", self.name, step, slot.name, slot.lifecycle.describe(error))
        self._observe("failed", step, error)

    def _closes_on(self, error: BaseException) -> bool:
        """Whether a user's `error` costs the resource its life."""
        rule = self.close_on_exception
        if isinstance(rule, bool):
            return rule
        if isinstance(rule, (type, tuple)):
            return isinstance(error, rule)
        try:
            return bool(rule(error))
        except Exception:
            log.exception("%s: close_on_exception failed; the resource is closed", self.name)
            return True

    # --- what it tells

    def holders(self) -> list[Holder]:
        """Who holds slots now, the longest first. Any thread may ask."""
        from .places import holders_of

        now = self._clock()
        records = sorted(self._leases.copy().items(), key=lambda item: item[1][3])
        return holders_of(records, now)

    def stats(self) -> Stats:
        """The pool's gauges and counters now; see `Stats`. Any thread may ask."""
        return snapshot(self)

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        if not hasattr(self, "_line"):  # its options were refused, and a tool shows the variables of the frame
            return f"<{type(self).__name__}, not made>"
        state = "closed" if self._closed else "paused" if self._paused else "open"
        return (
            f"<{type(self).__name__} {self.name}: {state}, capacity {self._capacity}, {len(self._leases)} taken, "
            f"{len(self._queue.queue)} idle, {len(self._line)} waiting>"
        )

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"pool {self.name} cannot be pickled or copied: its resources are this process's own")

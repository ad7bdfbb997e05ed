"""The names of queuepool 1.x, whose programs run unchanged, and what each is called now."""

from __future__ import annotations

import math
import time
import weakref
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from . import steps
from .lifecycle import Lifecycle
from .slot import AT_ONCE, Slot
from .threads import THREADS, run

if TYPE_CHECKING:
    from datetime import datetime
    from threading import Thread

    from .limits import Limits

T = TypeVar("T")

#: Each 1.x keyword argument of `Pool`, and the present one.
KEYWORDS = {
    "maxIdleTime": "max_idle_time",
    "maxOpenTime": "max_open_time",
    "maxUsageCount": "max_usage_count",
    "closeOnException": "close_on_exception",
}


def translated(present: dict[str, Any], camel_case: dict[str, Any]) -> dict[str, Any]:
    """The options that 1.x had, by their present names: `present`, where `camel_case` does not say otherwise.

    Values that 1.x took become what is meant by them now, by whatever name or none they were given. Raises TypeError for
    a name that no release ever knew.
    """
    for name in camel_case:
        if name not in KEYWORDS:
            import difflib  # for this message alone

            from .pool import Pool

            code = Pool.__init__.__code__
            known = code.co_varnames[1 : code.co_argcount + code.co_kwonlyargcount]
            close = difflib.get_close_matches(name, known, 1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise TypeError(f"Pool has no option {name!r}{hint}")
    given = {**present, **{KEYWORDS[name]: value for name, value in camel_case.items()}}
    meant = {name: None if value == math.inf else value for name, value in given.items()}
    most = meant["max_usage_count"]
    if isinstance(most, float) and math.isfinite(most):
        meant["max_usage_count"] = math.ceil(most)  # 1e6 is the usual one
    meant["close_on_exception"] = _plain_rule(meant["close_on_exception"])
    return meant


def _plain_rule(value: Any) -> Any:
    """`close_on_exception` as 1.x read it, which asked only whether the value was true; 0, 1 and None were in use."""
    return bool(value) if value is None or isinstance(value, int) else value


class CamelCase:
    """The 1.x attributes and methods of a pool."""

    if TYPE_CHECKING:
        close_on_exception: Any
        _capacity: int
        _driver: ClassVar[Any]
        _leases: dict[Slot[Any], Any]
        _limits: Limits
        _lifecycle: Any
        _resizing: Any
        _recycler: Any
        _slots: dict[Slot[Any], None]

        def start_recycler(self, interval: float = 60.0) -> None: ...

    else:  # new programs are to call `resize`, and their checkers to say so

        @property
        def capacity(self) -> int:
            """How many slots the pool has, without `overflow`; `resize` changes it."""
            return self._capacity

        @capacity.setter
        def capacity(self, capacity: int) -> None:
            if hasattr(self, "_line"):
                self.resize(capacity)
            else:
                self._capacity = capacity  # by a subclass, before it calls our __init__

    @property
    def closeOnException(self) -> Any:
        return self.close_on_exception

    @closeOnException.setter
    def closeOnException(self, value: Any) -> None:
        self.close_on_exception = _plain_rule(value)

    @property
    def _recyclerThread(self) -> Thread | None:
        thread: Thread | None = self._recycler and self._recycler._thread
        return thread

    @property
    def _maxIdleTime(self) -> float | None:
        return self._limits.max_idle_time

    @property
    def _maxOpenTime(self) -> float | None:
        return self._limits.max_open_time

    @property
    def _maxUsageCount(self) -> int | None:
        return self._limits.max_usage_count

    def startRecycler(self, interval: float = 60.0) -> None:
        """`start_recycler`."""
        self.start_recycler(interval)

    def _join(self, slot: Slot[Any]) -> None:
        if isinstance(slot, ResourceManager):
            slot._pool = self  # type: ignore[assignment]  # `putRepair` may ask it
            try:
                slot.putRepair()  # 1.x called it at every put, so at this first one too
            except BaseException:
                slot._pool = None
                raise
        super()._join(slot)  # type: ignore[misc]  # Pool's next base has it
        if self._lifecycle is None:
            self._replace_one_by(slot)

    def _replace_one_by(self, new: Slot[Any]) -> None:
        """Let one that is out retire when it comes back, if there are more than `capacity` with the `new` one."""
        me, leases = self._driver.current(), self._leases.copy()

        def unlikely(slot: Slot[Any]) -> tuple[bool, bool, float]:
            """How little suggests that `slot` is the one that `new` is put in for."""
            _, _, owner, since = leases[slot]
            return slot.condemned is None, owner != me, since

        with self._resizing:
            staying = [slot for slot in list(self._slots) if not slot.retiring]
            if len(staying) > self._capacity:
                out = min((slot for slot in staying if slot in leases), key=unlikely, default=new)
                out.retiring = True
                out.condemn("replaced")

    def _prepare_hot_path(self) -> None:
        super()._prepare_hot_path()  # type: ignore[misc]  # as above
        if self._lifecycle is None:
            for slot in list(self._slots):  # each manager has its own lifecycle
                self._heed(slot.lifecycle)  # type: ignore[attr-defined]  # as above


class _Shadowed:
    """A property that a subclass may hide by an attribute of its own, as it could when 1.x had nothing of that name."""

    def __init__(self, owner: type, name: str) -> None:
        self._get: Callable[[Any], Any] = getattr(owner, name).fget

    def __get__(self, slot: Any, owner: type | None = None) -> Any:
        return self if slot is None else self._get(slot)


def _date(when: float | None) -> datetime | None:
    from datetime import datetime  # here, because few programs ask, and all would wait for the import

    return None if when is None else datetime.fromtimestamp(when)


class ResourceManager(Slot[Any]):
    """A slot that knows its own lifecycle: subclass it, override `open` and `close` (calling super's), and `put` as many
    as the pool's capacity into a `Pool` made without `open`.

    `open` sets `self.resource`; `close` closes it, and may be called by whoever holds the slot, after which it opens anew
    at its next take. `takeRepair` is called at each take and `putRepair` at each put; either may call `close`. What
    `takeRepair` raises means, as with any check, that the resource is dead; what `open` raises goes to the taker.
    The other names of `Slot`'s are the pool's own (`is_open`, `use_count`, `opened_at`, `lifecycle`, ...): a subclass that
    has such an attribute must rename it. Old programs may read `_isOpen`, `_lastOpened`, `_lastUsed` and `_usageCount` as well.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._isOpen = False
        self._openedWhen: float | None = None
        self._listed_as = 0  # the key of what it opened in the pool's table of resources
        self.lifecycle = _ManagersOwn(self)

    def open(self) -> None:
        self._isOpen = True
        self._openedWhen = time.time()

    def close(self) -> None:
        super().close()  # first, lest an interrupt leave a closed resource that nothing marks
        self._isOpen = False
        self._unlist()

    def takeRepair(self) -> None:
        pass

    def putRepair(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        pool: Any = self._pool
        if error is not None and self not in pool._leases:
            pool._put_after(self, error)
            return
        try:
            if error is not None and pool._closes_on(error):
                self.condemn("exception")
                if pool._nested == "new":  # else its holder may have taken it twice, and go on with it
                    run(steps.close(pool, THREADS, self, self.condemned or "exception"))
        finally:
            # Also after an error, and closed by then, for 1.x programs subclass Pool and override put.
            pool.put(self)

    def __str__(self) -> str:
        return self.name

    @property
    def _lastOpened(self) -> datetime | None:
        return _date(self._openedWhen)

    @_lastOpened.setter
    def _lastOpened(self, when: datetime | None) -> None:
        self._openedWhen = None if when is None else when.timestamp()
        if when is not None and self.opened_at is not None:
            opened_at = self._instant(when)
            self.expires_at += opened_at - self.opened_at
            self.opened_at, self.due_at = opened_at, AT_ONCE

    @property
    def _lastUsed(self) -> datetime | None:
        """When it was last taken or put; the pool's clock knows no dates, so this is as far back from now."""
        pool = self._pool
        lease = pool._leases.get(self) if pool is not None else None
        instant = self.last_used_at if lease is None else lease[3]
        if pool is None or instant is None:
            return self._lastOpened
        return _date(time.time() - (pool._clock() - instant))

    @_lastUsed.setter
    def _lastUsed(self, when: datetime | None) -> None:
        if when is not None and self.last_used_at is not None:
            self.last_used_at, self.due_at = self._instant(when), AT_ONCE

    def _instant(self, when: datetime) -> float:
        """`when` by the pool's clock, for a slot that has one."""
        return self._pool._clock() - (time.time() - when.timestamp())  # type: ignore[union-attr]

    @property
    def _usageCount(self) -> int | None:
        return None if self._openedWhen is None else self.use_count

    @_usageCount.setter
    def _usageCount(self, count: int | None) -> None:
        self._own.noted_uses += (count or 0) - self.use_count  # that it was used since `putRepair` stays as it is
        self.use_count = count or 0

    def _hide(self, text: str) -> str:
        """`text`, which goes to a log or a message, without what is secret."""
        return text

    # --- what the pool says of it

    def note_opened(self, resource: Any, now: float) -> None:
        super().note_opened(resource, now)
        self._listed_as = id(resource)
        self._own.noted_uses = 0

    def note_closed(self) -> Any:
        # Said of every resource that leaves the slot, also of those that a forked child only forgets.
        self._own.leaving = self._isOpen, self.use_count > self._own.noted_uses
        self._isOpen = False
        self._unlist()
        return super().note_closed()

    @property
    def _own(self) -> _ManagersOwn:
        return self.lifecycle  # type: ignore[return-value]  # each manager has been given one

    def _unlist(self) -> None:
        """Take what it opened off the pool's table, since nobody but itself knows what `self.resource` was then."""
        if self._pool is not None and self._pool._by_resource.get(self._listed_as) is self:
            self._pool._by_resource.pop(self._listed_as, None)


for _name in ("state", "open_time", "idle_time"):
    setattr(ResourceManager, _name, _Shadowed(Slot, _name))


def _overrides(manager: ResourceManager, method: str) -> bool:
    """Whether the manager or its class has a `method` of its own."""
    return getattr(getattr(manager, method), "__func__", None) is not getattr(ResourceManager, method)


#: What a lifecycle's hooks are called here.
_REPAIRS = {"check": "takeRepair", "reset": "putRepair"}


class _ManagersOwn(Lifecycle[Any]):
    """The lifecycle of one manager, by its own methods."""

    def __init__(self, manager: ResourceManager) -> None:
        # Weakly, because whether a slot is lost is told by the number of references to it.
        self._manager: Callable[[], Any] = weakref.ref(manager)
        self._offered: dict[str, bool] = {}
        self._repaired = False
        #: How often the resource had been taken when `putRepair` last saw it.
        self.noted_uses = 0
        #: Of the resource that is about to be closed: whether the manager has not done so, and owes it a `putRepair`.
        self.leaving: tuple[bool, bool] = False, False

    def offers(self, hook: str) -> bool:
        offered = self._offered.get(hook)
        if offered is None:  # asked for the first time as the pool takes the manager in
            method = _REPAIRS.get(hook)
            offered = method is not None and _overrides(self._manager(), method)
            self._offered[hook] = offered
        return offered

    def transient(self, error: Exception) -> bool:
        # Each taker of a 1.x program makes its own attempt, and gets what that raises.
        return False

    def describe(self, error: BaseException) -> str:
        hidden: str = self._manager()._hide(super().describe(error))
        return hidden

    def open(self) -> Any:
        manager = self._manager()
        repaired, self._repaired = self._repaired, False
        if not repaired:
            manager.takeRepair()
        if not manager._isOpen:  # it may have been opened before it was put in
            try:
                manager.open()
            except BaseException:
                manager._isOpen, manager.resource = False, None  # half open is not open
                raise
            manager._isOpen = True
        return manager.resource

    def close(self, resource: Any) -> None:
        manager = self._manager()
        open_still, owes_repair = self.leaving
        if open_still:
            manager._isOpen, manager.resource = True, resource  # close() looks for it there
            try:
                manager.close()
            finally:
                manager._isOpen, manager.resource = False, None
        if owes_repair:
            manager.putRepair()

    def check(self, resource: Any) -> bool:
        manager = self._manager()
        manager.takeRepair()
        still_open: bool = manager._isOpen
        self._repaired = not still_open
        return still_open

    def reset(self, resource: Any) -> None:
        manager = self._manager()
        if manager._pool._limits.exceeded(manager, manager.last_used_at) is not None:
            return  # it is closed next, and repaired after that, which is 1.x's order
        self.noted_uses = manager.use_count
        manager.putRepair()
        if not manager._isOpen:
            manager.condemn("asked")

"""`ResourceManager`, the slot of queuepool 1.x, which knows how to open and close what it holds."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any

from . import steps
from .lifecycle import Lifecycle
from .slot import AT_ONCE, Slot
from .threads import THREADS, run

if TYPE_CHECKING:
    from datetime import datetime


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

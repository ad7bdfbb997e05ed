"""The names of queuepool 1.x, whose programs run unchanged, and what each is called now."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

from .lifecycle import Lifecycle
from .slot import Slot

#: Each 1.x name and the present one; keyword arguments of `Pool`.
KEYWORDS = {
    "maxIdleTime": "max_idle_time",
    "maxOpenTime": "max_open_time",
    "maxUsageCount": "max_usage_count",
    "closeOnException": "close_on_exception",
}


def translated(given: dict[str, Any]) -> dict[str, Any]:
    """Keyword arguments by their present names. Raises TypeError for one that no release ever knew."""
    for name in given:
        if name not in KEYWORDS:
            from .pool import Pool

            code = Pool.__init__.__code__
            known = code.co_varnames[1 : code.co_argcount + code.co_kwonlyargcount]
            close = difflib.get_close_matches(name, known, 1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise TypeError(f"Pool has no option {name!r}{hint}")
    return {KEYWORDS[name]: value for name, value in given.items()}


class CamelCase:
    """The 1.x attributes and methods of a pool."""

    if TYPE_CHECKING:
        close_on_exception: Any

        def start_recycler(self, interval: float = 60.0) -> None: ...

    @property
    def closeOnException(self) -> Any:
        return self.close_on_exception

    @closeOnException.setter
    def closeOnException(self, value: Any) -> None:
        self.close_on_exception = value

    def startRecycler(self, interval: float = 60.0) -> None:
        """`start_recycler`."""
        self.start_recycler(interval)


class ResourceManager(Slot[Any]):
    """A slot that knows its own lifecycle: subclass it, override `open` and `close` (calling super's), and `put` as many
    as the pool's capacity into a `Pool` made without `open`.

    `open` sets `self.resource`. `takeRepair` is called at each take and `putRepair` at each put; either may call `close`,
    after which the resource opens anew at the next take.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._isOpen = False
        self.lifecycle = _ManagersOwn(self)

    def open(self) -> None:
        self._isOpen = True

    def close(self) -> None:
        self._isOpen = False
        super().close()

    def takeRepair(self) -> None:
        pass

    def putRepair(self) -> None:
        pass

    def __str__(self) -> str:
        return self.name


class _ManagersOwn(Lifecycle[Any]):
    """The lifecycle of one manager, by its own methods."""

    def __init__(self, manager: ResourceManager) -> None:
        # The lifecycle is the manager's attribute, and this makes a cycle; managers live as long as their pool.
        self._manager = manager
        self._repaired = False

    def offers(self, hook: str) -> bool:
        kind = type(self._manager)
        if hook == "check":
            return kind.takeRepair is not ResourceManager.takeRepair
        if hook == "reset":
            return kind.putRepair is not ResourceManager.putRepair
        return False

    def open(self) -> Any:
        manager = self._manager
        if not self._repaired:
            manager.takeRepair()
        self._repaired = False
        if not manager._isOpen:
            manager.open()
        return manager.resource

    def close(self, resource: Any) -> None:
        manager = self._manager
        if manager._isOpen:
            manager.resource = resource  # the slot has let go of it already, and close() looks for it there
            try:
                manager.close()
            finally:
                manager._isOpen = False
                manager.resource = None

    def check(self, resource: Any) -> bool:
        self._manager.takeRepair()
        self._repaired = not self._manager._isOpen
        return self._manager._isOpen

    def reset(self, resource: Any) -> None:
        self._manager.putRepair()

"""Managers as programs for queuepool 1.3.2 wrote them, and a pool filled as they filled it."""

from __future__ import annotations

from typing import Any

from queuepool import Pool, ResourceManager


class Recording(ResourceManager):
    """A manager as programs wrote them, which remembers what was called and fails where it is told to."""

    def __init__(self, name: str = "manager", **failing: BaseException) -> None:
        super().__init__(name)
        self.calls: list[str] = []
        self.failing = failing

    def _note(self, call: str) -> None:
        self.calls.append(call)
        if call in self.failing:
            raise self.failing[call]

    def open(self) -> None:
        self.resource = object()
        self._note("open")
        super().open()

    def close(self) -> None:
        self._note("close")
        self.resource = None
        super().close()

    def takeRepair(self) -> None:
        self._note("takeRepair")

    def putRepair(self) -> None:
        self._note("putRepair")


class Plain(ResourceManager):
    """One without repairs, which take and put may lend by their shortest way."""

    def open(self) -> None:
        super().open()
        self.resource = object()


def pool_of(*managers: ResourceManager, **options: Any) -> Pool[Any]:
    pool = Pool("old", len(managers), **options)
    for manager in managers:
        pool.put(manager)
    for manager in managers:
        if isinstance(manager, Recording):
            manager.calls.clear()
    return pool

"""The names of queuepool 1.x, whose programs run unchanged, and what each is called now."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar

from .managers import ResourceManager
from .slot import Slot

if TYPE_CHECKING:
    from threading import Thread

    from .limits import Limits

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

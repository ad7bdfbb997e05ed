"""The adapter of queuepool's own Pool, and what stands behind the plus sign in ``queuepool+observer``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import Any

from .driver import Driver, Spec, need


def queuepool(spec: Spec) -> Driver:
    package = need("queuepool")
    options: dict[str, Any] = {"max_usage_count": None, "overflow": spec.overflow, "timeout": spec.timeout}
    if "lifecycle" not in spec.options:
        options["open"] = spec.open
    pool = package.Pool("bench", spec.capacity, **{**options, **spec.options})
    pool.start_recycler()
    return Driver(
        pool.take,
        pool.put,
        {"with take()": pool.take, "with get()": pool.get, "with lease()": pool.lease},
        {"take, put": (pool.take, pool.put), "acquire, release": (pool.acquire, pool.release)},
        close=pool.close,
        resource=attrgetter("resource"),
        sweep=pool.recycle,
    )


def everything(spec: Spec) -> Mapping[str, Any]:
    """All that can be on at once without a callback at every take or put."""
    package = need("queuepool")

    class Watching(package.Observer):  # type: ignore[misc, name-defined]
        """Hears of everything but each take and put."""

        def opened(self, pool: Any, slot: Any, seconds: float) -> None: ...
        def closed(self, pool: Any, slot: Any, reason: str) -> None: ...
        def failed(self, pool: Any, step: str, error: BaseException) -> None: ...
        def refused(self, pool: Any, error: Exception) -> None: ...
        def held_long(self, pool: Any, holder: Any) -> None: ...
        def reclaimed(self, pool: Any, slot: Any, holder: Any) -> None: ...

    return {
        "max_idle_time": 300.0,
        "max_open_time": 3600.0,
        "max_usage_count": 1_000_000_000,
        "overflow": 2,
        "timeout": 30.0,
        "max_waiting": 1_000,
        "shed_after": 5.0,
        "min_idle": 1,
        "leak_after": 60.0,
        "close_on_exception": (OSError,),
        "observer": Watching(),
    }


def hearing(spec: Spec) -> Mapping[str, Any]:
    package = need("queuepool")

    class Hearing(package.Observer):  # type: ignore[misc, name-defined]
        def taken(self, pool: Any, slot: Any, waited: float) -> None: ...
        def given_back(self, pool: Any, slot: Any, held: float) -> None: ...

    return {"observer": Hearing()}


def polled(spec: Spec) -> Mapping[str, Any]:
    package = need("queuepool")

    class Polled(package.Lifecycle):  # type: ignore[misc, name-defined]
        def open(self) -> Any:
            return spec.open()

        def poll(self, resource: Any) -> bool:
            return True

    return {"lifecycle": Polled()}


OPTIONS: dict[str, Callable[[Spec], Mapping[str, Any]]] = {
    "everything": everything,
    "observer": hearing,
    "poll": polled,
    "check": lambda spec: {"check": lambda resource: True},
    "reset": lambda spec: {"reset": lambda resource: None},
    "nested": lambda spec: {"nested": "same"},
    "codel": lambda spec: {"shed_after": 0.005},
}
"""What stands behind the plus sign in ``queuepool+observer``."""

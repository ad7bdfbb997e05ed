"""A fast, fair, self-healing pool of resources for threads, with a bundled psycopg2 connection pool."""

from typing import TYPE_CHECKING, Any

from .errors import (
    BadResource,
    Exhausted,
    IllegalTransition,
    LeaseClosed,
    NestedTake,
    Overloaded,
    PoolClosed,
    PoolError,
    PoolTimeout,
    Refused,
    TooManyWaiting,
    Unreachable,
    WrongLoop,
    WrongSlot,
)
from .lease import Lease
from .lifecycle import AsyncLifecycle, Lifecycle
from .pool import Pool, ResourceManager
from .slot import Slot
from .slotqueue import FifoSlotQueue, LifoSlotQueue
from .stats import Histogram, Holder, Observer, Stats

if TYPE_CHECKING:
    from .aio import AsyncPool

name = "queuepool"
__version__ = "2.0.0"

__all__ = [
    "AsyncLifecycle",
    "AsyncPool",
    "BadResource",
    "Exhausted",
    "FifoSlotQueue",
    "Histogram",
    "Holder",
    "IllegalTransition",
    "Lease",
    "LeaseClosed",
    "Lifecycle",
    "LifoSlotQueue",
    "NestedTake",
    "Observer",
    "Overloaded",
    "Pool",
    "PoolClosed",
    "PoolError",
    "PoolTimeout",
    "Refused",
    "ResourceManager",
    "Slot",
    "Stats",
    "TooManyWaiting",
    "Unreachable",
    "WrongLoop",
    "WrongSlot",
]


def __getattr__(name: str) -> Any:
    # Programs of threads do without the import of asyncio, which takes longer than that of all the rest.
    if name == "AsyncPool":
        from .aio import AsyncPool

        return AsyncPool
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

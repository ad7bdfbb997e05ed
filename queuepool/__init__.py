"""A fast, fair, self-healing pool of resources for threads, with a bundled psycopg2 connection pool."""

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
    WrongSlot,
)
from .lease import Lease
from .lifecycle import Lifecycle
from .pool import Pool, ResourceManager
from .slot import Slot
from .slotqueue import FifoSlotQueue, LifoSlotQueue
from .stats import Histogram, Holder, Observer, Stats

name = "queuepool"
__version__ = "2.0.0"

__all__ = [
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
    "WrongSlot",
]

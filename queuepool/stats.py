"""What a pool tells about itself: a snapshot, histograms, holders, and an observer's events."""

from bisect import bisect_left
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple, Optional

if TYPE_CHECKING:
    from .core import BasePool
    from .slot import Slot

#: Upper bounds in seconds; the last bucket has none. Wide enough for a microsecond's poll and a minute's outage.
BUCKETS = (0.0001, 0.0005, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


# Named tuples, not dataclasses, and with types that are no strings (hence without the usual import from __future__): each
# would take as long at import as all the rest of us.
class Histogram(NamedTuple):
    """How often a duration fell into each bucket: `counts[i]` were at most `bounds[i]` seconds, the last one more."""

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    total_time: float
    longest_time: float

    @property
    def count(self) -> int:  # type: ignore[override]  # every histogram's word for it; nobody counts a value in this tuple
        return sum(self.counts)

    def quantile(self, share: float) -> float:
        """The upper bound in seconds of the bucket that holds the given share (0 to 1), e.g. 0.99; 0.0 when empty."""
        rank, seen = share * self.count, 0
        for bound, count in zip((*self.bounds, self.longest_time), self.counts):
            seen += count
            if seen and seen >= rank:
                return min(bound, self.longest_time)
        return 0.0


class Holder(NamedTuple):
    """Who holds a slot: `who` (a thread's or task's name), for how many seconds, taken at `where` (file:line)."""

    slot: str
    who: str
    seconds: float
    where: str

    def __str__(self) -> str:
        return f"{self.who}, {self.seconds:.1f} s, {self.where}"


class Stats(NamedTuple):
    """A pool at one moment. The gauges are read one after the other, and the counters are raised without a lock
    (a thread switch may lose one in many thousands on Python 3.9 and free-threaded builds): good for watching and
    alarms, not for accounts. Times are seconds.
    """

    name: str
    #: Gauges.
    capacity: int
    overflow: int
    slots: int
    taken: int
    idle: int
    empty: int
    waiting: int
    opening: int
    paused: bool
    closed: bool
    unreachable: bool
    #: Counters since the pool was made.
    takes: int
    waits: Histogram
    opens: Histogram
    open_errors: int
    closes: dict[str, int]
    close_errors: int
    reset_errors: int
    timeouts: int
    refused: int
    reclaimed: int
    sweep_errors: int
    observer_errors: int
    last_open_error: Optional[str]

    def as_dict(self) -> dict[str, Any]:
        """The same as dicts and lists, the histograms included: what `json.dumps` takes."""
        return {**self._asdict(), "waits": self.waits._asdict(), "opens": self.opens._asdict()}


class Recorder:
    """The moving part of a `Histogram`."""

    def __init__(self) -> None:
        self._counts = [0] * (len(BUCKETS) + 1)
        self._total = self._longest = 0.0

    def add(self, seconds: float) -> None:
        self._counts[bisect_left(BUCKETS, seconds)] += 1
        self._total += seconds
        if seconds > self._longest:
            self._longest = seconds

    def snapshot(self) -> Histogram:
        return Histogram(BUCKETS, tuple(self._counts), self._total, self._longest)


class Counters:
    """What a pool counts on its slow paths; its hot path counts nothing, for takes follow from the slots' use counts."""

    def __init__(self) -> None:
        self.waits, self.opens = Recorder(), Recorder()
        self.closes: Counter[str] = Counter()
        self.open_errors = self.close_errors = self.reset_errors = self.sweep_errors = self.observer_errors = 0
        self.timeouts = self.refused = self.reclaimed = self.past_uses = 0


def snapshot(pool: "BasePool[Any]") -> Stats:
    """`BasePool.stats`."""
    counters = pool._counters
    slots = list(pool._slots)
    return Stats(
        name=pool.name,
        capacity=pool._capacity,
        overflow=pool._overflow,
        slots=len(slots),
        taken=len(pool._leases),
        idle=len(pool._queue.queue),
        empty=sum(not slot.is_open for slot in slots),
        waiting=len(pool._line) + len(pool._standby),
        opening=len(pool._gate.opening),
        paused=pool._paused,
        closed=pool._closed,
        unreachable=pool._gate.outage,
        takes=counters.past_uses + sum(slot.use_count for slot in slots),
        waits=counters.waits.snapshot(),
        opens=counters.opens.snapshot(),
        open_errors=counters.open_errors,
        closes=dict(counters.closes),
        close_errors=counters.close_errors,
        reset_errors=counters.reset_errors,
        timeouts=counters.timeouts,
        refused=counters.refused,
        reclaimed=counters.reclaimed,
        sweep_errors=counters.sweep_errors,
        observer_errors=counters.observer_errors,
        last_open_error=pool._gate.last_error_text or None,
    )


class Observer:
    """Override what you want to hear of, and give an instance to the pool.

    The methods are called in the thread or task that did the thing, with no lock held; they must not block. What one
    raises is logged and counted, and disturbs nobody. Overriding `taken` or `given_back` costs each take or put a call.
    """

    def taken(self, pool: "BasePool[Any]", slot: "Slot[Any]", waited: float) -> None:
        """A slot was lent, after `waited` seconds in the line (0.0 without)."""

    def given_back(self, pool: "BasePool[Any]", slot: "Slot[Any]", held: float) -> None:
        """A slot came back after `held` seconds; it is not yet reset."""

    def opened(self, pool: "BasePool[Any]", slot: "Slot[Any]", seconds: float) -> None:
        """A resource opened, which took `seconds`."""

    def closed(self, pool: "BasePool[Any]", slot: "Slot[Any]", reason: str) -> None:
        """A resource was closed: `reason` names the limit, or "exception", "check", "reset", "asked", ..."""

    def failed(self, pool: "BasePool[Any]", step: str, error: BaseException) -> None:
        """`step` ("open", "check", "close", "reset" or "sweep") raised `error`."""

    def refused(self, pool: "BasePool[Any]", error: Exception) -> None:
        """A take ends with `error`: a timeout, or a refusal to wait."""

    def held_long(self, pool: "BasePool[Any]", holder: Holder) -> None:
        """A slot has been out for more than `leak_after` seconds; told once for each lease."""

    def reclaimed(self, pool: "BasePool[Any]", slot: "Slot[Any]", holder: Optional[Holder]) -> None:
        """A slot that nobody could have put back any more came back by itself."""

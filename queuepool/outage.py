"""Who may open a resource now: few at a time in a spike, one at a time in an outage."""

from __future__ import annotations

import copy
from typing import Any

from . import options
from .limits import chance
from .slot import Slot


class Gate:
    """Decides when a taker that owns an empty slot may open it. Pure: it receives `now` and waits for nobody.

    In a spike, `max_opening` open at once, and a taker beyond that waits for somebody's return about as long as opening
    takes, and then opens after all: the break-even rule of ski rental, never worse than twice the best choice.

    In an outage, begun by a transient failure and ended by the next success, one taker at a time probes, at instants set
    by decorrelated backoff (Brooker, "Exponential Backoff and Jitter"). All times are seconds of `time.monotonic`.
    """

    FIRST_BACKOFF, LONGEST_BACKOFF = 0.1, 0.4
    #: While nothing is known of how long opening takes, a taker asks again after this many seconds, or when woken.
    ASK_AGAIN = 0.25
    #: An open that is in flight for more seconds is taken for hung, and keeps nobody else from opening.
    HUNG_AFTER = 10.0

    def __init__(self, max_opening: int) -> None:
        self.max_opening = options.count("max_opening", max_opening, least=1)
        #: The opens in flight and when each began. Inserted before looked at, so two can never both be the first.
        self.opening: dict[Slot[Any], float] = {}
        self.open_time: float | None = None
        self.last_error: BaseException | None = None
        self.last_error_text = ""
        self.failures = 0
        self._backoff = 0.0
        self._next_probe_at = 0.0

    @property
    def outage(self) -> bool:
        return self._backoff > 0.0

    def begin(self, slot: Slot[Any], now: float, waiting_since: float | None) -> float:
        """0.0: open now, and say `succeeded`, `failed` or `dropped` after. Else the seconds to wait before asking again.

        `waiting_since` is when one who waits for a return was last given one, or when this taker began to; None if
        nobody waits and it has just come.
        """
        if self.outage and now < self._next_probe_at:
            return self._next_probe_at - now
        self.opening[slot] = now
        if self.outage:
            if self._in_flight(now)[0] is slot:
                return 0.0
            wait = self.FIRST_BACKOFF
        else:
            wait = self._patience(now, waiting_since)
        if wait > 0.0:
            self.dropped(slot)
        return wait

    def _in_flight(self, now: float) -> list[Slot[Any]]:
        """The slots that are being opened, in the order in which they began, the caller's among them."""
        return [slot for slot, began in self.opening.copy().items() if now - began <= self.HUNG_AFTER]  # copy: one step

    def _patience(self, now: float, since: float | None) -> float:
        if len(self._in_flight(now)) <= self.max_opening and (since is None or self.open_time is None):
            return 0.0
        if self.open_time is None:
            return self.ASK_AGAIN
        since = now if since is None else since
        # The margin lets those that have just opened do a short piece of work and return.
        return max(0.0, since + self.open_time * 1.05 + 0.002 - now)

    def dropped(self, slot: Slot[Any]) -> None:
        """The open of `slot` is over, however it ended."""
        self.opening.pop(slot, None)

    def succeeded(self, slot: Slot[Any], seconds: float) -> bool:
        """The open took `seconds`; True when that ended an outage."""
        self.dropped(slot)
        ended, self._backoff = self.outage, 0.0
        self.open_time = seconds if self.open_time is None else 0.8 * self.open_time + 0.2 * seconds
        return ended

    def failed(self, slot: Slot[Any], now: float, error: BaseException, text: str, transient: bool) -> None:
        self.last_error, self.last_error_text = _without_traceback(error), text
        self.failures += 1
        if transient:
            longest = max(self.FIRST_BACKOFF, self._backoff * 3)
            drawn = self.FIRST_BACKOFF + chance() * (longest - self.FIRST_BACKOFF)
            self._backoff = min(self.LONGEST_BACKOFF, drawn)
            self._next_probe_at = now + self._backoff
        self.dropped(slot)


def _without_traceback(error: BaseException) -> BaseException | None:
    """A copy of `error` to keep: the original's traceback would keep its frames' locals alive, and be overwritten."""
    try:
        return copy.copy(error).with_traceback(None)
    except Exception:
        return None  # a class that cannot be copied; its text must do

"""Who may wait: a bound on the line, and shedding of those who have waited too long in an overload."""

from __future__ import annotations

from . import options


class Admission:
    """Decides who may join the line, and who of those served has waited too long. Pure: it does not wait.

    Shedding is CoDel's idea in the form of Facebook's thread pools (Maurer, "Fail at Scale", 2015): a line that empties
    now and then is a burst and is served whole; one that has stood for `INTERVAL` seconds is an overload, and then
    whoever has waited more than `shed_after` is refused as its turn comes, so that the next is served while its caller
    still wants the answer. Without a next, nobody is.
    """

    #: Seconds for which the line must have stood before anyone is shed.
    INTERVAL = 0.1

    def __init__(self, max_waiting: int | None, shed_after: float | None) -> None:
        self.max_waiting = options.count_or_none("max_waiting", max_waiting)
        self.shed_after = options.number_or_none("shed_after", shed_after)
        self._standing_since = 0.0

    def admits(self, waiting: int, now: float) -> bool:
        """Whether one more may wait behind `waiting` others."""
        if not waiting:
            self._standing_since = now
        return self.max_waiting is None or waiting < self.max_waiting

    def sheds(self, waited: float, behind: int, now: float) -> bool:
        """Whether the waiter whose turn has come after `waited` seconds is to be refused, for the `behind` others."""
        if self.shed_after is None or waited <= self.shed_after or not behind:
            return False
        return now - self._standing_since > self.INTERVAL

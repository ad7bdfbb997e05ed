"""The limits on an open resource: how long idle, how long open, how often used."""

from __future__ import annotations

import math
import os
from typing import Any

from . import options
from .slot import AT_ONCE, Slot


def chance() -> float:
    """A number from 0 to 1, not the same in a forked child. `random` would do; its import takes a tenth of ours."""
    return int.from_bytes(os.urandom(4), "big") / 2**32


class Limits:
    """Says when an open slot is due. None switches a limit off; all times are seconds of the pool's clock.

    The lifetime of each resource is shortened by up to the fraction `jitter`, drawn once when it opens, so that
    what opened together does not close together (HikariCP draws its maxLifetime variance likewise).
    """

    def __init__(
        self,
        max_idle_time: float | None,
        max_open_time: float | None,
        max_usage_count: int | None,
        jitter: float,
        check_after: float,
    ) -> None:
        self.max_idle_time = options.number_or_none("max_idle_time", max_idle_time)
        self.max_open_time = options.number_or_none("max_open_time", max_open_time)
        self.max_usage_count = options.count_or_none("max_usage_count", max_usage_count)
        self.jitter = options.number("jitter", jitter)
        if self.jitter > 1:
            raise ValueError(f"jitter must be a fraction from 0 to 1, not {jitter!r}")
        self.check_after = options.number("check_after", check_after)
        self.most_uses = math.inf if max_usage_count is None else max_usage_count
        # How long a slot may lie idle before anything about it must be looked at again.
        self.quiet_time = math.inf if max_idle_time is None else max_idle_time

    def opened(self, slot: Slot[Any], now: float) -> None:
        """Draw the lifetime of the resource that has just opened."""
        if self.max_open_time is None:
            slot.expires_at = math.inf
        else:
            slot.expires_at = now + self.max_open_time * (1.0 - self.jitter * chance())
        slot.due_at = AT_ONCE

    def settled(self, slot: Slot[Any], quiet_time: float) -> None:
        """Note until when the open slot may be lent without a second look."""
        if slot.last_used_at is not None:
            slot.due_at = min(slot.expires_at, slot.last_used_at + quiet_time)

    def exceeded(self, slot: Slot[Any], now: float) -> str | None:
        """The reason for which the open `slot` is to be closed at `now`, if there is one."""
        if slot.condemned is not None:
            return slot.condemned
        if slot.retiring:
            return "retired"
        if now > slot.expires_at:
            return "max_open_time"
        if slot.use_count >= self.most_uses:
            return "max_usage_count"
        if self.max_idle_time is None or slot.last_used_at is None:
            return None
        return "max_idle_time" if now - slot.last_used_at > self.max_idle_time else None

from __future__ import annotations

import math
from typing import Any

import pytest

from queuepool import Slot
from queuepool.limits import Limits
from queuepool.slot import AT_ONCE


def limits(**changes: Any) -> Limits:
    given = {"max_idle_time": None, "max_open_time": None, "max_usage_count": None, "jitter": 0.0, "check_after": 0.0}
    return Limits(**{**given, **changes})


def open_slot(now: float, of: Limits) -> Slot[object]:
    slot: Slot[object] = Slot("slot")
    slot.note_opened(object(), now)
    of.opened(slot, now)
    return slot


def test_without_limits_nothing_is_ever_due() -> None:
    none = limits()
    slot = open_slot(0.0, none)
    slot.use_count = 10**9
    assert none.exceeded(slot, 1e12) is None
    assert slot.expires_at == math.inf


def test_each_limit_is_named_once_it_is_exceeded_and_not_when_it_is_met() -> None:
    old = limits(max_open_time=10.0)
    slot = open_slot(100.0, old)
    assert [old.exceeded(slot, now) for now in (110.0, 110.1)] == [None, "max_open_time"]
    idle = limits(max_idle_time=10.0)
    slot = open_slot(100.0, idle)
    assert [idle.exceeded(slot, now) for now in (110.0, 110.1)] == [None, "max_idle_time"]
    used = limits(max_usage_count=3)
    slot = open_slot(100.0, used)
    reasons = []
    for slot.use_count in (2, 3):
        reasons.append(used.exceeded(slot, 100.0))
    assert reasons == [None, "max_usage_count"]


def test_what_was_asked_for_comes_before_every_limit() -> None:
    old = limits(max_open_time=10.0)
    slot = open_slot(0.0, old)
    slot.retiring = True
    assert old.exceeded(slot, 1.0) == "retired"
    slot.close()
    assert old.exceeded(slot, 99.0) == "asked"
    slot.condemn("fork")
    assert old.exceeded(slot, 99.0) == "asked", "the first reason stays"


def test_a_lifetime_is_shortened_by_at_most_the_jitter() -> None:
    jittery = limits(max_open_time=100.0, jitter=0.2)
    ends = [open_slot(1000.0, jittery).expires_at for _ in range(500)]
    assert all(1080.0 <= end <= 1100.0 for end in ends)
    assert max(ends) - min(ends) > 15.0


def test_a_settled_slot_may_be_lent_without_a_look_until_it_is_due() -> None:
    both = limits(max_idle_time=30.0, max_open_time=100.0)
    slot = open_slot(0.0, both)
    assert slot.due_at == AT_ONCE, "not before it is settled"
    both.settled(slot, both.quiet_time)
    assert slot.due_at == 30.0
    slot.last_used_at = 90.0
    both.settled(slot, both.quiet_time)
    assert slot.due_at == 100.0


def test_an_empty_slot_is_always_looked_at() -> None:
    any_limits = limits()
    slot: Slot[object] = Slot("slot")
    any_limits.settled(slot, math.inf)
    assert slot.due_at == AT_ONCE


@pytest.mark.parametrize("jitter", [0, 0.5, 1])
def test_jitter_is_a_fraction(jitter: float) -> None:
    assert limits(jitter=jitter).jitter == jitter
    with pytest.raises(ValueError, match="jitter must be a fraction from 0 to 1"):
        limits(jitter=jitter + 1.01)

from __future__ import annotations

from typing import Any

import pytest

from queuepool import IllegalTransition, Slot
from queuepool.slot import EMPTY, OPEN, RETIRED, TRANSITIONS

STEPS: dict[str, Any] = {
    "open": lambda slot: slot.note_opened(object(), 5.0),
    "close": Slot.note_closed,
    "retire": Slot.retire,
}
HOW_TO_GET_TO: dict[str, list[str]] = {EMPTY: [], OPEN: ["open"], RETIRED: ["retire"]}


def slot_that_is(holds: str) -> Slot[object]:
    slot: Slot[object] = Slot("slot")
    for step in HOW_TO_GET_TO[holds]:
        STEPS[step](slot)
    return slot


@pytest.mark.parametrize("event", STEPS)
@pytest.mark.parametrize("holds", HOW_TO_GET_TO)
def test_the_table_says_what_may_happen_and_all_else_raises_and_changes_nothing(holds: str, event: str) -> None:
    slot = slot_that_is(holds)
    before = (slot.state, slot.resource, slot.opened_at, slot.use_count)
    if (holds, event) in TRANSITIONS:
        STEPS[event](slot)
        assert slot._holds == TRANSITIONS[holds, event]
    else:
        with pytest.raises(IllegalTransition, match=f"slot: cannot {event} a slot that is {holds}"):
            STEPS[event](slot)
        assert (slot.state, slot.resource, slot.opened_at, slot.use_count) == before


def test_an_open_slot_knows_its_resource_and_when_it_opened() -> None:
    slot: Slot[str] = Slot("slot")
    slot.note_opened("resource", 7.0)
    assert (slot.resource, slot.opened_at, slot.last_used_at, slot.is_open) == ("resource", 7.0, 7.0, True)
    slot.use_count = 3
    slot.close()
    assert slot.note_closed() == "resource"
    after: Any = (slot.resource, slot.opened_at, slot.last_used_at, slot.use_count)
    assert after == (None, None, None, 0)
    assert slot.condemned is None, "the next resource starts afresh"


def test_a_slot_without_a_pool_tells_no_times() -> None:
    slot = slot_that_is(OPEN)
    assert (slot.open_time, slot.idle_time, slot.state) == (None, None, "idle")
    assert repr(slot) == "<Slot slot: idle, 0 uses>"


def test_a_slot_takes_no_foreign_attributes() -> None:
    """A misspelt one would else go unnoticed."""
    with pytest.raises(AttributeError):
        Slot("slot").resouce = object()  # type: ignore[attr-defined]

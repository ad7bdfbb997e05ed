"""spin finds no fault in the model of the hand-over, and each fault that is put into it."""

from __future__ import annotations

import importlib
import inspect
import os
import re
from pathlib import Path

import pytest

from .spin import INSTALLED, MODEL, check

NOTE = Path(__file__).with_name("README.rst")
FULL = os.environ.get("QUEUEPOOL_MODEL") == "all"

spins = pytest.mark.skipif(not INSTALLED, reason="spin and a C compiler are needed: apt-get install spin gcc")

#: What is explored: threads, slots, takes of each, and the switches.
SHORT = [
    "3 1 1 ORDER",
    "3 2 1 ORDER",
    "2 1 3 ORDER",
    "2 1 1 EMPTY",
    "2 2 1 EMPTY",
    "2 1 1 PAUSE",
    "2 1 1 CLOSE",
    "2 1 1 STRIKES=2",
    "2 1 1 STRIKES=2 EMPTY",
]
LONG = ["4 1 1", "3 1 1 EMPTY", "3 1 1 CLOSE", "3 1 1 STRIKES=1"]

STUCK, LOST, TWICE, OVERTAKEN = "invalid end state", "item", "open_slots|empty_slots", "ahead"
#: Each fault that may be put in, where it shows, and the beginning of what spin says of it.
FAULTS = {
    "LOOKS_THEN_APPENDS": ("3 1 1", STUCK),
    "LOOKS_THEN_JOINS": ("3 1 1", STUCK),
    "LOOKS_ONCE": ("3 1 1", STUCK),
    "LEAVES_DEAF": ("2 1 1", LOST),
    "GIVES_BLINDLY": ("2 1 1", LOST),
    "LOOKS_THEN_POPS": ("2 1 1", LOST),
    "PEEKS_THEN_POPS": ("3 1 1", TWICE),
    "SWAPS_AND_FORGETS": ("2 2 1 EMPTY", TWICE),
    "BARGES": ("3 1 1 ORDER", OVERTAKEN),
    "WAITER_FIRST": ("3 1 1", STUCK),
    "RESUMES_ASLEEP": ("2 1 1 PAUSE", STUCK),
    "CLOSES_UNSEEN": ("2 1 1 CLOSE", STUCK),
    "NEVER_LOOKS": ("2 1 1 STRIKES=1", STUCK),
    "NEVER_SERVES": ("2 1 1 STRIKES=2", STUCK),
    "ASKS_THE_LINE_ALONE": ("3 1 1 STRIKES=1", STUCK),
}
#: Found only after minutes.
DEEP = {"ASKS_THE_LINE_ALONE"}


def switches(configuration: str) -> list[str]:
    threads, slots, rounds, *others = configuration.split()
    return [f"THREADS={threads}", f"SLOTS={slots}", f"ROUNDS={rounds}", *others]


@spins
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("configuration", SHORT + LONG * FULL)
def test_no_interleaving_loses_a_slot_or_a_wake_up(configuration: str, tmp_path: Path) -> None:
    verdict = check(tmp_path, *switches(configuration))
    print(f"{configuration}: {verdict.states:,} states")
    assert verdict.error is None
    assert verdict.states > 1000


@spins
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("fault", [fault for fault in FAULTS if FULL or fault not in DEEP])
def test_a_fault_in_the_protocol_is_found(fault: str, tmp_path: Path) -> None:
    configuration, complaint = FAULTS[fault]
    verdict = check(tmp_path, *switches(configuration), f"FAULT_{fault}")
    assert verdict.error is not None
    assert complaint in verdict.error


def test_every_fault_that_the_model_knows_is_tried() -> None:
    assert set(re.findall(r"FAULT_(\w+)", MODEL.read_text(encoding="utf-8"))) == set(FAULTS)


def test_every_function_that_the_note_maps_is_there() -> None:
    named = re.findall(r"``((?:\w+\.)+(?!pml|py\b)\w+)``", NOTE.read_text(encoding="utf-8"))
    assert len(named) > 10
    for name in named:
        module, *attributes = name.split(".")
        found = importlib.import_module(f"queuepool.{module}")
        for attribute in attributes:
            found = getattr(found, attribute)
        assert inspect.isroutine(found) or inspect.isclass(found), name


def test_every_step_of_the_model_is_in_the_note() -> None:
    note = NOTE.read_text(encoding="utf-8")
    steps = set(re.findall(r"^inline (\w+)", MODEL.read_text(encoding="utf-8"), re.MULTILINE))
    assert not [step for step in steps if f"``{step}``" not in note]

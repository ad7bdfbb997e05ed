from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from queuepool import Slot
from queuepool.outage import Gate


def slots(count: int) -> list[Slot[Any]]:
    return [Slot(str(number)) for number in range(count)]


def in_outage(now: float = 0.0) -> Gate:
    """A gate after one transient failure at `now`."""
    gate = Gate(4)
    (slot,) = slots(1)
    assert gate.begin(slot, now, None) == 0.0
    gate.failed(slot, now, OSError("refused"), "OSError: refused", True)
    return gate


def test_a_few_open_at_once_without_waiting() -> None:
    gate = Gate(3)
    assert [gate.begin(slot, 0.0, None) for slot in slots(3)] == [0.0, 0.0, 0.0]
    assert len(gate.opening) == 3


def test_beyond_that_a_taker_asks_again_while_nothing_is_known_of_how_long_opening_takes() -> None:
    gate = Gate(1)
    first, second = slots(2)
    assert gate.begin(first, 0.0, None) == 0.0
    assert gate.begin(second, 0.0, None) == Gate.ASK_AGAIN
    assert list(gate.opening) == [first], "whoever waits does not count as opening"
    gate.succeeded(first, 0.1)
    assert gate.begin(second, 0.2, None) == 0.0


def test_a_taker_waits_for_a_return_about_as_long_as_opening_takes_and_then_opens_after_all() -> None:
    gate = Gate(1)
    first, second, third = slots(3)
    gate.begin(first, 0.0, None)
    gate.succeeded(first, 0.1)
    assert gate.begin(first, 10.0, None) == 0.0
    wait = gate.begin(second, 10.0, 10.0)
    assert 0.1 < wait < 0.12
    assert gate.begin(second, 10.0 + wait / 2, 10.0) == pytest.approx(wait / 2)
    assert gate.begin(second, 10.0 + wait, 10.0) == 0.0
    assert gate.begin(third, 10.0, 9.0) == 0.0, "others have waited that long for nothing"


def test_how_long_opening_takes_is_a_moving_average() -> None:
    gate = Gate(1)
    (slot,) = slots(1)
    gate.succeeded(slot, 1.0)
    assert gate.open_time == 1.0
    gate.succeeded(slot, 2.0)
    assert gate.open_time == pytest.approx(1.2)


def test_a_failure_that_will_not_pass_begins_no_outage() -> None:
    gate = Gate(1)
    (slot,) = slots(1)
    gate.begin(slot, 0.0, None)
    gate.failed(slot, 0.0, ValueError("bad DSN"), "ValueError: bad DSN", False)
    assert not gate.outage
    assert not gate.opening
    assert (gate.failures, gate.last_error_text) == (1, "ValueError: bad DSN")
    assert gate.begin(slot, 0.0, None) == 0.0


def test_in_an_outage_nobody_probes_before_its_time_and_then_one_at_a_time() -> None:
    gate = in_outage(now=5.0)
    first, second = slots(2)
    wait = gate.begin(first, 5.0, None)
    assert wait == pytest.approx(gate._backoff)
    assert gate.begin(first, 5.0 + wait, None) == 0.0
    assert gate.begin(second, 5.0 + wait, None) == Gate.FIRST_BACKOFF
    gate.dropped(first)
    assert gate.begin(second, 5.0 + wait, None) == 0.0


def test_the_pauses_between_probes_grow_but_stay_bounded() -> None:
    gate, now = in_outage(), 0.0
    (slot,) = slots(1)
    pauses = []
    for _ in range(100):
        pause = gate.begin(slot, now, None)
        pauses.append(pause)
        now += pause
        assert gate.begin(slot, now, None) == 0.0
        gate.failed(slot, now, OSError(), "OSError", True)
    assert all(Gate.FIRST_BACKOFF - 1e-9 < pause < Gate.LONGEST_BACKOFF + 1e-9 for pause in pauses)
    assert len({round(pause, 6) for pause in pauses}) > 10, "so that many programs do not probe in step"


def test_the_first_success_ends_the_outage_for_all() -> None:
    gate = in_outage()
    first, *others = slots(4)
    assert gate.begin(first, 10.0, None) == 0.0
    assert gate.succeeded(first, 0.1)
    assert not gate.outage
    assert [gate.begin(slot, 10.0, None) for slot in others] == [0.0] * 3
    assert not gate.succeeded(others[0], 0.1)


def test_the_kept_error_keeps_no_frames_alive() -> None:
    gate = Gate(1)
    (slot,) = slots(1)
    with pytest.raises(OSError, match="refused") as caught:
        raise OSError("refused")
    gate.failed(slot, 0.0, caught.value, "OSError: refused", True)
    assert isinstance(gate.last_error, OSError)
    assert gate.last_error.__traceback__ is None


def test_an_error_that_cannot_be_copied_is_kept_as_its_text() -> None:
    class Uncopyable(OSError):
        def __reduce_ex__(self, protocol: object) -> Any:
            raise TypeError

    gate = Gate(1)
    (slot,) = slots(1)
    gate.failed(slot, 0.0, Uncopyable(), "Uncopyable", True)
    assert (gate.last_error, gate.last_error_text) == (None, "Uncopyable")


def with_interruption(function: Callable[[], Any], interruption: Callable[[], None], step: int) -> tuple[Any, bool]:
    """The result of `function`, and whether it had a `step`-th instruction, before which `interruption` ran."""
    steps = -1

    def trace(frame: FrameType, event: str, arg: object) -> Any:
        nonlocal steps
        frame.f_trace_opcodes = True
        if event == "opcode":
            steps += 1
            if steps == step:
                interruption()
        return trace

    before = sys.gettrace()
    sys._getframe().f_trace_opcodes = True  # Python 3.12 looks only here, and only now, whether anybody wants opcodes
    sys.settrace(trace)
    try:
        result = function()
    finally:
        sys.settrace(before)
    return result, steps >= step


def test_two_that_ask_at_once_never_both_probe_nor_get_in_each_others_way() -> None:
    step, going_on = 0, True
    while going_on:
        gate = in_outage()
        mine, others = slots(2)
        answers: list[float] = []

        def other(gate: Gate = gate, others: Slot[Any] = others, answers: list[float] = answers) -> None:
            answers.append(gate.begin(others, 10.0, None))

        def me(gate: Gate = gate, mine: Slot[Any] = mine) -> float:
            return gate.begin(mine, 10.0, None)

        answer, going_on = with_interruption(me, other, step)
        assert [answer, *answers].count(0.0) == 1 or not going_on, f"at instruction {step}"
        step += 1
    assert step > 20


def test_an_open_that_begins_at_any_instruction_of_another_disturbs_it_not() -> None:
    step, going_on = 0, True
    while going_on:
        gate = in_outage()
        mine, others = slots(2)

        def other(gate: Gate = gate, others: Slot[Any] = others) -> None:
            gate.opening[others] = 10.0  # as `begin` does first, and a sweep that sees to min_idle

        def me(gate: Gate = gate, mine: Slot[Any] = mine) -> float:
            return gate.begin(mine, 10.0, None)

        answer, going_on = with_interruption(me, other, step)
        assert answer in (0.0, Gate.FIRST_BACKOFF)
        step += 1
    assert step > 20


def test_opens_that_hang_keep_others_from_opening_only_for_a_while() -> None:
    gate = Gate(2)
    *hung, other = slots(3)
    for slot in hung:
        assert gate.begin(slot, 0.0, None) == 0.0
    assert gate.begin(other, Gate.HUNG_AFTER, None) > 0.0
    assert gate.begin(other, Gate.HUNG_AFTER + 0.1, None) == 0.0


def test_a_probe_that_hangs_is_the_only_one_only_for_a_while() -> None:
    gate = in_outage()
    hung, other = slots(2)
    assert gate.begin(hung, 10.0, None) == 0.0
    assert gate.begin(other, 10.0 + Gate.HUNG_AFTER, None) > 0.0
    assert gate.begin(other, 10.1 + Gate.HUNG_AFTER, None) == 0.0

from __future__ import annotations

import queue
import threading
import time
from typing import Any

import pytest

from queuepool import FifoSlotQueue, LifoSlotQueue, Slot
from queuepool.slotqueue import SlotQueue, Waiter
from queuepool.threads import ThreadWaiter

from .support import wait_until

BOTH = pytest.mark.parametrize("kind", [LifoSlotQueue, FifoSlotQueue])


def empty_slot(name: str = "empty") -> Slot[Any]:
    return Slot(name)


def open_slot(name: str = "open") -> Slot[Any]:
    slot: Slot[Any] = Slot(name)
    slot.note_opened(object(), 0.0)
    return slot


class Waiting(Waiter):
    """A waiter that nobody waits for."""

    woken = 0

    def wake(self) -> None:
        self.woken += 1


def test_the_lifo_queue_is_pythons_and_so_is_the_fifo_queue() -> None:
    assert isinstance(LifoSlotQueue(), queue.LifoQueue)
    assert isinstance(FifoSlotQueue(), queue.Queue)


@BOTH
def test_sizes_mean_what_they_mean_in_pythons_queues(kind: type[SlotQueue]) -> None:
    slots = kind(2)
    assert (slots.qsize(), slots.empty(), slots.full(), slots.maxsize) == (0, True, False, 2)
    slots.put(empty_slot())
    slots.put_nowait(open_slot())
    assert (slots.qsize(), slots.empty(), slots.full()) == (2, False, True)
    with pytest.raises(queue.Full):
        slots.put(open_slot(), timeout=60.0)  # never blocks, whatever it is told
    assert slots.get().is_open
    assert not slots.get_nowait().is_open
    with pytest.raises(queue.Empty):
        slots.get_nowait()
    with pytest.raises(queue.Empty):
        slots.get(timeout=0.001)


def test_open_slots_come_newest_first_and_empty_ones_last() -> None:
    slots = LifoSlotQueue()
    one, two, empty = open_slot("one"), open_slot("two"), empty_slot()
    for slot in (one, empty, two):
        slots.put(slot)
    assert [slots.get(), slots.get(), slots.get()] == [two, one, empty]


def test_in_a_fifo_queue_open_slots_come_oldest_first_and_empty_ones_last() -> None:
    slots = FifoSlotQueue()
    one, two, empty = open_slot("one"), open_slot("two"), empty_slot()
    for slot in (empty, one, two):
        slots.put(slot)
    assert [slots.get(), slots.get(), slots.get()] == [one, two, empty]


def test_a_sunken_slot_is_the_last_of_the_empty_ones() -> None:
    slots = LifoSlotQueue()
    fine, failed = empty_slot("fine"), empty_slot("failed")
    slots.put(fine)
    slots.sink(failed)
    assert [slots.get(), slots.get()] == [fine, failed]


@BOTH
def test_a_get_waits_for_a_put(kind: type[SlotQueue]) -> None:
    slots = kind()
    got: list[Slot[Any]] = []
    thread = threading.Thread(target=lambda: got.append(slots.get()))
    thread.start()
    wait_until(lambda: slots.line)
    slot = open_slot()
    slots.put(slot)
    thread.join()
    assert got == [slot]


@BOTH
def test_remove_takes_out_this_very_slot_or_says_that_somebody_else_has_it(kind: type[SlotQueue]) -> None:
    slots = kind()
    opened, empty = open_slot(), empty_slot()
    slots.put(opened)
    slots.put(empty)
    assert slots.remove(opened)
    assert not slots.remove(opened)
    assert slots.remove(empty)
    assert slots.empty()


def test_the_snapshot_shows_first_what_would_be_taken_last() -> None:
    slots = LifoSlotQueue()
    one, two = open_slot("one"), open_slot("two")
    slots.put(one)
    slots.put(two)
    slots.put(empty_slot())
    assert slots.snapshot() == [one, two]


@BOTH
def test_pops_of_an_empty_queue_give_none(kind: type[SlotQueue]) -> None:
    slots = kind()
    assert (slots.pop_open(), slots.pop_empty(), slots.pop_any(), slots.get_now()) == (None, None, None, None)


def test_a_queue_of_ones_own_must_say_what_to_pop() -> None:
    with pytest.raises(NotImplementedError):
        SlotQueue().pop_open()
    with pytest.raises(NotImplementedError):
        Waiter().wake()


# --- the line


def test_those_in_line_are_served_first_come_first_served() -> None:
    slots = LifoSlotQueue()
    waiters = [Waiting() for _ in range(3)]
    for waiter in waiters:
        slots.join_line(waiter, slots.line)
    given = [open_slot(str(number)) for number in range(3)]
    for slot in given:
        slots.put(slot)
    assert [waiter.accept() for waiter in waiters] == given
    assert [waiter.woken for waiter in waiters] == [1, 1, 1]


def test_nobody_overtakes_the_line() -> None:
    slots = LifoSlotQueue()
    slots.hold()
    slots.put(open_slot())
    slots.join_line(Waiting(), slots.line)
    assert slots.get_now() is None
    with pytest.raises(queue.Empty):
        slots.get(block=False)


def test_whoever_joins_when_a_slot_is_there_is_served_at_once() -> None:
    slots = LifoSlotQueue()
    slot, waiter = open_slot(), Waiting()
    slots.put(slot)
    slots.join_line(waiter, slots.line)
    assert waiter.accept() is slot


def test_one_who_lost_its_place_gets_it_back() -> None:
    slots = LifoSlotQueue()
    first, second = Waiting(), Waiting()
    slots.join_line(second, slots.line)
    slots.join_line(first, slots.line, front=True)
    slots.put(open_slot())
    assert (first.woken, second.woken) == (1, 0)


def test_a_waiter_that_left_is_passed_over() -> None:
    slots = LifoSlotQueue()
    gone, here = Waiting(), Waiting()
    for waiter in (gone, here):
        slots.join_line(waiter, slots.line)
    gone.abandon()  # it has not yet left the line
    slot = open_slot()
    slots.put(slot)
    assert here.accept() is slot
    assert gone.woken == 0


def test_when_all_have_left_the_slot_is_back_in_the_queue() -> None:
    slots = LifoSlotQueue()
    gone = Waiting()
    slots.join_line(gone, slots.line)
    gone.abandon()
    slot = open_slot()
    slots.put(slot)
    assert slots.get_now() is slot


def test_what_was_on_its_way_to_one_that_gives_up_goes_to_the_next() -> None:
    slots = LifoSlotQueue()
    first, second = Waiting(), Waiting()
    for waiter in (first, second):
        slots.join_line(waiter, slots.line)
    slot = open_slot()
    slots.put(slot)
    slots.give_up(first, slots.line)
    assert second.accept() is slot
    slots.give_up(second, slots.line)
    assert slots.empty()


def test_one_that_leaves_with_nothing_given_leaves_nothing_behind() -> None:
    slots = LifoSlotQueue()
    waiter = Waiting()
    slots.join_line(waiter, slots.line)
    assert slots.leave(waiter, slots.line) is None
    assert not slots.line
    assert not waiter.give(open_slot()), "the giver keeps it"


def test_an_item_is_the_givers_or_the_leavers_and_never_both() -> None:
    """The leaver sets its flag and then looks for an item; the giver adds one and then looks at the flag."""

    class LeavesInBetween(list):  # type: ignore[type-arg]
        """The items of a waiter that leaves between the giver's two steps."""

        def append(self, item: object) -> None:
            super().append(item)
            got.append(waiter.abandon())

    got: list[Any] = []
    waiter = Waiting()
    waiter._items = LeavesInBetween()
    slot = open_slot()
    assert waiter.give(slot), "the leaver found it, so it is no longer the giver's"
    assert got == [slot]


def test_everyone_in_a_line_can_be_told_the_same() -> None:
    slots = LifoSlotQueue()
    waiters = [Waiting() for _ in range(3)]
    for waiter in waiters:
        slots.join_line(waiter, slots.line)
    slots.wake(slots.line, None)
    assert [waiter.accept() for waiter in waiters] == [None] * 3
    assert not slots.line


def test_a_line_that_empties_while_it_is_told_ends_the_telling() -> None:
    slots = LifoSlotQueue()

    class TakesTheOther(Waiting):
        def wake(self) -> None:
            slots.line.clear()

    slots.join_line(TakesTheOther(), slots.line)
    other = Waiting()
    slots.join_line(other, slots.line)
    slots.wake(slots.line, None)
    assert other.woken == 0


def test_while_the_queue_is_held_only_those_on_standby_are_served() -> None:
    slots = LifoSlotQueue()
    slots.hold()
    waiter = Waiting()
    slots.join_line(waiter, slots.line)
    slots.put(open_slot())
    assert waiter.woken == 0
    standing_by = Waiting()
    slots.join_line(standing_by, slots.standby)
    assert standing_by.woken == 1
    slots.put(open_slot())
    slots.release()
    assert waiter.woken == 1


def test_those_on_standby_want_open_slots_alone_and_come_first() -> None:
    slots = LifoSlotQueue()
    standing_by, in_line = Waiting(), Waiting()
    slots.join_line(standing_by, slots.standby)
    slots.join_line(in_line, slots.line)
    empty = empty_slot()
    slots.sink(empty)
    assert in_line.accept() is empty
    before = time.monotonic()
    slots.put(open_slot())
    assert standing_by.woken == 1
    assert before <= slots.standby_served_at <= time.monotonic(), "so the others wait on: slots do come back"


def test_a_slot_that_somebody_else_pops_meanwhile_is_no_trouble() -> None:
    slots = LifoSlotQueue()

    class PoppedByAnother(list):  # type: ignore[type-arg]
        def pop(self, *args: Any) -> Any:
            self.clear()
            raise IndexError

    slots.queue = PoppedByAnother([open_slot()])
    waiter = Waiting()
    slots.join_line(waiter, slots.line)
    assert waiter.woken == 0
    assert list(slots.line) == [waiter]


def test_a_waiter_that_somebody_else_serves_meanwhile_leaves_the_slot_to_the_next_round() -> None:
    slots = LifoSlotQueue()

    class ServedByAnother(list):  # type: ignore[type-arg]
        def pop(self, *args: Any) -> Any:
            slots.line.clear()
            return super().pop(*args)

    slot = open_slot()
    slots.queue = ServedByAnother([slot])
    slots.join_line(Waiting(), slots.line)
    assert slots.queue == [slot]


def test_a_waiter_that_left_the_line_with_nothing_is_stranded() -> None:
    """An asynchronous exception in `serve` can do this; the waiter then joins again, in front."""
    slots = LifoSlotQueue()
    first, second = Waiting(), Waiting()
    assert slots.is_stranded(first, slots.line)
    slots.join_line(first, slots.line)
    slots.join_line(second, slots.line)
    assert not slots.is_stranded(first, slots.line)
    assert not slots.is_stranded(second, slots.line)
    slots.line.popleft()
    assert slots.is_stranded(first, slots.line)


def test_a_get_that_is_interrupted_leaves_no_dead_waiter(monkeypatch: pytest.MonkeyPatch) -> None:
    """In psycopg_pool such a waiter swallows the next returned connection for good."""

    def interrupted(self: ThreadWaiter, seconds: float | None) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(ThreadWaiter, "wait", interrupted)
    slots = LifoSlotQueue()
    with pytest.raises(KeyboardInterrupt):
        slots.get()
    assert not slots.line


def test_a_get_that_is_told_to_look_again_finds_the_queue_empty() -> None:
    slots = LifoSlotQueue()
    errors: list[BaseException] = []

    def get() -> None:
        try:
            slots.get()
        except queue.Empty as error:
            errors.append(error)

    thread = threading.Thread(target=get)
    thread.start()
    wait_until(lambda: slots.line)
    slots.wake(slots.line, None)
    thread.join()
    assert len(errors) == 1

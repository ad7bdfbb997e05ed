"""What the threads do with each toy, and what must hold after it."""

from __future__ import annotations

import contextlib
from typing import Any

from . import toys
from .explorer import Scenario


def hand_over(kind: type[toys.SlotQueue], takers: int = 2, items: int = 1) -> Scenario:
    """Each taker waits a second; whatever was not taken is still there, and nobody waits for it."""

    def scenario() -> Any:
        queue, taken = kind(), []

        def take() -> None:
            with contextlib.suppress(toys.Empty):
                taken.append(queue.get(1.0))

        def put() -> None:
            for item in range(items):
                queue.put(item)

        def check() -> None:
            assert sorted(taken + queue.items) == list(range(items))
            assert not queue.waiters

        return [take] * takers + [put], check

    return scenario


def patient_hand_over(kind: type[toys.SlotQueue], takers: int = 2) -> Scenario:
    """Each taker waits until it gets its item."""

    def scenario() -> Any:
        queue = kind()

        def put() -> None:
            for item in range(takers):
                queue.put(item)

        return [queue.get] * takers + [put], lambda: None

    return scenario


def adding(kind: type[toys.Counter]) -> Scenario:
    def scenario() -> Any:
        counter = kind()

        def check() -> None:
            assert counter.value == 2

        return [counter.add, counter.add], check

    return scenario


def moving(kind: type[toys.Accounts]) -> Scenario:
    def scenario() -> Any:
        accounts = kind()
        return [lambda: accounts.move(0, 1), lambda: accounts.move(1, 0)], lambda: None

    return scenario


def opening(kind: type[toys.Once]) -> Scenario:
    def scenario() -> Any:
        opened: list[int] = []

        def open_one() -> object:
            opened.append(1)
            return object()

        once = kind(open_one)

        def check() -> None:
            assert len(opened) == 1

        return [once.get, once.get], check

    return scenario


def leasing(kind: type[toys.Leases]) -> Scenario:
    def scenario() -> Any:
        leases = kind([1, 2])

        def check() -> None:
            assert {*leases.idle, *leases.leased} == {1, 2}
            assert not leases.lock.locked()

        return [leases.take], check

    return scenario

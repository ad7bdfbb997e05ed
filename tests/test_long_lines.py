"""Thousands of waiting threads: what each does now and then must not add up."""

from __future__ import annotations

import pytest

from queuepool import Pool
from queuepool.threads import ThreadWaiter


class Asleep(Exception):
    """Stands for a wait that lasts."""


@pytest.mark.parametrize("timeout", [None, 3600.0])
@pytest.mark.parametrize("waiting", [1, 100, 2_000, 20_000])
def test_a_long_line_wakes_no_more_often_in_all_than_a_short_one(
    waiting: int, timeout: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    # With a wake-up a second for each, 5,000 threads of which too many woke at once never got the interpreter's lock
    # for long enough to fall asleep again: in a minute eleven of them were served.
    slept: list[float] = []

    def wait(waiter: ThreadWaiter, seconds: float) -> bool:
        slept.append(seconds)
        raise Asleep

    with Pool("long", 1, open=object) as pool:
        slot = pool.take()
        for _ in range(waiting - 1):
            pool._queue.join_line(ThreadWaiter(), pool._line)
        monkeypatch.setattr(ThreadWaiter, "wait", wait)
        with pytest.raises(Asleep):
            pool.take(timeout)
        pool._line.clear()
        monkeypatch.undo()
        pool.put(slot)
    assert waiting / slept[0] <= 200
    assert slept[0] >= 1.0

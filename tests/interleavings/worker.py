"""The threads of a scenario, and the real threads that run them one after another."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Optional, Protocol


class Teardown(BaseException):
    """Raised in tasks that are left over when a run has ended, so that their threads become free."""


def raise_if_any(error: BaseException | None) -> None:
    """Raise `error`, so that the frame raising it is not kept by it, and its callers by that."""
    if error is not None:
        try:
            raise error
        finally:
            del error


class Task:
    """A thread of the scenario."""

    __slots__ = (
        *("name", "body", "worker", "daemon", "victim", "done"),
        *("wait", "deadline", "interrupted", "expired", "fresh", "checked"),
    )

    def __init__(self, name: str, body: Callable[[], object], worker: Worker, daemon: bool, victim: bool) -> None:
        self.name = name
        self.body = body
        self.worker = worker
        self.daemon = daemon  # a run does not wait for its end
        self.victim = victim  # may be interrupted
        self.done = False
        self.wait: Optional[Callable[[], bool]] = None  # whether it is over; None: the task can run
        self.deadline: Optional[float] = None
        self.interrupted = self.expired = False  # how the last wait ended
        self.fresh = False  # the opcode under way was a switch point already
        self.checked = False  # exceptions are delivered after the opcode before

    @property
    def ready(self) -> bool:
        """Whether it can run."""
        return self.wait is None or self.wait()


class Host(Protocol):
    """What a worker asks of the scheduler."""

    ending: bool

    def trace(self) -> None:
        """Trace the calling thread."""

    def judge(self, task: Task, error: BaseException) -> None:
        """Take note of the error that ended a task."""

    def finish(self, task: Task) -> None:
        """Take the baton back."""


class Worker:
    """A real thread which runs one task after another, each when it is handed the baton."""

    def __init__(self, host: Host, number: int) -> None:
        self.baton = threading.Lock()
        self.baton.acquire()
        self.task: Optional[Task] = None
        self._host = host
        self.thread = threading.Thread(target=self._work, name=f"explorer-{number}", daemon=True)
        self.thread.start()

    def _work(self) -> None:
        while True:
            self.baton.acquire()
            task, self.task = self.task, None
            assert task is not None
            try:
                if not self._host.ending:
                    self._host.trace()
                    task.body()
            except BaseException as raised:  # what its frames hold is freed right here
                self._host.judge(task, raised)
            finally:
                sys.settrace(None)
                sys.setprofile(None)
            self._host.finish(task)
            del task

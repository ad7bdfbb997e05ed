"""Other processes: which there are, and signals that reach them even when the sender is gone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple


def wait_until(condition: Callable[[], object], what: str, timeout: float = 15.0) -> None:
    """Return once `condition()` is true; fail, naming `what`, when `timeout` seconds pass first."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout} s in vain until {what}")
        time.sleep(0.005)


class Process(NamedTuple):
    parent: int
    state: str  # a letter: T is stopped


def living() -> dict[int, Process]:
    """Return all processes by pid, without the dead that their parents have yet to bury."""
    rows: list[list[str]] = []
    if Path("/proc/self/stat").exists():
        for path in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):  # gone since
                pid, _, rest = path.read_text(errors="replace").partition(" (")
                state, parent = rest.rpartition(") ")[2].split()[:2]
                rows.append([pid, parent, state])
    else:
        command = ["ps", "-A", "-o", "pid=,ppid=,state="]
        table = subprocess.run(command, check=True, capture_output=True, text=True)
        rows += [line.split() for line in table.stdout.splitlines()]
    alive = [row for row in rows if row[2][0] not in "ZX"]
    return {int(pid): Process(int(parent), state[0]) for pid, parent, state in alive}


def is_known(pid: int) -> bool:
    """Say whether this process lives, or is dead and not yet buried by its parent."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def send(number: signal.Signals, pids: Iterable[int]) -> None:
    """Send a signal to those of the processes that have not ended by themselves."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


class Watchdog:
    """A process that signals others: when told to, when this one is gone, or after `limit` seconds.

    It does so even if this process is killed, or blocked in a call that only the signal can end.
    """

    CODE = """
import os, select, sys, time
number, limit = int(sys.argv[1]), float(sys.argv[2])
until, text = time.monotonic() + limit, b""
while not text.endswith(b"fire\\n"):
    wait = max(0, min(1e6, until - time.monotonic()))
    if not select.select([0], [], [], wait)[0]:
        break
    text += os.read(0, 4096) or b"fire\\n"
for word in text.split():
    if word != b"fire":
        try:
            os.kill(int(word), number)
        except ProcessLookupError:
            pass
"""

    def __init__(self, number: signal.Signals, limit: float = float("inf")) -> None:
        command = [sys.executable, "-I", "-S", "-c", self.CODE, str(int(number)), str(limit)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, bufsize=0, start_new_session=True)

    def watch(self, pids: Iterable[int]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(b"".join(b"%d\n" % pid for pid in pids))

    def fire(self) -> None:
        """Have the signals sent now; return when they are."""
        self._process.communicate(b"fire\n")

    def dismiss(self) -> None:
        """End the watch and signal nobody."""
        self._process.kill()
        self._process.communicate()

"""Programs for queuepool 1.3.2, managers as they wrote them, and a pool filled as they filled it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from queuepool import Pool, ResourceManager

ROOT = Path(__file__).parents[1]
PROGRAMS = Path(__file__).parent / "v1_programs"


def output_of(program: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", str(PROGRAMS / program), *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout


def expected_of(program: str) -> str:
    """What the program says at its end that it prints; taken from 1.3.2, where that got to the end."""
    text = (PROGRAMS / program).read_text(encoding="utf-8")
    lines = text.partition(" prints:\n")[2].splitlines()
    return "".join(line[2:] + "\n" for line in lines)


class Recording(ResourceManager):
    """A manager as programs wrote them, which remembers what was called and fails where it is told to."""

    def __init__(self, name: str = "manager", **failing: BaseException) -> None:
        super().__init__(name)
        self.calls: list[str] = []
        self.failing = failing

    def _note(self, call: str) -> None:
        self.calls.append(call)
        if call in self.failing:
            raise self.failing[call]

    def open(self) -> None:
        self.resource = object()
        self._note("open")
        super().open()

    def close(self) -> None:
        self._note("close")
        self.resource = None
        super().close()

    def takeRepair(self) -> None:
        self._note("takeRepair")

    def putRepair(self) -> None:
        self._note("putRepair")


class Plain(ResourceManager):
    """One without repairs, which take and put may lend by their shortest way."""

    def open(self) -> None:
        super().open()
        self.resource = object()


def pool_of(*managers: ResourceManager, **options: Any) -> Pool[Any]:
    pool = Pool("old", len(managers), **options)
    for manager in managers:
        pool.put(manager)
    for manager in managers:
        if isinstance(manager, Recording):
            manager.calls.clear()
    return pool

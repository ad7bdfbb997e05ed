"""Runs spin, the model checker, on the model beside this file, where spin and a C compiler are installed."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

MODEL = Path(__file__).with_name("handover.pml")
SPIN, CC = shutil.which("spin"), shutil.which("gcc") or shutil.which("cc")
INSTALLED = SPIN is not None and CC is not None


class Verdict(NamedTuple):
    """What spin found: `error` is what its first error says, None if there was none in all of the `states`."""

    error: str | None
    states: int


def check(folder: Path, *switches: str) -> Verdict:
    """Explore every interleaving of the model made with `switches` (`"THREADS=3"`); work in `folder`, an empty one."""

    def run(*command: str | None) -> str:
        done = subprocess.run([each or "" for each in command], cwd=folder, capture_output=True, text=True, check=True)
        return done.stdout

    run(SPIN, "-a", *(f"-D{switch}" for switch in switches), str(MODEL))
    run(CC, "-O1", "-DSAFETY", "-DCOLLAPSE", "-w", "-o", "verifier", "pan.c")
    report = run("./verifier", "-m100000")
    error = re.search(r"^pan:\d+: (.*?)(?: \(at depth|$)", report, re.MULTILINE)
    errors, states = re.search(r"errors: (\d+)", report), re.search(r"(\d\S*) states, stored", report)
    assert errors is not None, report
    assert states is not None, report
    assert "max search depth too small" not in report, report
    assert (error is None) == (errors[1] == "0"), report
    return Verdict(error and error[1].strip(), int(float(states[1])))

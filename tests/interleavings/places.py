"""Says where in the scenario or the code under test a thread is."""

from __future__ import annotations

import os
from types import FrameType

_KIT = {
    os.path.join(os.path.dirname(__file__), name) for name in ("monitor.py", "scheduler.py", "standins.py", "tracer.py")
}


def place_of(frame: FrameType | None) -> str:
    """The innermost place outside of the explorer."""
    while frame is not None and frame.f_code.co_filename in _KIT:
        frame = frame.f_back
    if frame is None or os.path.basename(frame.f_code.co_filename) == "worker.py":
        return "its start"
    code = frame.f_code
    return f"{os.path.basename(code.co_filename)}:{frame.f_lineno} ({code.co_name})"

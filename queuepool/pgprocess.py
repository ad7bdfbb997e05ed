"""A mark that a forked child does not have: the kernel wipes it, so looking at it costs no system call."""

from __future__ import annotations

import mmap
import os
from typing import Any

MADV_WIPEONFORK = 18  # Linux 4.14 and later; Python's mmap does not name it


class ProcessMark:
    """`mark[0]` is true in the process that made or last set it (`mark[0] = 1`), and false in its children."""

    __slots__ = ("_pid",)

    def __init__(self) -> None:
        self._pid = os.getpid()

    def __getitem__(self, index: int) -> int:
        return self._pid == os.getpid()

    def __setitem__(self, index: int, value: int) -> None:
        self._pid = os.getpid()


def process_mark() -> Any:
    """A mark: a page of memory where the kernel can wipe it at a fork, else an object that compares pids.

    Python's hooks after a fork tell too, but not in servers that fork without its knowledge.
    """
    try:
        page = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        page.madvise(MADV_WIPEONFORK)
    except (AttributeError, OSError, TypeError, ValueError):
        return ProcessMark()
    page[0] = 1
    return page

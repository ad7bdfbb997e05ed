"""queuepool 1.3.2 as PyPI has it, loaded beside the queuepool of this repository although both have one import name."""

from __future__ import annotations

import functools
import importlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from types import ModuleType

from .measure import Missing

RELEASE = "queuepool==1.3.2"
ALIAS = "queuepool_1_3_2"
MODULES = ("queuepool", "queuepool.pool", "queuepool.psycopg2cm")


@functools.cache
def folder() -> Path:
    """Where the release lies; fetched with pip once per run, or once ever if QUEUEPOOL_BENCH_CACHE names a folder."""
    cache = os.environ.get("QUEUEPOOL_BENCH_CACHE")
    target = Path(cache or _temporary().name) / ALIAS
    if not (target / "queuepool" / "pool.py").is_file():
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target), RELEASE]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise Missing(f"pip cannot fetch {RELEASE}: {last}")
    return target


@functools.cache
def _temporary() -> tempfile.TemporaryDirectory[str]:
    # Kept by the cache, so that the folder lives until the interpreter exits.
    return tempfile.TemporaryDirectory(prefix="queuepool-bench-")


@functools.cache
def load() -> ModuleType:
    """The package under the name ``queuepool_1_3_2``; ``.psycopg2cm`` is there if psycopg2 is.

    Its modules import one another as ``queuepool…``: for that moment our own package makes way in ``sys.modules``.
    """
    path = str(folder())
    ours = {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] == "queuepool"}
    sys.path.insert(0, path)
    try:
        for name in MODULES:
            try:
                importlib.import_module(name)
            except ModuleNotFoundError as missing:
                if missing.name != "psycopg2":
                    raise
    finally:
        sys.path.remove(path)
        theirs = {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] == "queuepool"}
        sys.modules.update(ours)
    for name, module in theirs.items():
        sys.modules[name.replace("queuepool", ALIAS, 1)] = module
    return theirs["queuepool"]

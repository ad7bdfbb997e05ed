"""Start-up, each time in a new interpreter: how long the import takes, and the first statement on a connection."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from . import legacy
from .goals import Goal, at_most
from .measure import Case, Figures, Metric, Missing, Scenario
from .server import dsn

ROOT = Path(__file__).parents[2]
STDLIB = "the stdlib's part"
MODULES = {
    "queuepool": "queuepool",
    "queuepool.psycopg2pool": "queuepool.psycopg2pool",
    "queuepool-1.3.2": "queuepool",
    "psycopg2.pool": "psycopg2.pool",
    "sqlalchemy": "sqlalchemy.pool",
    "psycopg_pool": "psycopg_pool",
    "dbutils": "dbutils.pooled_db",
    "cuttlepool": "cuttlepool",
    "generic-connection-pool": "generic_connection_pool.threading",
    "asyncpg": "asyncpg",
    "escudeiro": "escudeiro.ds.pools",
    STDLIB: "queue, threading, dataclasses, logging, weakref",
}
TIMED = """
from time import perf_counter
begun_at = perf_counter()
{}
print(perf_counter() - begun_at)
"""
FIRST = {
    "queuepool": """
from queuepool.psycopg2pool import ConnectionPool
pool = ConnectionPool({dsn!r}, capacity=4)
with pool.connection() as connection, connection.cursor() as cursor:
    cursor.execute("select 1")
""",
    "psycopg2.pool": """
from psycopg2.pool import ThreadedConnectionPool
pool = ThreadedConnectionPool(1, 4, {dsn!r})
connection = pool.getconn()
connection.cursor().execute("select 1")
connection.commit()
pool.putconn(connection)
""",
    "sqlalchemy": """
import psycopg2
from sqlalchemy.pool import QueuePool
pool = QueuePool(lambda: psycopg2.connect({dsn!r}), pool_size=4)
connection = pool.connect()
connection.cursor().execute("select 1")
connection.commit()
connection.close()
""",
    "psycopg_pool": """
from psycopg_pool import ConnectionPool
pool = ConnectionPool({dsn!r}, min_size=1, max_size=4, open=True)
with pool.connection() as connection:
    connection.execute("select 1")
""",
    "dbutils": """
import psycopg2
from dbutils.pooled_db import PooledDB
pool = PooledDB(psycopg2, maxcached=4, maxconnections=4, dsn={dsn!r})
connection = pool.connection()
connection.cursor().execute("select 1")
connection.commit()
connection.close()
""",
    "bare": """
import psycopg2
connection = psycopg2.connect({dsn!r})
connection.cursor().execute("select 1")
connection.commit()
""",
}


@functools.cache
def _bytecode() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="queuepool-bench-")


def _environment() -> Mapping[str, str]:
    """As where a package is installed: its bytecode is there, which a source tree or a container may forbid."""
    without = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**without, "PYTHONPYCACHEPREFIX": _bytecode().name}


def in_new_interpreter(code: str, folder: Path, repeats: int) -> float:
    """Seconds that ``code`` takes: the least of several interpreters, after one that has compiled the files."""
    # Not the finder of an editable installation, which is slower than the path.
    prelude = f"import sys; sys.path.insert(0, {str(folder)!r})"
    command = [sys.executable, "-c", prelude + TIMED.format(code)]
    times = []
    for _ in range(repeats + 1):
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=60, check=False, env=_environment(), cwd=folder
        )
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            if "ModuleNotFoundError" in last:
                raise Missing(last)
            raise RuntimeError(last)
        times.append(float(done.stdout.split()[-1]))
    return min(times[1:])


def folder_of(peer: str) -> Path:
    return legacy.folder() if peer == "queuepool-1.3.2" else ROOT


def measure_import(peer: str, case: Case) -> Figures:
    return {"time": in_new_interpreter(f"import {MODULES[peer]}", folder_of(peer), case["repeats"])}


def measure_first(peer: str, case: Case) -> Figures:
    return {"time": in_new_interpreter(FIRST[peer].format(dsn=dsn()), folder_of(peer), case["repeats"])}


MILLISECONDS = [Metric("time", "ms", 1e3)]
IMPORT = Scenario(
    "import",
    "Importing the package in a new interpreter",
    MILLISECONDS,
    [Case("the module that has the pool", {"repeats": 5})],
    [Case("the module that has the pool", {"repeats": 1})],
    tuple(MODULES),
    measure_import,
    limit=STDLIB,
    note=f"{STDLIB}: import {MODULES[STDLIB]}.",
    goals=(Goal("at most 1.2 of what it needs of the stdlib", at_most(1.2, "time", "queuepool", STDLIB)),),
    rounds=5,
)
FIRST_CONNECTION = Scenario(
    "first-connection",
    "Import, pool, first statement on PostgreSQL",
    MILLISECONDS,
    [Case("select 1", {"repeats": 5})],
    [Case("select 1", {"repeats": 1})],
    tuple(FIRST),
    measure_first,
    limit="bare",
)
SCENARIOS = (IMPORT, FIRST_CONNECTION)

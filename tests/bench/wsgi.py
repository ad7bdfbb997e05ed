"""A WSGI application under gunicorn's threads, driven by wrk; skipped where either is missing."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

from . import server
from .driver import need
from .goals import Goal, at_least
from .measure import Case, Figures, Metric, Missing, Scenario
from .startup import ROOT
from .threads import MILLI
from .wsgi_app import CONNECTIONS, NO_POOL

UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}
QUANTILES = {"50%": "p50", "99%": "p99"}


@contextmanager
def serving(peer: str, threads: int) -> Iterator[str]:
    """Give the URL of the application in a process of its own."""
    need("gunicorn")
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        # It listens before there is a server: requests wait until there is, and nobody has to ask when.
        listener.set_inheritable(True)
        command = [sys.executable, "-m", "gunicorn", "--log-level", "error", "--threads", str(threads)]
        command += ["--bind", f"fd://{listener.fileno()}", "tests.bench.wsgi_app:from_environment()"]
        settings = {"QUEUEPOOL_BENCH_PEER": peer, "QUEUEPOOL_BENCH_DSN": server.dsn()}
        process = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, **settings}, pass_fds=[listener.fileno()], stderr=subprocess.PIPE
        )
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                answer.read()
            yield url
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=30)


def driven(url: str, connections: int, seconds: int) -> Figures:
    """What wrk says of so many connections that each ask again and again."""
    wrk = shutil.which("wrk")
    if wrk is None:
        raise Missing("wrk is not installed")
    command = [wrk, "--latency", "--threads=1", f"--connections={connections}", f"--duration={seconds}s", url]
    said = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 30, check=True).stdout
    return figures_of(said)


def figures_of(said: str) -> Figures:
    found = re.search(r"Requests/sec:\s*([\d.]+)", said)
    if found is None:
        raise ValueError(f"wrk gave no rate: {said!r}")
    errors = sum(int(count) for count in re.findall(r"(?:Non-2xx.*?responses|timeout):? (\d+)", said))
    figures = {"requests": float(found[1]), "errors": float(errors)}
    for share, value, unit in re.findall(r"(50%|99%)\s+([\d.]+)(us|ms|s|m)\b", said):
        figures[QUANTILES[share]] = float(value) * UNITS[unit]
    return figures


def measure_requests(peer: str, case: Case) -> Figures:
    if shutil.which("wrk") is None:
        raise Missing("wrk is not installed")
    with serving(peer, case["threads"]) as url:
        return driven(url, case["connections"], case["duration"])


PEERS = ("queuepool-1.3.2", "psycopg2.pool", "sqlalchemy", "psycopg_pool", "dbutils")


def _case(duration: int) -> Case:
    values = {"threads": 16, "connections": 16, "duration": duration}
    return Case(f"16 threads, 16 clients, {CONNECTIONS} connections", values)


WSGI = Scenario(
    "wsgi",
    "A web application under gunicorn",
    [
        Metric("requests", "/s", more_is_better=True),
        Metric("p50", "ms", MILLI),
        Metric("p99", "ms", MILLI),
        Metric("errors"),
    ],
    [_case(3)],
    [_case(1)],
    ("queuepool", *PEERS, NO_POOL),
    measure_requests,
    limit=NO_POOL,
    drawn_too=("p99",),
    note="one process, a SELECT and a rollback for each request, keep-alive clients of wrk on the same machine.",
    goals=(Goal("requests at least the best peer's", at_least(1.0, "requests", "queuepool", *PEERS)),),
)
SCENARIOS = (WSGI,)

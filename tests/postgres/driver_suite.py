"""psycopg2's own tests, with each default connection taken from a pool: ``python -m tests.postgres.driver_suite [SOURCE]``.

They were written for connections that are new: what one test leaves behind on a connection makes another fail. So they
tell whether a pool with ``reset="full"`` gives out connections that are as good as new. The suite is run with plain
connections, with this pool, and with psycopg2's own pool. SOURCE is a folder with psycopg2's source distribution, which
is otherwise fetched from PyPI, of the version that is installed.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .server import Server

ROOT = Path(__file__).parents[2]
WAYS = ("plain", "pool", "psycopg2.pool")


def fetch(folder: Path) -> Path:
    """Fetch and unpack psycopg2's source distribution; return its folder."""
    version = importlib.metadata.version("psycopg2-binary")
    download = f"download --quiet --no-deps --no-binary :all: psycopg2=={version} --dest"
    subprocess.run([sys.executable, "-m", "pip", *download.split(), str(folder)], check=True)
    [archive] = folder.glob("*.tar.gz")
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    return folder / f"psycopg2-{version}"


def run(source: Path, way: str, server: Server) -> dict[str, str]:
    """The outcome of each test, by its name, in a process of its own and a fresh database. Prints what the pool did."""
    server.drop_database("driver_suite")
    arguments = server.create_database("driver_suite").kwargs()
    environment = {
        **os.environ,
        "PSYCOPG2_TESTDB": arguments["dbname"],
        "PSYCOPG2_TESTDB_HOST": arguments["host"],
        "PSYCOPG2_TESTDB_PORT": arguments["port"],
        "PSYCOPG2_TESTDB_USER": arguments["user"],
        "PYTHONPATH": str(ROOT),
    }
    # By its path: in this folder the package of the name `tests` is psycopg2's.
    command = [sys.executable, "-W", "ignore", __file__, "--inside", way]
    done = subprocess.run(command, cwd=source, env=environment, check=False, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr[-4000:])
    outcomes, summary = json.loads(done.stdout.splitlines()[-1])
    print(f"{way}: {summary}", flush=True)
    return dict(outcomes)


def inside(way: str) -> None:
    """Run the tests in the current folder, and print the outcomes."""
    import unittest

    sys.path.insert(0, os.getcwd())
    suite, testconfig, testutils = map(importlib.import_module, ("tests", "tests.testconfig", "tests.testutils"))
    case = testutils.ConnectingTestCase
    take, put, summary = lenders(way, testconfig.dsn)
    connect, tear_down = case.connect, case.tearDown

    def connect_by_pool(self: Any, **kwargs: Any) -> Any:
        if kwargs:
            return connect(self, **kwargs)
        conn = take()
        self.__dict__.setdefault("_lent", []).append(conn)
        return conn

    def give_back(self: Any) -> None:
        for conn in self.__dict__.pop("_lent", []):
            put(conn)
        tear_down(self)

    if way != "plain":
        case.connect, case.tearDown = connect_by_pool, give_back

    class Result(unittest.TestResult):
        outcomes: dict[str, str] = {}  # noqa: RUF012 - one run

        def stopTest(self, test: unittest.TestCase) -> None:
            self.outcomes.setdefault(test.id(), "ok")
            super().stopTest(test)

        def addError(self, test: Any, error: Any) -> None:
            self.outcomes[test.id()] = f"error: {error[0].__name__}: {error[1]}"

        def addFailure(self, test: Any, error: Any) -> None:
            self.outcomes[test.id()] = f"failure: {error[1]}"

        def addSkip(self, test: Any, reason: str) -> None:
            self.outcomes[test.id()] = "skipped"

    result = Result()
    suite.test_suite().run(result)
    print(json.dumps([result.outcomes, summary()]), flush=True)
    os._exit(0)


def lenders(way: str, dsn: str) -> tuple[Callable[[], Any], Callable[[Any], Any], Callable[[], str]]:
    """How to get a connection, how to give it back, and what to say in the end."""
    if way == "psycopg2.pool":
        import psycopg2.pool

        theirs = psycopg2.pool.ThreadedConnectionPool(1, 50, dsn)
        return theirs.getconn, theirs.putconn, lambda: "one connection is kept, the others are closed when put back"
    from queuepool.psycopg2pool import ConnectionPool

    ours = ConnectionPool(dsn, capacity=50, reset="full")

    def summary() -> str:
        stats = ours.stats()
        return f"{stats.opens.count} connections were lent {stats.takes} times, and closed by: {stats.closes}"

    return ours.getconn, ours.putconn, summary


def report(outcomes: dict[str, dict[str, str]]) -> int:
    """Print what fails by way of a pool but not with plain connections; return how many do so by way of ours."""
    plain = outcomes["plain"]
    for way, results in outcomes.items():
        count = {kind: sum(text.startswith(kind) for text in results.values()) for kind in ("ok", "skipped")}
        failed = len(results) - sum(count.values())
        new = [name for name, text in results.items() if text[:2] != "ok" and text != "skipped" and plain[name] == "ok"]
        print(f"{way}: {len(results)} tests, {count['skipped']} skipped, {failed} failed, {len(new)} only so")
        for name in new if way == "pool" else []:
            print(f"    {name}: {' '.join(results[name].split())[:160]}")
    return len(new)


def main() -> None:
    if sys.argv[1:2] == ["--inside"]:
        inside(sys.argv[2])
        return
    from .server import Server  # `--inside` runs as a file, not as a module of this package

    with tempfile.TemporaryDirectory() as folder, closing(Server(max_prepared_transactions=10)) as server:
        source = Path(sys.argv[1]) if len(sys.argv) > 1 else fetch(Path(folder))
        server.start()
        server.execute("SELECT 1")
        report({way: run(source, way, server) for way in WAYS})


if __name__ == "__main__":
    main()

"""Forks, and servers that fork: no connection is ever shared by two processes."""

from __future__ import annotations

import http.client
import json
import mmap
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from local_postgres import free_port

from queuepool.pgprocess import ProcessMark, process_mark

from .processes import wait_until
from .server import Postgres

#: Since Python 3.12, of forking where there are threads; that is what these tests are about.
FORK_WARNING = "This process:DeprecationWarning"

#: A program that forks in the middle of using a pool. Arguments: the DSN, and by which fork.
FORKING = """
import ctypes, os, sys
import psycopg2
from queuepool.psycopg2pool import ConnectionPool

# The second is libc's own, of which Python knows nothing, so that none of its hooks run.
fork = {"os": os.fork, "libc": ctypes.PyDLL(None).fork}[sys.argv[2]]

def backend(conn):
    with conn.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return cursor.fetchone()[0]

pool = ConnectionPool(sys.argv[1], capacity=3)
pool.start_recycler()
pool.prefill()
idle = {slot.resource.info.backend_pid for slot in pool._slots}
with pool.connection() as held:
    with held.cursor() as cursor:
        cursor.execute("CREATE TABLE t (n int)")
    child = fork()
    if not child:
        try:
            with pool.connection() as mine:
                assert backend(mine) not in idle, "the child uses a connection of its parent's"
            if sys.argv[2] == "libc":
                os._exit(0)
            sys.exit(0)  # leaves the parent's `with` in the child, and runs every finalizer
        except SystemExit:
            raise
        except BaseException as error:
            print(repr(error), flush=True)
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0, "the child failed"
    with held.cursor() as cursor:
        cursor.execute("INSERT INTO t VALUES (1)")
for _ in range(6):
    with pool.connection() as conn:
        assert backend(conn) in idle
assert pool.stats().closes == {}, pool.stats().closes
print("undisturbed")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.parametrize("fork", ["os", "libc"])
def test_after_a_fork_the_child_starts_empty_and_the_parent_notices_nothing(database: Postgres, fork: str) -> None:
    root = Path(__file__).parents[2]
    done = subprocess.run(
        # Python 3.12 and later warn of any fork beside a thread; this one is what the test is about.
        [sys.executable, "-W", "ignore:This process:DeprecationWarning", "-c", FORKING, database.dsn(), fork],
        check=False, capture_output=True, text=True, timeout=30, cwd=root,
    )  # fmt: skip
    assert (done.stdout, done.stderr, done.returncode) == ("undisturbed\n", "", 0)
    assert database.execute("SELECT n FROM t") == [(1,)]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings(f"ignore:{FORK_WARNING}")
@pytest.mark.parametrize("wiped", [True, False])
def test_a_mark_is_missing_in_a_child_until_it_is_set_there(monkeypatch: pytest.MonkeyPatch, wiped: bool) -> None:
    if not wiped:
        monkeypatch.delattr(mmap, "MAP_ANONYMOUS", raising=False)  # as on Windows
    mark = process_mark()
    assert isinstance(mark, ProcessMark) is not wiped
    child = os.fork()
    if not child:
        missing = not mark[0]
        mark[0] = 1
        os._exit(0 if missing and mark[0] else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert mark[0]
    mark[0] = 1
    assert mark[0]


#: An application for a server that preloads it: the pool is used before the fork, and by threads after it.
APPLICATION = """
import json, os
from queuepool.psycopg2pool import ConnectionPool

pool = ConnectionPool(os.environ["DSN"], name="app", capacity=3)
pool.start_recycler(interval=0.1)

def backends():
    with pool.connection() as conn, conn.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid(), %s", [os.getpid()])
        return cursor.fetchone()

parents = backends()

def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps([parents[0], *backends()]).encode()]
"""


@contextmanager
def serving(command: list[str], folder: Path, dsn: str) -> Iterator[int]:
    (folder / "app.py").write_text(APPLICATION)
    port = free_port()
    root = Path(__file__).parents[2]
    environment = {**os.environ, "DSN": dsn, "PYTHONPATH": f"{root}:{folder}"}
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen([*command, f"127.0.0.1:{port}"], cwd=folder, env=environment, stdout=log, stderr=log)
    try:

        def answers() -> bool:
            assert process.poll() is None, (folder / "log").read_text()
            try:
                fetch(port)
            except OSError:
                return False
            return True

        wait_until(answers, "the application answers")
        yield port
    finally:
        process.terminate()
        process.wait(20)
        assert "Traceback" not in (folder / "log").read_text()


def fetch(port: int) -> list[int]:
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        client.request("GET", "/")
        answer: list[int] = json.loads(client.getresponse().read())
    except http.client.HTTPException as error:
        raise OSError from error
    finally:
        client.close()
    return answer


def check_that_workers_share_nothing(port: int) -> None:
    with ThreadPoolExecutor(8) as executor:
        answers = list(executor.map(lambda _: fetch(port), range(300)))
    by_worker: dict[int, set[int]] = {}
    for parents, backend, worker in answers:
        assert backend != parents
        by_worker.setdefault(worker, set()).add(backend)
    assert len(by_worker) == 2
    first, second = by_worker.values()
    assert not first & second
    assert len(first) <= 3
    assert len(second) <= 3


def test_gunicorn_with_preload_and_threads_shares_no_connection(database: Postgres, tmp_path: Path) -> None:
    pytest.importorskip("gunicorn")
    command = [sys.executable, "-m", "gunicorn", "--preload", "--workers=2", "--threads=4", "app:application", "-b"]
    with serving(command, tmp_path, database.dsn()) as port:
        check_that_workers_share_nothing(port)


def test_uwsgi_prefork_with_threads_shares_no_connection(database: Postgres, tmp_path: Path) -> None:
    uwsgi = Path(sys.executable).with_name("uwsgi")
    if not uwsgi.exists():
        pytest.skip("no uwsgi in this environment; pip install uwsgi")
    command = [str(uwsgi), "--master", "--processes=2", "--threads=4", "--enable-threads", "--module=app:application"]
    command += ["--die-on-term", f"--virtualenv={sys.prefix}", "--http-socket"]
    with serving(command, tmp_path, database.dsn()) as port:
        check_that_workers_share_nothing(port)

"""Every example runs as it stands, and shows what it promises."""

from __future__ import annotations

import ast
import functools
import importlib
import importlib.util
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
PROGRAMS = sorted(path.name for path in EXAMPLES.glob("*.py") if "__main__" in path.read_text(encoding="utf-8"))
#: Seconds after which those that would run for ever end; a round of the cron-like loop takes one, and three are looked at.
SECONDS = {"cron_loop.py": 4.5}


@pytest.fixture(scope="module")
def dsn() -> Iterator[str]:
    """One server for all of them, to save the time that each would need for its own."""
    importlib.import_module("tests.postgres")  # which puts the folder of the examples on the path
    from local_postgres import server

    with ExitStack() as stack:
        try:
            yield stack.enter_context(server())
        except LookupError as error:
            pytest.skip(str(error))


def environment(program: str, **more: str) -> dict[str, str]:
    ours = {name: value for name, value in os.environ.items() if not name.startswith("QUEUEPOOL_")}
    ours["QUEUEPOOL_EXAMPLE_SECONDS"] = str(SECONDS.get(program, 1.5))
    return {**ours, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **more}


def command(program: str, *arguments: str) -> list[str]:
    return [sys.executable, "-W", "error", str(EXAMPLES / program), *arguments]


def imports(program: str) -> set[str]:
    """What `program` imports at its top."""
    tree = ast.parse((EXAMPLES / program).read_text(encoding="utf-8"))
    names = {alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names}
    return names | {node.module or "" for node in tree.body if isinstance(node, ast.ImportFrom)}


def skip_unless_importable(program: str) -> None:
    # queuepool's own modules for psycopg2 bear its name.
    packages = {"psycopg2" if "psycopg2" in name else name.partition(".")[0] for name in imports(program)}
    beside = {other.stem for other in EXAMPLES.glob("*.py")}
    missing = sorted(name for name in packages - beside if importlib.util.find_spec(name) is None)
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")


def run(program: str, folder: Path, **more: str) -> str:
    """What `program` prints; it must end well, warn of nothing, and leave no file in the current folder."""
    done = subprocess.run(
        command(program),
        cwd=folder,
        env=environment(program, **more),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert not re.search("Traceback|Warning", done.stderr), done.stderr
    assert list(folder.iterdir()) == []
    return done.stdout


@pytest.fixture(scope="module")
def printed_by(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """What a program prints, which is run once for all tests that ask."""

    @functools.cache
    def printed_by(program: str) -> str:
        skip_unless_importable(program)
        needs_server = "local_postgres" in imports(program)
        server = {"QUEUEPOOL_DSN": request.getfixturevalue("dsn")} if needs_server else {}
        return run(program, tmp_path_factory.mktemp("folder"), **server)

    return printed_by


@pytest.mark.parametrize("program", PROGRAMS)
def test_an_example_runs_to_its_end_and_leaves_no_file_behind(program: str, printed_by: Callable[[str], str]) -> None:
    assert printed_by(program)


def test_the_quickstart_brings_its_own_server_and_shows_opening_reuse_and_recycling(tmp_path: Path) -> None:
    skip_unless_importable("quickstart.py")
    printed = run("quickstart.py", tmp_path)
    assert "The books balance: 20000 of 20000." in printed
    summary = re.search(r"Opened (\d+), reused (\d+) times, recycled .*?(\d+) by max_idle_time", printed)
    assert summary
    opened, reused, idle = map(int, summary.groups())
    assert opened + reused >= 800
    assert 1 <= idle <= 4
    assert printed.count("  opened ") == opened


def test_the_service_answers_requests_and_drains_on_sigterm(dsn: str, tmp_path: Path) -> None:
    if sys.platform == "win32":
        pytest.skip("Windows ends a process by SIGTERM without asking it")
    skip_unless_importable("service.py")
    with subprocess.Popen(
        command("service.py", dsn),
        cwd=tmp_path,
        env=environment("service.py", QUEUEPOOL_EXAMPLE_SECONDS=""),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as service:
        try:
            assert service.stdout is not None
            address = service.stdout.readline().split()[0]
            with urllib.request.urlopen(address, timeout=10) as answer:
                assert b"says PostgreSQL" in answer.read()
            with urllib.request.urlopen(f"{address}stats", timeout=10) as answer:
                assert b'"takes": 1,' in answer.read()
            service.send_signal(signal.SIGTERM)
            printed, errors = service.communicate(timeout=20)
        finally:
            service.kill()
    assert (service.returncode, printed) == (0, "closed; 1 requests used 1 connections\n"), errors


def test_the_cron_like_loop_closes_what_lies_idle_between_its_rounds(printed_by: Callable[[str], str]) -> None:
    printed = printed_by("cron_loop.py")
    assert "1 idle connection closed" in printed
    assert printed.count("used 1 times") == 2


def test_a_dropped_lease_comes_back_unless_a_cursor_still_holds_its_connection(
    printed_by: Callable[[str], str],
) -> None:
    printed = printed_by("leases.py")
    assert "3. Dropped without close(), it is back at once" in printed
    assert re.findall(r"taken: (\d)", printed) == ["0", "0", "1"]
    assert "with the cursor gone, the connection is lent again" in printed


def test_the_sqlite_pool_hands_on_neither_state_nor_a_dead_connection(printed_by: Callable[[str], str]) -> None:
    printed = printed_by("sqlite_pool.py")
    assert "the same connection: True and clean: True" in printed
    assert "another connection: True" in printed
    assert "100 visits by 4 threads" in printed


def test_the_asyncio_service_answers_every_order_that_was_begun(printed_by: Callable[[str], str]) -> None:
    printed = printed_by("asyncio_service.py")
    assert re.search(r"^\d+ orders by 20 clients; answers like 'order \d+: ", printed)
    assert "4 at a time" in printed
    assert "0 out now\nclosed\n" in printed


def test_the_pool_of_streams_hands_on_neither_an_answer_nor_a_dead_connection(printed_by: Callable[[str], str]) -> None:
    printed = printed_by("asyncio_streams.py")
    assert "100 of 100 tasks got their own answer, over 3 connections" in printed
    assert "the same connection: True and clean: True" in printed
    assert "after a hang-up: 100 of 100, 3 found dead before they were lent\ntaken: 0\n" in printed


def test_fastapi_serves_plain_and_async_endpoints_from_one_pool(printed_by: Callable[[str], str]) -> None:
    printed = printed_by("asyncio_fastapi.py")
    assert "100 of 100 answers are right" in printed
    assert "'taken': 0, 'waiting': 0" in printed


def test_the_migration_shows_what_the_changed_import_gains(printed_by: Callable[[str], str]) -> None:
    before, after = printed_by("psycopg2_migration.py").split("queuepool.psycopg2pool:")
    for told in ("PoolError, at once", "OperationalError for the next user", "leaks"):
        assert told in before
    for told in ("an answer: 42", "waited its turn", "did not notice", "does not leak"):
        assert told in after


def test_the_workers_do_each_job_once(printed_by: Callable[[str], str]) -> None:
    assert "40 of 40 jobs were done, each once: True" in printed_by("worker_listen_notify.py")


def test_flask_serves_sixteen_threads_over_four_connections(printed_by: Callable[[str], str]) -> None:
    printed = printed_by("flask_service.py")
    assert re.search(r"^200 of 200 answers are right, over [1-4] connections", printed)
    assert "answered by 500\nstill lent: 0; closed for it: 0" in printed


def test_the_workers_of_gunicorn_share_no_connection(printed_by: Callable[[str], str]) -> None:
    printed = printed_by("gunicorn_prefork.py")
    assert "300 requests, 2 workers, 0 connections used by two of them" in printed


def test_the_failover_costs_no_more_writes_than_are_in_flight(printed_by: Callable[[str], str]) -> None:
    printed = printed_by("failover_demo.py")
    failed = re.search(r"^(\d+) writes failed, of 8 that can be in flight", printed, re.MULTILINE)
    assert failed
    assert int(failed[1]) <= 8


def test_the_readme_names_every_example() -> None:
    readme = (ROOT / "README.rst").read_text(encoding="utf-8")
    assert [path.name for path in EXAMPLES.glob("*.py") if f"examples/{path.name}" not in readme] == []

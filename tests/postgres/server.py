"""PostgreSQL servers for the tests: any that a DSN names, and one's own, to kill and configure."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import psycopg2
from local_postgres import LocalServer
from psycopg2.extensions import connection, make_dsn, parse_dsn
from psycopg2.sql import SQL, Identifier, Literal

from .processes import Watchdog, is_known, living, send, wait_until

# The harness's own connections, by application_name: never counted, never terminated.
ADMIN = "queuepool-admin"


class Unavailable(Exception):
    """What a test needs is not to be had here; the text says why, for the skip."""


class Postgres:
    """A database that is reached by a DSN, with what SQL alone can tell of it and do to it."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.dsn(password=None)!r})"

    def kwargs(self, **overrides: object) -> dict[str, Any]:
        """Return the arguments of `psycopg2.connect`; an override of None takes that one out."""
        arguments = {**parse_dsn(self._dsn), **overrides}
        return {name: value for name, value in arguments.items() if value is not None}

    def dsn(self, **overrides: object) -> str:
        """Return the DSN, with overrides as in `kwargs`."""
        return str(make_dsn(**self.kwargs(**overrides)))

    def connect(self, **overrides: object) -> connection:
        opened: connection = psycopg2.connect(**self.kwargs(**overrides))
        return opened

    def admin(self) -> connection:
        """Return a new autocommit connection that the methods below do not count."""
        admin = self.connect(application_name=ADMIN, connect_timeout=10)
        admin.autocommit = True
        return admin

    def execute(self, query: Any, arguments: Any = None) -> list[tuple[Any, ...]]:
        """Execute one statement on a connection of its own; return its rows, if it has any."""
        with closing(self.admin()) as admin, admin.cursor() as cursor:
            cursor.execute(query, arguments)
            return cursor.fetchall() if cursor.description else []

    def backend_pids(self) -> list[int]:
        """Return the pids of the database's client backends, oldest first."""
        rows = self.execute(
            "select pid from pg_stat_activity where backend_type = 'client backend'"
            " and datname = current_database() and application_name <> %s"
            " order by backend_start",
            [ADMIN],
        )
        return [pid for (pid,) in rows]

    def connection_count(self) -> int:
        return len(self.backend_pids())

    def wait_for_connections(self, count: int) -> None:
        """Wait until so many connections are open: the server notices a close a moment after it."""
        wait_until(lambda: self.connection_count() == count, f"{count} connections are open")

    def terminate_backends(self, *pids: int) -> int:
        """Terminate these backends, by default all of `backend_pids`; return how many are gone."""
        doomed = list(pids) or self.backend_pids()
        self.execute("select pg_terminate_backend(pid) from unnest(%s::int[]) as pid", [doomed])
        wait_until(lambda: not {*doomed} & {*self.backend_pids()}, "the terminated are gone")
        return len(doomed)

    def create_database(self, name: str) -> Postgres:
        self.execute(SQL("create database {} template template0").format(Identifier(name)))
        return Postgres(self.dsn(dbname=name))

    def drop_database(self, name: str) -> None:
        self.execute(SQL("drop database if exists {} with (force)").format(Identifier(name)))


class Server(Postgres):
    """A server of one's own, to be killed, restarted, frozen and configured.

    The settings are PostgreSQL's.
    """

    def __init__(self, local: LocalServer | None = None, /, **settings: object) -> None:
        self.local = local or _Primary(**settings)
        self._watchdogs: list[Watchdog] = []  # one for each freeze, to thaw what it froze
        super().__init__(self.local.dsn)

    @property
    def pid(self) -> int:
        """The pid of the postmaster, the parent of all backends."""
        if self.local.process is None:
            raise RuntimeError("the server is stopped")
        return self.local.process.pid

    # Life and death

    def start(self) -> None:
        self.local.start()

    def stop(self, mode: str = "fast") -> None:
        """Stop the server; `mode` is fast (sessions are ended) or immediate (as in a crash)."""
        self.local.stop(mode)

    def restart(self, mode: str = "fast") -> None:
        self.stop(mode)
        self.start()

    def kill(self) -> None:
        """Kill the postmaster and all backends, as when memory runs out."""
        family = [self.pid, *self._children()]
        send(signal.SIGKILL, family)
        if self.local.process is not None:
            self.local.process.wait(15)
            self.local.process = None
        wait_until(lambda: not {*family} & living().keys(), "the killed processes are gone")

    def close(self) -> None:
        """Stop the server and delete its files."""
        self.thaw()
        self.local.close()

    def wait_until_ready(self) -> None:
        """Wait until the server accepts connections, as it does some time after `kill_backend`."""

        def answers() -> bool:
            try:
                self.execute("select 1")
            except psycopg2.OperationalError:
                return False
            return True

        wait_until(answers, "the server accepts connections")

    # Backends

    def kill_backend(self, pid: int) -> None:
        """Kill one backend; the server takes it for a crash, ends all other sessions and recovers.

        On return it has noticed: no connection succeeds before the recovery is over.
        """
        self._check_is_backend(pid)
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not is_known(pid), f"the server has buried backend {pid}")

    def freeze_backend(self, pid: int, limit: float = 60.0) -> None:
        """Stop one backend in its tracks, as `freeze` does with all."""
        self._check_is_backend(pid)
        self._freeze([pid], self._new_watchdog(limit))

    def freeze(self, limit: float = 60.0) -> None:
        """Stop the postmaster and all backends in their tracks.

        They go on at a `thaw`, at the end of this process, and after `limit` seconds. Meanwhile
        the kernel still accepts connections to the server, but nobody answers.
        """
        watchdog = self._new_watchdog(limit)
        self._freeze([self.pid], watchdog)  # the parent first, so that no more children come
        self._freeze(self._children(), watchdog)

    def thaw(self) -> None:
        """Let all that is frozen go on."""
        while self._watchdogs:
            self._watchdogs.pop().fire()

    @contextmanager
    def frozen(self, limit: float = 60.0) -> Iterator[None]:
        try:
            self.freeze(limit)
            yield
        finally:
            self.thaw()

    # Configuration

    def configure(self, **settings: object) -> None:
        """Change settings (None: back to the default), by a reload, or by a restart if need be."""
        for name, value in settings.items():
            self.local.settings[name] = value
            if value is None:
                del self.local.settings[name]
        if self.local.process is None:
            return
        self.local.write_settings()
        query = "select 1 from pg_settings where context = 'postmaster' and name = any(%s)"
        if self.execute(query, [list(settings)]):
            self.restart()
        else:
            self.reload()

    def reload(self) -> None:
        """Have the server read its configuration; return once new connections obey it."""
        [(before,)] = self.execute("select pg_conf_load_time()")
        self.execute("select pg_reload_conf()")
        query = "select 1 where pg_conf_load_time() > %s"
        wait_until(lambda: self.execute(query, [before]), "the reload is done")

    def create_role(self, name: str, password: str) -> Postgres:
        """Create an ordinary role, which has to give its password; return the server as its own.

        Tests that exhaust `max_connections` need one: the last few are for superusers only.
        """
        role = SQL("create role {} login password {}")
        self.execute(role.format(Identifier(name), Literal(password)))
        return Postgres(self.dsn(user=name, password=password))

    # Replication

    def standby(self) -> Server:
        """Return a new, started server that follows this one; the caller closes it."""
        standby = Server(_Standby(self.local))
        try:
            standby.start()
            follows = "select 1 from pg_stat_replication where state = 'streaming'"
            wait_until(lambda: self.execute(follows), "the standby follows the primary")
        except BaseException:
            standby.close()
            raise
        return standby

    def promote(self) -> None:
        """Make a primary of this standby; return once it is one."""
        assert self.execute("select pg_promote()") == [(True,)], "the standby was not promoted"

    def _children(self) -> list[int]:
        return [pid for pid, process in living().items() if process.parent == self.pid]

    def _check_is_backend(self, pid: int) -> None:
        if pid not in self._children():
            raise ValueError(f"{pid} is no backend of this server")

    def _new_watchdog(self, limit: float) -> Watchdog:
        self._watchdogs.append(Watchdog(signal.SIGCONT, limit))
        return self._watchdogs[-1]

    def _freeze(self, pids: list[int], watchdog: Watchdog) -> None:
        watchdog.watch(pids)  # before they stop, for this process may be killed at any moment
        send(signal.SIGSTOP, pids)

        def stopped() -> bool:
            processes = living()
            return all(pid not in processes or processes[pid].state == "T" for pid in pids)

        wait_until(stopped, f"the processes {pids} are stopped")


class _Primary(LocalServer):
    def create(self) -> None:
        super().create()
        (self.data / "pg_hba.conf").write_text("""
host all,replication postgres 127.0.0.1/32 trust
host all all 127.0.0.1/32 scram-sha-256
""")


class _Standby(LocalServer):
    def __init__(self, primary: LocalServer) -> None:
        super().__init__(**primary.settings)
        self._primary = primary

    def create(self) -> None:
        slot = f"standby_{secrets.token_hex(4)}"
        follow = ["--write-recovery-conf", "--create-slot", f"--slot={slot}", "--wal-method=stream"]
        quick = ["--checkpoint=fast", "--no-sync"]
        where = [f"--pgdata={self.data}", f"--dbname={self._primary.dsn}"]
        self.run("pg_basebackup", *where, *follow, *quick)


@contextmanager
def any_server() -> Iterator[Postgres]:
    """Give the server for tests to share: the one named, a container if asked for, or one's own."""
    dsn = os.environ.get("QUEUEPOOL_TEST_DSN")
    if dsn:
        yield Postgres(dsn)
    elif os.environ.get("QUEUEPOOL_TEST_CONTAINER") == "1" and _engine_runs():
        from testcontainers.community.postgres import PostgresContainer

        with PostgresContainer("postgres:17-alpine", driver=None) as container:
            yield Postgres(container.get_connection_url())
    else:
        with closing(Server()) as server:
            server.start()
            yield server


def _engine_runs() -> bool:
    """Ask in a process of its own, for docker's client leaves its sockets open where none runs."""
    probe = "import testcontainers.community.postgres, docker; docker.from_env().ping()"
    command = [sys.executable, "-c", probe]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0

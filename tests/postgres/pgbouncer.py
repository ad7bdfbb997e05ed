"""PgBouncer, the pool that often stands between a program's pool and its server."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from pathlib import Path

from local_postgres import free_port

from .processes import Watchdog, wait_until
from .server import Postgres, Server, Unavailable


class PgBouncer(Postgres):
    """A PgBouncer before a server, in transaction mode."""

    def __init__(self, server: Server) -> None:
        path = f"{os.environ.get('PATH', os.defpath)}{os.pathsep}/usr/sbin"
        program = shutil.which("pgbouncer", path=path)
        if program is None:
            raise Unavailable("no pgbouncer on PATH; apt install pgbouncer")
        self._port = free_port()
        super().__init__(server.dsn(port=self._port))
        configuration = self._configure(server)
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
        self._watchdog = Watchdog(signal.SIGKILL)
        self._watchdog.watch([self._process.pid])
        try:
            wait_until(self._listens, "pgbouncer listens")
        except BaseException as error:
            self.close()
            said = log.read_text(errors="replace")[-4000:]
            raise RuntimeError(f"pgbouncer did not start:\n{said}") from error

    def _configure(self, server: Server) -> Path:
        configuration = server.local.directory / f"pgbouncer-{self._port}.ini"
        configuration.write_text(f"""
[databases]
* = host=127.0.0.1 port={server.local.port} user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {self._port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
""")
        return configuration

    def _listens(self) -> bool:
        if self._process.poll() is not None:
            raise ChildProcessError("pgbouncer has ended")
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self._port)) == 0

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(15)
        self._watchdog.dismiss()

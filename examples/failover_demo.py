"""A primary that dies under load, and its standby that takes over: ``python examples/failover_demo.py``.

It brings two servers of its own. The pool knows both addresses and wants one that can write: nothing but the requests that
are in flight when the primary dies fail, the others wait within their timeout, and writes go on at the standby.
"""

from __future__ import annotations

import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import psycopg2
from local_postgres import LocalServer

from queuepool import PoolError
from queuepool.psycopg2pool import ConnectionPool

THREADS = 8


class Standby(LocalServer):
    """A server that follows another."""

    def __init__(self, primary: LocalServer) -> None:
        super().__init__()
        self.primary = primary

    def create(self) -> None:
        copy = "--write-recovery-conf --wal-method=stream --checkpoint=fast --no-sync"
        self.run("pg_basebackup", *copy.split(), f"--pgdata={self.data}", f"--dbname={self.primary.dsn}")


class Journal:
    """What became of each write."""

    def __init__(self) -> None:
        self.written: list[tuple[float, int]] = []  # when, and at which port
        self.failed: list[str] = []
        self.stopping = threading.Event()


def write(pool: ConnectionPool, journal: Journal) -> None:
    while not journal.stopping.is_set():
        try:
            with pool.connection() as conn, conn.cursor() as cursor:
                cursor.execute("INSERT INTO failover_demo DEFAULT VALUES")
                port = conn.info.port
            journal.written.append((time.monotonic(), port))
        except (psycopg2.Error, PoolError) as error:
            journal.failed.append(type(error).__name__)


def execute(dsn: str, statement: str) -> None:
    conn = psycopg2.connect(dsn)
    conn.autocommit = True
    with conn.cursor() as cursor:
        cursor.execute(statement)
    conn.close()


def main(primary: LocalServer, standby: LocalServer) -> None:
    execute(primary.dsn, "CREATE TABLE failover_demo (n serial)")
    journal = Journal()
    with ConnectionPool(
        host="127.0.0.1,127.0.0.1", port=f"{primary.port},{standby.port}", user="postgres", dbname="postgres",
        target_session_attrs="read-write", connect_timeout=2, name="orders", capacity=4, timeout=10.0,
    ) as pool, ThreadPoolExecutor(THREADS) as executor:  # fmt: skip
        for _ in range(THREADS):
            executor.submit(write, pool, journal)
        time.sleep(1.0)
        primary.stop("immediate")
        died_at = time.monotonic()
        execute(standby.dsn, "SELECT pg_promote()")
        promoted_at = time.monotonic()
        time.sleep(1.0)
        journal.stopping.set()
    before = [at for at, port in journal.written if port == primary.port]
    after = [at for at, port in journal.written if port == standby.port]
    print(
        f"{len(before)} writes to the primary, until it died; the standby was promoted in {promoted_at - died_at:.2f} s"
    )
    print(
        f"{len(journal.failed)} writes failed, of {THREADS} that can be in flight: {', '.join(sorted(set(journal.failed)))}"
    )
    print(
        f"the first write to the new primary came {min(after) - promoted_at:.2f} s after that; then {len(after)} more"
    )


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with closing(LocalServer(wal_level="replica")) as first:
        first.start()
        with closing(Standby(first)) as second:
            second.start()
            main(first, second)

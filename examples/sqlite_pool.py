"""A pool of sqlite3 connections, clean and alive at every take: ``python examples/sqlite_pool.py``.

What a pool must know of its resources is four functions: open, close, check, reset. These are the ones for sqlite3.
"""

from __future__ import annotations

import sqlite3
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from queuepool import Pool


def sqlite_pool(path: Path, capacity: int) -> Pool[sqlite3.Connection]:
    def open_connection() -> sqlite3.Connection:
        # The pool lends a connection to one thread at a time, so sqlite3 need not insist on the one that opened it.
        conn = sqlite3.connect(path, timeout=10.0, check_same_thread=False)
        conn.execute("PRAGMA journal_mode=WAL")
        return conn

    return Pool("sqlite", capacity, open=open_connection, close=close, check=check, reset=reset, timeout=10.0)


def close(conn: sqlite3.Connection) -> None:
    conn.close()  # this is the default: whatever has a close() is closed by it


def check(conn: sqlite3.Connection) -> None:
    conn.execute("SELECT 1")  # an error says that it is dead, and the taker gets another


def reset(conn: sqlite3.Connection) -> None:
    conn.rollback()
    conn.row_factory = None


def main(path: Path) -> None:
    with sqlite_pool(path, capacity=2) as pool:
        with pool.get() as conn, conn:
            conn.execute("CREATE TABLE visit (page TEXT)")

        # One user leaves an unfinished transaction and a changed setting behind: the next meets neither.
        with pool.get() as conn:
            conn.row_factory = sqlite3.Row
            conn.execute("INSERT INTO visit VALUES ('never committed')")
        with pool.get() as same:
            print("the same connection:", same is conn, "and clean:", not same.in_transaction and not same.row_factory)

        # Another closes what was only lent: it is replaced.
        with pool.get() as conn:
            conn.close()
        with pool.get() as other:
            print("another connection:", other is not conn)

        def visit(page: int) -> None:
            with pool.get() as conn, conn:
                conn.execute("INSERT INTO visit VALUES (?)", (f"page {page}",))

        with ThreadPoolExecutor(4) as threads:
            list(threads.map(visit, range(100)))
        with pool.get() as conn:
            [visits] = conn.execute("SELECT count(*) FROM visit").fetchone()
        stats = pool.stats()
    print(f"{visits} visits by 4 threads; {stats.opens.count} connections opened for {stats.takes} takes")
    print("closed early:", dict(stats.closes))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main(Path(folder, "visits.db"))

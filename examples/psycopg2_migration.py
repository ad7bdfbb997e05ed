"""From psycopg2.pool by one changed import, and what is gained: ``python examples/psycopg2_migration.py``.

The program below the imports is written for psycopg2.pool, and is run with either class.
"""

from __future__ import annotations

import select
import threading
from typing import Any

import psycopg2
import psycopg2.pool
from local_postgres import server

import queuepool.psycopg2pool


def program(pool: Any) -> None:
    """As psycopg2.pool's users write it."""
    conn = pool.getconn()
    try:
        with conn.cursor() as cursor:
            cursor.execute("SELECT 6 * 7")
            print("  an answer:", cursor.fetchone()[0])
        conn.commit()
    finally:
        pool.putconn(conn)


def exhausted(pool: Any) -> str:
    """Ask for one more than there are, while one is about to come back."""
    held = [pool.getconn() for _ in range(pool.maxconn)]
    threading.Timer(0.2, lambda: pool.putconn(held.pop())).start()
    try:
        pool.putconn(pool.getconn())
    except psycopg2.pool.PoolError as error:
        return f"PoolError, at once: {error}"
    else:
        return "waited its turn, and got one"
    finally:
        while len(held) == pool.maxconn:
            threading.Event().wait(0.01)
        for conn in held:
            pool.putconn(conn)


def killed(pool: Any, dsn: str) -> str:
    """Have the server end a connection that lies idle, as a restart or a firewall does, and use the pool."""
    conn = pool.getconn()
    pid = conn.info.backend_pid
    pool.putconn(conn)
    administrator = psycopg2.connect(dsn)
    with administrator.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s)", (pid,))
    administrator.close()
    select.select([conn], [], [], 10)  # the news has come
    del conn
    conn = pool.getconn()
    try:
        with conn.cursor() as cursor:
            cursor.execute("SELECT 1")
        conn.rollback()
    except psycopg2.Error as error:
        return f"{type(error).__name__} for the next user"
    else:
        return "the next user did not notice"
    finally:
        pool.putconn(conn)


def session_state(pool: Any) -> str:
    """Change a connection, and look at what the next user gets."""
    conn = pool.getconn()
    conn.autocommit = True
    pool.putconn(conn)
    conn = pool.getconn()
    try:
        return "leaks" if conn.autocommit else "does not leak"
    finally:
        pool.putconn(conn)


def main(dsn: str) -> None:
    for module in (psycopg2.pool, queuepool.psycopg2pool):
        pool = module.ThreadedConnectionPool(1, 3, dsn)
        print(f"\n{module.__name__}:")
        program(pool)
        print("  all taken:", exhausted(pool))
        print("  killed while idle:", killed(pool, dsn))
        print("  autocommit of the last user:", session_state(pool))
        pool.closeall()


if __name__ == "__main__":
    with server() as dsn:
        main(dsn)

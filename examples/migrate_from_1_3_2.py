"""From queuepool 1.3.2 to 2: ``python examples/migrate_from_1_3_2.py [DSN]``.

First a program as it was written for 1.3.2, which runs as it is. Then the same in the present spelling: the pool opens
its connections itself, so the loop that filled it goes; ``get()`` or ``connection()`` lend the connection, no manager.
"""

from __future__ import annotations

import sys
from typing import Any

import psycopg2
from local_postgres import server

import queuepool.pool as qp
import queuepool.psycopg2cm as pgcm
from queuepool import Pool
from queuepool.psycopg2pool import ConnectionPool


def as_it_was(dsn: str) -> None:
    """Nothing here is new, and nothing needs to change."""
    pool: Any = qp.Pool(
        name="old", capacity=5, maxIdleTime=60, maxOpenTime=600, maxUsageCount=1000, closeOnException=True
    )
    for i in range(pool.capacity):
        pool.put(pgcm.ConnectionManagerExtended(name=f"old-{i}", autocommit=True, dsn=dsn))
    pool.startRecycler(5)

    with pool.take() as cm:
        print("  a row:        ", cm.query1("SELECT 6 * 7 AS answer"))
        print("  a connection: ", cm.resource.get_backend_pid() > 0)

    cm = pool.take()
    try:
        cm.qexec("SELECT 1/0")
    except psycopg2.Error as error:
        print("  an error:     ", type(error).__name__)
        cm.close()
    finally:
        pool.put(cm)
    print("  open again:   ", pool.take().query1("SELECT true AS open"))


def with_a_pool_that_fills_itself(dsn: str) -> None:
    """maxIdleTime is max_idle_time, and so on; `functools.partial`, a lambda or a class opens a resource of any kind."""
    with Pool(
        "new", 5, max_idle_time=60, max_open_time=600, max_usage_count=1000, open=lambda: psycopg2.connect(dsn)
    ) as pool:
        pool.start_recycler(5)
        with pool.get() as conn, conn.cursor() as cursor:
            cursor.execute("SELECT 6 * 7")
            print("  a row:        ", cursor.fetchone())
        with pool.take() as slot:  # the slot is still there for who wants it
            print("  a slot:       ", slot.name, slot.use_count)


def with_a_pool_for_postgresql(dsn: str) -> None:
    """What was `ConnectionManager` and more: a dead connection is never lent, and only errors that cost it close one."""

    def autocommit(conn: Any) -> None:
        conn.set_session(autocommit=True)

    with ConnectionPool(dsn, name="postgres", capacity=5, configure=autocommit) as pool:
        with pool.connection() as conn, conn.cursor() as cursor:
            cursor.execute("SELECT 6 * 7")
            print("  a row:        ", cursor.fetchone())
            kept = conn
        try:
            with pool.connection() as conn, conn.cursor() as cursor:
                cursor.execute("SELECT 1/0")
        except psycopg2.Error as error:
            print("  an error:     ", type(error).__name__)
        with pool.connection() as conn:
            print("  kept after it:", conn is kept)


if __name__ == "__main__":
    with server(sys.argv[1] if len(sys.argv) > 1 else None) as dsn:
        for step in (as_it_was, with_a_pool_that_fills_itself, with_a_pool_for_postgresql):
            print(step.__name__.replace("_", " "))
            step(dsn)

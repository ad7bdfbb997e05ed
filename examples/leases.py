"""Leases: handles that behave like a connection, and come back by themselves: ``python examples/leases.py [DSN]``.

For code that wants something like the resource, with a ``close()`` of its own, and may forget to call it.
"""

from __future__ import annotations

import logging
import sys

from local_postgres import server

from queuepool import Lease, LeaseClosed
from queuepool.psycopg2pool import ConnectionPool


def report(conn: Lease) -> int:
    """Code written without a pool in mind: uses a connection and closes it."""
    cursor = conn.cursor()
    cursor.execute("SELECT 6 * 7")
    [answer] = cursor.fetchone()
    conn.close()
    return int(answer)


def forget(pool: ConnectionPool) -> None:
    lease = pool.lease()
    lease.cursor().execute("SELECT 'and never closed'")


def main(dsn: str) -> None:
    with ConnectionPool(dsn, name="leases", capacity=1, timeout=5.0) as pool:
        print("1. close() gives the connection back, and leaves an empty shell.")
        lease = pool.lease()
        print("   report:", report(lease), "- taken:", pool.stats().taken, "-", repr(lease))
        try:
            lease.cursor()
        except LeaseClosed as error:
            print("   LeaseClosed:", error)

        print("2. `with` closes it too; unwrap() has the connection itself, for C code that asks for the very type.")
        with pool.lease() as lease:
            print("  ", lease.status, type(lease.unwrap()).__name__, repr(lease))

        print("3. Dropped without close(), it is back at once, and a warning says where it had been taken.")
        forget(pool)
        print("   taken:", pool.stats().taken)
        with pool.get():
            pass

        print("4. A cursor that is still in use keeps its connection out, whatever became of the lease.")
        cursor = pool.lease().cursor()
        cursor.execute("SELECT 'still mine'")
        print("   taken:", pool.stats().taken, "- fetched:", cursor.fetchone())
        del cursor
        with pool.get():
            print("   with the cursor gone, the connection is lent again")


if __name__ == "__main__":
    logging.basicConfig(format="   log: %(message)s", stream=sys.stdout)
    with server(sys.argv[1] if len(sys.argv) > 1 else None) as dsn:
        main(dsn)

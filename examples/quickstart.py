"""Eight threads share four PostgreSQL connections while the recycler sweeps: ``python examples/quickstart.py [DSN]``.

Without a DSN, there or in QUEUEPOOL_DSN, it starts a PostgreSQL server of its own and removes it at the end. It makes
one table, ``quickstart_account``, and drops it again.
"""

from __future__ import annotations

import logging
import random
import select
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import psycopg2
from local_postgres import server
from psycopg2.extensions import connection

from queuepool import Observer, Slot
from queuepool.psycopg2pool import ConnectionPool

THREADS, CONNECTIONS, TRANSFERS = 8, 4, 100
ACCOUNTS, BALANCE = 20, 1000


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")  # in one piece, which print() is not when threads print at the same time


class Journal(Observer):
    """Prints what the pool opens and closes, and why."""

    def __init__(self) -> None:
        self.open = 0
        self.all_closed = threading.Event()

    def opened(self, pool: Any, slot: Slot[connection], seconds: float) -> None:
        self.open += 1
        self.all_closed.clear()
        say(f"  opened   {slot.name}: server process {slot.resource.info.backend_pid}, {seconds * 1000:.0f} ms")

    def closed(self, pool: Any, slot: Slot[connection], reason: str) -> None:
        say(f"  recycled {slot.name}: {reason}")
        self.open -= 1
        if not self.open:
            self.all_closed.set()


def transfer(pool: ConnectionPool, number: int) -> None:
    """Move money between two accounts, in one transaction; the lower id first, lest two transfers deadlock."""
    one, other = sorted(random.sample(range(ACCOUNTS), 2))
    amount = random.randrange(-50, 50)
    with pool.connection() as conn, conn.cursor() as cursor:
        for account, change in ((one, -amount), (other, amount)):
            cursor.execute("UPDATE quickstart_account SET balance = balance + %s WHERE id = %s", (change, account))


def rush_hour(pool: ConnectionPool) -> None:
    say(f"\nRush hour: {THREADS} threads make {THREADS * TRANSFERS} transfers over {CONNECTIONS} connections.")
    began = time.monotonic()
    with ThreadPoolExecutor(THREADS) as threads:
        list(threads.map(partial(transfer, pool), range(THREADS * TRANSFERS)))
    stats = pool.stats()
    say(f"  done in {time.monotonic() - began:.2f} s: {stats.opens.count} connections lent {stats.takes} times,")
    say(
        f"  {stats.waits.count} takes had to wait their turn, none longer than {stats.waits.longest_time * 1000:.0f} ms"
    )


def quiet(pool: ConnectionPool, journal: Journal) -> None:
    say("\nQuiet: nobody comes, so the recycler closes what has been idle for max_idle_time.")
    if not journal.all_closed.wait(30):
        raise SystemExit("the recycler has closed nothing for 30 s")


def cut(pool: ConnectionPool, dsn: str) -> None:
    say("\nThe server cuts a connection that lies idle; the next to take one does not notice.")
    with pool.get() as conn:
        victim = conn
    administrator = psycopg2.connect(dsn)
    with administrator.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s)", (victim.info.backend_pid,))
    administrator.close()
    select.select([victim], [], [], 10)  # readable: the server's farewell is here
    with pool.get() as conn:
        say(f"  lent     a live one: server process {conn.info.backend_pid}")


def set_up(pool: ConnectionPool) -> None:
    with pool.connection() as conn, conn.cursor() as cursor:
        say(f"  PostgreSQL {conn.info.parameter_status('server_version')} on {conn.info.host}, port {conn.info.port}")
        cursor.execute("DROP TABLE IF EXISTS quickstart_account")
        cursor.execute("CREATE TABLE quickstart_account (id int PRIMARY KEY, balance int NOT NULL)")
        cursor.execute(
            "INSERT INTO quickstart_account SELECT id, %s FROM generate_series(0, %s) id", (BALANCE, ACCOUNTS - 1)
        )


def tear_down(pool: ConnectionPool) -> int:
    """Drop the table; return the sum of what was in it."""
    with pool.connection() as conn, conn.cursor() as cursor:
        cursor.execute("SELECT sum(balance) FROM quickstart_account")
        [row] = cursor.fetchall()
        cursor.execute("DROP TABLE quickstart_account")
        return int(row[0])


def main(dsn: str) -> None:
    journal = Journal()
    with ConnectionPool(dsn, name="bank", capacity=CONNECTIONS, max_idle_time=1.0, observer=journal) as pool:
        try:
            pool.prefill(1)  # unlike a take it does not go on trying: a wrong DSN is told at once
        except psycopg2.Error as error:
            raise SystemExit(f"no connection to the server: {error}") from None
        pool.start_recycler(interval=0.25)
        set_up(pool)
        rush_hour(pool)
        quiet(pool, journal)
        cut(pool, dsn)
        total = tear_down(pool)
    stats = pool.stats()
    say(f"\nThe books balance: {total} of {ACCOUNTS * BALANCE}.")
    recycled = ", ".join(f"{count} by {reason}" for reason, count in stats.closes.items())
    say(f"Opened {stats.opens.count}, reused {stats.takes - stats.opens.count} times, recycled {recycled}.")
    if total != ACCOUNTS * BALANCE:
        raise SystemExit("money was lost")


if __name__ == "__main__":
    logging.basicConfig(format="  warning  %(message)s", stream=sys.stdout)
    with server(sys.argv[1] if len(sys.argv) > 1 else None) as dsn:
        main(dsn)

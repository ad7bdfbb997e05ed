"""Threads that do everything wrong at once, while backends die: what a pool promises still holds.

QUEUEPOOL_STRESS multiplies the time that it takes.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import psycopg2
import pytest
from psycopg2 import extensions
from psycopg2.extensions import connection

import queuepool
from queuepool.psycopg2pool import ConnectionPool

from .server import Postgres

SECONDS = 3.0 * int(os.environ.get("QUEUEPOOL_STRESS", "1"))
THREADS, CAPACITY, TIMEOUT = 12, 4, 10.0


def ask(conn: connection, statement: str) -> Any:
    with conn.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchone() if cursor.description else None


def begin_by_hand(conn: connection) -> None:
    conn.autocommit = True
    ask(conn, "BEGIN")


def change_everything(conn: connection) -> None:
    conn.set_session(isolation_level="SERIALIZABLE", readonly=True)
    conn.set_client_encoding("LATIN1")


def fail(conn: connection) -> None:
    raise KeyError("the program's own")


#: What users do, and how often.
DEEDS: dict[Callable[[connection], Any], int] = {
    lambda conn: ask(conn, "SELECT 1"): 10,
    lambda conn: ask(conn, "SELECT 1 / 0"): 3,
    begin_by_hand: 3,
    change_everything: 3,
    fail: 3,
    lambda conn: conn.close(): 1,
    lambda conn: ask(conn, "SELECT pg_terminate_backend(pg_backend_pid())"): 1,
}


@pytest.mark.timeout(60 + 2 * SECONDS)
@pytest.mark.parametrize("reset", ["rollback", "full"])
def test_no_connection_is_shared_dirty_or_lost_whatever_its_users_do(database: Postgres, reset: Any) -> None:
    pool = ConnectionPool(database.dsn(), capacity=CAPACITY, timeout=TIMEOUT, reset=reset)
    pool.start_recycler(interval=0.05)
    in_use: set[int] = set()
    lock = threading.Lock()
    wrong: list[str] = []
    outcomes: Counter[str] = Counter()
    until = time.monotonic() + SECONDS

    def use(draw: random.Random) -> None:
        deed = draw.choices([*DEEDS], [*DEEDS.values()])[0]
        with pool.connection() as conn:
            with lock:
                if id(conn) in in_use:
                    wrong.append("shared")
                in_use.add(id(conn))
            try:
                if (conn.autocommit, conn.readonly, conn.isolation_level, conn.encoding) != (False, None, None, "UTF8"):
                    wrong.append("dirty")
                if conn.info.transaction_status != extensions.TRANSACTION_STATUS_IDLE or conn.closed:
                    wrong.append("in a transaction, or closed")
                deed(conn)
            finally:
                with lock:
                    in_use.discard(id(conn))

    def work(seed: int) -> None:
        draw = random.Random(seed)
        while time.monotonic() < until:
            try:
                use(draw)
                outcomes["done"] += 1
            except queuepool.PoolError as error:
                wrong.append(f"not served: {error}")
            except (psycopg2.Error, KeyError) as error:
                outcomes[type(error).__name__] += 1

    def murder(seed: int) -> None:
        draw = random.Random(seed)
        while time.monotonic() < until:
            with suppress(IndexError, AssertionError):  # it was gone before
                database.execute("SELECT pg_terminate_backend(%s)", [draw.choice(database.backend_pids())])

    with ThreadPoolExecutor(THREADS + 1) as executor:
        for future in [*(executor.submit(work, seed) for seed in range(THREADS)), executor.submit(murder, 99)]:
            future.result()
    assert wrong == []
    assert {"done", "KeyError", "DivisionByZero"} <= outcomes.keys()
    stats = pool.stats()
    assert (stats.taken, stats.slots) == (0, CAPACITY)
    slots = [pool.take() for _ in range(CAPACITY)]
    assert [ask(slot.resource, "SELECT 1") for slot in slots] == [(1,)] * CAPACITY
    for slot in slots:
        pool.put(slot)
    assert pool.close() == []
    database.wait_for_connections(0)

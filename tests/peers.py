"""What connection pools do in ten situations, on a real PostgreSQL: ``python -m tests.peers [PEER ...]``.

Each peer is as its authors ship it, except that its capacity is 2 and, where it has one, its timeout 1 s. The README
has the table that this prints; `test_peers.py` compares the two.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import psycopg2
from psycopg2.extensions import make_dsn, quote_ident

from .bench import legacy

CAPACITY, TIMEOUT = 2, 1.0
DATABASE = "queuepool_peers"
#: A question that is not answered by then is answered by "no", in seconds.
PATIENCE = 10.0


@dataclass
class Face:
    """One pool: how a handle is taken and put back, and how the connection is reached through it."""

    take: Callable[[], Any]
    put: Callable[[Any], object]
    lent: Callable[[Any], Any] = lambda handle: handle
    """What a user works with."""
    beneath: Callable[[Any], Any] = lambda lent: lent
    """The driver's connection, if what is lent is but a proxy for it."""

    def connection(self, handle: Any) -> Any:
        return self.beneath(self.lent(handle))


def queuepool(dsn: str) -> Face:
    pool = importlib.import_module("queuepool.psycopg2pool").ConnectionPool(dsn, capacity=CAPACITY, timeout=TIMEOUT)
    return Face(pool.take, pool.put, lambda slot: slot.resource)


def psycopg2_pool(dsn: str) -> Face:
    pool = importlib.import_module("psycopg2.pool").ThreadedConnectionPool(CAPACITY, CAPACITY, dsn)
    return Face(pool.getconn, pool.putconn)


def psycopg_pool(dsn: str) -> Face:
    pool = importlib.import_module("psycopg_pool").ConnectionPool(
        dsn, min_size=0, max_size=CAPACITY, timeout=TIMEOUT, open=True
    )
    return Face(pool.getconn, pool.putconn)


def sqlalchemy(dsn: str) -> Face:
    pool = importlib.import_module("sqlalchemy.pool").QueuePool(
        lambda: psycopg2.connect(dsn), pool_size=CAPACITY, max_overflow=0, timeout=TIMEOUT
    )
    return Face(pool.connect, lambda handle: handle.close(), beneath=lambda proxy: proxy.dbapi_connection)


def dbutils(dsn: str) -> Face:
    module = importlib.import_module("dbutils.pooled_db")
    pool = module.PooledDB(psycopg2, maxconnections=CAPACITY, blocking=True, dsn=dsn)
    return Face(pool.connection, lambda handle: handle.close(), beneath=lambda proxy: proxy._con._con)


def queuepool_1_3_2(dsn: str) -> Face:
    old = legacy.load()
    manager = importlib.import_module(f"{old.__name__}.psycopg2cm").ConnectionManager
    pool = old.Pool("old", CAPACITY)
    for number in range(CAPACITY):
        pool.put(manager(str(number), dsn=dsn))
    return Face(pool.take, pool.put, lambda slot: slot.resource)


PEERS: dict[str, Callable[[str], Face]] = {
    "queuepool": queuepool,
    "psycopg2.pool": psycopg2_pool,
    "psycopg_pool": psycopg_pool,
    "SQLAlchemy": sqlalchemy,
    "DBUtils": dbutils,
    "queuepool 1.3.2": queuepool_1_3_2,
}


def ask(face: Face, handle: Any, statement: str) -> Any:
    cursor = face.connection(handle).cursor()
    cursor.execute(statement)
    row = cursor.fetchone() if cursor.description else None
    cursor.close()
    return row[0] if row else None


def administer(dsn: str, *statements: str) -> None:
    conn = psycopg2.connect(dsn, dbname="postgres")
    conn.autocommit = True
    for statement in statements:
        conn.cursor().execute(statement)
    conn.close()


def raised(action: Callable[[], Any]) -> BaseException | None:
    try:
        action()
    except Exception as error:
        return error
    return None


# --- the questions; each gets a pool of its own, and the DSN of its database


def waits_and_then_raises(face: Face, dsn: str) -> bool:
    held = [face.take() for _ in range(CAPACITY)]
    began = time.monotonic()
    error = raised(face.take)
    return bool(held) and error is not None and 0.5 * TIMEOUT < time.monotonic() - began < 2 * TIMEOUT


def serves_who_has_waited_longest(face: Face, dsn: str) -> bool:
    for _ in range(5):
        held = [face.take() for _ in range(CAPACITY)]
        order: list[str] = []

        def wait(order: list[str] = order) -> None:
            handle = face.take()
            order.append("waiter")
            face.put(handle)

        waiter = threading.Thread(target=wait, daemon=True)
        waiter.start()
        time.sleep(0.05)  # no peer tells whether somebody waits; for all of them this is enough
        face.put(held.pop())
        handle = face.take()
        order.append("newcomer")
        face.put(handle)
        waiter.join()
        face.put(held.pop())
        if order != ["waiter", "newcomer"]:
            return False
    return True


def names_the_holder(face: Face, dsn: str) -> bool:
    held = [face.take() for _ in range(CAPACITY)]
    return bool(held) and Path(__file__).name in str(raised(face.take))


def lends_no_dead_connection(face: Face, dsn: str) -> bool:
    handle = face.take()
    conn = face.connection(handle)
    backend = ask(face, handle, "SELECT pg_backend_pid()")
    face.put(handle)
    administer(dsn, f"SELECT pg_terminate_backend({backend})")
    select.select([conn.fileno()], [], [], 5)  # readable: the server's farewell is here
    return raised(lambda: ask(face, face.take(), "SELECT 1")) is None


def is_whole_after_failing_opens(face: Face, dsn: str) -> bool:
    administer(dsn, f"ALTER DATABASE {DATABASE} ALLOW_CONNECTIONS false")
    for _ in range(2 * CAPACITY):
        raised(lambda: face.put(face.take()))
    administer(dsn, f"ALTER DATABASE {DATABASE} ALLOW_CONNECTIONS true")
    held: list[Any] = []
    began = time.monotonic()
    while (
        len(held) < CAPACITY and time.monotonic() < began + 0.6 * PATIENCE
    ):  # some need a while, and more than one try
        raised(lambda: held.append(face.take()))
    return len(held) == CAPACITY


def never_lends_one_twice(face: Face, dsn: str) -> bool:
    handle = face.take()
    face.put(handle)
    raised(lambda: face.put(handle))
    one, other = face.take(), face.take()
    return face.connection(one) is not face.connection(other)


def forgets_the_parents_connections_in_a_child(face: Face, dsn: str) -> bool:
    handle = face.take()
    backend = ask(face, handle, "SELECT pg_backend_pid()")
    face.put(handle)
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        signal.alarm(int(PATIENCE / 2))
        own = raised(lambda: os.write(writer, str(ask(face, face.take(), "SELECT pg_backend_pid()")).encode()))
        os._exit(own is not None)
    os.close(writer)
    with os.fdopen(reader) as answer:
        told = answer.read()
    os.waitpid(child, 0)
    return told.isdigit() and int(told) != backend


def finds_a_dropped_handle(face: Face, dsn: str) -> bool:
    for _ in range(2 * CAPACITY):
        raised(face.take)
        gc.collect()
    return raised(face.take) is None


def undoes_a_changed_setting(face: Face, dsn: str) -> bool:
    handle = face.take()
    face.connection(handle).autocommit = True
    face.put(handle)
    handle = face.take()
    return not face.connection(handle).autocommit


def lends_psycopg2s_own(face: Face, dsn: str) -> bool:
    handle = face.take()
    conn: Any = face.lent(handle)
    return raised(lambda: quote_ident("a name", conn)) is None


QUESTIONS: dict[str, Callable[[Face, str], bool]] = {
    "all taken: waits, and raises in the end": waits_and_then_raises,
    "serves who has waited longest": serves_who_has_waited_longest,
    "names the holders when nothing comes": names_the_holder,
    "a connection cut while idle is not lent": lends_no_dead_connection,
    "whole again after failed connects": is_whole_after_failing_opens,
    "a second put lends nothing twice": never_lends_one_twice,
    "a forked child leaves its parent's alone": forgets_the_parents_connections_in_a_child,
    "a dropped handle comes back": finds_a_dropped_handle,
    "autocommit set by one user does not reach the next": undoes_a_changed_setting,
    "lends psycopg2's own connections": lends_psycopg2s_own,
}


def answer(question: Callable[[Face, str], bool], peer: str, dsn: str) -> bool:
    """What `question` finds, "no" if it raises or never ends. In a thread, for some peers hang."""
    found: list[bool] = []
    thread = threading.Thread(target=lambda: found.append(question(PEERS[peer](dsn), dsn)), daemon=True)
    thread.start()
    thread.join(PATIENCE)
    return found == [True]


def answers(peer: str, dsn: str) -> dict[str, bool]:
    """The answers for `peer`, from a process of its own."""
    command = [sys.executable, "-W", "ignore", "-m", __spec__.name if __spec__ else "tests.peers", "--one", peer, dsn]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=len(QUESTIONS) * PATIENCE)
    words = done.stdout.split()
    return {label: word == "yes" for label, word in zip(QUESTIONS, words)}


def one(peer: str, dsn: str) -> None:
    threading.excepthook = lambda arguments: None
    administer(dsn, f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)", f"CREATE DATABASE {DATABASE}")
    for question in QUESTIONS.values():
        print("yes" if answer(question, peer, make_dsn(dsn, dbname=DATABASE)) else "no", flush=True)
    administer(dsn, f"DROP DATABASE {DATABASE} WITH (FORCE)")
    os._exit(0)  # threads of hanging peers are in the way of any other exit


def installed() -> list[str]:
    """The releases that answered; psycopg2 tells its own, however it was installed."""
    found = [f"psycopg2 {str(vars(psycopg2)['__version__']).split()[0]}"]  # which the stubs do not know
    for name in ("psycopg-pool", "SQLAlchemy", "DBUtils"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found.append(f"{name} {metadata.version(name)}")
    return found


def main(peers: list[str]) -> None:
    importlib.import_module("tests.postgres")  # which puts the folder of the examples on the path
    from local_postgres import server

    with server() as dsn:
        columns = {peer: answers(peer, dsn) for peer in peers or PEERS}
    width = max(map(len, QUESTIONS))
    print(" " * width, *columns, sep="  ")
    for label in QUESTIONS:
        cells = [("yes" if column[label] else "no").ljust(len(peer)) for peer, column in columns.items()]
        print(label.ljust(width), *cells, sep="  ")
    print("with", ", ".join(installed()))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        one(*sys.argv[2:])
    else:
        main(sys.argv[1:])

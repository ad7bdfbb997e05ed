"""Code written for psycopg2.pool runs after a change of its import."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg2
import psycopg2.pool
import pytest
from psycopg2 import extras
from psycopg2.extensions import connection

import queuepool
from queuepool.psycopg2pool import ConnectionPool, PoolError, SimpleConnectionPool, ThreadedConnectionPool

from .server import Postgres


@pytest.fixture(params=[ThreadedConnectionPool, SimpleConnectionPool])
def pool(request: pytest.FixtureRequest, database: Postgres) -> Iterator[ThreadedConnectionPool]:
    opened = request.param(1, 2, database.dsn(), timeout=5.0)
    yield opened
    opened.close(0)


def test_minconn_connections_are_opened_at_once(database: Postgres) -> None:
    pool = ThreadedConnectionPool(3, 5, **database.kwargs())
    assert database.connection_count() == 3
    assert (pool.minconn, pool.maxconn, pool.closed) == (3, 5, False)
    pool.closeall()
    database.wait_for_connections(0)


def test_a_pool_that_cannot_connect_says_so_at_once(database: Postgres) -> None:
    with pytest.raises(psycopg2.OperationalError):
        ThreadedConnectionPool(1, 2, database.dsn(port=1))


def test_arguments_may_come_by_position(database: Postgres) -> None:
    pool = ThreadedConnectionPool(1, 1, database.dsn(), None, extras.RealDictCursor)
    conn = pool.getconn()
    assert isinstance(conn.cursor(), extras.RealDictCursor)
    pool.closeall()
    with pytest.raises(TypeError, match="by position"):
        ThreadedConnectionPool(1, 1, database.dsn(), None, None, None)


def test_getconn_and_putconn_lend_and_take_back(pool: ThreadedConnectionPool) -> None:
    one, two = pool.getconn(), pool.getconn()
    assert one is not two
    pool.putconn(one)
    assert pool.getconn() is one
    pool.putconn(one)
    pool.putconn(two)


def test_a_key_has_one_connection_at_a_time(pool: ThreadedConnectionPool) -> None:
    mine = pool.getconn("mine")
    assert pool.getconn("mine") is mine
    assert pool.getconn("yours") is not mine
    pool.putconn(mine, "mine")
    pool.putconn(key="yours")
    assert pool.stats().taken == 0
    with pytest.raises(PoolError):
        pool.putconn(key="mine")


def test_a_key_whose_lease_ended_otherwise_means_nothing_more(pool: ThreadedConnectionPool) -> None:
    mine = pool.getconn("mine")
    pool.release(mine)
    other = pool.getconn()
    assert other is mine
    assert pool.getconn("mine") is not other


def test_a_key_stays_with_who_got_it_while_another_puts_the_connection_back(database: Postgres) -> None:
    class Interrupted(ThreadedConnectionPool):
        """Has `meanwhile` run by another thread between a put and what comes after it."""

        __slots__ = ()

        def put(self, slot: queuepool.Slot[connection]) -> None:
            super().put(slot)
            while meanwhile:
                with ThreadPoolExecutor(1) as executor:
                    executor.submit(meanwhile.pop()).result(5)

    meanwhile: list[Callable[[], object]] = []
    pool = Interrupted(1, 2, database.dsn())
    mine = pool.getconn("mine")
    meanwhile.append(lambda: pool.getconn("theirs"))
    pool.putconn(mine)
    assert pool.getconn("theirs") is mine
    pool.putconn(key="theirs")
    assert pool.stats().taken == 0
    pool.closeall()


def test_two_threads_that_ask_for_a_key_at_once_get_one_connection(database: Postgres) -> None:
    both = threading.Barrier(2)

    class Slow(ThreadedConnectionPool):
        """Opens no connection before two threads want one."""

        __slots__ = ()

        def take(self, timeout: float | None = None, _depth: int = 1) -> queuepool.Slot[connection]:
            both.wait(5)
            return super().take(5, _depth + 1)

    pool = Slow(0, 2, database.dsn())
    with ThreadPoolExecutor(2) as executor:
        one, other = executor.map(pool.getconn, ["mine", "mine"])
    assert one is other
    assert pool.stats().taken == 1
    pool.putconn(key="mine")
    assert pool.stats().taken == 0
    pool.closeall()


def test_with_nested_same_a_connection_has_each_key_until_that_is_put_back(database: Postgres) -> None:
    pool = ThreadedConnectionPool(1, 1, database.dsn(), nested="same")
    one, other = pool.getconn("one"), pool.getconn("other")
    assert one is other
    pool.putconn(key="one")
    with pytest.raises(PoolError):
        pool.putconn(key="one")
    assert pool.getconn("other") is other
    pool.putconn(other)
    assert pool.stats().taken == 0
    with pytest.raises(PoolError):
        pool.putconn(key="other")
    pool.closeall()


def test_what_a_key_has_out_stays_lent_until_it_is_put_back(database: Postgres) -> None:
    """As with psycopg2.pool: `getconn(key)` in one function goes on with what it began in another, or in another thread."""
    pool = ThreadedConnectionPool(1, 1, database.dsn())
    database.execute("CREATE TABLE line (text text)")

    def begin() -> None:
        with pool.getconn("job").cursor() as cursor:
            cursor.execute("INSERT INTO line VALUES ('kept')")

    with ThreadPoolExecutor(1) as executor:
        executor.submit(begin).result(5)
    for _ in range(2):
        pool.recycle()
    pool.getconn("job").commit()
    pool.putconn(key="job")
    assert database.execute("SELECT text FROM line") == [("kept",)]
    pool.closeall()


def test_a_connection_that_once_had_a_key_comes_back_when_it_is_dropped(database: Postgres) -> None:
    pool = ThreadedConnectionPool(1, 1, database.dsn(), timeout=5.0)
    for give_back in (pool.release, pool.putconn):
        give_back(pool.getconn("mine"))
        pool.getconn()
        pool.putconn(pool.getconn())
    assert pool.stats().reclaimed == 2
    pool.closeall()


def test_a_key_has_no_connection_of_a_closed_pool(pool: ThreadedConnectionPool) -> None:
    conn = pool.getconn("mine")
    pool.closeall()
    with pytest.raises(psycopg2.pool.PoolError, match="closed"):
        pool.getconn("mine")
    pool.putconn(conn)


def test_closeall_goes_on_after_a_connection_whose_close_fails(
    database: Postgres, caplog: pytest.LogCaptureFixture
) -> None:
    class Stubborn(connection):
        def close(self) -> None:
            super().close()
            if len(held) == 3:
                held.pop(0)
                raise RuntimeError("a hook of the program's")

    held: list[connection] = []
    pool = ThreadedConnectionPool(1, 3, database.dsn(), connection_factory=Stubborn)
    held += [pool.getconn() for _ in range(3)]
    every = held.copy()
    pool.closeall()
    assert all(conn.closed for conn in every)
    assert "a hook of the program's" in caplog.text
    database.wait_for_connections(0)


def test_an_outage_is_caught_as_what_psycopg2s_pool_raises_then(database: Postgres) -> None:
    pool = ThreadedConnectionPool(0, 1, database.dsn(port=1), timeout=0.2)
    with pytest.raises(psycopg2.OperationalError, match="refused") as caught:
        pool.getconn()
    assert isinstance(caught.value, PoolError)
    assert isinstance(caught.value.__cause__, queuepool.Unreachable)


def test_putconn_may_close(pool: ThreadedConnectionPool) -> None:
    conn = pool.getconn()
    pool.putconn(conn, close=True)
    assert conn.closed
    assert pool.getconn() is not conn


def test_putconn_rolls_back(pool: ThreadedConnectionPool) -> None:
    conn = pool.getconn()
    with conn.cursor() as cursor:
        cursor.execute("SELECT 1")
    pool.putconn(conn)
    assert conn.info.transaction_status == psycopg2.extensions.TRANSACTION_STATUS_IDLE


def test_an_exhausted_pool_waits_instead_of_failing(pool: ThreadedConnectionPool) -> None:
    held = [pool.getconn(), pool.getconn()]
    with ThreadPoolExecutor(1) as executor:
        waiting = executor.submit(pool.getconn)
        while not pool.stats().waiting:
            time.sleep(0.001)
        pool.putconn(held.pop())
        assert not waiting.result(5).closed


def test_what_it_raises_is_caught_by_either_name(pool: ThreadedConnectionPool) -> None:
    held = [pool.getconn(), pool.getconn()]
    with pytest.raises(psycopg2.pool.PoolError, match="2 taken") as caught:
        pool.getconn(timeout=0)
    assert len(held) == 2  # dropped ones would have come back by themselves
    assert isinstance(caught.value, queuepool.PoolError)
    assert isinstance(caught.value, psycopg2.Error)
    assert isinstance(caught.value.__cause__, queuepool.Exhausted)


def test_it_keeps_what_it_opened(pool: ThreadedConnectionPool, database: Postgres) -> None:
    for _ in range(5):
        pair = [pool.getconn(), pool.getconn()]
        for conn in pair:
            pool.putconn(conn)
    assert pool.stats().opens.count == 2
    assert database.connection_count() == 2


def test_closeall_closes_also_what_is_out_on_loan(pool: ThreadedConnectionPool, database: Postgres) -> None:
    conn = pool.getconn()
    pool.closeall()
    assert conn.closed
    assert pool.closed
    database.wait_for_connections(0)
    for attempt in (pool.getconn, pool.closeall):
        with pytest.raises(psycopg2.pool.PoolError, match="closed"):
            attempt()
    pool.putconn(conn)  # a `finally` that comes late


def test_threads_may_share_it_as_psycopg2s(database: Postgres) -> None:
    pool = ThreadedConnectionPool(1, 4, database.dsn())
    seen: set[int] = set()
    lock = threading.Lock()

    def work(_: int) -> None:
        conn = pool.getconn()
        with lock:
            assert id(conn) not in seen
            seen.add(id(conn))
        with conn.cursor() as cursor:
            cursor.execute("SELECT 1")
        with lock:
            seen.remove(id(conn))
        pool.putconn(conn)

    with ThreadPoolExecutor(16) as executor:
        list(executor.map(work, range(400)))
    assert pool.stats().opens.count <= 4
    pool.closeall()


def test_the_new_class_has_the_old_names_too(database: Postgres) -> None:
    pool = ConnectionPool(database.dsn(), capacity=3, overflow=1, min_idle=2)
    assert (pool.minconn, pool.maxconn, pool.closed) == (2, 4, False)
    conn = pool.getconn()
    pool.putconn(conn)
    pool.closeall()
    assert pool.closed

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NoResultYet
from contextlib import closing

import psycopg2
import pytest
from psycopg2.extensions import connection

from .processes import wait_until
from .proxy import Direction, Proxy
from .server import Postgres


@pytest.fixture
def session(proxy: Proxy) -> Iterator[connection]:
    with closing(psycopg2.connect(proxy.dsn())) as opened:
        opened.autocommit = True
        yield opened


@pytest.fixture
def executor(session: connection) -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as started:
        yield started


def ask(session: connection, text: str = "select 1") -> None:
    with session.cursor() as cursor:
        cursor.execute(text)


def test_it_passes_on_what_it_gets_and_counts_the_connections(proxy: Proxy, session: connection) -> None:
    ask(session)
    assert (proxy.attempts, proxy.connections) == (1, 1)
    session.close()
    wait_until(lambda: proxy.connections == 0, "the proxy noticed the end")


def test_a_delay_holds_back_the_question_and_the_answer(proxy: Proxy, session: connection) -> None:
    proxy.delay(0.1)
    began = time.monotonic()
    ask(session)
    assert time.monotonic() - began >= 0.2


@pytest.mark.parametrize(("direction", "arrived"), [("to_server", 0), ("to_client", 1)])
def test_what_is_swallowed_does_not_arrive_before_it_is_forwarded(
    proxy: Proxy,
    session: connection,
    executor: ThreadPoolExecutor,
    database: Postgres,
    direction: Direction,
    arrived: int,
) -> None:
    ask(session, "create table journal (number int)")
    proxy.swallow(direction)
    asked: Future[None] = executor.submit(ask, session, "insert into journal values (1)")
    with pytest.raises(NoResultYet):
        asked.result(timeout=0.2)
    assert database.execute("select count(*) from journal") == [(arrived,)]
    proxy.forward()
    asked.result()
    assert database.execute("select count(*) from journal") == [(1,)]


def test_a_new_connection_hangs_while_all_is_swallowed(proxy: Proxy, executor: ThreadPoolExecutor) -> None:
    proxy.swallow()
    opening: Future[connection] = executor.submit(psycopg2.connect, proxy.dsn())
    with pytest.raises(NoResultYet):
        opening.result(timeout=0.2)
    proxy.forward()
    opening.result().close()


def test_refusing_turns_new_connections_away_and_spares_the_open_ones(proxy: Proxy, session: connection) -> None:
    proxy.refuse()
    with pytest.raises(psycopg2.OperationalError, match="refused"):
        psycopg2.connect(proxy.dsn())
    ask(session)
    proxy.forward()
    psycopg2.connect(proxy.dsn()).close()


@pytest.fixture
def bare(proxy: Proxy) -> Iterator[socket.socket]:
    """A socket that has come through the proxy."""
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as opened:
        wait_until(lambda: proxy.connections == 1, "the proxy accepted the connection")
        yield opened


def test_a_reset_ends_connections_as_a_crashed_host_does(proxy: Proxy, bare: socket.socket) -> None:
    proxy.reset()
    with pytest.raises(ConnectionResetError):
        bare.recv(1)


def test_hanging_up_ends_connections_as_a_program_does(proxy: Proxy, bare: socket.socket) -> None:
    proxy.hang_up()
    assert bare.recv(1) == b""


@pytest.mark.parametrize("end", [Proxy.reset, Proxy.hang_up])
def test_ending_connections_ends_the_open_and_the_new_ones_on_both_sides(
    proxy: Proxy, session: connection, database: Postgres, end: Callable[[Proxy], None]
) -> None:
    end(proxy)
    with pytest.raises(psycopg2.OperationalError):
        ask(session)
    with pytest.raises(psycopg2.OperationalError):
        psycopg2.connect(proxy.dsn())
    database.wait_for_connections(0)
    proxy.forward()
    psycopg2.connect(proxy.dsn()).close()


def test_the_end_of_a_backend_reaches_the_client(proxy: Proxy, session: connection, database: Postgres) -> None:
    assert select.select([session], [], [], 0)[0] == []
    database.terminate_backends()
    assert select.select([session], [], [], 10)[0] == [session]

"""A network that loses everything without a word: what libpq's timeouts bound, and what only the pool does."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest

import queuepool
from queuepool.psycopg2pool import ConnectionPool

#: A program for a network namespace of its own, whose loopback loses its address and gets it back: to what has been
#: connected before, all packets are lost then. It prints how long each thing took.
PROGRAM = """
import subprocess, sys, threading, time
sys.path[:0] = sys.argv[1:]
from contextlib import closing
import psycopg2, queuepool
from queuepool.psycopg2pool import ConnectionPool

def ip(command):
    subprocess.run(["ip", *command.split()], check=True)

def lose():
    ip("addr del 127.0.0.1/8 dev lo")

def seconds(name, deed, *errors):
    began = time.monotonic()
    try:
        deed()
    except errors as error:
        name += " " + type(error).__name__
    print(f"{name} {time.monotonic() - began:.2f}", flush=True)

def ask(statement):
    with pool.connection() as conn, conn.cursor() as cursor:
        cursor.execute(statement)

ip("link set lo up")
from tests.postgres.server import Server

with closing(Server()) as server:
    server.start()
    options = {"tcp_user_timeout": 1500, "keepalives_idle": 1, "keepalives_interval": 1, "keepalives_count": 2}
    with ConnectionPool(server.dsn(), capacity=4, timeout=1.0, connect_timeout=2, **options) as pool:
        pool.prefill()

        def send():
            with pool.connection() as conn, conn.cursor() as cursor:
                lose()
                cursor.execute("SELECT 1")

        seconds("sending", send, psycopg2.OperationalError)
        seconds("taking", lambda: pool.take(), queuepool.PoolTimeout)
        ip("addr add 127.0.0.1/8 dev lo")
        seconds("afterwards", lambda: ask("SELECT 1"))
        pool.prefill(1)
        threading.Timer(0.3, lose).start()
        seconds("awaiting", lambda: ask("SELECT pg_sleep(600)"), psycopg2.OperationalError)
        ip("addr add 127.0.0.1/8 dev lo")
        seconds("afterwards", lambda: ask("SELECT 1"))
"""


def test_a_network_that_loses_every_packet_is_noticed_by_what_is_sent_and_by_what_is_awaited() -> None:
    unshare, ip = shutil.which("unshare"), shutil.which("ip")
    if not (unshare and ip and hasattr(os, "geteuid") and os.geteuid() == 0):
        pytest.skip("needs Linux, root, unshare and ip, for a network of its own")
    if subprocess.run([unshare, "--net", "true"], check=False, capture_output=True).returncode:
        pytest.skip("this system gives nobody a network of one's own")
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [unshare, "--net", sys.executable, "-c", PROGRAM, str(root), str(root / "examples")],
        check=False, capture_output=True, text=True, timeout=50,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    took = {" ".join(words[:-1]): float(words[-1]) for words in lines}
    assert took["sending OperationalError"] < 6.0
    assert 1.0 <= took["taking PoolTimeout" if "taking PoolTimeout" in took else "taking Unreachable"] < 1.2
    assert took["awaiting OperationalError"] < 8.0
    assert took["afterwards"] < 1.0


@pytest.fixture
def deaf_port() -> Iterator[int]:
    """A port that answers no SYN: nobody accepts, and the line of those to be accepted is full."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        guests = []
        while True:
            guest = socket.socket()
            guests.append(guest)
            guest.settimeout(0.2)
            try:
                guest.connect(listener.getsockname())
            except OSError:
                break
        yield listener.getsockname()[1]
        for guest in guests:
            guest.close()


def test_a_host_that_does_not_answer_is_given_up_at_the_takes_deadline(deaf_port: int) -> None:
    with ConnectionPool(f"host=127.0.0.1 port={deaf_port}", capacity=2) as pool:
        began = time.monotonic()
        with pytest.raises(queuepool.PoolTimeout):
            pool.take(timeout=0.5)
        assert time.monotonic() - began < 0.6


def test_connect_timeout_holds_where_a_take_has_no_deadline(deaf_port: int) -> None:
    with ConnectionPool(f"host=127.0.0.1 port={deaf_port}", capacity=2, timeout=None, connect_timeout=2) as pool:
        began = time.monotonic()
        with pytest.raises(psycopg2.OperationalError, match="timeout"):
            pool.take()
        assert time.monotonic() - began < 3.0

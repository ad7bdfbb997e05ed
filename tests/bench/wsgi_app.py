"""The web application that `wsgi` measures: one SELECT for each request, through the pool that the environment names."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterable
from typing import Any

from .driver import Driver
from .postgres import ACCOUNTS, ADAPTERS, spec_for

NO_POOL = "no pool"
CONNECTIONS = 4


def driver(peer: str, dsn: str) -> Driver:
    spec = spec_for(CONNECTIONS, autocommit=False, dsn=dsn)
    if peer == NO_POOL:
        return Driver(spec.open, lambda connection: connection.close())
    return ADAPTERS[peer](spec)


def application(peer: str, dsn: str) -> Callable[[dict[str, Any], Callable[..., object]], Iterable[bytes]]:
    pool = driver(peer, dsn)

    def app(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
        taken = pool.take()
        try:
            connection = pool.resource(taken)
            with connection.cursor() as cursor:
                cursor.execute("select balance from account where id = %s", (random.randint(1, ACCOUNTS),))
                [balance] = cursor.fetchone()
            connection.rollback()  # so that no pool has to, whether it would or not
        finally:
            pool.put(taken)
        body = str(balance).encode()
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
        return [body]

    return app


def from_environment() -> Callable[[dict[str, Any], Callable[..., object]], Iterable[bytes]]:
    """What gunicorn calls, in its worker: the pool must not be older than the fork."""
    return application(os.environ["QUEUEPOOL_BENCH_PEER"], os.environ["QUEUEPOOL_BENCH_DSN"])

"""Fixtures that give a test a PostgreSQL server, a database, or a way to harm one."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import ExitStack, closing
from typing import Protocol

import pytest

from .pgbouncer import PgBouncer
from .proxy import Proxy
from .server import Postgres, Server, Unavailable, any_server


class MakePostgres(Protocol):
    def __call__(self, **settings: object) -> Server: ...


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """The server that tests share and leave healthy: its type offers nothing to harm it with.

    Each process of pytest-xdist has one of its own.
    """
    with ExitStack() as stack:
        try:
            server = stack.enter_context(any_server())
        except LookupError as error:
            pytest.skip(str(error))
        yield server


@pytest.fixture
def database(postgres: Postgres) -> Iterator[Postgres]:
    """A fresh database on the shared server, dropped afterwards whoever is still connected."""
    name = f"test_{secrets.token_hex(6)}"
    yield postgres.create_database(name)
    postgres.drop_database(name)


@pytest.fixture
def make_postgres() -> Iterator[MakePostgres]:
    """Make started servers, with the settings given, that the test may break at will.

    They are always one's own: neither a server that a DSN names nor a container may be broken so.
    """
    with ExitStack() as stack:

        def make(**settings: object) -> Server:
            try:
                server = stack.enter_context(closing(Server(**settings)))
            except LookupError as error:
                pytest.skip(str(error))
            server.start()
            return server

        yield make


@pytest.fixture
def own_postgres(make_postgres: MakePostgres) -> Server:
    """A server that the test may break at will."""
    return make_postgres()


@pytest.fixture
def standby_pair(own_postgres: Server) -> Iterator[tuple[Server, Server]]:
    """A primary and the standby that follows it."""
    with closing(own_postgres.standby()) as standby:
        yield own_postgres, standby


@pytest.fixture
def pgbouncer(own_postgres: Server) -> Iterator[PgBouncer]:
    """A PgBouncer in transaction mode before `own_postgres`."""
    try:
        bouncer = PgBouncer(own_postgres)
    except Unavailable as error:
        pytest.skip(str(error))
    with closing(bouncer):
        yield bouncer


@pytest.fixture
def proxy(database: Postgres) -> Iterator[Proxy]:
    """A proxy before `database`."""
    try:
        opened = Proxy(database)
    except Unavailable as error:
        pytest.skip(str(error))
    with closing(opened):
        yield opened

"""The PostgreSQL server that the scenarios share: made when first asked for, gone when the benchmark ends."""

from __future__ import annotations

import atexit
import functools
from contextlib import ExitStack
from typing import Any

from .measure import Missing

SCHEMA = """
create table account (id int primary key, balance bigint not null) with (fillfactor = 50);
insert into account select number, 0 from generate_series(1, 1000) as number;
create table history (account int not null, amount bigint not null, at timestamptz not null default now());
"""


@functools.cache
def _database() -> Any:
    try:
        from tests.postgres.server import any_server
    except ModuleNotFoundError as missing:
        raise Missing(f"{missing.name} is not installed") from None
    stack = ExitStack()
    try:
        server = stack.enter_context(any_server())
    except LookupError as error:
        raise Missing(f"no PostgreSQL server: {str(error).splitlines()[0]}") from None
    atexit.register(stack.close)
    name = "queuepool_bench"
    server.drop_database(name)
    database = server.create_database(name)
    stack.callback(server.drop_database, name)
    database.execute(SCHEMA)
    return database


def dsn() -> str:
    """The DSN of a database with the tables of `SCHEMA`; ``Missing`` if there is no server to be had."""
    text: str = _database().dsn()
    return text

from __future__ import annotations

from contextlib import closing

from .server import Postgres


def test_the_shared_server_answers(postgres: Postgres) -> None:
    assert postgres.execute("select 1") == [(1,)]


def test_a_fresh_database_is_empty_and_counts_its_own_connections_only(postgres: Postgres, database: Postgres) -> None:
    assert database.execute("select 1 from pg_tables where schemaname = 'public'") == []
    with closing(postgres.connect()), closing(database.connect()) as own:
        assert database.backend_pids() == [own.info.backend_pid]
    database.wait_for_connections(0)

"""The README's comparison is what `python -m tests.peers` finds, for each pool that is installed."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

pytest.importorskip("psycopg2")

from .peers import PEERS, QUESTIONS, answers
from .test_readme import table

HEAD = "on PostgreSQL"
TITLE = "Why not another one"
PACKAGES = {"psycopg_pool": "psycopg_pool", "SQLAlchemy": "sqlalchemy", "DBUtils": "dbutils"}


@pytest.fixture(scope="module")
def dsn() -> Iterator[str]:
    importlib.import_module("tests.postgres")  # which puts the folder of the examples on the path
    from local_postgres import server

    with ExitStack() as stack:
        try:
            yield stack.enter_context(server())
        except LookupError as error:
            pytest.skip(str(error))


def told() -> dict[str, dict[str, bool]]:
    """peer -> question -> whether the README says yes."""
    columns: dict[str, dict[str, bool]] = {peer: {} for peer in PEERS}
    for question, *cells in table(TITLE, HEAD):
        assert {cell.strip("*") for cell in cells} <= {"yes", "no"}
        for peer, cell in zip(PEERS, cells):
            columns[peer][question] = cell.strip("*") == "yes"
    return columns


def test_the_readme_has_every_question_of_the_comparison() -> None:
    assert [row[0] for row in table(TITLE, HEAD)] == list(QUESTIONS)


@pytest.mark.timeout(180)
@pytest.mark.skipif(sys.platform == "win32", reason="one of the questions is what a fork does")
@pytest.mark.parametrize("peer", PEERS)
def test_a_peer_does_what_the_readme_says(peer: str, dsn: str) -> None:
    if peer in PACKAGES and importlib.util.find_spec(PACKAGES[peer]) is None:
        pytest.skip(f"{peer} is not installed: pip install '.[bench]'")
    if peer == "queuepool 1.3.2" and not os.environ.get("QUEUEPOOL_BENCH_CACHE"):
        pytest.skip("would be fetched from PyPI: name a folder for it in QUEUEPOOL_BENCH_CACHE")
    assert answers(peer, dsn) == told()[peer]

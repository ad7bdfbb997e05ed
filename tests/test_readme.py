"""What the README says is so: its code runs, its tables are those of the code, what it refers to exists."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

import queuepool
from queuepool import errors, slot, v1

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.rst").read_text(encoding="utf-8")


def table(title: str, head: str) -> list[list[str]]:
    """The rows of the table in the section `title` whose first column is headed `head`; continued lines are joined."""
    section = README.partition(f"\n{title}\n---")[2]
    lines = section.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(head) and "===" in lines[number - 1])
    columns = [(match.start(), match.end()) for match in re.finditer("=+", lines[start - 1])]
    columns[-1] = (columns[-1][0], 1000)
    rows: list[list[str]] = []
    for line in lines[start + 2 :]:
        if line.startswith("==="):
            break
        cells = [line[first:last].strip() for first, last in columns]
        if cells[0]:
            rows.append(cells)
        else:
            rows[-1] = [f"{cell} {more}".strip() for cell, more in zip(rows[-1], cells)]
    return rows


def code(cell: str) -> str:
    """What a cell has between double backquotes, else the cell."""
    return cell.strip("`")


def code_blocks() -> list[str]:
    blocks = re.findall(r"^\.\. code-block:: python\n\n((?:    .*\n|\n)+)", README, re.MULTILINE)
    return [re.sub("^    ", "", block, flags=re.MULTILINE) for block in blocks]


def defaults(function: Any) -> dict[str, str]:
    """The parameters of `function` and their defaults, written as the README writes them."""
    return {
        name: written(parameter.default)
        for name, parameter in inspect.signature(function).parameters.items()
        if name != "self" and parameter.kind is not parameter.VAR_KEYWORD
    }


def written(default: Any) -> str:
    if default is inspect.Parameter.empty:
        return "required"
    if isinstance(default, str):
        return f'"{default}"'
    if inspect.isbuiltin(default):
        return f"{default.__module__}.{default.__name__}"
    return str(getattr(default, "__name__", default))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A server that `dbname=postgres` reaches, as it would on the reader's machine."""
    extensions = pytest.importorskip("psycopg2.extensions")
    importlib.import_module("tests.postgres")  # which puts the folder of the examples on the path
    from local_postgres import server

    with ExitStack() as stack:
        try:
            dsn = stack.enter_context(server())
        except LookupError as error:
            pytest.skip(str(error))
        for name, value in extensions.parse_dsn(dsn).items():
            monkeypatch.setenv(f"PG{name.upper()}", value)
        yield


@pytest.mark.usefixtures("server")
def test_the_code_runs_block_after_block(capsys: pytest.CaptureFixture[str]) -> None:
    namespace: dict[str, Any] = {}
    blocks = code_blocks()
    try:
        for number, block in enumerate(blocks):
            exec(compile(block, f"README.rst, code block {number + 1}", "exec"), namespace)
    finally:
        for thing in list(namespace.values()):
            if isinstance(thing, queuepool.Pool):
                thing.close()
    assert len(blocks) >= 8
    printed = capsys.readouterr().out
    assert "(42,)" in printed
    assert "busy" not in printed
    assert "away" not in printed


def options(title: str) -> dict[str, str]:
    return {code(row[0]): code(row[1]) for row in table(title, "option")}


def test_the_table_of_options_is_the_signature_of_both_pools() -> None:
    listed = options("Options")
    assert listed == defaults(queuepool.Pool) == {**defaults(queuepool.AsyncPool), "quantum": "0.0"}
    assert list(listed) == list(defaults(queuepool.Pool))


def test_the_table_of_options_for_postgresql_has_what_differs_from_the_first() -> None:
    module = pytest.importorskip("queuepool.psycopg2pool")
    given, general = defaults(module.ConnectionPool), defaults(queuepool.Pool)
    differing = {name: default for name, default in given.items() if general.get(name) != default}
    assert options("PostgreSQL") == differing
    assert set(general) - set(given) == {"open", "close", "check", "lifecycle"}


def test_every_option_has_a_unit_and_a_meaning() -> None:
    for row in table("Options", "option") + table("PostgreSQL", "option"):
        assert all(row), row


def test_the_table_of_errors_has_the_whole_tree() -> None:
    tree = {name for name, value in vars(errors).items() if isinstance(value, type)}
    assert {code(row[0]) for row in table("When it hurts at 3 am", "error")} == tree


def test_the_table_of_states_has_those_that_a_slot_can_have() -> None:
    assert {row[0] for row in table("How it works", "state")} == {slot.EMPTY, "idle", "leased", slot.RETIRED}


def test_the_table_of_modules_has_every_file_of_the_package() -> None:
    listed = [name for row in table("Inside", "module") for name in re.findall(r"``([\w/]+\.py)``", row[0])]
    files = {path.relative_to(ROOT / "queuepool").as_posix() for path in ROOT.glob("queuepool/**/*.py")}
    assert set(listed) == {name for name in files if not name.endswith("__init__.py")}
    assert len(listed) == len(set(listed))


def test_every_name_of_1_3_2_that_has_another_now_is_told() -> None:
    told = " ".join(" ".join(row) for row in table("Coming from queuepool 1.3.2", "1.3.2"))
    assert [name for pair in v1.KEYWORDS.items() for name in pair if f"``{name}``" not in told] == []


def test_the_tests_files_and_scenarios_that_it_refers_to_exist() -> None:
    tests = "".join(path.read_text(encoding="utf-8") for path in ROOT.glob("tests/**/*.py"))
    defined = set(re.findall(r"def (test_\w+)", tests))
    assert set(re.findall(r"``(test_\w+)``", README)) - defined == set()
    paths = re.findall(r"``(?:pytest |python )?([\w./]+/[\w./]*|[A-Z]+\.rst)``", README)
    assert [path for path in paths if not (ROOT / path).exists()] == []
    runs = re.findall(r"tests\.bench --(\w+) ([\w-]+)", README)
    assert runs
    assert [run for run in runs if f'"--{run[0]}"' not in tests or f'"{run[1]}"' not in tests] == []


def test_the_messages_that_it_explains_are_those_of_the_code() -> None:
    source = "".join(path.read_text(encoding="utf-8") for path in ROOT.glob("queuepool/*.py"))
    logged = "".join(re.findall(r"log\.(?:warning|exception)\(\s*\"(.*?)\"", source))
    messages = [row[0][2:-2] for row in table("Watching", "message")]
    assert len(messages) >= 7
    assert [message for message in messages if message not in logged] == []


def test_it_begins_with_two_commands_to_install_and_run() -> None:
    commands = re.findall(r"^ +(pip install .* && .*)$", README, re.MULTILINE)
    assert commands == [
        'pip install ".[demo]" && python examples/quickstart.py',
        'pip install -e ".[test]" && pytest',
    ]
    assert README.index(commands[0]) < 600

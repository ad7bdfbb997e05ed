from __future__ import annotations

import ast
import importlib.util
import inspect
import os
import sys
from pathlib import Path
from typing import Any

import pytest

import queuepool
from queuepool import Pool
from queuepool.core import DEFAULT

from .support import assert_whole

PACKAGE = Path(queuepool.__file__).parent


def imports_of(path: Path) -> set[str]:
    """The modules of this package that `path` imports as it is loaded: not within functions, nor for types alone."""
    found = set()

    def visit(nodes: list[ast.stmt]) -> None:
        for node in nodes:
            if isinstance(node, ast.ImportFrom) and node.level == 1:
                found.update([node.module] if node.module else [alias.name for alias in node.names])
            elif isinstance(node, ast.If) and "TYPE_CHECKING" not in ast.dump(node.test):
                visit(node.body)
                visit(node.orelse)

    visit(ast.parse(path.read_text()).body)
    return {name.partition(".")[0] for name in found}


def test_imports_go_one_way_only() -> None:
    modules = {path.stem: imports_of(path) for path in PACKAGE.glob("*.py") if path.stem != "__init__"}
    placed: set[str] = set()
    while len(placed) < len(modules):
        free = {name for name, needs in modules.items() if name not in placed and needs & set(modules) <= placed}
        assert free, f"a circle among {sorted(set(modules) - placed)}"
        placed |= free


def test_the_core_imports_neither_asyncio_nor_a_driver_until_it_is_asked_for() -> None:
    import subprocess

    script = "import sys, queuepool; print(*sorted({'asyncio', 'psycopg2', 'smtplib'} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": str(PACKAGE.parent)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == ""


def test_a_signature_says_that_a_pools_own_option_is_the_default() -> None:
    assert repr(DEFAULT) == "DEFAULT"
    assert "= DEFAULT" in str(inspect.signature(Pool.take))


def test_a_slot_that_was_interrupted_before_its_nesting_was_noted_can_still_be_put_back() -> None:
    pool = Pool("pool", 1, open=object, nested="same")
    slot = pool.take()
    pool._nesting.clear()
    pool.put(slot)
    assert_whole(pool)


def test_every_public_thing_says_what_it_is_for() -> None:
    for name in queuepool.__all__:
        assert inspect.getdoc(getattr(queuepool, name)), name
    for cls in (Pool, queuepool.Slot, queuepool.Lifecycle, queuepool.Observer, queuepool.Lease):
        for name, member in vars(cls).items():
            if inspect.isfunction(member) and not name.startswith("_"):
                inherited: Any = getattr(cls, name)
                assert inspect.getdoc(inherited) or name == "condemn", f"{cls.__name__}.{name}"


def test_what_is_exported_is_there_and_nothing_else_is_promised() -> None:
    for name in queuepool.__all__:
        assert getattr(queuepool, name) is not None
    with pytest.raises(AttributeError, match="nothing"):
        _ = queuepool.nothing


def test_where_there_is_no_fork_the_hook_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    if hasattr(os, "register_at_fork"):
        monkeypatch.delattr(os, "register_at_fork")
    spec = importlib.util.find_spec("queuepool.forking")
    assert spec is not None
    assert spec.loader is not None
    again = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(again)
    assert again._parents == []

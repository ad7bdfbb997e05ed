"""What is run before a change goes in, piece by piece: `nox --list`. `.ci/run` runs all of it.

The sessions `tests` and `core` make an environment for each Python that is found. The others use
the tools of the environment that nox itself runs in: `pip install -e ".[dev]"` brings both.
"""

from __future__ import annotations

import configparser
import os
import re
import shutil
from pathlib import Path

import nox

nox.needs_version = ">=2024.4.15"
nox.options.error_on_missing_interpreters = False  # in CI too: nox names what it skips
nox.options.sessions = ["tests", "core-3.13t", "lint", "types", "build"]

SETUP = configparser.ConfigParser(interpolation=None)
SETUP.read(Path(__file__).with_name("setup.cfg"), encoding="utf-8")
PYTHONS = re.findall(r":: (3\.\d+)$", SETUP["metadata"]["classifiers"], re.MULTILINE)
# pyenv shows only the Pythons that were chosen; its others are as good.
PYENV = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
os.environ["PATH"] = os.pathsep.join([os.environ["PATH"], *map(str, PYENV.glob("versions/3.*/bin"))])
RUFF = "--config=.ci/ruff.toml"
# What the core is tested with. A test that needs more says so by pytest.importorskip.
CORE_NEEDS = ["pytest>=8.2", "pytest-timeout", "hypothesis", "setuptools>=77"]
LONG = [f"--ignore=tests/{folder}" for folder in ("interleavings", "model", "stateful", "torture")]
NOT_CORE = ["--ignore=tests/postgres", "--ignore=tests/bench", "--ignore=tests/contrib"]


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """All tests."""
    session.install("-e", ".[test]")
    session.run("pytest", *session.posargs)


@nox.session(python=[*PYTHONS, "3.13t"])
def core(session: nox.Session) -> None:
    """The tests of the core: with nothing else installed, and without the GIL."""
    free_threaded = str(session.python).endswith("t")
    # Later ones have an extension, and no wheel of it for the free-threaded 3.13.
    last = {"hypothesis": "hypothesis<6.140"} if free_threaded else {}
    session.install("-e", ".", *(last.get(need, need) for need in CORE_NEEDS))
    # An extension may switch the GIL on again, unless it is told not to; other builds refuse the 0.
    environment = {"PYTHON_GIL": "0"} if free_threaded else {}
    session.run("pytest", *NOT_CORE, *session.posargs, env=environment)


@nox.session(venv_backend="none")
def lint(session: nox.Session) -> None:
    """Style and format."""
    # By name, for `pip install .` leaves copies of the package in build/.
    sources = ["queuepool", "tests", "examples", "noxfile.py", "setup.py"]
    session.run("ruff", "check", RUFF, *sources)
    session.run("ruff", "format", "--check", RUFF, *sources)


@nox.session(venv_backend="none")
def types(session: nox.Session) -> None:
    """Types, by two checkers."""
    session.run("mypy")
    session.run("pyright", "--project", ".ci/pyrightconfig.json")


@nox.session(venv_backend="none")
def coverage(session: nox.Session) -> None:
    """Every branch of the core is taken by a test."""
    # The explorer of interleavings traces the code too, and one thread has room for one tracer.
    session.run("coverage", "run", "-m", "pytest", *NOT_CORE, *LONG)
    session.run("coverage", "report")


@nox.session(venv_backend="none")
def build(session: nox.Session) -> None:
    """A source distribution, the wheel that is made from it, and what PyPI will say of both."""
    shutil.rmtree("dist", ignore_errors=True)
    session.run("python", "-m", "build", "--quiet")
    session.run("twine", "check", "--strict", *map(str, Path("dist").iterdir()))

"""What a user gets: metadata, distributions, and a core that needs the standard library alone."""

from __future__ import annotations

import configparser
import pkgutil
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import queuepool

ROOT = Path(__file__).parents[1]
DRIVERS = re.compile(r"psycopg2|\.pg|contrib")  # modules that are there for somebody else's package

IMPORT_ALONE = """
import importlib, sys, types
root, *modules = sys.argv[1:]
sys.path.insert(0, root)
if sys.version_info < (3, 11):  # the one requirement, which later Pythons have built in
    backport = sys.modules["exceptiongroup"] = types.ModuleType("exceptiongroup")
    backport.ExceptionGroup = backport.BaseExceptionGroup = Exception
for module in modules:
    importlib.import_module(module)
"""

BUILD = """
import sys
from setuptools import build_meta
folder = sys.argv[1]  # the builds change sys.argv
build_meta.build_sdist(folder)
build_meta.build_wheel(folder)
"""


@pytest.fixture(scope="module")
def setup() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a source distribution and a wheel, built from a copy without earlier builds."""
    tree = tmp_path_factory.mktemp("tree") / "queuepool"
    # An old *.egg-info would list files that MANIFEST.in has forgotten.
    built = shutil.ignore_patterns(".git", ".nox", ".venv", "venv", "build", "dist", "*.egg-info", "__pycache__")
    shutil.copytree(ROOT, tree, ignore=built)
    folder = tmp_path_factory.mktemp("dist")
    done = subprocess.run(
        [sys.executable, "-c", BUILD, str(folder)],
        cwd=tree,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Deprecat" not in done.stderr, done.stderr
    return folder


def test_the_version_is_the_same_wherever_it_is_said(setup: configparser.ConfigParser) -> None:
    assert setup["metadata"]["version"] == queuepool.__version__


def test_only_the_backport_of_exception_groups_is_required(
    setup: configparser.ConfigParser,
) -> None:
    assert setup["options"]["install_requires"].split("\n") == [
        "",
        'exceptiongroup; python_version < "3.11"',
    ]


def test_the_extras_have_the_names_that_the_readme_uses(setup: configparser.ConfigParser) -> None:
    assert set(setup["options.extras_require"]) == {"psycopg2", "demo", "test", "bench", "dev"}


def test_the_core_imports_where_nothing_else_is_installed() -> None:
    names = [module.name for module in pkgutil.iter_modules(queuepool.__path__, "queuepool.")]
    core = [name for name in names if not DRIVERS.search(name)]
    # -S leaves out site-packages, -I whatever else the environment would add
    command = [
        sys.executable,
        "-I",
        "-S",
        "-W",
        "error",
        "-c",
        IMPORT_ALONE,
        str(ROOT),
        "queuepool",
        *core,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_source_distribution_has_all_that_a_packager_needs(distributions: Path) -> None:
    [path] = distributions.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        files = {name.partition("/")[2] for name in archive.getnames()}
    top = {
        "CHANGES.rst",
        "LICENSE",
        "README.rst",
        "noxfile.py",
        "pyproject.toml",
        "setup.cfg",
        "setup.py",
        ".ci/run",
    }
    tests = {path.relative_to(ROOT).as_posix() for path in ROOT.glob("tests/**/*.py")}
    examples = {path.relative_to(ROOT).as_posix() for path in ROOT.glob("examples/*.py")}
    assert (top | tests | examples) - files == set()


def test_the_wheel_has_the_package_its_types_and_nothing_else(distributions: Path) -> None:
    [path] = distributions.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        files = {name for name in archive.namelist() if ".dist-info/" not in name}
    package = {path.relative_to(ROOT).as_posix() for path in ROOT.glob("queuepool/**/*.py")}
    assert files == package | {"queuepool/py.typed"}

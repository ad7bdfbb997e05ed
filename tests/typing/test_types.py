"""Runs what nox has mypy and pyright read (session `types`)."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import queuepool

from . import aio_types, pool_types


@pytest.mark.parametrize("example", [*pool_types.EXAMPLES, *aio_types.EXAMPLES], ids=lambda example: example.__name__)
def test_what_is_shown_to_the_type_checkers_runs(example: Callable[[], Any]) -> None:
    if inspect.iscoroutinefunction(example):
        asyncio.run(example())
    else:
        example()


def test_the_package_says_that_it_is_typed() -> None:
    assert Path(queuepool.__file__).with_name("py.typed").exists()

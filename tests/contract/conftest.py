"""Runs each contract test over every kind of pool.

What only one kind owes says so by `@pytest.mark.only("Pool", reason="...")`.
"""

from __future__ import annotations

import inspect
from importlib.util import find_spec

import pytest

from ..support import Clock, Source
from .apis import Api, TaskApi, ThreadApi

APIS: dict[str, type[Api]] = {"Pool": ThreadApi}
if find_spec("queuepool.aio") is not None:
    APIS["AsyncPool"] = TaskApi


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "only(kind, reason): a behaviour that only this kind of pool owes, and why")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "api" in metafunc.fixturenames:
        only = metafunc.definition.get_closest_marker("only")
        kinds = [kind for kind in APIS if only is None or only.args == (kind,)]
        metafunc.parametrize("api", kinds, indirect=True)


@pytest.fixture
def api(request: pytest.FixtureRequest) -> Api:
    return APIS[request.param]()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run an async test as its api runs coroutines, and look at what it leaves behind."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in inspect.signature(pyfuncitem.obj).parameters}
    api: Api = arguments["api"]  # type: ignore[assignment]

    async def flow() -> None:
        try:
            await pyfuncitem.obj(**arguments)
        except BaseException:
            for event in api.events:
                event.set()
            raise
        await api.finish()

    api.run(flow())
    return True

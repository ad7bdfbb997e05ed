from __future__ import annotations

import asyncio
import concurrent.futures
from typing import Any

import pytest

from queuepool import Lifecycle
from queuepool.lifecycle import AsyncFunctionLifecycle, AsyncLifecycle, FunctionLifecycle

from .support import Source

HOOKS = ("open", "close", "check", "reset", "poll")


def test_the_base_knows_everything_but_how_to_open() -> None:
    base: Lifecycle[object] = Lifecycle()
    with pytest.raises(NotImplementedError):
        base.open()
    base.close(object())
    base.reset(object())
    assert base.check(object()) is True
    assert base.poll(object()) is True
    assert not base.may_hang
    assert not any(base.offers(hook) for hook in HOOKS)


def test_the_base_for_asyncio_knows_everything_but_how_to_open() -> None:
    base: AsyncLifecycle[object] = AsyncLifecycle()

    async def ask() -> None:
        with pytest.raises(NotImplementedError):
            await base.open()
        await base.close(object())
        await base.reset(object())
        assert await base.check(object()) is True

    asyncio.run(ask())
    assert not any(base.offers(hook) for hook in HOOKS)


def test_by_default_a_resource_is_closed_by_its_own_close_plain_or_async() -> None:
    closed = []

    class Plain:
        def close(self) -> None:
            closed.append("plain")

    class Async:
        async def close(self) -> None:
            closed.append("async")

    Lifecycle[Plain]().close(Plain())
    asyncio.run(AsyncLifecycle[Plain]().close(Plain()))
    asyncio.run(AsyncLifecycle[Async]().close(Async()))
    assert closed == ["plain", "plain", "async"]


def test_a_subclass_offers_what_it_overrides_at_whatever_depth() -> None:
    class Checking(Lifecycle[object]):
        def check(self, resource: object) -> bool:
            return True

    class Polling(Checking):
        def poll(self, resource: object) -> bool:
            return True

    assert [hook for hook in HOOKS if Polling().offers(hook)] == ["check", "poll"]

    class AsyncChecking(AsyncLifecycle[object]):
        async def check(self, resource: object) -> bool:
            return True

    assert [hook for hook in HOOKS if AsyncChecking().offers(hook)] == ["check"]


@pytest.mark.parametrize("kind", [FunctionLifecycle, AsyncFunctionLifecycle])
def test_functions_offer_what_they_are_given(kind: type[FunctionLifecycle[Any]]) -> None:
    source = Source()
    made = kind(source.open, check=source.check)
    assert [hook for hook in HOOKS if made.offers(hook)] == ["open", "check"]
    assert made.open() is source.made[0]


@pytest.mark.parametrize("kind", [FunctionLifecycle, AsyncFunctionLifecycle])
@pytest.mark.parametrize("hook", ["close", "check", "reset"])
def test_what_is_no_function_is_refused(kind: type[FunctionLifecycle[Any]], hook: str) -> None:
    with pytest.raises(TypeError, match=f"{hook} must be callable, not str"):
        kind(object, **{hook: "x"})  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="open must be callable, not str"):
        kind("x")  # type: ignore[arg-type]


def test_only_the_operating_systems_errors_are_worth_a_retry() -> None:
    base: Lifecycle[object] = Lifecycle()
    assert base.transient(ConnectionRefusedError())
    assert base.transient(TimeoutError())
    assert not base.transient(ValueError("bad DSN"))


@pytest.mark.parametrize(
    "error",
    [
        asyncio.TimeoutError(),
        concurrent.futures.TimeoutError(),
        # As it is before Python 3.11, where it is no OSError.
        type("TimeoutError", (Exception,), {"__module__": "asyncio.exceptions"})(),
    ],
)
def test_a_timeout_of_asyncio_is_worth_a_retry_on_every_python(error: Exception) -> None:
    assert Lifecycle[object]().transient(error)
    assert not Lifecycle[object]().transient(type("TimeoutError", (Exception,), {})())


def test_an_error_is_described_by_its_type_and_text() -> None:
    assert Lifecycle[object]().describe(KeyError("x")) == "KeyError: 'x'"

"""put: what comes back, and what is refused."""

# ruff: noqa: PT012 - an error at the end of a `with` is what some of these tests are about
from __future__ import annotations

import logging
from collections.abc import Callable

import pytest

from queuepool import WrongSlot

from ..support import Source
from .apis import Api


async def test_a_second_put_raises_and_changes_nothing(api: Api, source: Source) -> None:
    """In queuepool 1.3.2 two takers got one resource after it."""
    pool = api.pool(capacity=2, open=source.open)
    slot = await pool.take()
    await pool.put(slot)
    with pytest.raises(WrongSlot, match=r"is not out on loan .*put back before"):
        await pool.put(slot)
    assert len({resource.number for resource in await pool.cycle_together(2)}) == 2


async def test_a_second_put_while_the_next_user_has_the_slot_is_the_next_users_put(api: Api, source: Source) -> None:
    """Slots are objects, not tickets: this is what `with` and leases are for. The pool stays whole at least."""
    pool = api.pool(capacity=1, open=source.open)
    slot = await pool.take()
    await pool.put(slot)
    assert await pool.take() is slot
    await pool.put(slot)
    with pytest.raises(WrongSlot):
        await pool.put(slot)


async def test_another_pools_slot_is_refused_and_can_still_go_home(api: Api, source: Source) -> None:
    """queuepool 1.3.2 took it, and the rightful put hung."""
    ours, theirs = api.pool("ours", open=source.open), api.pool("theirs", open=source.open)
    slot = await theirs.take()
    with pytest.raises(WrongSlot, match="belongs to pool theirs and is leased"):
        await ours.put(slot)
    await theirs.put(slot)
    assert (ours.stats().slots, theirs.stats().idle) == (2, 1)


@pytest.mark.parametrize("thing", [None, 7, "slot", object()])
async def test_what_is_no_slot_is_refused(api: Api, source: Source, thing: object) -> None:
    pool = api.pool(open=source.open)
    with pytest.raises(WrongSlot, match=f"cannot put {type(thing).__name__} objects, only slots"):
        await pool.put(thing)


async def test_a_put_after_close_closes_the_resource(api: Api, source: Source) -> None:
    pool = api.pool(open=source.open, close=source.close)
    slot = await pool.take()
    await pool.close(0)
    assert source.live == [slot.resource]
    await pool.put(slot)
    assert source.live == []
    assert pool.stats().slots == 0


async def test_a_second_put_after_close_is_refused_like_any_other(api: Api, source: Source) -> None:
    pool = api.pool(open=source.open)
    slot = await pool.take()
    await pool.close(0)
    await pool.put(slot)
    with pytest.raises(WrongSlot, match="is not out on loan"):
        await pool.put(slot)


async def test_an_error_in_with_is_not_hidden_when_the_slot_went_back_to_a_closed_pool(
    api: Api, source: Source
) -> None:
    pool = api.pool(open=source.open)
    with pytest.raises(KeyError):
        async with pool.taken() as slot:
            await pool.close(0)
            await pool.put(slot)
            raise KeyError("the user's own")


async def test_asking_a_slot_to_close_makes_it_open_anew_at_the_next_take(api: Api, source: Source) -> None:
    pool = api.pool(capacity=1, open=source.open, close=source.close)
    async with pool.taken() as slot:
        slot.close()
        assert not slot.resource.closed
    assert source.live == []
    assert slot.state == "empty"
    assert (await pool.cycle()).number == 2
    assert pool.stats().closes == {"asked": 1}


async def test_close_and_then_an_exception_in_with_shows_the_users_own_error(api: Api, source: Source) -> None:
    """In queuepool 1.3.2 an AttributeError hid it."""
    pool = api.pool(open=source.open, close=source.close)
    with pytest.raises(ZeroDivisionError):
        async with pool.taken() as slot:
            slot.close()
            1 / 0  # noqa: B018
    assert source.live == []
    assert pool.stats().closes == {"asked": 1}


async def test_a_slot_put_back_inside_its_with_is_told_of_and_the_users_error_stays(
    api: Api, source: Source, caplog: pytest.LogCaptureFixture
) -> None:
    pool = api.pool("orders", capacity=1, open=source.open)
    with caplog.at_level(logging.WARNING, "queuepool"), pytest.raises(ZeroDivisionError):
        async with pool.taken() as slot:
            await pool.put(slot)
            1 / 0  # noqa: B018
    assert "slot orders-1 was put back before its `with` ended" in caplog.text
    with pytest.raises(WrongSlot):
        async with pool.taken() as slot:
            await pool.put(slot)


def _is_a_lookup_error(error: BaseException) -> bool:
    return isinstance(error, LookupError)


def _raises(error: BaseException) -> bool:
    raise RuntimeError("a faulty rule")


@pytest.mark.parametrize(
    ("rule", "error", "closes"),
    [
        (True, KeyError, True),
        (True, KeyboardInterrupt, True),
        (False, KeyError, False),
        (1, KeyError, True),
        (KeyError, KeyError, True),
        (LookupError, KeyError, True),
        (OSError, KeyError, False),
        ((OSError, LookupError), KeyError, True),
        ((), KeyError, False),
        (_is_a_lookup_error, KeyError, True),
        (_is_a_lookup_error, OSError, False),
        (_raises, KeyError, True),
    ],
)
async def test_close_on_exception_says_which_errors_cost_the_resource_its_life(
    api: Api, source: Source, rule: object, error: type[BaseException], closes: bool
) -> None:
    if error is KeyboardInterrupt and api.kind.__name__ == "AsyncPool":
        return  # it would end the event loop of this test
    pool = api.pool(open=source.open, close=source.close, close_on_exception=rule)
    with pytest.raises(error):
        async with pool.taken():
            raise error
    with pytest.raises(error):
        async with pool.got():
            raise error
    assert [resource.closed for resource in source.made] == ([True, True] if closes else [False])
    assert pool.stats().closes == ({"exception": 2} if closes else {})


@pytest.mark.parametrize("hook", ["reset", "close"])
async def test_a_hook_that_raises_at_put_is_logged_and_counted_and_put_raises_nothing(
    api: Api, source: Source, hook: str, caplog: pytest.LogCaptureFixture
) -> None:
    pool = api.pool("orders", capacity=1, open=source.open, close=source.close, reset=source.reset)
    source.failing[hook] = RuntimeError("the hook's own")
    slot = await pool.take()
    if hook == "close":
        slot.close()
    with caplog.at_level(logging.WARNING, "queuepool"):
        await pool.put(slot)
    assert f"orders: {hook} of orders-1 failed: RuntimeError: the hook's own" in caplog.text
    stats = pool.stats()
    assert (stats.reset_errors, stats.close_errors) == ((1, 0) if hook == "reset" else (0, 1))
    assert source.live == []
    source.failing.clear()
    assert (await pool.cycle()).number == 2


async def test_what_reset_undoes_does_not_reach_the_next_user(api: Api) -> None:
    def reset(settings: dict[str, str]) -> None:
        settings.clear()

    make: Callable[[], dict[str, str]] = dict
    pool = api.pool(capacity=1, open=make, reset=reset)
    async with pool.got() as settings:
        settings["role"] = "admin"
    async with pool.got() as same:
        assert same is settings
        assert same == {}


async def test_reset_runs_also_after_an_exception_that_spares_the_resource(api: Api, source: Source) -> None:
    pool = api.pool(open=source.open, reset=source.reset, close_on_exception=False)
    with pytest.raises(KeyError):
        async with pool.got():
            raise KeyError
    assert source.made[0].history == ["reset"]


async def test_a_resource_to_be_closed_is_not_reset_first(api: Api, source: Source) -> None:
    pool = api.pool(open=source.open, reset=source.reset)
    async with pool.taken() as slot:
        slot.close()
    assert source.made[0].history == []


async def test_without_a_close_function_the_resources_own_close_is_called(api: Api) -> None:
    closed: list[object] = []

    class Closeable:
        def close(self) -> None:
            closed.append(self)

    pool = api.pool(open=Closeable)
    async with pool.taken() as slot:
        resource = slot.resource
        slot.close()
    assert closed == [resource]


async def test_a_resource_without_any_close_is_let_go(api: Api) -> None:
    pool = api.pool(open=object)
    async with pool.taken() as slot:
        slot.close()
    assert pool.stats().close_errors == 0
    assert slot.resource is None

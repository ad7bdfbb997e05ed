"""What is refused, with an error that names the argument and its value; the pool goes on with full capacity."""

from __future__ import annotations

import copy
import pickle
import traceback
from typing import Any

import pytest

from queuepool import BadResource, Lifecycle, LifoSlotQueue, PoolClosed, ResourceManager, WrongSlot
from queuepool.lifecycle import AsyncLifecycle

from ..support import Source
from .apis import Api

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("option", "value", "error", "message"),
    [
        ("name", "", ValueError, "name must have at least one character"),
        ("name", None, TypeError, "name must be a string, not NoneType"),
        ("name", 7, TypeError, "name must be a string, not 7"),
        ("capacity", 0, ValueError, "capacity must be at least 1, not 0"),
        ("capacity", -3, ValueError, "capacity must be at least 1, not -3"),
        ("capacity", "10", TypeError, "capacity must be a whole number, not str"),
        ("capacity", 2.0, TypeError, "capacity must be a whole number, not 2.0"),
        ("capacity", None, TypeError, "capacity must be a whole number, not NoneType"),
        ("capacity", True, TypeError, "capacity must be a whole number, not True"),
        ("max_idle_time", -1.0, ValueError, "max_idle_time must be a finite number of at least 0, not -1.0"),
        ("max_idle_time", NAN, ValueError, "max_idle_time must be a finite number of at least 0, not nan"),
        ("max_idle_time", "300", TypeError, "max_idle_time must be a number, not str"),
        ("max_open_time", -INF, ValueError, "max_open_time must be a finite number of at least 0, not -inf"),
        ("max_open_time", -0.1, ValueError, "max_open_time must be"),
        ("max_open_time", False, TypeError, "max_open_time must be a number, not False"),
        ("max_usage_count", -1, ValueError, "max_usage_count must be at least 0, not -1"),
        ("max_usage_count", NAN, TypeError, "max_usage_count must be a whole number, not nan"),
        ("close_on_exception", "yes", TypeError, "close_on_exception must be a bool, exception classes or a function"),
        ("close_on_exception", int, TypeError, "close_on_exception must be"),
        ("close_on_exception", (ValueError, 7), TypeError, "close_on_exception must be"),
        ("overflow", -1, ValueError, "overflow must be at least 0, not -1"),
        ("overflow", "1", TypeError, "overflow must be a whole number, not str"),
        ("timeout", -1, ValueError, "timeout must be a finite number of at least 0, not -1"),
        ("timeout", NAN, ValueError, "timeout must be"),
        ("timeout", "5", TypeError, "timeout must be a number, not str"),
        ("max_waiting", -1, ValueError, "max_waiting must be at least 0, not -1"),
        ("max_waiting", 1.5, TypeError, "max_waiting must be a whole number, not 1.5"),
        ("shed_after", -1, ValueError, "shed_after must be"),
        ("min_idle", -1, ValueError, "min_idle must be at least 0, not -1"),
        ("min_idle", 3, ValueError, r"min_idle must be at most capacity \(2\), not 3"),
        ("jitter", 1.1, ValueError, "jitter must be a fraction from 0 to 1, not 1.1"),
        ("jitter", -0.1, ValueError, "jitter must be"),
        ("check_after", None, TypeError, "check_after must be a number, not NoneType"),
        ("max_opening", 0, ValueError, "max_opening must be at least 1, not 0"),
        ("leak_after", NAN, ValueError, "leak_after must be"),
        ("nested", "twice", ValueError, "nested must be one of 'new', 'same', 'error', not 'twice'"),
        ("nested", None, ValueError, "nested must be one of"),
        ("observer", object(), TypeError, "observer must be an Observer, not object"),
        ("clock", 7, TypeError, "clock must be callable, not 7"),
        ("queue_class", list, TypeError, "queue_class must be LifoSlotQueue, FifoSlotQueue or a subclass"),
        ("queue_class", LifoSlotQueue(), TypeError, "queue_class must be"),
        ("open", "connect", TypeError, "open must be callable, not str"),
        ("close", 7, TypeError, "close must be callable, not 7"),
        ("check", 7, TypeError, "check must be callable, not 7"),
        ("reset", 7, TypeError, "reset must be callable, not 7"),
        ("lifecycle", object, TypeError, "give either lifecycle= or functions, not both: open"),
    ],
)
async def test_a_nonsensical_option_is_refused_at_construction(
    api: Api, option: str, value: object, error: type[Exception], message: str
) -> None:
    options: dict[str, Any] = {"name": "pool", "capacity": 2, "open": object, option: value}
    with pytest.raises(error, match=message):
        api.kind(**options)


@pytest.mark.only("AsyncPool", reason="Pool reads them as queuepool 1.x did, see test_v1.py")
@pytest.mark.parametrize(
    ("option", "value", "error", "message"),
    [
        ("max_open_time", INF, ValueError, "max_open_time must be a finite number of at least 0, not inf"),
        ("max_usage_count", 1e3, TypeError, "max_usage_count must be a whole number, not 1000.0"),
        ("close_on_exception", None, TypeError, "close_on_exception must be"),
    ],
)
async def test_a_value_that_1_x_took_is_refused_where_there_was_no_1_x(
    api: Api, option: str, value: object, error: type[Exception], message: str
) -> None:
    options: dict[str, Any] = {option: value}
    with pytest.raises(error, match=message):
        api.kind("pool", open=object, **options)


async def test_an_unknown_option_is_named(api: Api) -> None:
    with pytest.raises(TypeError, match="'max_idle'"):
        api.kind("pool", open=object, max_idle=3)


@pytest.mark.only("Pool", reason="AsyncPool has no 1.x spellings, so Python itself refuses what it does not know")
async def test_a_misspelt_option_gets_a_hint(api: Api) -> None:
    with pytest.raises(TypeError, match="Pool has no option 'maxidletime'; did you mean 'max_idle_time'"):
        api.kind("pool", open=object, maxidletime=3)


async def test_a_lifecycle_of_the_wrong_kind_is_refused(api: Api) -> None:
    right, wrong = (Lifecycle, AsyncLifecycle) if api.kind.__name__ == "Pool" else (AsyncLifecycle, Lifecycle)
    with pytest.raises(TypeError, match=f"lifecycle must be an instance of {right.__name__}, not "):
        api.kind("pool", lifecycle=wrong())
    with pytest.raises(TypeError, match="lifecycle must be an instance of"):
        api.kind("pool", lifecycle=right)  # the class, where an instance is wanted


@pytest.mark.parametrize("hook", ["close", "check", "reset"])
async def test_hooks_without_open_are_refused(api: Api, hook: str) -> None:
    with pytest.raises(TypeError, match=f"{hook} need open=, which makes the resources"):
        api.kind("pool", **{hook: print})


@pytest.mark.parametrize("option", ["overflow", "min_idle"])
async def test_what_opens_by_itself_needs_a_pool_that_can(api: Api, option: str) -> None:
    with pytest.raises(TypeError, match="overflow and min_idle need a pool that opens its resources"):
        api.kind("pool", **{option: 1})


async def test_a_pool_a_slot_and_a_lease_refuse_to_be_copied_or_pickled(api: Api, source: Source) -> None:
    pool = api.pool(open=source.open)
    slot, lease = await pool.take(), await pool.lease()
    for thing in (pool.pool, slot, lease):
        with pytest.raises(TypeError, match="cannot be pickled or copied"):
            pickle.dumps(thing)
        with pytest.raises(TypeError, match="cannot be pickled or copied"):
            copy.copy(thing)
    await pool.put(slot)
    closed = lease.close()
    if closed is not None:
        await closed


async def test_nothing_shows_the_resource_for_its_repr_may_hold_a_password(api: Api) -> None:
    class Connection:
        def __repr__(self) -> str:
            return "password=hunter2"

        __str__ = __repr__

    pool = api.pool("orders", capacity=1, open=Connection, timeout=0)
    async with pool.taken() as slot:
        texts = [repr(slot), repr(pool), str(pool.pool), repr(pool.stats()), repr(pool.holders())]
        with pytest.raises(TimeoutError) as caught:
            await pool.take()
        texts.append(str(caught.value))
        with pytest.raises(WrongSlot) as refused:
            await pool.release(Connection())
        texts.append(str(refused.value))
        with pytest.raises(WrongSlot) as refused:
            await pool.put(slot.resource)
        texts.append(str(refused.value))
    for option in ("open", "lifecycle", "observer", "capacity", "timeout", "close_on_exception", "clock", "name"):
        with pytest.raises(TypeError, match=f"{option} must be") as mistaken:
            api.kind(**{"name": "orders", option: Connection()})
        texts.append(str(mistaken.value))
    lease = await pool.lease()
    texts.append(repr(lease))
    closed = lease.close()
    if closed is not None:
        await closed
    assert not [text for text in texts if "hunter2" in text]


# --- managers, which a program puts in (1.x)

MANAGERS = pytest.mark.only("Pool", reason="managers are 1.x's, which had no asyncio; AsyncPool opens its own slots")


class Manager(ResourceManager):
    def open(self) -> None:
        super().open()
        self.resource = [self.name]


@MANAGERS
async def test_a_subclass_that_forgets_its_super_init_is_told_so(api: Api) -> None:
    class Forgetful(Manager):
        def __init__(self) -> None:
            pass

    pool = api.pool("managers")
    with pytest.raises(BadResource, match=r"managers: Forgetful.__init__ must call super\(\).__init__\(name\)"):
        await pool.put(Forgetful())
    await pool.put(Manager("a"))
    assert (await pool.cycle()) == ["a"]


@MANAGERS
async def test_a_subclass_that_compares_by_value_is_refused(api: Api) -> None:
    class Comparing(Manager):
        def __eq__(self, other: object) -> bool:
            return isinstance(other, Comparing)

        def __hash__(self) -> int:
            return 7

    pool = api.pool("managers")
    with pytest.raises(BadResource, match="managers: Comparing must not define __eq__ or __hash__"):
        await pool.put(Comparing("a"))


@MANAGERS
async def test_no_more_managers_than_the_capacity_are_taken_in(api: Api) -> None:
    pool = api.pool("managers", capacity=1)
    await pool.put(Manager("a"))
    with pytest.raises(WrongSlot, match=r"managers: cannot add b, all 1 slots are there \(capacity\)"):
        await pool.put(Manager("b"))
    with pytest.raises(WrongSlot, match="managers: slot a is not out on loan"):
        await pool.put(next(iter(pool._slots)))


@MANAGERS
async def test_a_manager_of_another_pool_or_for_a_pool_that_opens_its_own_is_refused(api: Api) -> None:
    ours, theirs, own = api.pool("ours"), api.pool("theirs"), api.pool("own", open=object)
    manager = Manager("a")
    await theirs.put(manager)
    with pytest.raises(WrongSlot, match="belongs to pool theirs and is empty"):
        await ours.put(manager)
    with pytest.raises(WrongSlot, match="own: slot b was not made by this pool, which makes its own slots"):
        await own.put(Manager("b"))


@MANAGERS
async def test_managers_that_set_no_resource_are_lent_all_the_same(api: Api) -> None:
    """Some keep what they manage in attributes of their own."""

    class Bare(ResourceManager):
        pass

    pool = api.pool("managers", capacity=2)
    for name in ("a", "b"):
        await pool.put(Bare(name))
    assert await pool.cycle_together(2) == [None, None]


@MANAGERS
async def test_one_manager_that_never_opens_is_tried_last_and_the_others_go_on(api: Api) -> None:
    attempts: list[str] = []

    class Moody(Manager):
        def open(self) -> None:
            attempts.append(self.name)
            if self.name == "bad":
                raise RuntimeError("never")
            super().open()

    pool = api.pool("managers", capacity=3)
    for name in ("a", "b", "bad"):
        await pool.put(Moody(name))
    with pytest.raises(RuntimeError):
        await pool.take()
    assert await pool.cycle_together(2) == [["b"], ["a"]]
    for _ in range(10):
        await pool.cycle()
    assert attempts == ["bad", "b", "a"]


@MANAGERS
async def test_a_closed_pool_takes_in_no_manager(api: Api) -> None:
    pool = api.pool("managers")
    await pool.close()
    with pytest.raises(PoolClosed, match="managers: the pool is closed"):
        await pool.put(Manager("a"))


@MANAGERS
async def test_a_pool_of_managers_is_filled_up_by_the_program_when_it_grows(api: Api) -> None:
    pool = api.pool("managers", capacity=1)
    await pool.put(Manager("a"))
    await pool.resize(2)
    await pool.put(Manager("b"))
    assert pool.stats().slots == 2


async def test_a_pool_whose_options_were_refused_can_be_shown_all_the_same(api: Api) -> None:
    try:
        api.pool("orders", capacity=-1)
    except ValueError as error:
        shown = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
    assert ", not made>" in shown

"""What goes into `open=` comes out typed: read by mypy and pyright, and run by test_types.py."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Optional

from queuepool import (
    FifoSlotQueue,
    Histogram,
    Holder,
    Lease,
    Lifecycle,
    Observer,
    Pool,
    ResourceManager,
    Slot,
    Stats,
)

if TYPE_CHECKING:
    from typing_extensions import assert_type
else:

    def assert_type(value: Any, kind: Any) -> Any:
        return value


class Session:
    def __init__(self, host: str = "localhost") -> None:
        self.host = host

    def close(self) -> None:
        """Nothing to close."""


def connect(host: str, port: int = 5432) -> Session:
    return Session(host)


def every_handle_is_typed_by_the_class_given_to_open() -> None:
    with Pool("sessions", 2, open=Session) as pool:
        assert_type(pool, Pool[Session])
        slot = pool.take()
        assert_type(slot, Slot[Session])
        assert_type(slot.resource, Session)
        pool.put(slot)
        with pool.take(timeout=1.0) as entered:
            assert_type(entered, Slot[Session])
        with pool.get() as resource:
            assert_type(resource, Session)
        acquired = pool.acquire()
        assert_type(acquired, Session)
        pool.release(acquired)
        with pool.lease() as lease:
            assert_type(lease.host, Any)  # a lease behaves like the resource, which no type checker can follow
        assert_type(lease, Any)
        kept = pool.lease()
        assert_type(kept, Lease)
        kept.close()


def functions_partials_and_lambdas_do_as_well() -> None:
    assert_type(Pool("a", open=lambda: Session("a")), Pool[Session])
    assert_type(Pool("b", open=functools.partial(connect, "db.example", port=6432)), Pool[Session])
    assert_type(Pool("c", open=io.BytesIO), Pool[io.BytesIO])
    factory: Callable[[], Session] = Session
    assert_type(Pool("d", open=factory, queue_class=FifoSlotQueue), Pool[Session])


def hooks_receive_what_open_returns() -> None:
    def check(session: Session) -> bool:
        return bool(session.host)

    def reset(session: Session) -> None:
        session.host = "localhost"

    pool = Pool("hooked", open=Session, close=Session.close, check=check, reset=reset)
    assert_type(pool, Pool[Session])


class Sessions(Lifecycle[Session]):
    def open(self) -> Session:
        return Session()

    def check(self, resource: Session) -> bool:
        return True


def a_lifecycle_types_its_pool() -> None:
    pool = Pool("sessions", lifecycle=Sessions())
    assert_type(pool, Pool[Session])
    with pool.get() as resource:
        assert_type(resource, Session)


def what_a_pool_tells_is_typed() -> None:
    pool = Pool("told", open=Session)
    stats = pool.stats()
    assert_type(stats, Stats)
    assert_type(stats.waits, Histogram)
    assert_type(stats.closes, dict[str, int])
    assert_type(stats.last_open_error, Optional[str])
    assert_type(pool.holders(), list[Holder])
    assert_type(pool.recycle(), int)
    assert_type(pool.prefill(), int)
    assert_type(pool.close(), list[Holder])
    assert_type(pool.capacity, int)
    assert_type(pool.name, str)


class Manager(ResourceManager):
    def open(self) -> None:
        super().open()
        self.resource = Session()


def programs_for_1x_are_typed_as_far_as_they_say() -> None:
    pool: Pool[Any] = Pool("managers", 1, 300.0, maxOpenTime=60.0)
    pool.put(Manager("one"))
    with pool.take() as manager:
        assert_type(manager.resource, Any)


class Counting(Observer):
    def opened(self, pool: Any, slot: Slot[Any], seconds: float) -> None:
        assert_type(slot.name, str)


def an_observer_is_one_of_the_options() -> None:
    assert_type(Pool("observed", open=Session, observer=Counting()), Pool[Session])


EXAMPLES = [
    every_handle_is_typed_by_the_class_given_to_open,
    functions_partials_and_lambdas_do_as_well,
    hooks_receive_what_open_returns,
    a_lifecycle_types_its_pool,
    what_a_pool_tells_is_typed,
    programs_for_1x_are_typed_as_far_as_they_say,
    an_observer_is_one_of_the_options,
]

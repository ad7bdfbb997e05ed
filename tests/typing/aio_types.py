"""The same for `AsyncPool`: awaiting and `async with` give what `open` returns, plain or async."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from queuepool import Holder, Lease, Slot
from queuepool.aio import AsyncPool

from .pool_types import Session

if TYPE_CHECKING:
    from typing_extensions import assert_type
else:

    def assert_type(value: Any, kind: Any) -> Any:
        return value


async def connect() -> Session:
    return Session()


async def every_handle_is_typed_by_what_an_async_open_returns() -> None:
    async with AsyncPool("sessions", 2, open=connect) as pool:
        assert_type(pool, AsyncPool[Session])
        slot = await pool.take()
        assert_type(slot, Slot[Session])
        assert_type(slot.resource, Session)
        await pool.put(slot)
        async with pool.take() as entered:
            assert_type(entered, Slot[Session])
        async with pool.get() as resource:
            assert_type(resource, Session)
        acquired = await pool.acquire()
        assert_type(acquired, Session)
        await pool.release(acquired)
        lease = await pool.lease()
        assert_type(lease, Lease)
        await lease.close()
        assert_type(await pool.recycle(), int)
        assert_type(await pool.close(), list[Holder])


EXAMPLES = [every_handle_is_typed_by_what_an_async_open_returns]

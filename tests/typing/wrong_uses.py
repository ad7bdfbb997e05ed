"""What a type checker must refuse. mypy --strict reports each `type: ignore` that nothing here needs any more."""

from __future__ import annotations

from queuepool import Pool, Slot

from .pool_types import Session


def reset_list(resource: list[int]) -> None:
    """For resources of another kind."""


def wrong_uses(pool: Pool[Session], other: Pool[list[int]], slot: Slot[Session]) -> None:
    Pool("hooked", open=Session, reset=reset_list)  # type: ignore[misc]
    Pool("called", open=Session())  # type: ignore[arg-type]
    Pool(7, open=Session)  # type: ignore[arg-type]
    Pool("sized", "10", open=Session)  # type: ignore[arg-type]
    other.put(slot)  # type: ignore[arg-type]
    other.release(pool.acquire())  # type: ignore[arg-type]
    pool.take("soon")  # type: ignore[arg-type]
    with pool.get() as resource:
        print(resource.hots)  # type: ignore[attr-defined]
    print(slot.resource.hots)  # type: ignore[attr-defined]
    slot.resouce = resource  # type: ignore[attr-defined]
    pool.capacity = 3  # type: ignore[misc]

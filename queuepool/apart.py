"""Running a step apart from its caller, who need not wait until it ends: a hook may hang."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

from . import steps

if TYPE_CHECKING:
    from .core import BasePool
    from .slot import Slot
    from .slotqueue import Waiter

T = TypeVar("T")

#: What `run_apart` returns to a caller who has left before the step was over.
LEFT: Any = object()


async def run_apart(
    pool: BasePool[T],
    driver: Any,
    claim: list[Slot[T]],
    seconds: float | None,
    step: Callable[..., Awaitable[Any]],
    *args: Any,
) -> Any:
    """The result of `step` on the slot in `claim`, run apart from its caller, who waits at most `seconds` for it.

    `LEFT`, if it goes on after that; then, as when the caller is cancelled, it puts the slot back at its end. Whenever
    the slot is the caller's, it is in `claim` after this: the step is over, or has not begun and never will.
    """
    waiter, slot = driver.waiter(), claim[0]
    try:
        driver.spawn(_work(pool, claim, step, args, waiter), f"{pool.name} {step.__name__}")
        while not await driver.wait(waiter, driver.patience if seconds is None else seconds) and seconds is None:
            pass
    finally:
        outcome = waiter.abandon()
        if outcome is not None:
            claim.append(slot)
    if outcome is None:
        return LEFT
    result, error = outcome
    try:
        if error is not None:
            raise error
        return result
    finally:
        del outcome, error  # else the error refers to this frame, and this frame to the error and to the slot


def popped(claim: list[Slot[T]]) -> Slot[T] | None:
    try:
        return claim.pop()
    except IndexError:
        return None


async def _work(
    pool: BasePool[T], claim: list[Slot[T]], step: Callable[..., Awaitable[Any]], args: Any, waiter: Waiter
) -> None:
    """`step`, apart from its caller: hand over the result, or, if the caller has left, put the slot back."""
    slot = popped(claim)
    if slot is None:
        return  # the caller left before this began
    outcome: Any
    try:
        outcome = await step(pool, pool._driver, slot, *args), None
    except BaseException as error:
        outcome = None, error
    given = waiter.give(outcome)
    del outcome  # its error refers to this frame
    if not given:
        await steps.put(pool, pool._driver, slot)

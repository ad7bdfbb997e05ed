"""The errors of a take that gets nothing: who holds every slot, or why nothing opens. Counted, and told to the observer."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from .errors import Exhausted, PoolTimeout, Refused, Unreachable

if TYPE_CHECKING:
    from .core import BasePool


def refused(pool: BasePool[Any], error: Refused) -> Refused:
    """`error`, of a caller that may not wait or has waited too long."""
    pool._counters.refused += 1
    pool._observe("refused", error)
    return error


def timed_out(pool: BasePool[Any], waited: float, obstacle: str = "") -> PoolTimeout:
    """The error of a take whose deadline has come; `obstacle` is what kept one that had a slot."""
    pool._counters.timeouts += 1
    error = _unreachable(pool, waited, obstacle) or _exhausted(pool, waited)
    pool._observe("refused", error)
    return error


def _counts(pool: BasePool[Any], waited: float) -> str:
    return (
        f"{pool.name}: no slot within {waited:.1f} s ({len(pool._leases)} taken, {len(pool._queue.queue)} idle, "
        f"{len(pool._line) + len(pool._standby)} waiting{', paused' if pool._paused else ''})"
    )


def _unreachable(pool: BasePool[Any], waited: float, obstacle: str) -> Unreachable | None:
    gate = pool._gate
    if gate.outage:
        error = Unreachable(f"{_counts(pool, waited)}; unreachable, the last failed open: {gate.last_error_text}")
        error.__cause__ = gate.last_error
        return error
    if obstacle or (gate.opening and not pool._leases):
        return Unreachable(f"{_counts(pool, waited)}; {obstacle or f'opening: {len(gate.opening)}'}")
    return None


def _busy(pool: BasePool[Any]) -> int:
    """How many slots are neither lent nor in the queue, nor with somebody who opens them or waits to."""
    queue = pool._queue
    lent_or_queued = len(pool._leases) + queue.qsize()
    return max(0, len(pool._slots) - lent_or_queued - len(pool._gate.opening) - len(pool._standby))


def _exhausted(pool: BasePool[Any], waited: float) -> Exhausted:
    parts, holders = [_counts(pool, waited)], pool.holders()
    busy = _busy(pool)
    if busy:
        parts.append(f"{busy} being checked, reset or closed")
    if holders:
        parts.append(f"oldest holder: {holders[0]}")
        with contextlib.suppress(RuntimeError):  # without the GIL the line may change under the copy: then no hint
            waiting = {waiter.owner for waiter in pool._line.copy()}
            if {record[2] for record in pool._leases.copy().values()} <= waiting | {pool._driver.current()}:
                parts.append('every holder waits for a second slot itself (see nested="same")')
    elif pool._lifecycle is None and not pool._slots:
        parts.append("no slot was ever put into it")
    if pool._gate.last_error_text:
        parts.append(f"last failed open: {pool._gate.last_error_text}")
    return Exhausted("; ".join(parts))

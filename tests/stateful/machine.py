"""Any program of calls to a pool, and what must hold after each of them."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable
from typing import Any, NamedTuple

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from queuepool import Exhausted, FifoSlotQueue, LeaseClosed, LifoSlotQueue, Pool, PoolClosed, WrongSlot
from queuepool.aio import AsyncPool

from ..contract.apis import AnyPool, in_one_go, settled
from ..support import Clock, assert_whole
from .records import Record, Source

HOOKS = ["open", "close", "reset"]
IDLE, LIFETIME, CHECK_AFTER = 30.0, 100.0, 10.0


class Loan(NamedTuple):
    """Something taken: by what method, what it gave, and the resource's record."""

    kind: str
    handle: Any
    record: Record


class Programs(RuleBasedStateMachine):
    """Calls from one thread, none of which may wait; so each has an outcome that can be told beforehand."""

    kind: Any

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.source = Source(self.clock)
        self.loans: list[Loan] = []
        self.ended: list[Any] = []
        self.takes = 0
        self.paused = self.closed = False

    def run(self, flow: Awaitable[Any]) -> Any:
        raise NotImplementedError

    @initialize(
        capacity=st.integers(1, 3),
        overflow=st.integers(0, 2),
        min_idle=st.integers(0, 1),
        most_uses=st.sampled_from([None, 1, 3]),
        closes=st.booleans(),
        check_after=st.sampled_from([0.0, CHECK_AFTER]),
        queue_class=st.sampled_from([LifoSlotQueue, FifoSlotQueue]),
    )
    def begin(self, capacity: int, overflow: int, most_uses: int | None, closes: bool, **options: Any) -> None:
        self.most_uses, self.closes_on_exception = most_uses, closes
        self.min_idle, self.check_after = options["min_idle"], options["check_after"]
        self.places, self.overflow = capacity + overflow, overflow

        async def make() -> AnyPool:
            made = self.kind(
                "pool", capacity, IDLE, LIFETIME, most_uses, closes,
                overflow=overflow, jitter=0.0, clock=self.clock, **self.source.hooks(), **options,
            )  # fmt: skip
            return AnyPool(made)

        self.pool = self.run(make())

    # --- what ought to be

    def is_due(self, record: Record) -> bool:
        """Whether a limit has passed for the idle or returning resource."""
        now = self.clock()
        return bool(
            record.condemned
            or now - record.opened_at > LIFETIME
            or ("reset" in self.source.failing if record.dropped else now - record.used_at > IDLE)
            or (self.most_uses is not None and record.uses >= self.most_uses)
        )

    def is_unseen(self, record: Record) -> bool:
        """Whether nobody has checked or used the resource for so long that it is checked before it is lent."""
        return bool(self.clock() - max(record.seen_at, record.used_at) >= self.check_after)

    @property
    def idle(self) -> list[Record]:
        lent = [loan.record for loan in self.loans]
        return [record for record in self.source.live if record not in lent]

    def slot_of(self, record: Record) -> Any:
        return next(slot for slot in self.pool._slots if slot.is_open and slot.resource.record is record)

    # --- taking

    @rule(kind=st.sampled_from(["take", "with take", "with get", "acquire", "lease"]), all_works=st.integers(0, 3))
    def take(self, kind: str, all_works: int) -> None:
        if all_works:  # three times in four, for else most programs would come to nothing
            self.source.failing.clear()
            self.paused = False
            self.pool.resume()
        fit = [not self.is_due(record) and not record.dead for record in self.idle]
        opened = len(self.source.records)
        if self.closed:
            with pytest.raises(PoolClosed):
                self.run(self.obtain(kind))
        elif self.paused or len(self.pool._slots) == len(self.loans):
            with pytest.raises(Exhausted):
                self.run(self.obtain(kind))
        elif "open" in self.source.failing and not (fit and all(fit)):
            try:
                self.note_loan(self.run(self.obtain(kind)))
            except ValueError:
                assert len(self.source.records) == opened
        else:
            self.note_loan(self.run(self.obtain(kind)))
            if fit and all(fit):
                assert len(self.source.records) == opened, "opened one though another was there"

    async def obtain(self, kind: str) -> Loan:
        pool = self.pool
        if kind.startswith("with "):
            manager = pool.taken(0) if kind == "with take" else pool.got(0)
            value = await manager.__aenter__()
            return Loan(kind, manager, (value.resource if kind == "with take" else value).record)
        value = await getattr(pool, kind)(0)
        return Loan(kind, value, (value.resource if kind == "take" else value).record)

    def note_loan(self, loan: Loan) -> None:
        record = loan.record
        assert record not in [other.record for other in self.loans], "lent to two"
        assert not record.closed
        assert not self.is_due(record)
        assert not (record.dead and self.is_unseen(record))
        record.uses += 1
        self.takes += 1
        self.loans.append(loan)

    # --- giving back

    @rule(uses=st.integers(1, 4))
    def use(self, uses: int) -> None:
        """Take and put so often that limits are reached."""
        for _ in range(uses):
            before = len(self.loans)
            self.take("take", 1)
            if len(self.loans) > before:
                self.put(before, raises=False, asks=False)

    @precondition(lambda self: self.loans)
    @rule(choice=st.integers(0, 9), raises=st.booleans(), asks=st.booleans())
    def put(self, choice: int, raises: bool, asks: bool) -> None:
        kind, handle, record = loan = self.loans.pop(choice % len(self.loans))
        slot = self.slot_of(record)
        if asks and kind in ("take", "with take"):
            slot.close()
            record.condemned = True
        raises = raises and kind.startswith("with ")
        record.used_at = self.clock()
        ends = (
            self.is_due(record)
            or slot.retiring
            or (raises and self.closes_on_exception)
            or "reset" in self.source.failing
        )
        del slot
        self.run(self.end(loan, ZeroDivisionError() if raises else None))
        assert record.closed == ends
        if kind in ("take", "lease"):  # not the resource itself, for to keep it would be to use it
            self.ended.append((kind, handle))

    async def end(self, loan: Loan, error: Exception | None) -> None:
        kind, handle, _ = loan
        if kind.startswith("with "):
            await handle.__aexit__(error and type(error), error, None)
        elif kind == "lease":
            await settled(handle.close())
        else:
            await (self.pool.put(handle) if kind == "take" else self.pool.release(handle))

    @precondition(lambda self: any(loan.kind == "lease" for loan in self.loans))
    @rule()
    def drop(self) -> None:
        at = next(at for at, loan in enumerate(self.loans) if loan.kind == "lease")
        gc.collect()  # errors of earlier calls refer to frames, and those to resources
        record = self.loans.pop(at).record
        # A finalizer resets and closes nothing: the next look at the slot does.
        assert self.slot_of(record).state == "idle"
        record.dropped = True

    @precondition(lambda self: self.ended)
    @rule()
    def use_after_return(self) -> None:
        kind, handle = self.ended.pop()
        if kind == "lease":
            self.run(settled(handle.close()))
            with pytest.raises(LeaseClosed):
                handle.unwrap()
        elif handle.state != "leased":
            with pytest.raises(WrongSlot):
                self.run(self.end(Loan(kind, handle, Record(0, 0.0)), None))

    # --- what else happens

    @rule(seconds=st.sampled_from([1.0, 11.0, 31.0, 101.0]))
    def time_passes(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule(hook=st.sampled_from(HOOKS))
    def begin_or_end_failing(self, hook: str) -> None:
        self.source.failing ^= {hook}

    @precondition(lambda self: self.source.live)
    @rule(choice=st.integers(0, 9))
    def one_dies(self, choice: int) -> None:
        live = self.source.live
        live[choice % len(live)].dead = True

    @rule()
    def recycle(self) -> None:
        closed = len(self.source.records) - len(self.source.live)
        count = self.run(self.pool.recycle())
        assert len(self.source.records) - len(self.source.live) == closed + count
        assert not [record for record in self.idle if self.is_due(record)]
        if self.check_after:
            assert not [record for record in self.idle if record.dead and self.is_unseen(record)]
        if "open" not in self.source.failing and not self.closed:
            assert len(self.idle) >= min(self.min_idle, self.pool.capacity - len(self.loans))

    @rule(count=st.integers(0, 4))
    def prefill(self, count: int) -> None:
        before = len(self.source.live)
        wanted = 0 if self.closed else max(0, min(count, len(self.pool._slots)) - before)
        if wanted and "open" in self.source.failing:
            with pytest.raises(ValueError, match="open fails"):
                self.run(self.pool.prefill(count))
        else:
            assert self.run(self.pool.prefill(count)) == wanted == len(self.source.live) - before

    @rule(disposes=st.booleans())
    def recycle_all(self, disposes: bool) -> None:
        idle = self.idle
        for record in self.source.live:
            record.condemned = True
        if disposes and idle and "close" in self.source.failing:
            with pytest.raises(Exception, match=f"{len(idle)} resources failed to close"):
                self.run(self.pool.dispose())
        else:
            self.run(self.pool.dispose() if disposes else self.pool.recycle_all())
        assert not self.idle

    @rule()
    def pause_or_resume(self) -> None:
        self.paused = not self.paused
        (self.pool.pause if self.paused else self.pool.resume)()

    @rule(capacity=st.integers(1, 4))
    def resize(self, capacity: int) -> None:
        if self.closed:
            with pytest.raises(PoolClosed):
                self.run(self.pool.resize(capacity))
        else:
            self.run(self.pool.resize(capacity))
            self.places = capacity + self.overflow

    @precondition(lambda self: self.takes > 15)
    @rule()
    def close(self) -> None:
        holders = self.run(self.pool.close(0))
        self.closed = True
        assert len(holders) == len(self.loans)
        assert not self.idle

    @invariant()
    def all_is_whole(self) -> None:
        assert_whole(self.pool)
        staying = [slot for slot in self.pool._slots if not slot.retiring]
        assert len(staying) == (0 if self.closed else self.places)
        assert len(self.source.live) <= len(self.pool._slots)

    @invariant()
    def the_figures_are_right(self) -> None:
        stats = self.pool.stats()
        assert stats.taken == len(self.loans) == len(self.pool.holders())
        assert stats.idle == len(self.idle)
        assert stats.opens.count == len(self.source.records)
        assert sum(stats.closes.values()) == len(self.source.records) - len(self.source.live)
        assert stats.takes == self.takes
        assert stats.waiting == 0

    def teardown(self) -> None:
        while self.loans and hasattr(self, "pool"):
            self.source.failing.clear()
            self.run(self.end(self.loans.pop(), None))


class ThreadPrograms(Programs):
    kind = Pool

    def run(self, flow: Any) -> Any:
        return in_one_go(flow)


class TaskPrograms(Programs):
    kind = AsyncPool

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()

    def run(self, flow: Any) -> Any:
        return self.loop.run_until_complete(flow)

    def teardown(self) -> None:
        super().teardown()
        self.loop.close()


MACHINES: dict[str, type[Programs]] = {"Pool": ThreadPrograms, "AsyncPool": TaskPrograms}

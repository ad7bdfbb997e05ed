"""What a pool must know of its resources: how to open, close, check and reset one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar, Union

from . import options

T = TypeVar("T")

#: Modules whose `TimeoutError` was no OSError before Python 3.11; told by name, for to import them takes longer than all of us.
_TIMEOUTS = ("asyncio.exceptions", "concurrent.futures._base")


class AnyLifecycle(Generic[T]):
    """What the lifecycles of threads and of asyncio share: the hooks that never block."""

    #: Whether `open`, `check` and `reset` may hang (a frozen server, a dead network). If so a thread's take runs them
    #: in a thread of their own, so that it can leave at its deadline; they end when they end, and the slot comes back.
    may_hang = False

    def poll(self, resource: T) -> bool | None:
        """Whether `resource` is alive, as far as can be told in a microsecond; None for "ask `check`".

        Called at every take that a limit does not decide, from whatever thread takes; must neither block nor raise.
        """
        return True

    def transient(self, error: Exception) -> bool:
        """Whether an `open` that raised `error` may work in a moment, so that retrying until the deadline makes sense."""
        kind = type(error)
        return isinstance(error, OSError) or (kind.__name__ == "TimeoutError" and kind.__module__ in _TIMEOUTS)

    def describe(self, error: BaseException) -> str:
        """`error` for a log or a message. Override it where the text of an error may hold a secret."""
        return f"{type(error).__name__}: {error}"

    def offers(self, hook: str) -> bool:
        """Whether this lifecycle does anything for `hook`; the pool skips what is not offered."""
        return getattr(type(self), hook) is not getattr(self._base(), hook)

    @classmethod
    def _base(cls) -> type:
        return next(base for base in cls.__mro__ if base.__module__ == __name__)


class Lifecycle(AnyLifecycle[T]):
    """Subclass it, or give the pool plain functions, which become a `FunctionLifecycle`.

    `open` is called by the taker's thread and with no lock held, as are all the others; `close` also by the recycler's.
    """

    def open(self) -> T:
        """Return a new resource, never None. What it raises reaches the taker."""
        raise NotImplementedError

    def close(self, resource: T) -> None:
        """Close `resource`. What it raises is logged and counted. By default its own `close()`, where it has one."""
        closing = getattr(resource, "close", None)
        if closing is not None:
            closing()

    def check(self, resource: T) -> bool | None:
        """Whether `resource` is alive, at whatever cost; called at take, after `check_after` idle seconds.

        False or any exception means that it is dead; None counts as alive, for functions that raise or return nothing.
        """
        return True

    def reset(self, resource: T) -> None:
        """Undo what a user may have changed; called at put. What it raises is logged, and `resource` is closed."""


class FunctionLifecycle(Lifecycle[T]):
    """A lifecycle made of plain functions; None stands for `Lifecycle`'s own behaviour."""

    def __init__(
        self,
        open: Callable[[], T],
        close: Callable[[T], Any] | None = None,
        check: Callable[[T], Any] | None = None,
        reset: Callable[[T], Any] | None = None,
    ) -> None:
        self.open = options.function("open", open)  # type: ignore[method-assign]
        for hook, function in (("close", close), ("check", check), ("reset", reset)):
            if options.function_or_none(hook, function) is not None:
                setattr(self, hook, function)

    def offers(self, hook: str) -> bool:
        return hook in vars(self)


class AsyncLifecycle(AnyLifecycle[T]):
    """`Lifecycle` for `AsyncPool`: the same hooks, as async functions."""

    async def open(self) -> T:
        """Return a new resource, never None. Runs to its end even if the task that asked for it is cancelled."""
        raise NotImplementedError

    async def close(self, resource: T) -> None:
        """Close `resource`; by default its own `close()`, plain or async, where it has one."""
        closing = getattr(resource, "close", None)
        if closing is not None:
            closed = closing()
            if isinstance(closed, Awaitable):
                await closed

    async def check(self, resource: T) -> bool | None:
        """As `Lifecycle.check`."""
        return True

    async def reset(self, resource: T) -> None:
        """As `Lifecycle.reset`."""


#: What a slot may have.
SlotLifecycle = Union[Lifecycle[T], AsyncLifecycle[T]]


class AsyncFunctionLifecycle(AsyncLifecycle[T]):
    """An `AsyncLifecycle` made of functions, async ones, or plain ones that do not block the loop."""

    def __init__(
        self,
        open: Callable[[], Union[T, Awaitable[T]]],
        close: Callable[[T], Any] | None = None,
        check: Callable[[T], Any] | None = None,
        reset: Callable[[T], Any] | None = None,
    ) -> None:
        for hook, function in (("open", open), ("close", close), ("check", check), ("reset", reset)):
            if options.function_or_none(hook, function) is not None:
                setattr(self, hook, function)

    def offers(self, hook: str) -> bool:
        return hook in vars(self)

"""A lease: a handle that behaves like the resource, is an empty shell after `close()`, and comes back if dropped."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar

from . import reclaiming
from .errors import LeaseClosed

if TYPE_CHECKING:
    from .core import BasePool
    from .slot import Slot

# Names that Python looks up on the class and not on the instance, so each must be there to be passed on.
_OPERATORS = "add sub mul matmul truediv floordiv mod pow lshift rshift and or xor".split()
_DELEGATED = frozenset(
    "__len__ __length_hint__ __getitem__ __setitem__ __delitem__ __contains__ __iter__ __next__ __reversed__ __call__ "
    "__aiter__ __anext__ __await__ __eq__ __ne__ __lt__ __le__ __gt__ __ge__ __hash__ __bool__ __int__ __float__ "
    "__complex__ __index__ __round__ __trunc__ __floor__ __ceil__ __neg__ __pos__ __abs__ __invert__ __str__ __bytes__ "
    "__format__ __fspath__ __divmod__ __rdivmod__".split()
) | frozenset(f"__{side}{operator}__" for operator in _OPERATORS for side in ("", "r", "i"))
# Where these return the resource itself, the lease takes its place: `lease += 1` and `iter(lease)` must not lose it.
_RETURNING_SELF = frozenset(("__iter__", "__aiter__", *(f"__i{operator}__" for operator in _OPERATORS)))
_OWN = ("_queuepool_slot", "_queuepool_pool", "_queuepool_record")


class Lease:
    """Made by `Pool.lease()`. Attributes, operators and calls go to the resource; `close()` gives it back.

    C code that insists on the very type of a resource refuses a lease; `unwrap()` has the resource itself. A lease that
    is dropped without `close()` gives its slot back by itself, but only once nobody else refers to the resource: a cursor
    that holds its connection keeps both. The idea is CuttlePool's.
    """

    __slots__ = (*_OWN, "__weakref__")

    _queuepool_slot: Slot[Any] | None
    _queuepool_pool: Any
    _queuepool_record: Any
    #: type of a resource -> the class of its leases, with the methods that Python looks up there
    _queuepool_classes: ClassVar[weakref.WeakKeyDictionary[type, type[Lease]]] = weakref.WeakKeyDictionary()

    def unwrap(self) -> Any:
        """The resource itself. Do not keep it beyond the lease. Raises `LeaseClosed`."""
        slot = self._queuepool_slot
        if slot is None:
            raise LeaseClosed("the lease is closed: its resource may be somebody else's by now")
        return slot.resource

    def close(self) -> Any:
        """Give the resource back; the second time does nothing. With `AsyncPool`, await the result."""
        return self._queuepool_end(None)

    def _queuepool_end(self, error: BaseException | None) -> Any:
        slot = self._queuepool_slot
        object.__setattr__(self, "_queuepool_slot", None)
        pool = self._queuepool_pool
        if slot is None or pool._leases.get(slot) is not self._queuepool_record:  # it came back by another way
            return pool._nothing()
        return pool.put(slot) if error is None else pool._put_after(slot, error)

    def __getattr__(self, name: str) -> Any:
        if name in _OWN:  # of a lease that an exception kept from being finished
            raise AttributeError(name)
        return getattr(self.unwrap(), name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.unwrap(), name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self.unwrap(), name)

    def __dir__(self) -> list[str]:
        return sorted({*object.__dir__(self), *dir(self.unwrap())})

    def __enter__(self) -> Any:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._queuepool_end(error)

    async def __aenter__(self) -> Any:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._queuepool_end(error)

    def __repr__(self) -> str:
        slot = self._queuepool_slot
        return "<Lease: closed>" if slot is None else f"<Lease of {slot.name}: {type(slot.resource).__name__}>"

    def __reduce__(self) -> Any:
        raise TypeError("a lease cannot be pickled or copied: it stands for one live resource")

    def __del__(self) -> None:
        # This may be a finalizer in the middle of anything: nothing here blocks, logs or closes.
        slot = getattr(self, "_queuepool_slot", None)
        if slot is None:
            return
        pool = self._queuepool_pool
        record = self._queuepool_record
        if pool._leases.get(slot) is not record:
            return
        nested = pool._nesting.get(record[2])
        if nested is not None and nested[0] is slot and nested[1] > 1:
            nested[1] -= 1  # its holder has taken it more than once, and goes on
        elif reclaiming.resource_references(slot) <= reclaiming.ALONE:
            reclaiming.drop(pool, slot)
        else:
            pool._orphaned = True  # somebody holds the resource; a sweep or the next who finds no slot will look


def lease_of(pool: BasePool[Any], slot: Slot[Any], base: type[Lease] = Lease) -> Lease:
    """The lease of a slot that the caller has just taken."""
    kind = type(slot.resource)
    cls = base._queuepool_classes.get(kind)
    if cls is None:
        methods = {name: _delegate(name) for name in _DELEGATED if _has(kind, name)}
        cls = type(f"Lease[{kind.__name__}]", (base,), {"__slots__": (), **methods})
        base._queuepool_classes[kind] = cls
    lease = cls()
    for name, value in zip(_OWN, (slot, pool, pool._leases.get(slot))):
        object.__setattr__(lease, name, value)
    return lease


def _has(kind: type, name: str) -> bool:
    """Whether instances of `kind` have the method; `getattr` would find those of its metaclass too."""
    return next((vars(base)[name] is not None for base in kind.__mro__ if name in vars(base)), False)


def _delegate(name: str) -> Callable[..., Any]:
    def method(self: Lease, *args: Any, **keywords: Any) -> Any:
        resource = self.unwrap()
        result = getattr(type(resource), name)(resource, *args, **keywords)
        return self if result is resource and name in _RETURNING_SELF else result

    method.__name__ = name
    return method

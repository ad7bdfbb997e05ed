"""What a scenario asks of a pool, and how an adapter says that its peer is taken from and given back to."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .measure import Missing


@dataclass(frozen=True)
class Spec:
    """The pool that a scenario asks for. ``dsn`` is given where resources are real PostgreSQL connections."""

    capacity: int
    open: Callable[..., Any]
    overflow: int = 0
    timeout: float | None = None
    minimum: int | None = None
    """Resources that the peers which open ahead keep open; None for all of ``capacity``."""
    dsn: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments for queuepool's constructor alone."""

    @property
    def maximum(self) -> int:
        return self.capacity + self.overflow

    @property
    def ahead(self) -> int:
        return self.capacity if self.minimum is None else self.minimum


def same(taken: Any) -> Any:
    return taken


@dataclass(frozen=True)
class Driver:
    """One pool, ready to be driven."""

    take: Callable[[], Any]
    put: Callable[[Any], object]
    styles: Mapping[str, Callable[[], Any]] = field(default_factory=dict)
    """Callables that return a context manager; the first is the form that the peer's users write."""
    pairs: Mapping[str, tuple[Callable[[], Any], Callable[[Any], object]]] = field(default_factory=dict)
    close: Callable[[], object] = lambda: None
    resource: Callable[[Any], Any] = same
    """What ``take`` gave → the resource."""
    sweep: Callable[[], object] | None = None


def need(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise Missing(f"{error.name} is not installed") from None


Adapter = Callable[[Spec], Driver]

"""A resource that does nothing, with the faces that the peers expect a connection to have."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

IDLE = 0
"""libpq's PQTRANS_IDLE, which psycopg, psycopg2 and the pools above them look at."""


class Stub:
    """A DB-API connection to nowhere, always healthy and never in a transaction."""

    closed = 0
    autocommit = False
    info = pgconn = SimpleNamespace(transaction_status=IDLE)

    def __init__(self, on_close: Callable[[], object] = lambda: None) -> None:
        self.on_close = on_close

    def __enter__(self) -> Stub:
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def commit(self) -> None:
        pass

    def rollback(self) -> None:
        pass

    def close(self) -> None:
        if not self.closed:
            self.closed = 1
            self.on_close()

    def cursor(self) -> Any:
        raise NotImplementedError("a stub runs no statements")


class Opener:
    """Opens stubs and counts what is opened and closed; ``before_open`` and ``before_close`` make either take time."""

    def __init__(
        self, before_open: Callable[[], object] = lambda: None, before_close: Callable[[], object] = lambda: None
    ) -> None:
        self.before_open = before_open
        self.before_close = before_close
        # Appends are atomic; several threads open and close at once.
        self._opens: list[None] = []
        self._closes: list[None] = []

    @property
    def opened(self) -> int:
        return len(self._opens)

    @property
    def open_now(self) -> int:
        return len(self._opens) - len(self._closes)

    def __call__(self, *_: object, **__: object) -> Stub:
        self.before_open()
        self._opens.append(None)
        return Stub(self._note_close)

    def _note_close(self) -> None:
        self.before_close()
        self._closes.append(None)

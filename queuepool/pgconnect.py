"""How a pool connects: the arguments of `psycopg2.connect`, some of them made anew each time, and none of them shown."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Any, Union

import psycopg2
from psycopg2.extensions import connection, make_dsn, parse_dsn

#: A value, or a function that returns it: called at each opening, so that credentials may change.
Dsn = Union[str, Callable[[], str], None]

#: What libpq is told unless the DSN or the keyword arguments say otherwise. Without the first a connect to a dead host
#: takes minutes; without the others a query on a dead network never ends. `tcp_user_timeout` (ms) bounds the sending,
#: keepalives the waiting for an answer: 10 s of silence, then three probes 5 s apart.
DEFAULTS = {
    "connect_timeout": 5,
    "tcp_user_timeout": 20_000,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
}

#: Arguments of `psycopg2.connect` that are callables themselves.
_FACTORIES = ("connection_factory", "cursor_factory")
_SECRETS = ("password", "sslpassword", "passfile", "oauth_client_secret", "scram_client_key", "scram_server_key")


def hidden(*values: Any) -> Callable[[], Any]:
    """A function that returns `values`, which tools that print variables, deep as they may look, do not find in it."""
    return lambda: values


class Target:
    """Whom to connect to, and as whom. `given` hides the DSN and the keyword arguments of `psycopg2.connect`."""

    __slots__ = ("_given",)

    def __init__(self, given: Callable[[], tuple[Dsn, dict[str, Any]]]) -> None:
        self._given = given
        _check(given)

    def connect(self) -> connection:
        """A new connection. Raises what psycopg2 does, and what functions among the arguments do."""
        return _connect(_Arguments(self._given))


class _Arguments:
    """The arguments of one `psycopg2.connect`, in an object so that they are no frame's local variables."""

    __slots__ = ("dsn", "keywords")

    def __init__(self, given: Callable[[], Any]) -> None:
        self.dsn: Any = given()[0]
        self.keywords: dict[str, Any] = {**given()[1]}
        if callable(self.dsn):
            self.dsn = self.dsn()
        for name in self.keywords:
            if callable(self.keywords[name]) and name not in _FACTORIES:
                self.keywords[name] = self.keywords[name]()
        said = {*self.keywords, *_parsed(self.dsn, {})}
        if "PGCONNECT_TIMEOUT" in os.environ:
            said.add("connect_timeout")
        self.keywords.update((name, value) for name, value in DEFAULTS.items() if name not in said)

    def mask(self, text: str) -> str:
        """`text` without what of it is secret here: passwords, and all that libpq quotes from a DSN it cannot read."""
        values = [value for name, value in _parsed(self.dsn, self.keywords).items() if name in _SECRETS]
        for secret in sorted(map(str, filter(None, values)), key=len, reverse=True):
            text = text.replace(secret, "***")
        if self.dsn and _is_torn(self.dsn):
            text = _without_quotes_from(self.dsn, text)
        return text

    def __repr__(self) -> str:
        return "<arguments>"


def _connect(arguments: _Arguments) -> connection:
    try:
        # By attribute at call time: tracing tools patch it.
        conn: connection = psycopg2.connect(arguments.dsn, **arguments.keywords)
        return conn
    except psycopg2.Error as error:
        # psycopg2's own frame holds the arguments, which tools that print variables would show.
        failure = masked(error.with_traceback(None), arguments.mask)
    raise failure


def masked(error: psycopg2.Error, mask: Callable[[str], str]) -> psycopg2.Error:
    """`error`, or one of its class with another text where that holds a secret."""
    text = str(error)
    safe = mask(text)
    return error if safe == text else type(error)(safe)


def _check(given: Callable[[], tuple[Dsn, dict[str, Any]]]) -> None:
    """Raise now what every attempt would raise. Values that functions make are not asked for yet."""
    for name in ("async", "async_"):
        if given()[1].get(name):
            raise TypeError(f"the pool needs synchronous connections: {name} must not be given")
    kind = type(given()[0])
    if not (isinstance(given()[0], (str, type(None))) or callable(given()[0])):
        raise TypeError(f"dsn must be a string or a function that returns one, not {kind.__name__}")
    failure = _misread(*given())
    if failure is not None:
        raise failure


def _misread(dsn: Dsn, keywords: dict[str, Any]) -> psycopg2.Error | None:
    """What libpq says of arguments that it does not understand, less what it quotes from them."""
    plain = {
        name: "0" if callable(value) else value
        for name, value in keywords.items()
        if name not in (*_FACTORIES, "async", "async_")
    }
    try:
        make_dsn("" if callable(dsn) else dsn or "", **plain)
    except psycopg2.Error as error:
        return type(error)(_without_quotes_from(dsn, str(error)) if isinstance(dsn, str) else str(error))
    return None


def _parsed(dsn: Dsn, keywords: dict[str, Any]) -> dict[str, Any]:
    """What the DSN and the keyword arguments say, as far as it can be read without calling anything."""
    try:
        parsed = parse_dsn(dsn) if isinstance(dsn, str) else {}
    except psycopg2.Error:
        parsed = {}
    return {**parsed, **{name: value for name, value in keywords.items() if not callable(value)}}


def _is_torn(dsn: str) -> bool:
    """Whether libpq takes a piece of a password for something else, or cannot read the DSN at all.

    In `postgresql://me:p@ss@host/db` the host is `ss@host` to it, and its error would tell.
    """
    try:
        parsed = parse_dsn(dsn)
    except psycopg2.Error:
        return True
    return "://" in dsn and any("@" in str(parsed.get(name, "")) for name in ("host", "port", "dbname"))


def _without_quotes_from(dsn: str, text: str) -> str:
    def conceal(quote: re.Match[str]) -> str:
        return '"***"' if quote[1] in dsn else quote[0]

    return re.sub(r'"([^"]*)"', conceal, text)

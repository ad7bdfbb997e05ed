"""How a pool connects: the arguments of `psycopg2.connect`, some of them made anew each time, and none of them shown."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from typing import Any, NoReturn, Union

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


class Target:
    """Whom to connect to, and as whom. Its repr and its fields show nothing: tools that print variables find no password."""

    __slots__ = ("connect", "wanted_role")

    def __init__(self, dsn: Dsn, keywords: dict[str, Any]) -> None:
        _check(dsn, keywords)
        self.wanted_role = str(_parsed(dsn, keywords).get("target_session_attrs", "any"))

        # A closure keeps what it needs out of everybody's sight.
        def connect() -> connection:
            return _connect(_Arguments(dsn, keywords))

        self.connect = connect

    def __repr__(self) -> str:
        return "<Target>"


class _Arguments:
    """The arguments of one `psycopg2.connect`, in an object so that they are no frame's local variables."""

    __slots__ = ("dsn", "keywords")

    def __init__(self, dsn: Dsn, keywords: dict[str, Any]) -> None:
        self.dsn = dsn() if callable(dsn) else dsn
        self.keywords = {
            name: value() if callable(value) and name not in _FACTORIES else value for name, value in keywords.items()
        }
        given = {*keywords, *_parsed(self.dsn, {})}
        if "PGCONNECT_TIMEOUT" in os.environ:
            given.add("connect_timeout")
        self.keywords.update((name, value) for name, value in DEFAULTS.items() if name not in given)

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


def _check(dsn: Dsn, keywords: dict[str, Any]) -> None:
    """Raise now what every attempt would raise. Values that functions make are not asked for yet."""
    for name in ("async", "async_"):
        if keywords.get(name):
            raise TypeError(f"the pool needs synchronous connections: {name} must not be given")
    if not (dsn is None or isinstance(dsn, str) or callable(dsn)):
        raise TypeError(f"dsn must be a string or a function that returns one, not {type(dsn).__name__}")
    plain = {
        name: "0" if callable(value) else value
        for name, value in keywords.items()
        if name not in (*_FACTORIES, "async", "async_")
    }
    try:
        make_dsn("" if callable(dsn) else dsn or "", **plain)
    except psycopg2.Error as error:
        text = str(error)
        safe = _without_quotes_from(dsn, text) if isinstance(dsn, str) else text
        failure = type(error)(safe)
    else:
        return
    _raise(failure)


def _raise(error: psycopg2.Error) -> NoReturn:
    raise error


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


def option_names(function: Callable[..., Any]) -> Iterable[str]:
    """The names of the keyword-only arguments of `function`."""
    code = function.__code__
    names: Iterable[str] = code.co_varnames[code.co_argcount : code.co_argcount + code.co_kwonlyargcount]
    return names

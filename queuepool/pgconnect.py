"""How a pool connects: the arguments of `psycopg2.connect`, some of them made anew each time, and none of them shown."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from types import TracebackType
from typing import Any, Union

import psycopg2
from psycopg2.extensions import connection, make_dsn, parse_dsn

#: A value, or a function that returns it: called at each opening, so that credentials may change.
Dsn = Union[str, Callable[[], str], None]

#: What libpq is told unless the DSN, the keyword arguments or a service say otherwise. Without the first a connect to a
#: dead host takes minutes; without the others a query on a dead network never ends. `tcp_user_timeout` (ms) bounds the
#: sending, keepalives the waiting for an answer: 10 s of silence, then three probes 5 s apart.
DEFAULTS = {
    "connect_timeout": 5,
    "tcp_user_timeout": 20_000,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
}

#: Arguments of `psycopg2.connect` that are callables themselves.
_FACTORIES = ("connection_factory", "cursor_factory")

_AMBIGUOUS = (
    "connecting failed; why is not told, for it may hold a piece of the password:"
    " in a URI, write @ as %40 and / as %2F, in the password and in the name of the database"
)


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
            if not isinstance(self.dsn, str):
                raise TypeError(f"the function given as dsn must return a string, not {type(self.dsn).__name__}")
        for name in self.keywords:
            if callable(self.keywords[name]) and name not in _FACTORIES:
                self.keywords[name] = self.keywords[name]()
            if isinstance(self.keywords[name], bytes):
                raise TypeError(f"{name} must be a string, not bytes, of which psycopg2 would send the repr")
        said = {**_parsed(self.dsn), **self.keywords}
        names = {*said, *_said_by_service(said)}
        if "PGCONNECT_TIMEOUT" in os.environ:
            names.add("connect_timeout")
        self.keywords.update((name, value) for name, value in DEFAULTS.items() if name not in names)

    def __repr__(self) -> str:
        return "<arguments>"


def _connect(arguments: _Arguments) -> connection:
    try:
        # By attribute at call time: tracing tools patch it.
        conn: connection = psycopg2.connect(arguments.dsn, **arguments.keywords)
        return conn
    except Exception as error:
        failure = _cleansed(error, arguments.dsn)
    try:
        raise failure
    finally:
        del failure  # it refers to this frame, and this frame to those of the take


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


def _misread(dsn: Dsn, keywords: dict[str, Any]) -> Exception | None:
    """What is wrong with arguments that libpq does not understand."""
    plain = {
        name: "0" if callable(value) else value
        for name, value in keywords.items()
        if name not in (*_FACTORIES, "async", "async_")
    }
    known = dsn if isinstance(dsn, str) else None
    try:
        make_dsn(known or "", **plain)
    except Exception as error:
        return _cleansed(error, known)
    return None


def _cleansed(error: Exception, dsn: str | None) -> Exception:
    """`error`, which psycopg2 has raised, or what may be shown of it, without the frames that hold the arguments."""
    if isinstance(error, psycopg2.Error):
        return _tellable(error, dsn).with_traceback(None)
    below = _below_psycopg2(error.__traceback__)
    if below is None and isinstance(error, UnicodeEncodeError):  # its `object` is the DSN
        return ValueError(f"the DSN or a keyword argument cannot be encoded as {error.encoding}: {error.reason}")
    return error.with_traceback(below)


def _below_psycopg2(trace: TracebackType | None) -> TracebackType | None:
    """The part of `trace` that belongs to the user's own code, such as a connection_factory, which psycopg2 called."""
    below = None
    while trace is not None:
        if str(trace.tb_frame.f_globals.get("__name__")).partition(".")[0] == "psycopg2":
            below = trace.tb_next
        trace = trace.tb_next
    return below


def _tellable(error: psycopg2.Error, dsn: str | None) -> psycopg2.Error:
    """`error`, or another in place of one whose text may hold a piece of a password.

    It can where libpq quotes from a DSN that it cannot read, or takes a piece of a password for something else: in
    `postgresql://me:p@ss@host/db` the host is `ss@host` to it, and in `postgresql://me:p/ss@host/db` the port is `p`.
    A password that it has understood is in none of its texts, and to mask chance matches there would betray it.
    """
    dsn = dsn or ""
    try:
        parse_dsn(dsn)
        parsed = parse_dsn(dsn.replace("%40", ""))  # an at sign that is spelt so is meant
    except psycopg2.Error:
        # From the first to the last: what is quoted may hold quotes itself.
        return type(error)(re.sub(r'["«»„“”].*["«»„“”]', '"***"', str(error), flags=re.DOTALL))
    if "://" in dsn and any("@" in str(parsed.get(name)) for name in ("host", "port", "dbname")):
        return type(error)(_AMBIGUOUS)
    return error


def _parsed(dsn: str | None) -> dict[str, Any]:
    try:
        return parse_dsn(dsn or "")
    except (psycopg2.Error, ValueError):
        return {}  # connecting will tell


def _said_by_service(said: dict[str, Any]) -> set[str]:
    """The names of what the service that `said` or the environment names sets; if only libpq knows its file, all."""
    service = said.get("service") or os.environ.get("PGSERVICE")
    if not service:
        return set()
    # As libpq looks for it, which without PGSYSCONFDIR has a folder of its own besides.
    own = said.get("servicefile") or os.environ.get("PGSERVICEFILE") or os.path.expanduser("~/.pg_service.conf")
    system = os.path.join(os.environ.get("PGSYSCONFDIR", os.devnull), "pg_service.conf")
    for path in (own, system):
        names = _names_in_section(path, str(service))
        if names is not None:
            return names
    return {*DEFAULTS}


def _names_in_section(path: str, section: str) -> set[str] | None:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            text = file.read()
    except OSError:
        return None
    found = re.search(rf"^\s*\[{re.escape(section)}\](.*?)(^\s*\[|\Z)", text, re.MULTILINE | re.DOTALL)
    return None if found is None else {line.strip().partition("=")[0] for line in found[1].splitlines()}

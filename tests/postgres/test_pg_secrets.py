"""A password is in nothing that a pool shows, logs, raises or leaves lying about."""

from __future__ import annotations

import logging
import pickle
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg2
import pytest

import queuepool
from queuepool import pgconnect
from queuepool.psycopg2cm import ConnectionManager
from queuepool.psycopg2pool import ConnectionPool, ThreadedConnectionPool

from .server import Postgres

SECRET = "s3cr3t-word"


def shown(value: object, depth: int = 4) -> Iterator[str]:
    """What a debugger, or a tool that reports variables, would print of `value` and what hangs on it."""
    yield repr(value)
    yield str(value)
    if depth and not isinstance(value, (str, int, float, type(None), type)):
        names = [name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ())]
        parts = {name: getattr(value, name, None) for name in names if isinstance(name, str)}
        parts.update(getattr(value, "__dict__", {}))
        if isinstance(value, dict):
            parts.update((str(key), each) for key, each in value.items())
        for name, part in parts.items():
            if not name.startswith("__"):
                yield from shown(part, depth - 1)


def safe_repr(value: object) -> str:
    try:
        return repr(value)
    except AttributeError:
        return "half made"


def frames_of_ours(error: BaseException) -> Iterator[str]:
    """The local variables of each frame of the package, or of psycopg2, in the traceback of `error` and its causes."""
    each: BaseException | None = error
    while each is not None:
        for frame, _ in traceback.walk_tb(each.__traceback__):
            if "tests" not in frame.f_code.co_filename:
                yield from map(safe_repr, frame.f_locals.values())
        each = each.__cause__ or each.__context__


def check_is_hidden(error: BaseException, log: str) -> None:
    assert SECRET not in str(error)
    assert SECRET not in log
    assert not [text for text in frames_of_ours(error) if SECRET in text]


def test_nothing_that_a_pool_shows_has_the_password(database: Postgres) -> None:
    with ConnectionPool(database.dsn(), capacity=2, password=SECRET) as pool, pool.connection() as conn:
        assert not [text for text in shown(pool) if SECRET in text]
        assert SECRET not in repr(conn)
        assert SECRET not in str(pool.stats()) + str(pool.holders())
        with pytest.raises(TypeError):
            pickle.dumps(pool)


#: The arguments of a pool whose connects fail, each in its own way.
FAILING: dict[str, dict[str, Any]] = {
    "wrong password": {"password": SECRET, "user": "clerk"},
    "refused": {"password": SECRET, "port": 1},
    "no such database": {"password": SECRET, "dbname": "nowhere"},
    "a password with a space": {"dsn": f"host=localhost password=x {SECRET}="},
    "a function's": {"password": lambda: SECRET, "port": 1},
    "a function's bad DSN": {"dsn": lambda: f"host=localhost password=x {SECRET}"},
    "an at sign in a URI's password": {"dsn": f"postgresql://me:x@{SECRET}@127.0.0.1:1/db"},
    "a slash in a URI's password": {"dsn": f"postgresql://me:{SECRET}/x@127.0.0.1:1/db"},
    "an at sign and a slash": {"dsn": f"postgresql://me:x@{SECRET}/x@127.0.0.1:1/db"},
    "a percent sign in a URI's password": {"dsn": f"postgresql://me:{SECRET}%zz@127.0.0.1:1/db"},
    "a quote in a password with a space": {"dsn": f'host=localhost password=x {SECRET}"{SECRET} "x'},
    "a function's with a quote": {"dsn": lambda: f'host=localhost password=x {SECRET}"{SECRET} "x'},
    "a quote and a percent sign": {"dsn": f'postgresql://me:a"b%zz"{SECRET}@h/db'},
    "a quote in a URI": {"dsn": f'postgres://me:x"{SECRET}@[::1'},
    "a bad host with a password": {"dsn": "host=no-such-host.invalid", "password": SECRET},
}


@pytest.mark.parametrize("case", FAILING)
@pytest.mark.parametrize("kind", [ConnectionPool, ThreadedConnectionPool])
def test_no_failure_tells_the_password(
    own_role: Postgres, case: str, kind: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    arguments = dict(FAILING[case])
    if "dsn" not in arguments:
        arguments = {**own_role.kwargs(), **arguments}

    def work() -> None:
        if kind is ConnectionPool:
            ConnectionPool(timeout=0.2, **arguments).take()
        else:
            ThreadedConnectionPool(1, 1, timeout=0.2, **arguments)

    with pytest.raises((psycopg2.Error, queuepool.PoolError)) as caught:
        work()
    check_is_hidden(caught.value, caplog.text)


def test_a_number_in_a_password_is_not_told_where_libpq_takes_it_for_a_port() -> None:
    with pytest.raises(psycopg2.OperationalError, match="%2F") as caught:
        ConnectionPool("postgresql://localhost:65433/x@127.0.0.1/db").take()
    assert "65433" not in str(caught.value)


def test_an_at_sign_in_the_name_of_a_database_hides_no_error_if_it_is_spelt_out(database: Postgres) -> None:
    said = database.kwargs()
    dsn = f"postgresql://{said['user']}@{said['host']}:{said['port']}/a%40b"
    with pytest.raises(psycopg2.OperationalError, match='"a@b" does not exist'):
        ConnectionPool(dsn, password=said.get("password")).take()


@pytest.mark.parametrize("password", ["e", "database", "nowhere"])
def test_a_password_that_is_a_common_word_makes_no_error_unreadable_or_worth_a_retry(
    database: Postgres, password: str
) -> None:
    with ConnectionPool(**{**database.kwargs(), "dbname": "nowhere", "password": password}) as pool:
        with pytest.raises(psycopg2.OperationalError, match='FATAL:  database "nowhere" does not exist'):
            pool.take()
        assert pool.stats().open_errors == 1


def manager_of(**arguments: Any) -> queuepool.Pool[Any]:
    pool: queuepool.Pool[Any] = queuepool.Pool("bank", 1)
    pool.put(ConnectionManager("bank-1", **arguments))
    return pool


#: Arguments that psycopg2 cannot even send.
UNFIT: dict[str, dict[str, Any]] = {
    "a NUL": {"password": f"{SECRET}\0"},
    "half a surrogate": {"password": f"{SECRET}\udc80"},
    "a function's NUL": {"password": lambda: f"{SECRET}\0"},
    "a function's half of a surrogate": {"password": lambda: f"{SECRET}\udc80"},
    "half a surrogate in the DSN": {"dsn": f"host=localhost password={SECRET}\udc80"},
    "half a surrogate in a function's DSN": {"dsn": lambda: f"host=localhost password={SECRET}\udc80"},
    "an option that is not libpq's": {"password": SECRET, "bogus": 1},
    "an asynchronous connection": {"password": SECRET, "async_": 1},
    "bytes": {"password": SECRET.encode()},
    "a function's bytes": {"password": lambda: SECRET.encode()},
    "a function's DSN of bytes": {"dsn": lambda: f"host=localhost password={SECRET}".encode()},
}


@pytest.mark.parametrize("case", UNFIT)
@pytest.mark.parametrize("make", [ConnectionPool, manager_of])
def test_an_argument_that_cannot_be_used_is_refused_and_not_told(
    case: str, make: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises((ValueError, TypeError, psycopg2.ProgrammingError)) as caught:
        make(**UNFIT[case]).take()
    check_is_hidden(caught.value, caplog.text)
    assert not isinstance(caught.value, UnicodeError)  # which has an attribute with all of the text


@pytest.mark.parametrize("name", ["dsn", "password"])
def test_bytes_from_a_function_are_refused_by_the_arguments_name(name: str) -> None:
    arguments: dict[str, Any] = {name: lambda: b"host=localhost"}
    with pytest.raises(TypeError, match=f"{name}.*string, not bytes"):
        ConnectionPool(**arguments).take()


def test_an_error_in_a_connection_factory_is_told_with_where_it_was_raised(database: Postgres) -> None:
    def factory(dsn: str) -> Any:
        raise LookupError("no such kind of connection")

    with pytest.raises(LookupError, match="no such kind") as caught:
        ConnectionPool(database.dsn(), password=SECRET, connection_factory=factory).take()
    check_is_hidden(caught.value, "")
    assert traceback.extract_tb(caught.value.__traceback__)[-1].name == "factory"


@pytest.fixture(scope="module")
def own_role(postgres: Postgres) -> Iterator[Postgres]:
    """The shared server by way of a role that has to give its password."""
    from .server import Server

    if not isinstance(postgres, Server):
        pytest.skip("needs a server of one's own")
    yield postgres.create_role("clerk", "right")
    postgres.execute("DROP ROLE clerk")


def test_an_option_that_is_wrong_beside_the_password_does_not_tell_it() -> None:
    with pytest.raises(ValueError, match="timeout") as caught:
        ConnectionPool("host=db", password=SECRET, timeout=-1)
    check_is_hidden(caught.value, "")


def test_what_is_not_secret_is_still_told(database: Postgres) -> None:
    with pytest.raises(psycopg2.OperationalError, match="no-such-host"):
        pgconnect.Target(pgconnect.hidden("host=no-such-host.invalid", {"password": SECRET})).connect()


# --- credentials that change


def test_functions_are_asked_at_each_opening(database: Postgres) -> None:
    asked = []

    def password() -> str:
        asked.append("password")
        return "rotated"

    def dsn() -> str:
        asked.append("dsn")
        return database.dsn()

    with ConnectionPool(dsn, capacity=2, password=password) as pool:
        assert asked == []
        pool.prefill()
    assert asked == ["dsn", "password"] * 2


def test_an_error_of_such_a_function_reaches_the_taker(database: Postgres) -> None:
    def password() -> str:
        raise LookupError("the vault is sealed")

    with ConnectionPool(database.dsn(), password=password) as pool:
        with pytest.raises(LookupError, match="sealed"):
            pool.take()
        assert pool.stats().slots == 10


# --- defaults


def parameters(pool: ConnectionPool) -> dict[str, str]:
    with pool.connection() as conn:
        return conn.get_dsn_parameters()


def test_a_dead_network_is_noticed_by_default_and_each_default_can_be_changed(
    database: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ConnectionPool(database.dsn()) as pool:
        said = parameters(pool)
        assert {name: said[name] for name in pgconnect.DEFAULTS} == {
            name: str(value) for name, value in pgconnect.DEFAULTS.items()
        }
    with ConnectionPool(database.dsn(connect_timeout=7), keepalives_idle=11) as pool:
        said = parameters(pool)
        assert (said["connect_timeout"], said["keepalives_idle"]) == ("7", "11")
    monkeypatch.setenv("PGCONNECT_TIMEOUT", "9")
    with ConnectionPool(database.dsn()) as pool:
        assert parameters(pool)["connect_timeout"] == "9"


@pytest.fixture
def service(database: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's file of connection services, with one that is called `mine`."""
    said = database.kwargs(keepalives_idle=300, connect_timeout=60)
    lines = [
        "[other]",
        "tcp_user_timeout=1",
        "[mine]",
        *(f"  {name}={value}" for name, value in said.items()),
        "[last]",
    ]
    path = tmp_path / "services"
    path.write_text("\n".join([*lines, "keepalives_count=1"]))
    monkeypatch.setenv("PGSERVICEFILE", str(path))
    return path


@pytest.mark.parametrize("way", ["dsn", "keyword", "environment", "system"])
def test_what_a_connection_service_says_goes_before_the_defaults(
    service: Path, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments: dict[str, Any] = {"dsn": {"dsn": "service=mine"}, "keyword": {"service": "mine"}}.get(way, {})
    if way == "system":
        monkeypatch.setenv("PGSYSCONFDIR", str(service.parent))
        service.rename(service.with_name("pg_service.conf"))
        service.write_text("[another]")
    if not arguments:
        monkeypatch.setenv("PGSERVICE", "mine")
    with ConnectionPool(**arguments) as pool:
        said = parameters(pool)
    assert {name: said[name] for name in pgconnect.DEFAULTS} == {
        **{name: str(value) for name, value in pgconnect.DEFAULTS.items()},
        "keepalives_idle": "300",
        "connect_timeout": "60",
    }


def test_a_service_that_is_nowhere_is_told(service: Path) -> None:
    service.unlink()
    with pytest.raises(psycopg2.OperationalError, match=r"service file .* not found"):
        ConnectionPool(service="mine").take()

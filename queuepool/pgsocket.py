"""A connection's socket: whether its other end is gone, told without a round trip, and how to end a call that hangs."""

from __future__ import annotations

import os
import select
import socket
import struct
from collections.abc import Callable
from functools import partial
from typing import Any

from psycopg2.extensions import connection

_POLLRDHUP = getattr(select, "POLLRDHUP", 0)  # Linux: the other end has closed, even if its last words are unread
_DEAD = getattr(select, "POLLHUP", 0) | getattr(select, "POLLERR", 0) | getattr(select, "POLLNVAL", 0) | _POLLRDHUP

_NEWS = getattr(select, "POLLIN", 1)

#: Tells whether anything has happened on a socket since it was last read: nothing, mostly, which is false.
Watch = Callable[[], object]


def _with_the_gil() -> Callable[[int], Watch] | None:
    """What makes of a descriptor a call of the C library's `poll` that keeps the GIL; None where that is not to be had."""
    try:
        import ctypes

        poll, memory, one = ctypes.PyDLL(None).poll, ctypes.create_string_buffer, ctypes.c_ulong(1)
    except (ImportError, AttributeError, OSError, TypeError):  # built without libffi; Windows; linked statically
        return None
    return lambda fd: partial(poll, memory(struct.pack("ihh", fd, _NEWS | _POLLRDHUP, 0)), one, 0)


_watch = _with_the_gil()


def watch(conn: connection) -> Watch:
    """A function that looks at the socket of `conn`, in half a microsecond. Only the connection's owner may call it.

    It keeps the GIL, which `select.poll` lets go of: beside a thread that computes it takes 5 ms to get it back.
    """
    fd = conn.fileno()
    return partial(_events, fd) if _watch is None else _watch(fd)


def is_dead(conn: connection) -> bool:
    """Whether the other end is gone for certain. News alone may be a farewell, a NOTIFY, or a change of a setting."""
    return any(event & _DEAD for _, event in _events(conn.fileno()))


def _events(fd: int) -> list[tuple[int, int]]:
    if hasattr(select, "poll"):
        poller = select.poll()
        poller.register(fd, _NEWS | _POLLRDHUP)
        return poller.poll(0)
    try:
        readable, _, _ = select.select([fd], [], [], 0)
    except (OSError, ValueError):  # ValueError: a number too large for select()
        return [(fd, _NEWS)]
    return [(fd, _NEWS) for _ in readable]


def sever(conn: connection) -> None:
    """Shut the socket down, so that whoever is blocked in a call on `conn` gets an error now. Never blocks or raises.

    psycopg2's own `close()` waits until the running call ends.
    """
    try:
        with _socket(conn) as sock:
            sock.shutdown(socket.SHUT_RDWR)
    except Exception:
        return  # it is closed already, or its other end has gone


def answers(conn: connection, seconds: float) -> bool:
    """Whether the server of `conn` answers newcomers within `seconds`: libpq's cancel would wait for it for ever, with the
    interpreter stopped. The question is whether it does TLS, which any server answers, and logs nothing of, at once.
    """
    try:
        with _socket(conn) as sock:
            address, family = sock.getpeername(), sock.family
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.settimeout(seconds)
            probe.connect(address)
            probe.sendall(struct.pack("!ii", 8, 80877103))
            return bool(probe.recv(1))
    except Exception:
        return False


def _socket(conn: connection) -> Any:
    """A second handle for the socket, which is the caller's to close."""
    return socket.socket(fileno=os.dup(conn.fileno()))

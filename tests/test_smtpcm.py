"""The SMTP manager of 1.x, against a real server with STARTTLS and AUTH on the loopback."""

from __future__ import annotations

import asyncio
import logging
import shutil
import smtplib
import socket
import ssl
import subprocess
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("aiosmtpd")

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword

from queuepool import Pool
from queuepool.smtpcm import ConnectionManager
from tests.support import assert_whole, wait_until
from tests.v1_support import expected_of, output_of

USER, PASSWORD = "postman", "hunter2-or-so"
LETTER = ("pool@example.org", ["reader@example.org"], "Subject: hello\r\n\r\nHello")


class Handler:
    """Keeps what it is sent, and refuses strangers."""

    def __init__(self) -> None:
        self.letters: list[Any] = []
        self.resets = 0

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:
        if "stranger" in address:
            return "550 no such user"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        self.letters.append((session, envelope))
        return "250 OK"

    async def handle_RSET(self, server: Any, session: Any, envelope: Any) -> str:
        self.resets += 1
        return "250 OK"


class MailServer(Controller):
    """A server in a thread of its own, which counts its clients and can hang up on them."""

    def __init__(self, **options: Any) -> None:
        super().__init__(Handler(), "127.0.0.1", 0, **options)
        self.sessions: list[SMTP] = []

    def factory(self) -> SMTP:
        session: SMTP = super().factory()  # type: ignore[no-untyped-call]
        self.sessions.append(session)
        return session

    @property
    def address(self) -> tuple[str, int]:
        server: Any = self.server
        address: tuple[str, int] = server.sockets[0].getsockname()
        return address

    @property
    def open_sessions(self) -> int:
        return sum(session.transport is not None for session in self.sessions)

    def hang_up(self) -> None:
        for transport in [session.transport for session in self.sessions]:
            if isinstance(transport, asyncio.WriteTransport):
                self.loop.call_soon_threadsafe(transport.abort)

    def _trigger_server(self) -> None:
        """The controller's own asks port 0 whether it answers; a server that has a socket listens already."""
        with socket.create_connection(self.address, timeout=5) as probe:
            probe.recv(1)
        self.sessions.clear()


def authenticate(server: Any, session: Any, envelope: Any, mechanism: str, given: Any) -> AuthResult:
    expected = LoginPassword(USER.encode(), PASSWORD.encode())
    return AuthResult(success=given == expected, handled=False)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl to make a certificate with")
    path = tmp_path_factory.mktemp("tls") / "certificate.pem"
    command = f"{openssl} req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext".split()
    names = ["subjectAltName=IP:127.0.0.1", "-keyout", str(path), "-out", str(path.with_suffix(".crt"))]
    subprocess.run([*command, *names], check=True, capture_output=True)
    path.write_text(path.read_text() + path.with_suffix(".crt").read_text())
    return path


@contextmanager
def running(**options: Any) -> Iterator[MailServer]:
    server = MailServer(**options)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def secure(certificate: Path) -> Iterator[MailServer]:
    """A server that insists on encryption and on a login."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with running(tls_context=context, require_starttls=True, auth_required=True, authenticator=authenticate) as server:
        yield server


@pytest.fixture
def plain() -> Iterator[MailServer]:
    with running() as server:
        yield server


@pytest.fixture
def pool_of() -> Iterator[Callable[..., Any]]:
    with ExitStack() as stack:

        def make(server: MailServer, *credentials: str, capacity: int = 1, **options: Any) -> Any:
            pool: Pool[Any] = stack.enter_context(Pool("mail", capacity))
            for number in range(capacity):
                pool.put(ConnectionManager(f"mail-{number}", *server.address, *credentials, **options))
            return pool

        yield make


def test_a_program_written_for_1_3_2_runs_unchanged(secure: MailServer) -> None:
    host, port = secure.address
    printed = output_of("mailer.py", host, str(port), USER, PASSWORD)
    assert printed == expected_of("mailer.py").replace("PORT", str(port))
    assert len(secure.handler.letters) == 21
    # Two connections served all threads, and a third the manager that was closed.
    assert len(secure.sessions) <= 4
    wait_until(lambda: secure.open_sessions == 0)


def test_mail_goes_encrypted_and_after_a_login_as_by_default_in_1_x(secure: MailServer, pool_of: Any) -> None:
    pool = pool_of(secure, USER, PASSWORD)
    for _ in range(3):
        with pool.take() as manager:
            assert manager.sendmail(*LETTER) == {}
    [(session, envelope), *_] = secure.handler.letters
    assert session.ssl
    assert session.authenticated
    assert envelope.rcpt_tos == ["reader@example.org"]
    assert len(secure.sessions) == 1


def test_the_certificate_is_looked_at_with_a_context_that_does(
    secure: MailServer, pool_of: Any, certificate: Path
) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        pool_of(secure, USER, PASSWORD, context=ssl.create_default_context()).take()
    trusting = ssl.create_default_context(cafile=str(certificate))
    with pool_of(secure, USER, PASSWORD, context=trusting).take() as manager:
        manager.sendmail(*LETTER)


def test_encryption_and_login_can_be_switched_off(plain: MailServer, pool_of: Any) -> None:
    with pool_of(plain, starttls=False).take() as manager:  # and no user, so no login
        manager.sendmail(*LETTER)
    with pool_of(plain, USER, PASSWORD, starttls=False, login=False).take() as manager:
        manager.sendmail(*LETTER)
    assert len(plain.handler.letters) == 2


def test_a_server_without_starttls_gets_no_mail_unless_told_so(plain: MailServer, pool_of: Any) -> None:
    with pytest.raises(smtplib.SMTPNotSupportedError, match="STARTTLS"):
        pool_of(plain, USER, PASSWORD).take()
    wait_until(lambda: plain.open_sessions == 0)


def test_everything_else_goes_to_smtplib(plain: MailServer, pool_of: Any) -> None:
    with pool_of(plain, None, None, "here.example.org", starttls=False, timeout=7).take() as manager:
        assert (manager.resource.local_hostname, manager.resource.sock.gettimeout()) == ("here.example.org", 7)


def test_recipients_that_are_refused_are_told(plain: MailServer, pool_of: Any) -> None:
    pool = pool_of(plain, starttls=False)
    with pool.take() as manager:
        sender, recipients, text = LETTER
        refused = manager.sendmail(sender, [*recipients, "stranger@example.org"], text)
        assert refused == {"stranger@example.org": (550, b"no such user")}
    with pytest.raises(smtplib.SMTPRecipientsRefused), pool.take() as manager:
        manager.sendmail(sender, ["stranger@example.org"], text)


# --- connections that are gone


def test_a_server_that_hung_up_while_the_connection_was_idle_is_noticed(plain: MailServer, pool_of: Any) -> None:
    pool = pool_of(plain, starttls=False, capacity=2)
    slots = [pool.take(), pool.take()]
    for slot in slots:
        pool.put(slot)
    plain.hang_up()
    wait_until(lambda: plain.open_sessions == 0)
    slots = [pool.take(), pool.take()]
    for slot in slots:
        assert slot.sendmail(*LETTER) == {}
        pool.put(slot)
    assert pool.stats().closes == {"check": 2}
    assert_whole(pool)


def test_a_server_that_said_why_before_it_hung_up_is_noticed_too(pool_of: Any) -> None:
    with running(timeout=0.05) as impatient:
        pool = pool_of(impatient, starttls=False)
        with pool.take() as manager:
            first = manager.resource
        wait_until(lambda: impatient.open_sessions == 0)
        with pool.take():
            assert manager.resource is not first


def test_a_server_that_hangs_up_in_use_costs_that_one_error(plain: MailServer, pool_of: Any) -> None:
    pool = pool_of(plain, starttls=False)
    slot = pool.take()
    plain.hang_up()
    wait_until(lambda: plain.open_sessions == 0)
    with pytest.raises((smtplib.SMTPServerDisconnected, ConnectionError)), slot:
        slot.sendmail(*LETTER)
    assert_whole(pool)
    with pool.take():
        assert slot.sendmail(*LETTER) == {}


def test_a_connection_that_its_user_closed_is_replaced(plain: MailServer, pool_of: Any) -> None:
    pool = pool_of(plain, starttls=False)
    with pool.take() as manager:
        manager.resource.quit()
    with pool.take():
        assert manager.sendmail(*LETTER) == {}
    manager.close()
    manager.close()
    wait_until(lambda: plain.open_sessions == 0)


def test_a_mail_left_half_done_is_not_the_next_users(plain: MailServer, pool_of: Any) -> None:
    pool = pool_of(plain, starttls=False)
    with pool.take() as manager:
        manager.resource.ehlo()
        manager.resource.mail("somebody@example.org")
    with pool.take():
        assert plain.handler.resets == 1
        assert manager.sendmail(*LETTER) == {}
    assert len(plain.sessions) == 1


def test_a_server_that_refuses_to_start_over_is_left(
    plain: MailServer, pool_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = pool_of(plain, starttls=False)
    with pool.take() as manager:
        first = manager.resource
    monkeypatch.setattr(first, "rset", lambda: (421, b"closing"))
    with pool.take():
        assert manager.resource is not first


def test_an_unavailable_server_raises_its_error_and_keeps_the_slots(pool_of: Any) -> None:
    with running() as server:
        pool = pool_of(server, starttls=False, capacity=2)
    for _ in range(5):
        with pytest.raises(ConnectionRefusedError):
            pool.take()
        assert_whole(pool)


# --- secrets


def test_the_password_is_shown_nowhere(secure: MailServer, pool_of: Any, caplog: pytest.LogCaptureFixture) -> None:
    pool = pool_of(secure, USER, PASSWORD)
    with caplog.at_level(logging.DEBUG):
        with pool.take() as manager:
            shown = [repr(manager), repr(vars(manager)), repr(vars(manager.resource)), str(pool.holders())]
            manager.close()
        manager.password = f"{PASSWORD}, but wrong"
        with pytest.raises(smtplib.SMTPAuthenticationError) as caught:
            pool.take()
    assert manager.password == f"{PASSWORD}, but wrong"
    shown += [caplog.text, str(pool.stats()), repr(caught.value)]
    frames = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    shown += [str(frame.locals) for frame in frames.stack]
    assert [text for text in shown if PASSWORD in text] == []
    wait_until(lambda: secure.open_sessions == 0)


def test_a_server_that_repeats_the_password_does_not_get_it_into_the_log(
    plain: MailServer, pool_of: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Any, user: str, password: str) -> None:
        raise smtplib.SMTPAuthenticationError(535, f"{password} is wrong")

    monkeypatch.setattr(smtplib.SMTP, "login", refuse)
    with pytest.raises(smtplib.SMTPAuthenticationError):
        pool_of(plain, USER, PASSWORD, starttls=False).take()
    assert "*** is wrong" in caplog.text
    assert PASSWORD not in caplog.text

"""SMTP connections for pools that are filled as in queuepool 1.x."""

from __future__ import annotations

import contextlib
import smtplib
import ssl
from collections.abc import Callable
from typing import Any

from .managers import ResourceManager


class ConnectionManager(ResourceManager):
    """One connection to a mail server; put as many as the pool's capacity into a `Pool` made without `open`.

    Arguments:
      name: of the slot, in messages.
      host, port: of the server, as `smtplib.SMTP` takes them.
      user, password: to log in with.
      starttls: whether to encrypt; refused by a server that offers no STARTTLS.
      login: whether to log in, if there is a `user`.
      context: the `ssl.SSLContext`. None is what 1.x did: encryption without a look at the server's certificate;
        `ssl.create_default_context()` looks.
      Everything else goes to `smtplib.SMTP`, e.g. `timeout` in seconds, which bounds each step. Its errors reach the taker.

    At take the server is sent RSET, which costs a round trip, ends what the last user left half done, and shows
    whether the server is still there; if not, the connection opens anew. The password is in no repr, `vars()` or log.
    """

    def __init__(
        self,
        name: str,
        host: str = "",
        port: int = 0,
        user: str | None = None,
        password: str | None = None,
        *args: Any,
        starttls: bool = True,
        login: bool = True,
        context: ssl.SSLContext | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(name)
        self.host = host
        self.port = port
        self.user = user
        self.password = password
        self.starttls = starttls
        self.login = login
        self.context = context
        self._arguments = args, kwargs

    @property
    def password(self) -> str | None:
        return self._password()

    @password.setter
    def password(self, value: str | None) -> None:
        # In a function, where neither vars() nor a debugger's view of this object shows it.
        self._password: Callable[[], str | None] = lambda: value

    def open(self) -> None:
        """Connect, encrypt and log in. Raises what smtplib does."""
        args, kwargs = self._arguments
        smtp = smtplib.SMTP(self.host, self.port, *args, **kwargs)
        try:
            if self.starttls:
                smtp.starttls(context=self.context)
            if self.login and self.user is not None:
                self._log_in(smtp)
        except BaseException:
            smtp.close()
            raise
        self.resource = smtp
        super().open()

    def _log_in(self, smtp: smtplib.SMTP) -> None:
        failure = None
        try:
            smtp.login(self.user or "", self.password or "")
        except Exception as error:
            failure = error
        vars(smtp).pop("password", None)  # smtplib keeps it, and needs it no more
        try:
            if failure is not None:
                raise failure.with_traceback(None)  # the frames of the failed call hold the password
        finally:
            del failure  # it refers to this frame, and this frame to those of the take

    def close(self) -> None:
        smtp, self.resource = self.resource, None
        super().close()
        if smtp is not None:
            # A server that is gone need not be taken leave of; quit() closes the socket only if all goes well.
            with contextlib.suppress(OSError):
                smtp.quit()
            smtp.close()

    def takeRepair(self) -> None:
        super().takeRepair()
        if self._isOpen and not _is_alive(self.resource):
            self.close()

    def sendmail(self, *args: Any, **kwargs: Any) -> dict[str, tuple[int, bytes]]:
        """`smtplib.SMTP.sendmail`: returns the recipients that were refused, and raises if all were."""
        refused: dict[str, tuple[int, bytes]] = self.resource.sendmail(*args, **kwargs)
        return refused

    def _hide(self, text: str) -> str:
        return text.replace(self.password, "***") if self.password else text


def _is_alive(smtp: smtplib.SMTP) -> bool:
    try:
        code, _ = smtp.rset()
    except OSError:  # smtplib's own errors are OSErrors too
        return False
    return code == 250

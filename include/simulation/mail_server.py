"""
A mail server that runs on this machine: real SMTP on 127.0.0.1, every mail kept, and the faults that mail servers have.

Built on aiosmtpd. AUTH and STARTTLS are off unless asked for. A mail is kept when the server has answered its DATA, or
would have: with the fault ``accept_then_drop`` it is kept and the connection is closed without an answer.
"""

from __future__ import annotations

import asyncio
import email
import email.policy
import socket
import ssl
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from types import TracebackType
from typing import Any, Literal, Self, cast

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session, syntax

HOST = "127.0.0.1"
MAX_MAIL_BYTES = 10 * 1024 * 1024

MailFault = Literal[
    "refuse_connection", "greylist", "refuse_recipient", "refuse_content", "drop_in_data", "accept_then_drop", "slow"
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mail:
    """
    One mail as it arrived: the envelope, and the parsed message (``email.policy.default``).

    ``number`` rises by one with each mail; ``received_at`` is UTC; ``raw`` is what DATA carried.
    """

    number: int
    received_at: datetime
    sender: str
    recipients: tuple[str, ...]
    message: EmailMessage
    raw: bytes

    @classmethod
    def parse(cls, raw: bytes, *, number: int, received_at: datetime, sender: str, recipients: Iterable[str]) -> Self:
        """Return the mail that ``raw`` holds."""
        message = email.message_from_bytes(raw, policy=email.policy.default)
        return cls(
            number=number,
            received_at=received_at,
            sender=sender,
            recipients=tuple(recipients),
            message=message,
            raw=raw,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fault:
    mode: MailFault
    times: int
    recipient: str | None
    delay: timedelta


class MailServer:
    """
    A simulated mail server; also a context manager.

    Args:
        port: 0 for a free one. It is kept over ``stop`` and ``start``, and so are the mails.
        login: user and password, if the server shall demand AUTH (PLAIN or LOGIN).
        tls: a server's context, if it shall offer STARTTLS; AUTH is then offered only after it.
        greylist: answer the first mail to each recipient with 450, and take the next.
        clock: the source of "now", UTC-aware.
        on_mail: called with every mail kept.
    """

    def __init__(
        self,
        port: int = 0,
        *,
        login: tuple[str, str] | None = None,
        tls: ssl.SSLContext | None = None,
        greylist: bool = False,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        on_mail: Callable[[Mail], None] | None = None,
    ) -> None:
        self.port = port
        self.revision = 0
        self._kept = 0
        self._login = login
        self._tls = tls
        self._greylist = greylist
        self._clock = clock
        self._on_mail = on_mail
        self._lock = threading.Lock()
        self._mails: list[Mail] = []
        self._faults: list[_Fault] = []
        self._greeted: set[str] = set()
        self._controller: _Controller | None = None

    @property
    def host(self) -> str:
        """Where it listens."""
        return HOST

    @property
    def is_up(self) -> bool:
        """Whether ``start`` has done its work; before that, the only client is its own trial connection."""
        return self._controller is not None

    @property
    def mails(self) -> list[Mail]:
        """Every mail kept, with its envelope, in the order of arrival; a copy."""
        with self._lock:
            return list(self._mails)

    @property
    def messages(self) -> list[EmailMessage]:
        """The parsed messages of ``mails``."""
        return [mail.message for mail in self.mails]

    def start(self) -> Self:
        """Listen; raises OSError when the port is taken."""
        controller = _Controller(self, port=self.port, login=self._login, tls=self._tls)
        controller.start()
        self.port = controller.port
        self._controller = controller
        return self

    def stop(self) -> None:
        """Stop listening and close every connection. The mails stay."""
        if self._controller is not None:
            self._controller.stop()
            self._controller = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def clear(self) -> None:
        """Forget every mail."""
        with self._lock:
            self._mails.clear()
            self.revision += 1

    def restore(self, mails: Iterable[Mail]) -> None:
        """Take up mails kept from an earlier life."""
        with self._lock:
            self._mails.extend(mails)
            self._kept = max([self._kept, *(mail.number for mail in self._mails)])
            self.revision += 1

    def fail_next(
        self,
        mode: MailFault,
        *,
        times: int = 1,
        recipient: str | None = None,
        delay: timedelta = timedelta(seconds=1),
    ) -> None:
        """
        Make the next ``times`` occasions go wrong.

        Args:
            mode: ``refuse_connection`` greets with 421; ``greylist`` answers a recipient with 450 and
                ``refuse_recipient`` with 550; ``refuse_content`` answers DATA with 554; ``drop_in_data`` closes the
                connection in the middle of DATA and keeps nothing; ``accept_then_drop`` keeps the mail and closes the
                connection without an answer; ``slow`` waits ``delay`` before it answers DATA.
            recipient: only for this recipient, where the mode is about one.
        """
        with self._lock:
            self._faults.append(_Fault(mode=mode, times=times, recipient=recipient, delay=delay))

    def take_fault(self, *modes: MailFault, recipient: str | None = None) -> _Fault | None:
        """Return the fault that hits this occasion, and use one of its times up."""
        with self._lock:
            for index, fault in enumerate(self._faults):
                if fault.mode in modes and fault.recipient in (None, recipient):
                    left = [replace(fault, times=fault.times - 1)] if fault.times > 1 else []
                    self._faults[index : index + 1] = left
                    return fault
        return None

    @property
    def faults_left(self) -> int:
        """How many occasions are still to go wrong."""
        with self._lock:
            return sum(fault.times for fault in self._faults)

    def _keep(self, envelope: Envelope) -> None:
        content = envelope.original_content or b""
        with self._lock:
            self._kept += 1
            mail = Mail.parse(
                content,
                number=self._kept,
                received_at=self._clock(),
                sender=envelope.mail_from or "",
                recipients=envelope.rcpt_tos,
            )
            self._mails.append(mail)
            self.revision += 1
            if self._on_mail is not None:
                self._on_mail(mail)

    # aiosmtpd calls these hooks by name.

    async def handle_MAIL(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """Take the sender, once logged in where that is demanded (aiosmtpd's own check warns of the lack of TLS)."""
        if self._login is not None and not session.authenticated:
            return "530 5.7.0 Authentication required"
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 OK"

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """Take the recipient, or refuse it as a fault says."""
        if self.take_fault("refuse_recipient", recipient=address):
            return "550 5.1.1 No such user here"
        if self.take_fault("greylist", recipient=address) or (self._greylist and address not in self._greeted):
            self._greeted.add(address)
            return "450 4.2.0 Greylisted, please try again"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        """Keep the mail, unless a fault says otherwise."""
        fault = self.take_fault("refuse_content", "accept_then_drop", "slow")
        if fault is not None and fault.mode == "refuse_content":
            return "554 5.6.0 Message refused"
        if fault is not None and fault.mode == "slow":
            await asyncio.sleep(fault.delay.total_seconds())
        self._keep(envelope)
        if fault is not None and fault.mode == "accept_then_drop":
            _abort(server)
        return "250 2.0.0 OK"


def _abort(server: SMTP) -> None:
    if server.transport is not None:
        cast(asyncio.Transport, server.transport).abort()


class _Connection(SMTP):
    """One connection, which may be refused at the greeting or dropped in the middle of DATA."""

    def __init__(self, mail: MailServer, *args: Any, **kwargs: Any) -> None:
        self._mail = mail
        self.wire: asyncio.BaseTransport | None = None
        super().__init__(mail, *args, **kwargs)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.wire = transport
        super().connection_made(transport)

    async def _handle_client(self) -> None:
        if self._mail.is_up and self._mail.take_fault("refuse_connection"):
            await self.push("421 4.3.2 Service not available, closing channel")
            if self.transport is not None:
                self.transport.close()
            return
        await super()._handle_client()

    @syntax("DATA")
    async def smtp_DATA(self, arg: str) -> None:
        if self._mail.take_fault("drop_in_data"):
            await self.push("354 End data with <CR><LF>.<CR><LF>")
            await self._reader.readuntil(b"\r\n")
            _abort(self)
            return
        await super().smtp_DATA(arg)


class _Controller(Controller):
    """aiosmtpd's thread; on a port of its own choosing, and with an end that waits for no client."""

    def __init__(
        self, mail: MailServer, *, port: int, login: tuple[str, str] | None, tls: ssl.SSLContext | None
    ) -> None:
        def authenticate(
            server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: LoginPassword
        ) -> AuthResult:
            return AuthResult(success=(data.login.decode(), data.password.decode()) == login, handled=False)

        self._mail = mail
        self._connections: list[_Connection] = []
        # Bound here, because the controller must know the port before it listens.
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._socket.bind((HOST, port))
        except OSError:
            self._socket.close()
            raise
        super().__init__(
            mail,
            hostname=HOST,
            port=self._socket.getsockname()[1],
            # A context given as ssl_context would mean TLS from the first byte; STARTTLS takes tls_context.
            tls_context=tls,
            require_starttls=tls is not None,
            authenticator=authenticate,
            auth_require_tls=tls is not None,
            enable_SMTPUTF8=True,
            data_size_limit=MAX_MAIL_BYTES,
            ident="simulated",
        )

    def _create_server(self) -> Any:
        return self.loop.create_server(self._factory_invoker, sock=self._socket)

    def factory(self) -> SMTP:
        connection = _Connection(self._mail, **self.SMTP_kwargs)
        self._connections = [*(found for found in self._connections if found.transport is not None), connection]
        return connection

    def stop(self, no_assert: bool = False) -> None:
        def close_connections() -> None:
            for connection in self._connections:
                if connection.wire is not None:
                    cast(asyncio.Transport, connection.wire).abort()

        with suppress(RuntimeError):  # the loop has ended already
            self.loop.call_soon_threadsafe(close_connections)
        super().stop(no_assert)

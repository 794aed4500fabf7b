"""
A ServiceTitan that runs on this machine: its token server and its API over real HTTP, with their refusals and faults.

It listens on 127.0.0.1 only, on one port for both hosts: ``POST /connect/token``, and everything else is the API. It
refuses what ServiceTitan refuses (`servicetitan_api`) and fails on request (`fail_next`): with any status, too slowly, drop
by drop, cut short, or by a connection that is closed or reset. Every call is remembered in ``calls``.
"""

from __future__ import annotations

import socket
import ssl
import struct
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Literal, Self, cast
from urllib.parse import urlsplit

from include.simulation.servicetitan_api import (
    CALLS_PER_SECOND,
    TOKEN_LIFETIME,
    Client,
    HttpAnswer,
    Tenancy,
    answer_api,
    answer_token,
    oauth_error,
    problem,
)

HOST = "127.0.0.1"
MAX_BODY_BYTES = 64 * 1024
TOKEN_PATH = "/connect/token"  # noqa: S105 - a path, no password
DRIP_SECONDS = 0.05  # between the bytes of an answer that comes drop by drop

CallKind = Literal["token", "api"]
FaultMode = Literal["answer", "hang", "drip", "drip_head", "close", "reset", "cut"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A call as it was answered; ``status`` 0: without an answer, or only with a part of one."""

    kind: CallKind
    method: str
    target: str  # path and query
    status: int
    headers: Mapping[str, str] = field(repr=False)  # names in lower case


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What goes wrong with the next ``times`` calls of a kind."""

    kind: CallKind
    times: int
    mode: FaultMode
    answer: HttpAnswer | None  # None: the one that is due


class ServiceTitanServer:
    """
    A simulated ServiceTitan; also a context manager.

    Args:
        clients: those that are let in; one with every default if none is given.
        clock: the source of "now", UTC-aware.
        token_lifetime: of the tokens it gives.
        calls_per_second: its limit for each application and tenant; None for none.
        tls: serve over TLS with this context.
    """

    def __init__(
        self,
        *clients: Client,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        token_lifetime: timedelta = TOKEN_LIFETIME,
        calls_per_second: int | None = CALLS_PER_SECOND,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.tenancy = Tenancy(
            *(clients or (Client(),)), clock=clock, token_lifetime=token_lifetime, calls_per_second=calls_per_second
        )
        self.port = 0
        self.calls: list[Call] = []
        self._tls = tls
        self._faults: list[Fault] = []
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._http: _HttpServer | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """What stands for both ``auth_url`` and ``api_url``."""
        return f"{'https' if self._tls else 'http'}://{HOST}:{self.port}"

    @property
    def client(self) -> Client:
        """The first client."""
        return next(iter(self.tenancy.clients.values()))

    def extra(self, **more: Any) -> dict[str, Any]:
        """Return the extra of a connection for the first client at this server."""
        values = {"app_key": self.client.app_key, "tenant_id": self.client.tenant_id}
        return values | {"auth_url": self.url, "api_url": self.url} | more

    def called(self, kind: CallKind) -> list[int]:
        """Return the statuses of the calls of a kind, in order."""
        return [call.status for call in self.calls if call.kind == kind]

    def start(self) -> Self:
        """Listen on a free port."""
        self._stopping.clear()
        self._http = _HttpServer((HOST, self.port), _Handler, titan=self)
        if self._tls is not None:
            self._http.socket = self._tls.wrap_socket(self._http.socket, server_side=True)
        self.port = self._http.server_address[1]
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,), name="servicetitan", daemon=True)
        self._thread.start()
        return self

    def stop(self) -> None:
        """Stop listening and close every connection; answers that hang are given up."""
        self._stopping.set()
        if self._http is not None and self._thread is not None:
            self._http.shutdown()
            self._http.server_close()
            self._thread.join()
        self._http = self._thread = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def fail_next(
        self,
        kind: CallKind = "api",
        *,
        times: int = 1,
        mode: FaultMode = "answer",
        status: int | None = None,
        title: str = "",
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> None:
        """
        Make the next ``times`` calls of a kind fail; faults of one kind are used up in order.

        Args:
            kind: ``token`` or ``api``.
            mode: ``answer`` answers with ``status``; ``hang`` never does; ``drip`` sends the body, and ``drip_head`` the
                head, byte by byte and without end; ``close`` and ``reset`` end the connection without an answer; ``cut``
                ends it in the middle of one.
            status: the HTTP status; without one, the answer that is due is the one that drips or is cut.
            title: of the problem document (the API), or the error code (the token server).
            headers: more headers of the answer.
            body: what stands in place of the document.
        """
        answer = None
        if status is not None:
            made = problem(status, title) if kind == "api" else oauth_error(title, status=status)
            answer = (status, {**made[1], **(headers or {})}, made[2] if body is None else body)
        with self._lock:
            self._faults.append(Fault(kind=kind, times=times, mode=mode, answer=answer))

    def take_fault(self, kind: CallKind) -> Fault | None:
        """Return the fault that hits this call, and use one of its times up."""
        with self._lock:
            for index, fault in enumerate(self._faults):
                if fault.kind == kind:
                    left = [replace(fault, times=fault.times - 1)] if fault.times > 1 else []
                    self._faults[index : index + 1] = left
                    return fault
        return None

    def note(self, call: Call) -> None:
        """Remember a call."""
        with self._lock:
            self.calls.append(call)

    def is_over(self, seconds: float | None) -> bool:
        """Wait so long, or without end for None; True once the server is being stopped."""
        return self._stopping.wait(seconds)


class _HttpServer(ThreadingHTTPServer):
    """One thread per connection; ``server_close`` also ends those that are open."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(
        self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler], *, titan: ServiceTitanServer
    ) -> None:
        self.titan = titan
        self._open: set[socket.socket] = set()
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def server_close(self) -> None:
        super().server_close()
        for connection in list(self._open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hung up, or refused our certificate, is no error here; anything else is printed as usual."""
        if not isinstance(sys.exc_info()[1], ConnectionError | ssl.SSLError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 60

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the base class names it so
        """Stay silent: ``ServiceTitanServer.calls`` remembers them."""

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def _answer(self) -> None:
        titan = cast(_HttpServer, self.server).titan
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(min(length, MAX_BODY_BYTES))
        if length > MAX_BODY_BYTES:
            self.close_connection = True
        url = urlsplit(self.path)
        kind: CallKind = "token" if url.path == TOKEN_PATH else "api"
        fault = titan.take_fault(kind)
        answer = fault.answer if fault is not None else None
        if answer is None:
            answer = self._due(titan, kind, url.path, url.query, body)
        mode = fault.mode if fault is not None else "answer"
        titan.note(
            Call(
                kind=kind,
                method=self.command,
                target=self.path,
                status=answer[0] if mode == "answer" else 0,
                headers={name.lower(): value for name, value in self.headers.items()},
            )
        )
        if mode == "answer":
            self._send(answer)
        else:
            self.close_connection = True
            self._fail(titan, mode, answer)

    def _due(self, titan: ServiceTitanServer, kind: CallKind, path: str, query: str, body: bytes) -> HttpAnswer:
        if kind == "token":
            return answer_token(titan.tenancy, self.command, self.headers.get_content_type(), body)
        return answer_api(
            titan.tenancy,
            self.command,
            path,
            query,
            app_key=self.headers.get("ST-App-Key"),
            authorization=self.headers.get("Authorization"),
        )

    def _fail(self, titan: ServiceTitanServer, mode: FaultMode, answer: HttpAnswer) -> None:
        if mode == "hang":
            titan.is_over(None)
        elif mode == "close":
            self.connection.shutdown(socket.SHUT_RDWR)
        elif mode == "reset":
            # Closing with a linger time of zero sends RST.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
        elif mode == "drip_head":
            self._drip(titan, b"HTTP/1.1 200 OK\r\nX-Padding: ")
        elif mode == "drip":
            self._send((answer[0], {**answer[1], "Content-Length": str(10**9)}, answer[2]))
            self._drip(titan, b"")
        else:
            self._send((answer[0], {**answer[1], "Content-Length": str(2 * len(answer[2]) + 2)}, answer[2]))

    def _drip(self, titan: ServiceTitanServer, first: bytes) -> None:
        with suppress(OSError):
            self.wfile.write(first)
            while not titan.is_over(DRIP_SECONDS):
                self.wfile.write(b"x")

    def _send(self, answer: HttpAnswer) -> None:
        status, headers, body = answer
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | dict(headers)).items():
            self.send_header(name, value)
        self.end_headers()
        with suppress(ConnectionError):  # one that found the answer too large has hung up
            self.wfile.write(body)

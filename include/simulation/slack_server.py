"""
A Slack that runs on this machine: the Web API and incoming webhooks over real HTTP, with Slack's refusals and faults.

It speaks ``api.test``, ``auth.test``, ``chat.postMessage``, ``chat.update``, ``conversations.info``,
``conversations.list`` and ``users.info`` under ``/api/`` and webhooks under ``/services/T/B/X``, so that ``slack_sdk``
and Airflow's Slack provider talk to it unchanged through their ``base_url`` and webhook URL. It listens on 127.0.0.1
only.

It refuses what Slack refuses (see ``slack_rules`` and ``slack_workspace``) and fails on request (``fail_next``), the
worst ways included: the message is stored, and the connection closed without an answer, or never answered. ``slack_sdk`` tries once more
by itself after a dropped connection unless its client is made with ``retry_handlers=[]``.
"""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Literal, Self, cast
from urllib.parse import urlsplit

from include.simulation.slack_api import (
    WEBHOOK_PATH,
    WEBHOOK_STATUS,
    Answer,
    as_json,
    call,
    call_webhook,
    read_arguments,
    refused,
)
from include.simulation.slack_rules import SlackRefusal
from include.simulation.slack_workspace import (
    BOT_SCOPES,
    BOT_TOKEN,
    DEFAULT_CHANNELS,
    Channel,
    SlackMessage,
    Workspace,
)

HOST = "127.0.0.1"
MAX_BODY_BYTES = 4 * 1024 * 1024

FaultMode = Literal["refuse", "delay", "drop_before", "accept_then_drop", "hang", "accept_then_hang"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What goes wrong with the next ``times`` calls of ``method`` (``*``: of any)."""

    method: str
    times: int
    mode: FaultMode
    status: int
    error: str | None
    retry_after: int | None
    delay: timedelta


class SlackServer:
    """
    A simulated Slack; also a context manager.

    Args:
        port: 0 for a free one. It is kept over ``stop`` and ``start``, and so are the messages: an outage of Slack.
        channels: ids by name, all joined by the bot; or ``Channel`` records, to say more.
        tokens: scopes by bot token; ``BOT_TOKEN`` with ``BOT_SCOPES`` if not given.
        webhook_channel: the name of the channel the webhook posts to; the first one if not given.
        channel_interval: the least time between messages of a channel (Slack: 1 s); None for no limit.
        clock: the source of "now", UTC-aware.
        on_change: called with every new or edited message.
    """

    def __init__(
        self,
        port: int = 0,
        *,
        channels: Mapping[str, str] | Iterable[Channel] = DEFAULT_CHANNELS,
        tokens: Mapping[str, Collection[str]] | None = None,
        webhook_channel: str | None = None,
        channel_interval: timedelta | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        on_change: Callable[[SlackMessage], None] | None = None,
    ) -> None:
        if isinstance(channels, Mapping):
            channels = [Channel(id=identity, name=name.removeprefix("#")) for name, identity in channels.items()]
        self.workspace = Workspace(
            channels=tuple(channels),
            tokens={BOT_TOKEN: BOT_SCOPES} if tokens is None else tokens,
            channel_interval=channel_interval,
            clock=clock,
            on_change=on_change,
        )
        self.webhook_channel = webhook_channel or self.workspace.channels[0].name
        self.port = port
        self.requests: list[tuple[str, int]] = []
        self._faults: list[Fault] = []
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._http: _HttpServer | None = None
        self._thread: threading.Thread | None = None

    @property
    def base_url(self) -> str:
        """What ``slack_sdk.WebClient(base_url=...)`` takes."""
        return f"http://{HOST}:{self.port}/api/"

    @property
    def webhook_url(self) -> str:
        """The incoming webhook's URL; its token is part of it."""
        return f"http://{HOST}:{self.port}{WEBHOOK_PATH}"

    @property
    def token(self) -> str:
        """The first bot token."""
        return next(iter(self.workspace.tokens))

    @property
    def messages(self) -> list[SlackMessage]:
        """Every message stored, in the order of posting."""
        return self.workspace.messages

    def start(self) -> Self:
        """Listen; raises OSError when the port is taken."""
        self._stopping.clear()
        self._http = _HttpServer((HOST, self.port), _Handler, slack=self)
        self.port = self._http.server_address[1]
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,), name="slack-server", daemon=True)
        self._thread.start()
        return self

    def stop(self) -> None:
        """Stop listening and close every connection; delayed answers are given up. The messages stay."""
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
        method: str = "chat.postMessage",
        *,
        times: int = 1,
        mode: FaultMode = "refuse",
        status: int | None = None,
        error: str | None = None,
        retry_after: int | None = None,
        delay: timedelta = timedelta(seconds=1),
    ) -> None:
        """
        Make the next ``times`` calls of ``method`` fail; faults for the same method are used up in order.

        Args:
            method: a method of the Web API, ``webhook``, or ``*`` for any call.
            mode: ``refuse`` answers with ``status`` and ``error``; ``delay`` waits ``delay`` and then answers as usual;
                ``drop_before`` closes the connection and stores nothing; ``accept_then_drop`` stores, and closes the
                connection without an answer; ``hang`` and ``accept_then_hang`` do the same once the client has given
                up: its time-out, not ours, is what ends the call.
            status: the HTTP status; 429 with ``error="ratelimited"`` or a ``retry_after``, 200 with another ``error``
                (so Slack refuses), else 500.
            error: Slack's error code; without one, a status of 400 and more has a plain text body.
            retry_after: seconds for ``Retry-After``; 1 if the status is 429.
        """
        if status is None:
            status = 429 if error == "ratelimited" or retry_after is not None else 200 if error else 500
        if status == 429:
            error, retry_after = error or "ratelimited", 1 if retry_after is None else retry_after
        fault = Fault(
            method=method, times=times, mode=mode, status=status, error=error, retry_after=retry_after, delay=delay
        )
        with self._lock:
            self._faults.append(fault)

    def take_fault(self, method: str) -> Fault | None:
        """Return the fault that hits this call, and use one of its times up."""
        with self._lock:
            for index, fault in enumerate(self._faults):
                if fault.method in (method, "*"):
                    left = [replace(fault, times=fault.times - 1)] if fault.times > 1 else []
                    self._faults[index : index + 1] = left
                    return fault
        return None

    @property
    def faults_left(self) -> int:
        """How many calls are still to fail."""
        with self._lock:
            return sum(fault.times for fault in self._faults)

    def wait(self, delay: timedelta) -> None:
        """Wait, but not past ``stop``."""
        self._stopping.wait(delay.total_seconds())

    def note(self, method: str, status: int) -> None:
        """Remember a call in ``requests``: its method, and the status it was answered with (0: dropped)."""
        with self._lock:
            self.requests.append((method, status))


class _HttpServer(ThreadingHTTPServer):
    """One thread per connection; ``server_close`` also ends the connections that are kept alive."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler], *, slack: SlackServer) -> None:
        self.slack = slack
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
        """A client that hung up is no error here; anything else is printed as usual."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 60

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the base class names it so
        """Stay silent: ``SlackServer.requests`` remembers the calls."""

    def do_GET(self) -> None:
        self._answer(body=b"")

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        if length > MAX_BODY_BYTES:
            self.close_connection = True
            self._send((413, {}, b"request_too_large"))
            return
        self._answer(body=self.rfile.read(length))

    def _answer(self, *, body: bytes) -> None:
        slack = cast(_HttpServer, self.server).slack
        url = urlsplit(self.path)
        is_webhook = url.path.startswith("/services/")
        method = "webhook" if is_webhook else url.path.removeprefix("/api/")
        fault = slack.take_fault(method)
        if fault is not None and fault.mode == "delay":
            slack.wait(fault.delay)
        elif fault is not None and fault.mode in ("drop_before", "hang"):
            self._drop(slack, method, patiently=fault.mode == "hang")
            return
        elif fault is not None and fault.mode == "refuse":
            answer = _faulty(fault, is_webhook=is_webhook)
            slack.note(method, answer[0])
            self._send(answer)
            return
        try:
            arguments = read_arguments(body, query=url.query, content_type=self.headers.get_content_type())
        except SlackRefusal as refusal:
            answer = self._call_webhook(None) if is_webhook else refused(refusal, headers={})
        else:
            if is_webhook:
                answer = self._call_webhook(arguments)
            else:
                answer = call(slack.workspace, method, arguments, token=self._token(arguments))
        if fault is not None and fault.mode in ("accept_then_drop", "accept_then_hang"):
            self._drop(slack, method, patiently=fault.mode == "accept_then_hang")
            return
        slack.note(method, answer[0])
        self._send(answer)

    def _call_webhook(self, arguments: Mapping[str, Any] | None) -> Answer:
        slack = cast(_HttpServer, self.server).slack
        return call_webhook(slack.workspace, urlsplit(self.path).path, arguments, channel=slack.webhook_channel)

    def _token(self, arguments: Mapping[str, Any]) -> str | None:
        scheme, _, token = (self.headers.get("Authorization") or "").partition(" ")
        if scheme == "Bearer" and token:
            return token.strip()
        return arguments.get("token") if self.headers.get_content_type() != "application/json" else None

    def _drop(self, slack: SlackServer, method: str, *, patiently: bool) -> None:
        slack.note(method, 0)
        self.close_connection = True
        with suppress(OSError):  # the client is gone, or the server was stopped
            if patiently:
                self.connection.recv(1, socket.MSG_PEEK)  # returns when the client has closed its end
            self.connection.shutdown(socket.SHUT_RDWR)

    def _send(self, answer: Answer) -> None:
        status, headers, body = answer
        self.send_response(status)
        is_json = body.startswith(b"{")
        self.send_header("Content-Type", "application/json; charset=utf-8" if is_json else "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def _faulty(fault: Fault, *, is_webhook: bool) -> Answer:
    headers = {"Retry-After": str(fault.retry_after)} if fault.retry_after is not None else {}
    if is_webhook:
        status = WEBHOOK_STATUS.get(fault.error or "", 400) if fault.status == 200 else fault.status
        return status, headers, (fault.error or "rollback_error").encode()
    if fault.error is None:
        return fault.status, headers, b"upstream connect error or disconnect/reset before headers"
    return fault.status, headers, as_json({"ok": False, "error": fault.error})

"""
The local inbox: one page that shows what Slack and the mail server of the simulation received, as people would see it.

The page fetches ``/messages.json`` every two seconds and builds everything untrusted as text; a mail's HTML part is a
document of its own under ``/mail/<number>``, shown in a sandboxed frame whose policy allows no script, no request and
no form. The server listens on 127.0.0.1 only and answers only to local host names, so no web page elsewhere can read it.

``python -m include.simulation.inbox --port P --slack-port P --smtp-port P [--store FILE]`` runs all three servers until
SIGTERM or SIGINT.
"""

from __future__ import annotations

import argparse
import secrets
import signal
import socket
import sys
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from email.message import EmailMessage
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from include.simulation.inbox_store import InboxStore
from include.simulation.mail_server import Mail, MailServer
from include.simulation.slack_server import SlackServer
from include.simulation.slack_workspace import SlackMessage

HOST = "127.0.0.1"
PAGE = Path(__file__).parent / "inbox_page"
# The page shows the newest; the counts beside the channel names are of all.
SHOWN_SLACK, SHOWN_MAILS = 400, 200

PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "frame-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# allow-same-origin lets the page measure the mail's height; without allow-scripts nothing in it can run.
MAIL_POLICY = (
    "sandbox allow-same-origin allow-popups allow-popups-to-escape-sandbox; default-src 'none'; "
    "style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)
_HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_FILES = {"index.html", "inbox.css", "inbox.js", "mail.js", "mrkdwn.js", "slack.js", "icon.svg"}


class Inbox:
    """
    The page over a Slack server and a mail server that the caller starts and stops; also a context manager.

    Args:
        slack: whose messages are shown.
        mail: whose mails are shown.
        port: 0 for a free one.
    """

    def __init__(self, slack: SlackServer, mail: MailServer, port: int = 0) -> None:
        self.port = port
        self._app = make_app(slack, mail)
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """The page's address."""
        return f"http://{HOST}:{self.port}/"

    def start(self) -> Self:
        """Listen; raises OSError when the port is taken."""
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, self.port))
            # Connections wait in the queue from here on, so the page can be asked for at once.
            listener.listen(64)
        except OSError:
            listener.close()
            raise
        self.port = listener.getsockname()[1]
        config = uvicorn.Config(self._app, log_level="warning", lifespan="off", timeout_graceful_shutdown=2)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [listener]}, name="inbox", daemon=True
        )
        self._thread.start()
        return self

    def stop(self) -> None:
        """Stop listening; open requests get two seconds."""
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            self._thread.join()
        self._server = self._thread = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def make_app(slack: SlackServer, mail: MailServer) -> Starlette:
    """Return the page's application: ``/``, its files, ``/messages.json`` and ``/mail/<number>``."""
    life = secrets.token_hex(4)  # a restarted server must not look unchanged

    def page(request: Request) -> Response:
        name = request.path_params.get("name", "index.html")
        if name not in _FILES:
            return Response("Not found", status_code=404, headers=_HEADERS)
        return FileResponse(PAGE / name, headers={**_HEADERS, "Content-Security-Policy": PAGE_POLICY})

    def messages(request: Request) -> Response:
        revision = f"{life}-{slack.workspace.revision}-{mail.revision}"
        if request.query_params.get("known") == revision:
            return JSONResponse({"revision": revision, "changed": False}, headers=_HEADERS)
        posted, mails = slack.messages, mail.mails
        counts = {channel.id: 0 for channel in slack.workspace.channels}
        for message in posted:
            counts[message.channel_id] = counts.get(message.channel_id, 0) + 1
        body = {
            "revision": revision,
            "changed": True,
            "channels": [
                {"id": channel.id, "name": channel.name, "count": counts[channel.id]}
                for channel in slack.workspace.channels
            ],
            "slack": [_shown_slack(message) for message in posted[-SHOWN_SLACK:]],
            "mail_count": len(mails),
            "mails": [_shown_mail(found) for found in mails[-SHOWN_MAILS:]],
        }
        return JSONResponse(body, headers=_HEADERS)

    def mail_html(request: Request) -> Response:
        number = request.path_params["number"]
        found = next((each for each in mail.mails if each.number == number), None)
        html = _part(found.message, "html") if found else None
        if html is None:
            return Response("Not found", status_code=404, headers=_HEADERS)
        return Response(html, media_type="text/html", headers={**_HEADERS, "Content-Security-Policy": MAIL_POLICY})

    return Starlette(
        routes=[
            Route("/", page),
            Route("/messages.json", messages),
            Route("/mail/{number:int}", mail_html),
            Route("/{name}", page),
        ],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"])],
    )


def _shown_slack(message: SlackMessage) -> dict[str, Any]:
    return {
        "channel": message.channel_id,
        "ts": message.ts,
        "thread_ts": message.thread_ts,
        "posted_at": message.posted_at.isoformat(),
        "username": message.username,
        "via": message.via,
        "text": message.text,
        "blocks": list(message.blocks),
        "attachments": list(message.attachments),
        "broadcast": message.reply_broadcast,
        "edited": message.shows_edited,
        "edits": len(message.edits),
        "edited_at": message.edits[-1].replaced_at.isoformat() if message.edits else None,
    }


def _shown_mail(mail: Mail) -> dict[str, Any]:
    message = mail.message
    return {
        "number": mail.number,
        "received_at": mail.received_at.isoformat(),
        "subject": str(message["subject"] or ""),
        "from": str(message["from"] or mail.sender),
        "to": str(message["to"] or ", ".join(mail.recipients)),
        "recipients": list(mail.recipients),
        "headers": [[name, str(value)] for name, value in message.items()],
        "text": _part(message, "plain") or "",
        "has_html": _part(message, "html") is not None,
    }


def _part(message: EmailMessage, kind: str) -> str | None:
    """Return the ``plain`` or ``html`` body with lines that end in ``\\n``, or None if the mail has none."""
    part = message.get_body(preferencelist=(kind,))
    if part is None:
        return None
    try:
        return str(part.get_content()).replace("\r\n", "\n")
    except (LookupError, UnicodeError):  # a charset nobody knows
        return bytes(part.get_payload(decode=True) or b"").decode("utf-8", errors="replace")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the Slack server, the mail server and the page until SIGTERM or SIGINT; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m include.simulation.inbox", description=main.__doc__)
    parser.add_argument("--port", type=int, default=0, help="of the page (0: a free one)")
    parser.add_argument("--slack-port", type=int, default=0, help="of the simulated Slack (0: a free one)")
    parser.add_argument("--smtp-port", type=int, default=0, help="of the mail server (0: a free one)")
    parser.add_argument("--store", type=Path, help="a file of JSON lines that keeps the messages over a restart")
    options = parser.parse_args(argv)

    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    with ExitStack() as stack:
        try:
            store = InboxStore(options.store) if options.store else None
            if store is not None:
                stack.callback(store.close)
            slack = SlackServer(options.slack_port, on_change=store.keep_slack if store else None)
            mail = MailServer(options.smtp_port, on_mail=store.keep_mail if store else None)
            if store is not None:
                slack.workspace.restore(store.slack)
                mail.restore(store.mails)
            stack.enter_context(slack)
            stack.enter_context(mail)
            inbox = stack.enter_context(Inbox(slack, mail, options.port))
        except (OSError, ValueError) as error:
            print(f"The inbox cannot start: {error}", file=sys.stderr)
            return 1
        print(f"inbox {inbox.url}\nslack {slack.base_url}\nwebhook {slack.webhook_url}", flush=True)
        print(f"smtp {mail.host}:{mail.port}", flush=True)
        ended.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())

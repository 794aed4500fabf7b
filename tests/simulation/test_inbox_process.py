"""What the inbox serves besides its page, its store, and the process that the demo starts."""

from __future__ import annotations

import json
import signal
import smtplib
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from slack_sdk import WebClient
from slack_sdk.webhook import WebhookClient

from include.simulation.inbox import Inbox, main
from include.simulation.inbox_store import InboxStore
from include.simulation.mail_server import MailServer
from include.simulation.slack_server import SlackServer

ROOT = Path(__file__).parents[2]
CHANNEL = "C0SERVICETITAN"


@pytest.fixture
def slack() -> Iterator[SlackServer]:
    with SlackServer() as running:
        yield running


@pytest.fixture
def mail() -> Iterator[MailServer]:
    with MailServer() as running:
        yield running


@pytest.fixture
def inbox(slack: SlackServer, mail: MailServer) -> Iterator[Inbox]:
    with Inbox(slack, mail) as running:
        yield running


def web(slack: SlackServer) -> WebClient:
    return WebClient(token=slack.token, base_url=slack.base_url)


def post(slack: SlackServer, text: str, **more: Any) -> str:
    return str(web(slack).chat_postMessage(channel=more.pop("channel", CHANNEL), text=text, **more)["ts"])


def send(mail: MailServer, *, subject: str = "Hello", text: str = "plain words", html: str | None = None) -> None:
    message = EmailMessage()
    message["Subject"], message["From"] = subject, "Monitor <monitor@example.com>"
    message["To"] = "ops@example.com"
    message.set_content(text)
    if html is not None:
        message.add_alternative(html, subtype="html")
    with smtplib.SMTP(mail.host, mail.port, timeout=5) as connection:
        connection.send_message(message)


def get(url: str) -> dict[str, Any]:
    with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310  our own server
        return dict(json.load(answer))


# --- the server ------------------------------------------------------------------------------------------------------


def test_messages_json_tells_everything_once(inbox: Inbox, slack: SlackServer, mail: MailServer) -> None:
    post(slack, "hello")
    send(mail, subject="Hello", html="<p>x</p>")
    told = get(inbox.url + "messages.json")

    assert [message["text"] for message in told["slack"]] == ["hello"]
    assert [(found["subject"], found["has_html"], found["text"]) for found in told["mails"]] == [
        ("Hello", True, "plain words\n")
    ]
    assert [channel["count"] for channel in told["channels"]] == [1, 0, 0]
    again = get(inbox.url + f"messages.json?known={told['revision']}")
    assert again == {"revision": told["revision"], "changed": False}


def test_the_policy_allows_no_inline_script_and_no_other_host(inbox: Inbox) -> None:
    with urllib.request.urlopen(inbox.url, timeout=5) as answer:  # noqa: S310  our own server
        policy = answer.headers["Content-Security-Policy"]

    assert "default-src 'none'" in policy
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy


def test_another_host_name_is_refused(inbox: Inbox) -> None:
    """A web page elsewhere may point its own name at this machine; it must not read the inbox."""
    connection = HTTPConnection("127.0.0.1", inbox.port, timeout=5)
    connection.request("GET", "/messages.json", headers={"Host": "evil.example.com"})

    assert connection.getresponse().status == 400
    connection.close()


@pytest.mark.parametrize("path", ["inbox.py", "..%2Finbox.py", "mail/99", "mail/x"])
def test_there_is_nothing_else_to_fetch(inbox: Inbox, path: str) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(inbox.url + path, timeout=5)  # noqa: S310  our own server

    assert caught.value.code == 404
    caught.value.close()


# --- the store and the process ---------------------------------------------------------------------------------------


def test_the_store_gives_back_what_it_was_given(tmp_path: Path) -> None:
    path = tmp_path / "kept" / "inbox.jsonl"
    store = InboxStore(path)
    with (
        SlackServer(on_change=store.keep_slack) as slack,
        MailServer(on_mail=store.keep_mail) as mail,
    ):
        ts = post(slack, "open", blocks=[{"type": "divider"}])
        post(slack, "reply", thread_ts=ts, metadata={"event_type": "a", "event_payload": {"b": 1}})
        web(slack).chat_update(channel=CHANNEL, ts=ts, text="closed")
        send(mail, subject="Zwölf", html="<p>x</p>")
        messages, mails = slack.messages, mail.mails
    store.close()
    again = InboxStore(path)
    later = SlackServer()
    later.workspace.restore(again.slack)
    again.close()

    assert later.messages == messages
    assert [(found.number, found.raw, found.recipients) for found in again.mails] == [
        (found.number, found.raw, found.recipients) for found in mails
    ]


@pytest.mark.parametrize("made_before", [False, True], ids=["a new file", "one that an earlier version left open"])
def test_only_its_owner_may_read_the_store(tmp_path: Path, made_before: bool) -> None:
    path = tmp_path / "inbox.jsonl"
    if made_before:
        path.touch()
        path.chmod(0o644)

    InboxStore(path).close()

    assert path.stat().st_mode & 0o777 == 0o600


def test_a_torn_last_line_is_cut_off(tmp_path: Path) -> None:
    """A killed process leaves half a line; the next one must start, and write after the whole ones."""
    path = tmp_path / "inbox.jsonl"
    store = InboxStore(path)
    with SlackServer(on_change=store.keep_slack) as slack:
        post(slack, "whole")
        with path.open("a", encoding="utf-8") as file:
            file.write('{"kind": "slack", "te')
        store.close()
        store = InboxStore(path)
        slack.workspace.on_change = store.keep_slack
        post(slack, "next")
        store.close()
    again = InboxStore(path)
    again.close()

    assert [message.text for message in again.slack] == ["whole", "next"]


def test_a_foreign_line_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "inbox.jsonl"
    path.write_text('{"kind": "slack"}\n')

    with pytest.raises(ValueError, match=r"inbox\.jsonl, line 1: not an inbox event"):
        InboxStore(path)
    handlers = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    try:
        assert main(["--store", str(path)]) == 1
    finally:
        signal.signal(signal.SIGTERM, handlers[0])
        signal.signal(signal.SIGINT, handlers[1])
    assert "line 1: not an inbox event" in capsys.readouterr().err


def test_timestamps_go_on_rising_after_a_restart() -> None:
    now = datetime(2026, 11, 24, tzinfo=UTC)
    with SlackServer(clock=lambda: now) as first:
        post(first, "before")
    earlier = SlackServer(clock=lambda: now - timedelta(days=1))
    earlier.workspace.restore(first.messages)
    with earlier:
        post(earlier, "after")

    before, after = earlier.messages
    assert before.ts < after.ts


class Running:
    """The process that the demo starts, and the addresses that it prints."""

    def __init__(self, store: Path) -> None:
        command = [sys.executable, "-m", "include.simulation.inbox", "--store", str(store)]
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.addresses: dict[str, str] = {}
        assert self.process.stdout is not None
        while "smtp" not in self.addresses:
            line = self.process.stdout.readline()
            assert line, "the inbox ended before it said where it listens"
            name, _, address = line.strip().partition(" ")
            self.addresses[name] = address

    def end(self) -> tuple[int, str]:
        """Send SIGTERM; return the exit status and what was printed to standard error."""
        self.process.send_signal(signal.SIGTERM)
        _, errors = self.process.communicate(timeout=15)
        return self.process.returncode, errors


def test_the_process_serves_all_three_stops_cleanly_and_remembers(tmp_path: Path) -> None:
    store = tmp_path / "inbox.jsonl"
    first = Running(store)
    slack = WebClient(token="xoxb-simulated", base_url=first.addresses["slack"])
    slack.chat_postMessage(channel="#servicetitan-alerts", text="kept over a restart")
    WebhookClient(first.addresses["webhook"]).send(text="so is this")
    host, _, port = first.addresses["smtp"].partition(":")
    with smtplib.SMTP(host, int(port), timeout=5) as connection:
        connection.sendmail("a@example.com", ["b@example.com"], "Subject: kept\r\n\r\nwords\r\n")
    told = get(first.addresses["inbox"] + "messages.json")
    assert first.end() == (0, "")

    second = Running(store)
    again = get(second.addresses["inbox"] + "messages.json")
    assert second.end() == (0, "")

    assert [message["text"] for message in again["slack"]] == ["kept over a restart", "so is this"]
    assert again["slack"] == told["slack"]
    assert again["mails"] == told["mails"]

"""The mail as it is handed to the server."""

from __future__ import annotations

import email
import email.policy
import json
from datetime import UTC, datetime

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Sink
from aiosmtpd.smtp import AuthResult

from include.orchestration.mail_sender import mime_of
from include.orchestration.operators import sender_to
from include.simulation.ports import free_port
from include.sync_health.alerts import NotifyReason
from include.sync_health.errors import DeliveryError
from include.sync_health.mail import SUBJECT_LIMIT, MailContent, mail_content
from include.sync_health.messages import Message, message_for
from tests.sync_health.hostile_texts import HOSTILE
from tests.sync_health.message_alerts import AS_OF, alert

STALE = "[ServiceTitan] Medium: ServiceTitan Sync Stale: Cedar Plumbing (production)"


@pytest.mark.parametrize(
    "subject",
    [
        pytest.param(STALE, id="one that fits a line, but not beside its own name"),
        pytest.param("[ServiceTitan] Test", id="a short one"),
        pytest.param(f"{STALE} {'and more ' * 20}"[:SUBJECT_LIMIT].strip(), id="the longest"),
        pytest.param(STALE.replace("Cedar", "Café Zürich …"), id="one with encoded words"),
    ],
)
def test_a_subject_begins_on_the_line_of_its_name(subject: str) -> None:
    """A mailbox that sorts and threads by subject sees no blank in front of it; no line is longer than mail may have."""
    content = MailContent(subject=subject, text="text\n" * 3, html=f"<p>{'html ' * 300}</p>")
    mail = mime_of(
        content, sender="monitor@example.com", to="ops@example.com", delivery_key="k", date=datetime.now(UTC)
    )

    lines = mail.as_bytes().splitlines()
    assert next(line for line in lines if line.startswith(b"Subject:")).startswith(b"Subject: [ServiceTitan]")
    assert max(map(len, lines)) <= 998
    assert mail["Subject"] == subject


@pytest.mark.parametrize("name", HOSTILE, ids=lambda name: repr(name)[:40])
def test_no_company_writes_a_header(name: str) -> None:
    """Neither with a line break nor with one inside an encoded word (RFC 2047), which the email package would decode."""
    told = message_for(
        [alert("sync_failures", company_name=name)], reason=NotifyReason.FIRST, as_of=AS_OF, now=datetime.now(UTC)
    )
    content = mail_content(told)
    mail = mime_of(
        content, sender="monitor@example.com", to="ops@example.com", delivery_key="k", date=datetime.now(UTC)
    )

    arrived = email.message_from_bytes(mail.as_bytes(), policy=email.policy.default)
    assert [header.lower() for header in arrived] == [
        *("subject", "from", "to", "date", "message-id", "auto-submitted", "x-servicetitan-delivery"),
        *("mime-version", "content-type"),
    ]
    # Around encoded words, folding may write one blank more.
    assert str(arrived["Subject"]).split() == content.subject.split()
    assert [part.get_content_type() for part in arrived.iter_parts()] == ["text/plain", "text/html"]


@pytest.mark.parametrize(
    ("answer", "permanent"),
    [
        pytest.param("454 4.7.0 Temporary authentication failure", False, id="a server that is busy"),
        pytest.param("535 5.7.8 Authentication credentials invalid", True, id="a wrong password"),
    ],
)
def test_a_login_that_is_refused(monkeypatch: pytest.MonkeyPatch, answer: str, permanent: bool) -> None:
    """A person is needed, and the fallback, only where it is refused for good."""
    refused = AuthResult(success=False, handled=False, message=answer)
    server = Controller(
        Sink(),
        hostname="127.0.0.1",
        port=free_port(),
        authenticator=lambda *_: refused,
        auth_require_tls=False,
    )
    server.start()
    extra = {"from_email": "monitor@example.com", "disable_ssl": True, "disable_tls": True}
    connection = {"conn_type": "smtp", "host": "127.0.0.1", "port": server.port, "login": "monitor", "password": "p"}
    monkeypatch.setenv("AIRFLOW_CONN_ALERT_EMAIL", json.dumps({**connection, "extra": extra}))
    try:
        with pytest.raises(DeliveryError, match="refused the login") as caught:
            sender_to("email:ops@example.com")(a_message(), delivery_key="k")
    finally:
        server.stop()

    assert (caught.value.code, caught.value.permanent) == (f"smtp_{answer[:3]}", permanent)


def a_message() -> Message:
    now = datetime.now(UTC)
    return message_for([], reason=NotifyReason.TEST, as_of=now, now=now)

"""The mail as it is handed to the server."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from include.orchestration.mail_sender import mime_of
from include.sync_health.mail import SUBJECT_LIMIT, MailContent

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

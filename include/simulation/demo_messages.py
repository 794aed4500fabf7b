"""What the demo's Slack and mail server received, as lines for a terminal."""

from __future__ import annotations

import dataclasses
import html
from datetime import datetime

from include.simulation.mail_server import MailServer
from include.simulation.slack_server import SlackServer


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """One message that arrived; ``text`` is a mail's subject, or all of a Slack message's plain text."""

    at: datetime
    kind: str
    where: str
    text: str

    def __str__(self) -> str:
        """One line: where it went, its title and its first sentence."""
        return printable(f"{self.at:%H:%M:%S} {self.kind} {self.where}: {' | '.join(self.text.splitlines()[:2])}")


def sent_to(slack: SlackServer, mail: MailServer) -> list[Sent]:
    """Return what both received so far, in the order of arrival."""
    posts = [
        Sent(at=message.posted_at, kind="Slack", where=f"#{message.channel}", text=html.unescape(message.text))
        for message in slack.messages
    ]
    mails = [
        Sent(at=mail.received_at, kind="mail", where=", ".join(mail.recipients), text=str(mail.message["subject"]))
        for mail in mail.mails
    ]
    return sorted(posts + mails, key=lambda message: message.at)


def printable(text: str) -> str:
    """Return ``text`` without what could steer a terminal; the simulated Hub Plus has such names on purpose."""
    return "".join(character if character.isprintable() else "?" for character in text)

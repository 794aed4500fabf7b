"""
The parts of a message, as values that every renderer understands, and the words they share.

Texts here are cleaned and not escaped; instants are aware datetimes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from include.sync_health.advice import Advice
from include.sync_health.alerts import Alert, AlertState, CloseReason, NotifyReason
from include.sync_health.endpoints import endpoint_in_words
from include.sync_health.links import Links
from include.sync_health.redaction import clean
from include.sync_health.verdicts import Severity

SHORT, LINE, LONG = 120, 400, 1_200
"""Characters kept of a name, of a sentence, and of an error text."""

SHOWN_DIGITS = 12
"""Of a fingerprint, as people read and type it."""

Text = tuple[str | datetime, ...]
"""Cleaned text with instants in it; renderers join it without spaces."""


class Status(StrEnum):
    """Where the alert stands now; the value is how a title begins."""

    OPEN = "Open"
    STILL_OPEN = "Still open"
    OPEN_AGAIN = "Open again"
    ESCALATED = "Escalated"
    RECOVERING = "Recovering"
    PARTLY_RECOVERED = "Partly recovered"  # of several
    PARTLY_CLOSED = "Partly closed"  # of several: and not every one of them recovered
    RECOVERED = "Recovered"
    EXPIRED = "Closed without evidence of recovery"
    TARGET_REMOVED = "Closed, target removed"
    RULE_CHANGED = "Closed, rule changed"
    CLOSED = "Closed"
    TEST = "Test"
    ALIVE = "Alive"  # the monitor itself

    @property
    def is_open(self) -> bool:
        """True while an episode is open."""
        return self in _OPEN


_OPEN = frozenset(
    {
        Status.OPEN,
        Status.STILL_OPEN,
        Status.OPEN_AGAIN,
        Status.ESCALATED,
        Status.RECOVERING,
        Status.PARTLY_RECOVERED,
        Status.PARTLY_CLOSED,
    }
)


EMOJI: Mapping[str, str] = {
    Severity.CRITICAL: "🔴",
    Severity.HIGH: "🟠",
    Severity.MEDIUM: "🟡",
    Severity.LOW: "🔵",
    Status.RECOVERED: "✅",
    Status.TEST: "🧪",
    Status.ALIVE: "💚",
}
"""Always beside a word that says the same, for those who cannot tell the colours."""

CLOSED_EMOJI = "⚪"

_CLOSED_STATUS = {
    CloseReason.RECOVERED: Status.RECOVERED,
    CloseReason.EXPIRED: Status.EXPIRED,
    CloseReason.TARGET_REMOVED: Status.TARGET_REMOVED,
    CloseReason.RULE_CHANGED: Status.RULE_CHANGED,
}

_OPEN_STATUS = {
    NotifyReason.REPEAT: Status.STILL_OPEN,
    NotifyReason.UNSUPPRESSED: Status.STILL_OPEN,
    NotifyReason.REOPENED: Status.OPEN_AGAIN,
    NotifyReason.ESCALATED: Status.ESCALATED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Occasion:
    """
    What a message is told for, beside the alerts it speaks of.

    Args:
        reason: why the delivery was decided.
        as_of: the instant that was judged then; aware.
        now: the wall clock; aware.
        links: where readers may go on.
        notes: what the reader must know of any message: that it is late, perhaps a repeat, or sent to a stand-in.
        details: as of a `Delivery`; see `message_details`.
    """

    reason: NotifyReason
    as_of: datetime
    now: datetime
    links: Links = field(default_factory=Links)
    notes: tuple[Text, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """A label and its value."""

    label: str
    value: Text


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """Lines under a title; ``total`` counts also those not held here, and ``rest`` says where to find them."""

    title: str
    lines: tuple[Text, ...]
    total: int
    rest: str = ""

    def more(self, shown: int) -> str:
        """Return the line below the first ``shown`` lines: "and 12 more"; "" where there are no more."""
        left = self.total - shown
        return "" if left <= 0 else f"and {left} more{f': {self.rest}' if self.rest else ''}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """
    One message, for any channel. All texts are cleaned, none is escaped.

    ``subject`` is a line that tells it all; ``title`` is shorter, and begins with status and severity in words.
    ``count`` is how many alerts it speaks of. ``notes`` are what the reader must know of the message itself.
    """

    reason: NotifyReason
    status: Status
    severity: Severity
    emoji: str
    title: str
    subject: str
    sentence: str
    count: int
    facts: tuple[Fact, ...] = ()
    advice: Advice | None = None
    latest_error: str | None = None
    listings: tuple[Listing, ...] = ()
    notes: tuple[Text, ...] = ()
    links: tuple[tuple[str, str], ...] = ()
    footer: Text = ()


def status_of(alert: Alert, *, reason: NotifyReason) -> Status:
    """Return where an alert stands now, seen from a delivery that was decided for ``reason``."""
    if reason is NotifyReason.TEST:
        return Status.TEST
    if alert.state.is_open:
        if reason is NotifyReason.CLOSED:
            return Status.OPEN_AGAIN
        return Status.RECOVERING if alert.state is AlertState.RECOVERING else _OPEN_STATUS.get(reason, Status.OPEN)
    return _CLOSED_STATUS[alert.close_reason] if alert.close_reason else Status.CLOSED


def began(status: Status, severity: Severity) -> str:
    """Return how a title begins: "High", "High, still open", "Recovered"."""
    word = severity.value.capitalize()
    if status is Status.OPEN:
        return word
    return f"{word}, {status.value.lower()}" if status.is_open else status.value


def heading(status: Status, severity: Severity, *, reason: NotifyReason, was: Severity | None = None) -> str:
    """
    Return how the title of a message begins: as `began`, with the severity that an escalation ``was`` before.

    That of an edited message says "High, open": what it said when it was new need not.
    """
    if was is not None and was.rank < severity.rank:
        return f"{began(status, severity)} from {was.value}"
    if reason is NotifyReason.UPDATED and status is Status.OPEN:
        return f"{began(status, severity)}, open"
    return began(status, severity)


def emoji_of(status: Status, severity: Severity) -> str:
    """Return the sign of an open alert's severity, or of how it closed."""
    return EMOJI[severity] if status.is_open else EMOJI.get(status, CLOSED_EMOJI)


def who(alert: Alert) -> str:
    """Return "Acme Plumbing (production)" or "/customers (production)", cleaned; the environment where it is about neither, or ""."""
    credential = f"credential {alert.credential_id}" if alert.credential_id else ""
    endpoint = plain(alert.metadata.get("endpoint"))
    name = clean(
        alert.company_name or credential or (None if endpoint is None else endpoint_in_words(endpoint)), limit=SHORT
    )
    environment = clean(alert.environment, limit=SHORT)
    return f"{name} ({environment})" if name and environment else name or environment


def latest_error(alert: Alert, *, limit: int) -> str | None:
    """Return the newest error text of an alert, of an outage its sample, cleaned; None where there is none."""
    metadata = alert.metadata
    return clean(plain(metadata.get("latest_error") or metadata.get("sample")), limit=limit) or None


_ADDRESS = re.compile(r"(?P<name>[\w.+-]{1,64})@[\w-]{1,63}(\.[\w-]{1,63}){1,8}")


def person(text: str | None) -> str:
    """Return a colleague's name, cleaned; of a mail address what stands before the @: the whole would be masked."""
    found = _ADDRESS.fullmatch((text or "").strip())
    return clean(found["name"] if found else text, limit=SHORT)


def channel_in_words(key: str) -> str:
    """Return a channel's key, cleaned; the mail addresses of the policy are those of teams, and stay."""
    kind, _, name = key.partition(":")
    return key if kind == "email" and _ADDRESS.fullmatch(name) else clean(key, limit=SHORT)


def counted(count: int, noun: str) -> str:
    """Return "1 cause", "14 credentials"."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def plain(value: Any) -> str | None:
    """Return any value as text for `redaction.clean`; None stays None."""
    return None if value is None else str(value)

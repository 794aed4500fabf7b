"""
The parts of a message, as values that every renderer understands, and the words they share.

Texts here are cleaned and not escaped; instants are aware datetimes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from include.sync_health.advice import Advice
from include.sync_health.alerts import Alert, AlertState, CloseReason, NotifyReason
from include.sync_health.redaction import clean
from include.sync_health.verdicts import Severity

SHORT, LINE, LONG = 120, 400, 1_200
"""Characters kept of a name, of a sentence, and of an error text."""

Text = tuple[str | datetime, ...]
"""Cleaned text with instants in it; renderers join it without spaces."""


class Status(StrEnum):
    """Where the alert stands now; the value is how a title begins."""

    OPEN = "Open"
    STILL_OPEN = "Still open"
    OPEN_AGAIN = "Open again"
    RECOVERING = "Recovering"
    RECOVERED = "Recovered"
    EXPIRED = "Closed without evidence of recovery"
    TARGET_REMOVED = "Closed, target removed"
    RULE_CHANGED = "Closed, rule changed"
    CLOSED = "Closed"
    TEST = "Test"

    @property
    def is_open(self) -> bool:
        """True while an episode is open."""
        return self in (Status.OPEN, Status.STILL_OPEN, Status.OPEN_AGAIN, Status.RECOVERING)


EMOJI: Mapping[str, str] = {
    Severity.CRITICAL: "🔴",
    Severity.HIGH: "🟠",
    Severity.MEDIUM: "🟡",
    Severity.LOW: "🔵",
    Status.RECOVERED: "✅",
    Status.TEST: "🧪",
}
"""Always beside a word that says the same, for those who cannot tell the colours."""

CLOSED_EMOJI = "⚪"

_CLOSED_STATUS = {
    CloseReason.RECOVERED: Status.RECOVERED,
    CloseReason.EXPIRED: Status.EXPIRED,
    CloseReason.TARGET_REMOVED: Status.TARGET_REMOVED,
    CloseReason.RULE_CHANGED: Status.RULE_CHANGED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Links:
    """Where readers may go on; only what is configured. http and https alone are rendered."""

    dashboard: str | None = None
    runbook: str | None = None
    run: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """A label and its value."""

    label: str
    value: Text


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """Lines under a title; ``total`` counts also those not held here."""

    title: str
    lines: tuple[Text, ...]
    total: int


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
        if alert.state is AlertState.RECOVERING:
            return Status.RECOVERING
        return Status.STILL_OPEN if reason is NotifyReason.REPEAT else Status.OPEN
    return _CLOSED_STATUS[alert.close_reason] if alert.close_reason else Status.CLOSED


def began(status: Status, severity: Severity) -> str:
    """Return how a title begins: "High", "High, still open", "Recovered"."""
    word = severity.value.capitalize()
    if status is Status.OPEN:
        return word
    return f"{word}, {status.value.lower()}" if status.is_open else status.value


def emoji_of(status: Status, severity: Severity) -> str:
    """Return the sign of an open alert's severity, or of how it closed."""
    return EMOJI[severity] if status.is_open else EMOJI.get(status, CLOSED_EMOJI)


def who(alert: Alert) -> str:
    """Return "Acme Plumbing (production)", cleaned; the environment for an alert about no credential, or ""."""
    name = clean(
        alert.company_name or (f"credential {alert.credential_id}" if alert.credential_id else ""), limit=SHORT
    )
    environment = clean(alert.environment, limit=SHORT)
    return f"{name} ({environment})" if name and environment else name or environment


def latest_error(alert: Alert, *, limit: int) -> str | None:
    """Return the newest error text of an alert, of an outage its sample, cleaned; None where there is none."""
    metadata = alert.metadata
    return clean(plain(metadata.get("latest_error") or metadata.get("sample")), limit=limit) or None


def counted(count: int, noun: str) -> str:
    """Return "1 cause", "14 credentials"."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def plain(value: Any) -> str | None:
    """Return any value as text for `redaction.clean`; None stays None."""
    return None if value is None else str(value)

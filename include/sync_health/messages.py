"""
What a message says, as values (`message_parts`); how it looks is `slack_blocks` and `mail`.

Every text that came from outside passes `redaction.clean` on its way into a message, once, and is escaped only in
the renderers. Instants stay aware datetimes, so that Slack can show them in each reader's zone and mail in UTC.
A message tells the alert's CURRENT state, which may have moved on since the delivery was decided.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from include.sync_health.advice import advice_on
from include.sync_health.alert_facts import evidence_facts, state_facts, state_notes, subject_facts
from include.sync_health.alerts import Alert, NotifyReason
from include.sync_health.message_parts import (
    EMOJI,
    LINE,
    LONG,
    SHORT,
    Fact,
    Links,
    Listing,
    Message,
    Status,
    Text,
    began,
    emoji_of,
    latest_error,
    status_of,
    who,
)
from include.sync_health.redaction import clean
from include.sync_health.summaries import baseline_of, summary_of
from include.sync_health.verdicts import Severity

__all__ = ["LATE_AFTER", "Fact", "Links", "Listing", "Message", "Status", "Text", "message_for", "status_of"]

LATE_AFTER = timedelta(minutes=30)
"""A message sent longer than this after the instant it judges says that it is late."""


def message_for(
    alerts: Sequence[Alert],
    *,
    reason: NotifyReason,
    as_of: datetime,
    now: datetime,
    links: Links | None = None,
    possible_repeat: bool = False,
) -> Message:
    """
    Return the message of one alert, or the summary of several; of the baseline always the summary.

    Args:
        alerts: their current state; at least one, unless ``reason`` is TEST.
        reason: why the delivery was decided.
        as_of: the instant that was judged then; aware.
        now: the wall clock; aware.
        links: where readers may go on.
        possible_repeat: the same message may have arrived before.

    Raises:
        ValueError: a naive datetime, or no alert to speak of.
    """
    if as_of.tzinfo is None or now.tzinfo is None:
        raise ValueError("as_of and now must be timezone-aware")
    if not alerts and reason is not NotifyReason.TEST:
        raise ValueError("a message needs an alert to speak of")
    notes: list[Text] = []
    if now - as_of > LATE_AFTER:
        notes.append(("Told late: judged at ", as_of, ", sent at ", now))
    if possible_repeat:
        notes.append(("This may be a repeat: an earlier attempt was interrupted and may have arrived",))
    kept = tuple(
        (label, url)
        for label, url in (
            ("Dashboard", links and links.dashboard),
            ("Runbook", links and links.runbook),
            ("Airflow run", links and links.run),
        )
        if url
    )
    if reason is NotifyReason.BASELINE:
        return baseline_of(alerts, as_of=as_of, notes=notes, links=kept)
    if len(alerts) > 1:
        return summary_of(alerts, reason=reason, as_of=as_of, notes=notes, links=kept)
    if not alerts:
        return _bare_test(as_of=as_of, notes=notes, links=kept)
    return _single(alerts[0], reason=reason, as_of=as_of, now=now, notes=notes, links=kept)


def _single(
    alert: Alert,
    *,
    reason: NotifyReason,
    as_of: datetime,
    now: datetime,
    notes: list[Text],
    links: tuple[tuple[str, str], ...],
) -> Message:
    status = status_of(alert, reason=reason)
    subject_of = who(alert)
    title = f"{began(status, alert.severity)}: {clean(alert.title, limit=SHORT) or alert.type}"
    sentence = clean(alert.message, limit=LINE) or title  # Slack refuses a block without text
    # A close is short: the numbers behind the last breach say nothing of now.
    is_current = status.is_open or status is Status.TEST
    return Message(
        reason=reason,
        status=status,
        severity=alert.severity,
        emoji=emoji_of(status, alert.severity),
        title=title,
        subject=f"{title}: {subject_of}" if subject_of else title,
        sentence=sentence if is_current else f"It was: {sentence}",
        count=1,
        facts=(
            *subject_facts(alert),
            *state_facts(alert, status=status, now=now),
            *(evidence_facts(alert) if is_current else ()),
        ),
        advice=advice_on(alert) if is_current else None,
        latest_error=latest_error(alert, limit=LONG) if is_current else None,
        notes=(*state_notes(alert, reason=reason, status=status), *notes),
        links=links,
        footer=(f"{alert.type} · {alert.fingerprint[:12]} · judged at ", as_of),
    )


def _bare_test(*, as_of: datetime, notes: list[Text], links: tuple[tuple[str, str], ...]) -> Message:
    title = "Test: this channel works"
    return Message(
        reason=NotifyReason.TEST,
        status=Status.TEST,
        severity=Severity.LOW,
        emoji=EMOJI[Status.TEST],
        title=title,
        subject=title,
        sentence="Nothing is wrong: someone asked the ServiceTitan monitor for a test message.",
        count=0,
        notes=tuple(notes),
        links=links,
        footer=("sent on request at ", as_of),
    )

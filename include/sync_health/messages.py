"""
What a message says, as values (`message_parts`); how it looks is `slack_blocks` and `mail`.

Every text that came from outside passes `redaction.clean` on its way into a message, once, and is escaped only in
the renderers. Instants stay aware datetimes, so that Slack can show them in each reader's zone and mail in UTC.
A message tells the alert's CURRENT state, which may have moved on since the delivery was decided.

    one alert ─> here;  several of one rule, environment and cause ─> group_messages;  other several ─> summaries
    what was kept back, or not seen, and the heartbeat ─> receipts
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from include.sync_health.advice import advice_on
from include.sync_health.alert_facts import evidence_facts, state_facts, subject_facts
from include.sync_health.alert_notes import state_notes
from include.sync_health.alerts import Alert, NotifyReason
from include.sync_health.group_messages import group_message, is_one_conversation, thread_note
from include.sync_health.links import Links, links_of_alert, links_of_summary
from include.sync_health.message_details import severity_before
from include.sync_health.message_parts import (
    EMOJI,
    LINE,
    LONG,
    SHORT,
    SHOWN_DIGITS,
    Fact,
    Listing,
    Message,
    Occasion,
    Status,
    Text,
    channel_in_words,
    emoji_of,
    heading,
    latest_error,
    status_of,
    who,
)
from include.sync_health.receipts import RECEIPTS, heartbeat, receipt_of
from include.sync_health.redaction import clean
from include.sync_health.summaries import baseline_of, summary_of
from include.sync_health.verdicts import Severity

__all__ = ["LATE_AFTER", "Fact", "Links", "Listing", "Message", "Status", "Text", "message_for", "status_of"]

LATE_AFTER = timedelta(minutes=30)
"""A message sent longer than this after the instant it judges says that it is late."""

WITHOUT_ALERTS = RECEIPTS | {NotifyReason.TEST, NotifyReason.HEARTBEAT}
"""Reasons for which there need not be an alert to speak of."""


def message_for(
    alerts: Sequence[Alert],
    *,
    reason: NotifyReason,
    as_of: datetime,
    now: datetime,
    links: Links | None = None,
    possible_repeat: bool = False,
    details: Mapping[str, Any] = {},
    neighbours: Sequence[Alert] = (),
    fallback_of: str | None = None,
) -> Message:
    """
    Return the message of one alert, of several that share a cause, or the summary of others.

    Args:
        alerts: the current state of those that the delivery speaks of; at least one, unless ``reason`` is one of
            `WITHOUT_ALERTS`.
        reason: why the delivery was decided.
        as_of: the instant that was judged then; aware.
        now: the wall clock; aware.
        links: where readers may go on.
        possible_repeat: the same message may have arrived before.
        details: the delivery's; see `message_details`. What is missing is not told.
        neighbours: everybody in the delivery's thread as they are now, with or without ``alerts``.
        fallback_of: the key of the channel that refused the message, when this is sent in its place.

    Raises:
        ValueError: a naive datetime, or no alert to speak of.
    """
    if as_of.tzinfo is None or now.tzinfo is None:
        raise ValueError("as_of and now must be timezone-aware")
    if not alerts and reason not in WITHOUT_ALERTS:
        raise ValueError("a message needs an alert to speak of")
    notes: list[Text] = []
    if now - as_of > LATE_AFTER and reason is not NotifyReason.UPDATED:  # an edit tells nobody, and shows what is now
        notes.append(("Told late: judged at ", as_of, ", sent at ", now))
    if possible_repeat:
        notes.append(("This may be a repeat: an earlier attempt was interrupted and may have arrived",))
    if fallback_of is not None:
        notes.append((f"Sent here because {channel_in_words(fallback_of) or 'its channel'} refuses our messages",))
    occasion = Occasion(
        reason=reason, as_of=as_of, now=now, links=links or Links(), notes=tuple(notes), details=details
    )
    if reason in RECEIPTS:
        return receipt_of(alerts, occasion=occasion)
    if reason is NotifyReason.HEARTBEAT:
        return heartbeat(occasion=occasion)
    if reason is NotifyReason.BASELINE:
        return baseline_of(alerts, occasion=occasion)
    if not alerts:
        return _bare_test(occasion=occasion)
    return _of_alerts(alerts, occasion=occasion, everybody=_everybody(alerts, neighbours))


def _of_alerts(alerts: Sequence[Alert], *, occasion: Occasion, everybody: Sequence[Alert]) -> Message:
    if is_one_conversation(alerts, reason=occasion.reason, everybody=everybody):
        return group_message(alerts, occasion=occasion, everybody=everybody)
    if len(alerts) > 1:
        return summary_of(alerts, occasion=occasion)
    return _single(alerts[0], occasion=occasion, everybody=everybody)


def _everybody(alerts: Sequence[Alert], neighbours: Sequence[Alert]) -> Sequence[Alert]:
    """Return the alerts and whoever else is in their thread, each once."""
    found = {alert.fingerprint: alert for alert in alerts}
    for neighbour in neighbours:
        found.setdefault(neighbour.fingerprint, neighbour)
    return list(found.values())


def _single(alert: Alert, *, occasion: Occasion, everybody: Sequence[Alert]) -> Message:
    reason = occasion.reason
    status = status_of(alert, reason=reason)
    was = severity_before(occasion.details, alert.fingerprint) if status is Status.ESCALATED else None
    subject_of = who(alert)
    title = (
        f"{heading(status, alert.severity, reason=reason, was=was)}: {clean(alert.title, limit=SHORT) or alert.type}"
    )
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
            *state_facts(alert, status=status, now=occasion.now, was=was),
            *(evidence_facts(alert) if is_current else ()),
        ),
        advice=advice_on(alert) if is_current else None,
        latest_error=latest_error(alert, limit=LONG) if is_current else None,
        notes=(
            *state_notes(alert, status=status, occasion=occasion),
            *thread_note(alert, everybody=everybody, reason=reason),
            *occasion.notes,
        ),
        links=links_of_alert(alert, links=occasion.links),
        footer=(f"{alert.type} · {alert.fingerprint[:SHOWN_DIGITS]} · judged at ", occasion.as_of),
    )


def _bare_test(*, occasion: Occasion) -> Message:
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
        notes=occasion.notes,
        links=links_of_summary([], links=occasion.links, page=""),
        footer=("sent on request at ", occasion.as_of),
    )

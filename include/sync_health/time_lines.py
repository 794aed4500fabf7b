"""
The time line of an alert: what happened to it, who was told of it or why not, and who kept it back.

`moments` is the past, oldest first; what comes next is `outlook`'s. Texts are cleaned, not escaped; instants in them are UTC.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from include.sync_health.alerts import (
    OPENINGS,
    Alert,
    AlertEvent,
    CloseReason,
    DeliveryStatus,
    EventKind,
    NotifyReason,
    SilentReason,
)
from include.sync_health.matchers import labels_of
from include.sync_health.message_parts import LINE, SHOWN_DIGITS, counted, person
from include.sync_health.muting import Silence
from include.sync_health.policy import Policy
from include.sync_health.redaction import clean
from include.sync_health.routing import kind_of


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerLine:
    """
    One delivery that speaks of the alert, or the recorded decision to send none.

    Args:
        channel: its key, or ``none`` where no route led anywhere.
        reason: why it was to be told; None for a decision to send nothing.
        silent, by: why it was not sent, and what kept it back (`Suppression.by`).
        status: where it stands.
        as_of: the tick that decided it; aware.
        attempts: to send it.
        next_attempt_at: of one that waits; aware.
        sent_at: aware; None for what was not sent.
        last_error: of the last attempt, as the outbox has it.
        others: alerts beside this one in the same message.
        fallback_of: the channel that refused it, where it went elsewhere.
    """

    channel: str
    reason: NotifyReason | None
    silent: SilentReason | None = None
    by: str | None = None
    status: DeliveryStatus
    as_of: datetime
    attempts: int = 0
    next_attempt_at: datetime | None = None
    sent_at: datetime | None = None
    last_error: str | None = None
    others: int = 0
    fallback_of: str | None = None

    @property
    def waits(self) -> bool:
        """True for what is still to be sent."""
        return self.status in (DeliveryStatus.PENDING, DeliveryStatus.LEASED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """An alert that hid this one somewhere, with the ledger's lines about it."""

    alert: Alert
    ledger: Sequence[LedgerLine] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """
    All that is known of one alert.

    Args:
        alert: as it is now.
        events: of all its episodes that are kept.
        ledger: likewise.
        silences: any that may have kept it back, or will; others do no harm.
        causes: by fingerprint, those that the ledger or `Alert.suppressed` names.
    """

    alert: Alert
    events: Sequence[AlertEvent] = ()
    ledger: Sequence[LedgerLine] = ()
    silences: Sequence[Silence] = ()
    causes: Mapping[str, Cause] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """
    One line of the time line.

    Args:
        at: aware.
        what: an `EventKind`, a `DeliveryStatus`, or ``silence``.
        channel: of a delivery.
        text: what happened, in one line.
    """

    at: datetime
    what: str
    channel: str | None = None
    text: str


_HAPPENED: Mapping[EventKind, str] = {
    EventKind.OPENED: "opened, {severity}",
    EventKind.REOPENED: "opened again, {severity}",
    EventKind.ESCALATED: "got worse, {severity} now",
    EventKind.EASED: "got less severe, {severity} now",
    EventKind.STALE: "nobody can judge it from here on",
    EventKind.RECOVERING: "recovering",
    EventKind.RELAPSED: "broken again before it had closed",
    EventKind.FLAPPING: "flapping: it came back too often",
    EventKind.SETTLED: "flapping no more",
    EventKind.PENDING: "broken, and to open if it lasts",
    EventKind.DROPPED: "over before it opened",
    EventKind.ACKNOWLEDGED: "acknowledged",
    EventKind.UNACKNOWLEDGED: "acknowledgement taken back",
    EventKind.OBSERVED: "found broken by a run about the past, which tells nobody",
}

_CLOSED: Mapping[CloseReason | None, str] = {
    CloseReason.RECOVERED: "closed, recovered",
    CloseReason.EXPIRED: "closed without evidence of recovery",
    CloseReason.TARGET_REMOVED: "closed, its target is gone",
    CloseReason.RULE_CHANGED: "closed, the rule was changed",
    None: "closed",
}

TOLD: Mapping[NotifyReason | None, str] = {
    NotifyReason.FIRST: "it opened",
    NotifyReason.NEW_IN_GROUP: "it opened beside others of the same cause",
    NotifyReason.REOPENED: "it opened again",
    NotifyReason.UNSUPPRESSED: "it is open, and nothing keeps it back any more",
    NotifyReason.ESCALATED: "it got worse",
    NotifyReason.REPEAT: "it is still open",
    NotifyReason.CLOSED: "it closed",
    NotifyReason.BASELINE: "it was broken already when monitoring began",
    NotifyReason.DIGEST: "the digest of what the day's budget kept back",
    NotifyReason.SILENCE_ENDED: "the summary of what a silence or a mute kept back",
    NotifyReason.CATCH_UP: "it opened and closed while nobody looked",
    NotifyReason.UPDATED: "the first message of its thread brought up to date",
    NotifyReason.HEARTBEAT: "a heartbeat",
    NotifyReason.TEST: "a test",
    None: "nothing",
}
"""What a channel is told with each reason."""

_BY_SOMEBODY = frozenset({EventKind.ACKNOWLEDGED, EventKind.UNACKNOWLEDGED})
_BY_ADDRESS = re.compile(r"by (?P<address>[^\s:]+@[^\s:]+)")

_SHARED_RULES = frozenset({"platform_outage", "no_syncs"})
"""Causes over a whole environment."""


def moments(history: History, *, policy: Policy) -> tuple[Moment, ...]:
    """
    Return what has happened to an alert, oldest first; of one instant what happened comes before what was told.

    Args:
        history: all that is known of it.
        policy: names the mutes and the budget, and gives the tags that silences match by.
    """
    told = (
        Moment(
            at=line.sent_at or line.as_of, what=line.status, channel=line.channel, text=told_text(line, history, policy)
        )
        for line in history.ledger
    )
    found = (*map(_of_event, history.events), *_of_silences(history, policy=policy), *told)
    # Not by text: lines of one kind and instant keep the order in which they were decided.
    return tuple(sorted(found, key=lambda moment: moment.at))


def headline(alert: Alert, *, digits: int = SHOWN_DIGITS) -> str:
    """Return what an alert is: "0123456789ab stale_sync, high, firing: ServiceTitan integration for Acme (production) ..."."""
    sentence = clean(alert.message, limit=LINE)
    return f"{alert.fingerprint[:digits]} {alert.rule}, {alert.severity}, {alert.state}: {sentence}"


def told_text(line: LedgerLine, history: History, policy: Policy) -> str:
    """Return what became of one delivery, in one line."""
    said = TOLD[line.reason]
    beside = f", with {counted(line.others, 'other alert')}" if line.others else ""
    instead = f" in place of {line.fallback_of}" if line.fallback_of else ""
    error = clean(line.last_error, limit=LINE)
    tries = counted(line.attempts, "attempt")
    if line.status is DeliveryStatus.SENT:
        after = f", at attempt {line.attempts}" if line.attempts > 1 else ""
        return f"sent to {line.channel}{instead}: {said}{beside}{after}"
    if line.status is DeliveryStatus.DEAD:
        return f"given up for {line.channel}{instead} after {tries}: {said}{beside}; {error or 'no error is recorded'}"
    if line.waits:
        tried = f"; {tries} so far, the last: {error}" if error else ""
        return f"waits to be sent to {line.channel}{instead}: {said}{beside}{tried}"
    said_what = f" ({said})" if line.reason is not None else ""
    where = "" if line.silent is SilentReason.NO_ROUTE or line.channel == "none" else f" to {line.channel}"
    return f"not sent{where}{said_what}: {why_not(line.silent, line.by, line.channel, line.as_of, history, policy)}"


def why_not(
    why: SilentReason | None, by: str | None, channel: str, as_of: datetime, history: History, policy: Policy
) -> str:
    """
    Return in words why a channel was not told.

    Args:
        why, by: as of a `LedgerLine` or a `Suppression`.
        channel: its key.
        as_of: when that was decided; aware.
        history: names silences and causes.
        policy: names mutes and the budget.
    """
    match why:
        case SilentReason.INHIBITED:
            return _inhibited(by, channel, as_of, history)
        case SilentReason.SILENCED:
            return f"silenced by {_silence_text(by, history.silences)}"
        case SilentReason.MUTED:
            mute = next((mute for mute in policy.alerting.mutes if mute.name == by), None)
            return f"muted by {by or 'a mute'} of the policy" + (
                f": {clean(mute.reason, limit=LINE)}" if mute else ", which has it no more"
            )
        case SilentReason.BUDGET:
            budget = policy.alerting.budget
            spent = f"the day's budget of {counted(budget, 'message')}" if budget is not None else "the day's budget"
            return f"{spent} was spent; it is told in the day's digest"
        case SilentReason.ACKNOWLEDGED:
            return f"no repeats, acknowledged by {person(by) or 'somebody'}"
        case SilentReason.NOT_CONFIGURED:
            return f"{kind_of(channel)} has no connection"
        case None:
            return "no reason is recorded"
        case _:
            return _WHY_NOT[why]


_WHY_NOT: Mapping[SilentReason, str] = {
    SilentReason.NO_ROUTE: "no route of the policy takes it",
    SilentReason.SHADOW: "its rule is in shadow, recorded and told to nobody",
    SilentReason.ALREADY_TOLD: "a message that went out late had said it",
    SilentReason.SUPERSEDED: "it was out of date before it could be sent, and a newer one says more",
    SilentReason.NEVER_TOLD: "it closed, and this channel had never heard that it was open",
    SilentReason.NOTIFY_NEVER: "the run was asked to tell nobody",
    SilentReason.CANNOT_EDIT: "the first message of its thread cannot be edited",
}


def told_of(cause: Cause, channel: str, *, by: datetime) -> datetime | None:
    """Return when a channel was last told of a cause by messages decided up to an aware instant; None if it never was."""
    sent = [
        line.sent_at
        for line in cause.ledger
        if line.channel == channel
        and line.sent_at is not None
        and line.as_of <= by
        and line.reason is not None
        and line.reason not in (NotifyReason.UPDATED, NotifyReason.CLOSED)
    ]
    return max(sent, default=None)


def kinship(cause: Alert, alert: Alert) -> str:
    """Return how a cause concerns an alert: " of the same credential", " in production", or ""."""
    if cause.credential_id is not None and cause.credential_id == alert.credential_id:
        return " of the same credential"
    return f" in {cause.environment}" if cause.rule in _SHARED_RULES and cause.environment else ""


def utc_text(instant: datetime) -> str:
    """Return an aware instant as "2026-11-24 17:05 UTC"."""
    return instant.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")


def silence_text(silence: Silence) -> str:
    """
    Return whose silence it is, until when and why: "Ann until 2026-11-24 17:05 UTC: maintenance", or "Ann until
    2026-11-24 16:40 UTC, when ben ended it: maintenance".
    """
    ended = f", when {person(silence.ended_early_by)} ended it" if silence.ended_early_by else ""
    return f"{person(silence.author)} until {utc_text(silence.ends_at)}{ended}: {clean(silence.reason, limit=LINE)}"


def _silence_text(by: str | None, silences: Iterable[Silence]) -> str:
    silence = next((each for each in silences if str(each.id) == by), None)
    return silence_text(silence) if silence else f"a silence that is no longer kept ({by or 'unknown'})"


def _inhibited(by: str | None, channel: str, as_of: datetime, history: History) -> str:
    cause = history.causes.get(by or "")
    if cause is None:
        return f"inhibited by its cause {(by or 'unknown')[:SHOWN_DIGITS]}, which is no longer kept"
    told = told_of(cause, channel, by=as_of)
    when = f"told at {utc_text(told)}" if told else _on_its_way(cause, channel)
    name = f"{cause.alert.rule}{kinship(cause.alert, history.alert)}"
    return f"inhibited by {name} ({cause.alert.fingerprint[:SHOWN_DIGITS]}), {when}"


def _on_its_way(cause: Cause, channel: str) -> str:
    """Return what became of the opening of a cause that a channel has no message of."""
    openings = [line for line in cause.ledger if line.channel == channel and line.reason in OPENINGS]
    if not openings:
        return "told there before"  # by a message that is no longer kept
    if openings[-1].waits:
        return "whose message there waits to be sent"
    return "whose message there was given up"


def _of_event(event: AlertEvent) -> Moment:
    happened = (
        _CLOSED[event.close_reason]
        if event.kind is EventKind.CLOSED
        else _HAPPENED[event.kind].format(severity=event.severity)
    )
    reason = clean(_naming(event), limit=LINE)
    return Moment(at=event.as_of, what=event.kind, text=f"{happened}: {reason}" if reason else happened)


def _naming(event: AlertEvent) -> str:
    """Return an event's reason; of a colleague's mail address in front of it what `person` leaves: the whole would be masked."""
    found = _BY_ADDRESS.match(event.reason) if event.kind in _BY_SOMEBODY else None
    return f"by {person(found['address'])}{event.reason[found.end() :]}" if found else event.reason


def _of_silences(history: History, *, policy: Policy) -> Iterable[Moment]:
    """
    Yield the beginnings of silences that kept the alert back, or would have; of one to come, that it was asked for.

    One that begins after the alert had closed concerns another episode, if any.
    """
    named = {line.by for line in history.ledger if line.silent is SilentReason.SILENCED}
    labels = labels_of(history.alert, tags=policy.tags)
    over = None if history.alert.state.is_open else history.alert.closed_at
    for silence in history.silences:
        is_late = over is not None and silence.starts_at >= over
        if str(silence.id) in named or (silence.match.matches(labels) and not is_late):
            comes = silence.starts_at > silence.created_at
            begins = f"to come at {utc_text(silence.starts_at)}, " if comes else ""
            at = min(silence.starts_at, silence.created_at)
            yield Moment(at=at, what="silence", text=f"silence {begins}of {silence_text(silence)}")

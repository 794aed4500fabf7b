"""
What comes next for an alert: what would close it, when it is told again, and what keeps it back until when.

Everything here is due by the first run of the alert's check at or after the instant that is named: timers round up to ticks.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, time, timedelta
from zoneinfo import ZoneInfo

from include.sync_health.alerts import Acknowledgement, Alert, AlertState, NotifyReason, SilentReason, Suppression, Told
from include.sync_health.durations import describe
from include.sync_health.flapping import FLAPPING_REPEATS, held_for
from include.sync_health.matchers import labels_of
from include.sync_health.message_parts import LINE, counted, person
from include.sync_health.muting import Suppressors
from include.sync_health.policy import Policy
from include.sync_health.redaction import clean
from include.sync_health.routing import channels_of
from include.sync_health.rule_policies import RuleMode
from include.sync_health.time_lines import TOLD, History, kinship, silence_text, utc_text, why_not


def outlook(history: History, *, policy: Policy, now: datetime) -> tuple[str, ...]:
    """
    Return what comes next, a line each: of the alert, of its acknowledgement and silences, and of each channel.

    Args:
        history: all that is known of the alert.
        policy: in force.
        now: the wall clock; aware.
    """
    alert = history.alert
    return (
        *_of_state(alert, policy=policy),
        *_of_acknowledgement(alert.acknowledged, now=now),
        *_of_silences(history, policy=policy, now=now),
        *(line for channel in _channels(history, policy=policy) for line in _of_channel(channel, history, policy, now)),
    )


def _of_state(alert: Alert, *, policy: Policy) -> Iterable[str]:
    rule, life = policy.rules.named(alert.rule), policy.alerting.lifecycle
    if rule.mode is RuleMode.OFF and alert.state is not AlertState.INACTIVE:
        yield "its rule is off: the next run of its check closes it as rule changed"
        return
    match alert.state:
        case AlertState.PENDING:
            yield f"it opens if it is still broken at {utc_text(alert.state_since + rule.for_)}"
        case AlertState.FIRING:
            held = held_for(alert, keep_firing_for=rule.keep_firing_for, policy=life)
            yield f"it closes when it is clear for {describe(held)}" if held else "it closes when it is clear"
        case AlertState.RECOVERING:
            held = held_for(alert, keep_firing_for=rule.keep_firing_for, policy=life)
            yield f"it closes if it stays clear until {utc_text(alert.state_since + held)}"
        case AlertState.INACTIVE if alert.closed_at is not None and life.reopen_within:
            until = utc_text(alert.closed_at + life.reopen_within)
            yield f"it is closed; if it opens again by {until}, it goes on in the same conversation"
        case AlertState.INACTIVE:
            yield "it is not open"
    if alert.state.is_open and alert.stale_since is not None:
        yield (
            f"nobody can judge it since {utc_text(alert.stale_since)}; if that lasts, it closes at "
            f"{utc_text(alert.stale_since + life.max_stale)} without evidence of recovery"
        )
    if alert.flapping_since is not None and life.flap_returns is not None:
        yield (
            f"it is flapping since {utc_text(alert.flapping_since)}, and told again once a day at most, until it came back "
            f"fewer than {counted(life.flap_returns, 'time')} in {describe(life.flap_window)}"
        )


def _of_acknowledgement(acknowledged: Acknowledgement | None, *, now: datetime) -> Iterable[str]:
    if acknowledged is None:
        return
    by, reason = person(acknowledged.by), clean(acknowledged.reason, limit=LINE)
    if not acknowledged.holds_at(now):
        yield f"{by}'s acknowledgement is over; it is repeated again"
        return
    until = "until it closes" if acknowledged.until is None else f"until {utc_text(acknowledged.until)}"
    yield f"acknowledged by {by} {until}: {reason}; not repeated, and told if it gets worse and when it closes"


def _of_silences(history: History, *, policy: Policy, now: datetime) -> Iterable[str]:
    """Yield those that hold, or are to come, and would keep it back."""
    alert = history.alert
    labels = labels_of(alert, tags=policy.tags)
    for silence in history.silences:
        if silence.match.matches(labels) and now < silence.ends_at:
            begins = "" if silence.holds_at(now) else f"from {utc_text(silence.starts_at)} on "
            yield f"{begins}silenced by {silence_text(silence)}; a close is told all the same"
    muted = Suppressors(at=now, mutes=policy.alerting.mutes).of(labels)
    if muted is not None:
        named = next(mute for mute in policy.alerting.mutes if mute.name == muted[1])
        span = f"{named.start:%H:%M} to {named.end:%H:%M} {named.timezone}"
        yield f"{why_not(*muted, '', now, history, policy)} ({span}); a close is told all the same"


def _channels(history: History, *, policy: Policy) -> tuple[str, ...]:
    """Return the channels that the policy tells of the alert, that were told, or that have a message that waits."""
    alert = history.alert
    waiting = (line.channel for line in history.ledger if line.waits)
    routed = channels_of(alert, policy=policy) if alert.state.is_open else ()
    told = (channel for channel, each in alert.told.items() if each.reason is not NotifyReason.CLOSED)
    return tuple(dict.fromkeys((*routed, *told, *waiting)))


def _of_channel(channel: str, history: History, policy: Policy, now: datetime) -> Iterable[str]:
    alert = history.alert
    waiting = [line for line in history.ledger if line.waits and line.channel == channel]
    for line in waiting:
        due = (
            f"; due at {utc_text(line.next_attempt_at)}" if line.next_attempt_at and line.next_attempt_at > now else ""
        )
        yield f"{channel}: a message waits to be sent, {TOLD[line.reason]}{due}"
    told = alert.told.get(channel)
    if not alert.state.is_open:
        if told is not None and not waiting:
            yield f"{channel}: has yet to hear that it closed"
        return
    shadowed = policy.rules.named(alert.rule).mode is not RuleMode.LIVE
    routed = channel in channels_of(alert, policy=policy)
    if told is not None and (shadowed or not routed):
        yield f"{channel}: the policy no longer tells it there; only the close still goes"
    elif told is not None:
        yield f"{channel}: {_repeat(channel, told, history, policy=policy, now=now)}"
    elif shadowed:
        yield f"{channel}: not told, its rule is in shadow"
    elif suppression := alert.suppressed.get(channel):
        yield f"{channel}: {_release(suppression, channel, history, policy)}"
    elif not waiting and alert.state is AlertState.FIRING:
        yield f"{channel}: has not been told; the next run of its check tells it, unless something keeps it back"


def _repeat(channel: str, told: Told, history: History, *, policy: Policy, now: datetime) -> str:
    alert = history.alert
    after = FLAPPING_REPEATS if alert.flapping_since is not None else policy.repeat[alert.severity]
    if alert.state is AlertState.RECOVERING:
        return "not repeated while it recovers"
    if alert.stale_since is not None:
        return "not repeated while nobody can judge it"
    if after is None:
        return f"not repeated, as {alert.severity} never is; told if it gets worse and when it closes"
    due = told.at + after
    at = max(due, now)
    suppressors = Suppressors(at=at, silences=history.silences, mutes=policy.alerting.mutes)
    if (stopped := suppressors.of(labels_of(alert, tags=policy.tags))) is not None:
        when = f"would be due at {utc_text(due)}" if after else "every run would send"
        return f"no repeat, which {when}: it is {stopped[0]} then"
    if not after:
        return "told again by every run that finds it broken"
    if alert.acknowledged is not None and alert.acknowledged.holds_at(at):
        return f"no repeat, which would be due at {utc_text(due)}: it is acknowledged"
    if due > now:
        return f"repeat due at {utc_text(due)}"
    for line in reversed(history.ledger):
        if line.channel == channel and line.silent in _KEEPS_REPEATS and line.as_of >= due:
            why = why_not(line.silent, line.by, channel, line.as_of, history, policy)
            return f"repeat due at {utc_text(due)}, and kept back so far: {why}"
    return f"repeat due at {utc_text(due)}, by the next run of its check"


_KEEPS_REPEATS = frozenset({SilentReason.INHIBITED, SilentReason.BUDGET})
"""What keeps a repeat back and has no line of its own here, as silences, mutes and acknowledgements have."""


def _release(suppression: Suppression, channel: str, history: History, policy: Policy) -> str:
    """Return why a channel has not been told, and when it will be."""
    why = why_not(suppression.why, suppression.by, channel, suppression.since, history, policy)
    match suppression.why:
        case SilentReason.INHIBITED:
            return (
                f"not told, {why}; told {_when_uninhibited(suppression, history, policy)}, if it is still broken then"
            )
        case SilentReason.BUDGET:
            midnight = utc_text(next_day(suppression.since, timezone=policy.reporting_timezone))
            return f"not told, {why}, with the first run from {midnight} on"
        case _:
            return f"not told, {why}; told in one summary when that is over"


def _when_uninhibited(suppression: Suppression, history: History, policy: Policy) -> str:
    cause = history.causes.get(suppression.by or "")
    if cause is None or cause.alert.opened_at is None:
        return "when that closes"
    if not cause.alert.state.is_open:
        return f"by the next run, as {cause.alert.rule}{kinship(cause.alert, history.alert)} is closed"
    return f"when that closes, or after {utc_text(cause.alert.opened_at + policy.alerting.inhibits_for)}"


def next_day(instant: datetime, *, timezone: str) -> datetime:
    """Return when the day after an aware instant's begins in a zone (an IANA name); aware."""
    zone = ZoneInfo(timezone)
    tomorrow = instant.astimezone(zone).date() + timedelta(days=1)
    return datetime.combine(tomorrow, time(0), tzinfo=zone)

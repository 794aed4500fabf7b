"""
The life of an alert, from tick to tick.

`step` is pure: yesterday's states and today's observations in, today's states and events out.

    INACTIVE ─breach→ FIRING (or PENDING first, where the rule has a ``for``)
    PENDING ─breach for long enough→ FIRING;  ─clear or band→ INACTIVE, never announced
    FIRING ─clear→ RECOVERING (or INACTIVE at once, where ``keep_firing_for`` is 0)
    RECOVERING ─breach→ FIRING, the same episode;  ─clear for long enough→ INACTIVE, closed as recovered
    any open ─removed, expired, retired→ INACTIVE, closed with that reason
    band, insufficient, no_data, error change nothing: they neither open nor close, and stop the clocks

Timers round up to ticks: they are looked at only when there is something to judge.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from include.sync_health.alerts import Alert, AlertEvent, AlertState, CloseReason, EventKind, NotifyReason
from include.sync_health.observations import Observation, episode_of
from include.sync_health.policy import Policy
from include.sync_health.rule_policies import RulePolicy
from include.sync_health.verdicts import Verdict

FREEZING = frozenset({Verdict.INSUFFICIENT, Verdict.NO_DATA, Verdict.ERROR})
"""Verdicts that say we cannot tell."""

CLOSING = {
    Verdict.REMOVED: CloseReason.TARGET_REMOVED,
    Verdict.EXPIRED: CloseReason.EXPIRED,
    Verdict.RETIRED: CloseReason.RULE_CHANGED,
}
"""Verdicts that end an episode without evidence of recovery."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """
    What one tick changed.

    ``alerts`` holds the alerts that were judged, whether or not their state changed, by fingerprint;
    an observation that was not newer than its alert's ``last_as_of`` leaves no trace here.
    """

    alerts: Mapping[str, Alert]
    events: tuple[AlertEvent, ...]


def step(
    alerts: Mapping[str, Alert], observations: Iterable[Observation], *, policy: Policy, as_of: datetime
) -> StepResult:
    """
    Return the alerts after one tick.

    Compare-and-set holds for each fingerprint: an ``as_of`` no newer than the last one applied to it is a no-op,
    so that a retry, a duplicate or a late run changes nothing. An observation for which there is no alert changes
    nothing unless it is a BREACH. The result does not depend on the order of the observations.

    Args:
        alerts: the alerts known so far, by fingerprint: at least those the observations speak of.
        observations: at most one per fingerprint.
        policy: timers and modes, by rule.
        as_of: the tick; aware.

    Raises:
        ValueError: ``as_of`` is naive, or two observations share a fingerprint.
    """
    if as_of.tzinfo is None:
        raise ValueError("as_of must be timezone-aware")
    judged: dict[str, Alert] = {}
    events: list[AlertEvent] = []
    seen: set[str] = set()
    for observation in sorted(observations, key=lambda each: each.fingerprint):
        fingerprint = observation.fingerprint
        if fingerprint in seen:
            raise ValueError(f"two observations of {observation.rule} {dict(observation.identity)}")
        seen.add(fingerprint)
        before = alerts.get(fingerprint)
        if before is not None and as_of <= before.last_as_of:
            continue
        rule = policy.rules.named(observation.rule)
        if before is None or not (before.state.is_open or before.state is AlertState.PENDING):
            after, happened = _from_inactive(before, observation, rule=rule, as_of=as_of)
        elif before.state is AlertState.PENDING:
            after, happened = _from_pending(before, observation, rule=rule, as_of=as_of)
        else:
            after, happened = _from_open(before, observation, rule=rule, as_of=as_of)
        if after is not None:
            judged[fingerprint] = after
        if after is not None and happened is not None:
            events.append(
                AlertEvent(
                    fingerprint=fingerprint,
                    episode_id=after.episode_id,
                    as_of=as_of,
                    kind=happened,
                    severity=after.severity,
                    reason=observation.reason,
                    close_reason=after.close_reason if happened is EventKind.CLOSED else None,
                )
            )
    return StepResult(alerts=judged, events=tuple(events))


def _from_inactive(
    before: Alert | None, observation: Observation, *, rule: RulePolicy, as_of: datetime
) -> tuple[Alert | None, EventKind | None]:
    if observation.verdict is not Verdict.BREACH:
        return (None if before is None else replace(before, last_as_of=as_of)), None
    fresh = _described(before or _unheard_of(observation, as_of=as_of), observation, as_of=as_of)
    if rule.for_:
        return replace(fresh, state=AlertState.PENDING, state_since=as_of), EventKind.PENDING
    return _opened(fresh, as_of=as_of), EventKind.OPENED


def _from_pending(
    before: Alert, observation: Observation, *, rule: RulePolicy, as_of: datetime
) -> tuple[Alert, EventKind | None]:
    if observation.verdict is Verdict.BREACH:
        described = _described(before, observation, as_of=as_of)
        if as_of - before.state_since >= rule.for_:
            return _opened(described, as_of=as_of), EventKind.OPENED
        return described, None
    if observation.verdict in FREEZING:
        return _clock_stopped(before, as_of=as_of), None
    dropped = replace(before, state=AlertState.INACTIVE, state_since=as_of, last_as_of=as_of)
    return dropped, EventKind.DROPPED


def _from_open(
    before: Alert, observation: Observation, *, rule: RulePolicy, as_of: datetime
) -> tuple[Alert, EventKind | None]:
    verdict = observation.verdict
    recovering = before.state is AlertState.RECOVERING
    if verdict is Verdict.BREACH:
        after = _described(before, observation, as_of=as_of)
        if recovering:
            relapsed = replace(after, state=AlertState.FIRING, state_since=as_of, flaps=before.flaps + 1)
            return relapsed, EventKind.RELAPSED
        return after, None
    if verdict in CLOSING:
        return _closed(before, observation, why=CLOSING[verdict], as_of=as_of), EventKind.CLOSED
    if verdict is Verdict.CLEAR:
        began = before.state_since if recovering else as_of
        if as_of - began >= rule.keep_firing_for:
            return _closed(before, observation, why=CloseReason.RECOVERED, as_of=as_of), EventKind.CLOSED
        after = replace(before, last_as_of=as_of, stale_since=None, reason=observation.reason)
        if recovering:
            return after, None
        return replace(after, state=AlertState.RECOVERING, state_since=as_of), EventKind.RECOVERING
    frozen = _clock_stopped(before, as_of=as_of) if recovering else replace(before, last_as_of=as_of)
    stale_since = (before.stale_since or as_of) if verdict in FREEZING else None
    return replace(frozen, stale_since=stale_since, reason=observation.reason), None


def _unheard_of(observation: Observation, *, as_of: datetime) -> Alert:
    return Alert(
        fingerprint=observation.fingerprint,
        rule=observation.rule,
        identity=observation.identity,
        severity=observation.severity,
        peak_severity=observation.severity,
        state_since=as_of,
        last_as_of=as_of,
        title=observation.title,
        message=observation.message,
        reason=observation.reason,
    )


def _described(alert: Alert, observation: Observation, *, as_of: datetime) -> Alert:
    """Return the alert with the words, numbers and severity of a breach."""
    return replace(
        alert,
        severity=observation.severity,
        peak_severity=max(alert.peak_severity, observation.severity, key=lambda severity: severity.rank),
        last_as_of=as_of,
        last_breach_at=as_of,
        stale_since=None,
        title=observation.title,
        message=observation.message,
        reason=observation.reason,
        credential_id=observation.credential_id,
        company_id=observation.company_id,
        company_name=observation.company_name,
        environment=observation.environment,
        data_type=observation.data_type,
        metadata=observation.metadata,
        error_class=observation.error_class,
        cause=observation.cause,
        evidence=observation.evidence,
    )


def _opened(alert: Alert, *, as_of: datetime) -> Alert:
    """
    Return the alert at the start of a new episode, of which nobody was told.

    A channel that has yet to hear of the last episode's close still believes the alert open, and so it is: what it was
    told stays, and it hears of the next close.
    """
    return replace(
        alert,
        state=AlertState.FIRING,
        state_since=as_of,
        peak_severity=alert.severity,
        episode_id=episode_of(alert.fingerprint, as_of),
        opened_at=as_of,
        closed_at=None,
        close_reason=None,
        flaps=0,
        told={channel: told for channel, told in alert.told.items() if told.reason is not NotifyReason.CLOSED},
    )


def _closed(alert: Alert, observation: Observation, *, why: CloseReason, as_of: datetime) -> Alert:
    return replace(
        alert,
        state=AlertState.INACTIVE,
        state_since=as_of,
        last_as_of=as_of,
        stale_since=None,
        closed_at=as_of,
        close_reason=why,
        reason=observation.reason,
    )


def _clock_stopped(alert: Alert, *, as_of: datetime) -> Alert:
    """Return the alert with the time since the last observation not counted by its running timer."""
    return replace(alert, state_since=alert.state_since + (as_of - alert.last_as_of), last_as_of=as_of)

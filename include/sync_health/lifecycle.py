"""
The life of an alert, from tick to tick.

`step` is pure: yesterday's states and today's observations in, today's states and events out.

    INACTIVE ─breach→ FIRING (or PENDING first, where the rule has a ``for``)
    PENDING ─breach for long enough→ FIRING;  ─clear or band→ INACTIVE, never announced
    FIRING ─clear→ RECOVERING (or INACTIVE at once, where nothing holds it open)
    RECOVERING ─breach→ FIRING, the same episode;  ─clear for long enough→ INACTIVE, closed as recovered
    any open ─removed, expired, retired→ INACTIVE, closed with that reason
    band, insufficient, no_data, error change nothing: they neither open nor close, and stop the clocks;
    what nobody could judge for `LifecyclePolicy.max_stale` (or ``nodata_grace``, while PENDING) ends without evidence

Timers round up to ticks: they are looked at only when there is something to judge. How long a recovery must last is
`flapping.held_for`'s.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from include.sync_health.alerting_policies import LifecyclePolicy
from include.sync_health.alerts import Alert, AlertEvent, AlertState, CloseReason, EventKind, NotifyReason
from include.sync_health.durations import describe
from include.sync_health.flapping import came_back, held_for, settled
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
        timers = _Timers(rule=policy.rules.named(observation.rule), of_all=policy.alerting.lifecycle)
        if before is None or not (before.state.is_open or before.state is AlertState.PENDING):
            after, kinds = _from_inactive(before, observation, timers=timers, as_of=as_of)
        elif before.state is AlertState.PENDING:
            after, kinds = _from_pending(before, observation, timers=timers, as_of=as_of)
        else:
            after, kinds = _from_open(before, observation, timers=timers, as_of=as_of)
        if after is None:
            continue
        judged[fingerprint] = after
        events += [_event(after, kind, as_of=as_of) for kind in (*kinds, *_beside(before, after))]
    return StepResult(alerts=judged, events=tuple(events))


Happened = tuple[EventKind, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Timers:
    rule: RulePolicy
    of_all: LifecyclePolicy


def _from_inactive(
    before: Alert | None, observation: Observation, *, timers: _Timers, as_of: datetime
) -> tuple[Alert | None, Happened]:
    if observation.verdict is not Verdict.BREACH:
        return (None if before is None else replace(before, last_as_of=as_of)), ()
    fresh = _described(before or _unheard_of(observation, as_of=as_of), observation, as_of=as_of)
    if timers.rule.for_:
        return replace(fresh, state=AlertState.PENDING, state_since=as_of), (EventKind.PENDING,)
    return _opened(fresh, timers=timers, as_of=as_of)


def _from_pending(
    before: Alert, observation: Observation, *, timers: _Timers, as_of: datetime
) -> tuple[Alert, Happened]:
    if observation.verdict is Verdict.BREACH:
        described = _described(before, observation, as_of=as_of)
        if as_of - before.state_since >= timers.rule.for_:
            return _opened(described, timers=timers, as_of=as_of)
        return described, ()
    if observation.verdict in FREEZING:
        stale_since = before.stale_since or as_of
        if as_of - stale_since < timers.of_all.nodata_grace:
            return replace(_clock_stopped(before, as_of=as_of), stale_since=stale_since), ()
    dropped = replace(before, state=AlertState.INACTIVE, state_since=as_of, last_as_of=as_of, stale_since=None)
    return replace(dropped, reason=observation.reason), (EventKind.DROPPED,)


def _from_open(before: Alert, observation: Observation, *, timers: _Timers, as_of: datetime) -> tuple[Alert, Happened]:
    verdict = observation.verdict
    recovering = before.state is AlertState.RECOVERING
    if verdict is Verdict.BREACH:
        after = _described(before, observation, as_of=as_of)
        if not recovering:
            return settled(after, as_of=as_of, policy=timers.of_all), ()
        relapsed = replace(after, state=AlertState.FIRING, state_since=as_of, flaps=before.flaps + 1)
        return came_back(relapsed, as_of=as_of, policy=timers.of_all), (EventKind.RELAPSED,)
    if verdict in CLOSING:
        return _closed(before, reason=observation.reason, why=CLOSING[verdict], as_of=as_of), (EventKind.CLOSED,)
    if verdict is Verdict.CLEAR:
        began = before.state_since if recovering else as_of
        calm = settled(before, as_of=as_of, policy=timers.of_all)
        held = held_for(calm, keep_firing_for=timers.rule.keep_firing_for, policy=timers.of_all)
        if as_of - began >= held:
            return _closed(calm, reason=observation.reason, why=CloseReason.RECOVERED, as_of=as_of), (EventKind.CLOSED,)
        after = replace(calm, last_as_of=as_of, stale_since=None, reason=observation.reason)
        if recovering:
            return after, ()
        return replace(after, state=AlertState.RECOVERING, state_since=as_of), (EventKind.RECOVERING,)
    frozen = _clock_stopped(before, as_of=as_of) if recovering else replace(before, last_as_of=as_of)
    if verdict not in FREEZING:
        return replace(frozen, stale_since=None, reason=observation.reason), ()
    stale_since = before.stale_since or as_of
    if as_of - stale_since >= timers.of_all.max_stale:
        unknown = f"nobody could judge it for {describe(as_of - stale_since)}: {observation.reason}"
        return _closed(before, reason=unknown, why=CloseReason.EXPIRED, as_of=as_of), (EventKind.CLOSED,)
    return replace(frozen, stale_since=stale_since, reason=observation.reason), ()


def _beside(before: Alert | None, after: Alert) -> Iterable[EventKind]:
    """Yield what else happened to an alert that was open before this tick and is after it."""
    if before is None or not (before.state.is_open and after.state.is_open):
        return
    if after.severity is not before.severity:
        yield EventKind.ESCALATED if after.severity.rank > before.severity.rank else EventKind.EASED
    if after.stale_since is not None and before.stale_since is None:
        yield EventKind.STALE
    if (after.flapping_since is None) is not (before.flapping_since is None):
        yield EventKind.SETTLED if after.flapping_since is None else EventKind.FLAPPING


def _event(alert: Alert, kind: EventKind, *, as_of: datetime) -> AlertEvent:
    return AlertEvent(
        fingerprint=alert.fingerprint,
        episode_id=alert.episode_id,
        as_of=as_of,
        kind=kind,
        severity=alert.severity,
        reason=alert.reason,
        close_reason=alert.close_reason if kind is EventKind.CLOSED else None,
    )


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


def _opened(alert: Alert, *, timers: _Timers, as_of: datetime) -> tuple[Alert, Happened]:
    """
    Return the alert at the start of a new episode, of which nobody was told.

    A channel that has yet to hear of the last episode's close still believes the alert open, and so it is: what it was
    told stays, and it hears of the next close. One that opens again within ``reopen_within`` goes on in its threads.
    """
    again = alert.closed_at is not None and as_of - alert.closed_at <= timers.of_all.reopen_within
    opened = replace(
        alert,
        state=AlertState.FIRING,
        state_since=as_of,
        peak_severity=alert.severity,
        episode_id=episode_of(alert.fingerprint, as_of),
        opened_at=as_of,
        closed_at=None,
        close_reason=None,
        flaps=0,
        reopened_at=as_of if again else None,
        told={channel: told for channel, told in alert.told.items() if told.reason is not NotifyReason.CLOSED},
        threads=alert.threads if again else {},
        suppressed={},
        acknowledged=None,
    )
    if again:
        returned = came_back(opened, as_of=as_of, policy=timers.of_all)
        flaps = () if returned.flapping_since is None else (EventKind.FLAPPING,)
        return returned, (EventKind.REOPENED, *flaps)
    return settled(opened, as_of=as_of, policy=timers.of_all), (EventKind.OPENED,)


def _closed(alert: Alert, *, reason: str, why: CloseReason, as_of: datetime) -> Alert:
    """Return the alert at the end of its episode; the threads that it was told in are kept for a reopening."""
    told_in = {channel: told.thread for channel, told in alert.told.items() if told.thread is not None}
    return replace(
        alert,
        state=AlertState.INACTIVE,
        state_since=as_of,
        last_as_of=as_of,
        stale_since=None,
        flapping_since=None,
        closed_at=as_of,
        close_reason=why,
        reason=reason,
        threads={**alert.threads, **told_in},
        suppressed={},
        acknowledged=None,
    )


def _clock_stopped(alert: Alert, *, as_of: datetime) -> Alert:
    """Return the alert with the time since the last observation not counted by its running timer."""
    return replace(alert, state_since=alert.state_since + (as_of - alert.last_as_of), last_as_of=as_of)

"""
Whether a channel is told of an alert, and why.

`decide` compares what an alert is with what each channel was last told of its episode (`Alert.told`) and returns
the deliveries that close the gap, each with its reason; a decision to stay silent is returned as well, with its own.
What explains what, and is therefore not told, is `inhibition`'s.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from include.sync_health.alerts import (
    Alert,
    AlertState,
    Delivery,
    Member,
    NotifyReason,
    SilentReason,
    Told,
)
from include.sync_health.inhibition import DECIDED_IN_ORDER, ToldCauses
from include.sync_health.policy import Policy
from include.sync_health.routing import channels_for, kind_of
from include.sync_health.rule_policies import RuleMode

NOWHERE = "none"
"""The channel key of a decision that concerns no channel: no route leads anywhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """
    What to send, and what the alerts remember of it.

    ``alerts`` are the alerts given, with ``told`` brought up to date; ``deliveries`` include the silent ones.
    """

    deliveries: tuple[Delivery, ...]
    alerts: Mapping[str, Alert]


def reason_to_notify(
    alert: Alert, *, told: Told | None, repeat_after: timedelta | None, as_of: datetime
) -> NotifyReason | None:
    """
    Return why a channel should hear of this alert now, or None to stay silent.

    Args:
        alert: its state after this tick.
        told: what the channel was last told of this episode; None if nothing.
        repeat_after: the policy's interval for the alert's severity (inclusive); None repeats never, and 0 whenever the
            breach was found again in this very tick.
        as_of: the tick; aware.
    """
    if alert.state.is_open:
        if told is None:
            # A recovering alert that nobody heard of is left alone: either it relapses, or it was nothing.
            return NotifyReason.FIRST if alert.state is AlertState.FIRING else None
        # What nobody can judge any more is the last known state, and no news.
        due = repeat_after is not None and as_of - told.at >= repeat_after and alert.stale_since is None
        if not repeat_after and alert.last_breach_at != as_of:
            due = False  # every run sends what it finds, and this one found nothing new to say
        return NotifyReason.REPEAT if due and alert.state is AlertState.FIRING else None
    if alert.closed_at is not None and told is not None and told.reason is not NotifyReason.CLOSED:
        return NotifyReason.CLOSED
    return None


def owes_a_close(alert: Alert) -> bool:
    """Return whether some channel was told that the alert is open and not yet that it closed."""
    return alert.state is AlertState.INACTIVE and any(
        told.reason is not NotifyReason.CLOSED for told in alert.told.values()
    )


def decide(
    alerts: Mapping[str, Alert],
    *,
    policy: Policy,
    as_of: datetime,
    configured: Collection[str],
    may_notify: bool = True,
    open_alerts: Mapping[str, Alert] = {},
    as_baseline: bool = False,
) -> Decision:
    """
    Return the deliveries of one tick.

    One message per alert and channel; above ``policy.summary_above`` of one reason per channel, one message for all
    of them. A close goes to every channel that was told, whatever the routes say now; a channel never told hears
    nothing of it, and the ledger says so. Being listed in a summary counts as told. What a channel was told the cause
    of is neither told nor repeated there, until nothing explains it any more; see `inhibition`.

    Args:
        alerts: those judged in this tick, after `lifecycle.step`, by fingerprint, and those that `owes_a_close`.
        policy: routes, receivers, repeats, modes.
        as_of: the tick; aware.
        configured: the kinds of channel that have a connection, of ``slack`` and ``email``.
        may_notify: False records why nothing is sent; a later run that may speak tells what is still open.
        open_alerts: all open alerts known, as causes of those given; where one is in both, ``alerts`` has it right.
        as_baseline: True tells all openings of a channel in one message, as what was broken already when monitoring
            began; nothing is hidden behind its cause then.
    """
    verdicts = _verdicts(
        alerts,
        policy=policy,
        as_of=as_of,
        configured=configured,
        may_notify=may_notify,
        open_alerts=open_alerts,
        hides=not as_baseline,
    )
    spoken: dict[tuple[str, NotifyReason], list[Alert]] = {}
    silent: list[Delivery] = []
    told_now: dict[str, dict[str, Told]] = {}
    for alert in sorted(alerts.values(), key=_order):
        for channel, reason, why_not in verdicts[alert.fingerprint]:
            if why_not is not None:
                silent.append(_silent(alert, channel=channel, why=why_not, as_of=as_of))
            elif reason is not None:
                said = NotifyReason.BASELINE if as_baseline and reason is NotifyReason.FIRST else reason
                spoken.setdefault((channel, said), []).append(alert)
                told_now.setdefault(alert.fingerprint, {})[channel] = Told(
                    reason=said, at=as_of, severity=alert.severity
                )
    deliveries = [
        delivery
        for (channel, reason), members in spoken.items()
        for delivery in _messages(channel, reason=reason, members=members, policy=policy, as_of=as_of)
    ]
    remembering = {
        fingerprint: replace(alert, told={**alert.told, **told_now[fingerprint]}) if fingerprint in told_now else alert
        for fingerprint, alert in alerts.items()
    }
    return Decision(deliveries=(*deliveries, *silent), alerts=remembering)


Verdicts = tuple[tuple[str, NotifyReason | None, SilentReason | None], ...]
"""Channels, each with the reason to tell it or the reason not to."""


def _verdicts(
    alerts: Mapping[str, Alert],
    *,
    policy: Policy,
    as_of: datetime,
    configured: Collection[str],
    may_notify: bool,
    open_alerts: Mapping[str, Alert],
    hides: bool,
) -> Mapping[str, Verdicts]:
    """Return what every channel is told of each alert, causes decided before their symptoms."""
    causes = ToldCauses(policy=policy, as_of=as_of)
    found: dict[str, Verdicts] = {}
    for fingerprint, alert in sorted({**open_alerts, **alerts}.items(), key=_causes_first):
        if fingerprint not in alerts:
            causes.remember(alert)
            continue
        verdicts = []
        for channel, reason, why_not in _verdicts_by_channel(alert, policy=policy, as_of=as_of):
            if why_not is None and not may_notify:
                why_not = SilentReason.NOTIFY_NEVER
            elif why_not is None and kind_of(channel) not in configured:
                why_not = SilentReason.NOT_CONFIGURED
            elif why_not is None and hides and reason in _HIDEABLE and causes.hide(alert, channel=channel):
                why_not = SilentReason.INHIBITED
            verdicts.append((channel, reason, why_not))
        found[fingerprint] = tuple(verdicts)
        told_now = [
            channel for channel, reason, why_not in verdicts if why_not is None and reason is NotifyReason.FIRST
        ]
        causes.remember(alert, told_now=told_now)
    return found


_HIDEABLE = frozenset({NotifyReason.FIRST, NotifyReason.REPEAT})


def _verdicts_by_channel(
    alert: Alert, *, policy: Policy, as_of: datetime
) -> Iterable[tuple[str, NotifyReason | None, SilentReason | None]]:
    """Yield each channel with the reason to tell it, or the reason not to, where either is worth recording."""
    closed_before = alert.state is AlertState.INACTIVE and alert.closed_at != as_of
    if alert.episode_id is None or alert.state is AlertState.PENDING or (closed_before and not alert.told):
        return
    shadowed = policy.rules.named(alert.rule).mode is RuleMode.SHADOW
    routed = channels_for(policy, severity=alert.severity, rule=alert.rule, environment=alert.environment)
    if not alert.told and (shadowed or not routed):
        yield NOWHERE, None, SilentReason.SHADOW if shadowed else SilentReason.NO_ROUTE
        return
    for channel in dict.fromkeys((*alert.told, *routed)):
        told = alert.told.get(channel)
        if shadowed and told is None:
            continue
        reason = reason_to_notify(alert, told=told, repeat_after=policy.repeat[alert.severity], as_of=as_of)
        if reason is NotifyReason.REPEAT and (shadowed or channel not in routed):
            # The policy no longer sends it there; only the close still goes.
            yield channel, None, SilentReason.SHADOW if shadowed else SilentReason.NO_ROUTE
        elif reason is not None:
            yield channel, reason, None
        elif alert.state is AlertState.INACTIVE and told is None and not closed_before:
            yield channel, None, SilentReason.NEVER_TOLD


def _messages(
    channel: str, *, reason: NotifyReason, members: list[Alert], policy: Policy, as_of: datetime
) -> Iterable[Delivery]:
    together = reason is NotifyReason.BASELINE or len(members) > policy.summary_above
    batches = [members] if together else [[alert] for alert in members]
    for batch in batches:
        yield Delivery(
            key=f"{channel}|{reason}|{_batch_key(batch)}|{_instant(as_of) if reason is NotifyReason.REPEAT else ''}",
            channel=channel,
            reason=reason,
            members=tuple(_member(alert) for alert in batch),
            as_of=as_of,
        )


def _silent(alert: Alert, *, channel: str, why: SilentReason, as_of: datetime) -> Delivery:
    return Delivery(
        key=f"{channel}|not sent: {why}|{alert.episode_id}|{alert.state is AlertState.INACTIVE}",
        channel=channel,
        reason=None,
        silent=why,
        members=(_member(alert),),
        as_of=as_of,
    )


def _member(alert: Alert) -> Member:
    if alert.episode_id is None:
        raise ValueError(f"alert {alert.fingerprint} has no episode")
    return Member(fingerprint=alert.fingerprint, episode_id=alert.episode_id)


def _batch_key(batch: list[Alert]) -> str:
    if len(batch) == 1:
        return str(batch[0].episode_id)
    return hashlib.sha256("|".join(sorted(str(alert.episode_id) for alert in batch)).encode()).hexdigest()


def _instant(as_of: datetime) -> str:
    return f"{as_of.timestamp():.6f}"


def _causes_first(item: tuple[str, Alert]) -> tuple[int, str]:
    """The order in which alerts are decided, whatever their severity."""
    fingerprint, alert = item
    return DECIDED_IN_ORDER.index(alert.rule), fingerprint


def _order(alert: Alert) -> tuple[int, str, str]:
    """Worst first, then by rule and fingerprint: the order in which messages go out."""
    return (-alert.severity.rank, alert.rule, alert.fingerprint)

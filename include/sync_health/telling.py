"""
What each channel should hear of one alert in one tick, and what keeps it back: the verdicts that `notifications` acts on.

They are found causes first, since a cause hides its symptoms only where it is told itself. The budget of a channel is not
looked at here: it counts messages, and how many there are is known only when the openings are grouped. Where it then keeps
back a cause, they are found once more.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from include.sync_health.alerts import OPENINGS, Alert, AlertState, NotifyReason, SilentReason, Suppression, Told
from include.sync_health.flapping import FLAPPING_REPEATS
from include.sync_health.inhibition import DECIDED_IN_ORDER, ToldCauses
from include.sync_health.matchers import labels_of
from include.sync_health.muting import Suppressors
from include.sync_health.policy import Policy
from include.sync_health.routing import channels_of, kind_of
from include.sync_health.rule_policies import RuleMode

NOWHERE = "none"
"""The channel key of a decision that concerns no channel: no route leads anywhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelVerdict:
    """
    What one channel hears of an alert.

    Args:
        channel: the channel key, or `NOWHERE`.
        reason: why it should be told; None when there is nothing to tell, and only ``why_not`` is worth recording.
        why_not: why it is not told all the same; None when it is.
        by: what keeps it back, as in `Suppression.by`.
    """

    channel: str
    reason: NotifyReason | None
    why_not: SilentReason | None = None
    by: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """
    What a tick's verdicts depend on beside the alerts.

    Args:
        policy: routes, repeats, modes.
        as_of: the tick; aware.
        configured: the kinds of channel that have a connection, of ``slack`` and ``email``.
        may_notify: False: nothing is said, and a later run that may speak tells what is still open.
        suppressors: the silences and mutes that hold now.
        hides: False: a cause hides nothing.
        judged_at: the instants that the run judged: ``as_of``, and before it those that were missed.
    """

    policy: Policy
    as_of: datetime
    configured: Collection[str]
    may_notify: bool
    suppressors: Suppressors
    hides: bool
    judged_at: frozenset[datetime]


def reason_to_notify(
    alert: Alert,
    *,
    told: Told | None,
    suppression: Suppression | None = None,
    reopens: bool = False,
    opened_unseen: bool = False,
    repeat_after: timedelta | None,
    as_of: datetime,
) -> NotifyReason | None:
    """
    Return why a channel should hear of this alert now, or None to stay silent.

    Args:
        alert: its state after this tick.
        told: what the channel was last told of this episode; None if nothing.
        suppression: what has kept it from hearing of this episode so far; None if nothing has.
        reopens: the channel knows the episode before, which closed a moment ago.
        opened_unseen: it opened while nobody looked, which this run makes up for.
        repeat_after: the policy's interval for the alert's severity (inclusive); None repeats never, and 0 whenever the
            breach was found again in this very tick.
        as_of: the tick; aware.
    """
    if alert.state.is_open:
        if told is None:
            if alert.state is not AlertState.FIRING and not opened_unseen:
                return None  # a recovering alert that nobody heard of: either it relapses, or it was nothing
            if suppression is not None:
                return NotifyReason.UNSUPPRESSED
            return NotifyReason.REOPENED if reopens else NotifyReason.FIRST
        if alert.state is not AlertState.FIRING:
            return None
        if alert.severity.rank > told.severity.rank:
            return NotifyReason.ESCALATED
        # What nobody can judge any more is the last known state, and no news.
        due = repeat_after is not None and as_of - told.at >= repeat_after and alert.stale_since is None
        if not repeat_after and alert.last_breach_at != as_of:
            due = False  # every run sends what it finds, and this one found nothing new to say
        return NotifyReason.REPEAT if due else None
    if alert.closed_at is not None and told is not None and told.reason is not NotifyReason.CLOSED:
        return NotifyReason.CLOSED
    return None


def verdicts_of(
    alerts: Mapping[str, Alert],
    *,
    open_alerts: Mapping[str, Alert],
    around: Surroundings,
    over_budget: Collection[tuple[str, str]] = (),
) -> Mapping[str, tuple[ChannelVerdict, ...]]:
    """
    Return what every channel hears of each alert, by fingerprint.

    Args:
        alerts: those to decide on.
        open_alerts: all that are open, as causes of those; where one is in both, ``alerts`` has it right.
        around: everything else.
        over_budget: channels and fingerprints of causes that the day's budget keeps from being told there: they hide
            nothing.
    """
    causes = ToldCauses(policy=around.policy, as_of=around.as_of)
    found: dict[str, tuple[ChannelVerdict, ...]] = {}
    for fingerprint, alert in sorted({**open_alerts, **alerts}.items(), key=_causes_first):
        if fingerprint not in alerts:
            causes.remember(alert)
            continue
        verdicts = tuple(
            _kept_back(each, alert, around=around, causes=causes) for each in _wanted(alert, around=around)
        )
        found[fingerprint] = verdicts
        told_now = [
            each.channel
            for each in verdicts
            if each.why_not is None and each.reason in OPENINGS and (each.channel, fingerprint) not in over_budget
        ]
        causes.remember(alert, told_now=told_now)
    return found


_STOPPABLE = OPENINGS | {NotifyReason.REPEAT, NotifyReason.ESCALATED}
_HIDEABLE = OPENINGS | {NotifyReason.REPEAT}
"""A symptom that got worse than anybody was told is told."""


def _wanted(alert: Alert, *, around: Surroundings) -> Iterable[ChannelVerdict]:
    """Yield each channel with the reason to tell it, or the reason not to, where either is worth recording."""
    policy, as_of = around.policy, around.as_of
    closed_before = alert.state is AlertState.INACTIVE and alert.closed_at not in around.judged_at
    if alert.episode_id is None or alert.state is AlertState.PENDING or (closed_before and not alert.told):
        return
    shadowed = policy.rules.named(alert.rule).mode is RuleMode.SHADOW
    routed = channels_of(alert, policy=policy)
    unwanted = SilentReason.SHADOW if shadowed else SilentReason.NO_ROUTE
    if not alert.told and (shadowed or not routed):
        yield ChannelVerdict(channel=NOWHERE, reason=None, why_not=unwanted)
        return
    flaps = alert.flapping_since is not None
    for channel in dict.fromkeys((*alert.told, *routed)):
        told = alert.told.get(channel)
        if shadowed and told is None:
            continue
        reason = reason_to_notify(
            alert,
            told=told,
            suppression=alert.suppressed.get(channel),
            reopens=channel in alert.threads and alert.reopened_at == alert.opened_at,
            opened_unseen=alert.opened_at in around.judged_at,
            repeat_after=FLAPPING_REPEATS if flaps else policy.repeat[alert.severity],
            as_of=as_of,
        )
        if reason in (NotifyReason.REPEAT, NotifyReason.ESCALATED) and (shadowed or channel not in routed):
            # The policy no longer sends it there; only the close still goes.
            yield ChannelVerdict(channel=channel, reason=None, why_not=unwanted)
        elif reason is not None:
            yield ChannelVerdict(channel=channel, reason=reason)
        elif alert.state is AlertState.INACTIVE and told is None and not closed_before:
            yield ChannelVerdict(channel=channel, reason=None, why_not=SilentReason.NEVER_TOLD)


def _kept_back(verdict: ChannelVerdict, alert: Alert, *, around: Surroundings, causes: ToldCauses) -> ChannelVerdict:
    """Return the verdict with what keeps the message back, if anything does."""
    channel, reason = verdict.channel, verdict.reason
    if reason is None:
        return verdict

    def kept_back(why: SilentReason, by: str | None = None) -> ChannelVerdict:
        return ChannelVerdict(channel=channel, reason=reason, why_not=why, by=by)

    if not around.may_notify:
        return kept_back(SilentReason.NOTIFY_NEVER)
    if kind_of(channel) not in around.configured:
        return kept_back(SilentReason.NOT_CONFIGURED)
    # Before a silence: nobody would have been reminded, so that there is nothing to tell when the silence ends.
    if reason is NotifyReason.REPEAT and alert.acknowledged and alert.acknowledged.holds_at(around.as_of):
        return kept_back(SilentReason.ACKNOWLEDGED, alert.acknowledged.by)
    if reason in _STOPPABLE and (stopped := around.suppressors.of(labels_of(alert, tags=around.policy.tags))):
        return kept_back(*stopped)
    if around.hides and reason in _HIDEABLE and (cause := causes.hiding(alert, channel=channel)):
        return kept_back(SilentReason.INHIBITED, cause)
    return verdict


def _causes_first(item: tuple[str, Alert]) -> tuple[int, str]:
    """The order in which alerts are decided, whatever their severity."""
    fingerprint, alert = item
    return DECIDED_IN_ORDER.index(alert.rule), fingerprint

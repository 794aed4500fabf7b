"""
Whether a channel is told of an alert, and why.

`decide` compares what an alert is with what each channel was last told of its episode (`Alert.told`) and returns
the deliveries that close the gap, each with its reason; a decision to stay silent is returned as well, with its own.
What each channel should hear of one alert is `telling`'s, which alerts share a message `speeches`', and what becomes of
messages that were kept back `held_back`'s.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from include.sync_health.alerts import (
    HOLDING,
    OPENINGS,
    Alert,
    AlertState,
    Delivery,
    Held,
    NotifyReason,
    SilentReason,
    Suppression,
    Told,
)
from include.sync_health.held_back import Release, caught_up, summaries_of_held
from include.sync_health.matchers import labels_of
from include.sync_health.muting import Suppressors
from include.sync_health.policy import Policy
from include.sync_health.routing import channels_of, kind_of
from include.sync_health.rule_policies import RuleMode
from include.sync_health.speeches import Speech, member_of, summarised, together, within_budget
from include.sync_health.telling import NOWHERE, ChannelVerdict, Surroundings, reason_to_notify, verdicts_of
from include.sync_health.threads import shown_of

__all__ = ["NOWHERE", "Decision", "decide", "owes_a_close", "reason_to_notify"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """
    What to send, and what the alerts remember of it.

    ``alerts`` are the alerts given, with ``told`` brought up to date, and those others that a message took along;
    ``deliveries`` include the silent ones.
    """

    deliveries: tuple[Delivery, ...]
    alerts: Mapping[str, Alert]


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
    suppressors: Suppressors | None = None,
    spent: Mapping[str, int] = {},
    spent_before: Mapping[str, Mapping[str, Mapping[str, int]]] = {},
    held: Sequence[Held] = (),
    missed: Sequence[Alert] = (),
    missed_at: Collection[datetime] = (),
) -> Decision:
    """
    Return the deliveries of one tick.

    The openings of a channel that share a group are one message, and so are the closes of one thread; where there would
    still be more than ``policy.summary_above`` messages of one reason in a channel, they are one summary. A close goes to
    every channel that was told, whatever the routes, silences or the budget say now; a channel never told hears nothing
    of it, and the ledger says so. Being listed in a summary counts as told. What a channel was told the cause of is
    neither told nor repeated there, until nothing explains it any more; see `inhibition`.

    A silence, a mute or the budget keeps a message back. When it no longer does, one summary for each channel tells what
    it kept back, and what of that still fires; the budget's is the digest, in the first tick of the next day.

    Args:
        alerts: those judged in this tick, after `lifecycle.step`, by fingerprint, and those that `owes_a_close`.
        policy: routes, receivers, repeats, modes, grouping, budget.
        as_of: the tick; aware.
        configured: the kinds of channel that have a connection, of ``slack`` and ``email``.
        may_notify: False records why nothing is sent; a later run that may speak tells what is still open.
        open_alerts: all open alerts known, as causes of those given; where one is in both, ``alerts`` has it right.
        as_baseline: True tells all openings of a channel in one message, as what was broken already when monitoring
            began; nothing is hidden behind its cause then.
        suppressors: the silences and mutes that hold now; None: none do.
        spent: messages to each channel that the budget has counted today.
        spent_before: messages that it counted on the days that a digest is due for, by day (ISO), channel and rule.
        held: what the ledger has as kept back, and no summary has told of.
        missed: alerts as they were when they closed, of episodes that opened and closed while nobody looked.
        missed_at: the instants that were missed and judged in this run.
    """
    around = Surroundings(
        policy=policy,
        as_of=as_of,
        configured=configured,
        may_notify=may_notify,
        suppressors=suppressors or Suppressors(at=as_of),
        hides=not as_baseline,
        judged_at=frozenset({as_of, *missed_at}),
    )
    known = {**open_alerts, **alerts}
    came_and_went = _missed_by_channel(missed, around=around)
    caught = {(channel, alert.episode_id) for channel, alerts in came_and_went.items() for alert in alerts}
    over_budget: frozenset[tuple[str, str]] = frozenset()
    while True:
        found = verdicts_of(alerts, open_alerts=open_alerts, around=around, over_budget=over_budget)
        plan = _planned(
            {each: found[each] for each in sorted(found, key=lambda each: _order(alerts[each]))},
            known=known,
            held=held,
            spent=spent,
            as_baseline=as_baseline,
            around=around,
        )
        if (untold := plan.causes_over_budget()) <= over_budget:
            break
        over_budget |= untold  # what they hid is news now; each round has one more of them, so that it ends
    receipts = [_with_what_was_spent(each, spent_before) for each in plan.receipts]
    summaries = [*receipts, *caught_up(came_and_went, missed_at=missed_at, as_of=as_of)]

    silent = [
        (known[fingerprint], verdict)
        for fingerprint, of_alert in plan.verdicts.items()
        for verdict in of_alert
        if verdict.why_not is not None
        and not (
            verdict.why_not is SilentReason.NEVER_TOLD and (verdict.channel, known[fingerprint].episode_id) in caught
        )
    ]
    silent += [
        (alert, ChannelVerdict(channel=speech.channel, reason=speech.reason, why_not=SilentReason.BUDGET))
        for speech in plan.over_budget
        for alert in speech.alerts
    ]
    speeches = [*summaries, *plan.allowed]

    remembered = _remembering(known, speeches=speeches, silent=silent, as_of=as_of)
    remembered, updates = _shown(remembered, speeches=speeches, around=around)
    changed = {fingerprint for fingerprint, alert in remembered.items() if alert is not known[fingerprint]}
    return Decision(
        deliveries=(
            *(speech.delivery(as_of=as_of) for speech in (*speeches, *updates)),
            *(_silent(alert, verdict, as_of=as_of) for alert, verdict in silent),
        ),
        alerts={
            fingerprint: alert
            for fingerprint, alert in remembered.items()
            if fingerprint in alerts or fingerprint in changed
        },
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """What a tick's verdicts come to: the summaries of what was kept back, and what the budget allows, or not."""

    verdicts: Mapping[str, Sequence[ChannelVerdict]]
    receipts: Sequence[Speech]
    allowed: Sequence[Speech]
    over_budget: Sequence[Speech]

    def causes_over_budget(self) -> frozenset[tuple[str, str]]:
        """Return channels and fingerprints of causes that hide something there, and are not told there after all."""
        untold = {
            (speech.channel, alert.fingerprint)
            for speech in self.over_budget
            if speech.reason in OPENINGS
            for alert in speech.alerts
        }
        hiding = (each for of_alert in self.verdicts.values() for each in of_alert)
        return frozenset(
            (each.channel, each.by)
            for each in hiding
            if each.why_not is SilentReason.INHIBITED and each.by is not None and (each.channel, each.by) in untold
        )


def _planned(
    verdicts: Mapping[str, Sequence[ChannelVerdict]],
    *,
    known: Mapping[str, Alert],
    held: Sequence[Held],
    spent: Mapping[str, int],
    as_baseline: bool,
    around: Surroundings,
) -> _Plan:
    policy = around.policy
    receipts = _receipts(held, verdicts, known=known, around=around)
    told_of = {(speech.channel, alert.fingerprint) for speech in receipts for alert in speech.alerts}
    wanted = _wanted(verdicts, known=known, leaving_out=told_of, as_baseline=as_baseline)
    quiet = _quiet(known.values(), around=around)
    asked = together(wanted, known=known.values(), quiet=quiet, policy=policy, as_of=around.as_of)
    # Too many are one summary before they are counted: a storm costs a channel one message of its day.
    always = NotifyReason.BASELINE if as_baseline else None
    batches = summarised(asked, above=policy.summary_above, always=always)
    allowed, over_budget = within_budget(batches, spent=spent, budget=policy.alerting.budget)
    return _Plan(verdicts=verdicts, receipts=receipts, allowed=allowed, over_budget=over_budget)


def _wanted(
    verdicts: Mapping[str, Sequence[ChannelVerdict]],
    *,
    known: Mapping[str, Alert],
    leaving_out: Collection[tuple[str, str]],
    as_baseline: bool,
) -> Mapping[tuple[str, NotifyReason], Sequence[Alert]]:
    """Return what is to be told, by channel and reason, but for what a summary has just told."""
    wanted: dict[tuple[str, NotifyReason], list[Alert]] = {}
    for fingerprint, of_alert in verdicts.items():
        for each in of_alert:
            if each.reason is None or each.why_not is not None:
                continue
            if (each.channel, fingerprint) in leaving_out and each.reason is not NotifyReason.CLOSED:
                continue
            reason = NotifyReason.BASELINE if as_baseline and each.reason in OPENINGS else each.reason
            wanted.setdefault((each.channel, reason), []).append(known[fingerprint])
    return wanted


def _receipts(
    held: Iterable[Held],
    verdicts: Mapping[str, Sequence[ChannelVerdict]],
    *,
    known: Mapping[str, Alert],
    around: Surroundings,
) -> list[Speech]:
    release = Release(suppressors=around.suppressors, as_of=around.as_of, timezone=around.policy.reporting_timezone)
    released: dict[str, list[Alert]] = {}
    still_held: set[tuple[str, str]] = set()
    rows = [
        each
        for each in held
        if _may_speak_to(each.channel, around=around)
        and not (each.rule and around.policy.rules.named(each.rule).mode is RuleMode.SHADOW)
        and release.of(each.why, each.by, since=each.as_of)
    ]
    for fingerprint, of_alert in verdicts.items():
        for each in of_alert:
            if each.reason in OPENINGS and each.why_not is None:
                released.setdefault(each.channel, []).append(known[fingerprint])
    # Asked of every alert, whatever its verdict: of some there is nothing to tell, or a retry or a run over a part judged nothing.
    for row in rows:
        alert = known.get(row.member.fingerprint)
        if alert is None or not alert.state.is_open:
            continue
        goes_there = row.channel in alert.told or row.channel in channels_of(alert, policy=around.policy)
        if not goes_there or around.suppressors.of(labels_of(alert, tags=around.policy.tags)):
            still_held.add((row.channel, alert.fingerprint))
    return summaries_of_held(rows, released, known=known, still_held=still_held, release=release)


def _with_what_was_spent(speech: Speech, spent: Mapping[str, Mapping[str, Mapping[str, int]]]) -> Speech:
    """Return a digest with the rules that spent the budget of its days, and any other message as it is."""
    if speech.reason is not NotifyReason.DIGEST:
        return speech
    by_rule: Counter[str] = Counter()
    for day in speech.details["topics"]:
        by_rule.update(spent.get(day, {}).get(speech.channel, {}))
    return replace(speech, details={**speech.details, "spent": dict(by_rule)})


def _quiet(alerts: Iterable[Alert], *, around: Surroundings) -> frozenset[str]:
    """Return the fingerprints of those that no repeat takes along: silenced, muted, acknowledged, or in shadow."""
    return frozenset(
        alert.fingerprint
        for alert in alerts
        if around.suppressors.of(labels_of(alert, tags=around.policy.tags))
        or (alert.acknowledged is not None and alert.acknowledged.holds_at(around.as_of))
        or around.policy.rules.named(alert.rule).mode is RuleMode.SHADOW
    )


def _missed_by_channel(missed: Iterable[Alert], *, around: Surroundings) -> Mapping[str, Sequence[Alert]]:
    by_channel: dict[str, list[Alert]] = {}
    for alert in missed:
        if around.policy.rules.named(alert.rule).mode is RuleMode.SHADOW:
            continue
        if around.suppressors.of(labels_of(alert, tags=around.policy.tags)):
            continue
        for channel in channels_of(alert, policy=around.policy):
            if channel not in alert.told and _may_speak_to(channel, around=around):
                by_channel.setdefault(channel, []).append(alert)
    return by_channel


def _may_speak_to(channel: str, *, around: Surroundings) -> bool:
    return around.may_notify and kind_of(channel) in around.configured


def _remembering(
    known: Mapping[str, Alert],
    *,
    speeches: Iterable[Speech],
    silent: Iterable[tuple[Alert, ChannelVerdict]],
    as_of: datetime,
) -> dict[str, Alert]:
    """Return all alerts with what their channels have heard by now, and with what keeps them from hearing it."""
    remembered = dict(known)
    for alert, verdict in silent:
        if verdict.why_not not in (*HOLDING, SilentReason.INHIBITED) or verdict.reason not in OPENINGS:
            continue
        now = remembered[alert.fingerprint]
        before = now.suppressed.get(verdict.channel)
        if before is None or (before.why, before.by) != (verdict.why_not, verdict.by):
            suppression = Suppression(why=verdict.why_not, by=verdict.by, since=as_of)
            suppressed = {**now.suppressed, verdict.channel: suppression}
            remembered[alert.fingerprint] = replace(now, suppressed=suppressed)
    for speech in speeches:
        for alert in speech.alerts:
            remembered[alert.fingerprint] = _told(remembered[alert.fingerprint], speech, as_of=as_of)
    return remembered


def _told(alert: Alert, speech: Speech, *, as_of: datetime) -> Alert:
    """Return the alert after one channel heard of it."""
    before = alert.told.get(speech.channel)
    worst = max([alert.severity, *([before.severity] if before else [])], key=lambda each: each.rank)
    told = Told(
        reason=speech.reason,
        at=as_of,
        severity=worst,
        thread=speech.thread if speech.thread is not None else (before.thread if before is not None else None),
        shown=before.shown if before is not None else None,
    )
    suppressed = {channel: each for channel, each in alert.suppressed.items() if channel != speech.channel}
    return replace(alert, told={**alert.told, speech.channel: told}, suppressed=suppressed)


def _shown(
    alerts: Mapping[str, Alert], *, speeches: Iterable[Speech], around: Surroundings
) -> tuple[dict[str, Alert], list[Speech]]:
    """
    Return the alerts with what the first messages of their threads show of them now, and the edits that it takes.

    A thread that begins in this tick shows it anyway; only Slack's messages can be edited.
    """
    begun = {(speech.channel, speech.thread) for speech in speeches if speech.opens_thread}
    remembered, changed = dict(alerts), dict[tuple[str, str], list[Alert]]()
    for fingerprint, alert in sorted(alerts.items()):
        shown = shown_of(alert, as_of=around.as_of)
        outdated = {
            channel: told
            for channel, told in alert.told.items()
            if told.thread is not None and told.shown != shown and kind_of(channel) in around.configured
        }
        if not outdated or not around.may_notify:
            continue
        now = {channel: replace(told, shown=shown) for channel, told in outdated.items()}
        remembered[fingerprint] = replace(alert, told={**alert.told, **now})
        for channel, told in outdated.items():
            if kind_of(channel) == "slack" and (channel, told.thread) not in begun and told.thread is not None:
                changed.setdefault((channel, told.thread), []).append(remembered[fingerprint])
    updates = [
        Speech(channel=channel, reason=NotifyReason.UPDATED, alerts=tuple(of_thread), thread=thread)
        for (channel, thread), of_thread in changed.items()
    ]
    return remembered, updates


def _silent(alert: Alert, verdict: ChannelVerdict, *, as_of: datetime) -> Delivery:
    by = f"|{verdict.by}" if verdict.by else ""
    # A mute comes back every night, and a budget is of one day: each is to be accounted for.
    day = f"|{as_of.astimezone(UTC).date()}" if verdict.why_not in HOLDING else ""
    closed = alert.state is AlertState.INACTIVE
    return Delivery(
        key=f"{verdict.channel}|not sent: {verdict.why_not}|{alert.episode_id}|{closed}{by}{day}",
        channel=verdict.channel,
        reason=None,
        silent=verdict.why_not,
        by=verdict.by,
        members=(member_of(alert),),
        as_of=as_of,
        severity=alert.severity,
    )


def _order(alert: Alert) -> tuple[int, str, str]:
    """Worst first, then by rule and fingerprint: the order in which messages go out."""
    return (-alert.severity.rank, alert.rule, alert.fingerprint)

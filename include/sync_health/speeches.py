"""
What is said to a channel in one tick: which alerts share a message, and what becomes of too many messages.

    wanted ─together by thread or group→ speeches ─a summary above the limit→ speeches ─within the budget→ speeches
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from include.sync_health.alerts import OPENINGS, Alert, AlertState, Delivery, Member, NotifyReason
from include.sync_health.policy import Policy
from include.sync_health.threads import OpenGroups, group_of, new_thread, threads_by_channel
from include.sync_health.verdicts import Severity

BUDGETED = OPENINGS - {NotifyReason.BASELINE} | {NotifyReason.REPEAT}
"""Reasons that the budget counts; closes, escalations and summaries always go."""

FREE_FROM = Severity.HIGH
"""A message that speaks of something so severe, or more, costs no budget."""

ONCE_A_TICK = frozenset({NotifyReason.REPEAT, NotifyReason.ESCALATED, NotifyReason.UPDATED})
"""Reasons for which the same episodes are told more than once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Speech:
    """
    One message to one channel.

    Args:
        channel, reason: as of a `Delivery`.
        alerts: as they are after this tick.
        thread: the conversation; None for a summary, which has none.
        opens_thread: it is the first message there.
        members: of alerts that the tick does not know; added to those of ``alerts``.
        topic: makes the key of a summary its own, where the same alerts may be in several.
        details, accounts_for: as of a `Delivery`.
    """

    channel: str
    reason: NotifyReason
    alerts: tuple[Alert, ...]
    thread: str | None = None
    opens_thread: bool = False
    members: tuple[Member, ...] = ()
    topic: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)
    accounts_for: tuple[str, ...] = ()

    @property
    def severity(self) -> Severity | None:
        """The worst of its alerts; None without any."""
        return max((alert.severity for alert in self.alerts), key=lambda each: each.rank, default=None)

    @property
    def costs_budget(self) -> bool:
        """True for a message that the day's budget counts."""
        worst = self.severity
        return self.reason in BUDGETED and worst is not None and worst.rank < FREE_FROM.rank

    def delivery(self, *, as_of: datetime) -> Delivery:
        """Return it for the outbox."""
        members = {member.fingerprint: member for member in (*self.members, *map(member_of, self.alerts))}
        instant = f"{as_of.timestamp():.6f}" if self.reason in ONCE_A_TICK else self.topic
        return Delivery(
            key=f"{self.channel}|{self.reason}|{_of_episodes(list(members.values()))}|{instant}",
            channel=self.channel,
            reason=self.reason,
            members=tuple(members.values()),
            as_of=as_of,
            severity=self.severity,
            thread=self.thread,
            details=self.details,
            accounts_for=self.accounts_for,
        )


def member_of(alert: Alert) -> Member:
    """
    Return the episode that a message about this alert speaks of.

    Raises:
        ValueError: it has never opened.
    """
    if alert.episode_id is None:
        raise ValueError(f"alert {alert.fingerprint} has no episode")
    return Member(fingerprint=alert.fingerprint, episode_id=alert.episode_id)


def together(
    wanted: Mapping[tuple[str, NotifyReason], Sequence[Alert]],
    *,
    known: Iterable[Alert],
    quiet: Collection[str] = (),
    policy: Policy,
    as_of: datetime,
) -> list[Speech]:
    """
    Return the messages of a tick: alerts of one channel and reason that share a thread, or open one together.

    An opening whose group the channel was told of joins its thread (`NotifyReason.NEW_IN_GROUP`), one that came back that
    of its episode before. Whoever is repeated takes along the neighbours of its thread, so that they are not repeated one
    by one.

    Args:
        wanted: the alerts to tell, by channel and reason; worst first.
        known: all alerts that may be open, as they are after this tick.
        quiet: the fingerprints of those that something keeps back: no repeat takes them along.
        policy: the grouping.
        as_of: the tick; aware.
    """
    everybody = list(known)
    groups = OpenGroups(everybody, policy=policy)
    drafts: dict[tuple[str, NotifyReason, str], Speech] = {}
    members: dict[tuple[str, NotifyReason, str], list[Alert]] = {}
    # What came back first: others of its group that open beside it join its conversation.
    for (channel, asked), alerts in sorted(wanted.items(), key=lambda item: item[0][1] is not NotifyReason.REOPENED):
        for alert in alerts:
            group = group_of(alert, policy=policy)
            reason, thread = asked, threads_by_channel(alert).get(channel)
            if asked is NotifyReason.FIRST and groups.told_of(channel, group):
                reason, thread = NotifyReason.NEW_IN_GROUP, groups.thread(channel, group)
            elif asked is NotifyReason.UNSUPPRESSED:
                thread = thread or groups.thread(channel, group)
            elif asked is NotifyReason.REOPENED:
                groups.join(channel, group, thread=thread)
            key = (channel, reason, thread or group)
            if key not in drafts:
                opens = thread is None and reason in OPENINGS
                drafts[key] = Speech(
                    channel=channel,
                    reason=reason,
                    alerts=(),
                    thread=new_thread(channel, group=group, as_of=as_of) if opens else thread,
                    opens_thread=opens,
                )
            members.setdefault(key, []).append(alert)
    audible = _by_thread(alert for alert in everybody if alert.fingerprint not in quiet)
    return [
        _about(drafts[key], alerts, neighbours=audible.get((drafts[key].channel, drafts[key].thread), ()))
        for key, alerts in members.items()
    ]


def before_it(alert: Alert, *, reason: NotifyReason, channel: str) -> Mapping[str, Any]:
    """
    Return what the message cannot see any more when it is made: what was told before, or what kept it back.

    The details of ESCALATED and UNSUPPRESSED, as `message_details` has them.
    """
    told, kept_back = alert.told.get(channel), alert.suppressed.get(channel)
    if reason is NotifyReason.ESCALATED and told is not None:
        return {"was": {alert.fingerprint: told.severity.value}}
    if reason is NotifyReason.UNSUPPRESSED and kept_back is not None:
        return {
            "kept_back_by": [kept_back.why.value],
            "topics": [kept_back.by] if kept_back.by else [],
            "since": kept_back.since.isoformat(),
        }
    return {}


def _before_them(each: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Return the details of a message about several alerts, of those of each."""
    merged: dict[str, Any] = {}
    if any("was" in one for one in each):
        merged["was"] = {fingerprint: was for one in each for fingerprint, was in one.get("was", {}).items()}
    for key in ("kept_back_by", "topics"):
        if any(key in one for one in each):
            merged[key] = sorted({value for one in each for value in one.get(key, ())})
    if since := [one["since"] for one in each if "since" in one]:
        merged["since"] = min(since)
    return merged


def _by_thread(alerts: Iterable[Alert]) -> Mapping[tuple[str, str | None], Sequence[Alert]]:
    """Return those that may be repeated beside others, by channel and the thread that they were told in there."""
    found: dict[tuple[str, str | None], list[Alert]] = {}
    for alert in alerts:
        if alert.state is AlertState.FIRING and alert.stale_since is None:
            for channel, told in alert.told.items():
                if told.thread is not None:
                    found.setdefault((channel, told.thread), []).append(alert)
    return found


def _about(draft: Speech, alerts: Sequence[Alert], *, neighbours: Iterable[Alert]) -> Speech:
    """Return the message about these alerts; a repeat takes along the neighbours of its thread."""
    mine = {alert.fingerprint for alert in alerts}
    beside = neighbours if draft.reason is NotifyReason.REPEAT else ()
    return replace(
        draft,
        alerts=(*alerts, *(alert for alert in beside if alert.fingerprint not in mine)),
        details=_before_them([before_it(alert, reason=draft.reason, channel=draft.channel) for alert in alerts]),
    )


def within_budget(
    speeches: Iterable[Speech], *, spent: Mapping[str, int], budget: int | None
) -> tuple[list[Speech], list[Speech]]:
    """
    Return the messages that the budget allows, and those that it keeps back, in the order given.

    Where it is not enough for all, the worst have it.

    Args:
        speeches: of one tick.
        spent: messages to each channel that it has counted today.
        budget: messages a day and channel; None: no limit.
    """
    in_order = list(speeches)
    if budget is None:
        return in_order, []
    counted, over = dict(spent), set[int]()
    worst_first = sorted(
        (-speech.severity.rank, place)
        for place, speech in enumerate(in_order)
        if speech.costs_budget and speech.severity is not None
    )
    for _, place in worst_first:
        channel = in_order[place].channel
        counted[channel] = counted.get(channel, 0) + 1
        if counted[channel] > budget:
            over.add(place)
    allowed = [speech for place, speech in enumerate(in_order) if place not in over]
    return allowed, [in_order[place] for place in sorted(over)]


def summarised(speeches: Iterable[Speech], *, above: int, always: NotifyReason | None = None) -> list[Speech]:
    """
    Return the messages with one summary in place of those that are too many of one reason in one channel.

    Args:
        speeches: of one tick.
        above: the most messages of one reason that a channel gets.
        always: the reason whose messages are one summary however few they are.
    """
    batches: dict[tuple[str, NotifyReason], list[Speech]] = {}
    for speech in speeches:
        batches.setdefault((speech.channel, speech.reason), []).append(speech)
    found: list[Speech] = []
    for (channel, reason), batch in batches.items():
        if reason is not NotifyReason.UPDATED and (reason is always or len(batch) > above):
            alerts = tuple(alert for speech in batch for alert in speech.alerts)
            found.append(Speech(channel=channel, reason=reason, alerts=alerts))
        else:
            found += batch
    return found


def _of_episodes(members: Sequence[Member]) -> str:
    if len(members) == 1:
        return str(members[0].episode_id)
    return hashlib.sha256("|".join(sorted(str(each.episode_id) for each in members)).encode()).hexdigest()

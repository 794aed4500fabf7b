"""
The summaries of several alerts, with every member within limits.

That of one tick's openings or closings has counts by rule and by cause; the baseline, of what was broken already when
monitoring began, is grouped by rule.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime

from include.sync_health.advice import BASELINE, Advice, advice_on
from include.sync_health.alerts import Alert, NotifyReason
from include.sync_health.message_parts import (
    LINE,
    SHORT,
    Listing,
    Message,
    Status,
    Text,
    began,
    counted,
    emoji_of,
    latest_error,
    status_of,
    who,
)
from include.sync_health.redaction import clean
from include.sync_health.verdicts import Severity

MOST_MEMBERS = 500
"""Members of a summary that a message holds; renderers may show fewer, and say how many more there are."""

MOST_MEMBERS_OF_A_RULE = 100
"""The same for each rule of the baseline."""


def summary_of(
    alerts: Sequence[Alert],
    *,
    reason: NotifyReason,
    as_of: datetime,
    notes: list[Text],
    links: tuple[tuple[str, str], ...],
) -> Message:
    """Return the summary of at least two alerts; see `messages.message_for` for the arguments."""
    ordered, statuses = _ranked(alerts, reason=reason)
    count, worst = len(ordered), _worst(ordered)
    verb = {
        NotifyReason.FIRST: "opened",
        NotifyReason.REPEAT: "are still open",
        NotifyReason.CLOSED: "closed",
        NotifyReason.TEST: "in a test",
    }[reason]
    status = _common_status(statuses)
    named = "" if reason is NotifyReason.CLOSED else f", worst {worst.value}"
    title = f"{count} ServiceTitan alerts {verb}{named}"
    return Message(
        reason=reason,
        status=status,
        severity=worst,
        emoji=emoji_of(status, worst),
        title=title,
        subject=title,
        sentence=f"{_causes_in_words(ordered)}. Now: {_statuses_in_words(statuses)}.",
        count=count,
        advice=_advice(ordered) if status.is_open else None,
        listings=(
            _counts_listing(ordered),
            *_cause_listings(ordered),
            Listing(
                title="Alerts",
                lines=tuple(
                    _member_line(alert, status=each, says_since=reason is not NotifyReason.FIRST)
                    for alert, each in zip(ordered[:MOST_MEMBERS], statuses, strict=False)
                ),
                total=count,
            ),
        ),
        notes=tuple(notes),
        links=links,
        footer=("summary · judged at ", as_of),
    )


def baseline_of(
    alerts: Sequence[Alert], *, as_of: datetime, notes: list[Text], links: tuple[tuple[str, str], ...]
) -> Message:
    """
    Return the summary of what was broken already when monitoring began: at least one alert, perhaps thousands.

    After the counts there is one listing for each rule, the rule with the worst first, and in it the worst first.
    """
    reason = NotifyReason.BASELINE
    ordered, statuses = _ranked(alerts, reason=reason)
    count, worst, status = len(ordered), _worst(ordered), _common_status(statuses)
    by_rule: dict[str, list[tuple[Alert, Status]]] = {}
    for alert, each in zip(ordered, statuses, strict=True):
        by_rule.setdefault(alert.rule, []).append((alert, each))
    groups = sorted(by_rule.values(), key=lambda group: (-_worst(alert for alert, _ in group).rank, -len(group)))
    began_with = f"{counted(count, 'thing')} {'was' if count == 1 else 'were'} already broken when monitoring began"
    title = f"{began_with}, {'' if count == 1 else 'worst '}{worst.value}"
    return Message(
        reason=reason,
        status=status,
        severity=worst,
        emoji=emoji_of(status, worst),
        title=title,
        subject=title,
        sentence=(
            f"{_causes_in_words(ordered)}. Now: {_statuses_in_words(statuses)}. None of it is new; "
            "from here on you hear of what changes, and are reminded of what stays."
        ),
        count=count,
        advice=BASELINE if status.is_open else None,
        listings=(
            Listing(
                title="By rule",
                lines=tuple((_severities_line([alert for alert, _ in group]),) for group in groups),
                total=len(groups),
            ),
            *(
                Listing(
                    title=_titles([alert for alert, _ in group]),
                    lines=tuple(
                        _member_line(alert, status=each, says_since=False)
                        for alert, each in group[:MOST_MEMBERS_OF_A_RULE]
                    ),
                    total=len(group),
                )
                for group in groups
            ),
        ),
        notes=tuple(notes),
        links=links,
        footer=("baseline · judged at ", as_of),
    )


def _ranked(alerts: Sequence[Alert], *, reason: NotifyReason) -> tuple[list[Alert], list[Status]]:
    """Return the alerts, what needs attention first, and where each stands now."""
    ranked = sorted(
        ((status_of(alert, reason=reason), alert) for alert in alerts),
        key=lambda pair: (_calm(pair[0]), -pair[1].severity.rank, pair[1].rule, who(pair[1]), pair[1].fingerprint),
    )
    return [alert for _, alert in ranked], [status for status, _ in ranked]


def _worst(alerts: Iterable[Alert]) -> Severity:
    return max((alert.severity for alert in alerts), key=lambda severity: severity.rank)


def _statuses_in_words(statuses: Iterable[Status]) -> str:
    return ", ".join(f"{number} {each.value.lower()}" for each, number in Counter(statuses).most_common())


def _severities_line(alerts: Sequence[Alert]) -> str:
    """Return "12 × ServiceTitan Sync Stale (3 high, 9 medium)", the worst first; "(high)" where all are."""
    counts = Counter(alert.severity for alert in alerts)
    ranked = sorted(counts.items(), key=lambda item: -item[0].rank)
    mixed = ", ".join(f"{number} {each.value}" for each, number in ranked)
    return f"{len(alerts)} × {_titles(alerts)} ({mixed if len(ranked) > 1 else ranked[0][0].value})"


def _titles(alerts: Sequence[Alert]) -> str:
    """Return how one rule words its titles here: two of them where it says both of "expired" and "expiring soon"."""
    counts = Counter(clean(alert.title, limit=SHORT) or alert.type for alert in alerts)
    return " / ".join(title for title, _ in counts.most_common(2))


def _common_status(statuses: Sequence[Status]) -> Status:
    """Return the status that all share; else that of one still open, else closed: never "recovered" for some of them."""
    if len(set(statuses)) == 1:
        return statuses[0]
    return next((status for status in statuses if status.is_open), Status.CLOSED)


def _counts_listing(alerts: Sequence[Alert]) -> Listing:
    counts = Counter(clean(alert.title, limit=SHORT) or alert.type for alert in alerts)
    lines = tuple((f"{number} × {title}",) for title, number in counts.most_common(20))
    return Listing(title="By rule", lines=lines, total=len(counts))


def _cause_listings(alerts: Sequence[Alert]) -> Iterable[Listing]:
    if groups := _by_cause(alerts):
        yield Listing(title="By cause", lines=tuple(map(_cause_line, groups[:20])), total=len(groups))


def _advice(alerts: Sequence[Alert]) -> Advice | None:
    """Return what helps with the cause that most of them share; None without one."""
    groups = _by_cause(alerts)
    return advice_on(groups[0][0]) if groups else None


def _cause_line(members: Sequence[Alert]) -> Text:
    first = members[0]
    name = first.error_class.value.replace("_", " ") if first.error_class else "no class"
    sample = latest_error(first, limit=SHORT)
    credentials = _credentials(members)
    whom = counted(credentials, "credential") if credentials else counted(len(members), "alert")
    return (f"{whom}: {name}{f': {sample}' if sample else ''}",)


def _causes_in_words(alerts: Sequence[Alert]) -> str:
    """Return "1 cause, 14 credentials", without what there is none of; "4 alerts" where there is neither."""
    causes, credentials = len(_by_cause(alerts)), _credentials(alerts)
    words = [counted(number, noun) for number, noun in ((causes, "cause"), (credentials, "credential")) if number]
    return ", ".join(words) or counted(len(alerts), "alert")


def _by_cause(alerts: Sequence[Alert]) -> list[list[Alert]]:
    """Return the alerts whose root cause is known, together by cause, that of most credentials first."""
    groups: dict[str, list[Alert]] = {}
    for alert in alerts:
        if alert.cause:
            groups.setdefault(alert.cause, []).append(alert)
    ranked = sorted(groups.items(), key=lambda item: (-max(_credentials(item[1]), len(item[1])), item[0]))
    return [group for _, group in ranked]


def _credentials(alerts: Iterable[Alert]) -> int:
    """Return how many credentials the alerts concern, as far as they tell: an outage only counts them."""
    alerts = list(alerts)
    named = {alert.credential_id for alert in alerts if alert.credential_id is not None}
    counted_by_outages = [alert.metadata.get("failed_credentials") for alert in alerts]
    return max([len(named), *(number for number in counted_by_outages if isinstance(number, int))])


def _member_line(alert: Alert, *, status: Status, says_since: bool) -> Text:
    if not status.is_open:
        about, title = who(alert), clean(alert.title, limit=SHORT) or alert.type
        return (f"{began(status, alert.severity)}: {f'{about}: ' if about else ''}{title}",)
    head = f"{began(status, alert.severity)}: {clean(alert.message, limit=LINE // 2) or alert.type}"
    return (head, "; open since ", alert.opened_at) if says_since and alert.opened_at else (head,)


def _calm(status: Status) -> int:
    """Return 0 for what is open, 1 for what closed without a recovery, 2 for what recovered: the order of members."""
    if status.is_open:
        return 0
    return 2 if status is Status.RECOVERED else 1

"""
The summaries of several alerts, with every member within limits.

That of one tick's openings or closings has counts by rule and by cause; the baseline, of what was broken already when
monitoring began, is grouped by rule. Alerts of one cause are no summary but one message: `group_messages`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from include.sync_health.advice import BASELINE, Advice, advice_on_group
from include.sync_health.alerts import Alert, NotifyReason
from include.sync_health.links import links_of_summary
from include.sync_health.message_members import (
    MOST_MEMBERS,
    Standing,
    by_cause,
    cause_in_words,
    causes_in_words,
    common_status,
    member_line,
    ranked,
    severities_in_words,
    statuses_in_words,
    titles_by_count,
    titles_in_words,
    whom_in_words,
    worst_of,
)
from include.sync_health.message_parts import Listing, Message, Occasion, counted, emoji_of

MOST_MEMBERS_OF_A_RULE = 100
"""Members that the baseline holds of each rule; renderers may show fewer, and say how many more there are."""

_VERBS = {
    NotifyReason.FIRST: "opened",
    NotifyReason.NEW_IN_GROUP: "joined others that are open",
    NotifyReason.REOPENED: "opened again",
    NotifyReason.UNSUPPRESSED: "are open that were kept back",
    NotifyReason.ESCALATED: "got worse",
    NotifyReason.REPEAT: "are still open",
    NotifyReason.CLOSED: "closed",
    NotifyReason.UPDATED: "as they are now",
    NotifyReason.TEST: "in a test",
}


def summary_of(alerts: Sequence[Alert], *, occasion: Occasion) -> Message:
    """Return the summary of at least two alerts."""
    reason = occasion.reason
    standings = ranked(alerts, reason=reason)
    ordered, statuses = [alert for alert, _ in standings], [status for _, status in standings]
    count, worst, status = len(ordered), worst_of(ordered), common_status(statuses)
    named = "" if reason is NotifyReason.CLOSED else f", worst {worst.value}"
    title = f"{count} ServiceTitan alerts {_VERBS[reason]}{named}"
    return Message(
        reason=reason,
        status=status,
        severity=worst,
        emoji=emoji_of(status, worst),
        title=title,
        subject=title,
        sentence=f"{causes_in_words(ordered)}. Now: {statuses_in_words(statuses)}.",
        count=count,
        advice=_advice([alert for alert, each in standings if each.is_open]),
        listings=(
            counts_listing(ordered),
            *_cause_listings(ordered),
            Listing(
                title="Alerts",
                lines=tuple(
                    member_line(alert, status=each, says_since=reason is not NotifyReason.FIRST)
                    for alert, each in standings[:MOST_MEMBERS]
                ),
                total=count,
            ),
        ),
        notes=occasion.notes,
        links=links_of_summary(ordered, links=occasion.links),
        footer=("summary · judged at ", occasion.as_of),
    )


def baseline_of(alerts: Sequence[Alert], *, occasion: Occasion) -> Message:
    """
    Return the summary of what was broken already when monitoring began: at least one alert, perhaps thousands.

    After the counts there is one listing for each rule, the rule with the worst first, and in it the worst first.
    """
    standings = ranked(alerts, reason=occasion.reason)
    ordered, statuses = [alert for alert, _ in standings], [status for _, status in standings]
    count, worst, status = len(ordered), worst_of(ordered), common_status(statuses)
    by_rule: dict[str, list[Standing]] = {}
    for alert, each in standings:
        by_rule.setdefault(alert.rule, []).append((alert, each))
    groups = sorted(by_rule.values(), key=lambda group: (-worst_of(alert for alert, _ in group).rank, -len(group)))
    began_with = f"{counted(count, 'thing')} {'was' if count == 1 else 'were'} already broken when monitoring began"
    title = f"{began_with}, {'' if count == 1 else 'worst '}{worst.value}"
    return Message(
        reason=occasion.reason,
        status=status,
        severity=worst,
        emoji=emoji_of(status, worst),
        title=title,
        subject=title,
        sentence=(
            f"{causes_in_words(ordered)}. Now: {statuses_in_words(statuses)}. None of it is new; "
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
                    title=titles_in_words([alert for alert, _ in group]),
                    lines=tuple(
                        member_line(alert, status=each, says_since=False)
                        for alert, each in group[:MOST_MEMBERS_OF_A_RULE]
                    ),
                    total=len(group),
                )
                for group in groups
            ),
        ),
        notes=occasion.notes,
        links=links_of_summary(ordered, links=occasion.links),
        footer=("baseline · judged at ", occasion.as_of),
    )


def counts_listing(alerts: Sequence[Alert]) -> Listing:
    """Return how many alerts there are by title, the commonest first."""
    counts = titles_by_count(alerts)
    return Listing(
        title="By rule", lines=tuple((f"{number} × {title}",) for title, number in counts[:20]), total=len(counts)
    )


def _severities_line(alerts: Sequence[Alert]) -> str:
    """Return "12 × ServiceTitan Sync Stale (3 high, 9 medium)", the worst first; "(high)" where all are."""
    return f"{len(alerts)} × {titles_in_words(alerts)} ({severities_in_words(alerts)})"


def _cause_listings(alerts: Sequence[Alert]) -> Iterable[Listing]:
    if groups := by_cause(alerts):
        lines = tuple((f"{whom_in_words(group)}: {cause_in_words(group[0])}",) for group in groups[:20])
        yield Listing(title="By cause", lines=lines, total=len(groups))


def _advice(alerts: Sequence[Alert]) -> Advice | None:
    """Return what helps with the cause that most of those that are open share; None without one."""
    groups = by_cause(alerts)
    return advice_on_group(groups[0]) if groups else None

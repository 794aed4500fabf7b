"""The summary of several alerts: counts by rule and by cause, and every member within limits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime

from include.sync_health.advice import Advice, advice_for
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
    plain,
    status_of,
    who,
)
from include.sync_health.redaction import clean

MOST_MEMBERS = 500
"""Members of a summary that a message holds; renderers may show fewer, and say how many more there are."""


def summary_of(
    alerts: Sequence[Alert],
    *,
    reason: NotifyReason,
    as_of: datetime,
    notes: list[Text],
    links: tuple[tuple[str, str], ...],
) -> Message:
    """Return the summary of at least two alerts; see `messages.message_for` for the arguments."""
    ranked = sorted(
        ((status_of(alert, reason=reason), alert) for alert in alerts),
        key=lambda pair: (_calm(pair[0]), -pair[1].severity.rank, pair[1].rule, who(pair[1]), pair[1].fingerprint),
    )
    statuses, ordered = [status for status, _ in ranked], [alert for _, alert in ranked]
    count, worst = len(ordered), max((alert.severity for alert in ordered), key=lambda severity: severity.rank)
    verb = {
        NotifyReason.FIRST: "opened",
        NotifyReason.REPEAT: "are still open",
        NotifyReason.CLOSED: "closed",
        NotifyReason.TEST: "in a test",
    }[reason]
    status = _common_status(statuses)
    named = "" if reason is NotifyReason.CLOSED else f", worst {worst.value}"
    title = f"{count} ServiceTitan alerts {verb}{named}"
    by_status = Counter(statuses)
    now_words = ", ".join(f"{number} {each.value.lower()}" for each, number in by_status.most_common())
    return Message(
        reason=reason,
        status=status,
        severity=worst,
        emoji=emoji_of(status, worst),
        title=title,
        subject=title,
        sentence=f"{_causes_in_words(ordered)}. Now: {now_words}.",
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
    return advice_for(groups[0][0].rule, groups[0][0].error_class) if groups else None


def _cause_line(members: Sequence[Alert]) -> Text:
    first = members[0]
    name = first.error_class.value.replace("_", " ") if first.error_class else "no class"
    sample = clean(plain(first.metadata.get("latest_error")), limit=SHORT)
    return (f"{counted(_credentials(members), 'credential')}: {name}{f': {sample}' if sample else ''}",)


def _causes_in_words(alerts: Sequence[Alert]) -> str:
    """Return "1 cause, 14 credentials", without what there is none of; "4 alerts" where there is neither."""
    causes, credentials = len(_by_cause(alerts)), _credentials(alerts)
    words = [counted(number, noun) for number, noun in ((causes, "cause"), (credentials, "credential")) if number]
    return ", ".join(words) or counted(len(alerts), "alert")


def _by_cause(alerts: Sequence[Alert]) -> list[list[Alert]]:
    """Return the alerts whose root cause is known, together by cause, the largest group first."""
    groups: dict[str, list[Alert]] = {}
    for alert in alerts:
        if alert.cause:
            groups.setdefault(alert.cause, []).append(alert)
    return [group for _, group in sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))]


def _credentials(alerts: Iterable[Alert]) -> int:
    return len({alert.credential_id for alert in alerts if alert.credential_id is not None})


def _member_line(alert: Alert, *, status: Status, says_since: bool) -> Text:
    if not status.is_open:
        about, title = who(alert), clean(alert.title, limit=SHORT) or alert.type
        return (f"{began(status, alert.severity)}: {f'{about}: ' if about else ''}{title}",)
    head = f"{began(status, alert.severity)}: {clean(alert.message, limit=LINE // 2) or alert.type}"
    return (head, ", since ", alert.opened_at) if says_since and alert.opened_at else (head,)


def _calm(status: Status) -> int:
    """Return 0 for what is open, 1 for what closed without a recovery, 2 for what recovered: the order of members."""
    if status.is_open:
        return 0
    return 2 if status is Status.RECOVERED else 1

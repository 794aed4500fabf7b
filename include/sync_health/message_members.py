"""
The alerts that one message speaks of: their order, where they stand, and what they count to.

A message about several says how many credentials and causes there are, and then lists whom: what needs attention first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from include.sync_health.alerts import Alert, NotifyReason
from include.sync_health.message_parts import (
    LINE,
    SHORT,
    SHOWN_DIGITS,
    Occasion,
    Status,
    Text,
    began,
    counted,
    latest_error,
    plain,
    status_of,
    who,
)
from include.sync_health.redaction import clean
from include.sync_health.verdicts import Severity

MOST_MEMBERS = 500
"""Members that a listing of a message holds; renderers may show fewer, and say how many more there are."""

CLOSED_WORDS = {
    Status.RECOVERED: "recovered",
    Status.EXPIRED: "closed without evidence of recovery",
    Status.TARGET_REMOVED: "closed because the target is gone",
    Status.RULE_CHANGED: "closed by a changed rule",
    Status.CLOSED: "closed",
}
"""How many alerts of a conversation closed, in words: "3 recovered"."""

Standing = tuple[Alert, Status]
"""An alert, and where it stands now."""


def ranked(alerts: Iterable[Alert], *, reason: NotifyReason) -> list[Standing]:
    """Return the alerts, what needs attention first, with where each stands now."""
    return sorted(
        ((alert, status_of(alert, reason=reason)) for alert in alerts),
        key=lambda each: (
            _calm(each[1]),
            -each[0].severity.rank,
            each[0].rule,
            each[0].company_name or each[0].credential_id or "",
            each[0].fingerprint,
        ),
    )


def worst_of(alerts: Iterable[Alert]) -> Severity:
    """Return the worst severity; at least one alert."""
    return max((alert.severity for alert in alerts), key=lambda severity: severity.rank)


def common_status(statuses: Sequence[Status]) -> Status:
    """Return the status that all share; else that of one still open, else closed: never "recovered" for some of them."""
    if len(set(statuses)) == 1:
        return statuses[0]
    return next((status for status in statuses if status.is_open), Status.CLOSED)


def statuses_in_words(statuses: Iterable[Status]) -> str:
    """Return "12 open, 2 recovered", the commonest first."""
    return ", ".join(f"{number} {each.value.lower()}" for each, number in Counter(statuses).most_common())


def closed_in_words(standings: Iterable[Standing]) -> str:
    """Return how many closed and how, and how many did not: "3 recovered, 11 still open"."""
    statuses = Counter(status for _, status in standings)
    apart = {Status.OPEN_AGAIN: "open again", Status.RECOVERING: "recovering"}
    others = sum(number for status, number in statuses.items() if status.is_open and status not in apart)
    words = [f"{statuses[status]} {how}" for status, how in CLOSED_WORDS.items() if statuses[status]]
    words += [f"{others} still open"] if others else []
    words += [f"{statuses[status]} {how}" for status, how in apart.items() if statuses[status]]
    return ", ".join(words)


def severities_in_words(alerts: Iterable[Alert]) -> str:
    """Return "2 high, 12 medium", the worst first; "high" where all are."""
    counts = sorted(Counter(alert.severity for alert in alerts).items(), key=lambda item: -item[0].rank)
    return counts[0][0].value if len(counts) == 1 else ", ".join(f"{number} {each.value}" for each, number in counts)


def titles_by_count(alerts: Iterable[Alert]) -> list[tuple[str, int]]:
    """Return the titles with how many alerts have each, the commonest first."""
    found: Counter[str] = Counter()
    for (title, kind), number in Counter((alert.title, alert.type) for alert in alerts).items():
        found[clean(title, limit=SHORT) or kind] += number
    return found.most_common()


def titles_in_words(alerts: Iterable[Alert]) -> str:
    """Return how one rule words its titles here: two of them where it says both of "expired" and "expiring soon"."""
    return " / ".join(title for title, _ in titles_by_count(alerts)[:2])


def by_cause(alerts: Iterable[Alert]) -> list[list[Alert]]:
    """Return the alerts whose root cause is known, together by cause, that of most credentials first."""
    groups: dict[str, list[Alert]] = {}
    for alert in alerts:
        if alert.cause:
            groups.setdefault(alert.cause, []).append(alert)
    largest_first = sorted(groups.items(), key=lambda item: (-max(credentials_of(item[1]), len(item[1])), item[0]))
    return [group for _, group in largest_first]


def credentials_of(alerts: Iterable[Alert]) -> int:
    """Return how many credentials the alerts concern, as far as they tell: an outage only counts them."""
    alerts = list(alerts)
    named = {alert.credential_id for alert in alerts if alert.credential_id is not None}
    counted_by_outages = [alert.metadata.get("failed_credentials") for alert in alerts]
    return max([len(named), *(number for number in counted_by_outages if isinstance(number, int))])


def whom_in_words(alerts: Sequence[Alert]) -> str:
    """Return "14 credentials"; "4 alerts" where they concern none."""
    credentials = credentials_of(alerts)
    return counted(credentials, "credential") if credentials else counted(len(alerts), "alert")


def causes_in_words(alerts: Sequence[Alert]) -> str:
    """Return "1 cause, 14 credentials", without what there is none of; "4 alerts" where there is neither."""
    causes, credentials = len(by_cause(alerts)), credentials_of(alerts)
    words = [counted(number, noun) for number, noun in ((causes, "cause"), (credentials, "credential")) if number]
    return ", ".join(words) or counted(len(alerts), "alert")


def cause_in_words(alert: Alert, *, limit: int = SHORT) -> str:
    """Return "auth: Failed to refresh access token": the class of an alert's cause, and a sample."""
    name = alert.error_class.value.replace("_", " ") if alert.error_class else "no class"
    sample = latest_error(alert, limit=limit)
    return f"{name}{f': {sample}' if sample else ''}"


def member_line(alert: Alert, *, status: Status, says_since: bool) -> Text:
    """
    Return a member of a summary, which may be of any rule: its own sentence while it is open, then its title.

    With the digits of its fingerprint: whoever reads of twenty can ask why of one, and take it in hand.
    """
    digits = f"({alert.fingerprint[:SHOWN_DIGITS]})"
    if not status.is_open:
        about, title = who(alert), clean(alert.title, limit=SHORT) or alert.type
        return (f"{began(status, alert.severity)}: {f'{about}: ' if about else ''}{title} {digits}",)
    head = f"{began(status, alert.severity)}: {clean(alert.message, limit=LINE // 2) or alert.type} {digits}"
    return (head, "; open since ", alert.opened_at) if says_since and alert.opened_at else (head,)


def name_of_member(alert: Alert) -> str:
    """Return whom an alert of a group concerns, where the others are of the same rule and environment."""
    metadata = alert.metadata
    company, credential = clean(alert.company_name, limit=SHORT), clean(alert.credential_id, limit=SHORT)
    # Names of companies are neither unique nor stable.
    name = f"{company} (credential {credential})" if company and credential else company or f"credential {credential}"
    parts = [
        name if company or credential else "",
        clean(alert.data_type, limit=SHORT),
        f"sync {clean(plain(metadata['sync_id']), limit=SHORT)}" if metadata.get("sync_id") else "",
    ]
    return ", ".join(part for part in parts if part) or clean(alert.message, limit=LINE // 2) or alert.type


def rest_of(alerts: Iterable[Alert], *, occasion: Occasion) -> str:
    """Return where those are found that a listing has no room for: on the dashboard; without one, from a shell."""
    if occasion.links.dashboard:
        return "on the dashboard"
    known_by_credential = any(alert.credential_id is not None for alert in alerts)
    return f"ask by python -m include.cli why {'--credential ID' if known_by_credential else 'FINGERPRINT'}"


def _calm(status: Status) -> int:
    """Return 0 for what is open, 1 for what closed without a recovery, 2 for what recovered: the order of members."""
    if status.is_open:
        return 0
    return 2 if status is Status.RECOVERED else 1

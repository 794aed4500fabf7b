"""The facts of one alert: where it stands, whom it concerns, and the numbers behind the verdict."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from include.sync_health.alerts import Alert, CloseReason
from include.sync_health.durations import describe
from include.sync_health.message_parts import LINE, SHORT, Fact, Status, Text, plain
from include.sync_health.redaction import clean
from include.sync_health.verdicts import Severity

MOST_FACTS = 12
"""Numbers behind a verdict that a message shows."""


def state_facts(alert: Alert, *, status: Status, now: datetime, was: Severity | None = None) -> Iterable[Fact]:
    """Yield severity (and which ``was`` told before), since when and for how long, and, once closed, why."""
    if was is not None and was is not alert.severity:
        yield Fact(label="Severity", value=(f"{alert.severity.value}, was {was.value}",))
    elif alert.peak_severity is not alert.severity or not status.is_open:
        yield Fact(label="Severity", value=(_peak(alert),))
    if alert.opened_at is not None:
        # Not "since": what the rule judges may have begun long before.
        yield Fact(label="Open since" if status.is_open else "Opened", value=(alert.opened_at,))
        if status.is_open and now - alert.opened_at >= timedelta(minutes=1):
            yield Fact(label="Open for", value=(describe(now - alert.opened_at),))
    if not status.is_open and alert.closed_at is not None:
        yield Fact(label="Closed", value=(alert.closed_at,))
        if alert.opened_at is not None:
            yield Fact(label="Was open for", value=(describe(alert.closed_at - alert.opened_at),))
        yield Fact(label="Why closed", value=(why_closed(alert),))


def why_closed(alert: Alert) -> str:
    """Return why an episode ended and what shows it, each reason in its own words."""
    found = clean(alert.reason, limit=LINE)
    if alert.close_reason is CloseReason.RECOVERED:
        return f"recovered; evidence: {found}"
    if alert.close_reason is CloseReason.EXPIRED:
        return f"closed without evidence of recovery: {found}"
    if alert.close_reason is CloseReason.TARGET_REMOVED:
        return f"the target is gone, which is no recovery: {found}"
    if alert.close_reason is CloseReason.RULE_CHANGED:
        return f"the rule was changed and no longer applies: {found}"
    return found


def subject_facts(alert: Alert) -> Iterable[Fact]:
    """Yield whom and what the alert concerns."""
    metadata = alert.metadata
    for label, value in (
        ("Company", alert.company_name),
        ("Environment", alert.environment),
        ("Credential", alert.credential_id),
        ("Data type", alert.data_type),
        ("Sync", metadata.get("sync_id")),
        ("Check", metadata.get("check")),
        ("Cause", metadata.get("cause")),
    ):
        if cleaned := clean(plain(value), limit=SHORT):
            yield Fact(label=label, value=(cleaned,))


_SHOWN_ELSEWHERE = frozenset(
    {
        "threshold",
        "threshold_percent",
        "failure_count",
        "latest_error",
        "since",
        # The sentence says them, or the instants beside them do.
        "failed_credentials",
        "ran_credentials",
        "min_credentials",
        "silent_seconds",
        "remaining_seconds",
        "in_error_seconds",
        "stale_seconds",
        "open_seconds",
        "failed_percent",
        "day",
        "score_percent",
        "usual_percent",
        "threshold_points",
        "empty_syncs",
        "threshold_ms",
        "threshold_factor",
        "failed_calls",
        "calls_failed",
        "objective",
        "good",
        "total",
        "first_day",
        "long_days",
        "short_days",
        "target_percent",
    }
)
_LABELS = {
    "failures": "Failed runs",
    "in_a_row": "Failed in a row",
    "window_seconds": "Window",
    "last_success_at": "Last success",
    "first_failed_at": "First failure",
    "last_failed_at": "Last failure",
    "classes": "Errors",
    "started_at": "Started",
    "share_percent": "Share that failed",
    "last_started_at": "Last sync started",
    "busy_hours": "Hours with a sync, of the 24 before",
    "expires_at": "Token expires",
    "lifetime_seconds": "Known token lifetime",
    "judged": "Judged as",
    "error_began_at": "In error since",
    "created_at": "Credential created",
    "stale_after_seconds": "Allowed without a success",
    "completed_at": "Sync completed",
    "newest_percent": "Failed records, newest sync",
    "breaching": "Syncs above the threshold",
    "contradicting": "Syncs whose counts contradict",
    "records_processed": "Records that day",
    "drop_points": "Drop",
    "mad_points": "Usual spread (median absolute deviation)",
    "days_compared": "Compared with",
    "last_records_at": "Last sync with records",
    "days_with_records": "Days with records, of those with a sync",
    "calls": "Calls",
    "status_codes": "Failed calls by status",
    "timed_calls": "Calls with a response time",
    "p95_ms": "95th percentile, milliseconds",
    "average_ms": "Average, milliseconds",
    "slowest_ms": "Slowest, milliseconds",
    "incidents": "Incidents",
    "counted_until_at": "Counted until",
    "told_by": "Source of the calls",
    "achieved_percent": "Achieved",
    "budget_left_percent": "Budget left",
    "burn_factor": "Burn factor",
    "burn_factor_short": "Burn factor",
    "last_day": "Last day",
}
KNOWN_EVIDENCE = _SHOWN_ELSEWHERE | _LABELS.keys()
"""The keys that messages have words for, or leave out on purpose."""

_LABELS_OF_RULE = {"data_quality": {"judged": "Syncs judged"}}
_THRESHOLDS = {
    "failures": "threshold",
    "in_a_row": "threshold",
    "share_percent": "threshold_percent",
    "newest_percent": "threshold_percent",
    "drop_points": "threshold_points",
    "p95_ms": "threshold_ms",
    "incidents": "threshold",
    "achieved_percent": "target_percent",
    "burn_factor": "threshold_factor",
}
"""The evidence that tells what a number was measured by."""


_DAYS = {"burn_factor": "long_days", "burn_factor_short": "short_days"}
"""The evidence that tells of how many days a number is."""

_LIMIT_WORDS = {"achieved_percent": "objective"}
"""How a threshold is called that is none."""


def evidence_facts(alert: Alert) -> Iterable[Fact]:
    """Yield the numbers behind the verdict: known keys in words, unknown ones under their own name."""
    evidence, own_labels = alert.evidence, _LABELS_OF_RULE.get(alert.rule, {})
    shown = [key for key in evidence if key not in _SHOWN_ELSEWHERE and not _counts_none(key, evidence[key])]
    for key in shown[:MOST_FACTS]:
        label = own_labels.get(key) or _LABELS.get(key) or _words_of(str(key))
        label += _of_days(evidence.get(_DAYS.get(key, "")))
        if key == "expires_at" and _is_past(evidence.get("remaining_seconds")):
            label = "Token expired"
        value = _evidence_value(key, evidence[key])
        threshold_key = _THRESHOLDS.get(key, "")
        threshold = evidence.get(threshold_key)
        if threshold is not None:
            limit = _LIMIT_WORDS.get(key, "threshold")
            value = (*value, f" ({limit} ", *_evidence_value(threshold_key, threshold), ")")
        yield Fact(label=label, value=value)


def _counts_none(key: str, value: Any) -> bool:
    """Return whether a count that matters only where there is any would say that there is none."""
    return key == "contradicting" and bool(value == 0)


def _of_days(days: Any) -> str:
    """Return " of the last 3 days"; "" where the evidence names no days."""
    if not isinstance(days, int):
        return ""
    return " of the last day" if days == 1 else f" of the last {days} days"


def _is_past(seconds: Any) -> bool:
    return isinstance(seconds, int | float) and seconds <= 0


def _evidence_value(key: str, value: Any) -> Text:
    if value is None:
        return ("none found" if key == "last_success_at" else "unknown",)
    if key.endswith("_seconds") and isinstance(value, int | float):
        return (describe(timedelta(seconds=value)),)
    if key.endswith("_percent") and isinstance(value, int | float):
        return (f"{value:g}%",)
    if "factor" in key and isinstance(value, int | float):
        return (f"{value:g}",)
    if key.endswith("_points") and isinstance(value, int | float):
        return (f"{value:g} points",)
    if isinstance(value, datetime):
        return (value,) if value.tzinfo else (clean(value.isoformat(), limit=SHORT),)
    if key.endswith("_at") and isinstance(value, str) and (instant := _instant(value)):
        return (instant,)
    if isinstance(value, Mapping):
        return (clean(", ".join(f"{count} {name}" for name, count in value.items()), limit=LINE),)
    return (clean(plain(value), limit=LINE // 2),)


def _words_of(key: str) -> str:
    """Return a key as a label; cleaned before anything in it is changed, for a changed secret is hard to recognise."""
    return clean(key, limit=SHORT).replace("_", " ").strip().capitalize() or "?"


def _peak(alert: Alert) -> str:
    if alert.peak_severity is alert.severity:
        return alert.severity.value
    return f"{alert.severity.value}, {alert.peak_severity.value} at its worst"


def _instant(text: str) -> datetime | None:
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        return None
    return instant if instant.tzinfo else None

"""Alerts of every rule, worded as its check words them, for the messages that speak of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from include.sync_health.alerts import Alert, AlertState, CloseReason
from include.sync_health.observations import episode_of, fingerprint_of
from include.sync_health.verdicts import ErrorClass, Severity
from tests.sync_health.measured_alerts import MEASURED, RECOVERED_MEASURED

AS_OF = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
OPENED = AS_OF - timedelta(hours=3, minutes=15)

_WHO: Mapping[str, Any] = {
    "credential_id": "17",
    "company_id": "5",
    "company_name": "Acme Plumbing & Sons",
    "environment": "production",
}


def alert(rule: str, **changes: Any) -> Alert:
    """Return a firing alert of a rule as its check words it."""
    found: dict[str, Any] = {
        "sync_failures": {
            **_WHO,
            "identity": {"credential": "17"},
            "severity": Severity.HIGH,
            "title": "Multiple ServiceTitan Sync Failures",
            "message": "ServiceTitan integration for Acme Plumbing & Sons (production) "
            "has failed 4 times in the last hour",
            "reason": "4 failed runs in the last hour, the threshold is 3",
            "metadata": {"latest_error": "Failed to refresh access token", "failure_count": 4},
            "error_class": ErrorClass.AUTH,
            "cause": "a" * 16,
            "evidence": {
                "failures": 4,
                "threshold": 3,
                "window_seconds": 3600,
                "last_success_at": "2026-11-24T08:30:00+00:00",
                "first_failed_at": "2026-11-24T11:05:00+00:00",
                "classes": {"auth": 3, "timeout": 1},
            },
        },
        "consecutive_failures": {
            **_WHO,
            "identity": {"credential": "17", "data_type": "invoices"},
            "severity": Severity.MEDIUM,
            "data_type": "invoices",
            "title": "ServiceTitan Sync Keeps Failing",
            "message": "ServiceTitan invoices sync for Acme Plumbing & Sons (production) "
            "has failed 5 times in a row since 2026-11-24 07:00 UTC",
            "reason": "the last 5 runs all failed, the threshold is 3",
            "metadata": {"latest_error": "Required fields are missing: invoice_number, zip", "failure_count": 5},
            "error_class": ErrorClass.VALIDATION,
            "cause": "b" * 16,
            "evidence": {"in_a_row": 5, "threshold": 3, "last_success_at": None},
        },
        "stuck_sync": {
            **_WHO,
            "identity": {"credential": "17", "sync": "90210"},
            "severity": Severity.MEDIUM,
            "data_type": "both",
            "title": "ServiceTitan Sync Stuck",
            "message": "ServiceTitan both sync for Acme Plumbing & Sons (production) "
            "has been running for 1 hour 20 minutes",
            "reason": "open for more than 1 hour",
            "metadata": {"sync_id": "90210"},
            "evidence": {"started_at": "2026-11-24T10:40:00+00:00", "open_seconds": 4800},
        },
        "platform_outage": {
            "environment": "production",
            "identity": {"environment": "production", "error_class": "server"},
            "severity": Severity.CRITICAL,
            "title": "ServiceTitan Platform Outage",
            "message": "31 of 40 ServiceTitan credentials (production) failed in the last hour with the same cause: server errors",
            "reason": "31 of 40 credentials that ran in the last hour failed with it; the threshold is 50%, and 3",
            "metadata": {
                "environment": "production",
                "error_class": "server",
                "failed_credentials": 31,
                "ran_credentials": 40,
                "sample": "ServiceTitan API server error: 503",
            },
            "error_class": ErrorClass.SERVER,
            "cause": "c" * 16,
            "evidence": {
                "failed_credentials": 31,
                "ran_credentials": 40,
                "share_percent": 77.5,
                "threshold_percent": 50.0,
                "min_credentials": 3,
                "window_seconds": 3600,
                "last_failed_at": "2026-11-24T11:58:00+00:00",
            },
        },
        "no_syncs": {
            "environment": "production",
            "identity": {"environment": "production"},
            "severity": Severity.HIGH,
            "title": "No ServiceTitan Syncs",
            "message": "No ServiceTitan sync has started for 2 hours 10 minutes (production)",
            "reason": "no sync has started for 2 hours 10 minutes, although 23 of the 24 hours before had one",
            "metadata": {"environment": "production", "last_started_at": "2026-11-24T09:50:00+00:00"},
            "evidence": {
                "last_started_at": "2026-11-24T09:50:00+00:00",
                "silent_seconds": 7800,
                "busy_hours": 23,
            },
        },
        "token_expiry": {
            **_WHO,
            "identity": {"credential": "17"},
            "severity": Severity.MEDIUM,
            "title": "ServiceTitan Token Expiring Soon",
            "message": "ServiceTitan token for Acme Plumbing & Sons (production) expires in 4 days 6 hours",
            "reason": "the token expires in 4 days 6 hours, within 7 days",
            "metadata": {"expires_at": "2026-11-28T18:00:00+00:00"},
            "evidence": {
                "expires_at": "2026-11-28T18:00:00+00:00",
                "lifetime_seconds": 5_184_000,
                "remaining_seconds": 367_200,
                "last_success_at": "2026-11-24T11:30:00+00:00",
                "judged": "long-lived",
            },
        },
        "connection_error": {
            **_WHO,
            "identity": {"credential": "17"},
            "severity": Severity.HIGH,
            "title": "ServiceTitan Connection Error",
            "message": "ServiceTitan connection for Acme Plumbing & Sons (production) has been in error for 5 hours",
            "reason": "the connection status is error since 2026-11-24 07:00 UTC, and no run has completed since",
            "metadata": {"since": "2026-11-24T07:00:00+00:00"},
            "evidence": {
                "error_began_at": "2026-11-24T07:00:00+00:00",
                "in_error_seconds": 18_000,
                "last_success_at": "2026-11-24T06:30:00+00:00",
            },
        },
        "stale_sync": {
            **_WHO,
            "identity": {"credential": "17"},
            "severity": Severity.MEDIUM,
            "title": "ServiceTitan Sync Stale",
            "message": "ServiceTitan integration for Acme Plumbing & Sons (production) "
            "has not completed a sync for 2 days 5 hours",
            "reason": "the last run completed 2 days 5 hours ago, more than 2 days",
            "metadata": {"last_success_at": "2026-11-22T07:00:00+00:00"},
            "evidence": {
                "last_success_at": "2026-11-22T07:00:00+00:00",
                "stale_seconds": 190_800,
                "stale_after_seconds": 172_800,
            },
        },
        "data_quality": {
            **_WHO,
            "identity": {"credential": "17", "data_type": "invoices"},
            "severity": Severity.MEDIUM,
            "data_type": "invoices",
            "title": "ServiceTitan Data Quality Issues",
            "message": "ServiceTitan sync for Acme Plumbing & Sons has high failure rate: 34.4% (172 of 500 records failed)",
            "reason": "172 of 500 records failed (34.4%), the threshold is 20%",
            "metadata": {
                "sync_id": "90333",
                "data_type": "invoices",
                "failure_rate": 34.4,
                "failed_records": 172,
                "total_records": 500,
            },
            "evidence": {
                "failed_percent": 34.4,
                "completed_at": "2026-11-24T10:12:00+00:00",
                "newest_percent": 12.0,
                "judged": 22,
                "breaching": 3,
                "contradicting": 0,
                "threshold_percent": 20.0,
                "window_seconds": 86_400,
            },
        },
        "quality_drop": {
            **_WHO,
            "identity": {"credential": "17", "data_type": "invoices"},
            "severity": Severity.MEDIUM,
            "data_type": "invoices",
            "title": "ServiceTitan Data Quality Drop",
            "message": "ServiceTitan invoices quality for Acme Plumbing & Sons (production) dropped to 81.2% on Monday "
            "2026-11-23, 15.3 points below its usual 96.5%",
            "reason": "81.2% on Monday 2026-11-23 is 15.3 points below the median of 7 Mondays, 96.5%: more than 6.7",
            "metadata": {
                "data_type": "invoices",
                "day": "2026-11-23",
                "score": 81.2,
                "usual_score": 96.5,
                "drop_points": 15.3,
                "records_processed": 4120,
            },
            "evidence": {
                "day": "2026-11-23",
                "score_percent": 81.2,
                "records_processed": 4120,
                "usual_percent": 96.5,
                "drop_points": 15.3,
                "threshold_points": 6.7,
                "mad_points": 1.5,
                "days_compared": "2026-11-16, 2026-11-09, 2026-11-02, 2026-10-26, 2026-10-19, 2026-10-12, 2026-09-28",
            },
        },
        "empty_syncs": {
            **_WHO,
            "identity": {"credential": "17", "data_type": "customers"},
            "severity": Severity.MEDIUM,
            "data_type": "customers",
            "title": "ServiceTitan Syncs Bring Nothing",
            "message": "ServiceTitan customers syncs for Acme Plumbing & Sons (production) have brought no records for "
            "1 day 1 hour (23 in a row)",
            "reason": "all 23 syncs that completed in the last 24 hours brought none, although records came on 8 of 8 "
            "Mondays, 7 of 8 Tuesdays",
            "metadata": {
                "data_type": "customers",
                "empty_syncs": 23,
                "last_records_at": "2026-11-23T11:00:00+00:00",
            },
            "evidence": {
                "empty_syncs": 23,
                "window_seconds": 86_400,
                "last_records_at": "2026-11-23T11:00:00+00:00",
                "days_with_records": "8 of 8 Mondays, 7 of 8 Tuesdays",
            },
        },
        **MEASURED,
        "monitor_health": {
            "identity": {"check": "sync_failures", "cause": "unreachable"},
            "severity": Severity.HIGH,
            "title": "ServiceTitan Monitor Cannot See",
            "message": "sync_failures: hub_plus_db does not answer; check the connection and its network",
            "reason": "the check could not be made: unreachable",
            "metadata": {"check": "sync_failures", "cause": "unreachable", "since": OPENED.isoformat()},
            "evidence": {},
        },
    }[rule]
    fingerprint = fingerprint_of(rule, found["identity"])
    values = {
        "fingerprint": fingerprint,
        "rule": rule,
        "state": AlertState.FIRING,
        "peak_severity": found["severity"],
        "state_since": OPENED,
        "last_as_of": AS_OF,
        "last_breach_at": AS_OF,
        "episode_id": episode_of(fingerprint, OPENED),
        "opened_at": OPENED,
        **found,
        **changes,
    }
    return Alert(**values)


def closed(alert: Alert, *, why: CloseReason, reason: str) -> Alert:
    """Return the alert as it stands after its episode ended."""
    return replace(
        alert, state=AlertState.INACTIVE, state_since=AS_OF, closed_at=AS_OF, close_reason=why, reason=reason
    )


RULES = (
    "sync_failures",
    "consecutive_failures",
    "stuck_sync",
    "monitor_health",
    "platform_outage",
    "no_syncs",
    "token_expiry",
    "connection_error",
    "stale_sync",
    "data_quality",
    "quality_drop",
    "empty_syncs",
    "api_errors",
    "api_latency",
    "api_incidents",
    "error_budget",
)

EVIDENCE_OF_RECOVERY = {
    "platform_outage": "2 of 38 credentials that ran in the last hour failed with it, which is less than 25%",
    "no_syncs": "a sync started at 2026-11-24 11:58 UTC",
    "token_expiry": "the token expires in 59 days 23 hours, more than 7 days",
    "connection_error": "a run completed at 2026-11-24 11:50 UTC, after the error began at 2026-11-24 07:00 UTC",
    "stale_sync": "the last run completed 10 minutes ago, not more than 2 days",
    "data_quality": "4 of 480 records of the newest sync failed (0.8%), less than 10%",
    "quality_drop": "95.9% on Tuesday 2026-11-24 is 0.4 points below the median of 8 Tuesdays, 96.3%: less than 2.5",
    "empty_syncs": "the sync that completed at 2026-11-24 11:50 UTC brought 120 records",
    **RECOVERED_MEASURED,
}
"""As each rule words it; the others close with the latest run."""

EXPIRED_TOKEN: Mapping[str, Any] = {
    "severity": Severity.HIGH,
    "peak_severity": Severity.HIGH,
    "title": "ServiceTitan Token Expired",
    "message": "ServiceTitan token for Acme Plumbing & Sons (production) expired 2 days 3 hours ago",
    "reason": "the short-lived token expired 2 days 3 hours ago and no run has completed since, for more than 2 days",
    "metadata": {"expires_at": "2026-11-22T09:00:00+00:00"},
    "evidence": {
        "expires_at": "2026-11-22T09:00:00+00:00",
        "lifetime_seconds": 900,
        "remaining_seconds": -183_600,
        "last_success_at": "2026-11-22T08:50:00+00:00",
        "judged": "short-lived",
    },
}
"""What makes of a token that expires soon one that has."""

NEVER_COMPLETED: Mapping[str, Any] = {
    "severity": Severity.HIGH,
    "peak_severity": Severity.HIGH,
    "message": "ServiceTitan integration for Acme Plumbing & Sons (production) has never completed a sync",
    "reason": "it never completed a run and was created 5 days ago, more than 2 days",
    "metadata": {"last_success_at": None},
    "evidence": {
        "last_success_at": None,
        "created_at": "2026-11-19T12:00:00+00:00",
        "stale_seconds": 432_000,
        "stale_after_seconds": 172_800,
    },
}
"""What makes of a stale credential one that never worked."""

STORM_ERRORS = (
    ("Failed to refresh access token", ErrorClass.AUTH, "a" * 16),
    ("ServiceTitan API server error: 503", ErrorClass.SERVER, "c" * 16),
)


def storm(count: int) -> list[Alert]:
    """Return as many alerts of different credentials, of two causes."""
    alerts = []
    for number in range(count):
        error, error_class, cause = STORM_ERRORS[number % 7 == 3]
        alerts.append(
            alert(
                "sync_failures",
                fingerprint=fingerprint_of("sync_failures", {"credential": str(number)}),
                credential_id=str(number),
                company_name=f"Company {number:03}",
                message=f"ServiceTitan integration for Company {number:03} (production) has failed 4 times in the last hour",
                metadata={"latest_error": error},
                error_class=error_class,
                cause=cause,
                opened_at=AS_OF,
            )
        )
    return alerts


def broken_already(count: int) -> list[Alert]:
    """Return as many alerts of all rules, as a monitor finds them that looks for the first time."""
    found = [alert("platform_outage", opened_at=AS_OF), alert("no_syncs", opened_at=AS_OF)]
    kinds = ("stale_sync", "token_expiry", "connection_error", "consecutive_failures", "data_quality", "sync_failures")
    for number in range(count - len(found)):
        rule = kinds[number % 7 % len(kinds)]
        name = f"Company {number:04}"
        changes: dict[str, Any] = dict(EXPIRED_TOKEN) if rule == "token_expiry" and number % 3 else {}
        changes |= NEVER_COMPLETED if rule == "stale_sync" and number % 5 == 0 else {}
        one = alert(rule, **changes)
        found.append(
            replace(
                one,
                fingerprint=fingerprint_of(rule, {"credential": str(number)}),
                credential_id=str(number),
                company_name=name,
                message=one.message.replace("Acme Plumbing & Sons", name),
                opened_at=AS_OF,
            )
        )
    return found[:count]

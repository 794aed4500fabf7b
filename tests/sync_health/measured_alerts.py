"""What the rules over API calls and error budgets say, for `message_alerts`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from include.sync_health.verdicts import ErrorClass, Severity

MEASURED: Mapping[str, Mapping[str, Any]] = {
    "api_errors": {
        "environment": "production",
        "identity": {"environment": "production", "endpoint": "/crm/v2/tenant/{id}/customers"},
        "severity": Severity.MEDIUM,
        "title": "ServiceTitan API Errors",
        "message": "ServiceTitan API calls to /crm/v2/tenant/{id}/customers (production) had an error rate of 4.2% in the "
        "last hour (50 of 1200 calls failed)",
        "reason": "50 of 1200 calls failed in the hour before 2026-11-24 12:00 UTC: 4.2%, more than 1%",
        "error_class": ErrorClass.SERVER,
        "metadata": {
            "environment": "production",
            "endpoint": "/crm/v2/tenant/{id}/customers",
            "error_rate": 4.166666666666667,
            "failed_calls": 50,
            "total_calls": 1200,
            "status_codes": {"503": 40, "404": 10},
        },
        "evidence": {
            "calls": 1200,
            "failed_calls": 50,
            "share_percent": 4.17,
            "threshold_percent": 1.0,
            "status_codes": {"HTTP 503": 40, "HTTP 404": 10},
            "window_seconds": 3600,
            "counted_until_at": "2026-11-24T12:00:00+00:00",
            "told_by": "table",
        },
    },
    "api_latency": {
        "environment": "production",
        "identity": {"environment": "production", "endpoint": "/jpm/v2/tenant/{id}/jobs"},
        "severity": Severity.MEDIUM,
        "title": "ServiceTitan API Slow",
        "message": "ServiceTitan API calls to /jpm/v2/tenant/{id}/jobs (production) took up to 7.2 s at the 95th percentile "
        "in the last hour (840 calls)",
        "reason": "95% of 840 calls took at most 7.2 s in the hour before 2026-11-24 12:00 UTC, more than 5 s",
        "metadata": {
            "environment": "production",
            "endpoint": "/jpm/v2/tenant/{id}/jobs",
            "p95_ms": 7180.4,
            "average_ms": 1322.7,
            "timed_calls": 840,
        },
        "evidence": {
            "timed_calls": 840,
            "p95_ms": 7180,
            "threshold_ms": 5000,
            "average_ms": 1323,
            "slowest_ms": 14_120,
            "window_seconds": 3600,
            "counted_until_at": "2026-11-24T12:00:00+00:00",
            "told_by": "table",
        },
    },
    "api_incidents": {
        "credential_id": "17",
        "company_id": "5",
        "company_name": "Acme Plumbing & Sons",
        "environment": "production",
        "identity": {"credential": "17", "kind": "rate_limit"},
        "severity": Severity.MEDIUM,
        "title": "ServiceTitan API Rate Limited",
        "message": "ServiceTitan refused calls for Acme Plumbing & Sons (production) for their rate 14 times in the last hour",
        "reason": "14 in the hour before 2026-11-24 12:00 UTC, at least 10",
        "error_class": ErrorClass.RATE_LIMIT,
        "metadata": {"kind": "rate_limit", "incidents": 14},
        "evidence": {
            "incidents": 14,
            "threshold": 10,
            "calls": 2310,
            "window_seconds": 3600,
            "counted_until_at": "2026-11-24T12:00:00+00:00",
            "told_by": "log",
        },
    },
    "error_budget": {
        "environment": "production",
        "identity": {"objective": "sync_completion", "environment": "production"},
        "severity": Severity.MEDIUM,
        "title": "ServiceTitan Error Budget Burning",
        "message": "ServiceTitan production syncs used 64% of their 28-day error budget (99% objective) and burn it 2.3 times "
        "as fast as it lasts",
        "reason": "83 of 3600 syncs failed in the last 3 days: they burn the budget 2.31 times as fast as it lasts, and 1.80 "
        "times in the last day; both are more than 1",
        "metadata": {
            "objective": "sync_completion",
            "environment": "production",
            "target_percent": 99.0,
            "window_days": 28,
            "burn_factor": 2.3055555555555554,
        },
        "evidence": {
            "first_day": "2026-10-27",
            "last_day": "2026-11-23",
            "good": 33_385,
            "total": 33_600,
            "achieved_percent": 99.36,
            "target_percent": 99.0,
            "budget_left_percent": 36.0,
            "burn_factor": 2.31,
            "burn_factor_short": 1.8,
            "threshold_factor": 1.0,
            "long_days": 3,
            "short_days": 1,
        },
    },
}
"""By rule."""

RECOVERED_MEASURED: Mapping[str, str] = {
    "api_errors": "3 of 1180 calls failed in the hour before 2026-11-24 13:00 UTC: 0.25%, less than 0.5%",
    "api_latency": "95% of 790 calls took at most 1.4 s in the hour before 2026-11-24 13:00 UTC, less than 4 s",
    "api_incidents": "2 in the hour before 2026-11-24 13:00 UTC, and 2204 calls",
    "error_budget": "41 of 3600 syncs failed in the last 3 days: they burn the budget 1.14 times as fast as it lasts, and 0.25 "
    "times in the last day; the latter is less than 1",
}
"""Their evidence of recovery."""

"""Alerts of every rule in every state that a message can meet: one list for all renderers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from include.sync_health.alerts import Alert, AlertState, CloseReason, NotifyReason
from include.sync_health.messages import Links, Message, message_for
from include.sync_health.observations import episode_of, fingerprint_of
from include.sync_health.verdicts import ErrorClass, Severity

AS_OF = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
NOW = AS_OF + timedelta(minutes=2)
OPENED = AS_OF - timedelta(hours=3, minutes=15)
LINKS = Links(
    dashboard="https://airflow.example.com/servicetitan-monitor/alerts?open=1&sort=since",
    runbook="https://wiki.example.com/servicetitan",
    run="https://airflow.example.com/dags/servicetitan_sync_failures",
)

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


RULES = ("sync_failures", "consecutive_failures", "stuck_sync", "monitor_health")

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A message with the name of its golden file."""

    name: str
    alerts: tuple[Alert, ...]
    reason: NotifyReason
    as_of: datetime = AS_OF
    possible_repeat: bool = False

    def message(self) -> Message:
        """Return the message as it is sent at `NOW`."""
        return message_for(
            self.alerts,
            reason=self.reason,
            as_of=self.as_of,
            now=NOW,
            links=LINKS,
            possible_repeat=self.possible_repeat,
        )


def _cases() -> list[Case]:
    cases = []
    for rule in RULES:
        firing = alert(rule)
        recovered = closed(
            firing, why=CloseReason.RECOVERED, reason="the latest run completed at 2026-11-24T11:50:00+00:00"
        )
        expired = closed(firing, why=CloseReason.EXPIRED, reason="open for longer than 30 days")
        removed = closed(firing, why=CloseReason.TARGET_REMOVED, reason="the credential was deleted upstream")
        changed = closed(firing, why=CloseReason.RULE_CHANGED, reason="the threshold is now 10")
        recovering = replace(firing, state=AlertState.RECOVERING, state_since=AS_OF - timedelta(minutes=15), flaps=2)
        fresh = replace(firing, opened_at=AS_OF)
        for kind, one, reason in (
            ("first", fresh, NotifyReason.FIRST),
            ("first_recovering", recovering, NotifyReason.FIRST),
            ("first_closed_meanwhile", recovered, NotifyReason.FIRST),
            ("repeat", replace(firing, peak_severity=Severity.CRITICAL), NotifyReason.REPEAT),
            ("recovered", recovered, NotifyReason.CLOSED),
            ("expired", expired, NotifyReason.CLOSED),
            ("target_removed", removed, NotifyReason.CLOSED),
            ("rule_changed", changed, NotifyReason.CLOSED),
            ("closed_but_open_again", fresh, NotifyReason.CLOSED),
            ("test", firing, NotifyReason.TEST),
        ):
            cases.append(Case(name=f"{rule}-{kind}", alerts=(one,), reason=reason))
    late = replace(alert("sync_failures"), stale_since=AS_OF - timedelta(hours=1))
    some = storm(23)
    ended = [closed(each, why=CloseReason.RECOVERED, reason="the latest run completed") for each in storm(22)]
    mixed = [*ended[:-1], closed(storm(22)[-1], why=CloseReason.EXPIRED, reason="nothing seen for 30 days")]
    return [
        *cases,
        Case(
            name="sync_failures-late_and_possible_repeat",
            alerts=(late,),
            reason=NotifyReason.REPEAT,
            as_of=AS_OF - timedelta(hours=2),
            possible_repeat=True,
        ),
        Case(name="summary-first", alerts=tuple(some), reason=NotifyReason.FIRST),
        Case(name="summary-first_some_closed", alerts=(*some[:20], *ended[20:]), reason=NotifyReason.FIRST),
        Case(name="summary-repeat", alerts=tuple(alert(rule) for rule in RULES), reason=NotifyReason.REPEAT),
        Case(name="summary-recovered", alerts=tuple(ended), reason=NotifyReason.CLOSED),
        Case(name="summary-closed_mixed", alerts=tuple(mixed), reason=NotifyReason.CLOSED),
        Case(name="test-bare", alerts=(), reason=NotifyReason.TEST),
    ]


CASES = _cases()

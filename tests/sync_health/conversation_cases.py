"""The messages of conversations and the receipts: each with the name of its golden file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from include.sync_health.alerts import Acknowledgement, Alert, AlertState, CloseReason, NotifyReason
from include.sync_health.links import Links
from include.sync_health.messages import Message, message_for
from include.sync_health.observations import fingerprint_of
from include.sync_health.verdicts import ErrorClass, Severity
from tests.sync_health.message_alerts import AS_OF, OPENED, alert, closed, storm

NOW = AS_OF + timedelta(minutes=2)
LINKS = Links(
    dashboard="https://airflow.example.com/servicetitan-monitor",
    runbook="https://wiki.example.com/servicetitan",
    run="https://airflow.example.com/dags/servicetitan_sync_failures/runs/scheduled__2026-11-24T12%3A00%3A00%2B00%3A00",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A message with the name of its golden file."""

    name: str
    alerts: tuple[Alert, ...]
    reason: NotifyReason
    as_of: datetime = AS_OF
    possible_repeat: bool = False
    details: Mapping[str, Any] = field(default_factory=dict)
    neighbours: tuple[Alert, ...] = ()
    fallback_of: str | None = None
    links: Links = LINKS

    def message(self) -> Message:
        """Return the message as it is sent at `NOW`."""
        return message_for(
            self.alerts,
            reason=self.reason,
            as_of=self.as_of,
            now=NOW,
            links=self.links,
            possible_repeat=self.possible_repeat,
            details=self.details,
            neighbours=self.neighbours,
            fallback_of=self.fallback_of,
        )


def group(count: int) -> list[Alert]:
    """Return as many alerts of different credentials that one cause has."""
    one = alert(
        "sync_failures",
        metadata={"latest_error": "Failed to refresh access token: invalid_grant"},
        error_class=ErrorClass.AUTH,
        cause="a" * 16,
    )
    return [
        replace(
            one,
            fingerprint=fingerprint_of("sync_failures", {"credential": str(number)}),
            credential_id=str(number),
            company_name=f"Company {number:03}",
            message=f"ServiceTitan integration for Company {number:03} (production) has failed 4 times in the last hour",
        )
        for number in range(count)
    ]


def recovered(alerts: Sequence[Alert]) -> list[Alert]:
    """Return them closed, each by a run that completed."""
    return [
        closed(one, why=CloseReason.RECOVERED, reason="the latest run completed at 2026-11-24 11:50 UTC")
        for one in alerts
    ]


def acknowledged(one: Alert, **changes: Any) -> Alert:
    """Return the alert in somebody's hands."""
    values: dict[str, Any] = {"by": "Ann Bell", "at": AS_OF, "reason": "the customer renews the secret today"}
    return replace(one, acknowledged=Acknowledgement(**{**values, **changes}))


def flapping(one: Alert) -> Alert:
    """Return the alert as one that came back three times within the day."""
    returns = tuple(AS_OF - timedelta(hours=hours) for hours in (9, 5, 1))
    return replace(one, returns=returns, flapping_since=AS_OF, flaps=2, reopened_at=AS_OF)


KEPT_BACK = {
    "kept_back_by": ["muted"],
    "topics": ["nights"],
    "silences": [],
    "since": (AS_OF - timedelta(hours=8)).isoformat(),
}
SILENCED = {
    "kept_back_by": ["silenced"],
    "topics": ["1f0c6a52-3a5e-4a51-9d42-0a3f9d2f7c11"],
    "silences": [{"author": "Ann Bell", "reason": "Acme moves its data centre"}],
    "kept_back": 5,
    "since": (AS_OF - timedelta(hours=8)).isoformat(),
    "rules": {"sync_failures": 4, "stale_sync": 1},
}
DIGEST = {
    "kept_back_by": ["budget"],
    "topics": ["2026-11-23"],
    "silences": [],
    "kept_back": 12,
    "since": (AS_OF - timedelta(hours=20)).isoformat(),
    "rules": {"stale_sync": 9, "consecutive_failures": 3},
    "spent": {"consecutive_failures": 10},
}
GAP = {"missed": 3, "from": (AS_OF - timedelta(hours=7)).isoformat(), "until": AS_OF.isoformat()}


def conversation_cases() -> list[Case]:
    """Return every kind of message of a thread, of one alert and of several."""
    one = alert("sync_failures")
    fourteen = group(14)
    mixed = [replace(each, severity=Severity.CRITICAL) if place == 4 else each for place, each in enumerate(fourteen)]
    other_rule = replace(fourteen[13], rule="stale_sync", title="ServiceTitan Sync Stale", cause=None, error_class=None)
    partly = [*recovered(fourteen[:3]), *fourteen[3:]]
    ended = [
        *recovered(fourteen[:11]),
        closed(fourteen[11], why=CloseReason.EXPIRED, reason="nobody could judge it for 7 days"),
        closed(fourteen[12], why=CloseReason.TARGET_REMOVED, reason="the credential was deleted upstream"),
        closed(fourteen[13], why=CloseReason.RULE_CHANGED, reason="the threshold is now 10"),
    ]
    recovering = [replace(each, state=AlertState.RECOVERING, state_since=AS_OF) for each in fourteen]
    in_hand = [acknowledged(each, until=AS_OF + timedelta(hours=20)) for each in fourteen]
    some_in_hand = [*in_hand[:2], flapping(fourteen[2]), replace(fourteen[3], stale_since=AS_OF), *fourteen[4:]]
    reopened = replace(one, opened_at=AS_OF, reopened_at=AS_OF, returns=(AS_OF,))
    worse = replace(alert("consecutive_failures"), severity=Severity.HIGH, peak_severity=Severity.HIGH)
    before = {"closed_before": (AS_OF - timedelta(hours=2, minutes=30)).isoformat()}
    few = tuple(storm(23)[:5])
    return [
        Case(name="group-first", alerts=tuple(fourteen), reason=NotifyReason.FIRST),
        Case(name="group-first_mixed_severity", alerts=tuple(mixed), reason=NotifyReason.FIRST),
        Case(name="group-first_thousands", alerts=tuple(group(3_000)), reason=NotifyReason.FIRST, links=Links()),
        Case(name="group-first_some_closed", alerts=tuple(partly), reason=NotifyReason.FIRST),
        Case(name="group-repeat", alerts=tuple(fourteen), reason=NotifyReason.REPEAT),
        Case(
            name="group-new_in_group",
            alerts=tuple(group(16)[14:]),
            neighbours=tuple(group(16)),
            reason=NotifyReason.NEW_IN_GROUP,
        ),
        Case(
            name="group-new_in_group_fallback",
            alerts=(one,),
            reason=NotifyReason.NEW_IN_GROUP,
            fallback_of="slack:#servicetitan-alerts",
        ),
        Case(
            name="group-escalated",
            alerts=tuple(replace(each, severity=Severity.CRITICAL) for each in fourteen),
            reason=NotifyReason.ESCALATED,
            details={"was": "high"},
        ),
        Case(name="group-unsuppressed", alerts=tuple(fourteen), reason=NotifyReason.UNSUPPRESSED, details=KEPT_BACK),
        Case(
            name="group-reopened",
            alerts=tuple(replace(each, opened_at=AS_OF, reopened_at=AS_OF) for each in fourteen),
            reason=NotifyReason.REOPENED,
            details=before,
        ),
        Case(name="group-closed_some", alerts=tuple(partly[:3]), neighbours=tuple(partly), reason=NotifyReason.CLOSED),
        Case(name="group-closed_one", alerts=(partly[0],), neighbours=tuple(partly), reason=NotifyReason.CLOSED),
        Case(name="group-closed_all", alerts=tuple(recovered(fourteen)), reason=NotifyReason.CLOSED),
        Case(name="group-closed_all_differently", alerts=tuple(ended), reason=NotifyReason.CLOSED),
        Case(
            name="group-updated_open",
            alerts=tuple(some_in_hand[:4]),
            neighbours=tuple(some_in_hand),
            reason=NotifyReason.UPDATED,
        ),
        Case(name="group-updated_acknowledged", alerts=tuple(in_hand), reason=NotifyReason.UPDATED),
        Case(name="group-updated_recovering", alerts=tuple(recovering), reason=NotifyReason.UPDATED),
        Case(
            name="group-updated_partly_recovered",
            alerts=tuple(partly[:3]),
            neighbours=tuple(partly),
            reason=NotifyReason.UPDATED,
        ),
        Case(
            name="group-updated_partly_closed",
            alerts=(ended[12],),
            neighbours=(*ended[10:], *fourteen[:6]),
            reason=NotifyReason.UPDATED,
        ),
        Case(name="group-updated_recovered", alerts=tuple(recovered(fourteen)), reason=NotifyReason.UPDATED),
        Case(name="group-updated_closed", alerts=tuple(ended), reason=NotifyReason.UPDATED),
        Case(
            name="group-of_several_rules",
            alerts=(*fourteen[:2], other_rule),
            neighbours=(*fourteen[:4], other_rule),
            reason=NotifyReason.REPEAT,
        ),
        Case(name="sync_failures-reopened", alerts=(reopened,), reason=NotifyReason.REOPENED, details=before),
        Case(name="sync_failures-reopened_flapping", alerts=(flapping(reopened),), reason=NotifyReason.REOPENED),
        Case(name="sync_failures-unsuppressed", alerts=(one,), reason=NotifyReason.UNSUPPRESSED, details=KEPT_BACK),
        Case(
            name="consecutive_failures-escalated",
            alerts=(worse,),
            reason=NotifyReason.ESCALATED,
            details={"was": {worse.fingerprint: "medium"}},
        ),
        Case(name="sync_failures-updated", alerts=(acknowledged(one),), reason=NotifyReason.UPDATED),
        Case(name="sync_failures-updated_recovered", alerts=tuple(recovered([one])), reason=NotifyReason.UPDATED),
        Case(
            name="sync_failures-fallback",
            alerts=(one,),
            reason=NotifyReason.FIRST,
            fallback_of="slack:#servicetitan-alerts",
        ),
        Case(name="summary-escalated", alerts=few, reason=NotifyReason.ESCALATED),
        *_receipts(),
    ]


def _receipts() -> list[Case]:
    stale = alert("stale_sync")
    over = recovered(group(2))
    return [
        Case(name="digest", alerts=(stale, *over), reason=NotifyReason.DIGEST, details=DIGEST),
        Case(name="digest-nothing_open", alerts=(), reason=NotifyReason.DIGEST, details=DIGEST),
        Case(name="digest-without_details", alerts=(stale,), reason=NotifyReason.DIGEST),
        Case(name="silence_ended", alerts=(stale, *over), reason=NotifyReason.SILENCE_ENDED, details=SILENCED),
        Case(
            name="silence_ended-mutes",
            alerts=(),
            reason=NotifyReason.SILENCE_ENDED,
            details={**SILENCED, "kept_back_by": ["muted"], "topics": ["nights", "weekends"], "silences": []},
        ),
        Case(
            name="silence_ended-several",
            alerts=tuple(acknowledged(each) for each in group(3)),
            reason=NotifyReason.SILENCE_ENDED,
            details={
                **SILENCED,
                "topics": ["a", "b"],
                "silences": [{"author": "Ann Bell", "reason": "one"}, {"author": "Bo Lee", "reason": "two"}],
            },
        ),
        Case(
            name="silence_ended-without_details",
            alerts=tuple(recovered([stale])),
            reason=NotifyReason.SILENCE_ENDED,
        ),
        Case(name="catch_up", alerts=tuple(recovered(group(3))), reason=NotifyReason.CATCH_UP, details=GAP),
        Case(
            name="catch_up-open_again",
            alerts=(*recovered(group(2)), group(3)[2]),
            reason=NotifyReason.CATCH_UP,
            details=GAP,
        ),
        Case(name="heartbeat", alerts=(), reason=NotifyReason.HEARTBEAT),
        Case(
            name="heartbeat-with_details",
            alerts=(),
            reason=NotifyReason.HEARTBEAT,
            details={"open": 3, "checks": {"sync_failures": AS_OF.isoformat(), "data_quality": OPENED.isoformat()}},
        ),
    ]

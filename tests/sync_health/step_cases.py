"""One alert in each of its states, with every field it may have, and what a tick makes of it: the values of the tables of `step`."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from include.sync_health.alerting_policies import LifecyclePolicy
from include.sync_health.alerts import (
    Acknowledgement,
    Alert,
    AlertEvent,
    AlertState,
    CloseReason,
    EventKind,
    NotifyReason,
    SilentReason,
    Suppression,
    Told,
)
from include.sync_health.lifecycle import step
from include.sync_health.observations import Observation, episode_of, fingerprint_of
from include.sync_health.policy import Policy
from include.sync_health.verdicts import ErrorClass, Severity, Verdict
from tests.sync_health.alert_histories import MAIL, SLACK, T0, TICK, with_timers

SECOND, HOUR, DAY = timedelta(seconds=1), timedelta(hours=1), timedelta(days=1)
NOW = T0 + 10 * DAY
BEFORE = NOW - TICK
FINGERPRINT = fingerprint_of("sync_failures", {"credential": "7"})
SHIPPED = LifecyclePolicy()
AT_ONCE = with_timers(lifecycle=SHIPPED)
SLOWLY = with_timers(for_=HOUR, keep_firing_for=HOUR, lifecycle=SHIPPED)


def saw(verdict: Verdict, **changes: Any) -> Observation:
    """What sync_failures says now, with every field it may have."""
    values: dict[str, Any] = {
        "severity": Severity.HIGH,
        "title": "Multiple ServiceTitan Sync Failures",
        "message": "Acme has failed 4 times in the last hour",
        "reason": "4 of 4 runs failed",
        "credential_id": "7",
        "company_id": "70",
        "company_name": "Acme",
        "environment": "production",
        "data_type": "jobs",
        "metadata": {"failure_count": 4},
        "error_class": ErrorClass.AUTH,
        "cause": "a" * 16,
        "evidence": {"failures": 4},
    }
    return Observation(rule="sync_failures", identity={"credential": "7"}, verdict=verdict, **{**values, **changes})


WORDS: dict[str, Any] = {
    "severity": Severity.HIGH,
    "title": "Multiple ServiceTitan Sync Failures",
    "message": "Acme has failed 4 times in the last hour",
    "reason": "4 of 4 runs failed",
    "credential_id": "7",
    "company_id": "70",
    "company_name": "Acme",
    "environment": "production",
    "data_type": "jobs",
    "metadata": {"failure_count": 4},
    "error_class": ErrorClass.AUTH,
    "cause": "a" * 16,
    "evidence": {"failures": 4},
    "last_as_of": NOW,
    "last_breach_at": NOW,
    "stale_since": None,
}
"""What a breach makes of an alert."""


def alert(state: AlertState, **changes: Any) -> Alert:
    """An alert as an earlier tick left it, in other words than those of now, and with every field it may have."""
    values: dict[str, Any] = {
        "severity": Severity.HIGH,
        "peak_severity": Severity.CRITICAL,
        "state_since": NOW - 2 * HOUR,
        "last_as_of": BEFORE,
        "last_breach_at": BEFORE,
        "episode_id": uuid.UUID(int=7),
        "opened_at": NOW - 3 * HOUR,
        "title": "an earlier title",
        "message": "an earlier message",
        "reason": "an earlier reason",
        "credential_id": "70",
        "company_id": "700",
        "company_name": "Acme, as it was",
        "environment": "integration",
        "data_type": "calls",
        "metadata": {"failure_count": 3},
        "error_class": ErrorClass.SERVER,
        "cause": "b" * 16,
        "evidence": {"failures": 3},
        "flaps": 1,
        "told": {SLACK: TOLD, MAIL: replace(TOLD, thread=None)},
        "threads": {"slack:#old": "an old thread", SLACK: "the thread before"},
        "suppressed": {MAIL: Suppression(why=SilentReason.BUDGET, by=None, since=BEFORE)},
        "acknowledged": Acknowledgement(by="Kim", at=BEFORE, reason="on it"),
    }
    return Alert(
        fingerprint=FINGERPRINT,
        rule="sync_failures",
        identity={"credential": "7"},
        state=state,
        **{**values, **changes},
    )


TOLD = Told(reason=NotifyReason.FIRST, at=BEFORE, severity=Severity.HIGH, thread="the thread")
TOLD_CLOSED = replace(TOLD, reason=NotifyReason.CLOSED)

PENDING = alert(AlertState.PENDING, state_since=NOW - HOUR + SECOND, told={}, threads={}, suppressed={})
FIRING = alert(AlertState.FIRING)
RECOVERING = alert(AlertState.RECOVERING, state_since=NOW - HOUR + SECOND)
ENDED: dict[str, Any] = {
    "told": {SLACK: TOLD_CLOSED, MAIL: TOLD},
    "close_reason": CloseReason.RECOVERED,
    "returns": (NOW - DAY, NOW - DAY + SECOND),
}
CLOSED_LONG_AGO = alert(AlertState.INACTIVE, closed_at=NOW - 6 * HOUR - SECOND, **ENDED)
CLOSED = alert(AlertState.INACTIVE, closed_at=NOW - 6 * HOUR, **ENDED)

NEW: dict[str, Any] = {
    **WORDS,
    "state": AlertState.FIRING,
    "state_since": NOW,
    "peak_severity": Severity.HIGH,
    "episode_id": episode_of(FINGERPRINT, NOW),
    "opened_at": NOW,
    "closed_at": None,
    "close_reason": None,
    "flaps": 0,
    "reopened_at": None,
    "threads": {},
    "suppressed": {},
    "acknowledged": None,
}
"""A new episode."""

OVER: dict[str, Any] = {
    "state": AlertState.INACTIVE,
    "state_since": NOW,
    "last_as_of": NOW,
    "stale_since": None,
    "flapping_since": None,
    "closed_at": NOW,
    "reason": "4 of 4 runs failed",
    "threads": {"slack:#old": "an old thread", SLACK: "the thread"},
    "suppressed": {},
    "acknowledged": None,
}
"""The end of an episode: where it was told is kept, should it open again."""

UNTOLD: dict[str, Any] = {"told": {}, "threads": {}, "suppressed": {}, "acknowledged": None, "flaps": 0}
THREE_RETURNS = (NOW - 5 * HOUR, NOW - 4 * HOUR, NOW - 3 * HOUR)


def check(
    before: Alert | None, observation: Observation, *, policy: Policy, after: Alert | None, kinds: Sequence[EventKind]
) -> None:
    """Hold one tick against the whole alert and the whole of each event that it should make."""
    result = step({} if before is None else {FINGERPRINT: before}, [observation], policy=policy, as_of=NOW)

    assert dict(result.alerts) == ({} if after is None else {FINGERPRINT: after})
    assert result.events == tuple(
        AlertEvent(
            fingerprint=FINGERPRINT,
            episode_id=after.episode_id,
            as_of=NOW,
            kind=kind,
            severity=after.severity,
            reason=after.reason,
            close_reason=after.close_reason if kind is EventKind.CLOSED else None,
        )
        for kind in kinds
        if after is not None
    )

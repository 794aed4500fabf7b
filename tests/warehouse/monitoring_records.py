"""What tests of the monitoring schema start from: a migrated database, an alert, a delivery."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from include.sync_health.alerts import (
    Alert,
    AlertEvent,
    AlertState,
    Delivery,
    EventKind,
    Member,
    NotifyReason,
    SilentReason,
)
from include.sync_health.matchers import Matcher
from include.sync_health.muting import Silence
from include.sync_health.observations import episode_of, fingerprint_of
from include.sync_health.verdicts import Severity

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
OPS = "slack:#ops"
HOSTILE = "a\x00b \ud83d <!channel>'; DROP TABLE monitoring.alert; --"
"""What PostgreSQL cannot hold, and what must stay text."""

STORED_HOSTILE = "a\ufffdb \ufffd <!channel>'; DROP TABLE monitoring.alert; --"


def alert(credential: str = "7", **changes: Any) -> Alert:
    """Return a firing alert of one credential."""
    identity = {"credential": credential}
    fingerprint = fingerprint_of("sync_failures", identity)
    made = Alert(
        fingerprint=fingerprint,
        rule="sync_failures",
        identity=identity,
        state=AlertState.FIRING,
        severity=Severity.HIGH,
        peak_severity=Severity.HIGH,
        state_since=NOW,
        last_as_of=NOW,
        last_breach_at=NOW,
        episode_id=episode_of(fingerprint, NOW),
        opened_at=NOW,
        title="Multiple ServiceTitan Sync Failures",
        message="failed 3 times",
        reason="3 failed runs in 1 hour",
        credential_id=credential,
    )
    return replace(made, **changes)


def event(of: Alert, **changes: Any) -> AlertEvent:
    """Return the opening of an alert's episode."""
    made = AlertEvent(
        fingerprint=of.fingerprint,
        episode_id=of.episode_id,
        as_of=of.last_as_of,
        kind=EventKind.OPENED,
        severity=of.severity,
        reason=of.reason,
    )
    return replace(made, **changes)


def delivery(key: str, *of: Alert, **changes: Any) -> Delivery:
    """Return a first message about these alerts to `OPS`."""
    members = tuple(Member(fingerprint=each.fingerprint, episode_id=each.episode_id or uuid.UUID(int=0)) for each in of)
    made = Delivery(key=key, channel=OPS, reason=NotifyReason.FIRST, members=members, as_of=NOW)
    return replace(made, **changes)


def kept_back(key: str, of: Alert, why: SilentReason = SilentReason.SILENCED, **changes: Any) -> Delivery:
    """Return the decision to keep a message about an alert back."""
    return delivery(key, of, **{"reason": None, "silent": why, "by": "a-silence", "severity": of.severity, **changes})


def silence(number: int = 1, **changes: Any) -> Silence:
    """Return a silence of the next hour about credential 7."""
    made = Silence(
        id=uuid.UUID(int=number),
        match=Matcher(credential=frozenset({"7"})),
        starts_at=NOW,
        ends_at=NOW + HOUR,
        author="ada@example.com",
        reason="ServiceTitan maintenance",
        created_at=NOW,
    )
    return replace(made, **changes)

"""
Somebody takes an alert in hand, or gives it back: both are part of its history.

What is written is only the acknowledgement: an evaluation that runs meanwhile waits for the lock, or is waited for. The
caller commits.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import psycopg

from include.sync_health.alerts import Acknowledgement, Alert, AlertEvent, EventKind
from include.sync_health.errors import RequestError
from include.warehouse.alert_store import load_named_alerts, lock_alerts, save_step
from include.warehouse.monitoring_session import storage_errors
from include.warehouse.stored_values import aware, storable_text


@storage_errors()
def acknowledge(
    conn: psycopg.Connection[Any], fingerprint: str, acknowledgement: Acknowledgement, *, now: datetime
) -> Alert:
    """
    Record that somebody has an open alert in hand, in place of whoever had it before; return the alert.

    Args:
        conn: the session whose transaction this joins; it holds the alerts until that ends.
        fingerprint: the whole of it.
        acknowledgement: who, why, and until when.
        now: aware; when the event is recorded.

    Raises:
        RequestError: there is no such alert, it is not open, or the acknowledgement lacks its author or reason, or is
            over already.
        ValueError: a naive datetime.
        StorageError: the schema is missing or the database unreachable, or another transaction holds the alerts.
    """
    by, why, until = acknowledgement.by.strip(), acknowledgement.reason.strip(), acknowledgement.until
    if not by:
        raise RequestError("by: it is empty; say who has the alert in hand")
    if not why:
        raise RequestError("reason: it is empty; say what is being done about it")
    if until is not None and aware(until) <= aware(now):
        raise RequestError(f"until: {until.isoformat()} is over; choose a time to come, or leave it out")
    alert = _open_alert(conn, fingerprint)
    told = (
        f"by {by}: {why}"
        if until is None
        else f"by {by} until {aware(until).astimezone(UTC):%Y-%m-%d %H:%M} UTC: {why}"
    )
    after = replace(alert, acknowledged=replace(acknowledgement, by=by, reason=why))
    return _save(conn, after, EventKind.ACKNOWLEDGED, reason=told, now=now)


@storage_errors()
def unacknowledge(conn: psycopg.Connection[Any], fingerprint: str, *, by: str, now: datetime) -> Alert:
    """
    Record that nobody has an open alert in hand any more; return the alert, which is repeated again.

    Args:
        conn: as in `acknowledge`.
        fingerprint: the whole of it.
        by: who says so.
        now: aware.

    Raises:
        RequestError: there is no such alert, it is not open, nobody has acknowledged it, or ``by`` is empty.
        ValueError: ``now`` is naive.
        StorageError: as `acknowledge`.
    """
    who = by.strip()
    if not who:
        raise RequestError("by: it is empty; say who gives the alert back")
    alert = _open_alert(conn, fingerprint)
    if alert.acknowledged is None:
        raise RequestError(f"fingerprint: nobody has acknowledged alert {alert.fingerprint[:12]}")
    return _save(conn, replace(alert, acknowledged=None), EventKind.UNACKNOWLEDGED, reason=f"by {who}", now=now)


def _open_alert(conn: psycopg.Connection[Any], fingerprint: str) -> Alert:
    named = storable_text(fingerprint)
    lock_alerts(conn)
    found = load_named_alerts(conn, fingerprints=[named])
    if not found:
        raise RequestError(f"fingerprint: there is no alert {named[:64]!r}")
    if not found[0].state.is_open:
        raise RequestError(
            f"fingerprint: alert {named[:12]} is {found[0].state}; only one that is open can be acknowledged"
        )
    return found[0]


def _save(conn: psycopg.Connection[Any], alert: Alert, kind: EventKind, *, reason: str, now: datetime) -> Alert:
    event = AlertEvent(
        fingerprint=alert.fingerprint,
        episode_id=alert.episode_id,
        as_of=now,
        kind=kind,
        severity=alert.severity,
        reason=reason,
    )
    save_step(conn, alerts=[alert], events=[event], deliveries=[], now=now)
    return load_named_alerts(conn, fingerprints=[alert.fingerprint])[0]

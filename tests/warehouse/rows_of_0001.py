"""Rows as the first releases wrote them: with the columns that revision 0001 has, and no others."""

from __future__ import annotations

from typing import Any

import psycopg

from include.sync_health.alerts import Alert, AlertEvent, Delivery
from include.warehouse.stored_values import storable_json

_ALERT = """
    INSERT INTO monitoring.alert (fingerprint, rule, identity, state, severity, peak_severity, state_since, last_as_of,
        last_breach_at, episode_id, opened_at, closed_at, flaps, title, message, reason, credential_id, metadata, evidence,
        told, updated_at)
    VALUES (%(fingerprint)s, %(rule)s, %(identity)s, %(state)s, %(severity)s, %(peak)s, %(state_since)s, %(last_as_of)s,
        %(last_breach_at)s, %(episode)s, %(opened_at)s, %(closed_at)s, %(flaps)s, %(title)s, %(message)s, %(reason)s,
        %(credential)s, %(metadata)s, %(evidence)s, %(told)s, %(last_as_of)s)
"""

_EVENT = """
    INSERT INTO monitoring.alert_event (fingerprint, as_of, kind, episode_id, severity, reason, recorded_at)
    VALUES (%s, %s, %s, %s, %s, %s, %s)
"""

_DELIVERY = """
    INSERT INTO monitoring.delivery (key, channel, reason, silent, members, fingerprints, as_of, status, next_attempt_at,
        created_at, updated_at)
    VALUES (%(key)s, %(channel)s, %(reason)s, %(silent)s, %(members)s, %(fingerprints)s, %(as_of)s, %(status)s, %(as_of)s,
        %(as_of)s, %(as_of)s)
"""


def store_alert(conn: psycopg.Connection[Any], alert: Alert) -> None:
    """Store an alert; of what a channel was told, the words that there were then."""
    told = {
        channel: {"reason": each.reason, "at": each.at, "severity": each.severity}
        for channel, each in alert.told.items()
    }
    values = {
        "fingerprint": alert.fingerprint,
        "rule": alert.rule,
        "identity": storable_json(alert.identity),
        "state": str(alert.state),
        "severity": str(alert.severity),
        "peak": str(alert.peak_severity),
        "state_since": alert.state_since,
        "last_as_of": alert.last_as_of,
        "last_breach_at": alert.last_breach_at,
        "episode": alert.episode_id,
        "opened_at": alert.opened_at,
        "closed_at": alert.closed_at,
        "flaps": alert.flaps,
        "title": alert.title,
        "message": alert.message,
        "reason": alert.reason,
        "credential": alert.credential_id,
        "metadata": storable_json(alert.metadata),
        "evidence": storable_json(alert.evidence),
        "told": storable_json(told),
    }
    conn.execute(_ALERT, values)


def store_event(conn: psycopg.Connection[Any], event: AlertEvent) -> None:
    """Store a line of history."""
    conn.execute(
        _EVENT,
        (
            event.fingerprint,
            event.as_of,
            str(event.kind),
            event.episode_id,
            str(event.severity),
            event.reason,
            event.as_of,
        ),
    )


def store_delivery(conn: psycopg.Connection[Any], delivery: Delivery) -> None:
    """Store a delivery that is due at its ``as_of``, or is not sent."""
    members = [{"fingerprint": each.fingerprint, "episode_id": each.episode_id} for each in delivery.members]
    values = {
        "key": delivery.key,
        "channel": delivery.channel,
        "reason": delivery.reason and str(delivery.reason),
        "silent": delivery.silent and str(delivery.silent),
        "members": storable_json(members),
        "fingerprints": sorted(member.fingerprint for member in delivery.members),
        "as_of": delivery.as_of,
        "status": "not_sent" if delivery.silent else "pending",
    }
    conn.execute(_DELIVERY, values)

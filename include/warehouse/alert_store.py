"""
The alerts' state, history and outbox entries: read, stepped and written in one transaction of the caller's.

    with connect(conninfo) as conn:
        lock_alerts(conn)
        alerts = load_alerts(conn, fingerprints=judged)
        ...step and decide, which are pure...
        save_step(conn, alerts=..., events=..., deliveries=..., now=...)

Texts pass `include.warehouse.stored_values`: NUL and lone surrogates become U+FFFD, NaN becomes null, and tuples
inside metadata or evidence come back as lists.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

import psycopg
from psycopg.rows import dict_row

from include.sync_health.alerts import (
    Acknowledgement,
    Alert,
    AlertEvent,
    AlertState,
    CloseReason,
    Delivery,
    DeliveryStatus,
    NotifyReason,
    SilentReason,
    Suppression,
    Told,
)
from include.sync_health.verdicts import ErrorClass, Severity
from include.warehouse.monitoring_session import ALERTS_LOCK, storage_errors
from include.warehouse.stored_values import aware, storable_json, stored_moment

ALERT_COLUMNS = (
    "fingerprint",
    "rule",
    "identity",
    "state",
    "severity",
    "peak_severity",
    "state_since",
    "last_as_of",
    "last_breach_at",
    "episode_id",
    "opened_at",
    "closed_at",
    "close_reason",
    "stale_since",
    "flaps",
    "returns",
    "reopened_at",
    "flapping_since",
    "title",
    "message",
    "reason",
    "credential_id",
    "company_id",
    "company_name",
    "environment",
    "data_type",
    "metadata",
    "error_class",
    "cause",
    "evidence",
    "told",
    "threads",
    "suppressed",
    "acknowledged",
)
"""The columns of ``monitoring.alert`` that are fields of `Alert`, under the same names."""

_COLUMN_LIST = ", ".join(ALERT_COLUMNS)
_OVERWRITE = ", ".join(f"{column} = excluded.{column}" for column in (*ALERT_COLUMNS[1:], "updated_at"))

_SAVE_ALERTS = f"""
    INSERT INTO monitoring.alert ({_COLUMN_LIST}, updated_at)
    SELECT {_COLUMN_LIST}, updated_at FROM jsonb_populate_recordset(NULL::monitoring.alert, %(rows)s)
    ON CONFLICT (fingerprint) DO UPDATE SET {_OVERWRITE}
    WHERE alert.last_as_of <= excluded.last_as_of
"""  # noqa: S608 -- only constants of this module

SELECT_ALERTS = f"SELECT {_COLUMN_LIST} FROM monitoring.alert "  # noqa: S608 -- only constants of this module
"""The start of a query whose rows are for `alert_of`."""

_SAVE_EVENTS = """
    INSERT INTO monitoring.alert_event
        (fingerprint, as_of, kind, episode_id, severity, reason, close_reason, recorded_at)
    SELECT fingerprint, as_of, kind, episode_id, severity, reason, close_reason, recorded_at
    FROM jsonb_populate_recordset(NULL::monitoring.alert_event, %(rows)s)
    ON CONFLICT DO NOTHING
"""

# Ids are given out in the order of the list, and the drain follows the ids.
_SAVE_DELIVERIES = """
    INSERT INTO monitoring.delivery
        (key, channel, reason, silent, by, members, fingerprints, as_of, severity, thread, details, status,
         next_attempt_at, created_at, updated_at)
    SELECT new.key, new.channel, new.reason, new.silent, new.by, new.members, new.fingerprints, new.as_of, new.severity,
           new.thread, new.details, new.status, new.next_attempt_at, new.created_at, new.updated_at
    FROM jsonb_array_elements(%(rows)s) WITH ORDINALITY AS given (document, place),
         jsonb_populate_record(NULL::monitoring.delivery, given.document) AS new
    ORDER BY given.place
    ON CONFLICT (key) DO NOTHING
"""

# What one summary told of, no other tells again.
_ACCOUNT_FOR = """
    UPDATE monitoring.delivery AS held
    SET accounted_by = told.by, updated_at = %(now)s
    FROM jsonb_to_recordset(%(rows)s) AS told (key text, by text)
    WHERE held.key = told.key AND held.accounted_by IS NULL
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedStep:
    """How many rows a step wrote; what it did not write was there already, or was newer."""

    alerts: int
    newer_alerts: int  # left alone: the stored last_as_of is newer than the one given
    events: int
    deliveries: int
    accounted: int  # what had been kept back, and these deliveries tell of


@storage_errors()
def lock_alerts(conn: psycopg.Connection[Any]) -> None:
    """
    Wait until no other transaction holds the alerts, and hold them until this one ends.

    Raises:
        StorageError: another transaction held them longer than the session's ``lock_timeout``.
    """
    conn.execute("SELECT pg_advisory_xact_lock(%s)", (ALERTS_LOCK,))


@storage_errors()
def load_alerts(conn: psycopg.Connection[Any], *, fingerprints: Collection[str] = ()) -> dict[str, Alert]:
    """
    Return every alert that has to be followed, and those named that were ever stored, by fingerprint.

    To be followed are those that are not INACTIVE, and those that closed while some channel has yet to hear of it
    (the run that closed them was not to notify, or the channel had lost its connection).

    Args:
        conn: any session; nothing is committed.
        fingerprints: others wanted besides; an unknown one is simply absent from the result.

    Raises:
        StorageError: the schema is missing or the database unreachable.
    """
    with conn.cursor(row_factory=dict_row) as cursor:
        cursor.execute(
            SELECT_ALERTS + "WHERE is_followed OR fingerprint = ANY(%s) ORDER BY fingerprint",
            (list(fingerprints),),
        )
        return {row["fingerprint"]: alert_of(row) for row in cursor}


@storage_errors()
def load_named_alerts(conn: psycopg.Connection[Any], *, fingerprints: Sequence[str]) -> list[Alert]:
    """
    Return these alerts, whatever their state, in the order of ``fingerprints``; unknown ones are left out.

    Raises:
        StorageError: the schema is missing or the database unreachable.
    """
    with conn.cursor(row_factory=dict_row) as cursor:
        cursor.execute(SELECT_ALERTS + "WHERE fingerprint = ANY(%s)", (list(fingerprints),))
        found = {row["fingerprint"]: alert_of(row) for row in cursor}
    return [found[fingerprint] for fingerprint in dict.fromkeys(fingerprints) if fingerprint in found]


@storage_errors()
def save_step(
    conn: psycopg.Connection[Any],
    *,
    alerts: Iterable[Alert],
    events: Iterable[AlertEvent],
    deliveries: Iterable[Delivery],
    now: datetime,
) -> SavedStep:
    """
    Write one tick's outcome in the caller's transaction, in four statements; saving it again changes nothing.

    An alert is compare-and-set: it is not overwritten by one with an older ``last_as_of``; an equal one replaces it.
    Events are kept by (fingerprint, as_of, kind) and deliveries by key: the first that was stored stays.
    A delivery with a `SilentReason` is recorded as not sent; the others are due at ``now``, in the order given.
    What a delivery ``accounts_for`` is marked with its key, unless another has accounted for it before.

    Args:
        conn: the session whose transaction this joins; nothing is committed.
        alerts: the new states; of two with one fingerprint the last counts.
        events: the new lines of history.
        deliveries: what was decided to send, or not to send.
        now: the wall clock, aware; for ``recorded_at``, ``created_at`` and the like, never for a decision.

    Raises:
        ValueError: a naive datetime.
        StorageError: the schema is missing or the database unreachable.
    """
    stamp = aware(now)
    alert_rows = list({alert.fingerprint: _alert_row(alert, now=stamp) for alert in alerts}.values())
    written = _write(conn, _SAVE_ALERTS, alert_rows)
    decided = list(deliveries)
    return SavedStep(
        alerts=written,
        newer_alerts=len(alert_rows) - written,
        events=_write(conn, _SAVE_EVENTS, [_event_row(event, now=stamp) for event in events]),
        deliveries=_write(conn, _SAVE_DELIVERIES, [_delivery_row(delivery, now=stamp) for delivery in decided]),
        accounted=_write(conn, _ACCOUNT_FOR, _accounted_rows(decided), now=stamp),
    )


def _write(conn: psycopg.Connection[Any], statement: str, rows: list[dict[str, Any]], **values: datetime) -> int:
    if not rows:
        return 0
    return conn.execute(statement, {"rows": storable_json(rows), **values}).rowcount


def _alert_row(alert: Alert, *, now: datetime) -> dict[str, Any]:
    row = {column: getattr(alert, column) for column in ALERT_COLUMNS}
    return {
        **row,
        "told": {channel: _fields_of(told) for channel, told in alert.told.items()},
        "suppressed": {channel: _fields_of(suppression) for channel, suppression in alert.suppressed.items()},
        "acknowledged": _fields_of(alert.acknowledged) if alert.acknowledged else None,
        "updated_at": now,
    }


def _fields_of(value: Told | Suppression | Acknowledgement) -> dict[str, Any]:
    # `asdict` copies every value deeply, which takes ten times as long.
    return {each.name: getattr(value, each.name) for each in fields(value)}


def _event_row(event: AlertEvent, *, now: datetime) -> dict[str, Any]:
    return {
        "fingerprint": event.fingerprint,
        "as_of": event.as_of,
        "kind": event.kind,
        "episode_id": event.episode_id,
        "severity": event.severity,
        "reason": event.reason,
        "close_reason": event.close_reason,
        "recorded_at": now,
    }


def _delivery_row(delivery: Delivery, *, now: datetime) -> dict[str, Any]:
    return {
        "key": delivery.key,
        "channel": delivery.channel,
        "reason": delivery.reason,
        "silent": delivery.silent,
        "by": delivery.by,
        "members": [{"fingerprint": each.fingerprint, "episode_id": each.episode_id} for each in delivery.members],
        "fingerprints": sorted({member.fingerprint for member in delivery.members}),
        "as_of": delivery.as_of,
        "severity": delivery.severity,
        "thread": delivery.thread,
        "details": delivery.details,
        "status": DeliveryStatus.NOT_SENT if delivery.silent else DeliveryStatus.PENDING,
        "next_attempt_at": now,
        "created_at": now,
        "updated_at": now,
    }


def _accounted_rows(deliveries: Iterable[Delivery]) -> list[dict[str, Any]]:
    """Return what was kept back with the key of the first of the deliveries that tells of it."""
    by: dict[str, str] = {}
    for delivery in deliveries:
        for key in delivery.accounts_for:
            by.setdefault(key, delivery.key)
    return [{"key": key, "by": teller} for key, teller in by.items()]


_MOMENTS = (
    "state_since",
    "last_as_of",
    "last_breach_at",
    "opened_at",
    "closed_at",
    "stale_since",
    "reopened_at",
    "flapping_since",
)


def alert_of(row: Mapping[str, Any]) -> Alert:
    """Return a row of `ALERT_COLUMNS` as the core's value."""
    return Alert(
        **{
            **row,
            **{column: stored_moment(row[column]) for column in _MOMENTS},
            "state": AlertState(row["state"]),
            "severity": Severity(row["severity"]),
            "peak_severity": Severity(row["peak_severity"]),
            "close_reason": CloseReason(row["close_reason"]) if row["close_reason"] else None,
            "error_class": ErrorClass(row["error_class"]) if row["error_class"] else None,
            "returns": tuple(datetime.fromisoformat(each) for each in row["returns"]),
            "told": {channel: _told(each) for channel, each in row["told"].items()},
            "suppressed": {channel: _suppression(each) for channel, each in row["suppressed"].items()},
            "acknowledged": _acknowledgement(row["acknowledged"]) if row["acknowledged"] else None,
        }
    )


def _told(stored: Mapping[str, Any]) -> Told:
    """Return what a channel was told; rows from before there were threads know of none."""
    return Told(
        reason=NotifyReason(stored["reason"]),
        at=datetime.fromisoformat(stored["at"]),
        severity=Severity(stored["severity"]),
        thread=stored.get("thread"),
        shown=stored.get("shown"),
    )


def _suppression(stored: Mapping[str, Any]) -> Suppression:
    return Suppression(why=SilentReason(stored["why"]), by=stored["by"], since=datetime.fromisoformat(stored["since"]))


def _acknowledgement(stored: Mapping[str, Any]) -> Acknowledgement:
    until = stored["until"]
    return Acknowledgement(
        by=stored["by"],
        at=datetime.fromisoformat(stored["at"]),
        reason=stored["reason"],
        until=datetime.fromisoformat(until) if until else None,
    )

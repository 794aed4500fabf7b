"""What the health check found, as it was stored: one row of ``monitoring.health_snapshot`` per window's end."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import psycopg

from include.sync_health.health import HealthStatus, StoredHealth
from include.warehouse.monitoring_session import storage_errors
from include.warehouse.stored_values import aware, storable_json

_STORE = """
    INSERT INTO monitoring.health_snapshot AS stored (as_of, status, report, every_seconds, computed_at)
    VALUES (%(as_of)s, %(status)s, %(report)s, %(every)s, %(computed_at)s)
    ON CONFLICT (as_of) DO UPDATE
    SET status = excluded.status, report = excluded.report, every_seconds = excluded.every_seconds,
        computed_at = excluded.computed_at
    WHERE stored.computed_at <= excluded.computed_at
"""

_NEWEST = """
    SELECT as_of, status, report, every_seconds, computed_at FROM monitoring.health_snapshot
    ORDER BY as_of DESC LIMIT 1
"""


@storage_errors(table="health_snapshot")
def store_health(conn: psycopg.Connection[Any], health: StoredHealth) -> None:
    """
    Store a report under its ``as_of``, in the place of one that was computed no later; nothing is committed.

    Raises:
        ValueError: a naive time.
        StorageError: the schema is missing or the database unreachable.
    """
    conn.execute(
        _STORE,
        {
            "as_of": aware(health.as_of),
            "status": str(health.status),
            "report": storable_json(health.report),
            "every": max(1, round(health.every.total_seconds())),
            "computed_at": aware(health.computed_at),
        },
    )


@storage_errors()
def newest_health(conn: psycopg.Connection[Any]) -> StoredHealth | None:
    """
    Return the report with the newest ``as_of``, or None when there is none; times in UTC.

    Raises:
        StorageError: the schema is missing or the database unreachable.
    """
    row = conn.execute(_NEWEST).fetchone()
    if row is None:
        return None
    as_of, status, report, every_seconds, computed_at = row
    return StoredHealth(
        as_of=aware(as_of),
        status=HealthStatus(status),
        report=report,
        every=timedelta(seconds=every_seconds),
        computed_at=aware(computed_at),
    )

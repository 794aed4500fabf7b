"""
A source's tables as plain rows, for the oracle: SELECT * and Python, nothing of the reader under test.

For the two shapes with integer keys and naive times, ``migrations`` and ``entities``. Naive times are PHP's wall time;
of the repeated hour in autumn the standard time is taken, which is what the monitor promises as well.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
from psycopg.rows import dict_row

from tests.sync_health.oracle import Row
from tests.sync_health.oracle_credentials import Credential

LOG_TABLES = ("servicetitan_sync_logs", "servicetitan_sync_log")
STATUSES = ("pending", "running", "completed", "failed", "cancelled")
DATA_TYPES = ("invoices", "customers", "both")
ENVIRONMENTS = ("production", "integration")


def source_rows_of(dsn: str, *, timezone: str) -> tuple[list[Row], list[Credential]]:
    """Every run and every credential of the source as it is at this moment, by id."""
    zone = ZoneInfo(timezone)
    with psycopg.connect(dsn, row_factory=dict_row) as conn:
        tables = {row["tablename"] for row in conn.execute("SELECT tablename FROM pg_tables")}
        (log_table,) = [name for name in LOG_TABLES if name in tables]
        companies = {row["id"]: row["company_name"] for row in conn.execute("SELECT * FROM company")}
        credentials = [
            _credential(row, companies, zone) for row in conn.execute("SELECT * FROM servicetitan_credentials")
        ]
        runs = [_run(row, zone) for row in conn.execute(f"SELECT * FROM {log_table}")]
    return sorted(runs, key=lambda run: run.id), sorted(credentials, key=lambda credential: credential.id)


def aware(wall: datetime | None, zone: ZoneInfo) -> datetime | None:
    """The instant, in UTC, of a time as a column holds it."""
    if wall is None:
        return None
    if wall.tzinfo is not None:
        return wall.astimezone(UTC)
    readings = [wall.replace(tzinfo=zone, fold=fold) for fold in (0, 1)]
    standard = min(readings, key=lambda reading: reading.utcoffset() or reading - reading)
    return standard.astimezone(UTC)


def _run(row: dict[str, Any], zone: ZoneInfo) -> Row:
    return Row(
        id=row["id"],
        credential=row["service_titan_credential_id"],
        data_type=row["data_type"] if row["data_type"] in DATA_TYPES else "unknown",
        status=row["status"] if row["status"] in STATUSES else "unknown",
        started_at=_certain(row["started_at"], zone),
        completed_at=aware(row["completed_at"], zone),
        updated_at=_certain(row["updated_at"], zone),
        error_message=row["error_message"],
        records_processed=row["records_processed"],
        records_successful=row["records_successful"],
        records_failed=row["records_failed"],
    )


def _credential(row: dict[str, Any], companies: dict[int, str], zone: ZoneInfo) -> Credential:
    return Credential(
        id=row["id"],
        environment=row["environment"] if row["environment"] in ENVIRONMENTS else "unknown",
        status=row["connection_status"],
        token_expires_at=aware(row["token_expires_at"], zone),
        last_connection_attempt=aware(row["last_connection_attempt"], zone),
        created_at=aware(row["created_at"], zone),
        updated_at=aware(row["updated_at"], zone),
        has_client_id=bool((row["client_id"] or "").strip()),
        has_client_secret=bool((row["client_secret"] or "").strip()),
        company=row["company_id"],
        company_name=companies.get(row["company_id"]),
    )


def _certain(wall: datetime, zone: ZoneInfo) -> datetime:
    instant = aware(wall, zone)
    assert instant is not None
    return instant

"""Aggregates of a day, stored in the place of what was stored of it, and what is there then."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from typing import Any

import pandas as pd
import psycopg
from psycopg.rows import dict_row

from include.sync_health.daily_quality import DAILY_COLUMNS
from include.sync_health.field_quality import FIELD_COLUMNS
from include.sync_health.rule_policies import DataQualityPolicy
from include.warehouse.quality_daily import Replaced, replace_days
from tests.warehouse.monitoring_records import MINUTE, NOW

TODAY, YESTERDAY = date(2026, 3, 2), date(2026, 3, 1)
LATER = NOW + MINUTE


def daily(credential: str = "7", day: date = TODAY, **changes: Any) -> dict[str, Any]:
    """Return one row of an aggregate: two completed syncs of ten records."""
    return {
        "day": day,
        "credential_id": credential,
        "data_type": "both",
        "company_id": "3",
        "company_name": "Acme",
        "environment": "production",
        "syncs_total": 2,
        "syncs_completed": 2,
        "syncs_clean": 1,
        "syncs_partial": 1,
        "syncs_failed": 0,
        "syncs_cancelled": 0,
        "syncs_open": 0,
        "records_processed": 20,
        "records_successful": 15,
        "records_failed": 5,
        "quality_score": 75.0,
        "inconsistent": 0,
        "score_low": 53.1,
        "score_high": 88.8,
        "duration_avg_seconds": 1.5,
        "duration_p95_seconds": 2.0,
        "syncs_empty": 0,
        "syncs_timed": 2,
        **dict.fromkeys((name for name in DAILY_COLUMNS if name.startswith("failed_")), 0),
        "syncs_with_detail": 1,
        "records_with_detail": 10,
        "missing_required": 3,
        "completeness": 90.0,
        "is_final": False,
        "calc_version": 2,
        **changes,
    }


def frame(*rows: dict[str, Any]) -> pd.DataFrame:
    """Return an aggregate."""
    return pd.DataFrame(rows, columns=list(DAILY_COLUMNS))


def stored(conn: psycopg.Connection[Any], columns: str = "*") -> list[dict[str, Any]]:
    """Return what is stored, by key."""
    with conn.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(f"SELECT {columns} FROM monitoring.quality_daily ORDER BY day, credential_id").fetchall()
    conn.commit()
    return rows


def fields(*rows: dict[str, Any]) -> pd.DataFrame:
    """Return fields that failed."""
    return pd.DataFrame(rows, columns=list(FIELD_COLUMNS))


def field(credential: str = "7", name: str = "customerId", **changes: Any) -> dict[str, Any]:
    """Return a field that one sync of today named."""
    return {
        "day": TODAY,
        "credential_id": credential,
        "data_type": "both",
        "field": name,
        "is_required": True,
        "syncs": 1,
        "failures": 5,
        "missing": 3,
        "share": 25.0,
        "sample": "must not be blank",
        **changes,
    }


def replace(
    conn: psycopg.Connection[Any],
    *rows: dict[str, Any],
    at: datetime = NOW,
    with_fields: Sequence[dict[str, Any]] = (),
    **options: Any,
) -> Replaced:
    """Replace today by these rows."""
    return replace_days(
        conn,
        frame(*rows),
        fields(*with_fields),
        read_at=at,
        **{"days": [TODAY], "timezone": "UTC", "quality": DataQualityPolicy(), **options},
    )


def table(conn: psycopg.Connection[Any], columns: str, name: str) -> list[tuple[Any, ...]]:
    """Return what is in a table, in order."""
    rows = conn.execute(f"SELECT {columns} FROM monitoring.{name} ORDER BY 1, 2".encode()).fetchall()
    conn.commit()
    return rows

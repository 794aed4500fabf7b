"""Syncs by hour in ``monitoring.sync_hour``: whole hours are replaced, and only what differs is written."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pandas as pd
import psycopg

from include.sync_health.frames import require_columns
from include.sync_health.sync_hours import HOUR_KEY, NULLABLE, SYNC_HOUR_COLUMNS
from include.warehouse.monitoring_session import storage_errors
from include.warehouse.stored_values import aware
from include.warehouse.whole_counts import rows_with_counts

_VALUES = SYNC_HOUR_COLUMNS[len(HOUR_KEY) :]
_KEY, _COLUMNS = ", ".join(HOUR_KEY), ", ".join(SYNC_HOUR_COLUMNS)

_REPLACE = f"""
    WITH given AS (
        SELECT {_COLUMNS} FROM jsonb_populate_recordset(NULL::monitoring.sync_hour, %(rows)s)
    ), gone AS (
        DELETE FROM monitoring.sync_hour AS old
        WHERE old.hour BETWEEN %(first)s AND %(last)s
          AND NOT EXISTS (
              SELECT FROM given
              WHERE (given.hour, given.environment, given.data_type) = (old.hour, old.environment, old.data_type)
          )
        RETURNING 1
    ), written AS (
        INSERT INTO monitoring.sync_hour AS old ({_COLUMNS}, computed_at)
        SELECT {_COLUMNS}, %(now)s FROM given
        ON CONFLICT ({_KEY}) DO UPDATE
        SET {", ".join(f"{name} = excluded.{name}" for name in _VALUES)}, computed_at = excluded.computed_at
        WHERE ({", ".join(f"old.{name}" for name in _VALUES)})
              IS DISTINCT FROM ({", ".join(f"excluded.{name}" for name in _VALUES)})
        RETURNING 1
    )
    SELECT (SELECT count(*) FROM gone) + (SELECT count(*) FROM written)
"""  # noqa: S608 -- only constants of this module


@storage_errors()
def replace_sync_hours(
    conn: psycopg.Connection[Any], hours: pd.DataFrame, *, first: datetime, last: datetime, now: datetime
) -> int:
    """
    Put hours in the place of what is stored of them; return how many rows were written or deleted.

    Args:
        conn: in a transaction; nothing is committed.
        hours: `SYNC_HOUR_COLUMNS`, of these hours alone; what it lacks had no sync.
        first, last: the hours, by their beginning, both included; aware. Nothing is done where ``first`` is later.
        now: the wall clock; aware.

    Raises:
        FrameError: a column is missing.
        ValueError: a naive datetime.
        StorageError: the schema is missing or the database unreachable.
    """
    require_columns(hours, SYNC_HOUR_COLUMNS, name="hours")
    if first > last:
        return 0
    rows = rows_with_counts(hours[list(SYNC_HOUR_COLUMNS)], counts=NULLABLE)
    values = {"rows": rows, "first": aware(first), "last": aware(last), "now": aware(now)}
    row = conn.execute(_REPLACE.encode(), values).fetchone()
    return int(row[0]) if row else 0

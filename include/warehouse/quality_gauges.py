"""The records of the last day's syncs in ``monitoring.quality_gauge``, as the quality check read them last."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pandas as pd
import psycopg

from include.sync_health.frames import require_columns
from include.sync_health.sync_metrics import QUALITY_COLUMNS, QUALITY_COUNTS
from include.warehouse.metric_emissions import claim_window, lock_metrics
from include.warehouse.monitoring_session import storage_errors
from include.warehouse.stored_values import aware
from include.warehouse.whole_counts import rows_with_counts

MEASURE_QUALITY = "measure_quality"
"""The task of ``metric_emission`` that tells the quality of data."""

_COLUMNS = ", ".join(QUALITY_COLUMNS)

_REPLACE = f"""
    WITH given AS (
        SELECT {_COLUMNS} FROM jsonb_populate_recordset(NULL::monitoring.quality_gauge, %(rows)s)
    ), written AS (
        INSERT INTO monitoring.quality_gauge ({_COLUMNS}, as_of)
        SELECT {_COLUMNS}, %(as_of)s FROM given
        ON CONFLICT (credential_id, environment, company_id, data_type) DO UPDATE
        SET total = excluded.total, valid = excluded.valid, invalid = excluded.invalid, as_of = excluded.as_of
    )
    DELETE FROM monitoring.quality_gauge AS old
    WHERE NOT EXISTS (
        SELECT FROM given
        WHERE (given.credential_id, given.environment, given.company_id, given.data_type)
              = (old.credential_id, old.environment, old.company_id, old.data_type)
    )
    RETURNING {_COLUMNS}
"""  # noqa: S608 -- only constants of this module

_FORGET = """
    UPDATE monitoring.quality_gauge SET total = NULL, valid = NULL, invalid = NULL, as_of = %(as_of)s
    WHERE as_of < %(as_of)s
"""


@storage_errors()
def replace_quality_gauges(
    conn: psycopg.Connection[Any], totals: pd.DataFrame, *, as_of: datetime, now: datetime
) -> pd.DataFrame | None:
    """
    Claim the window and store its records; return those that are gone, or None where the window, or a newer one, was
    claimed: then nothing is done.

    Args:
        conn: in a transaction; nothing is committed.
        totals: `QUALITY_COLUMNS`: all of them.
        as_of: the end of the window; aware.
        now: the wall clock; aware.

    Returns:
        `QUALITY_COLUMNS` of what was stored before and is not in ``totals``, as it was.

    Raises:
        FrameError: a column is missing.
        ValueError: a naive datetime.
        StorageError: the schema is missing or the database unreachable, or the lock was held for too long.
    """
    require_columns(totals, QUALITY_COLUMNS, name="totals")
    if not claim_window(conn, task=MEASURE_QUALITY, window_to=as_of, now=now):
        return None
    rows = rows_with_counts(totals[list(QUALITY_COLUMNS)], counts=QUALITY_COUNTS)
    gone = conn.execute(_REPLACE.encode(), {"rows": rows, "as_of": aware(as_of)}).fetchall()
    return pd.DataFrame(gone, columns=list(QUALITY_COLUMNS)).astype(
        {name: "float64" if name in QUALITY_COUNTS else object for name in QUALITY_COLUMNS}
    )


@storage_errors()
def forget_quality_gauges(conn: psycopg.Connection[Any], *, as_of: datetime) -> int:
    """
    Make the records unknown, whose keys stay; return of how many: what was read a while ago is not that of the last day.

    For a window whose counts cannot be read. It claims nothing, so that a retry may still tell it; what a newer window has
    told stays.

    Args:
        conn: in a transaction; nothing is committed.
        as_of: the end of the window; aware.

    Raises:
        ValueError: a naive datetime.
        StorageError: the schema is missing or the database unreachable, or the lock was held for too long.
    """
    lock_metrics(conn)
    return conn.execute(_FORGET, {"as_of": aware(as_of)}).rowcount

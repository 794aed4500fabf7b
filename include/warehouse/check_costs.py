"""What the last run of each check cost the source, from ``monitoring.check_run``."""

from __future__ import annotations

from typing import Any

import pandas as pd
import psycopg

from include.sync_health.sync_metrics import COST_COLUMNS
from include.warehouse.monitoring_session import storage_errors

_COSTS = """
    SELECT DISTINCT ON (check_name) check_name, rows_read, source_ms FROM monitoring.check_run
    WHERE mode = 'live' AND filters = '{}'
    ORDER BY check_name, window_to DESC, computed_at DESC
"""


@storage_errors()
def check_costs(conn: psycopg.Connection[Any]) -> pd.DataFrame:
    """
    Return `COST_COLUMNS`: of each check its newest live run without filters, whether it could see or not.

    Raises:
        StorageError: the schema is missing or the database unreachable.
    """
    rows = conn.execute(_COSTS).fetchall()
    checks, read, milliseconds = zip(*rows, strict=True) if rows else ((), (), ())
    columns = (
        pd.Series(checks, dtype=object),
        pd.Series(read, dtype="int64"),
        pd.Series(milliseconds, dtype="float64"),
    )
    return pd.DataFrame(dict(zip(COST_COLUMNS, columns, strict=True)))

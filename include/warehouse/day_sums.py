"""
The stored days of many credentials as few rows: what `include.sync_health.quality_rollups.roll_up` needs of them, summed.

Ten thousand credentials have millions of rows in a year. Summed in the database, they are a few rows for each day, and
rolled up they say exactly what the rows themselves would.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import date
from typing import Any

import numpy as np
import pandas as pd
import psycopg
from psycopg import sql

from include.sync_health.daily_quality import DAILY_COLUMNS
from include.sync_health.quality_rollups import Period, roll_up
from include.warehouse.figures import conditions, require_days
from include.warehouse.monitoring_session import storage_errors

_SUMMED = tuple(
    name
    for name in DAILY_COLUMNS
    if name.startswith(("syncs_", "failed_", "records_", "missing_")) or name == "inconsistent"
)
_TEXTS = ("company_id", "company_name", "environment")

# What roll_up treats apart must be apart: days with a score, and rows of the first definition, which lack some counts. A
# score that is known is 100 here: roll_up asks whether there is one, and computes it from the records.
_SUMS = sql.SQL(
    """
    SELECT day, data_type, quality_score IS NOT NULL, bool_and(is_final), min(calc_version),
           sum(duration_avg_seconds * syncs_timed) / nullif(sum(syncs_timed), 0), max(duration_p95_seconds), {sums}
    FROM monitoring.quality_daily
    WHERE day BETWEEN %(first)s AND %(last)s {asked}
    GROUP BY day, data_type, quality_score IS NOT NULL, syncs_timed IS NULL
    """
)

_NAMES = """
    SELECT DISTINCT ON (credential_id) credential_id, company_name FROM monitoring.quality_daily
    WHERE day BETWEEN %(first)s AND %(last)s
      AND (%(credentials)s::text[] IS NULL OR credential_id = ANY (%(credentials)s))
      AND (%(types)s::text[] IS NULL OR data_type = ANY (%(types)s))
    ORDER BY credential_id, company_name IS NULL, day DESC
"""


@storage_errors()
def read_day_sums(
    conn: psycopg.Connection[Any],
    *,
    first: date,
    last: date,
    environment: str | None = None,
    credential_id: str | None = None,
    data_type: str | None = None,
) -> pd.DataFrame:
    """
    Return some days of all credentials together, as rows that `roll_up` takes for those of one.

    The cost follows the rows of the days, or of the credential; one statement.

    Args:
        conn: any session; nothing is written or committed.
        first, last: days of the reporting time zone, both included.
        environment, credential_id, data_type: of this one only; None for all. An environment is the one of the day's end.

    Returns:
        `DAILY_COLUMNS`, at most four rows for each day and data type. Counts, durations, and ``is_final`` are exact;
        ``quality_score`` says whether there is one, and other ratios and texts say nothing: roll up with ``by`` empty, or
        ``data_type``, and leave its columns ``days...`` alone.

    Raises:
        RequestError: ``last`` is before ``first``.
        StorageError: the schema is missing or older than this code, or the database unreachable.
    """
    require_days(first, last)
    asked, parameters = conditions({"environment": environment, "credential_id": credential_id, "data_type": data_type})
    sums = sql.SQL(", ").join(sql.SQL("sum({})::bigint").format(sql.Identifier(name)) for name in _SUMMED)
    rows = conn.execute(_SUMS.format(sums=sums, asked=asked), {"first": first, "last": last, **parameters}).fetchall()
    columns = ("day", "data_type", "is_scored", "is_final", "calc_version", "average", "p95", *_SUMMED)
    # As objects, or pandas would make its own of None and of dates.
    found = pd.DataFrame(rows, columns=list(columns), dtype=object)
    score = np.where(found["is_scored"].to_numpy(bool), 100.0, np.nan)
    return pd.DataFrame(
        {
            **dict.fromkeys(DAILY_COLUMNS, np.nan),
            "day": found["day"],
            "credential_id": pd.Series([""] * len(found), dtype=object),
            "data_type": found["data_type"],
            **{name: pd.Series([""] * len(found), dtype=object) for name in _TEXTS},
            **{name: found[name].astype(np.float64) for name in _SUMMED},
            **dict.fromkeys(("quality_score", "score_low", "score_high"), score),
            "duration_avg_seconds": found["average"].astype(np.float64),
            "duration_p95_seconds": found["p95"].astype(np.float64),
            "is_final": found["is_final"].astype(bool),
            "calc_version": found["calc_version"].astype(np.int64),
        },
        index=found.index,
        columns=list(DAILY_COLUMNS),
    )


@storage_errors()
def read_credential_names(
    conn: psycopg.Connection[Any],
    *,
    first: date,
    last: date,
    credential_ids: Collection[str] | None = None,
    data_types: Collection[str] | None = None,
) -> dict[str, str | None]:
    """
    Return the credentials that have a row in some days, each with the name that its company had last; one statement.

    Args:
        conn: any session; nothing is written or committed.
        first, last: days of the reporting time zone, both included.
        credential_ids, data_types: of these only; None for all.

    Raises:
        StorageError: the schema is missing or older than this code, or the database unreachable.
    """
    asked = {
        "credentials": None if credential_ids is None else sorted(credential_ids),
        "types": None if data_types is None else sorted(data_types),
    }
    return dict(conn.execute(_NAMES, {"first": first, "last": last, **asked}).fetchall())


def summed_up(sums: pd.DataFrame) -> dict[str, Any]:
    """
    Return what `roll_up` says of all days of `read_day_sums` together: `SUMMED_COLUMNS` and `RATIO_COLUMNS` by name.

    Empty where there is no row; what is unknown is None.
    """
    if sums.empty:
        return {}
    last = max(sums["day"])
    (row,) = roll_up(sums.assign(day=pd.Series([last] * len(sums), dtype=object)), period=Period.DAY, by=()).to_dict(
        "records"
    )
    return {str(name): None if isinstance(value, float) and np.isnan(value) else value for name, value in row.items()}

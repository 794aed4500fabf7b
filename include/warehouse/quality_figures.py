"""
The figures of data quality: how many records failed, how complete they were, which fields failed, and the trend.

They are of ``monitoring.quality_daily`` and ``field_quality_daily``, by days of the reporting time zone. Ratios are of sums, as
`include.sync_health.quality_rollups` defines them: never a mean of days or of credentials.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import numpy as np
import pandas as pd
import psycopg
from psycopg import sql

from include.sync_health.quality_rollups import TRAILING, Period, roll_up
from include.warehouse.day_sums import read_day_sums, summed_up
from include.warehouse.figures import conditions, percent, require_days
from include.warehouse.monitoring_session import storage_errors
from include.warehouse.quality_history import computed_days
from include.warehouse.unknown_records import judged_syncs, why_unavailable

TREND_COLUMNS = (
    "first_day",  # datetime.date: of the whole period, which the range may cut
    "last_day",  # datetime.date
    "records_processed",  # int64
    "records_scored",  # int64: of days, credentials and data types whose counts do not contradict themselves
    "failure_rate",  # float64, percent: of the records scored, those that did not succeed; NaN: there is none
    "quality_score",  # float64, percent: 100 less the failure rate
    "score_low",  # float64, percent: with score_high Wilson's 95 % interval
    "score_high",
    "completeness",  # float64, percent: of the required fields, those that were there; NaN: no detail tells
    "coverage",  # float64, percent: syncs whose detail tells it, of the completed and failed ones
    "is_final",  # bool: all days are
)
"""One row per period in which a sync ended."""

FIELD_COLUMNS = (
    "data_type",  # str
    "field",  # str: as ServiceTitan names it
    "is_required",  # bool: every record of the data type must have it
    "days",  # int64: on which it failed
    "syncs",  # int64: in which it failed
    "failures",  # int64: records in which it failed; a sync that names it without a number counts as one
    "missing",  # int64: of the failures, those in which it was empty or absent
    "failure_rate",  # float64, percent of the records whose details were told, in which it failed; NaN: no detail tells
)
"""One row per data type and field that failed, the most failures first, then by data type and field."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityTotals:
    """
    The data quality of some days.

    Args:
        records_processed, records_failed: of completed and failed syncs, as they were counted. Of failed ones None where the
            source does not count them.
        records_scored, successful_scored: of those whose counts do not contradict themselves: what the rates are of.
        inconsistent: syncs whose counts do contradict themselves.
        score_low, score_high: Wilson's 95 % interval of the score, percent; None without a score.
        completeness: percent of the required fields that were there, of the records with detail; None: no detail tells.
        syncs_with_detail: whose details tell which fields were absent.
        coverage: percent of the completed and failed syncs that have such detail; None: none ended.
        unavailable: None, or the sentence that says of how many syncs the failed records are unknown, and why.
    """

    records_processed: int = 0
    records_failed: int | None = 0
    records_scored: int = 0
    successful_scored: int = 0
    inconsistent: int = 0
    score_low: float | None = None
    score_high: float | None = None
    completeness: float | None = None
    syncs_with_detail: int = 0
    coverage: float | None = None
    unavailable: str | None = None

    @property
    def failure_rate(self) -> float | None:
        """Percent of the records scored that failed validation; None: no record is scored."""
        return percent(self.records_scored - self.successful_scored, self.records_scored)

    @property
    def quality_score(self) -> float | None:
        """Percent of the records scored that succeeded; None: no record is scored."""
        return percent(self.successful_scored, self.records_scored)


# The share of a day says how many failures were told by syncs with detail: whole records, so rounding gives them back.
_FIELDS = sql.SQL(
    """
    WITH days AS (
        SELECT day, credential_id, data_type, records_with_detail FROM monitoring.quality_daily
        WHERE day BETWEEN %(first)s AND %(last)s {asked}
    ), detail AS (
        SELECT data_type, sum(records_with_detail)::bigint AS records FROM days GROUP BY data_type
    ), failed AS (
        SELECT field.data_type, field.field, bool_or(field.is_required) AS is_required, count(DISTINCT day) AS days,
               sum(field.syncs)::bigint AS syncs, sum(field.failures)::bigint AS failures,
               sum(field.missing)::bigint AS missing,
               sum(round((field.share * days.records_with_detail / 100)::numeric))::bigint AS told
        FROM days JOIN monitoring.field_quality_daily AS field USING (day, credential_id, data_type)
        WHERE field.day BETWEEN %(first)s AND %(last)s
        GROUP BY field.data_type, field.field
    )
    SELECT data_type, field, is_required, days, syncs, failures, missing,
           100 * coalesce(told, 0)::float8 / nullif(detail.records, 0)
    FROM failed JOIN detail USING (data_type)
    ORDER BY failures DESC, data_type COLLATE "C", field COLLATE "C" LIMIT %(limit)s
    """
)


@storage_errors()
def quality_of_days(
    conn: psycopg.Connection[Any],
    *,
    first: date,
    last: date,
    environment: str | None = None,
    credential_id: str | None = None,
    data_type: str | None = None,
) -> QualityTotals:
    """
    Return the data quality of some days together; one statement, and more where nothing succeeded or failed on a day.

    Args:
        conn: any session; nothing is written or committed.
        first, last: days of the reporting time zone, both included.
        environment, credential_id, data_type: of this one only; None for all.

    Raises:
        RequestError: the range is none.
        StorageError: the schema is missing or older than this code, or the database unreachable.
    """
    sums = read_day_sums(
        conn, first=first, last=last, environment=environment, credential_id=credential_id, data_type=data_type
    )
    row = summed_up(sums)
    if not row:
        return QualityTotals()
    counts = ("records_processed", "records_scored", "successful_scored", "inconsistent")
    ratios = ("score_low", "score_high", "completeness", "coverage")
    ended, judged = map(int, judged_syncs(conn, sums)[["ended", "judged"]].sum())
    return QualityTotals(
        **{name: int(row[name]) for name in counts},
        records_failed=int(row["records_failed"]) if judged == ended else None,
        unavailable=why_unavailable(conn, ended=ended, counted=ended, judged=judged, of_days=True),
        **{name: row[name] for name in ratios},
        syncs_with_detail=int(row["syncs_with_detail"] or 0),
    )


@storage_errors()
def quality_trend(
    conn: psycopg.Connection[Any],
    *,
    first: date,
    last: date,
    period: Period = Period.DAY,
    environment: str | None = None,
    credential_id: str | None = None,
    data_type: str | None = None,
) -> pd.DataFrame:
    """
    Return the data quality of each period: `TREND_COLUMNS`, by last day.

    Weeks are told whole, also where the range cuts one. Of 28 days there is one row for each computed day of the range
    that it ends with. Else as `quality_of_days`; at most two statements.

    Args:
        period: days, weeks, or the 28 days up to each.

    Raises:
        RequestError: the range is none.
        StorageError: the schema is missing or older than this code, or the database unreachable.
    """
    require_days(first, last)
    ends = None
    since, until = first, last
    if period is Period.WEEK:
        since, until = first - timedelta(days=first.weekday()), last + timedelta(days=6 - last.weekday())
    if period is Period.DAYS_28:
        since = first - TRAILING
        ends = list(computed_days(conn, first=first, last=last)["day"])
    sums = read_day_sums(
        conn, first=since, last=until, environment=environment, credential_id=credential_id, data_type=data_type
    )
    rolled = roll_up(sums, period=period, by=(), ends=ends)
    scored = rolled["records_scored"].to_numpy(np.float64)
    lost = scored - rolled["successful_scored"].to_numpy(np.float64)
    rate = np.where(scored > 0, 100 * lost / np.where(scored > 0, scored, 1), np.nan)
    return rolled.assign(failure_rate=rate)[list(TREND_COLUMNS)]


@storage_errors()
def quality_by_field(
    conn: psycopg.Connection[Any],
    *,
    first: date,
    last: date,
    environment: str | None = None,
    credential_id: str | None = None,
    data_type: str | None = None,
    most: int = 100,
) -> pd.DataFrame:
    """
    Return the fields that failed in some days: `FIELD_COLUMNS`.

    The rate is of the records of all syncs with detail of the data type, also of those in which the field did not fail.
    Else as `quality_of_days`; one statement.

    Args:
        most: so many rows, those with the most failures.

    Raises:
        RequestError: the range is none.
        StorageError: the schema is missing or older than this code, or the database unreachable.
    """
    require_days(first, last)
    asked, parameters = conditions({"environment": environment, "credential_id": credential_id, "data_type": data_type})
    rows = conn.execute(
        _FIELDS.format(asked=asked), {"first": first, "last": last, "limit": most, **parameters}
    ).fetchall()
    found = pd.DataFrame(rows, columns=list(FIELD_COLUMNS), dtype=object)
    return found.astype(
        {
            "is_required": bool,
            **dict.fromkeys(("days", "syncs", "failures", "missing"), np.int64),
            "failure_rate": np.float64,
        }
    )

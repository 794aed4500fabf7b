"""
The figures of syncs: how many per hour and day, how they ended and why they failed, how long they took.

By hour they come from ``monitoring.sync_hour``, which knows environments and data types, and no credentials; by day from
``monitoring.quality_daily``, which knows credentials too.

Two definitions of success stand side by side, because upstream has both: loose is completed, strict is completed with no
failed record. Both are percent of the completed and failed syncs; one that a user cancelled is neither.

Where the source's record counts could not be read, a number that rests on them is unknown, and so is every sum with a part that
is. Ratios are of the part that is known, and its coverage stands beside them.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
import psycopg
from numpy.typing import NDArray
from psycopg import sql

from include.sync_health.daily_quality import ERROR_CLASSES
from include.sync_health.quality_rollups import Period, roll_up
from include.sync_health.record_counts import OUTCOMES, RECORDS
from include.warehouse.day_sums import read_day_sums, summed_up
from include.warehouse.figures import conditions, require_days, require_hours
from include.warehouse.monitoring_session import storage_errors
from include.warehouse.quality_history import computed_days
from include.warehouse.sync_totals import KnownPart, SyncTotals
from include.warehouse.unknown_records import judged_syncs, why_unavailable

_RATES = (
    "success_rate",  # float64, percent, loose: completed of completed and failed; NaN: none ended
    "strict_success_rate",  # float64, percent: completed with no failed record, of those of which it is known
    "duration_avg_seconds",  # float64: of the syncs whose duration is known; NaN: of none
    "records_per_sync",  # float64: records processed by each completed or failed sync, of those of which it is known
    "records_coverage",  # float64, percent: completed and failed syncs whose processed records are known; NaN: none ended
    "outcome_coverage",  # float64, percent: those of which is known whether records failed
)

HOUR_COLUMNS = (
    "hour",  # datetime64[us, UTC]: its beginning
    "started",  # int64: syncs that started in it
    "completed",  # int64: syncs that ended in it, whenever they started; likewise what follows
    "clean",  # float64, whole: completed with no failed record; NaN: unknown of one of them
    "partial",  # float64, whole: completed with a failed record; likewise
    "failed",  # int64: not cancelled
    "cancelled",  # int64
    "records_processed",  # float64, whole: of completed and failed syncs; NaN: unknown of one of them
    "records_successful",  # float64, whole; likewise
    "records_failed",  # float64, whole; likewise
    *_RATES,
)
"""One row per UTC hour that has a row in ``sync_hour``."""

DAY_COLUMNS = (
    "day",  # datetime.date: of the reporting time zone
    "total",  # int64: completed, failed, cancelled, open, and those of a status that nobody knows
    "completed",  # int64: syncs of that day: of their end, an open one's of its start
    "clean",  # float64, whole; NaN: unknown, see `include.warehouse.unknown_records`
    "partial",  # float64, whole; likewise
    "failed",
    "cancelled",
    "open",  # int64: pending or running when the day was computed last
    "records_processed",  # int64
    "records_successful",  # float64, whole; likewise
    "records_failed",  # float64, whole; likewise
    *_RATES,
    "is_final",  # bool: late data is in
)
"""One row per day that was computed; a day without a sync has zeros."""


_ALL = "coalesce(sum({0}), 0)::bigint"
_WHOLE = "CASE WHEN count(*) = count({0}) THEN coalesce(sum({0}), 0)::bigint END"
_ENDED_WITH = "coalesce(sum(syncs_completed + syncs_failed) FILTER (WHERE {0} IS NOT NULL), 0)::bigint"
_SUM_OF = {
    "started": _ALL.format("syncs_started"),
    "completed": _ALL.format("syncs_completed"),
    "clean": _WHOLE.format("syncs_clean"),
    "partial": _WHOLE.format("syncs_partial"),
    "failed": _ALL.format("syncs_failed"),
    "cancelled": _ALL.format("syncs_cancelled"),
    **{name: _WHOLE.format(name) for name in RECORDS},
    "timed": _ALL.format("syncs_timed"),
    "duration_seconds": "coalesce(sum(duration_seconds_sum), 0)::float8",
    "counted": _ENDED_WITH.format("records_processed"),
    "counted_records": _ALL.format("records_processed"),
    "judged": _ENDED_WITH.format("syncs_clean"),
    "judged_clean": _ALL.format("syncs_clean"),
}
"""What each sum is in SQL; of what may be unknown, NULL where one of its parts is."""
_SUM_NAMES = tuple(_SUM_OF)
_MAYBE_UNKNOWN = ("clean", "partial", *RECORDS)

_SUMS = sql.SQL(", ".join(_SUM_OF.values()))  # only constants of this module

_BY_HOUR = sql.SQL("SELECT hour, {sums} FROM {hours} GROUP BY hour ORDER BY hour")
_OF_HOURS = sql.SQL("SELECT {sums} FROM {hours}")
_CLASSES = sql.SQL(
    """
    SELECT each.class, sum(each.number::bigint)::bigint
    FROM {hours}, jsonb_each_text(failed_by_class) AS each (class, number) GROUP BY each.class
    """
)
_HOURS = sql.SQL(
    "(SELECT * FROM monitoring.sync_hour WHERE hour >= %(start)s AND hour < %(end)s {asked}) AS within_range"
)


@storage_errors()
def syncs_by_hour(
    conn: psycopg.Connection[Any],
    *,
    start: datetime,
    end: datetime,
    environment: str | None = None,
    data_type: str | None = None,
) -> pd.DataFrame:
    """
    Return the syncs of each hour that begins in [start, end): `HOUR_COLUMNS`, oldest first.

    An hour without a row had no sync, or was never counted: it is left out, and no 0. One statement over the primary key;
    the cost follows the range.

    Args:
        conn: any session; nothing is written or committed.
        start, end: aware.
        environment, data_type: of this one only; None for all.

    Raises:
        RequestError: an instant is naive, or the range is none.
        StorageError: the schema is missing or older than this code, or the database unreachable.
    """
    require_hours(start, end)
    hours, parameters = _hours(start, end, environment=environment, data_type=data_type)
    rows = conn.execute(_BY_HOUR.format(sums=_SUMS, hours=hours), parameters).fetchall()
    found = pd.DataFrame(rows, columns=["hour", *_SUM_NAMES], dtype=object)
    number = {name: found[name].to_numpy(np.float64) for name in _SUM_NAMES}
    finished = number["completed"] + number["failed"]
    counts = [name for name in HOUR_COLUMNS if name in number]
    return pd.DataFrame(
        {
            "hour": pd.to_datetime(found["hour"], utc=True).astype("datetime64[us, UTC]"),
            **{name: number[name] if name in _MAYBE_UNKNOWN else number[name].astype(np.int64) for name in counts},
            "success_rate": _ratios(100 * number["completed"], finished),
            "strict_success_rate": _ratios(100 * number["judged_clean"], number["judged"]),
            "duration_avg_seconds": _ratios(number["duration_seconds"], number["timed"]),
            "records_per_sync": _ratios(number["counted_records"], number["counted"]),
            "records_coverage": _ratios(100 * number["counted"], finished),
            "outcome_coverage": _ratios(100 * number["judged"], finished),
        },
        columns=list(HOUR_COLUMNS),
    )


@storage_errors()
def syncs_of_hours(
    conn: psycopg.Connection[Any],
    *,
    start: datetime,
    end: datetime,
    environment: str | None = None,
    data_type: str | None = None,
) -> SyncTotals:
    """
    Return the syncs of all hours that begin in [start, end) together; else as `syncs_by_hour`.

    Two statements, and a third where records are unknown.

    Raises:
        RequestError: an instant is naive, or the range is none.
        StorageError: the schema is missing or older than this code, or the database unreachable.
    """
    require_hours(start, end)
    hours, parameters = _hours(start, end, environment=environment, data_type=data_type)
    row = conn.execute(_OF_HOURS.format(sums=_SUMS, hours=hours), parameters).fetchone()
    sums = dict(zip(_SUM_NAMES, row or (0,) * len(_SUM_NAMES), strict=True))
    by_class = dict(conn.execute(_CLASSES.format(hours=hours), parameters).fetchall())
    known = KnownPart(
        counted=sums.pop("counted"),
        records_processed=sums.pop("counted_records"),
        judged=sums.pop("judged"),
        clean=sums.pop("judged_clean"),
    )
    return SyncTotals(
        total=sums.pop("started"),
        **sums,
        failed_by_class=_frequent_first(by_class),
        failed_unclassified=max(sums["failed"] - sum(by_class.values()), 0),
        known=known,
        unavailable=why_unavailable(
            conn, ended=sums["completed"] + sums["failed"], counted=known.counted, judged=known.judged
        ),
    )


@storage_errors()
def syncs_by_day(
    conn: psycopg.Connection[Any],
    *,
    first: date,
    last: date,
    environment: str | None = None,
    credential_id: str | None = None,
    data_type: str | None = None,
) -> pd.DataFrame:
    """
    Return the syncs of each day that was computed: `DAY_COLUMNS`, oldest first.

    A day that was never computed is left out: none is where the record counts may not be read. Two statements, one of them
    over the small ledger, and a third where nothing succeeded or failed on a day.

    Args:
        conn: any session; nothing is written or committed.
        first, last: days of the reporting time zone, both included.
        environment, credential_id, data_type: of this one only; None for all.

    Raises:
        RequestError: the range is none.
        StorageError: the schema is missing or older than this code, or the database unreachable.
    """
    require_days(first, last)
    sums = read_day_sums(
        conn, first=first, last=last, environment=environment, credential_id=credential_id, data_type=data_type
    )
    ledger = computed_days(conn, first=first, last=last)
    rolled = roll_up(sums, period=Period.DAY, by=()).set_index("last_day")
    # A day with rows is computed, whatever the ledger says: old rows came without one.
    days = sorted({*ledger["day"], *rolled.index})
    final = {**dict(zip(ledger["day"], ledger["is_final"], strict=True)), **rolled["is_final"].to_dict()}
    rolled = rolled.reindex(days)
    finished = (rolled["syncs_completed"] + rolled["syncs_failed"]).to_numpy(np.float64)
    of_judged = judged_syncs(conn, sums).groupby("day").sum().reindex(days, fill_value=0.0)
    judged = of_judged["judged"].to_numpy(np.float64)
    is_unknown = judged < of_judged["ended"].to_numpy(np.float64)
    names = {
        name: f"syncs_{name}" for name in ("total", "completed", "clean", "partial", "failed", "cancelled", "open")
    }
    names |= {name: name for name in ("records_processed", "records_successful", "records_failed")}
    return pd.DataFrame(
        {
            "day": pd.Series(days, dtype=object),
            **{name: rolled[column].fillna(0).to_numpy(np.int64) for name, column in names.items()},
            **{
                name: np.where(is_unknown, np.nan, rolled[names[name]].fillna(0).to_numpy(np.float64))
                for name in ("clean", "partial", *OUTCOMES)
            },
            **{name: rolled[name].to_numpy(np.float64) for name in ("success_rate", "duration_avg_seconds")},
            "strict_success_rate": _ratios(100 * of_judged["clean"].to_numpy(np.float64), judged),
            "records_per_sync": _ratios(rolled["records_processed"].to_numpy(np.float64), finished),
            "records_coverage": _ratios(100 * finished, finished),
            "outcome_coverage": _ratios(100 * judged, finished),
            "is_final": np.array([bool(final[day]) for day in days], dtype=bool),
        },
        columns=list(DAY_COLUMNS),
    )


@storage_errors()
def syncs_of_days(
    conn: psycopg.Connection[Any],
    *,
    first: date,
    last: date,
    environment: str | None = None,
    credential_id: str | None = None,
    data_type: str | None = None,
) -> SyncTotals:
    """
    Return the syncs of some days together; else as `syncs_by_day`. One statement, and more where nothing succeeded or failed on a day.

    Raises:
        RequestError: the range is none.
        StorageError: the schema is missing or older than this code, or the database unreachable.
    """
    sums = read_day_sums(
        conn, first=first, last=last, environment=environment, credential_id=credential_id, data_type=data_type
    )
    row = summed_up(sums)
    if not row:
        return SyncTotals()
    timed = int(row["syncs_timed"] or 0)
    by_class = {str(each): int(row[f"failed_{each}"] or 0) for each in ERROR_CLASSES}
    count = {
        name: int(row[f"syncs_{name}"]) for name in ("total", "completed", "clean", "partial", "failed", "cancelled")
    }
    count |= {name: int(row[name]) for name in RECORDS}
    of_judged = judged_syncs(conn, sums)[["ended", "judged", "clean"]].sum().astype(int)
    known = KnownPart(
        counted=int(of_judged["ended"]),
        records_processed=count["records_processed"],
        judged=int(of_judged["judged"]),
        clean=int(of_judged["clean"]),
    )
    unknown = () if known.judged == known.counted else ("clean", "partial", *OUTCOMES)
    told: dict[str, Any] = {name: None if name in unknown else number for name, number in count.items()}
    return SyncTotals(
        **told,
        timed=timed,
        duration_seconds=(row["duration_avg_seconds"] or 0.0) * timed,
        failed_by_class=_frequent_first(by_class),
        failed_unclassified=max(count["failed"] - sum(by_class.values()), 0),
        known=known,
        unavailable=why_unavailable(
            conn, ended=known.counted, counted=known.counted, judged=known.judged, of_days=True
        ),
    )


def _hours(
    start: datetime, end: datetime, *, environment: str | None, data_type: str | None
) -> tuple[sql.Composable, dict[str, Any]]:
    asked, parameters = conditions({"environment": environment, "data_type": data_type})
    return _HOURS.format(asked=asked), {"start": start, "end": end, **parameters}


def _frequent_first(by_class: Mapping[str, int]) -> Mapping[str, int]:
    ordered = sorted(by_class.items(), key=lambda each: (-each[1], each[0]))
    return MappingProxyType({name: number for name, number in ordered if number})


def _ratios(part: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    known = whole > 0
    found: NDArray[np.float64] = np.where(known, part / np.where(known, whole, 1), np.nan)
    return found

"""
The figures of syncs: how many per hour and day, how they ended and why they failed, how long they took.

By hour they come from ``monitoring.sync_hour``, which knows environments and data types, and no credentials; by day from
``monitoring.quality_daily``, which knows credentials too.

Two definitions of success stand side by side, because upstream has both: loose is completed, strict is completed with no
failed record. Both are percent of the completed and failed syncs; one that a user cancelled is neither.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
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
from include.warehouse.day_sums import read_day_sums, summed_up
from include.warehouse.figures import conditions, percent, ratio, require_days, require_hours
from include.warehouse.monitoring_session import storage_errors
from include.warehouse.quality_history import computed_days

_RATES = (
    "success_rate",  # float64, percent, loose: completed of completed and failed; NaN: none ended
    "strict_success_rate",  # float64, percent: completed with no failed record, of the same
    "duration_avg_seconds",  # float64: of the syncs whose duration is known; NaN: of none
    "records_per_sync",  # float64: records processed by each completed or failed sync; NaN: none ended
)

HOUR_COLUMNS = (
    "hour",  # datetime64[us, UTC]: its beginning
    "started",  # int64: syncs that started in it
    "completed",  # int64: syncs that ended in it, whenever they started; likewise what follows
    "clean",  # int64: completed with no failed record
    "partial",  # int64: completed with a failed record
    "failed",  # int64: not cancelled
    "cancelled",  # int64
    "records_processed",  # int64: of completed and failed syncs
    "records_successful",  # int64
    "records_failed",  # int64
    *_RATES,
)
"""One row per UTC hour that has a row in ``sync_hour``."""

DAY_COLUMNS = (
    "day",  # datetime.date: of the reporting time zone
    "total",  # int64: completed, failed, cancelled, open, and those of a status that nobody knows
    "completed",  # int64: syncs of that day: of their end, an open one's of its start
    "clean",
    "partial",
    "failed",
    "cancelled",
    "open",  # int64: pending or running when the day was computed last
    "records_processed",
    "records_successful",
    "records_failed",
    *_RATES,
    "is_final",  # bool: late data is in
)
"""One row per day that was computed; a day without a sync has zeros."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncTotals:
    """
    The syncs of a range of time.

    Args:
        total: of hours: that started within; of days: all of the days, open ones too. The others are counted by their end.
        completed, clean, partial, failed, cancelled: how they ended; clean and partial are completed ones.
        timed: completed syncs whose duration is known.
        duration_seconds: of those together.
        records_processed, records_successful, records_failed: of completed and failed syncs.
        failed_by_class: failed syncs by `ErrorClass`, those that have any, the most frequent first.
        failed_unclassified: failed ones whose class nobody recorded: of days computed by the first definition.
    """

    total: int = 0
    completed: int = 0
    clean: int = 0
    partial: int = 0
    failed: int = 0
    cancelled: int = 0
    timed: int = 0
    duration_seconds: float = 0.0
    records_processed: int = 0
    records_successful: int = 0
    records_failed: int = 0
    failed_by_class: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    failed_unclassified: int = 0

    @property
    def finished(self) -> int:
        """Completed and failed ones: what rates are of."""
        return self.completed + self.failed

    @property
    def success_rate(self) -> float | None:
        """Percent that completed, loose; None: none ended."""
        return percent(self.completed, self.finished)

    @property
    def strict_success_rate(self) -> float | None:
        """Percent that completed with no failed record; None: none ended."""
        return percent(self.clean, self.finished)

    @property
    def duration_avg_seconds(self) -> float | None:
        """Mean of the known durations; None: none is known."""
        return ratio(self.duration_seconds, self.timed)

    @property
    def records_per_sync(self) -> float | None:
        """Records processed by each sync that ended; None: none did."""
        return ratio(self.records_processed, self.finished)


_SUMS = sql.SQL(
    """
    coalesce(sum(syncs_started), 0)::bigint AS started,
    coalesce(sum(syncs_completed), 0)::bigint AS completed,
    coalesce(sum(syncs_clean), 0)::bigint AS clean,
    coalesce(sum(syncs_partial), 0)::bigint AS partial,
    coalesce(sum(syncs_failed), 0)::bigint AS failed,
    coalesce(sum(syncs_cancelled), 0)::bigint AS cancelled,
    coalesce(sum(records_processed), 0)::bigint AS records_processed,
    coalesce(sum(records_successful), 0)::bigint AS records_successful,
    coalesce(sum(records_failed), 0)::bigint AS records_failed,
    coalesce(sum(syncs_timed), 0)::bigint AS timed,
    coalesce(sum(duration_seconds_sum), 0)::float8 AS duration_seconds
"""
)
_SUM_NAMES = (
    "started",
    "completed",
    "clean",
    "partial",
    "failed",
    "cancelled",
    "records_processed",
    "records_successful",
    "records_failed",
    "timed",
    "duration_seconds",
)

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
            **{name: found[name].astype(np.int64) for name in counts},
            "success_rate": _ratios(100 * number["completed"], finished),
            "strict_success_rate": _ratios(100 * number["clean"], finished),
            "duration_avg_seconds": _ratios(number["duration_seconds"], number["timed"]),
            "records_per_sync": _ratios(number["records_processed"], finished),
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
    Return the syncs of all hours that begin in [start, end) together; two statements, else as `syncs_by_hour`.

    Raises:
        RequestError: an instant is naive, or the range is none.
        StorageError: the schema is missing or older than this code, or the database unreachable.
    """
    require_hours(start, end)
    hours, parameters = _hours(start, end, environment=environment, data_type=data_type)
    row = conn.execute(_OF_HOURS.format(sums=_SUMS, hours=hours), parameters).fetchone()
    sums = dict(zip(_SUM_NAMES, row or (0,) * len(_SUM_NAMES), strict=True))
    by_class = dict(conn.execute(_CLASSES.format(hours=hours), parameters).fetchall())
    return SyncTotals(
        total=sums.pop("started"),
        **sums,
        failed_by_class=_frequent_first(by_class),
        failed_unclassified=max(sums["failed"] - sum(by_class.values()), 0),
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

    A day that was never computed is left out. Two statements, one of them over the small ledger.

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
    names = {
        name: f"syncs_{name}" for name in ("total", "completed", "clean", "partial", "failed", "cancelled", "open")
    }
    names |= {name: name for name in ("records_processed", "records_successful", "records_failed")}
    return pd.DataFrame(
        {
            "day": pd.Series(days, dtype=object),
            **{name: rolled[column].fillna(0).to_numpy(np.int64) for name, column in names.items()},
            **{
                name: rolled[name].to_numpy(np.float64)
                for name in ("success_rate", "strict_success_rate", "duration_avg_seconds")
            },
            "records_per_sync": _ratios(rolled["records_processed"].to_numpy(np.float64), finished),
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
    Return the syncs of some days together; one statement, else as `syncs_by_day`.

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
    return SyncTotals(
        **{
            name: int(row[f"syncs_{name}"])
            for name in ("total", "completed", "clean", "partial", "failed", "cancelled")
        },
        timed=timed,
        duration_seconds=(row["duration_avg_seconds"] or 0.0) * timed,
        **{name: int(row[name]) for name in ("records_processed", "records_successful", "records_failed")},
        failed_by_class=_frequent_first(by_class),
        failed_unclassified=max(int(row["syncs_failed"]) - sum(by_class.values()), 0),
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

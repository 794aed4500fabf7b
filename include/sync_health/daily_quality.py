"""
The daily aggregates: how many syncs each credential's data type had on a day, how they ended, and how good they were.

A day is a calendar day of the reporting time zone, 23 or 25 hours long where the clocks change.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd

from include.sync_health.frames import (
    COUNT_COLUMNS,
    CREDENTIAL_COLUMNS,
    RUN_COLUMNS,
    id_text,
    require_columns,
)
from include.sync_health.stuck_syncs import OPEN_STATUSES

CALC_VERSION = 1
"""Of the definitions below; a change of what a column means raises it."""

WILSON_Z = 1.959963984540054
"""The 97.5 % quantile of the normal distribution: a two-sided 95 % interval."""

DAILY_KEY = ("day", "credential_id", "data_type")

DAILY_COLUMNS = (
    *DAILY_KEY,  # datetime.date; str; str, one of DATA_TYPES
    "company_id",  # str or None: None when the credential's row is gone
    "company_name",  # str or None
    "environment",  # str: one of ENVIRONMENTS
    "syncs_total",  # int64: completed, failed, cancelled, open, and those of a status that nobody knows
    "syncs_completed",  # int64
    "syncs_clean",  # int64: completed with no failed record
    "syncs_partial",  # int64: completed with a failed record
    "syncs_failed",  # int64: not cancelled
    "syncs_cancelled",  # int64
    "syncs_open",  # int64: pending or running
    "records_processed",  # int64: sum over completed and failed syncs, cancelled ones left out
    "records_successful",  # int64
    "records_failed",  # int64
    "quality_score",  # float64, percent; NaN: nothing was processed, or the counts contradict themselves
    "inconsistent",  # int64: completed and failed syncs that contradict themselves
    "score_low",  # float64, percent; NaN with the score
    "score_high",  # float64, percent; NaN with the score
    "duration_avg_seconds",  # float64; NaN: no completed sync has a known duration
    "duration_p95_seconds",  # float64; NaN with the average
    "is_final",  # bool
    "calc_version",  # int64
)
"""One row per day, credential and data type that had a sync."""

_RECORDS = ("records_processed", "records_successful", "records_failed")
_SUMS = tuple(name for name in DAILY_COLUMNS if name.startswith(("syncs_", "records_")) or name == "inconsistent")


def aggregate_days(
    runs: pd.DataFrame,
    *,
    credentials: pd.DataFrame,
    days: Sequence[date],
    timezone: str,
    as_of: datetime,
    late_data_days: int,
    duration_fallback: bool = True,
) -> pd.DataFrame:
    """
    Return the aggregates of some days.

    A sync belongs to the day of its ``completed_at``; one without (open, failed without an end, or contradicting) to the
    day of its ``started_at``. Sums take a missing count for 0. A completed or failed sync is ``inconsistent`` when its
    counts are negative or do not add up (successful + failed = processed), or when it is completed without
    ``completed_at``; without a count of failed records, a completed sync is clean if its other counts leave none.
    The score is 100 * successful / processed of the sums, and NaN where those do not add up or a count is negative.
    A duration is ``processing_seconds``, else ``completed_at - started_at``; not at 0, negative or unknown. p95 is the
    nearest-rank percentile. ``is_final``: the day ended at least ``late_data_days`` days before the day of ``as_of``.

    Args:
        runs: `RUN_COLUMNS` and `COUNT_COLUMNS`, in any order: all rows that belong to these days; others are ignored.
        credentials: `CREDENTIAL_COLUMNS`, for names.
        days: which days, in any order.
        timezone: the reporting time zone, an IANA name.
        as_of: the instant up to which the source was read; aware.
        late_data_days: for how many days after its end a day may still change.
        duration_fallback: False: only stored durations count.

    Returns:
        `DAILY_COLUMNS`, ordered by `DAILY_KEY` as text; no row for a day without a sync.

    Raises:
        FrameError: a column is missing.
        ValueError: ``as_of`` is naive.
    """
    require_columns(runs, (*RUN_COLUMNS, *COUNT_COLUMNS), name="runs")
    require_columns(credentials, CREDENTIAL_COLUMNS, name="credentials")
    if as_of.tzinfo is None:
        raise ValueError("as_of must be timezone-aware")
    rows = _classified(_of_days(runs, days=days, timezone=timezone), duration_fallback=duration_fallback)
    groups = rows.groupby(list(DAILY_KEY), observed=True, sort=True)
    daily = groups[list(_SUMS)].sum().astype("int64")
    has_negative = groups["has_negative"].any()
    daily["quality_score"], daily["score_low"], daily["score_high"] = _scores(daily, distrusted=has_negative)
    daily = daily.join(_durations(rows))
    daily = daily.reset_index()
    last_final = local_day(as_of, timezone=timezone) - timedelta(days=late_data_days + 1)
    # Days, not instants: a fixed number of hours would be wrong around a change of the clocks.
    daily["is_final"] = daily["day"] <= pd.Timestamp(last_final)
    daily["calc_version"] = CALC_VERSION
    daily["day"] = pd.Series(daily["day"].dt.date, dtype=object)
    daily["data_type"] = daily["data_type"].astype(str).astype(object)
    daily = _named(daily, credentials).sort_values(list(DAILY_KEY), kind="stable", ignore_index=True)
    return daily[list(DAILY_COLUMNS)]


def local_day(at: datetime, *, timezone: str) -> date:
    """Return the calendar day of an aware instant in a zone."""
    return at.astimezone(ZoneInfo(timezone)).date()


def day_bounds(day: date, *, timezone: str) -> tuple[datetime, datetime]:
    """
    Return the instants ``[from, to)`` of a day, in UTC.

    Where the clocks skip midnight, the day begins with the first instant that its calendar has; where midnight comes
    twice, with the first.
    """
    zone = ZoneInfo(timezone)
    return _first_instant(day, zone), _first_instant(day + timedelta(days=1), zone)


def _first_instant(day: date, zone: ZoneInfo) -> datetime:
    # A midnight that the clocks skip is read with the offset before the change, which gives the instant of the change; one
    # that comes twice as the first (fold=0).
    return datetime.combine(day, time(), tzinfo=zone).astimezone(UTC)


def _of_days(runs: pd.DataFrame, *, days: Sequence[date], timezone: str) -> pd.DataFrame:
    belongs = runs["completed_at"].fillna(runs["started_at"])
    local = belongs.dt.tz_convert(timezone).dt.tz_localize(None).dt.floor("D")
    wanted = local.isin(pd.to_datetime(pd.Series(list(days), dtype=object)).astype("datetime64[us]"))
    rows: pd.DataFrame = runs[wanted].copy()
    rows["day"] = local[wanted]
    rows["credential_id"] = id_text(rows["credential_id"]).astype(object)
    return rows


def _classified(rows: pd.DataFrame, *, duration_fallback: bool) -> pd.DataFrame:
    status, is_cancelled = rows["status"], rows["is_cancelled"].astype(bool)
    completed = (status == "completed") & ~is_cancelled
    failed = (status == "failed") & ~is_cancelled
    counted = completed | failed
    counts = rows[list(_RECORDS)].astype("float64").fillna(0.0)
    negative = (counts < 0).any(axis=1)
    off = negative | (counts["records_successful"] + counts["records_failed"] != counts["records_processed"])
    told_failed = rows["records_failed"]
    columns: dict[str, Any] = {
        "syncs_total": 1,
        "syncs_completed": completed,
        "syncs_clean": completed & ((told_failed == 0) | (told_failed.isna() & ~off)),
        "syncs_partial": completed & (told_failed > 0),
        "syncs_failed": failed,
        "syncs_cancelled": is_cancelled,
        "syncs_open": status.isin(OPEN_STATUSES) & ~is_cancelled,
        "inconsistent": (counted & off) | (completed & rows["completed_at"].isna()),
        "has_negative": counted & negative,
        **{name: counts[name].where(counted, 0.0) for name in _RECORDS},
    }
    rows = rows.assign(**columns)
    seconds = rows["processing_seconds"].astype("float64")
    if duration_fallback:
        seconds = seconds.fillna((rows["completed_at"] - rows["started_at"]).dt.total_seconds())
    rows["seconds"] = seconds.where(completed & (seconds > 0))
    return rows


def _scores(daily: pd.DataFrame, *, distrusted: pd.Series) -> tuple[pd.Series, pd.Series, pd.Series]:
    """
    Return score, low and high in percent.

    The interval is Wilson's (E. B. Wilson, "Probable inference, the law of succession, and statistical inference",
    J. Am. Stat. Assoc. 22, 1927, p. 209), without continuity correction. It takes records for independent, which
    those of one sync are not quite: read it as how little a few records say, not as a test.
    """
    processed, successful = daily["records_processed"], daily["records_successful"]
    told = (processed > 0) & (successful + daily["records_failed"] == processed) & ~distrusted
    n = processed.astype("float64").where(told)
    share = successful / n
    shrink = 1 + WILSON_Z**2 / n
    middle = (share + WILSON_Z**2 / (2 * n)) / shrink
    reach = WILSON_Z / shrink * np.sqrt(share * (1 - share) / n + WILSON_Z**2 / (4 * n * n))
    # At 0 and 100 % the bound is exactly the score, but for the last bit.
    low = (100 * (middle - reach)).clip(lower=0, upper=100).where(successful > 0, 0.0).where(told)
    high = (100 * (middle + reach)).clip(lower=0, upper=100).where(successful < processed, 100.0).where(told)
    return 100 * successful / n, low, high


def _durations(rows: pd.DataFrame) -> pd.DataFrame:
    key = list(DAILY_KEY)
    timed = rows[rows["seconds"].notna()].sort_values([*key, "seconds"], kind="stable")
    groups = timed.groupby(key, observed=True, sort=True)["seconds"]
    count, position = groups.transform("size"), groups.cumcount() + 1
    # ceil(0.95 n), in integers: 0.95 has no exact binary form.
    at_rank = timed[position == (95 * count + 99) // 100].set_index(key)["seconds"]
    return pd.DataFrame({"duration_avg_seconds": groups.mean(), "duration_p95_seconds": at_rank})


def _named(daily: pd.DataFrame, credentials: pd.DataFrame) -> pd.DataFrame:
    known = credentials.assign(credential_id=id_text(credentials["credential_id"])).drop_duplicates("credential_id")
    known = known.set_index("credential_id")
    companies = id_text(known["company_id"]).astype(object).where(known["company_id"].notna(), None)
    names = known["company_name"].astype(object).where(known["company_name"].notna(), None)
    for column, values in (("company_id", companies), ("company_name", names)):
        found = daily["credential_id"].map(values.to_dict())
        daily[column] = found.astype(object).where(found.notna(), None)
    environment = daily["credential_id"].map(known["environment"].astype(str).to_dict())
    daily["environment"] = environment.astype(object).where(environment.notna(), "unknown")
    return daily

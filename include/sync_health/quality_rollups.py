"""
Daily aggregates rolled up: to weeks, to the 28 days that end with a day, or to days of several keys together.

Every ratio is of sums, never a mean of ratios: a day of ten records does not weigh what a day of ten thousand does. The views
of `include/warehouse/migrations/versions/0004_quality_views.py` say the same in SQL.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import date, timedelta
from enum import StrEnum

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from include.sync_health.daily_quality import DAILY_COLUMNS
from include.sync_health.errors import RequestError
from include.sync_health.field_quality import REQUIRED_FIELDS
from include.sync_health.frames import require_columns
from include.sync_health.proportions import percent_with_interval

ROLL_UP_KEY = ("credential_id", "data_type")

SYNC_COUNTS = tuple(name for name in DAILY_COLUMNS if name.startswith(("syncs_", "failed_")))
RECORD_COUNTS = tuple(name for name in DAILY_COLUMNS if name.startswith("records_"))

SUMMED_COLUMNS = (
    "days",  # int64: of a key; a day on which two keys have a row counts twice where they are rolled up together
    "days_scored",  # int64: of these, those with a score; one whose counts contradict themselves has none
    "days_final",  # int64: of the days, those that are final
    "days_outdated",  # int64: of the days, those of an older definition, which lack some of the counts below
    *SYNC_COUNTS,  # int64; float64 for those that the first definition lacks: of the days that have it, NaN where none has
    *RECORD_COUNTS,
    "inconsistent",
    "records_scored",  # int64: records_processed of the days with a score
    "successful_scored",  # int64: records_successful of the days with a score
    "missing_required",
    "required_with_detail",  # float64: records_with_detail times the required fields of their data type
)
"""What adds up: of parts that have no day of a key in common, the sums are those of the whole."""

RATIO_COLUMNS = (
    "quality_score",  # float64, percent: successful_scored / records_scored; NaN: no record is scored
    "score_low",  # float64, percent: Wilson's interval of these two sums, not of the days'
    "score_high",
    "duration_avg_seconds",  # float64: the days' averages weighted by syncs_timed
    "duration_p95_max_seconds",  # float64: the highest p95 of a day; percentiles cannot be rolled up
    "completeness",  # float64, percent: 1 - missing_required / required_with_detail; NaN: nothing is required of what has detail
    "coverage",  # float64, percent: syncs_with_detail of the completed and failed syncs, over the days that know it
    "success_rate",  # float64, percent: syncs_completed of the completed and failed syncs
    "strict_success_rate",  # float64, percent: syncs_clean of the completed and failed syncs
)


class Period(StrEnum):
    """What is rolled up to."""

    DAY = "day"
    WEEK = "week"
    """From Monday to Sunday, as ISO 8601 counts them."""
    DAYS_28 = "28 days"
    """A day and the 27 before it: four of every weekday. Each day ends one, so a day of syncs counts in 28 of them."""


TRAILING = timedelta(days=27)
_BASE = date(1970, 1, 5).toordinal()  # a Monday
_OPTIONAL = (
    *(name for name in SYNC_COUNTS if name.startswith("failed_")),
    "syncs_empty",
    "syncs_timed",
    "syncs_with_detail",
    "records_with_detail",
    "missing_required",
)


def roll_up(
    daily: pd.DataFrame,
    *,
    period: Period,
    by: Sequence[str] = ROLL_UP_KEY,
    ends: Collection[date] | None = None,
) -> pd.DataFrame:
    """
    Return one row for each period and group that has a day in it.

    Days without a score are left out of the score alone, and counted. The 95th percentile of durations cannot be had from
    those of days. Days are calendar days: a change of the clocks makes none longer here.

    Args:
        daily: `DAILY_COLUMNS`, in any order; each key at most once a day. What rows of the first definition lack is NaN.
        period: which.
        by: what keeps rows apart, of `ROLL_UP_KEY`; empty for all together.
        ends: only for `Period.DAYS_28`: the days that end a period, such as all of the ledger; None for every day from the
            first to the last that ``daily`` has. The first of them hold fewer days than 28 where ``daily`` does.

    Returns:
        ``first_day`` and ``last_day`` of the whole period (datetime.date), the columns of ``by``, `SUMMED_COLUMNS`,
        `RATIO_COLUMNS`, ``is_final`` (bool: all days are); ordered by last day and ``by``, as text.

    Raises:
        FrameError: a column is missing.
        RequestError: ``by`` names something else, or ``ends`` is given for another period.
    """
    require_columns(daily, DAILY_COLUMNS, name="daily")
    if unknown := sorted(set(by) - set(ROLL_UP_KEY)):
        raise RequestError(f"by: {', '.join(unknown)} cannot keep rows apart; use some of {', '.join(ROLL_UP_KEY)}")
    if ends is not None and period is not Period.DAYS_28:
        raise RequestError(f"ends: they are only for {Period.DAYS_28}, not for {period}")
    parts = _parts(daily, by)
    parts = _in_periods(parts, period=period, ends=ends)
    key = ["last", "first", *by]
    grouped = parts.groupby(key, sort=True, observed=True)
    summed = [name for name in parts if name not in (*key, "ordinal", "p95")]
    # min_count: where no day knows a count, the sum is unknown too, not 0.
    table = grouped[summed].sum(min_count=1)
    table["duration_p95_max_seconds"] = grouped["p95"].max()
    table = table.reset_index()
    return _finished(table, by)


def _parts(daily: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Return what each row adds to its period's sums."""
    number = {name: daily[name].to_numpy(np.float64, na_value=np.nan) for name in (*SYNC_COUNTS, *RECORD_COUNTS)}
    number |= {name: daily[name].to_numpy(np.float64, na_value=np.nan) for name in ("inconsistent", "missing_required")}
    required = daily["data_type"].astype(str).map({name: len(fields) for name, fields in REQUIRED_FIELDS.items()})
    required_count = required.fillna(0).to_numpy(np.float64)
    is_scored = daily["quality_score"].notna().to_numpy(bool)
    average = daily["duration_avg_seconds"].to_numpy(np.float64, na_value=np.nan)
    timed = number["syncs_timed"]
    finished = number["syncs_completed"] + number["syncs_failed"]
    has_detail = ~np.isnan(number["syncs_with_detail"])
    is_required = required_count > 0
    return pd.DataFrame(
        {
            "ordinal": np.array([day.toordinal() for day in daily["day"]], dtype=np.int64),
            **{name: daily[name].astype(str).to_numpy(object) for name in by},
            "days": np.ones(len(daily)),
            "days_scored": is_scored.astype(np.float64),
            "days_final": daily["is_final"].to_numpy(np.float64),
            "days_outdated": np.isnan(timed).astype(np.float64),
            **number,
            "records_scored": np.where(is_scored, number["records_processed"], 0),
            "successful_scored": np.where(is_scored, number["records_successful"], 0),
            "required_with_detail": number["records_with_detail"] * required_count,
            "missing_of_required": np.where(is_required, number["missing_required"], 0),
            "finished_known": np.where(has_detail, finished, np.nan),
            "seconds": np.where(timed > 0, average * timed, np.nan),
            "p95": daily["duration_p95_seconds"].to_numpy(np.float64, na_value=np.nan),
        }
    )


def _in_periods(parts: pd.DataFrame, *, period: Period, ends: Collection[date] | None) -> pd.DataFrame:
    """Return the parts with the first and the last day (ordinals) of their period; one for each period they are in."""
    ordinal = parts["ordinal"].to_numpy(np.int64)
    if period is Period.DAY:
        return parts.assign(first=ordinal, last=ordinal)
    if period is Period.WEEK:
        monday = ordinal - (ordinal - _BASE) % 7
        return parts.assign(first=monday, last=monday + 6)
    if ends is None:
        wanted = np.arange(ordinal.min(), ordinal.max() + 1) if len(ordinal) else np.empty(0, dtype=np.int64)
    else:
        wanted = np.array(sorted({day.toordinal() for day in ends}), dtype=np.int64)
    low = np.searchsorted(wanted, ordinal, side="left")
    count = np.searchsorted(wanted, ordinal + TRAILING.days, side="right") - low
    row = np.repeat(np.arange(len(parts)), count)
    # Of each row, its first period, its second, and so on.
    step = np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)
    last = wanted[np.repeat(low, count) + step]
    return parts.take(row).reset_index(drop=True).assign(first=last - TRAILING.days, last=last)


def _finished(table: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    value = {name: table[name].to_numpy(np.float64) for name in table if name not in by}
    whole = value["records_scored"]
    score, low, high = percent_with_interval(value["successful_scored"], whole)
    ended = value["syncs_completed"] + value["syncs_failed"]
    expected = value["required_with_detail"]
    ratios = {
        "quality_score": score,
        "score_low": low,
        "score_high": high,
        "duration_avg_seconds": _ratio(value["seconds"], value["syncs_timed"]),
        "duration_p95_max_seconds": value["duration_p95_max_seconds"],
        "completeness": _ratio(100 * (expected - value["missing_of_required"]), expected),
        "coverage": _ratio(100 * value["syncs_with_detail"], value["finished_known"]),
        "success_rate": _ratio(100 * value["syncs_completed"], ended),
        "strict_success_rate": _ratio(100 * value["syncs_clean"], ended),
    }
    return pd.DataFrame(
        {
            "first_day": _dates(value["first"]),
            "last_day": _dates(value["last"]),
            **{name: pd.Series(table[name].to_numpy(object), dtype=object) for name in by},
            **{name: value[name] if name in _MAY_LACK else value[name].astype(np.int64) for name in SUMMED_COLUMNS},
            **ratios,
            "is_final": value["days_final"] == value["days"],
        }
    )


_MAY_LACK = frozenset((*_OPTIONAL, "required_with_detail"))


def _ratio(part: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    known = whole > 0
    ratio: NDArray[np.float64] = np.where(known, part / np.where(known, whole, 1), np.nan)
    return ratio


def _dates(ordinals: NDArray[np.float64]) -> pd.Series:
    return pd.Series([date.fromordinal(int(each)) for each in ordinals], dtype=object)

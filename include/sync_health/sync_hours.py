"""Syncs by UTC hour, environment and data type: how many started, how they ended, how long they took."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from include.sync_health.frames import require_columns
from include.sync_health.record_counts import OUTCOMES, RECORDS, tells_outcomes
from include.sync_health.sync_events import STARTED, SYNC_EVENT_COLUMNS

HOUR = timedelta(hours=1)

HOUR_KEY = ("hour", "environment", "data_type")

SYNC_HOUR_COLUMNS = (
    *HOUR_KEY,  # UTC, the beginning of the hour; str; str
    "syncs_started",  # int64: by the hour of their start; the rest is by the hour of their end
    "syncs_completed",  # int64
    "syncs_clean",  # float64, whole: completed with no failed record; NaN: nobody can know (see NULLABLE)
    "syncs_partial",  # float64, whole: completed with a failed record
    "syncs_failed",  # int64: not cancelled
    "syncs_cancelled",  # int64
    "syncs_timed",  # int64: completed, with a known duration
    "duration_seconds_sum",  # float64: of those
    "records_processed",  # float64, whole: sum over completed and failed syncs
    "records_successful",  # float64, whole
    "records_failed",  # float64, whole
    "failed_by_class",  # dict: error class to number of failed syncs
)
"""One row per hour, environment and data type with a start or an end, ordered by the key."""

OUTCOME_COLUMNS = ("syncs_clean", "syncs_partial", *OUTCOMES)
"""What rests on the counts of records that succeeded and failed."""

NULLABLE = ("syncs_clean", "syncs_partial", *RECORDS)
"""Unknown where a completed or failed sync ended and the source's counts could not be read; of no sync they are 0."""


def whole_hours(since: datetime, as_of: datetime) -> tuple[datetime, datetime]:
    """
    Return the first and the last hour, both by their beginning in UTC, that a read of ``(since, as_of]`` has whole.

    The last one is that of ``as_of``, of which it has all that there is yet. An hour that begins with ``since`` itself is
    not whole: what happened in that instant is left out. The first is after the last where no hour is whole.
    """
    return _hour_of(since) + HOUR, _hour_of(as_of)


def sync_hours(
    events: pd.DataFrame, *, since: datetime, as_of: datetime, known: Collection[str] = RECORDS
) -> pd.DataFrame:
    """
    Return the whole hours of a read.

    Definitions are those of the daily aggregates: a completed sync is clean when none of its records failed, or their
    number is unknown and its other counts leave none; sums take a sync's unknown count for 0. A count beyond `COUNT_LIMIT`
    is one that is unknown, which there also keeps a sync from being clean. Where a column as such cannot be read, what rests
    on it is NaN in every row with a completed or failed sync.

    Args:
        events: `SYNC_EVENT_COLUMNS` of ``(since, as_of]``.
        since, as_of: what was read; aware.
        known: those of `RECORDS` that could be read.

    Returns:
        `SYNC_HOUR_COLUMNS`, of the `whole_hours`.

    Raises:
        FrameError: a column is missing.
    """
    require_columns(events, SYNC_EVENT_COLUMNS, name="events")
    first, _ = whole_hours(since, as_of)
    rows = events[events["at"] >= pd.Timestamp(first)]
    status = rows["status"].to_numpy(object)
    completed, failed = status == "completed", status == "failed"
    counted = completed | failed
    counts = {name: np.nan_to_num(rows[name].to_numpy(np.float64), nan=0.0) for name in RECORDS}
    lost = rows["records_failed"].to_numpy(np.float64)
    seconds = rows["seconds"].to_numpy(np.float64)
    timed = completed & ~np.isnan(seconds)
    flags: dict[str, NDArray[Any]] = {
        "syncs_started": status == STARTED,
        "syncs_completed": completed,
        "syncs_clean": completed & ((lost == 0) | (np.isnan(lost) & _leaves_none(rows))),
        "syncs_partial": completed & (lost > 0),
        "syncs_failed": failed,
        "syncs_cancelled": status == "cancelled",
        "syncs_timed": timed,
        # In whole microseconds: their sum does not depend on the order.
        "duration_seconds_sum": np.where(timed, np.rint(np.nan_to_num(seconds) * 1e6), 0.0),
        **{name: np.where(counted, values, 0.0) for name, values in counts.items()},
    }
    key = list(HOUR_KEY)
    keyed = pd.DataFrame(
        {"hour": rows["at"].dt.floor("h"), "environment": rows["environment"], "data_type": rows["data_type"]}
    )
    sums = keyed.assign(**flags).groupby(key, sort=True).sum().reset_index()
    sums["duration_seconds_sum"] = sums["duration_seconds_sum"] / 1e6
    unknown = _unknown(known)
    has_ended = (sums["syncs_completed"] + sums["syncs_failed"]).to_numpy(np.int64) > 0
    for name in SYNC_HOUR_COLUMNS[len(key) : -1]:
        if name in NULLABLE:
            sums[name] = np.where(has_ended & (name in unknown), np.nan, sums[name].to_numpy(np.float64))
        elif name != "duration_seconds_sum":
            sums[name] = sums[name].astype("int64")
    sums["failed_by_class"] = _by_class(keyed.assign(error_class=rows["error_class"]), sums)
    return sums[list(SYNC_HOUR_COLUMNS)]


def _unknown(known: Collection[str]) -> Collection[str]:
    """Return those of `NULLABLE` that nobody can know without the other counts."""
    unread = set(RECORDS) - set(known)
    return unread if tells_outcomes(known) else unread | set(OUTCOME_COLUMNS)


def _leaves_none(rows: pd.DataFrame) -> NDArray[np.bool_]:
    """Return whether all that was processed succeeded, as far as the counts tell."""
    processed, successful = (rows[name].fillna(0).to_numpy(np.float64) for name in RECORDS[:2])
    found: NDArray[np.bool_] = (processed >= 0) & (processed == successful)
    return found


def _by_class(classed: pd.DataFrame, sums: pd.DataFrame) -> pd.Series:
    key = list(HOUR_KEY)
    sizes = classed.dropna(subset=["error_class"]).groupby([*key, "error_class"]).size().reset_index(name="number")
    found: dict[tuple[Any, ...], dict[str, int]] = {}
    for *place, error_class, number in zip(*(sizes[name].tolist() for name in sizes), strict=True):
        found.setdefault(tuple(place), {})[error_class] = number
    keys = zip(*(sums[name].tolist() for name in key), strict=True)
    return pd.Series([found.get(each, {}) for each in keys], index=sums.index, dtype=object)


def _hour_of(at: datetime) -> datetime:
    return at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)

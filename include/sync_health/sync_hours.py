"""Syncs by UTC hour, environment and data type: how many started, how they ended, how long they took."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from include.sync_health.frames import require_columns
from include.sync_health.sync_events import RECORDS, STARTED, SYNC_EVENT_COLUMNS

HOUR = timedelta(hours=1)

HOUR_KEY = ("hour", "environment", "data_type")

SYNC_HOUR_COLUMNS = (
    *HOUR_KEY,  # UTC, the beginning of the hour; str; str
    "syncs_started",  # int64: by the hour of their start; the rest is by the hour of their end
    "syncs_completed",  # int64
    "syncs_clean",  # int64: completed with no failed record
    "syncs_partial",  # int64: completed with a failed record
    "syncs_failed",  # int64: not cancelled
    "syncs_cancelled",  # int64
    "syncs_timed",  # int64: completed, with a known duration
    "duration_seconds_sum",  # float64: of those
    "records_processed",  # int64: sum over completed and failed syncs
    "records_successful",  # int64
    "records_failed",  # int64
    "failed_by_class",  # dict: error class to number of failed syncs
)
"""One row per hour, environment and data type with a start or an end, ordered by the key."""


def whole_hours(since: datetime, as_of: datetime) -> tuple[datetime, datetime]:
    """
    Return the first and the last hour, both by their beginning in UTC, that a read of ``(since, as_of]`` has whole.

    The last one is that of ``as_of``, of which it has all that there is yet. An hour that begins with ``since`` itself is
    not whole: what happened in that instant is left out. The first is after the last where no hour is whole.
    """
    return _hour_of(since) + HOUR, _hour_of(as_of)


def sync_hours(events: pd.DataFrame, *, since: datetime, as_of: datetime) -> pd.DataFrame:
    """
    Return the whole hours of a read.

    Definitions are those of the daily aggregates: a completed sync is clean when none of its records failed, or their
    number is unknown and its other counts leave none; sums take an unknown count for 0. A count beyond `COUNT_LIMIT` is
    one that is unknown, which there also keeps a sync from being clean.

    Args:
        events: `SYNC_EVENT_COLUMNS` of ``(since, as_of]``.
        since, as_of: what was read; aware.

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
    for name in SYNC_HOUR_COLUMNS[len(key) : -1]:
        if name != "duration_seconds_sum":
            sums[name] = sums[name].astype("int64")
    sums["failed_by_class"] = _by_class(keyed.assign(error_class=rows["error_class"]), sums)
    return sums[list(SYNC_HOUR_COLUMNS)]


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

"""
Calls of the ServiceTitan API, summed by hour, credential, endpoint and status: what every source of them comes down to.

Two sources may know of one and the same call (the application's table and its log); sums of different sources are never
added up. A number that no source knows is unavailable, which is not 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from include.sync_health.endpoints import MOST_ENDPOINTS, OTHER, UNKNOWN, most_frequent, templated
from include.sync_health.frames import require_columns
from include.sync_health.response_times import HISTOGRAM_MS, LONGEST_MS, buckets_of

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

CALL_COLUMNS = (
    "at",  # UTC: when the call was made or answered, as its source tells
    "credential_id",  # str; empty or None: not known
    "endpoint",  # str: as the source has it; empty or None: not known
    "status_code",  # number: the HTTP status; 0, NaN or anything that is none: not known
    "response_ms",  # float64: milliseconds; NaN: not timed
)
"""One row per call, or per event of one; `COUNTS` may stand beside them."""

COUNTS = ("requests", "errors", "retries", "rate_limited", "circuit_opened")
"""How many of each a row of `CALL_COLUMNS` stands for, 0 or more; see `collapse` for what holds without them."""

HOUR_KEY = ("hour", "credential_id", "endpoint", "status_code")

HOURLY_COLUMNS = (
    "hour",  # UTC: when it began
    "credential_id",  # str; empty: not known
    "endpoint",  # str: templated, or "other"; empty: not known
    "status_code",  # int64: 0 is not known
    "requests",  # int64
    "errors",  # int64: answered with 400 and above, or not at all
    "retries",  # int64
    "rate_limited",  # int64: incidents in which ServiceTitan refused for the rate
    "circuit_opened",  # int64: times that the application stopped calling for a while
    "response_count",  # int64: calls that are timed
    "response_ms_sum",  # float64: milliseconds
    "response_ms_max",  # float64: NaN without any
    "buckets",  # dict[int, int]: bucket of `response_times` to calls; sums up to response_count
    "histogram",  # list[int]: calls by HISTOGRAM_MS, each bound's own, and above the last; sums up to response_count
)
"""One row per `HOUR_KEY`, in its order."""

STORED_HOUR_COLUMNS = ("source", "environment", "company_id", *HOURLY_COLUMNS)
"""`HOURLY_COLUMNS` as they are stored: which source tells them, and whose they are; ``histogram`` may be empty."""

NO_HISTOGRAM = [0] * (len(HISTOGRAM_MS) + 1)

FIRST_ERROR = 400
"""The lowest HTTP status that is an error."""

RATE_LIMITED = 429
"""The HTTP status of a refusal for the rate (RFC 6585, section 4)."""

APPLICATION_SOURCES = ("table", "log")
"""Where the application's own calls are known from, the better one first; the probe's calls are ours."""


def no_hours() -> pd.DataFrame:
    """Return `HOURLY_COLUMNS` without a row."""
    return _hourly([])


def collapse(calls: pd.DataFrame, *, most_endpoints: int = MOST_ENDPOINTS) -> pd.DataFrame:
    """
    Return `HOURLY_COLUMNS` of single calls.

    A status that is none (100 to 599) counts as 0. Without a column of `COUNTS`: each row is a request; an error from
    status 400 on; an incident of the rate limit at status 429; no retry; no opening.

    Args:
        calls: `CALL_COLUMNS`, in any order; ``at`` may have no zone and is UTC then.
        most_endpoints: the most frequent ones that keep their name; the others are `OTHER`.

    Raises:
        FrameError: a column is missing.
        ValueError: a time is missing, or a response time is negative.
    """
    import pandas as pd

    require_columns(calls, CALL_COLUMNS, name="calls")
    if calls.empty:
        return no_hours()
    if calls["at"].isna().any():
        raise ValueError("a call has no time")
    status = pd.to_numeric(calls["status_code"], errors="coerce").fillna(0).to_numpy(np.float64)
    status = np.where((status >= 100) & (status <= 599), status, 0).astype(np.int64)
    rows = pd.DataFrame(
        {
            "hour": pd.to_datetime(calls["at"], utc=True)
            .to_numpy("datetime64[us]")
            .astype("datetime64[h]")
            .astype("datetime64[us]"),
            "credential_id": _texts(calls["credential_id"]),
            "endpoint": _endpoints(calls["endpoint"], most=most_endpoints),
            "status_code": status,
        }
    )
    assumed = {
        "requests": np.ones(len(calls), dtype=np.int64),
        "errors": (status >= FIRST_ERROR).astype(np.int64),
        "rate_limited": (status == RATE_LIMITED).astype(np.int64),
    }
    for name in COUNTS:
        given = calls[name].to_numpy(np.int64) if name in calls.columns else assumed.get(name, np.int64(0))
        rows[name] = given
    times = calls["response_ms"].to_numpy(np.float64, na_value=np.nan)
    is_timed = ~np.isnan(times)
    times = np.minimum(times, LONGEST_MS)
    rows["response_count"] = is_timed.astype(np.int64)
    rows["response_ms_sum"] = np.where(is_timed, times, 0.0)
    rows["response_ms_max"] = times
    groups = rows.groupby(list(HOUR_KEY), sort=True, observed=True)
    code = groups.ngroup().to_numpy()
    found = groups[[*COUNTS, "response_count", "response_ms_sum"]].sum()
    found["response_ms_max"] = groups["response_ms_max"].max()
    found = found.reset_index()
    bucket = buckets_of(times[is_timed])
    place = np.searchsorted(np.array(HISTOGRAM_MS), times[is_timed], side="left")
    found["buckets"] = _counted(code[is_timed], bucket, groups=len(found))
    found["histogram"] = _histograms(code[is_timed], place, groups=len(found))
    found["hour"] = found["hour"].dt.tz_localize("UTC")
    return found[list(HOURLY_COLUMNS)]


def summed(hours: pd.DataFrame) -> pd.DataFrame:
    """
    Return `HOURLY_COLUMNS` with one row per key, of rows of which several may have one: what two reads found, together.

    Raises:
        FrameError: a column is missing.
    """
    import pandas as pd

    require_columns(hours, HOURLY_COLUMNS, name="hours")
    if not hours.duplicated(list(HOUR_KEY)).any():
        return hours[list(HOURLY_COLUMNS)].sort_values(list(HOUR_KEY), ignore_index=True)
    groups = hours.groupby(list(HOUR_KEY), sort=True, observed=True)
    found = groups[[*COUNTS, "response_count", "response_ms_sum"]].sum()
    found["response_ms_max"] = groups["response_ms_max"].max()
    found = found.reset_index()
    code = groups.ngroup().to_numpy()
    buckets: list[dict[int, int]] = [{} for _ in range(len(found))]
    histogram = np.zeros((len(found), len(HISTOGRAM_MS) + 1), dtype=np.int64)
    for at, more, counts in zip(code.tolist(), hours["buckets"], hours["histogram"], strict=True):
        mine = buckets[at]
        for bucket, number in more.items():
            mine[bucket] = mine.get(bucket, 0) + number
        histogram[at] += counts if len(counts) else 0
    found["buckets"] = pd.Series(buckets, dtype=object)
    found["histogram"] = pd.Series(histogram.tolist(), dtype=object)
    return found[list(HOURLY_COLUMNS)]


def application_source(statuses: Mapping[str, str], *, timed: Mapping[str, bool] | None = None) -> str | None:
    """
    Return which source is believed for the application's calls, None where there is none.

    The table, where it can be read: each call is in it once, with its status; a log leaves answers out. Where response
    times are asked for, the first one that has any.

    Args:
        statuses: of the sources: ``available``, ``unavailable`` or ``failing``.
        timed: whether a source has response times; None: they are not asked for.
    """
    for source in APPLICATION_SOURCES:
        if statuses.get(source) == "available" and (timed is None or timed.get(source, False)):
            return source
    return None


def _texts(column: pd.Series) -> NDArray[Any]:
    """Return ids as text, empty where there is none."""
    found: NDArray[Any] = column.astype(object).where(column.notna(), UNKNOWN).astype(str).to_numpy(object)
    return found


def _endpoints(column: pd.Series, *, most: int) -> NDArray[Any]:
    """Return templated endpoints, each different text looked at once."""
    import pandas as pd

    codes, different = pd.factorize(_texts(column))
    names = np.array([templated(text) for text in different], dtype=object)
    counts = pd.Series(np.bincount(codes, minlength=len(names))).groupby(names).sum()
    if len(counts) > most:
        kept = most_frequent({str(name): int(number) for name, number in counts.items()}, most=most)
        names = np.array([name if name in kept else OTHER for name in names], dtype=object)
    found: NDArray[Any] = names[codes]
    return found


def _counted(code: NDArray[np.int64], bucket: NDArray[np.int64], *, groups: int) -> pd.Series:
    import pandas as pd

    found: list[dict[int, int]] = [{} for _ in range(groups)]
    if len(code):
        width = int(bucket.max()) + 1
        different, numbers = np.unique(code * width + bucket, return_counts=True)
        for at, value, number in zip(
            (different // width).tolist(), (different % width).tolist(), numbers.tolist(), strict=True
        ):
            found[at][value] = number
    return pd.Series(found, dtype=object)


def _histograms(code: NDArray[np.int64], place: NDArray[np.int64], *, groups: int) -> pd.Series:
    import pandas as pd

    width = len(HISTOGRAM_MS) + 1
    counts = np.bincount(code * width + place, minlength=groups * width).reshape(groups, width)
    return pd.Series(counts.tolist(), dtype=object)


def _hourly(rows: list[dict[str, Any]]) -> pd.DataFrame:
    import pandas as pd

    frame = pd.DataFrame(rows, columns=list(HOURLY_COLUMNS), dtype=object)
    frame["hour"] = pd.to_datetime(frame["hour"], utc=True).astype("datetime64[us, UTC]")
    for name in ("status_code", *COUNTS, "response_count"):
        frame[name] = frame[name].astype(np.int64)
    for name in ("response_ms_sum", "response_ms_max"):
        frame[name] = frame[name].astype(np.float64)
    return frame

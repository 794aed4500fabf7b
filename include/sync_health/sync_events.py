"""Starts and ends of syncs, one row each, with what they add to the metrics: the rows that are counted, each once."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from include.sync_health.causes import classify
from include.sync_health.field_counts import COUNT_LIMIT
from include.sync_health.frames import COUNT_COLUMNS, CREDENTIAL_COLUMNS, RUN_COLUMNS, id_text, require_columns
from include.sync_health.metric_contract import FINISHED_STATUSES, UNKNOWN
from include.sync_health.record_counts import RECORDS
from include.sync_health.verdicts import ErrorClass

STARTED, FINISHED = "started", "finished"

SYNC_EVENT_COLUMNS = (
    "kind",  # str: STARTED or FINISHED
    "sync_id",  # str
    "credential_id",  # str
    "environment",  # str: one of ENVIRONMENTS, as the credential is now
    "company_id",  # str; empty where the credential's row or its company is gone
    "data_type",  # str: one of DATA_TYPES
    "status",  # str: STARTED, or one of FINISHED_STATUSES
    "at",  # UTC: started_at, or the end
    "seconds",  # float64: how long it took; NaN for a start, and where that is not known or nothing
    "records_processed",  # float64; NaN for a start, and where it is unknown or beyond COUNT_LIMIT
    "records_successful",  # float64
    "records_failed",  # float64
    "error_class",  # str or None: of a failed sync, one of ErrorClass
)
"""One row per start or end of a sync, ordered by ``at`` and then by id as the source orders it."""

Flags = NDArray[np.bool_]


def sync_events(
    runs: pd.DataFrame,
    credentials: pd.DataFrame,
    *,
    since: datetime,
    as_of: datetime,
    duration_fallback: bool = True,
) -> pd.DataFrame:
    """
    Return the starts and ends of ``(since, as_of]``.

    A sync starts at its ``started_at``, whatever becomes of it. It ends at its ``finished_at``; a completed one without an
    end is taken to end at its start, as in the daily aggregates. One that was cancelled ends as ``cancelled``, whatever
    its status says; an open one, and one of a status that nobody knows, does not end. It took ``processing_seconds``,
    else ``completed_at - started_at``; 0, less, or more than `COUNT_LIMIT` seconds are not known.

    Args:
        runs: `RUN_COLUMNS` and `COUNT_COLUMNS`, in any order.
        credentials: at least ``credential_id``, ``company_id`` and ``environment`` of `CREDENTIAL_COLUMNS`.
        since, as_of: the window, open at its beginning; aware.
        duration_fallback: False: only stored durations count.

    Returns:
        `SYNC_EVENT_COLUMNS`.

    Raises:
        FrameError: a column is missing.
        ValueError: a naive time.
    """
    require_columns(runs, (*RUN_COLUMNS, *COUNT_COLUMNS), name="runs")
    if since.tzinfo is None or as_of.tzinfo is None:
        raise ValueError("since and as_of must be timezone-aware")
    status = ended_as(runs)
    started, ended = _instants(runs["started_at"]), ends_of(runs, status=status)
    first, last = _moment(since), _moment(as_of)
    has_started = (started > first) & (started <= last)
    has_ended = (ended > first) & (ended <= last)  # NaT is neither
    places = np.concatenate([np.flatnonzero(has_started), np.flatnonzero(has_ended)])
    is_end = np.arange(len(places)) >= has_started.sum()
    at = np.where(is_end, ended[places], started[places])
    order = _in_order(at, runs["sync_id"].to_numpy()[places])
    places, is_end, at = places[order], is_end[order], at[order]
    numbers = {"seconds": durations_of(runs, duration_fallback=duration_fallback), **believed_counts(runs)}
    rows = runs.iloc[places]
    environment, company = _names(rows["credential_id"], credentials)
    is_failed = is_end & (status[places] == "failed")
    events = {
        "kind": np.where(is_end, FINISHED, STARTED).astype(object),
        "sync_id": id_text(rows["sync_id"]).to_numpy(object),
        "credential_id": id_text(rows["credential_id"]).to_numpy(object),
        "environment": environment,
        "company_id": company,
        "data_type": rows["data_type"].astype(object).to_numpy(object),
        "status": np.where(is_end, status[places], STARTED),
        "at": pd.Series(at).dt.tz_localize("UTC"),
        **{name: np.where(is_end, values[places], np.nan) for name, values in numbers.items()},
        "error_class": error_classes(rows["error_message"].to_numpy(object), is_failed=is_failed),
    }
    return pd.DataFrame({name: _column(events[name]) for name in SYNC_EVENT_COLUMNS})


def ended_as(runs: pd.DataFrame) -> NDArray[Any]:
    """Return how each run ended, one of `FINISHED_STATUSES`; None of one that is open or of an unknown status."""
    status = runs["status"].astype(object).to_numpy(object, copy=True)
    status[~np.isin(status.astype(str), FINISHED_STATUSES)] = None
    status[runs["is_cancelled"].to_numpy(bool)] = "cancelled"
    return status


def ends_of(runs: pd.DataFrame, *, status: NDArray[Any]) -> NDArray[np.datetime64]:
    """Return when each run ended, by `ended_as`, in UTC; NaT of one that has not."""
    ended = _instants(runs["finished_at"])
    undated = np.isnat(ended) & (status == "completed")
    ended = np.where(undated, _instants(runs["started_at"]), ended)
    return np.where(pd.isna(status), np.datetime64("NaT", "us"), ended)


def durations_of(runs: pd.DataFrame, *, duration_fallback: bool) -> NDArray[np.float64]:
    """Return how many seconds each run took, to the microsecond; NaN where that is not known or nothing."""
    micros = np.rint(runs["processing_seconds"].to_numpy(np.float64) * 1e6)
    if duration_fallback:
        started, ended = _instants(runs["started_at"]), _instants(runs["completed_at"])
        length = (ended - started).astype(np.float64)
        length[np.isnat(ended) | np.isnat(started)] = np.nan
        micros = np.where(np.isnan(micros), length, micros)
    return np.where((micros > 0) & (micros <= COUNT_LIMIT * 1e6), micros, np.nan) / 1e6


def believed_counts(runs: pd.DataFrame) -> dict[str, NDArray[np.float64]]:
    """Return the counts of records by column, NaN where one is unknown or beyond `COUNT_LIMIT`."""
    counts = {name: runs[name].to_numpy(np.float64) for name in RECORDS}
    return {name: np.where(np.abs(values) > COUNT_LIMIT, np.nan, values) for name, values in counts.items()}


def error_classes(messages: NDArray[Any], *, is_failed: Flags) -> NDArray[Any]:
    """Return the class of each failed run's error; None of the others."""
    found = np.full(len(messages), None, dtype=object)
    codes, texts = pd.factorize(messages[is_failed])
    # A missing text has code -1, and so the last class of the list.
    found[is_failed] = np.array([*(_class_of(str(text)) for text in texts), _class_of(None)], dtype=object)[codes]
    return found


@lru_cache(maxsize=10_000)  # of at most 2,000 characters each
def _class_of(message: str | None) -> str:
    found = classify(message)
    # A failed sync whose text says "cancelled" in words that upstream does not use is a failure that tells nothing.
    return str(ErrorClass.UNKNOWN if found is ErrorClass.CANCELLED else found)


def _names(credential_ids: pd.Series, credentials: pd.DataFrame) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return environment and company of each row's credential."""
    labels = credential_labels(credentials).set_index("credential_id")
    found = labels.reindex(id_text(credential_ids))
    environment = found["environment"].astype(object)
    company = found["company_id"].astype(object)
    return (
        environment.where(environment.notna(), UNKNOWN).to_numpy(object),
        company.where(company.notna(), "").to_numpy(object),
    )


def credential_labels(credentials: pd.DataFrame) -> pd.DataFrame:
    """
    Return ``credential_id``, ``environment`` and ``company_id`` of credentials as text, one row each.

    Raises:
        FrameError: a column is missing.
    """
    require_columns(credentials, CREDENTIAL_COLUMNS[:2], name="credentials")
    require_columns(credentials, ("environment",), name="credentials")
    company = id_text(credentials["company_id"].convert_dtypes()).astype(object)
    environment = credentials["environment"].astype(object)
    return pd.DataFrame(
        {
            "credential_id": id_text(credentials["credential_id"]).astype(object),
            "environment": environment.where(environment.notna(), UNKNOWN),
            "company_id": company.where(credentials["company_id"].notna(), ""),
        }
    ).drop_duplicates("credential_id")


def _in_order(at: NDArray[np.datetime64], ids: NDArray[Any]) -> NDArray[np.int64]:
    rank = pd.factorize(ids, sort=True)[0] if ids.dtype == object else ids
    order: NDArray[np.int64] = np.lexsort((rank, at))
    return order


def _instants(times: pd.Series) -> NDArray[np.datetime64]:
    values: NDArray[np.datetime64] = times.to_numpy(dtype="datetime64[us]")
    return values


def _moment(at: datetime) -> np.datetime64:
    return np.datetime64(at.astimezone(UTC).replace(tzinfo=None), "us")


def _column(values: Any) -> Any:
    # Without the dtype, pandas 3 would make strings of objects, and NaN of None.
    is_object = isinstance(values, np.ndarray) and values.dtype.kind == "O"
    return pd.Series(values, dtype=object) if is_object else values

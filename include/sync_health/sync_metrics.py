"""
What syncs, credentials and the quality of their data say as metrics, by the contract's names, labels and levels.

All is pure: frames in, samples out. A sample is told to StatsD or OpenTelemetry by
`include.orchestration.metric_emission`; ``/metrics`` has the same figures from what the warehouse keeps of them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd

from include.sync_health import metric_contract as contract
from include.sync_health.frames import require_columns
from include.sync_health.metric_contract import UNKNOWN, Metric, credential_status, labels_of, metrics_kept
from include.sync_health.policy import MonitoringLevel
from include.sync_health.record_counts import RECORDS
from include.sync_health.sync_events import (
    FINISHED,
    STARTED,
    SYNC_EVENT_COLUMNS,
    sync_events,
)

Labels = tuple[tuple[str, str], ...]

COUNTER_KEY = ("credential_id", "environment", "company_id", "data_type", "status")

INCREMENT_COLUMNS = (
    *COUNTER_KEY,  # str each, as in SYNC_EVENT_COLUMNS
    "syncs",  # int64
    "duration_count",  # int64: of those whose duration is known
    "duration_seconds_sum",  # float64
    "last_at",  # UTC: the newest of them, by at and then id; NaT for starts
    "last_sync_id",  # str or None
    "records_processed",  # float64, whole: of that newest one; NaN where unknown, and for starts
    "records_successful",  # float64
    "records_failed",  # float64
    "failed_by_class",  # dict: error class to number of syncs; empty where status is not failed
)
"""What some events add to each counter."""

STATUS_COLUMNS = (
    "credential_id",  # str
    "environment",  # str
    "company_id",  # str; empty where nobody knows
    "connection_status",  # str or None
    "token_expires_at",  # UTC or NaT
)
"""The credentials at an instant: one row each, none of those that were gone."""

QUALITY_COLUMNS = (
    "credential_id",  # str
    "environment",  # str
    "company_id",  # str; empty where nobody knows
    "data_type",  # str
    "total",  # float64, whole: records processed; NaN: the source's counts could not be read
    "valid",  # float64, whole: successful; likewise
    "invalid",  # float64, whole: failed; likewise
)
"""Records by credential and data type."""

QUALITY_COUNTS = QUALITY_COLUMNS[-3:]
"""Its numbers, in the order of `RECORDS`."""

COST_COLUMNS = (
    "check",  # str
    "rows",  # int64: that its last run read from the source
    "milliseconds",  # float64: that the source took
)
"""What the last run of each check cost the source."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One value of one metric; ``labels`` are those of the level, in their order, none of them empty."""

    metric: Metric
    labels: Labels
    value: float

    @property
    def name(self) -> str:
        """The metric's name."""
        return self.metric.name


def counter_increments(events: pd.DataFrame) -> pd.DataFrame:
    """
    Return what the events add to the counters, by `COUNTER_KEY`.

    Args:
        events: `SYNC_EVENT_COLUMNS`, in their order.

    Returns:
        `INCREMENT_COLUMNS`, ordered by the key.

    Raises:
        FrameError: a column is missing.
    """
    require_columns(events, SYNC_EVENT_COLUMNS, name="events")
    key = list(COUNTER_KEY)
    grouped = events.groupby(key, sort=True)["seconds"]
    sums = grouped.agg(syncs="size", duration_count="count", duration_seconds_sum="sum").reset_index()
    # Not groupby.last, which takes the last that is known of each column.
    last = events.drop_duplicates(key, keep="last").set_index(key)
    last = last.reindex(pd.MultiIndex.from_frame(sums[key]))
    is_end = (sums["status"] != STARTED).to_numpy(bool)
    columns = {
        **{name: sums[name].astype(object).to_numpy(object) for name in key},
        "syncs": sums["syncs"].to_numpy(np.int64),
        "duration_count": sums["duration_count"].to_numpy(np.int64),
        "duration_seconds_sum": sums["duration_seconds_sum"].to_numpy(np.float64),
        "last_at": pd.Series(last["at"].to_numpy()).astype("datetime64[us, UTC]").where(is_end),
        "last_sync_id": last["sync_id"].where(is_end, None).to_numpy(object),
        **{name: last[name].to_numpy(np.float64) for name in RECORDS},
        "failed_by_class": _by_class(events, sums),
    }
    return pd.DataFrame({name: _column(columns[name]) for name in INCREMENT_COLUMNS})


def _by_class(events: pd.DataFrame, sums: pd.DataFrame) -> Any:
    failed = events[events["error_class"].notna()]
    sizes = failed.groupby([*COUNTER_KEY, "error_class"]).size().reset_index(name="number")
    found: dict[tuple[str, ...], dict[str, int]] = {}
    for *key, error_class, number in zip(*(sizes[name].tolist() for name in sizes), strict=True):
        found.setdefault(tuple(key), {})[error_class] = number
    values = np.empty(len(sums), dtype=object)
    values[:] = [found.get(key, {}) for key in zip(*(sums[name] for name in COUNTER_KEY), strict=True)]
    return values


def sync_samples(
    events: pd.DataFrame, *, level: MonitoringLevel, is_last: Collection[str] | None = None
) -> list[Sample]:
    """
    Return what the events say: counters, durations, and the records of the last sync of each set of labels.

    A counter's value is what it rises by; each known duration is a sample of its own. Gauges are absent where a count is
    unknown; the success rate also where `success_percent` says none.

    Args:
        events: `SYNC_EVENT_COLUMNS`, in their order: what is counted now.
        level: which metrics and labels are kept.
        is_last: ids of the syncs that are the newest of their counter; a sync that was told late must not be taken for the
            last one. None: all may be.

    Raises:
        FrameError: a column is missing.
    """
    require_columns(events, SYNC_EVENT_COLUMNS, name="events")
    labelled = _labelled(events)
    kind = events["kind"]
    started, ended = labelled[kind == STARTED], labelled[kind == FINISHED]
    newest = ended if is_last is None else ended[ended["sync_id"].isin({*is_last})]
    samples = [*_counted(contract.SYNC_STARTED, started, level), *_counted(contract.SYNC_COMPLETED, ended, level)]
    samples += _told(contract.SYNC_DURATION, ended, ended["seconds"], level)
    for metric, column in (
        (contract.SYNC_RECORDS_PROCESSED, "records_processed"),
        (contract.SYNC_RECORDS_SUCCESSFUL, "records_successful"),
        (contract.SYNC_RECORDS_FAILED, "records_failed"),
    ):
        samples += _last(metric, newest, newest[column], level)
    samples += _last(contract.SYNC_SUCCESS_RATE, newest, success_percents(newest), level)
    return samples + _counted(contract.SYNC_FAILURES, ended[ended["error_class"].notna()], level)


def success_percents(rows: pd.DataFrame) -> pd.Series:
    """Return `metric_contract.success_percent` of each row's records; NaN for none."""
    processed, successful = rows["records_processed"], rows["records_successful"]
    is_told = (processed > 0) & (successful >= 0) & (successful <= processed)
    return 100 * successful / processed.where(is_told)


def credential_samples(
    credentials: pd.DataFrame, *, as_of: datetime, level: MonitoringLevel, before: pd.DataFrame | None = None
) -> list[Sample]:
    """
    Return the state of the credentials: 1 for the status that each has, and how long its token lasts.

    Where a credential had other labels before (its status, its company or environment), or is gone, the old labels are
    told 0, unless another credential has them now. A token that has expired has a negative time left; without one there
    is no sample. Where a level drops the credential and the company, statuses are numbers of credentials and the time left
    is the least of them.

    Args:
        credentials: `STATUS_COLUMNS`, as they are at ``as_of``.
        as_of: the instant; aware.
        level: which metrics and labels are kept.
        before: `STATUS_COLUMNS`, as they were told last; None: nothing was.

    Raises:
        FrameError: a column is missing.
        ValueError: ``as_of`` is naive.
    """
    require_columns(credentials, STATUS_COLUMNS, name="credentials")
    if as_of.tzinfo is None:
        raise ValueError("as_of must be timezone-aware")

    def labelled(rows: pd.DataFrame) -> pd.DataFrame:
        statuses = [credential_status(each) for each in rows["connection_status"].tolist()]
        return _labelled(rows.assign(status=pd.Series(statuses, index=rows.index, dtype=object)))

    now = labelled(credentials)
    left = (now["token_expires_at"] - pd.Timestamp(as_of)) / pd.Timedelta(seconds=1)
    told = now.assign(value=1.0)
    if before is not None:
        require_columns(before, STATUS_COLUMNS, name="before")
        told = pd.concat([told, labelled(before).assign(value=0.0)], ignore_index=True)
    return [
        *_reduced(contract.CREDENTIAL_STATUS, told, told["value"], level),
        *_reduced(contract.TOKEN_EXPIRY, now, left, level),
    ]


def quality_totals(
    runs: pd.DataFrame,
    credentials: pd.DataFrame,
    *,
    since: datetime,
    as_of: datetime,
    known: Collection[str] = RECORDS,
) -> pd.DataFrame:
    """
    Return the records of the completed and failed syncs that ended in ``(since, as_of]``; cancelled ones are left out.

    A sync's count that is unknown or beyond `COUNT_LIMIT` is taken for 0, as in the daily aggregates; the sums of a column
    that as such could not be read are NaN.

    Args:
        runs: `RUN_COLUMNS` and `COUNT_COLUMNS`, in any order.
        credentials: as `sync_events` takes them.
        since, as_of: the window, open at its beginning; aware.
        known: those of `RECORDS` that could be read.

    Returns:
        `QUALITY_COLUMNS`, ordered by credential and data type: one row for each that had such a sync.

    Raises:
        FrameError: a column is missing.
        ValueError: a naive time.
    """
    events = sync_events(runs, credentials, since=since, as_of=as_of)
    ended = events[events["status"].isin(("completed", "failed"))]
    key = ["credential_id", "environment", "company_id", "data_type"]
    sums = ended.groupby(key, sort=True)[list(RECORDS)].sum().reset_index()
    sums = sums.assign(**{name: np.nan for name in RECORDS if name not in known})
    sums = sums.rename(columns=dict(zip(RECORDS, QUALITY_COUNTS, strict=True)))
    return pd.DataFrame(
        {
            name: _column(sums[name].astype(object).to_numpy(object)) if name in key else sums[name]
            for name in QUALITY_COLUMNS
        }
    )


def quality_samples(
    totals: pd.DataFrame,
    *,
    level: MonitoringLevel,
    gone: pd.DataFrame | None = None,
    known: Collection[str] = RECORDS,
) -> list[Sample]:
    """
    Return the quality of the data: records in all, valid and invalid ones, and the score.

    The score is valid / total * 100 of the sums by the labels that are kept; absent where `success_percent` says none. A sum
    of which a part is unknown is unknown, and so absent.

    Args:
        totals: `QUALITY_COLUMNS`.
        level: which metrics and labels are kept.
        gone: `QUALITY_COLUMNS` of what was told before and has no sync any more: its records are 0.
        known: those of `RECORDS` that could be read: of what is gone, nothing is told of the others.

    Raises:
        FrameError: a column is missing.
    """
    require_columns(totals, QUALITY_COLUMNS, name="totals")
    rows = totals
    if gone is not None and len(gone):
        zeros = {name: 0.0 if read in known else np.nan for name, read in zip(QUALITY_COUNTS, RECORDS, strict=True)}
        rows = pd.concat([totals, gone.assign(**zeros)], ignore_index=True)
    labelled = _labelled(rows)
    samples: list[Sample] = []
    for metric, column in (
        (contract.QUALITY_TOTAL, "total"),
        (contract.QUALITY_VALID, "valid"),
        (contract.QUALITY_INVALID, "invalid"),
    ):
        samples += _reduced(metric, labelled, labelled[column], level)
    names = list(labels_of(contract.QUALITY_SCORE, level=level))
    grouped = labelled.groupby(names, sort=False)
    sums = pd.DataFrame({name: _whole_sums(grouped[name]) for name in ("total", "valid")}).reset_index()
    percents = success_percents(sums.rename(columns={"total": "records_processed", "valid": "records_successful"}))
    return samples + _told(contract.QUALITY_SCORE, sums, percents, level)


def cost_samples(costs: pd.DataFrame, *, level: MonitoringLevel) -> list[Sample]:
    """
    Return what the checks cost the source.

    Args:
        costs: `COST_COLUMNS`.
        level: which metrics are kept.

    Raises:
        FrameError: a column is missing.
    """
    require_columns(costs, COST_COLUMNS, name="costs")
    return [
        *_told(contract.CHECK_ROWS, costs, costs["rows"], level),
        *_told(contract.CHECK_MILLISECONDS, costs, costs["milliseconds"], level),
    ]


def averaged_beyond(samples: Sequence[Sample], *, cap: int) -> tuple[list[Sample], int]:
    """
    Return the samples with their timings bounded, and how many timings were replaced.

    Where there are more than ``cap`` timings, each metric's are replaced by their average for each set of labels.
    """
    timings = [sample for sample in samples if sample.metric.kind == "timing"]
    if len(timings) <= cap:
        return list(samples), 0
    sums: dict[tuple[Metric, Labels], tuple[float, int]] = {}
    for sample in timings:
        total, number = sums.get((sample.metric, sample.labels), (0.0, 0))
        sums[sample.metric, sample.labels] = (total + sample.value, number + 1)
    kept = [sample for sample in samples if sample.metric.kind != "timing"]
    kept += [Sample(metric, labels, total / number) for (metric, labels), (total, number) in sums.items()]
    return kept, len(timings)


def _labelled(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows with no empty label."""
    return rows.assign(company_id=rows["company_id"].where(rows["company_id"] != "", UNKNOWN))


def _counted(metric: Metric, rows: pd.DataFrame, level: MonitoringLevel) -> list[Sample]:
    """Return the number of rows by the labels that are kept."""
    if metric not in metrics_kept(level) or rows.empty:
        return []
    names = list(labels_of(metric, level=level))
    sizes = rows.groupby(names, sort=False).size().reset_index(name="number")
    return _told(metric, sizes, sizes["number"], level)


def _last(metric: Metric, rows: pd.DataFrame, values: pd.Series, level: MonitoringLevel) -> list[Sample]:
    """Return the value of the last row of each set of labels, where it is known."""
    if metric not in metrics_kept(level):
        return []
    is_last = ~rows.duplicated(list(labels_of(metric, level=level)), keep="last")
    return _told(metric, rows[is_last], values[is_last], level)


def _reduced(metric: Metric, rows: pd.DataFrame, values: pd.Series, level: MonitoringLevel) -> list[Sample]:
    """Return the sum of the values, or the least of those that are known, by the labels that are kept."""
    if metric not in metrics_kept(level) or rows.empty:
        return []
    names = list(labels_of(metric, level=level))
    grouped = rows[names].assign(value=values.to_numpy(np.float64)).groupby(names, sort=False)["value"]
    found = (grouped.min() if metric.total == "least" else _whole_sums(grouped)).reset_index()
    return _told(metric, found, found["value"], level)


def _whole_sums(grouped: Any) -> pd.Series:
    """Return the sum of each group; NaN where one of its values is unknown."""
    sums: pd.Series = grouped.sum()
    return sums.where(grouped.count() == grouped.size())


def _told(metric: Metric, rows: pd.DataFrame, values: pd.Series, level: MonitoringLevel) -> list[Sample]:
    """Return a sample for each row whose value is known."""
    if metric not in metrics_kept(level):
        return []
    is_known = values.notna().to_numpy(bool)
    names = labels_of(metric, level=level)
    columns: Iterable[Iterable[Any]] = [rows[name].to_numpy(object)[is_known].tolist() for name in names]
    numbers = values.to_numpy(np.float64)[is_known].tolist()
    return [
        Sample(metric, tuple(zip(names, map(str, labels), strict=True)), number)
        for *labels, number in zip(*columns, numbers, strict=True)
    ]


def _column(values: Any) -> Any:
    # Without the dtype, pandas 3 would make strings of objects, and NaN of None.
    is_object = isinstance(values, np.ndarray) and values.dtype.kind == "O"
    return pd.Series(values, dtype=object) if is_object else values

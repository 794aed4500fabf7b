"""What newly counted API calls say as metrics, by the contract's names, labels and levels. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from include.sync_health import metric_contract as contract
from include.sync_health.metric_contract import UNKNOWN, Metric, labels_of, metrics_kept
from include.sync_health.policy import MonitoringLevel
from include.sync_health.response_times import milliseconds_of
from include.sync_health.sync_metrics import Sample

if TYPE_CHECKING:
    import pandas as pd

_LABELS = ("environment", "endpoint", "status_code", "company_id", "credential_id")


def api_samples(increments: pd.DataFrame, *, level: MonitoringLevel, timings_cap: int) -> tuple[list[Sample], int]:
    """
    Return the samples of what was newly counted, and how many response times were averaged.

    A response time is told as its bucket's, within 2 %; where there are more than ``timings_cap``, as one average for each
    set of labels, exact.

    Args:
        increments: `include.warehouse.api_hours.INCREMENT_COLUMNS`.
        level: which metrics and labels are kept.
        timings_cap: response times that are told one by one.
    """
    if increments.empty:
        return [], 0
    rows = increments.assign(**{name: increments[name].astype(str).replace("", UNKNOWN) for name in _LABELS})
    kept = metrics_kept(level)
    samples = [
        sample
        for metric, column in ((contract.API_REQUESTS, "requests"), (contract.API_ERRORS, "errors"))
        if metric in kept
        for sample in _counted(metric, rows, column, level=level)
    ]
    if contract.API_RESPONSE_TIME not in kept:
        return samples, 0
    timed = int(rows["response_count"].sum())
    if timed > timings_cap:
        return [*samples, *_averages(rows, level=level)], timed
    return [*samples, *_times(rows, level=level)], 0


def _counted(metric: Metric, rows: pd.DataFrame, column: str, *, level: MonitoringLevel) -> list[Sample]:
    labels = list(labels_of(metric, level=level))
    sums = rows.groupby(labels, sort=True)[column].sum()
    return [
        Sample(metric, tuple(zip(labels, _values(key), strict=True)), float(value))
        for key, value in sums.items()
        if value
    ]


def _averages(rows: pd.DataFrame, *, level: MonitoringLevel) -> list[Sample]:
    metric = contract.API_RESPONSE_TIME
    labels = list(labels_of(metric, level=level))
    sums = rows.groupby(labels, sort=True)[["response_ms_sum", "response_count"]].sum()
    return [
        Sample(metric, tuple(zip(labels, _values(key), strict=True)), total / count)
        for key, total, count in sums.itertuples(name=None)
        if count
    ]


def _times(rows: pd.DataFrame, *, level: MonitoringLevel) -> list[Sample]:
    metric = contract.API_RESPONSE_TIME
    labels = labels_of(metric, level=level)
    return [
        Sample(metric, tuple(zip(labels, map(str, values), strict=True)), milliseconds_of(bucket))
        for *values, buckets in zip(*(rows[label] for label in labels), rows["buckets"], strict=True)
        for bucket, number in sorted(buckets.items())
        for _ in range(number)
    ]


def _values(key: object) -> tuple[str, ...]:
    return tuple(map(str, key)) if isinstance(key, tuple) else (str(key),)

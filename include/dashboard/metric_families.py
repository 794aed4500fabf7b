"""
The contract's metrics at a monitoring level, from bare rows.

Pure. Where a level drops a label, counters and numbers of records are summed, of a time the least is told, a ratio is
computed from the sums, and what a last sync brought is told only where it is the last of its labels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from operator import itemgetter
from typing import Any, Literal

from include.dashboard.exposition import Buckets, Family, LabelSets, Samples
from include.sync_health import metric_contract as contract
from include.sync_health.metric_contract import (
    Metric,
    labels_of,
    metrics_kept,
    prometheus_name,
    prometheus_scale,
    success_percent,
)
from include.sync_health.policy import MonitoringLevel
from include.sync_health.response_times import HISTOGRAM_MS
from include.warehouse.metric_reader import MetricRows, Row

STARTED = "started"
"""The status under which `MetricRows.syncs` has the syncs that started."""

SYNC_LABELS = ("environment", "data_type", "status", "company_id", "credential_id")
CREDENTIAL_LABELS = ("environment", "status", "company_id", "credential_id")
FAILURE_LABELS = ("environment", "data_type", "error_class", "company_id", "credential_id")
QUALITY_LABELS = ("environment", "data_type", "company_id", "credential_id")
API_LABELS = ("environment", "endpoint", "status_code", "company_id", "credential_id")
"""Labels in the order in which the rows have them, from the first column on."""

BOUNDS = (*(f"{milliseconds / 1000:g}" for milliseconds in HISTOGRAM_MS), "+Inf")
"""Upper bounds of the response times' histogram, in seconds, as the label ``le`` has them."""


def metric_families(rows: MetricRows, *, level: MonitoringLevel, now: datetime) -> list[Family]:
    """
    Return every family of the contract that the level keeps and that has a source, the most important first.

    Args:
        rows: what our schema has.
        level: which metrics and labels are kept.
        now: the wall clock, aware: a token's time is counted from it.
    """
    kept = metrics_kept(level)
    found = [
        *_credentials(rows.credentials, level=level, now=now),
        *_syncs(rows.syncs, level=level),
        _failures(rows.failures, level=level),
        *_api(rows, level=level),
        *_quality(rows.quality, level=level),
    ]
    names = [prometheus_name(metric) for metric in kept]
    order = {name: place for place, name in enumerate(map(prometheus_name, IMPORTANCE))}
    return sorted((family for family in found if family.name in names), key=lambda family: order[family.name])


IMPORTANCE = (
    contract.CREDENTIAL_STATUS,
    contract.TOKEN_EXPIRY,
    contract.SYNC_COMPLETED,
    contract.SYNC_STARTED,
    contract.API_REQUESTS,
    contract.API_ERRORS,
    contract.QUALITY_SCORE,
    contract.SYNC_DURATION,
    contract.SYNC_FAILURES,
    contract.API_RESPONSE_TIME,
    contract.QUALITY_TOTAL,
    contract.QUALITY_INVALID,
    contract.QUALITY_VALID,
    contract.SYNC_SUCCESS_RATE,
    contract.SYNC_RECORDS_FAILED,
    contract.SYNC_RECORDS_PROCESSED,
    contract.SYNC_RECORDS_SUCCESSFUL,
)
"""Which metrics stay longest when there are too many series: first those that no other can replace."""


def _syncs(rows: Sequence[Row], *, level: MonitoringLevel) -> list[Family]:
    status = SYNC_LABELS.index("status")
    started = [row for row in rows if row[status] == STARTED]
    finished = [row for row in rows if row[status] != STARTED]
    started_sets, started_rows = _merged(started, contract.SYNC_STARTED, SYNC_LABELS, level=level, merge=_sum_of_syncs)
    sets, merged = _merged(finished, contract.SYNC_COMPLETED, SYNC_LABELS, level=level, merge=_sum_of_syncs)
    timed = [(row[6], row[7]) if row[6] else (None, None) for row in merged]
    return [
        _family(contract.SYNC_STARTED, "counter", Samples(started_sets, _column(started_rows, 5))),
        _family(contract.SYNC_COMPLETED, "counter", Samples(sets, _column(merged, 5))),
        _family(
            contract.SYNC_DURATION,
            "summary",
            Samples(sets, _column(timed, 1), "_sum"),
            Samples(sets, _column(timed, 0), "_count"),
        ),
        _family(contract.SYNC_RECORDS_PROCESSED, "gauge", Samples(sets, _column(merged, 8))),
        _family(contract.SYNC_RECORDS_SUCCESSFUL, "gauge", Samples(sets, _column(merged, 9))),
        _family(contract.SYNC_RECORDS_FAILED, "gauge", Samples(sets, _column(merged, 10))),
        _family(
            contract.SYNC_SUCCESS_RATE, "gauge", Samples(sets, [success_percent(row[9], row[8]) for row in merged])
        ),
    ]


def _sum_of_syncs(rows: list[Row]) -> Row:
    """Counters are added up; the records are those of the newest sync, by end and then id."""
    # Ids are integers of growing length, or UUIDs, which are all equally long.
    newest = max(rows, key=lambda row: (row[11] is not None, row[11], len(row[12] or ""), row[12]))
    sums = (sum(row[place] for row in rows) for place in (5, 6, 7))
    return (*newest[:5], *sums, *newest[8:])


def _failures(rows: Sequence[Row], *, level: MonitoringLevel) -> Family:
    sets, merged = _merged(
        rows, contract.SYNC_FAILURES, FAILURE_LABELS, level=level, merge=lambda several: _sums(several, 5)
    )
    return _family(contract.SYNC_FAILURES, "counter", Samples(sets, _column(merged, 5)))


def _credentials(rows: Sequence[Row], *, level: MonitoringLevel, now: datetime) -> list[Family]:
    def merge(several: list[Row]) -> Row:
        """How many credentials have the labels now, and the least of their times."""
        times = [row[5] for row in several if row[5] is not None]
        return (*several[0][:4], sum(row[4] for row in several), min(times, default=None))

    sets, merged = _merged(rows, contract.CREDENTIAL_STATUS, CREDENTIAL_LABELS, level=level, merge=merge)
    seconds = [None if row[5] is None else (row[5] - now).total_seconds() for row in merged]
    return [
        _family(contract.CREDENTIAL_STATUS, "gauge", Samples(sets, [int(row[4]) for row in merged])),
        _family(contract.TOKEN_EXPIRY, "gauge", Samples(sets, seconds)),
    ]


def _quality(rows: Sequence[Row], *, level: MonitoringLevel) -> list[Family]:
    def merge(several: list[Row]) -> Row:
        """The sums; one of which a part is unknown is unknown."""
        columns = zip(*(row[4:] for row in several), strict=True)
        return (*several[0][:4], *(None if None in column else sum(column) for column in columns))

    sets, merged = _merged(rows, contract.QUALITY_TOTAL, QUALITY_LABELS, level=level, merge=merge)
    scores = [success_percent(row[5], row[4]) for row in merged]
    return [
        _family(contract.QUALITY_TOTAL, "gauge", Samples(sets, _column(merged, 4))),
        _family(contract.QUALITY_VALID, "gauge", Samples(sets, _column(merged, 5))),
        _family(contract.QUALITY_INVALID, "gauge", Samples(sets, _column(merged, 6))),
        _family(contract.QUALITY_SCORE, "gauge", Samples(sets, scores)),
    ]


def _api(rows: MetricRows, *, level: MonitoringLevel) -> list[Family]:
    found = []
    if rows.api_calls is not None:
        sets, merged = _merged(rows.api_calls, contract.API_REQUESTS, API_LABELS, level=level, merge=_sum_of_calls)
        found += [
            _family(contract.API_REQUESTS, "counter", Samples(sets, _column(merged, 5))),
            _family(contract.API_ERRORS, "counter", Samples(sets, _column(merged, 6))),
        ]
    if rows.api_timings is not None:
        timed = [row for row in rows.api_timings if row[7]]
        sets, merged = _merged(timed, contract.API_RESPONSE_TIME, API_LABELS, level=level, merge=_sum_of_calls)
        scale = prometheus_scale(contract.API_RESPONSE_TIME)
        counts = [_buckets(row[9]) for row in merged]
        sums = [row[8] * scale for row in merged]
        found.append(
            Family(
                prometheus_name(contract.API_RESPONSE_TIME),
                "histogram",
                contract.API_RESPONSE_TIME.help,
                (Buckets(sets, BOUNDS, counts, sums),),
            )
        )
    return found


def _sum_of_calls(rows: list[Row]) -> Row:
    buckets = [sum(several) for several in zip(*(_buckets(row[9]) for row in rows), strict=True)]
    return (*_sums(rows, 5, until=9), buckets)


def _buckets(counts: Sequence[int]) -> Sequence[int]:
    return counts or [0] * len(BOUNDS)


def _merged(
    rows: Sequence[Row],
    metric: Metric,
    columns: Sequence[str],
    *,
    level: MonitoringLevel,
    merge: Callable[[list[Row]], Row],
) -> tuple[LabelSets, Sequence[Row]]:
    """
    Return the label sets of a metric at a level, and one row for each.

    Args:
        rows: they begin with ``columns``.
        merge: what becomes of several rows with one label set.
    """
    names = labels_of(metric, level=level)
    places = [columns.index(name) for name in names]
    keys = list(map(itemgetter(*places), rows)) if len(places) > 1 else [(row[places[0]],) for row in rows]
    if len(set(keys)) == len(keys):
        return LabelSets(names, keys), rows
    groups: dict[tuple[str, ...], list[Row]] = {}
    for key, row in zip(keys, rows, strict=True):
        groups.setdefault(key, []).append(row)
    merged = [several[0] if len(several) == 1 else merge(several) for several in groups.values()]
    return LabelSets(names, list(groups)), merged


def _sums(rows: list[Row], first: int, *, until: int | None = None) -> Row:
    return (*rows[0][:first], *(sum(column) for column in zip(*(row[first:until] for row in rows), strict=True)))


def _column(rows: Sequence[Row], place: int) -> list[Any]:
    return list(map(itemgetter(place), rows))


def _family(metric: Metric, kind: Literal["counter", "gauge", "summary", "histogram"], *samples: Samples) -> Family:
    return Family(prometheus_name(metric), kind, metric.help, samples)

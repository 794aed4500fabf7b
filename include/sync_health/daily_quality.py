"""
The daily aggregates: how many syncs each credential's data type had on a day, how they ended, and how good they were.

A day is a calendar day of the reporting time zone, 23 or 25 hours long where the clocks change.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from include.sync_health.causes import classify
from include.sync_health.company_names import CompanyNames
from include.sync_health.day_groups import DayGroups
from include.sync_health.field_counts import COUNT_LIMIT
from include.sync_health.field_quality import (
    FIELD_COLUMNS,
    REQUIRED_FIELDS,
    SyncDetails,
    aggregate_fields,
    details_of,
    may_tell,
)
from include.sync_health.frames import (
    COUNT_COLUMNS,
    DATA_TYPES,
    RUN_COLUMNS,
    RUN_STATUSES,
    require_columns,
)
from include.sync_health.proportions import percent_with_interval
from include.sync_health.stuck_syncs import OPEN_STATUSES
from include.sync_health.verdicts import ErrorClass

CALC_VERSION = 2
"""Of the definitions below; a change of what a column means raises it."""

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
    "syncs_empty",  # int64: completed, with 0 records processed (not: with an unknown number)
    "syncs_timed",  # int64: completed, with a known duration; the weight of duration_avg_seconds
    "failed_auth",  # int64: failed syncs by the class of their error; the failed_ columns sum to syncs_failed
    "failed_permission",  # int64
    "failed_rate_limit",  # int64
    "failed_timeout",  # int64
    "failed_server",  # int64
    "failed_decode",  # int64
    "failed_validation",  # int64
    "failed_unknown",  # int64
    "syncs_with_detail",  # int64: completed and failed syncs whose details tell how many records lack which fields
    "records_with_detail",  # int64: records_processed of those
    "missing_required",  # int64: required fields that their records lack, counted once per record and field
    "completeness",  # float64, percent; NaN: no detail, or the data type has no required fields of its own
    "is_final",  # bool
    "calc_version",  # int64
)
"""One row per day, credential and data type that had a sync."""

ERROR_CLASSES = tuple(each for each in ErrorClass if each is not ErrorClass.CANCELLED)
"""The classes of failed syncs, each with a ``failed_`` column; a cancelled one is no failure."""

_RECORDS = ("records_processed", "records_successful", "records_failed")

_LONGEST_MICROS = COUNT_LIMIT * 1e6
"""The longest duration that is believed: the source's seconds are PostgreSQL's integer as well."""

Flags = NDArray[np.bool_]
Places = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class DayAggregates:
    """
    What some days came to.

    Args:
        daily: `DAILY_COLUMNS`, ordered by `DAILY_KEY` as text; no row for a day without a sync.
        fields: `FIELD_COLUMNS`, ordered likewise: fields that failed, of the same keys.
        problems: what could not be used as it is, by kind: those of `SyncDetails`, and ``huge_count`` (a completed or
            failed sync with a count beyond `COUNT_LIMIT`).
    """

    daily: pd.DataFrame
    fields: pd.DataFrame
    problems: Mapping[str, int]


def aggregate_days(
    runs: pd.DataFrame,
    *,
    names: CompanyNames,
    days: Sequence[date],
    timezone: str,
    as_of: datetime,
    late_data_days: int,
    duration_fallback: bool = True,
) -> DayAggregates:
    """
    Return the aggregates of some days.

    A sync belongs to the day of its ``completed_at``; one without (open, failed without an end, or contradicting) to the
    day of its ``started_at``. Sums take a missing count for 0. A count beyond `COUNT_LIMIT`, of either sign, is none: it
    is taken as missing. A completed or failed sync is ``inconsistent`` when one of its counts is negative or beyond that,
    when they do not add up (successful + failed = processed), or when it is completed without ``completed_at``; without
    a count of failed records, a completed sync is clean if its other counts are consistent and leave none. The score is
    100 * successful / processed of the sums, and NaN where those do not add up, or a count is negative or beyond
    `COUNT_LIMIT`. A duration is ``processing_seconds``, else ``completed_at - started_at``; not at 0, negative, unknown,
    or more than `COUNT_LIMIT` seconds. p95 is the nearest-rank percentile. ``is_final``: the day ended at least
    ``late_data_days`` days before the day of ``as_of``. Company and environment are what they were at the day's end, as far as that was recorded.

    The result does not depend on the order of the rows, nor on which other days are asked for: durations are summed in
    whole microseconds, and counts are whole and far from 2**53 in sum.

    Args:
        runs: `RUN_COLUMNS` and `COUNT_COLUMNS`, in any order: all rows that belong to these days; others are ignored.
            Without `DETAIL_COLUMNS` there is no detail.
        names: what is known of the credentials' companies and environments.
        days: which days, in any order.
        timezone: the reporting time zone, an IANA name.
        as_of: the instant up to which the source was read; aware.
        late_data_days: for how many days after its end a day may still change.
        duration_fallback: False: only stored durations count.

    Raises:
        FrameError: a column is missing.
        ValueError: ``as_of`` is naive.
    """
    require_columns(runs, (*RUN_COLUMNS, *COUNT_COLUMNS), name="runs")
    if as_of.tzinfo is None:
        raise ValueError("as_of must be timezone-aware")
    wanted = sorted(set(days))
    bounds = [day_bounds(day, timezone=timezone) for day in wanted]
    ends = np.array([end.replace(tzinfo=None) for _, end in bounds], dtype="datetime64[us]")
    place = _day_places(runs, bounds=bounds)
    if (place < 0).any():
        runs, place = runs[place >= 0], place[place >= 0]
    rows = runs
    groups = DayGroups.of(rows, day=place)
    classified = _classified(rows, duration_fallback=duration_fallback)
    columns: dict[str, NDArray[Any]] = {
        "day": np.array(wanted, dtype=object)[groups.day],
        "credential_id": groups.credential_ids[groups.credential],
        "data_type": np.array(sorted(DATA_TYPES), dtype=object)[groups.data_type],
        **names.on(groups.credential_ids, credential=groups.credential, until=ends[groups.day]),
    }
    columns |= _sums(groups, classified)
    columns |= _durations(groups, classified["seconds"])
    columns |= _failures_by_class(groups, rows, is_failed=classified["syncs_failed"])
    detailed, details = _with_details(rows, is_counted=classified["is_counted"])
    columns |= _completeness(groups, rows, detailed, details, records=classified["records_processed"])
    last_final = local_day(as_of, timezone=timezone) - timedelta(days=late_data_days + 1)
    # Days, not instants: a fixed number of hours would be wrong around a change of the clocks.
    columns["is_final"] = np.array([day <= last_final for day in wanted], dtype=bool)[groups.day]
    columns["calc_version"] = np.full(groups.count, CALC_VERSION, dtype=np.int64)
    fields = aggregate_fields(
        pd.DataFrame(
            {
                **{name: columns[name][groups.of_row[detailed]] for name in DAILY_KEY},
                "records_processed": rows["records_processed"].to_numpy(np.float64)[detailed],
            }
        ),
        details,
    )
    return DayAggregates(
        # Nobody else has these arrays: they need not be copied into blocks.
        daily=pd.DataFrame({name: _column(columns[name]) for name in DAILY_COLUMNS}, copy=False),
        fields=fields[list(FIELD_COLUMNS)],
        problems=_problems(details, huge_counts=int(classified["has_huge"].sum())),
    )


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


def _day_places(runs: pd.DataFrame, *, bounds: Sequence[tuple[datetime, datetime]]) -> Places:
    """Return which of the days each row belongs to, -1 for none."""
    completed, started = _instants(runs["completed_at"]), _instants(runs["started_at"])
    belongs = np.where(np.isnat(completed), started, completed)
    starts = np.array([start.replace(tzinfo=None) for start, _ in bounds], dtype="datetime64[us]")
    ends = np.array([end.replace(tzinfo=None) for _, end in bounds], dtype="datetime64[us]")
    if not len(starts):
        return np.full(len(runs), -1, dtype=np.int64)
    # No instant sorts last, after every start, and lies before no end.
    place = np.searchsorted(starts, belongs, side="right").astype(np.int64) - 1
    return np.where((place >= 0) & (belongs < ends[np.maximum(place, 0)]), place, -1)


def _instants(times: pd.Series) -> NDArray[np.datetime64]:
    values: NDArray[np.datetime64] = times.to_numpy(dtype="datetime64[us]")
    return values


def _classified(rows: pd.DataFrame, *, duration_fallback: bool) -> dict[str, NDArray[Any]]:
    """Return what each row counts as, as flags and numbers."""
    status = rows["status"].cat.set_categories(RUN_STATUSES).cat.codes.to_numpy()
    is_cancelled = rows["is_cancelled"].to_numpy(bool)
    completed = (status == RUN_STATUSES.index("completed")) & ~is_cancelled
    failed = (status == RUN_STATUSES.index("failed")) & ~is_cancelled
    is_open = np.isin(status, [RUN_STATUSES.index(name) for name in OPEN_STATUSES]) & ~is_cancelled
    counted = completed | failed
    known, huge = _believed(rows)
    processed, lost = known["records_processed"], known["records_failed"]
    counts = {name: np.nan_to_num(values, nan=0.0) for name, values in known.items()}
    negative = (counts["records_processed"] < 0) | (counts["records_successful"] < 0) | (counts["records_failed"] < 0)
    off = huge | negative | (counts["records_successful"] + counts["records_failed"] != counts["records_processed"])
    started, ended = _instants(rows["started_at"]), _instants(rows["completed_at"])
    # Whole microseconds: their sums are exact, in whichever order.
    seconds = np.rint(rows["processing_seconds"].to_numpy(np.float64) * 1e6)
    if duration_fallback:
        length = (ended - started).astype(np.float64)
        length[np.isnat(ended) | np.isnat(started)] = np.nan
        seconds = np.where(np.isnan(seconds), length, seconds)
    return {
        "is_counted": counted,
        "syncs_completed": completed,
        "syncs_clean": completed & ((lost == 0) | (np.isnan(lost) & ~off)),
        "syncs_partial": completed & (lost > 0),
        "syncs_failed": failed,
        "syncs_cancelled": is_cancelled,
        "syncs_open": is_open,
        "syncs_empty": completed & (processed == 0),
        "inconsistent": (counted & off) | (completed & np.isnat(ended)),
        "has_huge": counted & huge,
        "is_untrue": counted & (huge | negative),
        **{name: np.where(counted, counts[name], 0.0) for name in _RECORDS},
        "seconds": np.where(completed & (seconds > 0) & (seconds <= _LONGEST_MICROS), seconds, np.nan),
    }


def _believed(rows: pd.DataFrame) -> tuple[dict[str, NDArray[np.float64]], Flags]:
    """
    Return the counts of records, NaN where they are unknown, and which rows have one beyond `COUNT_LIMIT`.

    A source may count in 8 bytes, and two such counts sum to what no integer of 8 bytes holds.
    """
    known, huge = {}, np.zeros(len(rows), dtype=bool)
    for name in _RECORDS:
        known[name] = rows[name].to_numpy(np.float64)
        beyond = np.abs(known[name]) > COUNT_LIMIT
        if beyond.any():
            known[name] = np.where(beyond, np.nan, known[name])
            huge |= beyond
    return known, huge


def _sums(groups: DayGroups, classified: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Return the counts of each group, its score, and the score's interval."""
    flags = (name for name in DAILY_COLUMNS if name.startswith("syncs_") or name == "inconsistent")
    found: dict[str, NDArray[Any]] = {name: groups.number(classified[name]) for name in flags if name in classified}
    found["syncs_total"] = np.bincount(groups.of_row, minlength=groups.count).astype(np.int64)
    found |= {name: groups.sum(classified[name]).astype(np.int64) for name in _RECORDS}
    processed, successful = found["records_processed"], found["records_successful"]
    told = (processed > 0) & (successful + found["records_failed"] == processed)
    told &= groups.number(classified["is_untrue"]) == 0
    score, low, high = percent_with_interval(successful, np.where(told, processed, 0))
    return found | {"quality_score": score, "score_low": low, "score_high": high}


def _durations(groups: DayGroups, micros: NDArray[np.float64]) -> dict[str, NDArray[Any]]:
    """Return number, average and 95th percentile of each group's known durations."""
    known = ~np.isnan(micros)
    group, micros = _sorted_within(groups.of_row[known], micros[known], groups=groups.count)
    count = np.bincount(group, minlength=groups.count).astype(np.int64)
    is_timed = count > 0
    divisor = np.where(is_timed, count, 1)
    average = np.bincount(group, weights=micros, minlength=groups.count) / (divisor * 1e6)
    # ceil(0.95 n), in integers: 0.95 has no exact binary form.
    at_rank = np.cumsum(count) - count + (95 * count + 99) // 100 - 1
    p95 = np.full(groups.count, np.nan)
    p95[is_timed] = micros[at_rank[is_timed]] / 1e6
    return {
        "syncs_timed": count,
        "duration_avg_seconds": np.where(is_timed, average, np.nan),
        "duration_p95_seconds": p95,
    }


def _sorted_within(group: Places, micros: NDArray[np.float64], *, groups: int) -> tuple[Places, NDArray[np.float64]]:
    """Return both by group and then by number; the numbers are whole and positive."""
    step = int(micros.max()) + 1 if len(micros) else 1
    if step * groups >= 2**63:
        order = np.lexsort((micros, group))
        return group[order], micros[order]
    # One sort of whole numbers takes a fifth of the time.
    group, whole = np.divmod(np.sort(group * step + micros.astype(np.int64)), step)
    return group, whole.astype(np.float64)


def _failures_by_class(groups: DayGroups, rows: pd.DataFrame, *, is_failed: Flags) -> dict[str, NDArray[Any]]:
    codes, texts = pd.factorize(rows["error_message"].to_numpy(object)[is_failed])
    # A missing text has code -1, and so the last class of the list.
    classes = np.array([_class_place(str(text)) for text in texts] + [_class_place(None)], dtype=np.int64)[codes]
    places = groups.of_row[is_failed] * len(ERROR_CLASSES) + classes
    table = np.bincount(places, minlength=groups.count * len(ERROR_CLASSES)).reshape(groups.count, len(ERROR_CLASSES))
    return {f"failed_{each}": table[:, number].astype(np.int64) for number, each in enumerate(ERROR_CLASSES)}


@lru_cache(maxsize=10_000)  # of at most 2,000 characters each
def _class_place(message: str | None) -> int:
    found = classify(message)
    # A failed sync whose text says "cancelled" in words that upstream does not use is a failure that tells nothing.
    return ERROR_CLASSES.index(ErrorClass.UNKNOWN if found is ErrorClass.CANCELLED else found)


def _with_details(rows: pd.DataFrame, *, is_counted: Flags) -> tuple[Places, SyncDetails]:
    """Return the places of the rows that may tell of fields, and what they tell."""
    details = rows["details"].to_numpy(object) if "details" in rows else np.full(len(rows), None, dtype=object)
    messages = rows["error_message"].to_numpy(object)
    places = np.flatnonzero(is_counted & (pd.notna(details) | pd.notna(messages)))
    places = places[may_tell(details[places], messages[places])]
    data_type = rows["data_type"].cat.set_categories(DATA_TYPES).cat.codes.to_numpy(np.int64)
    told = pd.DataFrame(
        {
            "data_type": np.array(DATA_TYPES, dtype=object)[data_type[places]],
            "error_message": pd.Series(messages[places], dtype=object),
            "details": pd.Series(details[places], dtype=object),
            "records_processed": rows["records_processed"].to_numpy(np.float64)[places],
        }
    )
    return places, details_of(told)


def _completeness(
    groups: DayGroups, rows: pd.DataFrame, detailed: Places, details: SyncDetails, *, records: NDArray[np.float64]
) -> dict[str, NDArray[Any]]:
    has_detail = np.zeros(len(rows), dtype=bool)
    has_detail[detailed] = details.has_detail
    missing = np.zeros(len(rows))
    missing[detailed] = details.missing_required
    with_detail = groups.sum(np.where(has_detail, records, 0.0)).astype(np.int64)
    lacking = groups.sum(np.where(has_detail, missing, 0.0)).astype(np.int64)
    required = np.array([len(REQUIRED_FIELDS.get(name, ())) for name in sorted(DATA_TYPES)], dtype=np.int64)
    expected = with_detail * required[groups.data_type]
    complete = 100 * (expected - lacking) / np.where(expected > 0, expected, 1)
    return {
        "syncs_with_detail": groups.number(has_detail),
        "records_with_detail": with_detail,
        "missing_required": lacking,
        "completeness": np.where(expected > 0, complete, np.nan),
    }


def _problems(details: SyncDetails, *, huge_counts: int) -> dict[str, int]:
    found = {**details.problems, "huge_count": huge_counts}
    return {kind: number for kind, number in sorted(found.items()) if number}


def _column(values: NDArray[Any]) -> Any:
    # Without the dtype, pandas 3 would make strings of objects, and NaN of None.
    return pd.Series(values, dtype=object) if values.dtype == object else values

"""Syncs of a day, as a frame and as an independent oracle aggregates them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pandas as pd
from hypothesis import strategies as st

from include.sync_health.company_names import CompanyNames
from include.sync_health.daily_quality import DAILY_COLUMNS, DayAggregates, aggregate_days, day_bounds
from include.sync_health.frames import COUNT_COLUMNS, DATA_TYPES, DETAIL_COLUMNS, RUN_COLUMNS, RUN_STATUSES
from tests.sync_health.frames_of import credentials_frame

ZONES = ("UTC", "America/New_York", "Australia/Lord_Howe")  # the last changes its clocks by half an hour
SPRING, AUTUMN = date(2026, 3, 8), date(2026, 11, 1)  # New York's 23 and 25 hours
DAY = date(2026, 3, 10)
BELIEVED = 2_147_483_647  # the source's own counts and seconds are integers of four bytes
SECOND, HOUR = timedelta(seconds=1), timedelta(hours=1)
LATE_DATA_DAYS = 3


@dataclass(frozen=True, kw_only=True)
class Sync:
    """A row of the sync log; None is NULL."""

    started_at: datetime
    completed_at: datetime | None = None
    status: str = "completed"
    is_cancelled: bool = False
    credential: int = 1
    data_type: str = "both"
    counts: tuple[int | None, int | None, int | None] = (0, 0, 0)
    seconds: int | None = None
    error: str | None = None
    details: str | None = None


def noon(day: date = DAY) -> datetime:
    """Return that day's noon in UTC."""
    return datetime(day.year, day.month, day.day, 12, tzinfo=UTC)


def sync(*counts: int | None, took: timedelta = SECOND, **values: Any) -> Sync:
    """Return a sync of `DAY` with these counts, completed unless ``status`` says another."""
    values.setdefault("started_at", noon() - took)
    if values.get("status", "completed") not in ("running", "pending"):
        values.setdefault("completed_at", noon())
    return Sync(counts=counts or (0, 0, 0), **values)  # type: ignore[arg-type]


def frame_of(syncs: Iterable[Sync]) -> pd.DataFrame:
    """Return rows as the reader would with counts."""
    syncs = list(syncs)

    def times(values: Iterable[datetime | None]) -> pd.Series:
        return pd.Series(pd.to_datetime(list(values), utc=True)).astype("datetime64[us, UTC]")

    columns: dict[str, Any] = {
        "sync_id": pd.Series(range(1, len(syncs) + 1), dtype="int64"),
        "credential_id": pd.Series([each.credential for each in syncs], dtype="int64"),
        "data_type": pd.Categorical([each.data_type for each in syncs], categories=DATA_TYPES),
        "status": pd.Categorical([each.status for each in syncs], categories=RUN_STATUSES),
        "is_cancelled": pd.Series([each.is_cancelled for each in syncs], dtype=bool),
        "started_at": times(each.started_at for each in syncs),
        "completed_at": times(each.completed_at for each in syncs),
        "finished_at": times(each.completed_at for each in syncs),
        "error_message": pd.Series([each.error for each in syncs], dtype=object),
        "details": pd.Series([each.details for each in syncs], dtype=object),
        "processing_seconds": pd.Series([each.seconds for each in syncs], dtype="float64"),
    }
    for position, name in enumerate(COUNT_COLUMNS[:3]):
        columns[name] = pd.Series([each.counts[position] for each in syncs], dtype="float64")
    return pd.DataFrame(columns)[[*RUN_COLUMNS, *COUNT_COLUMNS, *DETAIL_COLUMNS]]


def aggregated(*syncs: Sync, days: Iterable[date] = (DAY,), as_of: datetime | None = None, **options: Any) -> Any:
    """Return the aggregates as records; without NaN, which would not equal itself."""
    options = {
        "timezone": "UTC",
        "late_data_days": LATE_DATA_DAYS,
        "names": CompanyNames.of(credentials_frame([1, 2])),
    } | options
    daily = aggregate_days(frame_of(syncs), days=list(days), as_of=as_of or noon(), **options).daily
    assert tuple(daily.columns) == DAILY_COLUMNS
    records = daily.to_dict("records")
    return [
        {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in record.items()}
        for record in records
    ]


def day_of(runs: pd.DataFrame) -> DayAggregates:
    """Return what `DAY` came to, with its fields and problems."""
    return aggregate_days(
        runs,
        names=CompanyNames.of(credentials_frame([1])),
        days=[DAY],
        timezone="UTC",
        as_of=noon(),
        late_data_days=LATE_DATA_DAYS,
    )


def oracle(syncs: Iterable[Sync], *, days: set[date], zone: str, as_of: datetime, fallback: bool) -> dict[Any, Any]:
    """Say the same again from the words of the definitions, row by row."""
    kept: dict[tuple[date, str, str], list[Sync]] = {}
    for each in syncs:
        moment = each.completed_at if each.completed_at is not None else each.started_at
        day = moment.astimezone(ZoneInfo(zone)).date()
        if day in days:
            kept.setdefault((day, str(each.credential), each.data_type), []).append(each)
    result = {}
    for key, group in kept.items():
        cancelled = [each for each in group if each.is_cancelled]
        rest = [each for each in group if not each.is_cancelled]
        completed = [each for each in rest if each.status == "completed"]
        failed = [each for each in rest if each.status == "failed"]
        sums = [0, 0, 0]
        inconsistent = clean = partial = 0
        trusted = True
        for each in completed + failed:
            believed = [None if count is None or abs(count) > BELIEVED else count for count in each.counts]
            is_huge = any(count is not None and abs(count) > BELIEVED for count in each.counts)
            counts = [count or 0 for count in believed]
            sums = [total + count for total, count in zip(sums, counts, strict=True)]
            adds_up = not is_huge and min(counts) >= 0 and counts[1] + counts[2] == counts[0]
            trusted = trusted and not is_huge and min(counts) >= 0
            undated = each.status == "completed" and each.completed_at is None
            inconsistent += 1 if undated or not adds_up else 0
            if each.status == "completed" and (believed[2] == 0 or (believed[2] is None and adds_up)):
                clean += 1
            if each.status == "completed" and believed[2] is not None and believed[2] > 0:
                partial += 1
        processed, successful, lost = sums
        score = None
        if trusted and processed > 0 and successful + lost == processed:
            score = 100 * successful / processed
        durations = []
        for each in completed:
            length = each.seconds
            if length is None and fallback and each.completed_at is not None:
                length = (each.completed_at - each.started_at) / SECOND
            if length is not None and 0 < length <= BELIEVED:
                durations.append(length)
        durations.sort()
        p95 = None
        for rank, length in enumerate(durations, start=1):
            if rank * 100 >= 95 * len(durations):
                p95 = length
                break
        day_was_over_for = (as_of.astimezone(ZoneInfo(zone)).date() - (key[0] + timedelta(days=1))).days
        classes = {
            f"failed_{name}": sum(ERRORS[each.error] == name for each in failed)
            for name in sorted(set(ERRORS.values()))
        }
        result[key] = {
            **classes,
            "syncs_empty": sum(each.counts[0] == 0 for each in completed),
            "syncs_timed": len(durations),
            "syncs_total": len(group),
            "syncs_completed": len(completed),
            "syncs_clean": clean,
            "syncs_partial": partial,
            "syncs_failed": len(failed),
            "syncs_cancelled": len(cancelled),
            "syncs_open": sum(1 for each in rest if each.status in ("pending", "running")),
            "records_processed": processed,
            "records_successful": successful,
            "records_failed": lost,
            "quality_score": score,
            "inconsistent": inconsistent,
            "duration_avg_seconds": sum(durations) / len(durations) if durations else None,
            "duration_p95_seconds": p95,
            "is_final": day_was_over_for >= LATE_DATA_DAYS,
        }
    return result


ERRORS = {
    None: "unknown",
    "HTTP 401 Unauthorized": "auth",
    "HTTP 403 Forbidden": "permission",
    "ServiceTitan API rate limit exceeded": "rate_limit",
    "Idle timeout reached": "timeout",
    "ServiceTitan API server error: 502": "server",
    "Failed to decode ServiceTitan API response": "decode",
    "Bad Request": "validation",
    "Unknown API error": "unknown",
    "sync cancelled by user.": "unknown",  # not upstream's own text: a failure like another
}
"""Error texts and the class that each tells."""

HUGE = st.one_of(
    st.sampled_from((BELIEVED, BELIEVED + 1, 2**53, 2**53 + 1, 2**62, 2**63 - 1)),
    st.integers(BELIEVED - 5, 2**63 - 1),
).flatmap(lambda count: st.sampled_from((count, -count)))

COUNTS = st.one_of(
    st.tuples(st.integers(0, 40), st.integers(0, 40)).map(lambda each: (sum(each), *each)),  # what adds up
    st.tuples(*[st.one_of(st.none(), st.integers(-2, 12))] * 3),
    st.tuples(HUGE, st.integers(0, 5)).map(lambda each: (each[0], each[0] - each[1], each[1])),  # huge, and adds up
    st.tuples(*[st.one_of(st.none(), st.integers(-2, 12), HUGE)] * 3),
)


@st.composite
def sync_days(draw: st.DrawFn) -> tuple[str, list[date], list[Sync]]:
    """A zone, a few days around a change of its clocks, and syncs around the ends of those days."""
    zone = draw(st.sampled_from(ZONES))
    first = draw(st.sampled_from((SPRING, AUTUMN, date(2026, 4, 5), DAY))) - timedelta(days=draw(st.integers(0, 2)))
    days = [first + timedelta(days=number) for number in range(draw(st.integers(1, 4)))]
    edges = [edge for day in days for edge in day_bounds(day, timezone=zone)]
    moments = st.one_of(
        st.tuples(st.sampled_from(edges), st.sampled_from((-SECOND, timedelta(0), SECOND))).map(sum_of),
        st.tuples(st.sampled_from(edges), st.integers(-90_000, 90_000).map(lambda n: timedelta(seconds=n))).map(sum_of),
    )
    syncs = []
    for _ in range(draw(st.integers(0, 25))):
        status = draw(st.sampled_from(RUN_STATUSES))
        at = draw(moments)
        syncs.append(
            Sync(
                started_at=at - timedelta(seconds=draw(st.integers(-3, 7200))),
                completed_at=at if draw(st.integers(0, 5)) else None,
                status=status,
                is_cancelled=status == "cancelled" or (status == "failed" and draw(st.booleans())),
                credential=draw(st.integers(1, 3)),
                data_type=draw(st.sampled_from(DATA_TYPES)),
                counts=draw(COUNTS),
                seconds=draw(st.sampled_from((None, None, None, 0, 3, -1, BELIEVED, 2**62))),
                error=draw(st.sampled_from(list(ERRORS))) if status == "failed" else None,
            )
        )
    return zone, days, syncs


def sum_of(pair: tuple[datetime, timedelta]) -> datetime:
    """Return the moment shifted."""
    return pair[0] + pair[1]

"""The events that service levels count, against the stored rows and single calls."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.sync_health.errors import RequestError, StorageError
from include.sync_health.measuring_policies import ServiceLevelsPolicy
from include.sync_health.response_times import HISTOGRAM_MS, buckets_of, milliseconds_of, share_within
from include.sync_health.service_levels import OBJECTIVE_DAY_COLUMNS, Events, Objective
from include.warehouse.monitoring_session import connect
from include.warehouse.service_level_reader import last_bucket_within, read_budgets, read_objective_days
from tests.sync_health.stored_quality_days import day_row, days_frame
from tests.warehouse.figure_rows import (
    DAY,
    HOUR,
    NOW,
    START,
    analyze,
    call,
    random_calls,
    random_environment_days,
    rows_touched,
    store_calls,
    store_source,
)
from tests.warehouse.stored_history import store_days

FIRST, LAST = date(2025, 12, 24), date(2026, 1, 8)
WITHIN = 5_000.0

Key = tuple[date, str, str]


def read(conn: psycopg.Connection[Any], **options: Any) -> dict[Key, tuple[int, int]]:
    """Return (good, total) by day, environment and objective."""
    asked = {"first": FIRST, "last": LAST, "timezone": "UTC", "within_ms": WITHIN, **options}
    frame = read_objective_days(conn, **asked)
    assert tuple(frame) == OBJECTIVE_DAY_COLUMNS
    rows = [(row["day"], row["environment"], row["objective"]) for row in frame.to_dict("records")]
    order = list(map(str, Objective))
    assert rows == sorted(rows, key=lambda each: (each[0], each[1], order.index(each[2])))
    assert (frame["total"] > 0).all()
    return dict(zip(rows, zip(frame["good"].tolist(), frame["total"].tolist(), strict=True), strict=True))


@pytest.mark.parametrize("seed", range(4))
def test_syncs_and_records_are_those_of_the_stored_days(conn: psycopg.Connection[Any], seed: int) -> None:
    """Loosely successful syncs; records of days that do not contradict themselves. Without an environment: unknown."""
    daily = random_environment_days(seed)
    store_days(conn, daily)
    good: Counter[Key] = Counter()
    total: Counter[Key] = Counter()
    for row in daily.to_dict("records"):
        if FIRST <= row["day"] <= LAST:
            syncs = (row["day"], row["environment"] or "unknown", "sync_completion")
            good[syncs] += row["syncs_completed"]
            total[syncs] += row["syncs_completed"] + row["syncs_failed"]
            if not np.isnan(row["quality_score"]):
                records = (row["day"], row["environment"] or "unknown", "quality")
                good[records] += row["records_successful"]
                total[records] += row["records_processed"]
    assert read(conn) == {key: (good[key], number) for key, number in total.items() if number}
    assert len(total) > 10


@pytest.mark.parametrize(
    "zone", ["UTC", "America/New_York", pytest.param("Asia/Kolkata", id="where hours begin at half past")]
)
@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(
    "within",
    [pytest.param(900.0, id="by buckets"), pytest.param(1_000.0, id="exactly, at a bound of the histogram")],
)
def test_calls_count_on_the_day_in_which_their_hour_begins(
    conn: psycopg.Connection[Any], zone: str, seed: int, within: float
) -> None:
    """Those of the table alone, which are timed, in the range; a call is good when its bucket is."""
    calls = random_calls(seed, hours=96)
    store_calls(conn, calls)
    for source in ("table", "log", "probe"):
        store_source(conn, source)
    first, last = date(2026, 3, 2), date(2026, 3, 4)
    good: Counter[Key] = Counter()
    total: Counter[Key] = Counter()
    for each in calls:
        hour = each["at"].replace(minute=0, second=0, microsecond=0)
        day = hour.astimezone(ZoneInfo(zone)).date()
        if each["source"] == "table" and each["response_ms"] is not None and first <= day <= last:
            key = (day, each["environment"], "api_latency")
            total[key] += 1
            (bucket,) = buckets_of(np.array([each["response_ms"]]))
            is_exact = within in HISTOGRAM_MS
            good[key] += (each["response_ms"] if is_exact else milliseconds_of(int(bucket))) <= within
    found = read(conn, first=first, last=last, timezone=zone, within_ms=within)
    assert found == {key: (good[key], number) for key, number in total.items()}
    assert len(found) >= 6
    assert 0 < sum(good.values()) < total.total()


def test_without_a_source_of_times_there_are_no_calls(conn: psycopg.Connection[Any]) -> None:
    """Not zero of them: the log's and the table's rows stay unread, until one of them is there."""
    days = {"first": START.date(), "last": START.date()}
    store_calls(conn, [call(START), call(START, source="probe", response_ms=9_000.0)])
    assert read(conn, **days) == {}
    store_source(conn, "probe")
    assert read(conn, **days) == {(START.date(), "production", "api_latency"): (0, 1)}
    store_source(conn, "table")
    assert read(conn, **days) == {(START.date(), "production", "api_latency"): (1, 1)}


@given(milliseconds=st.floats(0, 200_000), bound=st.floats(0, 200_000))
def test_a_call_is_good_exactly_when_its_bucket_is(milliseconds: float, bound: float) -> None:
    """As `share_within` has it."""
    (bucket,) = map(int, buckets_of(np.array([milliseconds])))
    assert (bucket <= last_bucket_within(bound)) == (share_within({bucket: 1}, bound) == 1)


def test_budgets_are_of_the_whole_days_before_today(conn: psycopg.Connection[Any]) -> None:
    """
    28 days up to yesterday of the reporting zone: in New York at 03:00 UTC the day before is not over.

    Each day has 98 completed of 100 syncs, and 990 good of 1000 records; 4 of 100 calls are slow.
    """
    now = datetime(2026, 3, 30, 3, 0, tzinfo=UTC)
    today = date(2026, 3, 29)
    ended = {"syncs_total": 100, "syncs_completed": 98, "syncs_clean": 98, "syncs_partial": 0, "syncs_failed": 2}
    rows = [day_row(today - ago * DAY, processed=1_000, successful=990, **ended) for ago in range(-1, 40)]
    store_days(conn, days_frame(*rows))
    store_source(conn, "table")
    at = datetime(2026, 3, 28, 23, 30, tzinfo=ZoneInfo("America/New_York"))
    store_calls(conn, [call(at, response_ms=6_000.0 if number < 4 else 50.0) for number in range(100)])
    store_calls(conn, [call(at + HOUR)])

    levels = ServiceLevelsPolicy()
    syncs, records, calls = read_budgets(conn, levels=levels, timezone="America/New_York", now=now)

    assert {each.environment for each in (syncs, records, calls)} == {"production"}
    assert (syncs.first, syncs.last) == (date(2026, 3, 1), date(2026, 3, 28))
    assert syncs.events == Events(good=28 * 98, total=2_800)
    assert (syncs.left, syncs.burn_long, syncs.burn_short) == (-100.0, 2.0, 2.0)
    assert records.events == Events(good=28 * 990, total=28_000)
    assert (records.left, records.burn_long) == (50.0, 0.5)
    assert calls.events == Events(good=96, total=100)
    assert (calls.left, calls.burn_short) == (20.0, 0.8)


def test_where_nothing_is_stored_there_is_no_budget(conn: psycopg.Connection[Any]) -> None:
    assert read(conn) == {}
    assert read_budgets(conn, levels=ServiceLevelsPolicy(), timezone="UTC", now=NOW) == ()
    with pytest.raises(RequestError, match="last: 2025-12-24 is before first"):
        read(conn, first=LAST, last=FIRST)


def test_without_the_schema_it_is_a_line_that_says_what_to_do(make_database: Callable[..., str]) -> None:
    with connect(make_database("bare")) as conn, pytest.raises(StorageError, match="migrate"):
        read(conn)


def test_the_cost_follows_the_days(conn: psycopg.Connection[Any]) -> None:
    """Of a year of ten credentials and of 90 days of calls, a week is read."""
    store_days(
        conn, days_frame(*(day_row(START.date(), n=n, credential=str(c)) for n in range(365) for c in range(10)))
    )
    store_source(conn, "table")
    conn.execute(
        "INSERT INTO monitoring.api_call_hourly (hour, source, credential_id, environment, company_id, endpoint,"
        " status_code, requests, errors, response_count, response_ms_sum, response_buckets, histogram, updated_at)"
        " SELECT hour, 'table', credential::text, 'production', '3', '/x', 200, 1, 0, 1, 100, '{\"115\": 1}',"
        " '{0,1,0,0,0,0,0,0,0,0,0}', %s"
        " FROM generate_series(%s::timestamptz, %s, interval '1 hour') AS hour, generate_series(1, 3) AS credential",
        (NOW, START, START + 90 * DAY - timedelta(seconds=1)),
    )
    for table in ("quality_daily", "api_call_hourly"):
        analyze(conn, table)
    week = {"first": START.date() + 30 * DAY, "last": START.date() + 36 * DAY}
    touched = rows_touched(conn, lambda watched: read(watched, **week))
    assert 0 < touched["quality_daily"] <= 70
    assert 0 < touched["api_call_hourly"] <= 7 * 24 * 3

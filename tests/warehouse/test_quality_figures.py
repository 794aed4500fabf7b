"""The figures of data quality against plain sums, and against the roll-ups of the rows themselves."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import numpy as np
import pandas as pd
import psycopg
import pytest

from include.sync_health.errors import RequestError
from include.sync_health.field_quality import REQUIRED_FIELDS
from include.sync_health.proportions import percent_with_interval
from include.sync_health.quality_rollups import Period, roll_up
from include.warehouse.quality_figures import (
    FIELD_COLUMNS,
    TREND_COLUMNS,
    QualityTotals,
    quality_by_field,
    quality_of_days,
    quality_trend,
)
from include.warehouse.quality_history import read_daily
from tests.sync_health.stored_quality_days import day_row, days_frame
from tests.warehouse.figure_rows import analyze, random_environment_days, rows_touched
from tests.warehouse.stored_history import store_days

FIRST, LAST = date(2025, 12, 24), date(2026, 1, 8)
DAY = timedelta(days=1)
RANGE = {"first": FIRST, "last": LAST}
SCOPES = [
    pytest.param({}, id="all"),
    pytest.param({"environment": "integration"}, id="an environment"),
    pytest.param({"environment": "unknown"}, id="none that was recorded is unknown"),
    pytest.param({"credential_id": "1", "data_type": "invoices"}, id="a credential's data type"),
    pytest.param({"data_type": "both"}, id="a data type without required fields of its own"),
]


def chosen(daily: pd.DataFrame, asked: dict[str, str]) -> list[dict[str, Any]]:
    """Return the rows of the range that are asked for."""
    rows: list[dict[str, Any]] = [{str(key): each for key, each in row.items()} for row in daily.to_dict("records")]
    for row in rows:
        row["environment"] = row["environment"] or "unknown"
    return [row for row in rows if FIRST <= row["day"] <= LAST and all(row[key] == each for key, each in asked.items())]


def told(value: float | None) -> Any:
    return None if value is None or np.isnan(value) else pytest.approx(value, rel=1e-9)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("asked", SCOPES)
def test_days_are_sums_of_their_rows(conn: psycopg.Connection[Any], asked: dict[str, str], seed: int) -> None:
    """Of both definitions, with days that contradict themselves and days without detail."""
    daily = random_environment_days(seed)
    store_days(conn, daily)
    rows = chosen(daily, asked)
    scored = [row for row in rows if not np.isnan(row["quality_score"])]
    detailed = [row for row in rows if not np.isnan(row["records_with_detail"])]

    found = quality_of_days(conn, **RANGE, **asked)  # type: ignore[arg-type]

    whole, good = (sum(row[f"records_{name}"] for row in scored) for name in ("processed", "successful"))
    assert (found.records_scored, found.successful_scored) == (whole, good)
    assert found.records_processed == sum(row["records_processed"] for row in rows)
    assert found.records_failed == sum(row["records_failed"] for row in rows)
    assert told(found.quality_score) == told(100 * good / whole if whole else None)
    assert told(found.failure_rate) == told(100 * (whole - good) / whole if whole else None)
    interval = percent_with_interval(np.array([good]), np.array([whole]))[1:]
    assert (told(found.score_low), told(found.score_high)) == tuple(told(float(each[0])) for each in interval)
    expected = sum(row["records_with_detail"] * len(REQUIRED_FIELDS[row["data_type"]]) for row in detailed)
    absent = sum(row["missing_required"] for row in detailed if REQUIRED_FIELDS[row["data_type"]])
    assert told(found.completeness) == told(100 * (1 - absent / expected) if expected else None)
    ended = sum(row["syncs_completed"] + row["syncs_failed"] for row in detailed)
    with_detail = sum(row["syncs_with_detail"] for row in detailed)
    assert found.syncs_with_detail == with_detail
    assert told(found.coverage) == told(100 * with_detail / ended if ended else None)


def test_a_large_credential_weighs_what_it_has(conn: psycopg.Connection[Any]) -> None:
    """Ten records that all failed beside 990 that did not are 1 %, not 50 %; contradicting counts are left out."""
    store_days(
        conn,
        days_frame(
            day_row(FIRST, credential="1", processed=10, successful=0),
            day_row(FIRST, credential="2", processed=990, successful=990),
            day_row(FIRST, credential="3", processed=77, successful=99, scored=False, inconsistent=1),
        ),
    )
    found = quality_of_days(conn, **RANGE)
    assert (found.failure_rate, found.quality_score) == (1.0, 99.0)
    assert (found.records_processed, found.records_scored, found.inconsistent) == (1_077, 1_000, 1)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("asked", SCOPES)
@pytest.mark.parametrize("period", list(Period))
def test_a_trend_is_the_roll_up_of_the_rows_themselves(
    conn: psycopg.Connection[Any], period: Period, asked: dict[str, str], seed: int
) -> None:
    """Summed in the database or not: days, whole weeks, and the 28 days up to each computed day of the range."""
    daily = random_environment_days(seed)
    store_days(conn, daily)
    rows = read_daily(conn)
    rows["environment"] = rows["environment"].where(rows["environment"].notna(), "unknown")
    for name, each in asked.items():
        rows = rows[rows[name] == each]
    ends = sorted({day for day in daily["day"] if FIRST <= day <= LAST}) if period is Period.DAYS_28 else None
    expected = roll_up(rows, period=period, by=(), ends=ends)
    keep = [
        (first <= LAST and last >= FIRST) if period is Period.WEEK else FIRST <= last <= LAST
        for first, last in zip(expected["first_day"], expected["last_day"], strict=True)
    ]
    expected = expected[keep].reset_index(drop=True)

    found = quality_trend(conn, **RANGE, period=period, **asked)  # type: ignore[arg-type]

    assert tuple(found) == TREND_COLUMNS
    shared = [name for name in TREND_COLUMNS if name != "failure_rate"]
    pd.testing.assert_frame_equal(found[shared], expected[shared], rtol=1e-9)
    np.testing.assert_allclose(found["failure_rate"], 100 - expected["quality_score"], rtol=1e-9, atol=1e-9)
    assert asked or len(found) >= 3


def store_fields(conn: psycopg.Connection[Any], *rows: tuple[Any, ...]) -> None:
    """Store fields that failed: day, credential, data type, field, required, syncs, failures, missing, share."""
    with conn.cursor() as cursor:
        cursor.executemany(
            b"INSERT INTO monitoring.field_quality_daily VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, NULL)", rows
        )
    conn.commit()


def test_a_fields_rate_is_of_all_records_with_detail(conn: psycopg.Connection[Any]) -> None:
    """
    Also of those of days and credentials in which it did not fail, and without the failures that no detail told.

    Credential 1 has 1000 records with detail on the first day (30 without a total) and 1000 on the next (0);
    credential 2 has 3000, of which a third of a percent have no total; one more failure was told by a message alone.
    """
    detail = {"processed": 5_000, "successful": 5_000}
    daily = days_frame(
        day_row(FIRST, credential="1", records_with_detail=1_000, syncs_with_detail=1, **detail),
        day_row(FIRST, n=1, credential="1", records_with_detail=1_000, syncs_with_detail=1, **detail),
        day_row(FIRST, credential="2", records_with_detail=3_000, syncs_with_detail=1, **detail),
        day_row(FIRST, n=2, credential="2", **detail),
        day_row(FIRST, credential="2", data_type="customers", records_with_detail=9, syncs_with_detail=1, **detail),
        day_row(FIRST, n=60, credential="1", records_with_detail=1_000, syncs_with_detail=1, **detail),
    )
    store_days(conn, daily)
    store_fields(
        conn,
        (FIRST, "1", "invoices", "total", True, 2, 30, 20, 3.0),
        (FIRST, "2", "invoices", "total", True, 1, 10, 10, 100 * 10 / 3_000),
        (FIRST + 2 * DAY, "2", "invoices", "total", True, 1, 1, 0, None),
        (FIRST, "2", "invoices", "memo", False, 1, 41, 0, 100 * 41 / 3_000),
        (FIRST, "2", "customers", "name", True, 1, 3, 3, 100 * 3 / 9),
        (FIRST + 60 * DAY, "1", "invoices", "total", True, 1, 900, 900, 90.0),
    )

    found = quality_by_field(conn, **RANGE)

    assert tuple(found) == FIELD_COLUMNS
    assert found[list(FIELD_COLUMNS[:-1])].values.tolist() == [
        ["invoices", "memo", False, 1, 1, 41, 0],
        ["invoices", "total", True, 2, 4, 41, 30],
        ["customers", "name", True, 1, 1, 3, 3],
    ]
    assert found["failure_rate"].tolist() == [100 * 41 / 5_000, 100 * 40 / 5_000, 100 * 3 / 9]
    assert quality_by_field(conn, **RANGE, credential_id="1")["failure_rate"].tolist() == [1.5]
    assert quality_by_field(conn, **RANGE, data_type="customers")["field"].tolist() == ["name"]
    assert quality_by_field(conn, **RANGE, most=1)["field"].tolist() == ["memo"]
    assert quality_by_field(conn, **RANGE, environment="integration").empty
    alone = quality_by_field(conn, first=FIRST + 2 * DAY, last=LAST)
    assert alone["failures"].tolist() == [1]
    assert alone["failure_rate"].isna().all()


def test_failed_records_of_a_log_that_tells_no_outcomes_are_unknown(conn: psycopg.Connection[Any]) -> None:
    """Its days are stored with 0 for them; what was processed is known, and there is no rate."""
    unclear = {"syncs_clean": 0, "syncs_partial": 0, "successful": 0, "records_failed": 0, "scored": False}
    store_days(conn, days_frame(day_row(FIRST, **unclear, processed=40), day_row(FIRST + DAY, processed=20)))

    found = quality_of_days(conn, **RANGE)
    blind = quality_of_days(conn, first=FIRST, last=FIRST)

    assert (found.records_processed, found.records_failed, found.records_scored) == (60, None, 20)
    assert found.unavailable is not None
    assert found.unavailable.startswith(
        "How many records succeeded or failed is not known of 5 of 10 syncs that ended."
    )
    assert (blind.records_processed, blind.records_failed, blind.failure_rate) == (40, None, None)
    seen = quality_of_days(conn, first=FIRST + DAY, last=LAST)
    assert (seen.records_failed, seen.unavailable) == (5, None)


def test_where_nothing_is_stored_nothing_is_known(conn: psycopg.Connection[Any]) -> None:
    found = quality_of_days(conn, **RANGE)
    assert found == QualityTotals()
    assert (found.failure_rate, found.quality_score, found.completeness, found.coverage) == (None, None, None, None)
    for period in Period:
        empty = quality_trend(conn, **RANGE, period=period)
        assert empty.empty
        assert tuple(empty) == TREND_COLUMNS
    assert tuple(quality_by_field(conn, **RANGE)) == FIELD_COLUMNS
    assert quality_by_field(conn, **RANGE).empty


def test_a_range_that_is_none_is_refused(conn: psycopg.Connection[Any]) -> None:
    for figure in (quality_of_days, quality_trend, quality_by_field):
        with pytest.raises(RequestError, match="last: 2025-12-24 is before first, 2026-01-08"):
            figure(conn, first=LAST, last=FIRST)


def test_the_cost_follows_the_range(conn: psycopg.Connection[Any]) -> None:
    """Of a year of ten credentials a week is read, and the fields of that week alone."""
    store_days(conn, days_frame(*(day_row(FIRST, n=n, credential=str(c)) for n in range(365) for c in range(10))))
    store_fields(
        conn,
        *(
            (FIRST + n * DAY, str(c), "invoices", field, True, 1, 1, 1, None)
            for n in range(365)
            for c in range(10)
            for field in ("id", "total")
        ),
    )
    analyze(conn, "quality_daily")
    analyze(conn, "field_quality_daily")
    week = {"first": FIRST + 100 * DAY, "last": FIRST + 106 * DAY}
    assert rows_touched(conn, lambda watched: quality_of_days(watched, **week))["quality_daily"] <= 70
    touched = rows_touched(conn, lambda watched: quality_by_field(watched, **week))
    assert touched["quality_daily"] <= 70
    assert touched["field_quality_daily"] <= 140

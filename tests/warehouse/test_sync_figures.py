"""The figures of syncs against plain sums over the rows that are stored."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime
from typing import Any

import psycopg
import pytest

from include.sync_health.daily_quality import ERROR_CLASSES
from include.sync_health.errors import RequestError, StorageError
from include.warehouse.monitoring_session import connect
from include.warehouse.sync_figures import (
    DAY_COLUMNS,
    HOUR_COLUMNS,
    syncs_by_day,
    syncs_by_hour,
    syncs_of_days,
    syncs_of_hours,
)
from include.warehouse.sync_totals import KnownPart, SyncTotals
from tests.sync_health.stored_quality_days import day_row, days_frame
from tests.warehouse.figure_rows import (
    DAY,
    HOUR,
    START,
    analyze,
    day_of,
    random_environment_days,
    random_hours,
    rows_touched,
    store_hours,
    sync_hour,
)
from tests.warehouse.stored_history import store_days

END = START + 48 * HOUR
FIRST, LAST = date(2025, 12, 22), date(2026, 1, 8)


def share(part: float, whole: float) -> float | None:
    return 100 * part / whole if whole else None


def told(value: float | None) -> Any:
    """None and NaN are one; floats are equal but for the last digits."""
    return None if value is None or value != value else pytest.approx(value, rel=1e-9)


def exactly(value: float) -> float | None:
    """NaN is None."""
    return None if value != value else value


@pytest.mark.parametrize("unread", [False, True], ids=["all counts are read", "some are not"])
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    "asked",
    [
        pytest.param({}, id="all"),
        pytest.param({"environment": "integration"}, id="an environment"),
        pytest.param({"data_type": "customers"}, id="a data type"),
        pytest.param({"environment": "unknown", "data_type": "invoices"}, id="both"),
        pytest.param({"environment": "nowhere"}, id="one that is not there"),
    ],
)
def test_hours_are_sums_of_their_rows(
    emptied: psycopg.Connection[Any], asked: dict[str, str], seed: int, unread: bool
) -> None:
    """
    Each hour, and all of them; the hour that begins with the range is in it, the one with its end is not.

    A sum with an unknown part is unknown, and a rate is of the known part, whose share is told.
    """
    conn = emptied
    stored = random_hours(seed, unread=unread)
    store_hours(conn, stored)
    chosen = [
        row for row in stored if START <= row["hour"] < END and all(row[name] == each for name, each in asked.items())
    ]

    frame = syncs_by_hour(conn, start=START, end=END, **asked)
    totals = syncs_of_hours(conn, start=START, end=END, **asked)

    assert tuple(frame) == HOUR_COLUMNS
    assert list(frame["hour"]) == sorted({row["hour"] for row in chosen})
    for row in frame.to_dict("records"):
        expected = sums_of([each for each in chosen if each["hour"] == row["hour"]])
        assert {name: exactly(row[name]) for name in expected if name in row} == {
            name: each for name, each in expected.items() if name in row
        }
        assert rates_of([each for each in chosen if each["hour"] == row["hour"]]) == {
            name: told(row[name]) for name in RATES
        }
        assert told(row["duration_avg_seconds"]) == told(share(expected["duration_seconds"] / 100, expected["timed"]))
    expected = sums_of(chosen)
    assert totals.total == expected["started"]
    assert (totals.completed, totals.clean, totals.partial) == tuple(
        expected[n] for n in ("completed", "clean", "partial")
    )
    assert (totals.failed, totals.cancelled) == (expected["failed"], expected["cancelled"])
    assert (totals.records_processed, totals.records_successful, totals.records_failed) == tuple(
        expected[f"records_{name}"] for name in ("processed", "successful", "failed")
    )
    assert rates_of(chosen) == {name: told(getattr(totals, name)) for name in RATES}
    assert (totals.unavailable is None) is (totals.outcome_coverage in (None, 100))
    assert told(totals.duration_avg_seconds) == told(share(expected["duration_seconds"] / 100, expected["timed"]))
    by_class = {name: sum(row["failed_by_class"].get(name, 0) for row in chosen) for name in ("server", "auth")}
    assert totals.failed_by_class == {name: number for name, number in by_class.items() if number}
    assert totals.failed_unclassified == 0
    assert asked == {"environment": "nowhere"} or len(frame) > 5


def sums_of(rows: list[dict[str, Any]]) -> dict[str, Any]:
    names = {
        "started": "syncs_started",
        "completed": "syncs_completed",
        "clean": "syncs_clean",
        "partial": "syncs_partial",
        "failed": "syncs_failed",
        "cancelled": "syncs_cancelled",
        "timed": "syncs_timed",
        "duration_seconds": "duration_seconds_sum",
        "records_processed": "records_processed",
        "records_successful": "records_successful",
        "records_failed": "records_failed",
    }
    return {
        name: None if None in (values := [row[column] for row in rows]) else sum(values)
        for name, column in names.items()
    }


RATES = ("success_rate", "strict_success_rate", "records_per_sync", "records_coverage", "outcome_coverage")


def rates_of(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the rates by their definitions, of the rows that know what each needs."""

    def ended(rows: list[dict[str, Any]]) -> int:
        return sum(row["syncs_completed"] + row["syncs_failed"] for row in rows)

    counted = [row for row in rows if row["records_processed"] is not None]
    judged = [row for row in rows if row["syncs_clean"] is not None]
    return {
        "success_rate": told(share(sum(row["syncs_completed"] for row in rows), ended(rows))),
        "strict_success_rate": told(share(sum(row["syncs_clean"] for row in judged), ended(judged))),
        "records_per_sync": told(share(sum(row["records_processed"] for row in counted) / 100, ended(counted))),
        "records_coverage": told(share(ended(counted), ended(rows))),
        "outcome_coverage": told(share(ended(judged), ended(rows))),
    }


def test_a_rate_counts_a_partial_sync_as_success_only_when_loose(conn: psycopg.Connection[Any]) -> None:
    """Of ten that ended, nine completed, and six of these lost no record; what a user cancelled is neither."""
    store_hours(
        conn,
        [sync_hour(START, syncs_completed=9, syncs_clean=6, syncs_partial=3, syncs_failed=1, syncs_cancelled=40)],
    )
    found = syncs_of_hours(conn, start=START, end=END)
    assert (found.success_rate, found.strict_success_rate, found.finished) == (90.0, 60.0, 10)


def test_reasons_come_the_most_frequent_first(conn: psycopg.Connection[Any]) -> None:
    """And a failure of which nobody recorded the class is told as such."""
    store_hours(
        conn,
        [
            sync_hour(START, syncs_failed=4, failed_by_class={"auth": 1, "timeout": 3}),
            sync_hour(START + HOUR, syncs_failed=4, failed_by_class={"auth": 1, "server": 2}),
        ],
    )
    found = syncs_of_hours(conn, start=START, end=END)
    assert list(found.failed_by_class.items()) == [("timeout", 3), ("auth", 2), ("server", 2)]
    assert (found.failed, found.failed_unclassified) == (8, 1)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    "asked",
    [
        pytest.param({}, id="all"),
        pytest.param({"environment": "production"}, id="an environment"),
        pytest.param({"environment": "unknown"}, id="none that was recorded is unknown"),
        pytest.param({"credential_id": "1"}, id="a credential"),
        pytest.param({"credential_id": "2", "data_type": "both", "environment": "integration"}, id="all three"),
        pytest.param({"credential_id": "99"}, id="one that is not there"),
    ],
)
def test_days_are_sums_of_their_rows(conn: psycopg.Connection[Any], asked: dict[str, str], seed: int) -> None:
    """Of both definitions of a day; a computed day without such a sync has zeros and no rate."""
    daily = random_environment_days(seed)
    store_days(conn, daily)
    rows = [row for row in daily.to_dict("records") if FIRST <= row["day"] <= LAST]
    chosen = [
        row
        for row in rows
        if all((row[name] or "unknown" if name == "environment" else row[name]) == each for name, each in asked.items())
    ]

    frame = syncs_by_day(conn, first=FIRST, last=LAST, **asked)
    totals = syncs_of_days(conn, first=FIRST, last=LAST, **asked)

    assert tuple(frame) == DAY_COLUMNS
    assert list(frame["day"]) == sorted({row["day"] for row in rows})
    for row in frame.to_dict("records"):
        mine = [each for each in chosen if each["day"] == row["day"]]
        for name in ("total", "completed", "clean", "partial", "failed", "cancelled", "open"):
            assert row[name] == sum(each[f"syncs_{name}"] for each in mine)
        for name in ("records_processed", "records_successful", "records_failed"):
            assert row[name] == sum(each[name] for each in mine)
        expected = day_totals(mine)
        for name in ("success_rate", "strict_success_rate", "duration_avg_seconds", "records_per_sync"):
            assert told(row[name]) == told(getattr(expected, name))
    expected = day_totals(chosen)
    for name in ("total", "completed", "clean", "partial", "failed", "cancelled", "timed", "records_processed"):
        assert getattr(totals, name) == getattr(expected, name)
    for name in ("success_rate", "strict_success_rate", "duration_avg_seconds", "records_per_sync"):
        assert told(getattr(totals, name)) == told(getattr(expected, name))
    assert totals.failed_by_class == expected.failed_by_class
    assert totals.failed_unclassified == expected.failed_unclassified


def day_totals(rows: list[dict[str, Any]]) -> SyncTotals:
    """Return what plain sums say."""

    def known(name: str) -> list[dict[str, Any]]:
        return [row for row in rows if row[name] == row[name]]

    by_class = {str(each): int(sum(row[f"failed_{each}"] for row in known(f"failed_{each}"))) for each in ERROR_CLASSES}
    timed = [row for row in known("syncs_timed") if row["syncs_timed"]]
    counts = {
        name: sum(row[f"syncs_{name}"] for row in rows)
        for name in ("total", "completed", "clean", "partial", "failed", "cancelled")
    }
    ended = counts["completed"] + counts["failed"]
    processed = sum(row["records_processed"] for row in rows)
    return SyncTotals(
        **counts,
        known=KnownPart(counted=ended, records_processed=processed, judged=ended, clean=counts["clean"]),
        timed=int(sum(row["syncs_timed"] for row in timed)),
        duration_seconds=sum(row["duration_avg_seconds"] * row["syncs_timed"] for row in timed),
        records_processed=processed,
        failed_by_class={name: number for name, number in by_class.items() if number},
        failed_unclassified=counts["failed"] - sum(by_class.values()),
    )


def test_a_day_is_final_when_all_its_rows_are(conn: psycopg.Connection[Any]) -> None:
    store_days(
        conn,
        days_frame(
            day_row(FIRST), day_row(FIRST, credential="8", is_final=False), day_row(FIRST, n=1), day_row(FIRST, n=3)
        ),
    )
    found = syncs_by_day(conn, first=FIRST, last=FIRST + 2 * DAY)
    assert list(zip(found["day"], found["is_final"], strict=True)) == [(FIRST, False), (FIRST + DAY, True)]


def test_where_nothing_is_stored_nothing_is_known(conn: psycopg.Connection[Any]) -> None:
    """No zero for a rate, no error, and no division by zero."""
    for found in (
        syncs_of_hours(conn, start=START, end=END),
        syncs_of_days(conn, first=FIRST, last=LAST),
    ):
        assert found == SyncTotals()
        assert (found.success_rate, found.strict_success_rate) == (None, None)
        assert (found.duration_avg_seconds, found.records_per_sync) == (None, None)
    assert tuple(syncs_by_hour(conn, start=START, end=END)) == HOUR_COLUMNS
    assert syncs_by_hour(conn, start=START, end=END).empty
    assert syncs_by_day(conn, first=FIRST, last=LAST).empty


def test_a_range_that_is_none_is_refused(conn: psycopg.Connection[Any]) -> None:
    naive = datetime(2026, 3, 2)  # noqa: DTZ001 -- refused for it
    with pytest.raises(RequestError, match=r"end: .* is not after start"):
        syncs_by_hour(conn, start=START, end=START)
    with pytest.raises(RequestError, match=r"start: 2026-03-02T00:00:00 has no time zone; add one"):
        syncs_of_hours(conn, start=naive, end=END)
    with pytest.raises(RequestError, match="last: 2025-12-22 is before first, 2026-01-08"):
        syncs_by_day(conn, first=LAST, last=FIRST)
    with pytest.raises(RequestError, match="last"):
        syncs_of_days(conn, first=LAST, last=FIRST)


def test_without_the_schema_it_is_a_line_that_says_what_to_do(make_database: Callable[..., str]) -> None:
    with connect(make_database("bare")) as conn, pytest.raises(StorageError, match="migrate"):
        syncs_of_hours(conn, start=START, end=END)


def test_the_cost_follows_the_range(conn: psycopg.Connection[Any]) -> None:
    """Of a year of hours a day's are read, and of a year of days a week's, or those of one credential."""
    conn.execute(
        "INSERT INTO monitoring.sync_hour SELECT hour, 'production', kind, 1, 1, 1, 0, 0, 0, 1, 2.5, 10, 10, 0, '{}', now()"
        " FROM generate_series(%s::timestamptz, %s::timestamptz + interval '1 year', interval '1 hour') AS hour,"
        " unnest(ARRAY['both', 'customers', 'invoices']) AS kind",
        (START, START),
    )
    analyze(conn, "sync_hour")
    day = {"start": START + 99 * DAY, "end": START + 100 * DAY}
    assert rows_touched(conn, lambda watched: syncs_by_hour(watched, **day)) == {"sync_hour": 72}
    assert rows_touched(conn, lambda watched: syncs_of_hours(watched, **day))["sync_hour"] == 144

    daily = days_frame(*(day_row(day_of(0), n=n, credential=str(c)) for n in range(365) for c in range(10)))
    store_days(conn, daily)
    analyze(conn, "quality_daily")
    week = {"first": day_of(300), "last": day_of(306)}
    assert rows_touched(conn, lambda watched: syncs_by_day(watched, **week))["quality_daily"] <= 70
    assert rows_touched(conn, lambda watched: syncs_of_days(watched, credential_id="3", **week))["quality_daily"] <= 7

"""What is stored of the daily quality, in a few numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date, timedelta
from typing import Any

import psycopg
import pytest

from include.warehouse.migration import upgrade
from include.warehouse.monitoring_session import connect
from include.warehouse.stored_quality import StoredQuality, stored_quality
from tests.warehouse.monitoring_records import NOW
from tests.warehouse.replaced_days import TODAY, YESTERDAY, daily, replace


@pytest.fixture
def conn(make_database: Callable[..., str]) -> Iterator[psycopg.Connection[Any]]:
    """A session with a migrated database."""
    dsn = make_database("stored")
    upgrade(dsn)
    with connect(dsn) as conn:
        yield conn


def computed(conn: psycopg.Connection[Any], *days: date, timezone: str = "Pacific/Apia", version: int = 2) -> None:
    """Write days of three rows into the ledger; every other one is final."""
    for number, day in enumerate(days):
        conn.execute(
            "INSERT INTO monitoring.quality_day (day, read_at, rows, is_final, timezone, calc_version)"
            " VALUES (%s, %s, 3, %s, %s, %s)",
            (day, NOW, number % 2 == 0, timezone, version),
        )


def december(*days: int) -> list[date]:
    """Return days around the one that Samoa left out: December 30, 2011."""
    return [date(2011, 12, day) for day in days]


def test_nothing_is_stored(conn: psycopg.Connection[Any]) -> None:
    assert stored_quality(conn, calc_version=2, timezone="UTC") == StoredQuality(
        first=None, last=None, days=0, final=0, missing=0, outdated=0, rows=0, revisions=0, last_revised_at=None
    )


@pytest.mark.parametrize(
    ("days", "zone", "missing", "outdated"),
    [
        pytest.param(december(27, 28, 31), "Pacific/Apia", 1, 0, id="the 29th is missing, the 30th is no day"),
        pytest.param(december(29, 31), "Pacific/Apia", 0, 0, id="nothing is missing"),
        pytest.param(december(29, 31), "UTC", 1, 2, id="in UTC the 30th is missing, and the others are outdated"),
        pytest.param(december(31), "Pacific/Apia", 0, 0, id="a day"),
    ],
)
def test_a_day_that_the_zone_skips_is_not_missing(
    conn: psycopg.Connection[Any], days: list[date], zone: str, missing: int, outdated: int
) -> None:
    """No backfill could ever compute it."""
    computed(conn, *days)
    found = stored_quality(conn, calc_version=2, timezone=zone)

    assert (found.missing, found.outdated) == (missing, outdated)
    assert (found.first, found.last, found.days, found.rows) == (days[0], days[-1], len(days), 3 * len(days))
    assert found.final == (len(days) + 1) // 2


def test_a_day_that_the_zone_skips_is_not_outdated(conn: psycopg.Connection[Any]) -> None:
    """It was one in UTC, before the reporting zone was changed; likewise of an older definition."""
    computed(conn, *december(29, 30), timezone="UTC")
    computed(conn, *december(31), version=1)

    assert stored_quality(conn, calc_version=2, timezone="Pacific/Apia").outdated == 2


def test_revisions_are_counted(conn: psycopg.Connection[Any]) -> None:
    """With the moment of the last."""
    for day in (YESTERDAY, TODAY):
        replace(conn, daily(day=day, is_final=True, records_failed=3), days=[day])
    for day, at in ((YESTERDAY, NOW + timedelta(hours=1)), (TODAY, NOW + timedelta(hours=2))):
        replace(conn, daily(day=day, is_final=True, records_failed=1), days=[day], at=at)
    found = stored_quality(conn, calc_version=2, timezone="UTC")

    assert (found.days, found.rows, found.revisions) == (2, 2, 2)
    assert found.last_revised_at == (NOW + timedelta(hours=2)).isoformat()

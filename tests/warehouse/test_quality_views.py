"""The views for reports say what the core says, and look up only the days that are asked for."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from typing import Any

import pandas as pd
import psycopg
import pytest
from psycopg.rows import dict_row

from include.sync_health.quality_rollups import RATIO_COLUMNS, ROLL_UP_KEY, SUMMED_COLUMNS, Period, roll_up
from include.warehouse.migration import upgrade
from include.warehouse.monitoring_session import connect
from include.warehouse.quality_history import computed_days, read_daily
from tests.sync_health.stored_quality_days import day_row, days_frame, random_days
from tests.warehouse.monitoring_records import MINUTE, NOW
from tests.warehouse.stored_history import store_days, store_field, store_name, store_revision

DAY = date(2026, 3, 2)
NAMES = (
    "bi_field_quality_daily",
    "bi_quality_28_days",
    "bi_quality_daily",
    "bi_quality_days",
    "bi_quality_revisions",
    "bi_quality_weekly",
)


@pytest.fixture
def conn(make_database: Callable[..., str]) -> Iterator[psycopg.Connection[Any]]:
    """A session with a migrated database."""
    dsn = make_database("views")
    upgrade(dsn)
    with connect(dsn) as conn:
        yield conn


def rows_of(conn: psycopg.Connection[Any], view: str) -> list[dict[str, Any]]:
    with conn.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(f"SELECT * FROM monitoring.{view} ORDER BY 2, 1".encode()).fetchall()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("view", "period"),
    [
        pytest.param("bi_quality_weekly", Period.WEEK, id="weeks"),
        pytest.param("bi_quality_28_days", Period.DAYS_28, id="28 days"),
    ],
)
def test_a_view_and_the_core_give_the_same_numbers(
    conn: psycopg.Connection[Any], view: str, period: Period, seed: int
) -> None:
    store_days(conn, random_days(seed))
    ends = list(computed_days(conn)["day"]) if period is Period.DAYS_28 else None
    expected = roll_up(read_daily(conn), period=period, ends=ends)
    shared = ["first_day", "last_day", *ROLL_UP_KEY, *SUMMED_COLUMNS, *RATIO_COLUMNS, "is_final"]
    numbers = [*SUMMED_COLUMNS, *RATIO_COLUMNS]
    found = pd.DataFrame(rows_of(conn, view)).sort_values(["last_day", *ROLL_UP_KEY], ignore_index=True)
    found[numbers] = found[numbers].astype(float)
    assert len(found) > 10
    pd.testing.assert_frame_equal(found[shared], expected[shared], check_dtype=False, rtol=1e-9, atol=1e-9)


def test_the_daily_view_says_the_core_rates(conn: psycopg.Connection[Any]) -> None:
    store_days(conn, random_days(9))
    expected = roll_up(read_daily(conn), period=Period.DAY)
    found = pd.DataFrame(rows_of(conn, "bi_quality_daily")).sort_values(["day", *ROLL_UP_KEY], ignore_index=True)
    for name in ("coverage", "success_rate", "strict_success_rate", "quality_score", "score_low", "completeness"):
        pd.testing.assert_series_equal(found[name].astype(float), expected[name], rtol=1e-9, check_dtype=False)


def test_a_period_begins_where_its_first_day_does(conn: psycopg.Connection[Any]) -> None:
    """28 days are those from last_day - 27; the week's from Monday to Sunday over the end of a year."""
    store_days(
        conn, days_frame(day_row(date(2026, 12, 31)), day_row(date(2026, 12, 31), n=27), day_row(date(2027, 1, 28)))
    )
    spans = {row["last_day"]: (row["first_day"], row["days"]) for row in rows_of(conn, "bi_quality_28_days")}
    assert spans[date(2027, 1, 27)] == (date(2026, 12, 31), 2)
    assert spans[date(2027, 1, 28)] == (date(2027, 1, 1), 2)
    weeks = [(row["first_day"], row["last_day"]) for row in rows_of(conn, "bi_quality_weekly")]
    assert weeks == [(date(2026, 12, 28), date(2027, 1, 3)), (date(2027, 1, 25), date(2027, 1, 31))]


def test_every_view_knows_the_name_of_now_beside_the_one_of_then(conn: psycopg.Connection[Any]) -> None:
    store_days(conn, days_frame(day_row(DAY, company_name="As it was"), day_row(DAY, credential="8")))
    store_field(conn, DAY, field="total", sample=None, share=None)
    store_revision(conn, DAY)
    store_name(conn, "Before")
    store_name(conn, "Now", at=NOW + MINUTE)
    for view in NAMES:
        if view != "bi_quality_days":
            named = {row["credential_id"]: row["company_name_now"] for row in rows_of(conn, view)}
            assert named == {"7": "Now", "8": None} or named == {"7": "Now"}
    assert {row["company_name"] for row in rows_of(conn, "bi_quality_daily")} == {"As it was", "Acme"}


@pytest.mark.parametrize(
    ("view", "day"),
    [
        ("bi_quality_daily", "day"),
        ("bi_quality_weekly", "first_day"),
        ("bi_quality_weekly", "last_day"),
        ("bi_quality_28_days", "first_day"),
        ("bi_quality_28_days", "last_day"),
    ],
)
def test_a_filter_reaches_the_index(conn: psycopg.Connection[Any], view: str, day: str) -> None:
    """Of 400 days, those asked for are looked up, and of one credential only its own rows."""
    rows = [day_row(DAY, n=n, credential=str(c)) for n in range(400) for c in range(12)]
    store_days(conn, days_frame(*rows))
    conn.commit()
    conn.autocommit = True
    conn.execute("ANALYZE monitoring.quality_daily, monitoring.quality_day")
    conn.autocommit = False
    for where in (f"{day} = DATE '2026-06-01'", f"{day} = DATE '2026-06-07'"):
        found = scanned(conn, f"SELECT * FROM monitoring.{view} WHERE {where}")
        assert found <= 28 * 12
        assert scanned(conn, f"SELECT * FROM monitoring.{view} WHERE {where} AND credential_id = '3'") <= 28


def scanned(conn: psycopg.Connection[Any], query: str) -> int:
    """Return how many rows of quality_daily a query touches, those thrown away included."""
    (plan,) = conn.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {query}".encode()).fetchone() or ([],)

    def rows(node: dict[str, Any]) -> float:
        own = node["Actual Rows"] * node["Actual Loops"] + node.get("Rows Removed by Filter", 0)
        return own * (node.get("Relation Name") == "quality_daily") + sum(map(rows, node.get("Plans", ())))

    return int(rows((json.loads(plan) if isinstance(plan, str) else plan)[0]["Plan"]))


def test_every_view_says_what_it_is_and_a_reader_needs_no_table(
    conn: psycopg.Connection[Any], make_database: Callable[..., str]
) -> None:
    """GRANT USAGE on the schema and SELECT on the views is all; the tables behind stay closed."""
    found = conn.execute(
        "SELECT c.relname, obj_description(c.oid) FROM pg_class c WHERE c.relnamespace = 'monitoring'::regnamespace"
        " AND c.relkind = 'v' ORDER BY 1"
    ).fetchall()
    assert [name for name, _ in found] == list(NAMES)
    assert all(comment for _, comment in found)
    role = "bi_reader_of_views"
    conn.execute(f"CREATE ROLE {role}".encode())
    try:
        conn.execute(f"GRANT USAGE ON SCHEMA monitoring TO {role}".encode())
        conn.execute(f"GRANT SELECT ON {', '.join(f'monitoring.{name}' for name in NAMES)} TO {role}".encode())
        conn.execute(f"SET LOCAL ROLE {role}".encode())
        for name in NAMES:
            conn.execute(f"SELECT * FROM monitoring.{name} LIMIT 1".encode())
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            conn.execute("SELECT * FROM monitoring.quality_daily")
    finally:
        conn.rollback()


def test_the_past_is_raised_with_nothing_changed(conn: psycopg.Connection[Any]) -> None:
    """A view holds no rows: every row of the daily view is one of the table."""
    store_days(conn, days_frame(day_row(DAY), day_row(DAY + timedelta(days=1), old=True)))
    assert [row["calc_version"] for row in rows_of(conn, "bi_quality_daily")] == [2, 1]

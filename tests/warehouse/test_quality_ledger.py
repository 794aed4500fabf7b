"""The ledger of days: which were computed, which are final, and which final ones changed their verdict."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date, timedelta
from typing import Any

import psycopg
import pytest

from include.warehouse.migration import upgrade
from include.warehouse.monitoring_session import connect
from include.warehouse.quality_daily import missing_days, unfinished_days
from tests.warehouse.monitoring_records import MINUTE, NOW
from tests.warehouse.replaced_days import LATER, TODAY, YESTERDAY, daily, replace, table


@pytest.fixture
def conn(make_database: Callable[..., str]) -> Iterator[psycopg.Connection[Any]]:
    """A session with a migrated database."""
    dsn = make_database("ledger")
    upgrade(dsn)
    with connect(dsn) as conn:
        yield conn


@pytest.mark.parametrize(
    ("was_final", "after", "words"),
    [
        pytest.param(True, [daily(records_processed=20, records_failed=1)], [("fair", "good")], id="fair no more"),
        pytest.param(True, [daily(records_failed=4)], [], id="other numbers, the same word"),
        pytest.param(True, [daily(records_failed=3), daily("8")], [("absent", "poor")], id="a row that was not there"),
        pytest.param(True, [], [], id="gone: the word stays"),
        pytest.param(False, [daily(records_failed=1)], [], id="a day that was not final"),
    ],
)
def test_a_changed_verdict_of_a_final_day_is_written_down_once(
    conn: psycopg.Connection[Any], was_final: bool, after: list[dict[str, Any]], words: list[tuple[str, str]]
) -> None:
    """By the first reading that sees it, and by no other."""
    replace(conn, daily(records_failed=3, is_final=was_final))

    for at in (LATER, LATER + MINUTE):
        replace(conn, *({**row, "is_final": was_final} for row in after), at=at)

    found = table(conn, "verdict_before, verdict_after, revised_at, processed_after, syncs_before", "quality_revision")
    assert [row[:2] for row in found] == words
    assert all(row[2:4] == (LATER, 20) for row in found)
    assert all(row[4] == (None if row[0] == "absent" else 2) for row in found)


def test_a_row_of_a_final_day_that_was_empty_is_a_revision(conn: psycopg.Connection[Any]) -> None:
    """The ledger knows that it was empty."""
    over = TODAY + timedelta(days=1)
    replace(conn, final_before=over)

    assert replace(conn, daily(is_final=True), at=LATER, final_before=over).revised == 1
    assert table(conn, "verdict_before, verdict_after", "quality_revision") == [("absent", "poor")]


def test_the_ledger_knows_empty_days_and_stays_final(conn: psycopg.Connection[Any]) -> None:
    """A day without a row was computed all the same."""
    over = TODAY + timedelta(days=1)
    replace(conn)
    assert table(conn, "day, rows, is_final, timezone, calc_version", "quality_day") == [(TODAY, 0, False, "UTC", 2)]
    assert unfinished_days(conn, since=TODAY, before=over) == [TODAY]

    replace(conn, at=LATER, final_before=over)
    replace(conn, at=LATER + MINUTE)
    assert table(conn, "day, read_at, is_final", "quality_day") == [(TODAY, LATER + MINUTE, True)]
    assert unfinished_days(conn, since=TODAY, before=over) == []
    assert replace(conn, at=NOW).superseded == (TODAY,)


def test_days_are_missing_until_they_are_final_by_the_definitions_in_force(conn: psycopg.Connection[Any]) -> None:
    """Another zone, another version, or not over yet."""
    replace(conn, days=[YESTERDAY, TODAY], final_before=TODAY)
    asked = {"first": YESTERDAY - timedelta(days=1), "last": TODAY}

    def missing(**changes: Any) -> list[date]:
        return missing_days(conn, **{**asked, "timezone": "UTC", "calc_version": 2, **changes})

    assert missing() == [YESTERDAY - timedelta(days=1), TODAY]
    assert YESTERDAY in missing(timezone="America/New_York")
    assert YESTERDAY in missing(calc_version=3)

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

OVER = TODAY + timedelta(days=1)


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


@pytest.mark.parametrize(
    ("was_final", "options", "expected"),
    [
        pytest.param(
            True,
            {"credential_ids": ["7"]},
            [("both", "poor", "absent", 70.0, None, 20, 0, 6, 0, 2, 0, 1, 2), ("invoices", "absent", "poor")],
            id="a final day: both keys changed",
        ),
        pytest.param(
            True,
            {"credential_ids": ["7"], "only_growing": [TODAY]},
            [("invoices", "absent", "poor")],
            id="the source may have lost its syncs: the word stays",
        ),
        pytest.param(
            True, {"credential_ids": []}, [("invoices", "absent", "poor")], id="its credential is gone: the word stays"
        ),
        pytest.param(False, {"credential_ids": ["7"]}, [], id="a day that was not final"),
    ],
)
def test_a_key_that_is_removed_from_a_final_day_is_a_revision_once(
    conn: psycopg.Connection[Any], was_final: bool, options: dict[str, Any], expected: list[tuple[Any, ...]]
) -> None:
    """Its syncs are of another data type now; both words are written down, and what was known of it."""
    replace(conn, daily(records_failed=6, quality_score=70.0, is_final=was_final))
    conn.execute("UPDATE monitoring.quality_daily SET calc_version = 1")
    conn.commit()

    moved = daily(data_type="invoices", records_failed=6, is_final=was_final)
    replaced = [replace(conn, moved, at=at, **options) for at in (LATER, LATER, LATER + MINUTE)]

    found = table(
        conn,
        "data_type, verdict_before, verdict_after, score_before, score_after, processed_before, processed_after,"
        " failed_before, failed_after, syncs_before, syncs_after, version_before, version_after",
        "quality_revision",
    )
    assert [row[: len(words)] for row, words in zip(found, expected, strict=True)] == expected
    assert [each.revised for each in replaced] == [len(expected), 0, 0]


def test_a_removed_key_that_is_back_is_a_revision_again(conn: psycopg.Connection[Any]) -> None:
    """A data type that was corrected by mistake, and corrected back."""
    for number, kind in enumerate(("both", "invoices", "both")):
        replace(
            conn,
            daily(data_type=kind, is_final=True),
            at=NOW + number * MINUTE,
            final_before=OVER,
            credential_ids=["7"],
        )

    assert table(conn, "revised_at, data_type, verdict_before, verdict_after", "quality_revision") == [
        (LATER, "both", "poor", "absent"),
        (LATER, "invoices", "absent", "poor"),
        (LATER + MINUTE, "both", "absent", "poor"),
        (LATER + MINUTE, "invoices", "poor", "absent"),
    ]


def test_a_row_of_a_final_day_that_was_empty_is_a_revision(conn: psycopg.Connection[Any]) -> None:
    """The ledger knows that it was empty."""
    replace(conn, final_before=OVER)

    assert replace(conn, daily(is_final=True), at=LATER, final_before=OVER).revised == 1
    assert table(conn, "verdict_before, verdict_after", "quality_revision") == [("absent", "poor")]


def test_the_ledger_knows_empty_days_and_stays_final(conn: psycopg.Connection[Any]) -> None:
    """A day without a row was computed all the same."""
    replace(conn)
    assert table(conn, "day, rows, is_final, timezone, calc_version", "quality_day") == [(TODAY, 0, False, "UTC", 2)]
    assert unfinished_days(conn, since=TODAY, before=OVER) == [TODAY]

    replace(conn, at=LATER, final_before=OVER)
    replace(conn, at=LATER + MINUTE)
    assert table(conn, "day, read_at, is_final", "quality_day") == [(TODAY, LATER + MINUTE, True)]
    assert unfinished_days(conn, since=TODAY, before=OVER) == []
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

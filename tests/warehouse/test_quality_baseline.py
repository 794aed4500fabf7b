"""The stored days that trend rules compare with, as they are stored."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from typing import Any

import psycopg
import pytest

from include.sync_health.errors import StorageError
from include.sync_health.stored_days import STORED_COLUMNS, DayRead
from include.warehouse.migration import upgrade
from include.warehouse.monitoring_session import connect
from include.warehouse.quality_baseline import read_stored_days

MONDAY, TUESDAY, WEDNESDAY = (date(2026, 3, day) for day in (9, 10, 11))
READ_AT = datetime(2026, 3, 12, 6, 0, tzinfo=UTC)
UUID = "3922f9f2-79a0-8a67-085f-4fc4335ba27d"

_STORE = """
    INSERT INTO monitoring.quality_daily
        (day, credential_id, data_type, syncs_total, syncs_completed, syncs_clean, syncs_partial, syncs_failed,
         syncs_cancelled, syncs_open, records_processed, records_successful, records_failed, quality_score, score_low,
         score_high, inconsistent, is_final, is_vanished, computed_at, calc_version)
    VALUES (%(day)s, %(credential)s, %(data_type)s, 30, %(completed)s, 0, 0, 0, 0, 0, %(processed)s, 0, 0, %(score)s,
            %(score)s, %(score)s, 0, %(is_final)s, %(is_vanished)s, %(read_at)s, 1)
"""


@pytest.fixture
def conn(make_database: Callable[..., str]) -> Iterator[psycopg.Connection[Any]]:
    """A session with a migrated database."""
    dsn = make_database("baseline")
    upgrade(dsn)
    with connect(dsn) as conn:
        yield conn


def store(conn: psycopg.Connection[Any], day: date, credential: str = "7", **changes: Any) -> None:
    """Store one row, and its day in the ledger."""
    values = {
        "day": day,
        "credential": credential,
        "data_type": "invoices",
        "completed": 24,
        "processed": 5_000_000_000,
        "score": 100 / 3,
        "is_final": True,
        "is_vanished": False,
        "read_at": READ_AT,
        **changes,
    }
    conn.execute(_STORE, values)
    conn.execute(
        "INSERT INTO monitoring.quality_day (day, read_at, rows, is_final, timezone, calc_version)"
        " VALUES (%s, %s, 1, true, %s, 2) ON CONFLICT DO NOTHING",
        (day, READ_AT, None if day == MONDAY else "Asia/Kolkata"),
    )


def test_rows_come_as_they_are_stored(conn: psycopg.Connection[Any]) -> None:
    """To the last bit of a score; days that were not asked for stay where they are."""
    store(conn, MONDAY)
    store(conn, MONDAY, UUID, data_type="both", completed=0, processed=0, score=None, is_vanished=True)
    store(conn, TUESDAY, is_final=False, is_vanished=True)
    store(conn, WEDNESDAY)

    stored = read_stored_days(conn, [TUESDAY, MONDAY, date(2020, 1, 1)])

    rows = stored.rows
    assert list(rows) == list(STORED_COLUMNS)
    assert len(rows) == 3
    by_key = {(str(row["day"].date()), row["credential_id"]): row for row in rows.to_dict("records")}
    row = by_key["2026-03-09", "7"]
    assert (row["is_final"], row["is_vanished"], row["syncs_completed"]) == (True, False, 24)
    assert (row["records_processed"], row["quality_score"]) == (5_000_000_000, 100 / 3)
    odd = by_key["2026-03-09", UUID]
    assert (odd["data_type"], odd["is_final"], odd["is_vanished"]) == ("both", True, True)
    assert odd["quality_score"] != odd["quality_score"]
    last = by_key["2026-03-10", "7"]
    assert (last["is_final"], last["is_vanished"]) == (False, True)
    assert stored.computed == {
        MONDAY: DayRead(read_at=READ_AT, timezone=None),
        TUESDAY: DayRead(read_at=READ_AT, timezone="Asia/Kolkata"),
    }


def test_some_credentials_alone(conn: psycopg.Connection[Any]) -> None:
    """The ledger knows no credentials."""
    store(conn, MONDAY)
    store(conn, MONDAY, UUID)
    assert read_stored_days(conn, [MONDAY], credential_ids=[UUID]).rows["credential_id"].tolist() == [UUID]
    nobody = read_stored_days(conn, [MONDAY], credential_ids=[])
    assert nobody.rows.empty
    assert list(nobody.computed) == [MONDAY]


def test_without_the_schema_it_is_a_line_that_says_what_to_do(make_database: Callable[..., str]) -> None:
    with connect(make_database("bare")) as conn, pytest.raises(StorageError, match="migrate"):
        read_stored_days(conn, [MONDAY])

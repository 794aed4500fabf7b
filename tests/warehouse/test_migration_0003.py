"""Raising a monitoring schema that is in use from revision 0002: nothing is lost, and its days are in the ledger."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from psycopg import sql

from include.warehouse.migration import HEAD_REVISION, upgrade
from include.warehouse.monitoring_session import connect
from tests.warehouse.monitoring_records import MINUTE, NOW
from tests.warehouse.test_migration_0002 import QUALITY, upgrade_to

DAY = timedelta(days=1)
TODAY = NOW.date()

CLASSES = ("auth", "permission", "rate_limit", "timeout", "server", "decode", "validation", "unknown")

IN_FULL: dict[str, Any] = {
    **QUALITY,
    "calc_version": 2,
    "syncs_empty": 0,
    "syncs_timed": 2,
    **{f"failed_{name}": int(name == "auth") for name in CLASSES},
    "syncs_with_detail": 0,
    "records_with_detail": 0,
    "missing_required": 0,
    "completeness": None,
}


@pytest.fixture
def dsn(make_database: Callable[..., str]) -> str:
    """An empty database."""
    return make_database("revision_0003")


def insert(conn: psycopg.Connection[Any], row: dict[str, Any]) -> None:
    """Store a day."""
    conn.execute(
        sql.SQL("INSERT INTO monitoring.quality_daily ({}) VALUES ({})").format(
            sql.SQL(", ").join(map(sql.Identifier, row)), sql.SQL(", ").join(map(sql.Placeholder, row))
        ),
        row,
    )


def test_days_of_0002_are_there_and_in_the_ledger(dsn: str) -> None:
    """As old ones, of a zone that nobody recorded; final only where all of a day was."""
    upgrade_to(dsn, "0002")
    rows = [
        {**QUALITY, "is_final": True},
        {**QUALITY, "credential_id": "8", "is_final": True, "computed_at": NOW + MINUTE},
        {**QUALITY, "credential_id": "9", "is_final": True, "is_vanished": True},
        {**QUALITY, "day": TODAY - DAY, "is_final": True},
        {**QUALITY, "day": TODAY - DAY, "credential_id": "8"},
    ]
    with connect(dsn) as conn:
        for row in rows:
            insert(conn, row)

    assert upgrade(dsn) == ("0002", HEAD_REVISION)

    with connect(dsn) as conn:
        columns = sql.SQL(", ").join(map(sql.Identifier, QUALITY))
        found = conn.execute(sql.SQL("SELECT {} FROM monitoring.quality_daily").format(columns)).fetchall()
        assert sorted(found, key=str) == sorted((tuple(row[name] for name in QUALITY) for row in rows), key=str)
        ledger = conn.execute(
            "SELECT day, read_at, rows, is_final, timezone, calc_version FROM monitoring.quality_day ORDER BY day"
        ).fetchall()
    assert ledger == [(TODAY - DAY, NOW, 2, False, None, 1), (TODAY, NOW + MINUTE, 2, True, None, 1)]


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"failed_auth": 0}, id="fewer failures by class than failures"),
        pytest.param({"failed_unknown": None}, id="a class that is not known"),
        pytest.param({"syncs_empty": 3}, id="more empty syncs than completed ones"),
        pytest.param({"syncs_timed": None}, id="an average without its weight"),
        pytest.param({"missing_required": None}, id="no word on required fields"),
        pytest.param({"completeness": 100.5}, id="more than complete"),
    ],
)
def test_a_day_in_full_cannot_contradict_itself(dsn: str, changes: dict[str, Any]) -> None:
    """And one of the first definition may leave all of it out."""
    upgrade(dsn)
    with connect(dsn) as conn:
        insert(conn, QUALITY)
        insert(conn, {**IN_FULL, "credential_id": "8"})
        with pytest.raises(psycopg.errors.CheckViolation):
            insert(conn, {**IN_FULL, "credential_id": "9", **changes})
        conn.rollback()


def test_a_revision_is_a_change(dsn: str) -> None:
    """From one word to another."""
    upgrade(dsn)
    with connect(dsn) as conn, pytest.raises(psycopg.errors.CheckViolation):
        conn.execute(
            "INSERT INTO monitoring.quality_revision (day, credential_id, data_type, revised_at, verdict_before,"
            " verdict_after, processed_after, failed_after, syncs_after, version_after)"
            " VALUES (%s, '7', 'both', %s, 'good', 'good', 1, 0, 1, 2)",
            (TODAY, NOW),
        )

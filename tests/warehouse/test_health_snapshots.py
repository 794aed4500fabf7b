"""What the health check found is kept once for each window, and the newest is what is answered by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta, timezone
from typing import Any

import psycopg
import pytest

from include.sync_health.errors import StorageError
from include.sync_health.health import HealthStatus, StoredHealth, health_answer
from include.warehouse.health_snapshots import newest_health, store_health
from include.warehouse.monitoring_session import connect
from tests.warehouse.monitoring_records import MINUTE, NOW

QUARTER = 15 * MINUTE
REPORT = {"name": "servicetitan_integration", "status": "healthy", "details": {"credentials": {"issues": []}}}


def health(**changes: Any) -> StoredHealth:
    """A healthy report of `NOW`, computed a minute later."""
    made = StoredHealth(as_of=NOW, status=HealthStatus.HEALTHY, report=REPORT, every=QUARTER, computed_at=NOW + MINUTE)
    return replace(made, **changes)


def test_what_is_stored_comes_back(conn: psycopg.Connection[Any]) -> None:
    """In UTC, whatever zone it was given in."""
    elsewhere = timezone(timedelta(hours=-7))
    store_health(conn, health(as_of=NOW.astimezone(elsewhere)))

    found = newest_health(conn)

    assert found == health()
    assert found is not None
    assert found.as_of.utcoffset() == found.computed_at.utcoffset() == timedelta(0)


def test_nothing_is_stored_at_first(conn: psycopg.Connection[Any]) -> None:
    """Which is no report that all is well."""
    assert newest_health(conn) is None


@pytest.mark.parametrize(
    ("stored", "newest"),
    [
        pytest.param([health(), health()], health(), id="the same twice is one"),
        pytest.param(
            [health(), health(status=HealthStatus.WARNING, computed_at=NOW + 2 * MINUTE)],
            health(status=HealthStatus.WARNING, computed_at=NOW + 2 * MINUTE),
            id="a retry of the window says it anew",
        ),
        pytest.param(
            [health(), health(status=HealthStatus.WARNING, computed_at=NOW)],
            health(),
            id="an older retry that comes last changes nothing",
        ),
        pytest.param(
            [health(), health(as_of=NOW - QUARTER, computed_at=NOW + 9 * MINUTE)],
            health(),
            id="an older window that comes last is not the newest",
        ),
        pytest.param(
            [health(), health(as_of=NOW + QUARTER)], health(as_of=NOW + QUARTER), id="the next window is the newest"
        ),
    ],
)
def test_the_newest(conn: psycopg.Connection[Any], stored: list[StoredHealth], newest: StoredHealth) -> None:
    """One row for each window, whatever is stored how often."""
    for each in stored:
        store_health(conn, each)

    assert newest_health(conn) == newest
    rows = conn.execute("SELECT count(*) FROM monitoring.health_snapshot").fetchone()
    assert rows == (len({each.as_of for each in stored}),)


def test_a_stored_report_grows_old(conn: psycopg.Connection[Any]) -> None:
    """Its age is that of the moment it is asked for."""
    store_health(conn, health())
    found = newest_health(conn)

    answers = [health_answer(found, now=NOW + age) for age in (MINUTE, 2 * QUARTER, 2 * QUARTER + MINUTE)]

    assert [(code, body["age_seconds"]) for code, body in answers] == [(200, 60), (200, 1800), (503, 1860)]


def test_odd_texts_are_stored_as_far_as_the_database_can(conn: psycopg.Connection[Any]) -> None:
    """A company's name may hold anything."""
    store_health(conn, health(report={"company": "A\x00cme \ud800", "rate": float("nan")}))

    found = newest_health(conn)

    assert found is not None
    assert found.report == {"company": "A\N{REPLACEMENT CHARACTER}cme \N{REPLACEMENT CHARACTER}", "rate": None}


def test_a_naive_time_is_refused(conn: psycopg.Connection[Any]) -> None:
    """It would be read in the session's zone."""
    with pytest.raises(ValueError, match="naive"):
        store_health(conn, health(as_of=NOW.replace(tzinfo=None)))


def test_without_the_schema_the_fix_is_told(make_database: Callable[..., str]) -> None:
    """In one line."""
    with (
        connect(make_database("bare")) as conn,
        pytest.raises(StorageError, match=r"run python -m include\.cli migrate"),
    ):
        newest_health(conn)

"""One row per evaluated window: what it saw is kept, and is the next run's memory."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta, timezone
from typing import Any

import psycopg
import pytest

from include.sync_health.windows import RunMode
from include.warehouse.check_runs import CheckRun, check_run_id, last_seen_run, newest_start_seen, record_check_run
from include.warehouse.migration import upgrade
from include.warehouse.monitoring_session import connect
from tests.warehouse.monitoring_records import MINUTE, NOW

QUARTER = 15 * MINUTE
CHECK = "sync_failures"


@pytest.fixture
def conn(make_database: Callable[..., str]) -> Iterator[psycopg.Connection[Any]]:
    """A session with a migrated database."""
    dsn = make_database("check_runs")
    upgrade(dsn)
    with connect(dsn) as conn:
        yield conn


def check_run(**changes: Any) -> CheckRun:
    """Return a live run that saw the source."""
    values: dict[str, Any] = {
        "check": CHECK,
        "window_from": NOW - QUARTER,
        "window_to": NOW,
        "mode": "live",
        "filters": {},
        "status": "seen",
        "rows_read": 1200,
        "source_ms": 12.5,
        "total_ms": 80.25,
        "verdicts": {"sync_failures.breach": 2},
        "anomalies": {"future_stamp": 1},
        "notes": ("the range was widened",),
        "open_sync_ids": ("11", "12"),
        "newest_started_at": NOW - MINUTE,
        "computed_at": NOW + MINUTE,
    }
    return CheckRun.of(**{**values, **changes})


def blind(**changes: Any) -> CheckRun:
    """Return a run that could not see the source."""
    found = {"status": "blind", "rows_read": 0, "open_sync_ids": None, "error_cause": "timeout", "error": "too slow"}
    return check_run(**{**found, **changes})


def statuses(conn: psycopg.Connection[Any]) -> list[tuple[str, int]]:
    return conn.execute("SELECT status, rows_read FROM monitoring.check_run ORDER BY window_to").fetchall()


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="with everything"),
        pytest.param({"open_sync_ids": None}, id="with no memory of open rows"),
        pytest.param({"open_sync_ids": ()}, id="with the memory that none was open"),
        pytest.param({"newest_started_at": None}, id="of a sync log without any start"),
        pytest.param({"notes": (), "verdicts": {}, "anomalies": {}}, id="with nothing to say"),
    ],
)
def test_a_run_comes_back_as_it_was_recorded(conn: psycopg.Connection[Any], changes: dict[str, Any]) -> None:
    made = check_run(**changes)
    record_check_run(conn, made)

    assert last_seen_run(conn, check=CHECK) == made


def test_a_blind_run_is_recorded_with_its_cause(conn: psycopg.Connection[Any]) -> None:
    record_check_run(conn, blind(error="bad \x00 byte"))

    row = conn.execute("SELECT status, error_cause, error, open_sync_ids FROM monitoring.check_run").fetchone()
    assert row == ("blind", "timeout", "bad \N{REPLACEMENT CHARACTER} byte", None)
    assert last_seen_run(conn, check=CHECK) is None


@pytest.mark.parametrize(
    ("first", "then", "kept"),
    [
        pytest.param(check_run(), check_run(rows_read=1300), ("seen", 1300), id="a second look replaces the first"),
        pytest.param(blind(), check_run(), ("seen", 1200), id="sight replaces blindness"),
        pytest.param(check_run(), blind(), ("seen", 1200), id="blindness never replaces sight"),
        pytest.param(blind(), blind(rows_read=1), ("blind", 1), id="blindness replaces blindness"),
    ],
)
def test_a_retry_of_the_same_window_is_one_row(
    conn: psycopg.Connection[Any], first: CheckRun, then: CheckRun, kept: tuple[str, int]
) -> None:
    record_check_run(conn, first)
    record_check_run(conn, then)

    assert statuses(conn) == [kept]


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"mode": "historical"}, id="a historical one"),
        pytest.param({"filters": {"environment": "production"}}, id="one with filters"),
        pytest.param({"status": "blind", "open_sync_ids": None}, id="one that saw nothing"),
        pytest.param({"check": "credential_health"}, id="one of another check"),
        pytest.param({"window_to": NOW - QUARTER, "window_from": NOW - 2 * QUARTER}, id="one of an earlier window"),
    ],
)
def test_the_last_seen_run_is_never(conn: psycopg.Connection[Any], changes: dict[str, Any]) -> None:
    made = check_run()
    later = {"window_from": NOW, "window_to": NOW + QUARTER, "computed_at": NOW + 2 * QUARTER}
    record_check_run(conn, made)
    record_check_run(conn, check_run(**{**later, **changes}))

    assert len(statuses(conn)) == 2
    assert last_seen_run(conn, check=CHECK) == made


def test_the_newest_window_counts_however_late_another_was_computed(conn: psycopg.Connection[Any]) -> None:
    newest = check_run()
    record_check_run(conn, newest)
    record_check_run(
        conn, check_run(window_from=NOW - 2 * QUARTER, window_to=NOW - QUARTER, computed_at=NOW + timedelta(days=1))
    )

    assert last_seen_run(conn, check=CHECK) == newest


def test_the_id_is_the_window_and_nothing_else() -> None:
    """A retry gets the same id, however its clock, its numbers or the zone of its times differ."""
    made = check_run(filters={"a": "1", "b": "2"})
    elsewhere = timezone(timedelta(hours=-7))
    same = check_run(
        filters={"b": "2", "a": "1"}, window_to=NOW.astimezone(elsewhere), rows_read=0, computed_at=NOW + QUARTER
    )
    assert same.run_id == made.run_id

    others = [
        check_run(),
        check_run(check="other"),
        check_run(window_to=NOW + MINUTE),
        check_run(window_from=NOW - MINUTE),
        check_run(mode="historical"),
    ]
    assert len({made.run_id, *(each.run_id for each in others)}) == 6


def test_the_id_stays_the_same_from_release_to_release() -> None:
    found = check_run_id(CHECK, window_from=NOW - QUARTER, window_to=NOW, mode=RunMode.LIVE, filters={})
    assert found == uuid.UUID("0fb5500e-5e10-5505-af64-c050040bce6f")


@pytest.mark.parametrize(
    ("changes", "is_told"),
    [
        pytest.param({}, True, id="a run that saw"),
        pytest.param({"status": "blind", "error_cause": "wrong_time_zone"}, True, id="a blind run that had read it"),
        pytest.param({"status": "blind", "newest_started_at": None}, False, id="not a run that read nothing"),
        pytest.param({"mode": "historical"}, False, id="not a historical one"),
        pytest.param({"filters": {"environment": "production"}}, False, id="not one with filters"),
        pytest.param({"check": "credential_health"}, False, id="not one of another check"),
        pytest.param({"window_to": NOW + QUARTER}, False, id="not one whose window ends at the moment asked for"),
    ],
)
def test_the_newest_start_that_was_seen_is_that_of(
    conn: psycopg.Connection[Any], changes: dict[str, Any], is_told: bool
) -> None:
    earlier, later = NOW - 40 * MINUTE, NOW - 2 * MINUTE
    record_check_run(
        conn,
        check_run(window_from=NOW - 3 * QUARTER, window_to=NOW - 2 * QUARTER, newest_started_at=earlier),
    )
    record_check_run(conn, check_run(**{"newest_started_at": later, **changes}))

    seen = newest_start_seen(conn, check=CHECK, before=NOW + QUARTER)
    assert seen is not None
    assert seen.newest_started_at == (later if is_told else earlier)
    assert seen.as_of >= NOW - 2 * QUARTER


def test_no_start_was_seen_before_the_first_run(conn: psycopg.Connection[Any]) -> None:
    record_check_run(conn, check_run())

    assert newest_start_seen(conn, check=CHECK, before=NOW) is None
    with pytest.raises(ValueError, match="naive"):
        newest_start_seen(conn, check=CHECK, before=NOW.replace(tzinfo=None))


@pytest.mark.parametrize("field", ["window_from", "window_to", "newest_started_at", "computed_at"])
def test_a_naive_time_is_refused(conn: psycopg.Connection[Any], field: str) -> None:
    with pytest.raises(ValueError, match="naive"):
        record_check_run(conn, replace(check_run(), **{field: NOW.replace(tzinfo=None)}))


def test_a_mode_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="RunMode"):
        check_run(mode="later")

"""Syncs by hour, the quality of data and the cost of checks, as they are stored."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd
import psycopg
import pytest

from include.sync_health.errors import StorageError
from include.sync_health.record_counts import RECORDS
from include.sync_health.sync_events import sync_events
from include.sync_health.sync_hours import SYNC_HOUR_COLUMNS, sync_hours, whole_hours
from include.sync_health.sync_metrics import QUALITY_COLUMNS, QUALITY_COUNTS
from include.warehouse.check_costs import check_costs
from include.warehouse.check_runs import CheckRun, record_check_run
from include.warehouse.monitoring_session import connect
from include.warehouse.quality_gauges import forget_quality_gauges, replace_quality_gauges
from include.warehouse.sync_counters import count_syncs
from include.warehouse.sync_hours import replace_sync_hours
from tests.sync_health.frames_of import AS_OF, credentials_frame
from tests.sync_health.oracle_metrics import Sync, frame_of

HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)

Connection = psycopg.Connection[Any]


def sync(number: int, *, at: datetime, status: str = "completed", **values: Any) -> Sync:
    """Return a sync of a minute that ended at an instant."""
    given = {"started_at": at - MINUTE, "completed_at": at, "updated_at": at, "data_type": "both"} | values
    return Sync(id=number, credential=1, status=status, **given)


def replace(
    conn: Connection,
    rows: list[Sync],
    *,
    as_of: datetime = AS_OF + 30 * MINUTE,
    back: timedelta = 3 * HOUR,
    known: tuple[str, ...] = RECORDS,
) -> int:
    """Store the hours that a run reads, and commit."""
    since = as_of - back
    events = sync_events(frame_of(rows), credentials_frame([1]), since=since, as_of=as_of)
    first, last = whole_hours(since, as_of)
    hours = sync_hours(events, since=since, as_of=as_of, known=known)
    with conn.transaction():
        return replace_sync_hours(conn, hours, first=first, last=last, now=as_of)


def stored(conn: Connection) -> list[tuple[Any, ...]]:
    """Return hour of the day, starts, completed and failed."""
    rows = conn.execute(
        "SELECT hour, syncs_started, syncs_completed, syncs_failed, failed_by_class FROM monitoring.sync_hour ORDER BY 1"
    )
    return [(row[0].astimezone(UTC).hour, *row[1:]) for row in rows]


def test_an_hour_has_what_started_and_what_ended_in_it(conn: Connection) -> None:
    """All columns are stored as they were computed."""
    rows = [sync(1, at=AS_OF), sync(2, at=AS_OF + 5 * MINUTE, status="failed", error_message="HTTP 401 invalid_client")]

    assert replace(conn, rows) == 2
    assert stored(conn) == [(11, 1, 0, 0, {}), (12, 1, 1, 1, {"auth": 1})]
    columns = [each.name for each in conn.execute("SELECT * FROM monitoring.sync_hour").description or ()]
    assert columns == [*SYNC_HOUR_COLUMNS, "computed_at"]


def test_whole_hours_are_replaced_and_only_what_differs_is_written(conn: Connection) -> None:
    """A row that moved to another hour leaves nothing behind; older hours are left alone."""
    old = [sync(1, at=AS_OF - 2 * HOUR - MINUTE)]
    replace(conn, old, as_of=AS_OF - HOUR)
    rows = [sync(2, at=AS_OF - 20 * MINUTE), sync(3, at=AS_OF + MINUTE)]
    replace(conn, rows)
    assert [row[0] for row in stored(conn)] == [9, 11, 12]

    assert replace(conn, rows) == 0
    assert replace(conn, [sync(2, at=AS_OF + 20 * MINUTE), sync(3, at=AS_OF + MINUTE)]) == 2
    assert stored(conn) == [(9, 1, 1, 0, {}), (12, 2, 2, 0, {})]


def test_a_read_that_has_no_whole_hour_changes_none(conn: Connection) -> None:
    """What it lacks of the hour would be taken for nothing."""
    replace(conn, [sync(1, at=AS_OF + MINUTE)])

    assert replace(conn, [], back=10 * MINUTE) == 0
    assert stored(conn)


COUNTS = {"records_processed": 10, "records_successful": 9, "records_failed": 1}


def records(conn: Connection) -> list[tuple[Any, ...]]:
    """Return completed, clean and partial syncs, and the records."""
    return conn.execute(
        f"SELECT syncs_completed, syncs_clean, syncs_partial, {', '.join(RECORDS)} FROM monitoring.sync_hour".encode()
    ).fetchall()


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        pytest.param(RECORDS, (1, 0, 1, 10, 9, 1), id="all counts"),
        pytest.param(("records_processed",), (1, None, None, 10, None, None), id="no outcomes: unknown, not 0"),
        pytest.param((), (1, None, None, None, None, None), id="no counts at all"),
    ],
)
def test_what_could_not_be_read_is_stored_as_unknown(
    conn: Connection, known: tuple[str, ...], expected: tuple[int | None, ...]
) -> None:
    """And is known once a run measures the hour again with the counts; the same again is not written."""
    rows = [sync(1, at=AS_OF + MINUTE, started_at=AS_OF, **COUNTS)]
    replace(conn, rows, known=known)
    assert records(conn) == [expected]

    assert replace(conn, rows, known=known) == 0
    assert replace(conn, rows) == (known != RECORDS)
    assert records(conn) == [(1, 0, 1, 10, 9, 1)]

    assert replace(conn, rows, known=known) == (known != RECORDS)
    assert records(conn) == [expected]


def test_large_sums_are_stored_to_the_last_digit(conn: Connection) -> None:
    """They pass through floats on their way."""
    most = 2**31 - 1
    rows = [
        sync(number, at=AS_OF + MINUTE, started_at=AS_OF, **dict.fromkeys(COUNTS, most)) for number in range(1, 1_000)
    ]
    replace(conn, rows)

    assert records(conn) == [(999, 0, 999, 999 * most, 999 * most, 999 * most)]


def totals(*rows: tuple[str, str, int | None, int | None, int | None]) -> pd.DataFrame:
    """Return records of credentials of one company each."""
    values = [(credential, "production", f"c{credential}", kind, *counts) for credential, kind, *counts in rows]
    frame = pd.DataFrame(values, columns=list(QUALITY_COLUMNS))
    return frame.astype({name: "float64" if name in QUALITY_COUNTS else object for name in QUALITY_COLUMNS})


def gauges(conn: Connection) -> list[tuple[Any, ...]]:
    """Return what is stored."""
    return conn.execute(
        "SELECT credential_id, data_type, total, valid, invalid FROM monitoring.quality_gauge ORDER BY 1"
    ).fetchall()


def test_the_quality_of_data_is_that_of_the_newest_window(conn: Connection) -> None:
    """What has no sync any more is gone, and the caller hears of it."""
    first = totals(("1", "both", 10, 9, 1), ("2", "both", 5, 5, 0))
    gone = replace_quality_gauges(conn, first, as_of=AS_OF, now=AS_OF)
    assert gone is not None
    assert gone.empty

    gone = replace_quality_gauges(conn, totals(("1", "both", 12, 12, 0)), as_of=AS_OF + HOUR, now=AS_OF)

    assert gauges(conn) == [("1", "both", 12, 12, 0)]
    assert gone is not None
    assert gone.to_dict("records") == totals(("2", "both", 5, 5, 0)).to_dict("records")


@pytest.mark.parametrize("as_of", [AS_OF, AS_OF - HOUR], ids=["a retry", "an older window"])
def test_the_quality_of_data_is_told_once(conn: Connection, as_of: datetime) -> None:
    """Neither stored nor told again."""
    replace_quality_gauges(conn, totals(("1", "both", 10, 9, 1)), as_of=AS_OF, now=AS_OF)

    assert replace_quality_gauges(conn, totals(("1", "both", 99, 9, 90)), as_of=as_of, now=AS_OF) is None
    assert gauges(conn) == [("1", "both", 10, 9, 1)]


def test_no_syncs_at_all_leave_no_gauge(conn: Connection) -> None:
    """An empty frame is an answer too."""
    replace_quality_gauges(conn, totals(("1", "both", 10, 9, 1)), as_of=AS_OF, now=AS_OF)

    gone = replace_quality_gauges(conn, totals(), as_of=AS_OF + HOUR, now=AS_OF)

    assert gauges(conn) == []
    assert gone is not None
    assert len(gone) == 1


def test_counts_that_could_not_be_read_are_stored_as_unknown(conn: Connection) -> None:
    """And come back as such when they are gone."""
    replace_quality_gauges(
        conn, totals(("1", "both", 10, None, None), ("2", "both", 0, None, None)), as_of=AS_OF, now=AS_OF
    )
    assert gauges(conn) == [("1", "both", 10, None, None), ("2", "both", 0, None, None)]

    gone = replace_quality_gauges(conn, totals(("2", "both", 3, 2, 1)), as_of=AS_OF + HOUR, now=AS_OF)

    assert gauges(conn) == [("2", "both", 3, 2, 1)]
    assert gone is not None
    assert gone.equals(totals(("1", "both", 10, None, None)))


def test_records_of_an_earlier_day_are_forgotten_where_the_counts_cannot_be_read(conn: Connection) -> None:
    """Their keys stay, so that a later run hears which are gone; the window is left to a retry."""
    replace_quality_gauges(conn, totals(("1", "both", 10, 9, 1), ("2", "both", 5, 5, 0)), as_of=AS_OF, now=AS_OF)

    assert forget_quality_gauges(conn, as_of=AS_OF) == 0
    assert gauges(conn) == [("1", "both", 10, 9, 1), ("2", "both", 5, 5, 0)]
    assert forget_quality_gauges(conn, as_of=AS_OF + HOUR) == 2
    assert gauges(conn) == [("1", "both", None, None, None), ("2", "both", None, None, None)]

    gone = replace_quality_gauges(conn, totals(("1", "both", 12, 12, 0)), as_of=AS_OF + HOUR, now=AS_OF)

    assert gauges(conn) == [("1", "both", 12, 12, 0)]
    assert gone is not None
    assert gone["credential_id"].tolist() == ["2"]


def run_of(
    check: str, *, ends: datetime, rows: int, mode: str = "live", filters: dict[str, str] | None = None
) -> CheckRun:
    """Return the record of an evaluation."""
    return CheckRun.of(
        check=check,
        window_from=ends - HOUR,
        window_to=ends,
        mode=mode,
        filters=filters or {},
        status="seen",
        rows_read=rows,
        source_ms=rows / 2,
        computed_at=ends,
    )


def test_a_check_costs_what_its_newest_live_run_did(conn: Connection) -> None:
    """Not a filtered one, nor one of the past."""
    for run in (
        run_of("sync_failures", ends=AS_OF, rows=10),
        run_of("sync_failures", ends=AS_OF + HOUR, rows=20),
        run_of("sync_failures", ends=AS_OF + 2 * HOUR, rows=1, filters={"credentials": "1"}),
        run_of("sync_failures", ends=AS_OF + 3 * HOUR, rows=2, mode="historical"),
        run_of("data_quality", ends=AS_OF, rows=7),
    ):
        record_check_run(conn, run)

    assert list(check_costs(conn).itertuples(index=False, name=None)) == [
        ("data_quality", 7, 3.5),
        ("sync_failures", 20, 10.0),
    ]


def test_before_any_check_there_are_no_costs(conn: Connection) -> None:
    """An empty frame with its columns."""
    assert check_costs(conn).empty


def test_without_the_schema_the_fix_is_told(make_database: Any) -> None:
    """One line, and no traceback."""
    events = sync_events(frame_of([]), credentials_frame([1]), since=AS_OF - HOUR, as_of=AS_OF)
    with connect(make_database("empty")) as conn, pytest.raises(StorageError, match="migrate"):
        count_syncs(conn, events, window_from=AS_OF - HOUR, as_of=AS_OF, late_syncs=HOUR, now=AS_OF)

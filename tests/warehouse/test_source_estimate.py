"""How much a read of days would be: rows without reading them, and how often a log without an index is gone through."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest

from include.simulation.bulk_history import bulk_history
from include.simulation.hub_plus import create_source
from include.sync_health.errors import RequestError
from include.sync_health.log_start import LogStart
from include.sync_health.policy import SourcePolicy
from include.warehouse.day_stream import Bounds
from include.warehouse.source_estimate import keys_in, scans_of
from include.warehouse.source_reader import SourceReader
from include.warehouse.source_session import Session, open_session
from tests.warehouse.read_world import AS_OF, DAY, HOUR, World, build_world

TODAY = datetime(2026, 3, 2, tzinfo=UTC)
ROWS_PER_DAY = 100


@pytest.fixture
def make_log(make_database: Callable[..., str]) -> Callable[..., str]:
    """Return a function ``(shape, index=None) -> DSN`` that makes a log of 40 even days, with an index or none."""

    def make(shape: str, index: str | None = None) -> str:
        dsn = make_database("estimate")
        create_source(dsn, shape=shape)
        rows = 40 * ROWS_PER_DAY
        bulk_history(dsn, shape=shape, rows=rows, rows_per_day=ROWS_PER_DAY, until=AS_OF, credentials=5)
        if index:
            with psycopg.connect(dsn, autocommit=True) as owner:
                owner.execute(f"CREATE INDEX ON servicetitan_sync_logs ({index})".encode())
        return dsn

    return make


def days_of(*ages: int) -> Bounds:
    """Return whole days of UTC by their age, oldest first."""
    starts = [TODAY - age * DAY for age in sorted(ages, reverse=True)]
    return {start.date(): (start, start + DAY) for start in starts}


def scans_done(session: Session) -> int:
    """Return how often the log has been gone through row by row, what this session did included."""
    session.execute("SELECT pg_stat_force_next_flush()")
    row = session.execute(
        "SELECT seq_scan FROM pg_stat_user_tables WHERE relname = 'servicetitan_sync_logs'"
    ).fetchone()
    assert row is not None
    return int(row[0])


@pytest.mark.parametrize(
    ("shape", "index", "ages", "rows_per_read", "is_scanned"),
    [
        pytest.param("uuid", None, range(1, 31), 1_000, True, id="UUIDs and no index, ten days at a time"),
        pytest.param("uuid", None, range(1, 31), 1, True, id="UUIDs and no index, day by day"),
        pytest.param(
            "uuid", None, range(1, 40), 100_000, True, id="UUIDs and no index, as many days as a read may have"
        ),
        pytest.param("uuid", None, [*range(1, 9), *range(20, 31)], 350, True, id="UUIDs and no index, with a gap"),
        pytest.param("uuid", None, [5, 30], 100_000, True, id="UUIDs and no index, two days far apart"),
        pytest.param("uuid", None, [5], 100_000, True, id="UUIDs and no index, a day"),
        pytest.param("uuid", "started_at", range(1, 31), 1_000, False, id="UUIDs and an index on the start"),
        pytest.param("migrations", None, range(1, 31), 1_000, False, id="keys that rise with time"),
    ],
)
def test_the_scans_of_days_are_those_that_restating_them_does(
    make_log: Callable[..., str], shape: str, index: str | None, ages: Any, rows_per_read: int, is_scanned: bool
) -> None:
    """As the server counts them."""
    bounds = days_of(*ages)
    with open_session(make_log(shape, index), SourcePolicy()) as session:
        # So few rows are read faster without an index; a log worth the question has more.
        session.execute("SET enable_seqscan = off")
        reader = SourceReader(session, SourcePolicy())
        before = scans_done(session)
        reader.oldest_start()
        chunks = list(
            reader.stream_days(bounds, slack=DAY, as_of=AS_OF, clock=lambda: AS_OF, rows_per_read=rows_per_read)
        )
        done = scans_done(session) - before

    assert [day for chunk in chunks for day in chunk.days] == list(bounds)
    told = scans_of(
        list(bounds), rows_per_day=ROWS_PER_DAY, rows_per_read=rows_per_read, id_slack=DAY, shape=reader.shape
    )
    # The first read of days may find a few rows more, of syncs that cross midnight: one read more.
    assert told <= done <= told + 2 * is_scanned
    assert (done > 0) == is_scanned


@pytest.mark.parametrize(
    ("shape", "index"),
    [
        pytest.param("migrations", None, id="by key"),
        pytest.param("migrations", "started_at", id="by key, with an index on the start"),
        pytest.param("uuid", "started_at", id="by an index on the start"),
        pytest.param("uuid", None, id="by a scan"),
    ],
)
@pytest.mark.parametrize("zone", ["UTC", "America/New_York"])
def test_the_log_begins_with_its_first_row_and_strays_stand_apart(
    make_database: Callable[..., str], shape: str, index: str | None, zone: str
) -> None:
    """A sync every third day; before them one of long ago that took two hours, and one without an end."""
    world = build_world(make_database("log"), shape=shape, zone=zone)
    world.add(started=400 * DAY, ended=400 * DAY - 2 * HOUR)
    world.add(started=390 * DAY, status="failed")
    for days in range(117, 0, -3):
        world.add(started=days * DAY, ended=days * DAY - HOUR)
    if index:
        world.sql(f"CREATE INDEX ON servicetitan_sync_logs ({index})")
    with SourceReader.connect(world.hub.dsn, world.policy) as reader:
        start = reader.oldest_start()

    assert start == LogStart(at=AS_OF - 117 * DAY, strays=(AS_OF - 400 * DAY + 2 * HOUR, AS_OF - 390 * DAY))


def test_no_day_is_no_scan(make_log: Callable[..., str]) -> None:
    with SourceReader.connect(make_log("uuid"), SourcePolicy()) as reader:
        assert scans_of([], rows_per_day=0, rows_per_read=1, id_slack=DAY, shape=reader.shape) == 0


@pytest.mark.parametrize(
    ("shape", "index", "too_many"),
    [
        pytest.param("migrations", None, 400, id="by key: some hundred more, the ends are not searched for exactly"),
        pytest.param("migrations", "started_at", 0, id="by an index on the start"),
        pytest.param("uuid", None, 0, id="by a scan"),
    ],
)
def test_rows_of_a_range_are_told_without_reading_them(
    make_log: Callable[..., str], shape: str, index: str | None, too_many: int
) -> None:
    """Those started in it; never fewer."""
    with SourceReader.connect(make_log(shape, index), SourcePolicy()) as reader:
        told = reader.rows_between(TODAY - 20 * DAY, TODAY - 10 * DAY, as_of=AS_OF)
        everything = reader.rows_between(TODAY - 90 * DAY, AS_OF + HOUR, as_of=AS_OF)

    assert 10 * ROWS_PER_DAY <= told <= 10 * ROWS_PER_DAY + too_many
    assert everything == 40 * ROWS_PER_DAY


def test_a_range_without_a_zone_is_refused(world: World) -> None:
    with (
        SourceReader.connect(world.hub.dsn, world.policy) as reader,
        pytest.raises(RequestError, match=r"end .* has no time zone"),
    ):
        reader.rows_between(TODAY - DAY, TODAY.replace(tzinfo=None), as_of=AS_OF)


def test_the_keys_of_a_day_are_its_credentials_data_types(world: World) -> None:
    """However many syncs each had."""
    for data_type, credential in (
        ("invoices", world.production),
        ("invoices", world.production),
        ("both", world.sandbox),
    ):
        world.add(started=AS_OF - TODAY, ended=AS_OF - TODAY - HOUR, data_type=data_type, credential=credential)
    with SourceReader.connect(world.hub.dsn, world.policy) as reader:
        chunks = reader.stream_days(days_of(0, 1), slack=DAY, as_of=AS_OF, clock=lambda: AS_OF)
        assert keys_in(chunks) == 2

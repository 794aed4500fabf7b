"""Whole days: every run that belongs to them, with its counts, and the age of the oldest runs still there."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd
import psycopg
import pytest

from include.simulation.bulk_history import bulk_history
from include.simulation.hub_plus import SHAPES, Run, create_source
from include.sync_health.errors import RequestError
from include.sync_health.frames import COUNT_COLUMNS, DETAIL_COLUMNS, DETAIL_TEXT_LIMIT, RUN_COLUMNS
from include.sync_health.policy import SourcePolicy
from include.warehouse.day_stream import Bounds, DaysRead
from include.warehouse.run_search import Reading, RunSearch
from include.warehouse.source_reader import SourceReader
from tests.warehouse.read_world import AS_OF, DAY, HOUR, MINUTE, SECOND, ZONES, MakeWorld, World

TODAY = datetime(2026, 3, 2, tzinfo=UTC)
YESTERDAY = TODAY - DAY
INDEXES = [
    pytest.param(None, id="by bisection or scan"),
    pytest.param("started_at", id="by an index on started_at"),
    pytest.param("completed_at", id="by an index on completed_at"),
]


def read(world: World, *, day_from: datetime = YESTERDAY, day_to: datetime = TODAY, slack: timedelta = DAY) -> DaysRead:
    with SourceReader.connect(world.hub.dsn, world.policy) as reader:
        return stream(reader, {day_from.date(): (day_from, day_to)}, slack=slack)[0]


def stream(
    reader: SourceReader, bounds: Bounds, *, slack: timedelta = DAY, rows_per_read: int = 1, clock: Any = lambda: AS_OF
) -> list[DaysRead]:
    return list(reader.stream_days(bounds, slack=slack, as_of=AS_OF, clock=clock, rows_per_read=rows_per_read))


def add(world: World, *, started: datetime, ended: datetime | None = None, **values: object) -> str:
    return world.add(started=AS_OF - started, ended=None if ended is None else AS_OF - ended, **values)


@pytest.mark.parametrize("index", INDEXES)
@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_day_has_the_runs_that_belong_to_it(make_world: MakeWorld, shape: str, zone: str, index: str | None) -> None:
    """By their end, to the second; without one, by their start. ``[day_from, day_to)``."""
    world = make_world(shape, zone)
    if index:
        world.sql(f"CREATE INDEX ON {world.hub.shape.log_table} ({index})")
    hour_before = YESTERDAY - HOUR
    add(world, started=hour_before, ended=YESTERDAY - SECOND)
    ours = [
        add(world, started=hour_before, ended=YESTERDAY, records=(20, 19, 1)),
        add(world, started=YESTERDAY + HOUR, ended=YESTERDAY + 2 * HOUR, status="failed", error_message="boom"),
        add(world, started=YESTERDAY + 2 * HOUR, ended=YESTERDAY + HOUR),  # it ends before it starts
        add(world, started=TODAY + HOUR, ended=TODAY - HOUR),  # likewise, over midnight
        add(world, started=YESTERDAY + HOUR, ended=TODAY - SECOND, status="running"),
        add(world, started=YESTERDAY - DAY, ended=YESTERDAY + HOUR),
        add(world, started=YESTERDAY),
        add(world, started=TODAY - SECOND, status="failed", updated_at=TODAY + HOUR),
        add(world, started=YESTERDAY + HOUR, status="completed"),
    ]
    add(world, started=YESTERDAY + HOUR, ended=TODAY)
    add(world, started=YESTERDAY - SECOND)
    add(world, started=TODAY)
    add(world, started=YESTERDAY - DAY - SECOND, ended=YESTERDAY + HOUR)  # beyond the slack

    runs = read(world).runs
    assert tuple(runs.columns) == (*RUN_COLUMNS, *COUNT_COLUMNS, *DETAIL_COLUMNS)
    assert sorted(runs["sync_id"].astype(str)) == sorted(ours)
    first = runs[runs["sync_id"].astype(str) == ours[0]].iloc[0]
    assert (first["records_processed"], first["completed_at"]) == (20, YESTERDAY)


def test_what_is_odd_in_them_is_counted(world: World) -> None:
    add(world, started=YESTERDAY + 2 * HOUR, ended=YESTERDAY + HOUR)
    add(world, started=YESTERDAY + HOUR, status="completed")
    assert read(world).anomalies == {"negative_duration": 1, "completed_without_completed_at": 1}


def test_an_endless_end_is_none(make_world: MakeWorld) -> None:
    """Whichever way the rows are found."""
    world = make_world()
    endless = add(world, started=YESTERDAY + HOUR)
    world.sql("UPDATE servicetitan_sync_logs SET completed_at = 'infinity'")
    assert read(world).runs["sync_id"].astype(str).tolist() == [endless]
    world.sql("CREATE INDEX ON servicetitan_sync_logs (completed_at)")
    assert read(world).runs["sync_id"].astype(str).tolist() == [endless]


@pytest.mark.parametrize("index", INDEXES)
@pytest.mark.parametrize("zone", ["UTC", "America/New_York"])
def test_any_days_of_a_long_history_are_what_a_scan_finds(
    make_database: Callable[..., str], zone: str, index: str | None
) -> None:
    """At the end, in the middle and at the start of 30,000 rows, at the price of the days."""
    dsn = make_database("days")
    create_source(dsn)
    bulk_history(dsn, rows=30_000, rows_per_day=1_000, until=AS_OF, credentials=50, timezone=zone)
    with psycopg.connect(dsn, autocommit=True) as owner:
        if index:
            owner.execute(f"CREATE INDEX ON servicetitan_sync_logs ({index})".encode())
        with SourceReader.connect(dsn, SourcePolicy(timezone=zone)) as reader:
            for age in (0, 1, 17, 29, 60):
                day_from = TODAY - age * DAY
                expected = owner.execute(
                    "SELECT id, records_processed FROM servicetitan_sync_logs"
                    " WHERE coalesce(completed_at, started_at) AT TIME ZONE %(zone)s >= %(from)s"
                    " AND coalesce(completed_at, started_at) AT TIME ZONE %(zone)s < %(to)s ORDER BY id",
                    {"zone": zone, "from": day_from, "to": day_from + DAY},
                ).fetchall()
                (days,) = stream(reader, {day_from.date(): (day_from, day_from + DAY)})
                runs = days.runs.sort_values("sync_id")
                assert list(zip(runs["sync_id"], runs["records_processed"], strict=True)) == expected
                assert days.rows_read < 2_500
                assert days.round_trips <= 10


@pytest.mark.parametrize(
    ("day_from", "day_to", "words"),
    [
        pytest.param(TODAY, TODAY, "is none", id="no day at all"),
        pytest.param(TODAY, YESTERDAY, "is none", id="days in the wrong order"),
        pytest.param(TODAY.replace(tzinfo=None), AS_OF, "day_from .* no time zone", id="a naive start"),
        pytest.param(TODAY, AS_OF.replace(tzinfo=None), "day_to .* no time zone", id="a naive end"),
    ],
)
def test_days_that_are_none_are_refused(world: World, day_from: datetime, day_to: datetime, words: str) -> None:
    with pytest.raises(RequestError, match=words):
        read(world, day_from=day_from, day_to=day_to)


@pytest.mark.parametrize("index", INDEXES)
@pytest.mark.parametrize("zone", ["UTC", "America/New_York"])
@pytest.mark.parametrize("rows_per_read", [1, 2_500, 100_000], ids=["a day", "some days", "all days"])
def test_many_days_in_chunks_are_what_a_scan_finds(
    make_database: Callable[..., str], zone: str, index: str | None, rows_per_read: int
) -> None:
    """Each run once, in the chunk of its own day, also one that took nine days; gaps between the days are left out."""
    dsn = make_database("chunks")
    create_source(dsn)
    bulk_history(dsn, rows=20_000, rows_per_day=1_000, until=AS_OF, credentials=50, timezone=zone)
    with psycopg.connect(dsn, autocommit=True) as owner:
        owner.execute(
            "UPDATE servicetitan_sync_logs SET completed_at = completed_at + interval '9 days' WHERE id % 97 = 0"
        )
        if index:
            owner.execute(f"CREATE INDEX ON servicetitan_sync_logs ({index})".encode())
        found = owner.execute(
            "SELECT id, coalesce(completed_at, started_at) AT TIME ZONE %(zone)s FROM servicetitan_sync_logs"
            " WHERE coalesce(completed_at, started_at) - started_at < interval '10 days'",
            {"zone": zone},
        ).fetchall()
    days = [TODAY - age * DAY for age in (*range(9), *range(11, 18))]
    bounds = {day.date(): (day, day + DAY) for day in reversed(days)}
    with SourceReader.connect(dsn, SourcePolicy(timezone=zone)) as reader:
        chunks = stream(reader, bounds, slack=15 * DAY, rows_per_read=rows_per_read)
    assert [day for chunk in chunks for day in chunk.days] == sorted(bounds)
    if rows_per_read == 1:
        assert {len(chunk.days) for chunk in chunks} == {1}
    for chunk in chunks:
        start, end = bounds[chunk.days[0]][0], bounds[chunk.days[-1]][1]
        expected = sorted(sync for sync, at in found if start <= at < end)
        assert sorted(chunk.runs["sync_id"]) == expected
        assert len(chunk.late_sync_ids) == sum(sync % 97 == 0 for sync in expected)
    if index is None:
        # Each key once, but for the search's blocks: the days, a lead of 15 days (of rows that end in them), no more.
        assert sum(chunk.rows_read for chunk in chunks) < 20_000


def test_a_chunk_tells_when_the_oldest_of_its_rows_was_read(world: World) -> None:
    """Rows that were carried are as old as the read that found them."""
    for day in (YESTERDAY - DAY, YESTERDAY, TODAY):
        add(world, started=day + HOUR, ended=day + 2 * HOUR)
    moments = iter(AS_OF + n * MINUTE for n in range(10))
    bounds = {day.date(): (day, day + DAY) for day in (YESTERDAY - DAY, YESTERDAY, TODAY)}
    with SourceReader.connect(world.hub.dsn, world.policy) as reader:
        chunks = stream(reader, bounds, clock=lambda: next(moments))
    # All three rows are within the guard blocks of the first read.
    assert [chunk.read_at for chunk in chunks] == [AS_OF, AS_OF, AS_OF]
    assert [len(chunk.runs) for chunk in chunks] == [1, 1, 1]


@pytest.mark.parametrize(
    ("written", "told"),
    [
        pytest.param(None, None, id="nothing at all"),
        pytest.param("[]", None, id="an empty list, PHP's empty map"),
        pytest.param("{}", None, id="an empty object"),
        pytest.param("null", None, id="JSON's null"),
        pytest.param('{"zip": ["is empty"]}', '[{"zip": ["is empty"]},null]', id="an object"),
        pytest.param('{"a": "\\u0000"}', '[{"a": "\\u0000"},null]', id="a NUL that PostgreSQL can only hold escaped"),
        pytest.param(json.dumps("x" * DETAIL_TEXT_LIMIT), "[true,null]", id="too large to be read"),
    ],
)
def test_details_come_as_one_list(world: World, written: str | None, told: str | None) -> None:
    """Error details and metadata, verbatim; a source without the second column has null there."""
    add(world, started=YESTERDAY + HOUR, ended=YESTERDAY + 2 * HOUR)
    with psycopg.connect(world.hub.dsn) as conn:
        conn.execute("UPDATE servicetitan_sync_logs SET error_details = %s", [written])
    (found,) = read(world).runs["details"].tolist()
    assert found == told


def test_only_finished_runs_are_asked_for_details(world: World) -> None:
    """What failed is asked of completed and failed ones."""
    add(world, started=YESTERDAY + HOUR, status="running")
    world.sql("""UPDATE servicetitan_sync_logs SET error_details = '{"a": 1}'""")
    assert read(world).runs["details"].tolist() == [None]


def oldest(world: World) -> datetime | None:
    with SourceReader.connect(world.hub.dsn, world.policy) as reader:
        return reader.oldest_start().at


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("shape", SHAPES)
def test_the_oldest_start_of_a_small_table_is_that_of_its_oldest_row(
    make_world: MakeWorld, shape: str, zone: str
) -> None:
    world = make_world(shape, zone)
    assert oldest(world) is None
    for n in range(9):
        world.add(started=40 * DAY - n * HOUR, ended=DAY)
    assert oldest(world) == AS_OF - 40 * DAY


def test_the_oldest_start_is_not_that_of_a_stray_row(world: World) -> None:
    """Rows deleted by a retention, a few imported backdated ones left: the past that is gone stays gone."""
    world.hub.copy_runs(
        Run(
            credential=world.production,
            started_at=datetime(1970, 1, 1, tzinfo=UTC)
            if n == 0
            else AS_OF - (400 if n < 5 else 30) * DAY + n * MINUTE,
            completed_at=AS_OF,
        )
        for n in range(1_000)
    )
    found = oldest(world)
    assert found is not None
    assert AS_OF - 30 * DAY <= found <= AS_OF - 30 * DAY + 20 * MINUTE


def test_a_search_that_was_unsure_gives_no_row_twice(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its range of keys ended too late; that of the next one ends earlier, before what has been read already."""
    days = {(TODAY - ago * DAY).date(): (TODAY - ago * DAY, TODAY - (ago - 1) * DAY) for ago in range(6, 0, -1)}
    for start, _ in days.values():
        for hour in range(24):
            add(world, started=start + hour * HOUR, ended=start + hour * HOUR + MINUTE)
    found, highs = RunSearch.range_of, iter([49, 1 + 24 * 5, 73, 97, 1 + 24 * 6, 1 + 24 * 6])

    def unsure(self: RunSearch, reading: Reading, **bounds: Any) -> tuple[Any, Any]:
        return found(self, reading, **bounds)[0], next(highs)

    monkeypatch.setattr(RunSearch, "range_of", unsure)
    with SourceReader.connect(world.hub.dsn, world.policy) as reader:
        chunks = stream(reader, days)

    assert [len(chunk.runs) for chunk in chunks] == [24] * len(days)
    assert len({*pd.concat([chunk.runs["sync_id"] for chunk in chunks])}) == 24 * len(days)

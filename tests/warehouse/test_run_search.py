"""Every way to search for a window finds what reading the whole table finds."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pandas as pd
import psycopg
import pytest

from include.simulation.bulk_history import bulk_history
from include.simulation.hub_plus import Run, create_source
from include.sync_health.policy import SourcePolicy
from include.warehouse.source_reader import SourceReader
from tests.warehouse.read_world import (
    AS_OF,
    DAY,
    HOUR,
    MINUTE,
    SECOND,
    World,
)


@pytest.mark.parametrize(
    "index",
    [
        pytest.param(None, id="by bisection"),
        pytest.param("started_at", id="by an index on started_at"),
        pytest.param("completed_at", id="by an index on completed_at"),
    ],
)
@pytest.mark.parametrize("zone", ["UTC", "America/New_York"])
def test_every_way_to_search_finds_what_a_scan_finds(
    make_database: Callable[..., str], index: str | None, zone: str
) -> None:
    """Windows now, in the middle and at the start of 30,000 rows, against SQL that reads them all."""
    dsn = make_database("search")
    create_source(dsn)
    bulk_history(dsn, rows=30_000, rows_per_day=1_000, until=AS_OF, credentials=50, timezone=zone)
    with psycopg.connect(dsn, autocommit=True) as owner:
        if index:
            owner.execute(f"CREATE INDEX ON servicetitan_sync_logs ({index})".encode())
        with SourceReader.connect(dsn, SourcePolicy(timezone=zone)) as reader:
            for age in (timedelta(0), 3 * DAY, 17 * DAY, 29 * DAY, 60 * DAY):
                as_of = AS_OF - age
                expected = [
                    row[0]
                    for row in owner.execute(
                        "SELECT id FROM servicetitan_sync_logs WHERE completed_at AT TIME ZONE %(zone)s > %(since)s"
                        " AND completed_at AT TIME ZONE %(zone)s <= %(as_of)s ORDER BY completed_at, id",
                        {"zone": zone, "since": as_of - 5 * HOUR, "as_of": as_of},
                    )
                ]
                read = reader.read_runs(finished_from=as_of - 5 * HOUR, as_of=as_of, remembered_open=[])
                finished = read.runs[read.runs["finished_at"] <= pd.Timestamp(as_of)]
                assert finished["sync_id"].tolist() == expected
                # The day of slack and the bound's sloppiness, not the table.
                assert read.rows_read < 2_500
                assert read.round_trips <= 10


def test_the_notes_tell_that_starts_do_not_follow_the_keys(world: World) -> None:
    """A burst of backdated imports inside the window: a wider range is read, and nothing is lost."""
    world.hub.copy_runs(
        Run(
            credential=world.production,
            started_at=AS_OF - 400 * DAY if 29_300 <= n < 29_800 else AS_OF - (30_000 - n) * MINUTE,
            completed_at=AS_OF - 399 * DAY if 29_300 <= n < 29_800 else AS_OF - (30_000 - n) * MINUTE + SECOND,
        )
        for n in range(30_000)
    )
    read = world.read(remembered=[])
    assert len(read.runs) == 60
    with SourceReader.connect(world.hub.dsn, world.policy) as reader:
        day = reader.read_runs(finished_from=AS_OF - DAY, as_of=AS_OF, remembered_open=[])
    assert len(day.runs) == 24 * 60 - 500
    assert any("do not follow the keys" in note for note in (*read.notes, *day.notes))

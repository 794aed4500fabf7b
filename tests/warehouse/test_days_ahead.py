"""Days that are read ahead: never too much at once, and given up as soon as nobody wants them."""

from __future__ import annotations

import json
import random
import string
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import numpy as np
import psycopg
import pytest

from include.simulation.hub_plus import Run
from include.warehouse.day_stream import DETAIL_BYTES_PER_READ, Bounds
from include.warehouse.run_codes import LARGE_DETAIL_UNIT
from include.warehouse.run_rows import RawRows
from include.warehouse.source_reader import SourceReader
from tests.orchestration.source_troubles import CuttingProxy
from tests.warehouse.read_world import AS_OF, DAY, HOUR, MINUTE, World

TODAY = datetime(2026, 3, 2, tzinfo=UTC)
DAYS: Bounds = {(TODAY - n * DAY).date(): (TODAY - n * DAY, TODAY - (n - 1) * DAY) for n in range(30, 0, -1)}
LONG = 55_000
PER_DAY = 60


@pytest.fixture
def detailed(world: World) -> World:
    """A month of which only the second half has details: so many that a few days fill a read."""
    letters = random.Random(7)  # noqa: S311 - no secret: only hard to compress
    document = json.dumps({"text": "".join(letters.choices(string.ascii_letters, k=LONG))})
    starts = [start + n * MINUTE for start, _ in DAYS.values() for n in range(PER_DAY)]
    world.hub.copy_runs(
        Run(credential=world.production, started_at=start, completed_at=start + MINUTE, status="completed")
        for start in starts
    )
    with psycopg.connect(world.hub.dsn, autocommit=True) as conn:
        conn.execute(
            "UPDATE servicetitan_sync_logs SET error_details = %s WHERE completed_at >= %s",
            [document, (TODAY - 15 * DAY).replace(tzinfo=None)],
        )
    return world


def test_where_details_begin_fewer_days_are_read_at_once(detailed: World) -> None:
    """All of a month at once would be 50 MB of text, in one answer; nothing tells of them before they are there."""
    with SourceReader.connect(detailed.hub.dsn, detailed.policy) as reader:
        chunks = list(reader.stream_days(DAYS, slack=DAY, as_of=AS_OF, clock=lambda: AS_OF, rows_per_read=1_000_000))

    assert [day for chunk in chunks for day in chunk.days] == list(DAYS)
    weights = [sum(map(len, chunk.runs["details"].dropna())) for chunk in chunks]
    assert sum(weights) > 15 * PER_DAY * LONG
    assert max(weights) <= DETAIL_BYTES_PER_READ
    assert any(len(chunk.days) > 1 and weight for chunk, weight in zip(chunks, weights, strict=True))
    assert [len(chunk.runs) for chunk in chunks] == [PER_DAY * len(chunk.days) for chunk in chunks]


@pytest.mark.parametrize(
    ("sizes", "batches"),
    [
        pytest.param([], [], id="none"),
        pytest.param([10, 20, 30], [[1, 2, 3]], id="all that fit"),
        pytest.param([60, 60, 60], [[1], [2], [3]], id="one that would be too much begins the next"),
        pytest.param([500, 1], [[1], [2]], id="one that is too much by itself comes alone"),
        pytest.param([1, 1, 1, 1, 1], [[1, 2, 3, 4], [5]], id="no more rows than that"),
    ],
)
def test_details_are_asked_for_in_batches(world: World, sizes: list[int], batches: list[list[int]]) -> None:
    """Of at most a hundred bytes, or four rows."""
    with SourceReader.connect(world.hub.dsn, world.policy) as reader:
        shape = reader.shape
    keys = np.array([(number, 7) for number in range(1, len(sizes) + 1)], dtype=">i4").tobytes()
    codes = np.full(len(sizes), LARGE_DETAIL_UNIT, dtype=">i2").tobytes()
    rows = RawRows(
        buffers=[keys, codes, np.array(sizes, dtype=">i4").tobytes()],
        shape=shape,
        zone="UTC",
        details=("error_details",),
    )

    assert list(rows.detail_keys(bytes_at_most=100, rows_at_most=4)) == batches


def test_a_reader_that_waits_for_a_lock_is_given_up_when_nobody_wants_its_days(detailed: World) -> None:
    """Not after the statement's time-out, which is longer than this test may take."""
    policy = replace(detailed.policy, statement_timeout=HOUR)
    with (
        SourceReader.connect(detailed.hub.dsn, policy) as reader,
        psycopg.connect(detailed.hub.dsn) as other,
    ):
        chunks = reader.stream_days(
            DAYS, slack=DAY, as_of=AS_OF, clock=lambda: AS_OF, rows_per_read=1, pause=MINUTE / 600
        )
        next(chunks)
        other.execute("LOCK TABLE servicetitan_sync_logs")
        while not other.execute("SELECT 1 FROM pg_locks WHERE NOT granted").fetchone():
            pass

        chunks.close()

        assert other.execute("SELECT 1 FROM pg_locks WHERE NOT granted").fetchone() is None
        other.rollback()
        assert reader.read_credentials().shape[0] == 2  # the session is as good as before


def test_a_source_that_cannot_be_told_so_hides_no_other_error(detailed: World) -> None:
    """Its read ends by its own time-out, and what made us give it up is what is told."""
    policy = replace(detailed.policy, statement_timeout=timedelta(seconds=4))
    with CuttingProxy(detailed.hub.dsn, mark=b"never to be seen") as proxy:
        reader = SourceReader.connect(proxy.dsn, policy)
    # By now nobody can connect, which is how a statement is cancelled; the session that there was goes on.
    with reader, psycopg.connect(detailed.hub.dsn) as other:

        def fail_beside_a_lock() -> None:
            chunks = reader.stream_days(
                DAYS, slack=DAY, as_of=AS_OF, clock=lambda: AS_OF, rows_per_read=1, pause=MINUTE / 600
            )
            with closing(chunks):
                next(chunks)
                other.execute("LOCK TABLE servicetitan_sync_logs")
                while not other.execute("SELECT 1 FROM pg_locks WHERE NOT granted").fetchone():
                    pass
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            fail_beside_a_lock()


def test_a_pause_is_given_up_too(detailed: World) -> None:
    """It is longer than this test may take."""
    with SourceReader.connect(detailed.hub.dsn, detailed.policy) as reader:
        chunks = reader.stream_days(
            DAYS, slack=DAY, as_of=AS_OF, clock=lambda: AS_OF, rows_per_read=1, pause=timedelta(hours=1)
        )
        assert len(next(chunks).days) == 1

        chunks.close()


def test_a_read_that_leaves_nothing_to_the_next_does_not_make_the_one_after_it_huge(world: World) -> None:
    """Keys are searched in blocks: a search may go beyond its days, and the next read then finds few rows."""
    starts = [start + n * MINUTE for start, _ in DAYS.values() for n in range(40)]
    world.hub.copy_runs(
        Run(credential=world.production, started_at=start, completed_at=start + MINUTE, status="completed")
        for start in starts
    )
    with SourceReader.connect(world.hub.dsn, world.policy) as reader:
        chunks = list(reader.stream_days(DAYS, slack=DAY, as_of=AS_OF, clock=lambda: AS_OF, rows_per_read=120))

    assert min(chunk.rows_read for chunk in chunks) == 0  # such a read there was
    assert max(len(chunk.days) for chunk in chunks) <= 4
    assert all(later.days[0] - earlier.days[-1] == DAY for earlier, later in pairwise(chunks))

"""
What a run counts and tells where the source's record counts can be read, may not be, or are not there: from a real source
to StatsD, ``/metrics`` and the figures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest

from include.simulation.statsd_server import StatsdServer
from include.sync_health.errors import SourceError
from include.sync_health.record_counts import RECORDS
from include.warehouse.monitoring_session import connect
from include.warehouse.sync_figures import syncs_of_hours
from include.warehouse.sync_totals import SyncTotals
from tests.orchestration.measured_world import (
    COMPLETED,
    DAY,
    HOUR,
    MINUTE,
    PREFIX,
    gauge,
    hide_counts,
    measure,
    measure_data,
    page,
)
from tests.orchestration.metric_backends import statsd_backend
from tests.orchestration.monitored_world import NOON, TICK, MonitoredWorld, connection_of, monitored_world

MakeWorld = Callable[..., AbstractContextManager[MonitoredWorld]]

AVAILABLE = "servicetitan_monitor_record_count_available"
LAST, SCORE = "servicetitan_sync_records", "servicetitan_data_quality"


@pytest.fixture
def make(make_database: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> MakeWorld:
    """Return what makes a healthy world of a shape with one credential, whose last sync ended at nine with ten records."""
    return partial(monitored_world, make_database, monkeypatch, tmp_path)


@pytest.fixture
def world(make: MakeWorld) -> Iterator[MonitoredWorld]:
    """One whose counts can be read."""
    with make() as made:
        yield made


@pytest.fixture
def statsd(monkeypatch: pytest.MonkeyPatch) -> Iterator[StatsdServer]:
    """What this process's metrics go to."""
    with statsd_backend(monkeypatch) as server:
        yield server


def add_sync(world: MonitoredWorld, *, minutes: int = 1) -> None:
    """Add a sync of twenty records, of which five failed, that ended so long before noon."""
    end = NOON - minutes * MINUTE
    world.hub.add_run(world.credential, started_at=end - MINUTE, completed_at=end, records=(20, 15, 5))


def hours(world: MonitoredWorld) -> list[tuple[Any, ...]]:
    """Return started and completed syncs, clean and partial ones and the records of each hour."""
    with connect(world.monitoring_dsn) as conn:
        return conn.execute(
            "SELECT syncs_started, syncs_completed, syncs_clean, syncs_partial, records_processed, records_successful,"
            " records_failed FROM monitoring.sync_hour ORDER BY hour"
        ).fetchall()


def figures(world: MonitoredWorld) -> SyncTotals:
    """Return the syncs of the day up to noon and its hour."""
    with connect(world.monitoring_dsn) as conn:
        return syncs_of_hours(conn, start=NOON - DAY, end=NOON + 2 * HOUR)


def told(world: MonitoredWorld, prefix: str) -> dict[str, float]:
    """Return the series of ``/metrics`` whose names begin so, without that beginning."""
    found = page(world, now=NOON + MINUTE)
    return {name.removeprefix(prefix).strip("_ "): value for name, value in found.items() if name.startswith(prefix)}


def of_statsd(statsd: StatsdServer, name: str) -> dict[str, float]:
    """Return the gauges of StatsD whose names begin so, without that beginning."""
    found = statsd.gauges(f"{PREFIX}{name}")
    return {series[0].removeprefix(f"{PREFIX}{name}"): value for series, value in found.items()}


def test_counts_that_can_be_read_are_told(world: MonitoredWorld, statsd: StatsdServer) -> None:
    """Everywhere, with nothing to say about it."""
    add_sync(world)

    measure(world)
    measure_data(world)

    assert hours(world) == [
        (1, 0, 0, 0, 0, 0, 0),  # of eight, whose sync ended at nine
        (0, 1, 1, 0, 10, 10, 0),
        (1, 1, 0, 1, 20, 15, 5),
    ]
    assert of_statsd(statsd, "sync.records_") == {"processed": 20, "successful": 15, "failed": 5}
    assert of_statsd(statsd, "data_quality.")["score"] == 100 * 25 / 30
    assert told(world, LAST) == {"processed completed": 20, "successful completed": 15, "failed completed": 5}
    assert told(world, SCORE)["score_percent"] == 100 * 25 / 30
    assert told(world, AVAILABLE) == dict.fromkeys(RECORDS, 1)
    found = figures(world)
    assert (found.records_processed, found.strict_success_rate, found.outcome_coverage) == (30, 50, 100)
    assert found.unavailable is None


def test_a_log_that_counts_what_was_processed_alone_has_no_outcomes(make: MakeWorld, statsd: StatsdServer) -> None:
    """The architecture document's shape: what it has is told, and the rest is absent; no score of 0."""
    with make(shape="architecture") as world:
        add_sync(world)

        measure(world)
        measure_data(world)

        assert hours(world) == [
            (1, 0, 0, 0, 0, 0, 0),
            (0, 1, None, None, 10, None, None),
            (1, 1, None, None, 20, None, None),
        ]
        assert of_statsd(statsd, "sync.records_") == {"processed": 20}
        assert of_statsd(statsd, "sync.success_rate") == {}
        assert of_statsd(statsd, "data_quality.") == {"total_records": 30}
        assert told(world, LAST) == {"processed completed": 20}
        assert told(world, SCORE) == {"total_records": 30}
        assert told(world, AVAILABLE) == {"records_processed": 1, "records_successful": 0, "records_failed": 0}
        found = figures(world)
        assert (found.records_processed, found.records_per_sync, found.records_coverage) == (30, 15, 100)
        assert (found.clean, found.records_failed, found.strict_success_rate) == (None, None, None)
        assert (found.success_rate, found.outcome_coverage) == (100, 0)
        assert found.unavailable == (
            "How many records succeeded or failed is not known of 2 of 2 syncs that ended. Because "
            "public.servicetitan_sync_logs has no columns records_successful and records_failed (docs/deployment.md)."
        )
        assert measure_data(world, NOON + 2 * DAY)["gone"] == 1
        assert of_statsd(statsd, "data_quality.") == {"total_records": 0}


def drop_counts(world: MonitoredWorld) -> None:
    """Take the columns away, as a change of the application might."""
    with psycopg.connect(world.source_dsn, autocommit=True) as owner:
        for name in RECORDS:
            owner.execute(f"ALTER TABLE {world.hub.shape.log_table} DROP {name}".encode())


def drop_one_outcome(world: MonitoredWorld) -> None:
    """Take one of two columns away that belong together: the data quality check is blind, too."""
    with psycopg.connect(world.source_dsn, autocommit=True) as owner:
        owner.execute(f"ALTER TABLE {world.hub.shape.log_table} DROP records_failed".encode())


@pytest.mark.parametrize(
    ("lose", "why"),
    [
        pytest.param(drop_counts, "has no column records_processed", id="the columns are gone"),
        pytest.param(drop_one_outcome, "has no column records_failed", id="one of them is"),
        pytest.param(
            hide_counts,
            "GRANT SELECT (records_processed, records_successful, records_failed) ON public.servicetitan_sync_logs",
            id="the role may not read them",
        ),
    ],
)
def test_counts_that_cannot_be_read_are_unknown_and_syncs_are_counted_all_the_same(
    world: MonitoredWorld, statsd: StatsdServer, lose: Callable[[MonitoredWorld], None], why: str
) -> None:
    """No 0 anywhere, and the sentence in its place says what to do."""
    add_sync(world)
    world.tick(NOON)
    lose(world)

    assert measure(world, evaluated=False)["ended"] == 1
    with pytest.raises(SourceError, match="records_"):
        measure_data(world)

    assert sum(statsd.counters(COMPLETED).values()) == 1
    assert statsd.gauges(f"{PREFIX}sync") == statsd.gauges(f"{PREFIX}data_quality") == {}
    assert hours(world) == [
        (1, 0, 0, 0, 0, 0, 0),
        (0, 1, None, None, None, None, None),
        (1, 1, None, None, None, None, None),
    ]
    assert told(world, LAST) == told(world, SCORE) == {}
    assert told(world, "servicetitan_sync_completed") == {"total completed": 1}
    assert told(world, AVAILABLE) == dict.fromkeys(RECORDS, 0)
    found = figures(world)
    assert (found.records_processed, found.records_per_sync, found.strict_success_rate) == (None, None, None)
    assert (found.success_rate, found.records_coverage, found.outcome_coverage) == (100, 0, 0)
    assert found.unavailable is not None
    assert found.unavailable.startswith(
        "How many records were processed is not known of 2 of 2 syncs that ended. Because"
    )
    assert why in found.unavailable
    (row,) = world.rows("SELECT notes FROM monitoring.check_run WHERE check_name = 'measure_syncs'")
    assert why in row["notes"][-1]


def test_what_was_hidden_is_known_once_it_is_granted_and_counters_do_not_leap(
    world: MonitoredWorld, statsd: StatsdServer
) -> None:
    """The hours of the last day are measured again; older ones stay unknown; nothing is counted again."""
    owner = world.source_dsn
    long_ago = NOON - 25 * HOUR - 30 * MINUTE
    world.succeed(world.credential, at=long_ago)
    hide_counts(world)
    measure(world, long_ago + MINUTE)
    add_sync(world, minutes=20)
    measure(world, NOON - TICK)
    add_sync(world)
    statsd.forget()
    with psycopg.connect(owner, autocommit=True) as conn:
        conn.execute(f"GRANT SELECT ON {world.hub.shape.log_table} TO narrow_metrics".encode())

    assert measure(world)["ended"] == 1

    assert sum(statsd.counters(COMPLETED).values()) == 1
    assert of_statsd(statsd, "sync.records_") == {"processed": 20, "successful": 15, "failed": 5}
    # Ended a day ago, at nine (before any window of its own was counted, but in time for this one), and just now.
    assert told(world, "servicetitan_sync_completed") == {"total completed": 4}
    assert hours(world) == [
        (1, 1, None, None, None, None, None),
        (1, 0, 0, 0, 0, 0, 0),
        (0, 1, 1, 0, 10, 10, 0),
        (2, 2, 0, 2, 40, 30, 10),
    ]
    assert told(world, AVAILABLE) == dict.fromkeys(RECORDS, 1)
    with connect(world.monitoring_dsn) as conn:
        found = syncs_of_hours(conn, start=NOON - 2 * DAY, end=NOON + HOUR)
    assert (found.records_processed, found.records_coverage, found.outcome_coverage) == (None, 75, 75)
    assert found.records_per_sync == pytest.approx(50 / 3)
    assert found.unavailable is not None
    assert "1 of 4 syncs that ended. They can be read now" in found.unavailable
    statsd.forget()
    measure(world, NOON + TICK)
    assert statsd.counters(COMPLETED) == {}


def test_the_records_of_the_last_sync_are_absent_while_its_counts_are_hidden(
    world: MonitoredWorld, statsd: StatsdServer
) -> None:
    """Those of an older sync would be told as the newest one's."""
    add_sync(world, minutes=20)
    measure(world, NOON - TICK)
    assert told(world, LAST)["processed completed"] == 20
    add_sync(world)
    hide_counts(world)
    statsd.forget()

    measure(world)

    assert told(world, LAST) == {}
    assert statsd.gauges(f"{PREFIX}sync.records_processed") == {}
    assert told(world, "servicetitan_sync_completed") == {"total completed": 2}


def test_the_quality_of_an_earlier_day_is_not_told_as_the_last_ones(
    world: MonitoredWorld, statsd: StatsdServer
) -> None:
    """The series are absent from the first window on that cannot be read; a later one that can is told, and once."""
    measure_data(world)
    assert told(world, SCORE)["total_records"] == 10
    owner = world.source_dsn
    hide_counts(world)
    statsd.forget()

    for _ in range(2):
        with pytest.raises(SourceError, match="GRANT SELECT"):
            measure_data(world, NOON + 6 * HOUR)
    assert told(world, SCORE) == {}
    assert statsd.gauges(f"{PREFIX}data_quality") == {}

    with psycopg.connect(owner, autocommit=True) as conn:
        conn.execute(f"GRANT SELECT ON {world.hub.shape.log_table} TO narrow_metrics".encode())
    measure_data(world, NOON + 6 * HOUR)
    assert told(world, SCORE)["total_records"] == 10
    assert gauge(statsd, "data_quality.total_records") == 10

    hide_counts(world)
    with pytest.raises(SourceError, match="GRANT SELECT"):
        measure_data(world, NOON + 12 * HOUR)
    with psycopg.connect(owner, autocommit=True) as conn:
        conn.execute(f"GRANT SELECT ON {world.hub.shape.log_table} TO narrow_metrics".encode())
    assert measure_data(world, NOON + 2 * DAY)["gone"] == 1
    assert gauge(statsd, "data_quality.total_records") == 0


def test_what_a_source_that_refuses_us_told_before_stays(world: MonitoredWorld, statsd: StatsdServer) -> None:
    """A login that is refused says nothing of the counts."""
    measure_data(world)
    refused = psycopg.conninfo.make_conninfo(world.source_dsn, user="nobody_of_that_name")
    world.environment.setenv("AIRFLOW_CONN_HUB_PLUS_DB", connection_of(refused))

    with pytest.raises(SourceError) as told_why:
        measure_data(world, NOON + 6 * HOUR)

    assert told_why.value.cause == "permission"
    assert told(world, SCORE)["total_records"] == 10


def test_a_sync_without_a_number_adds_nothing_where_the_column_can_be_read(
    world: MonitoredWorld, statsd: StatsdServer
) -> None:
    """As in the daily quality: one odd row does not hide what all others say. Its own gauges are absent."""
    add_sync(world, minutes=5)
    add_sync(world)
    with psycopg.connect(world.source_dsn, autocommit=True) as owner:
        table = world.hub.shape.log_table
        for name in RECORDS:
            owner.execute(f"ALTER TABLE {table} ALTER {name} DROP NOT NULL".encode())
        owner.execute(
            f"UPDATE {table} SET records_processed = NULL, records_successful = NULL, records_failed = NULL"
            f" WHERE id = (SELECT max(id) FROM {table})".encode()
        )

    measure(world)
    measure_data(world)

    assert hours(world)[-1] == (2, 2, 1, 1, 20, 15, 5)
    assert told(world, LAST) == {}
    assert told(world, SCORE)["total_records"] == 30
    assert told(world, AVAILABLE) == dict.fromkeys(RECORDS, 1)
    assert figures(world).unavailable is None

"""What a run counts and tells: from a real source through our schema to a real StatsD, and nothing twice."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from include.orchestration.measuring import LONGEST_PAUSE, counted_since
from include.simulation.hub_plus import Run
from include.simulation.statsd_server import StatsdServer
from include.sync_health.errors import SourceError, StorageError
from include.sync_health.windows import Window
from include.warehouse.metric_emissions import Emission
from tests.orchestration.measured_world import (
    COMPLETED,
    DAY,
    HOUR,
    MINUTE,
    PREFIX,
    company,
    counted,
    gauge,
    measure,
    measure_data,
)
from tests.orchestration.metric_backends import statsd_backend
from tests.orchestration.monitored_world import NOON, OVERLAY, TICK, MonitoredWorld, monitored_world


@pytest.fixture
def world(
    make_database: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[MonitoredWorld]:
    """A healthy world with one credential, whose last sync ended at nine."""
    with monitored_world(make_database, monkeypatch, tmp_path) as made:
        yield made


@pytest.fixture
def statsd(monkeypatch: pytest.MonkeyPatch) -> Iterator[StatsdServer]:
    """What this process's metrics go to."""
    with statsd_backend(monkeypatch) as server:
        yield server


def test_a_run_tells_what_happened_in_its_window(world: MonitoredWorld, statsd: StatsdServer) -> None:
    """Counters, durations, the records of the last sync, credentials, and what it cost; all lines are well formed."""
    add = world.hub.add_run
    for minutes, good in ((10, 8), (4, 9)):
        at = NOON - minutes * MINUTE
        add(
            world.credential,
            data_type="invoices",
            started_at=at - 30 * MINUTE,
            completed_at=at,
            records=(10, good, 10 - good),
        )
    at = NOON - 2 * MINUTE
    add(
        world.credential,
        status="failed",
        started_at=at - MINUTE,
        completed_at=at,
        error_message="HTTP 401 invalid_client",
    )
    world.hub.cancel_run(add(world.credential, status="running", started_at=at - MINUTE), at=at)
    add(world.credential, status="running", started_at=NOON - 3 * MINUTE)

    told = measure(world)

    mine = company(world)
    assert counted(statsd, "sync.started") == {("production", "both", mine): 3}
    assert counted(statsd, "sync.completed") == {
        ("production", "invoices", "completed", mine): 2,
        ("production", "both", "failed", mine): 1,
        ("production", "both", "cancelled", mine): 1,
    }
    durations = {dict(series[1])["status"]: each for series, each in statsd.timings(f"{PREFIX}sync").items()}
    assert durations == {"completed": [1_800_000.0] * 2, "failed": [60_000.0], "cancelled": [60_000.0]}
    assert gauge(statsd, "sync.records_successful", data_type="invoices", status="completed") == 9
    assert gauge(statsd, "sync.success_rate", data_type="invoices", status="completed") == 90
    assert gauge(statsd, "sync.records_processed", status="failed") == 0
    assert gauge(statsd, "sync.success_rate", status="failed") is None
    assert gauge(statsd, "credentials.status", status="active", company_id=mine) == 1
    assert gauge(statsd, "credentials.token_expiry_seconds") is None
    assert gauge(statsd, "monitor.check_rows", check="sync_failures") == told["rows_read"]
    assert gauge(statsd, "monitor.check_milliseconds", check="measure_syncs") is not None
    assert (told["started"], told["ended"], told["averaged"]) == (3, 4, 0)
    assert statsd.refused() == []
    # Started before the window, or before counting began: in the hours all the same.
    assert [
        (row["syncs_started"], row["syncs_completed"])
        for row in world.rows("SELECT * FROM monitoring.sync_hour ORDER BY hour, data_type")
    ] == [
        (1, 0),  # eight: the first sync of this world
        (0, 1),  # nine
        (3, 0),
        (2, 2),
    ]


def test_a_retry_tells_nothing_again(world: MonitoredWorld, statsd: StatsdServer) -> None:
    """Neither counters nor gauges; the source is not even read."""
    world.succeed(world.credential, at=NOON - MINUTE)
    measure(world)
    statsd.forget()

    again = measure(world, evaluated=False)

    assert again["skipped"].startswith("the window up to 2026-03-10T12:00:00+00:00")
    assert statsd.lines(PREFIX) == []


def test_a_run_that_dies_before_its_commit_is_made_up_for_by_its_retry(
    world: MonitoredWorld, statsd: StatsdServer
) -> None:
    """Whatever was counted is undone with the claim, and nothing was told yet."""
    world.succeed(world.credential, at=NOON - MINUTE)
    world.tick(NOON)
    with psycopg.connect(world.monitoring_dsn, autocommit=True) as other:
        other.execute("ALTER TABLE monitoring.sync_hour ADD CONSTRAINT full_disk CHECK (false) NOT VALID")
        with pytest.raises(StorageError, match="full_disk"):
            measure(world, evaluated=False)
        assert statsd.lines(PREFIX) == []
        other.execute("ALTER TABLE monitoring.sync_hour DROP CONSTRAINT full_disk")

    assert measure(world, evaluated=False)["ended"] == 1
    assert sum(statsd.counters(COMPLETED).values()) == 1


def test_a_sync_that_is_committed_late_counts_once(world: MonitoredWorld, statsd: StatsdServer) -> None:
    """It ended hours before the run that first sees it."""
    measure(world, NOON - 4 * HOUR)
    measure(world)
    world.succeed(world.credential, at=NOON - 2 * HOUR)
    statsd.forget()

    measure(world, NOON + TICK)
    measure(world, NOON + 2 * TICK)

    assert sum(statsd.counters(COMPLETED).values()) == 1


def test_the_records_of_a_sync_that_shows_up_late_are_not_those_of_the_last(
    world: MonitoredWorld, statsd: StatsdServer
) -> None:
    """A gauge never goes back in time."""
    measure(world, NOON - TICK)
    world.succeed(world.credential, at=NOON - MINUTE)
    measure(world)
    late = NOON - 5 * MINUTE
    world.hub.add_run(world.credential, started_at=late - MINUTE, completed_at=late, records=(99, 99, 0))

    assert measure(world, NOON + TICK)["ended"] == 1

    assert gauge(statsd, "sync.records_processed", status="completed") == 10


def test_a_sync_of_days_counts_when_it_ends(world: MonitoredWorld, statsd: StatsdServer) -> None:
    """It started long before the slack; the run before remembered that it was open."""
    long = world.hub.add_run(world.credential, status="running", started_at=NOON - 3 * DAY)
    # So many came after it that a read of the window alone does not reach it.
    others = [NOON - 3 * DAY + number * timedelta(seconds=40) for number in range(1_500)]
    world.hub.copy_runs(
        Run(credential=world.credential, started_at=at, completed_at=at + timedelta(seconds=30)) for at in others
    )
    measure(world)
    world.hub.finish_run(long, at=NOON + MINUTE)
    statsd.forget()

    measure(world, NOON + TICK)

    (durations,) = statsd.timings(f"{PREFIX}sync.duration").values()
    assert durations == [(3 * DAY + MINUTE) / timedelta(milliseconds=1)]


def test_a_sync_of_days_stays_in_the_hour_of_its_end(world: MonitoredWorld, statsd: StatsdServer) -> None:
    """Later runs replace that hour, and must read it again although it started long before the slack."""
    long = world.hub.add_run(world.credential, status="running", started_at=NOON - 3 * DAY)
    others = [NOON - 3 * DAY + number * timedelta(seconds=40) for number in range(1_500)]
    world.hub.copy_runs(
        Run(credential=world.credential, started_at=at, completed_at=at + timedelta(seconds=30)) for at in others
    )
    world.tick(NOON - DAY)
    measure(world)
    world.hub.finish_run(long, at=NOON + MINUTE)

    for later in (1, 2, 3):
        measure(world, NOON + later * TICK)
        (row,) = world.rows("SELECT sum(syncs_completed) AS n FROM monitoring.sync_hour WHERE hour = %s", NOON)
        assert row["n"] == 1, later


def test_two_runs_at_once_tell_each_sync_once(world: MonitoredWorld, statsd: StatsdServer) -> None:
    """Both have read the source before either counts."""
    for number in range(20):
        world.succeed(world.credential, at=NOON - number * timedelta(seconds=10))
    world.tick(NOON)
    results: list[dict[str, Any]] = []
    threads = [threading.Thread(target=lambda: results.append(measure(world, evaluated=False))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted("skipped" in result for result in results) == [False, True, True]
    assert sum(statsd.counters(COMPLETED).values()) == 20


@pytest.mark.parametrize(
    ("options", "why"),
    [
        pytest.param({"is_backfill": True}, "backfill", id="a backfill"),
        pytest.param({"late": 7 * HOUR}, "looks at the past", id="a run of a window that is too old"),
        pytest.param({"credential": "1"}, "leave credentials out", id="one that is narrowed to a credential"),
        pytest.param({"environment": "production"}, "leave credentials out", id="or to an environment"),
        pytest.param({"credential": "; DROP"}, "Params are wrong", id="one whose Param makes no sense"),
        pytest.param({"windowend": "x"}, "Params are wrong", id="one with a Param that nobody knows"),
        pytest.param({"window_end": "noon"}, "Params are wrong", id="one whose window ends nowhere"),
    ],
)
@pytest.mark.parametrize("task", [measure, measure_data], ids=["syncs", "data quality"])
def test_such_a_run_counts_and_tells_nothing(
    world: MonitoredWorld, statsd: StatsdServer, task: Callable[..., dict[str, Any]], options: dict[str, Any], why: str
) -> None:
    """And says why, for the task to be skipped."""
    world.succeed(world.credential, at=NOON - MINUTE)
    world.tick(NOON)
    if "late" in options and task is measure_data:
        options = {"late": 25 * HOUR}  # the horizon of that check

    told = task(world, **({"evaluated": False} if task is measure else {}), **options)

    assert told.keys() == {"skipped"}
    assert why in told["skipped"]
    assert statsd.lines(PREFIX) == []
    for table in ("metric_emission", "sync_counter", "counted_sync", "sync_hour", "quality_gauge"):
        assert world.rows(f"SELECT * FROM monitoring.{table}") == []


def test_an_older_window_counts_nothing(world: MonitoredWorld, statsd: StatsdServer) -> None:
    """The newer run has counted what happened in it, and its gauges stand."""
    measure(world, NOON - TICK)
    measure(world, NOON + TICK)
    world.succeed(world.credential, at=NOON - MINUTE)
    statsd.forget()

    assert "skipped" in measure(world, NOON, evaluated=False)
    assert statsd.lines(PREFIX) == []
    assert measure(world, NOON + 2 * TICK)["ended"] == 1


def test_a_pause_is_made_up_for(world: MonitoredWorld, statsd: StatsdServer) -> None:
    """Longer than late_syncs: two days in which nobody looked, and their hours."""
    measure(world)
    for day in (1, 2):
        world.succeed(world.credential, at=NOON + day * DAY - 6 * HOUR)
    statsd.forget()

    told = measure(world, NOON + 2 * DAY)

    assert told["ended"] == 2
    assert sum(statsd.counters(COMPLETED).values()) == 2
    (row,) = world.rows("SELECT sum(syncs_completed) AS completed FROM monitoring.sync_hour")
    assert row["completed"] == 3  # with the one at nine


@pytest.mark.parametrize(
    ("newest", "since"),
    [
        pytest.param(None, NOON - DAY, id="the first run reads a day, for its hours"),
        pytest.param(NOON - TICK, NOON - DAY, id="as late as a sync may show up"),
        pytest.param(NOON - 3 * DAY, NOON - 3 * DAY, id="further back after a pause"),
        pytest.param(NOON - 30 * DAY, NOON - LONGEST_PAUSE, id="but not for ever"),
    ],
)
def test_syncs_are_read_from_the_last_count_on(newest: datetime | None, since: datetime) -> None:
    """And at least as far as one may be late."""
    emission = None if newest is None else Emission(window_to=newest, remembered_from=newest)

    assert counted_since(Window(start=NOON - TICK, as_of=NOON), late_syncs=DAY, newest=emission) == since


def test_a_change_of_status_is_told_with_the_old_one(world: MonitoredWorld, statsd: StatsdServer) -> None:
    """Also when runs between failed: what counts is what was told last."""
    expires = NOON + 10 * MINUTE
    world.hub.set_token(world.credential, expires_at=expires, at=NOON - HOUR)
    measure(world)
    mine = company(world)
    assert gauge(statsd, "credentials.token_expiry_seconds", status="active", company_id=mine) == 600
    world.hub.set_status(world.credential, "error", at=NOON + MINUTE)
    world.tick(NOON + TICK)

    measure(world, NOON + 2 * TICK)

    assert gauge(statsd, "credentials.status", status="active", company_id=mine) == 0
    assert gauge(statsd, "credentials.status", status="error", company_id=mine) == 1
    assert gauge(statsd, "credentials.token_expiry_seconds", status="error") == -1200


@pytest.mark.parametrize(
    ("level", "labels", "has_failures"),
    [
        pytest.param("minimal", {"environment", "data_type", "status"}, False, id="minimal"),
        pytest.param("standard", {"environment", "data_type", "status", "company_id"}, False, id="standard"),
        pytest.param(
            "detailed", {"environment", "data_type", "status", "company_id", "credential_id"}, True, id="detailed"
        ),
    ],
)
def test_the_level_of_the_policy_says_what_is_told(
    world: MonitoredWorld, statsd: StatsdServer, level: str, labels: set[str], has_failures: bool
) -> None:
    """The counters in our schema are the same at every level."""
    world.overlay.write_text(f"{OVERLAY}\nmonitoring_level: {level}\n")
    world.fail_three_times(world.credential, before=NOON)

    measure(world)

    ((_, told),) = statsd.counters(COMPLETED)
    assert {name for name, _ in told} == labels
    assert bool(counted(statsd, "sync.failures")) is has_failures
    assert bool(statsd.gauges(f"{PREFIX}sync.records_processed")) is (level != "minimal")
    (row,) = world.rows("SELECT syncs, failed_by_class FROM monitoring.sync_counter WHERE status = 'failed'")
    assert (row["syncs"], row["failed_by_class"]) == (3, {"auth": 3})


def test_many_durations_are_averaged(world: MonitoredWorld, statsd: StatsdServer) -> None:
    """Beyond the policy's cap; how many is told."""
    world.overlay.write_text(f"{OVERLAY}\nmetrics: {{timings_cap: 2}}\n")
    for seconds in (10, 20, 60):
        at = NOON - MINUTE
        world.hub.add_run(world.credential, started_at=at - timedelta(seconds=seconds), completed_at=at)

    told = measure(world)

    assert list(statsd.timings(f"{PREFIX}sync.duration").values()) == [[30_000.0]]
    assert told["averaged"] == 3


def test_a_source_that_cannot_be_reached_leaves_the_window_to_the_next_run(
    world: MonitoredWorld, statsd: StatsdServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The task fails, and nothing is claimed."""
    world.succeed(world.credential, at=NOON - MINUTE)
    measure(world, NOON - TICK)
    with monkeypatch.context() as patch:
        patch.setenv("AIRFLOW_CONN_HUB_PLUS_DB", "postgres://nobody:x@127.0.0.1:1/none")
        with pytest.raises(SourceError):
            measure(world, evaluated=False)

    assert measure(world, NOON + TICK)["ended"] == 1

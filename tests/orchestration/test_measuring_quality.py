"""The quality of data as a run tells it: of the last 24 hours, once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from include.simulation.hub_plus import Run
from include.simulation.statsd_server import StatsdServer
from include.sync_health.checks import DATA_QUALITY
from tests.orchestration.measured_world import DAY, HOUR, MINUTE, PREFIX, company, gauge, measure_data
from tests.orchestration.metric_backends import statsd_backend
from tests.orchestration.monitored_world import NOON, MonitoredWorld, monitored_world


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


def test_the_records_of_a_sync_of_days_are_among_them(world: MonitoredWorld, statsd: StatsdServer) -> None:
    """Also where no tick ran just when the 24 hours began: an earlier one remembers that it was open."""
    long = world.hub.add_run(world.credential, status="running", started_at=NOON - 3 * DAY)
    others = [NOON - 3 * DAY + number * timedelta(seconds=40) for number in range(1_500)]
    world.hub.copy_runs(
        Run(credential=world.credential, started_at=at, completed_at=at + timedelta(seconds=30)) for at in others
    )
    world.tick(NOON - DAY - 2 * HOUR)
    world.hub.finish_run(long, at=NOON - HOUR, records=(30, 10, 20))

    measure_data(world)

    # Its own alone: the sync that ended at nine has an id from before all these, which no window of ids reaches.
    assert gauge(statsd, "data_quality.total_records") == 30


def test_quality_is_told_of_the_last_24_hours(world: MonitoredWorld, statsd: StatsdServer) -> None:
    """By environment, data type and company, once; and 0 when nothing is left of it."""
    world.hub.add_run(
        world.credential,
        status="failed",
        started_at=NOON - HOUR,
        completed_at=NOON - 50 * MINUTE,
        records=(30, 10, 20),
        error_message="odd",
    )
    world.tick(NOON, check=DATA_QUALITY)
    told = measure_data(world)
    mine = company(world)

    def figures() -> dict[str, float | None]:
        names = ("total_records", "valid_records", "invalid_records", "score")
        return {name: gauge(statsd, f"data_quality.{name}", company_id=mine, data_type="both") for name in names}

    # With the ten good records of the sync that ended at nine.
    assert figures() == {"total_records": 40, "valid_records": 20, "invalid_records": 20, "score": 50}
    assert (told["keys"], told["gone"]) == (1, 0)
    statsd.forget()
    assert "skipped" in measure_data(world)
    assert statsd.lines(PREFIX) == []

    assert measure_data(world, NOON + 2 * DAY)["gone"] == 1

    assert figures() == {"total_records": 0, "valid_records": 0, "invalid_records": 0, "score": None}
    assert statsd.refused() == []
    assert world.rows("SELECT * FROM monitoring.quality_gauge") == []

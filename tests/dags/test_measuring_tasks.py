"""Measuring in the DAGs: it stands beside the alerts, tells what Airflow's own backend passes on, and harms nobody."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from include.simulation.statsd_server import StatsdServer
from tests.orchestration.metric_backends import statsd_backend
from tests.orchestration.monitored_world import MonitoredWorld, monitored_world

pytestmark = pytest.mark.filterwarnings(
    "ignore:Using `httpx` with"
)  # Airflow's in-process API server loads a test client

DAGS = Path(__file__).parents[2] / "dags"
TASKS = [
    pytest.param("servicetitan_sync_failures", "measure", "servicetitan.sync.completed", id="syncs"),
    pytest.param(
        "servicetitan_data_quality", "measure_quality", "servicetitan.data_quality.total_records", id="data quality"
    ),
]


@pytest.fixture
def world(
    make_database: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, airflow_metadata: Path
) -> Iterator[MonitoredWorld]:
    """A healthy world of today, with a sync of a minute ago."""
    with monitored_world(make_database, monkeypatch, tmp_path) as made:
        made.succeed(made.credential, at=datetime.now(UTC) - timedelta(minutes=1))
        yield made


@pytest.fixture
def statsd(monkeypatch: pytest.MonkeyPatch) -> Iterator[StatsdServer]:
    """What Airflow's metrics go to."""
    with statsd_backend(monkeypatch) as server:
        yield server


@pytest.fixture(scope="module")
def dags(airflow_metadata: Path) -> dict[str, Any]:
    """The DAGs by id, each task with one try."""
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(DAGS)
    for dag in bag.dags.values():
        for task in dag.tasks:
            task.retries = 0
    return dict(bag.dags)


@pytest.mark.parametrize(("dag_id", "task_id", "metric"), TASKS)
def test_no_message_waits_for_a_measurement(dags: dict[str, Any], dag_id: str, task_id: str, metric: str) -> None:
    """Upstream the evaluation, whatever became of it; downstream the last task, and no other."""
    task = dags[dag_id].get_task(task_id)

    assert task.upstream_task_ids == {"evaluate"}
    assert task.downstream_task_ids == {"conclude"}
    assert str(getattr(task.trigger_rule, "value", task.trigger_rule)) == "all_done"
    assert task.pool == dags[dag_id].get_task("evaluate").pool


@pytest.mark.parametrize(("dag_id", "task_id", "metric"), TASKS)
def test_a_run_tells_through_airflow_and_the_next_tells_no_sync_again(
    world: MonitoredWorld, statsd: StatsdServer, dags: dict[str, Any], dag_id: str, task_id: str, metric: str
) -> None:
    """With Airflow's prefix and with its labels."""
    run = dags[dag_id].test()

    assert run.get_task_instance(task_id).state == "success"
    (line,) = statsd.lines(f"airflow.{metric}")
    assert line.tags["environment"] == "production"
    assert line.value == (1 if line.kind == "counter" else 10)
    assert statsd.refused() == []

    dags[dag_id].test()

    assert sum(statsd.counters(f"airflow.{metric}").values()) == (1 if line.kind == "counter" else 0)


@pytest.mark.parametrize(("dag_id", "task_id", "metric"), TASKS)
def test_a_measurement_that_fails_turns_the_run_red_and_nothing_else(
    world: MonitoredWorld, statsd: StatsdServer, dags: dict[str, Any], dag_id: str, task_id: str, metric: str
) -> None:
    """Alerts are judged and sent as ever."""
    world.fail_three_times(world.credential, before=datetime.now(UTC) - timedelta(minutes=1))
    with psycopg.connect(world.monitoring_dsn, autocommit=True) as conn:
        conn.execute("ALTER TABLE monitoring.metric_emission ADD CONSTRAINT full_disk CHECK (false) NOT VALID")

    run = dags[dag_id].test()

    states = {ti.task_id: str(ti.state) for ti in run.get_task_instances()}
    assert states[task_id] == "failed"
    assert states["conclude"] == "failed"
    assert states["evaluate"] == "success"
    if dag_id == "servicetitan_sync_failures":
        assert states["drain_slack"] == states["drain_email"] == "success"
        assert len(world.slack.messages) == 1
    assert statsd.lines("airflow.servicetitan.") == []


@pytest.mark.parametrize(("dag_id", "task_id", "metric"), TASKS)
def test_it_measures_also_where_the_evaluation_failed(
    world: MonitoredWorld, statsd: StatsdServer, dags: dict[str, Any], dag_id: str, task_id: str, metric: str
) -> None:
    """Whatever keeps alerts from being stored need not keep syncs from being counted."""
    with psycopg.connect(world.monitoring_dsn, autocommit=True) as conn:
        conn.execute("ALTER TABLE monitoring.alert_event RENAME TO hidden_event")
        conn.execute("ALTER TABLE monitoring.alert RENAME TO hidden_alert")

    run = dags[dag_id].test()

    assert run.get_task_instance("evaluate").state == "failed"
    assert run.get_task_instance(task_id).state == "success"
    assert len(statsd.lines(f"airflow.{metric}")) == 1

"""The DAG of API calls itself, run in process over real databases."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from include.sync_health.api_window import judged_hours
from tests.orchestration.calling_world import bad_calls
from tests.orchestration.monitored_world import MonitoredWorld, monitored_world
from tests.warehouse.call_world import create_calls, write_calls

pytestmark = pytest.mark.filterwarnings(
    "ignore:Using `httpx` with"
)  # Airflow's in-process API server loads a test client

DAGS = Path(__file__).parents[2] / "dags"
HOUR = timedelta(hours=1)


@pytest.fixture
def world(
    make_database: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, airflow_metadata: Path
) -> Iterator[MonitoredWorld]:
    """A credential that the 15-minute check has just seen."""
    with monitored_world(make_database, monkeypatch, tmp_path) as made:
        now = datetime.now(UTC)
        made.succeed(made.credential, at=now - timedelta(minutes=5))
        made.tick(now)
        yield made


def trigger() -> Any:
    """Run the DAG, each task with one try; return the run."""
    from airflow.dag_processing.dagbag import DagBag

    dag = DagBag(DAGS).dags["servicetitan_api_metrics"]
    for task in dag.tasks:
        if hasattr(task, "partial_kwargs"):
            task.partial_kwargs["retries"] = 0
        else:
            task.retries = 0
    return dag.test()


def states(run: Any) -> dict[str, str]:
    """The state of each task; of a mapped one, that of its last instance."""
    return {ti.task_id: str(ti.state) for ti in run.get_task_instances()}


def test_an_hour_of_bad_calls_is_counted_and_told(world: MonitoredWorld) -> None:
    """From the application's table to Slack and mail, in one run."""
    hour, _ = judged_hours(datetime.now(UTC), window=HOUR)
    create_calls(world.source_dsn)
    write_calls(world.source_dsn, bad_calls(world, hour=hour))

    run = trigger()

    assert set(states(run).values()) == {"success"}
    (row,) = world.rows("SELECT sum(requests) AS n FROM monitoring.api_counter")
    assert row["n"] == 200
    assert len(world.slack_texts()) == len(world.subjects()) == 3


def test_without_a_source_the_run_is_green_and_says_how_to_switch_one_on(world: MonitoredWorld) -> None:
    """And tells nobody."""
    run = trigger()

    found = states(run)
    assert (found["ingest"], found["evaluate"], found["conclude"], str(run.state)) == (*["success"] * 3, "success")
    answer = run.get_task_instance("ingest").xcom_pull(task_ids="ingest")
    assert "create the table servicetitan_api_calls" in answer["unavailable"]
    assert world.slack_texts() == []


def test_a_table_that_cannot_be_read_fails_the_run_and_judges_what_is_stored(world: MonitoredWorld) -> None:
    """The evaluation runs all the same."""
    create_calls(world.source_dsn, "ALTER TABLE servicetitan_api_calls DROP endpoint")

    found = states(trigger())

    assert (found["ingest"], found["evaluate"], found["conclude"]) == ("failed", "success", "failed")

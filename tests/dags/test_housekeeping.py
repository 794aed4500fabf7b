"""The housekeeping's DAG itself, run in process over real databases and a real mail server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.orchestration.monitored_world import MonitoredWorld, monitored_world

pytestmark = pytest.mark.filterwarnings(
    "ignore:Using `httpx` with"
)  # Airflow's in-process API server loads a test client

DAGS = Path(__file__).parents[2] / "dags"


@pytest.fixture
def world(
    make_database: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, airflow_metadata: Path
) -> Iterator[MonitoredWorld]:
    """A healthy world of today, whose failures of its own go to a mail address."""
    with monitored_world(make_database, monkeypatch, tmp_path) as made:
        monkeypatch.setenv("SERVICETITAN_MONITOR_FAILURE_CHANNEL", "email:oncall@example.com")
        made.succeed(made.credential, at=datetime.now(UTC))
        yield made


def test_a_param_is_refused_before_anything_is_deleted_and_told_to_nobody(world: MonitoredWorld) -> None:
    """Neither the deletions nor the late pass begin; who pressed the button sees why in the log."""
    from airflow.dag_processing.dagbag import DagBag

    dag = DagBag(DAGS).dags["servicetitan_housekeeping"]
    for task in dag.tasks:
        task.retries = 0
    run = dag.test(run_conf={"dry_run": True})

    assert {str(ti.state) for ti in run.get_task_instances()} == {"failed"}
    assert world.rows("SELECT * FROM monitoring.check_run") == []
    assert world.rows("SELECT * FROM monitoring.quality_day") == []
    assert world.mail.messages == []

"""The backfill's DAG itself, run in process over real databases."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from include.warehouse.quality_daily import days_between
from tests.orchestration.monitored_world import MonitoredWorld, monitored_world
from tests.orchestration.quality_history import FIRST, LAST, fill, is_silent, stored

pytestmark = pytest.mark.filterwarnings(
    "ignore:Using `httpx` with"
)  # Airflow's in-process API server loads a test client

DAGS = Path(__file__).parents[2] / "dags"
RANGE = {"from": FIRST.isoformat(), "to": LAST.isoformat()}


@pytest.fixture
def world(
    make_database: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, airflow_metadata: Path
) -> Iterator[MonitoredWorld]:
    """Weeks of messy syncs; failures of the monitor's own would go to a mail address."""
    with monitored_world(make_database, monkeypatch, tmp_path) as made:
        monkeypatch.setenv("SERVICETITAN_MONITOR_FAILURE_CHANNEL", "email:oncall@example.com")
        fill(made)
        yield made


def trigger(**conf: Any) -> Any:
    """Run the DAG, each task with one try; return the run."""
    from airflow.dag_processing.dagbag import DagBag

    dag = DagBag(DAGS).dags["servicetitan_quality_backfill"]
    for name in ("plan", "summarise"):
        dag.get_task(name).retries = 0
    dag.get_task("restate_month").partial_kwargs["retries"] = 0
    return dag.test(run_conf=RANGE | conf)


def states(run: Any) -> dict[tuple[str, int], str]:
    """Return the state of each task instance, by task and map index."""
    return {(ti.task_id, ti.map_index): str(ti.state) for ti in run.get_task_instances()}


def test_a_task_per_month_the_newest_first(world: MonitoredWorld) -> None:
    """Each shows its month; what is stored is every day of the range."""
    run = trigger()

    assert states(run) == {
        ("plan", -1): "success",
        ("restate_month", 0): "success",
        ("restate_month", 1): "success",
        ("summarise", -1): "success",
    }
    labels = [run.get_task_instance("restate_month", map_index=place).rendered_map_index for place in (0, 1)]
    assert [label.split(" days")[0] for label in labels] == ["2026-03: 9", "2026-02: 3"]
    assert [row["day"] for row in stored(world)["quality_day"]] == days_between(FIRST, LAST)
    summary = run.get_task_instance("summarise").xcom_pull(task_ids="summarise")
    assert (summary["months"], summary["days"], summary["refused"]) == (2, 12, 0)
    assert is_silent(world)


def test_a_dry_run_maps_nothing_and_succeeds(world: MonitoredWorld) -> None:
    """The estimate is in the log of ``plan``; nothing is written."""
    run = trigger(dry_run=True)

    found = states(run)
    assert (found["plan", -1], found["restate_month", -1], found["summarise", -1]) == ("success", "skipped", "success")
    assert stored(world)["quality_day"] == []


def test_a_month_that_fails_fails_the_run_after_the_others_and_tells_nobody(world: MonitoredWorld) -> None:
    """March is done, February is not; started again with what is missing, it is."""
    with psycopg.connect(world.monitoring_dsn) as conn:
        conn.execute(
            "ALTER TABLE monitoring.quality_daily ADD CONSTRAINT february CHECK (day >= '2026-03-01') NOT VALID"
        )
    run = trigger()

    found = states(run)
    assert [found[task] for task in (("restate_month", 0), ("restate_month", 1), ("summarise", -1))] == [
        "success",
        "failed",
        "failed",
    ]
    assert {row["day"].month for row in stored(world)["quality_day"]} == {3}
    assert is_silent(world)

    with psycopg.connect(world.monitoring_dsn) as conn:
        conn.execute("ALTER TABLE monitoring.quality_daily DROP CONSTRAINT february")
    again = trigger(days="missing")
    assert set(states(again).values()) == {"success"}
    assert [row["day"] for row in stored(world)["quality_day"]] == days_between(FIRST, LAST)


@pytest.mark.parametrize(
    "conf",
    [
        pytest.param({"from": LAST.isoformat(), "to": FIRST.isoformat()}, id="days that are swapped"),
        pytest.param({"dryrun": True}, id="a dry run that is misspelt is no real one"),
        pytest.param({"until": FIRST.isoformat()}, id="an end by another name is not left out"),
    ],
)
def test_a_wrong_param_fails_the_plan_and_the_run(world: MonitoredWorld, conf: dict[str, Any]) -> None:
    """No month is restated, and nobody is told."""
    run = trigger(**conf)

    found = states(run)
    assert stored(world)["quality_day"] == []
    assert (found["plan", -1], found["summarise", -1], str(run.state)) == ("failed", "failed", "failed")
    assert is_silent(world)

"""Every DAG: that it loads, is light to parse, and keeps the house's habits."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

DAGS = Path(__file__).parents[2] / "dags"
FILES = sorted(DAGS.glob("*.py"))
DAG_IDS = {
    "servicetitan_api_metrics",
    "servicetitan_sync_failures",
    "servicetitan_credential_health",
    "servicetitan_data_quality",
    "servicetitan_housekeeping",
    "servicetitan_quality_backfill",
}
CHECKING = sorted(DAG_IDS - {"servicetitan_housekeeping", "servicetitan_quality_backfill"})
LAST_TASKS = dict.fromkeys(DAG_IDS, "conclude") | {"servicetitan_quality_backfill": "summarise"}
TAGS = {"servicetitan", "monitoring", "alerts", "quality", "api", "housekeeping", "backfill"}
HEAVY = ("pandas", "numpy", "psycopg", "psycopg2", "asyncpg", "pyarrow", "hypothesis")

LOAD = """
import importlib.util, json, sys
spec = importlib.util.spec_from_file_location("dag_file", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
print(json.dumps([name for name in sys.argv[2].split(",") if name in sys.modules]))
"""


@pytest.fixture(scope="module")
def dags(airflow_metadata: Path) -> dict[str, Any]:
    """The DAGs by id, as Airflow loads the folder; an import error fails every test here."""
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(DAGS)
    assert bag.import_errors == {}
    return dict(bag.dags)


def test_the_expected_dags_are_there_each_named_after_its_file(dags: dict[str, Any]) -> None:
    """One file, one DAG."""
    assert set(dags) == {path.stem for path in FILES} == DAG_IDS


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_parsing_a_dag_file_imports_nothing_heavy(path: Path) -> None:
    """The DAG processor reads these files all day."""
    loaded = subprocess.run(
        [sys.executable, "-c", LOAD, str(path), ",".join(HEAVY)],
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    )

    assert json.loads(loaded.stdout.splitlines()[-1]) == []


def test_habits(dags: dict[str, Any]) -> None:
    """Tags, an owner, a page, retries, time-outs, one run at a time, nothing caught up."""
    for dag in dags.values():
        assert {"servicetitan", "monitoring"} <= set(dag.tags) <= TAGS
        assert dag.doc_md
        assert "When this DAG fails" in dag.doc_md
        assert dag.description
        assert dag.max_active_runs == 1
        assert dag.dagrun_timeout is not None
        assert not dag.catchup
        for task in dag.tasks:
            assert task.owner == "servicetitan-monitor"
            assert task.retries >= 1
            assert task.execution_timeout is not None


def test_params_have_forms(dags: dict[str, Any]) -> None:
    """A title and a description for each; the defaults are valid."""
    for dag in dags.values():
        for name in dag.params:
            param = dag.params.get_param(name)
            assert param.schema["title"], name
            assert param.description, name
        dag.params.validate()


def test_the_backfill_runs_by_hand_alone_and_keeps_out_of_the_checks_way(dags: dict[str, Any]) -> None:
    """No schedule; pools of its own; a bound of months at once; a form with days."""
    from include.orchestration.quality_backfill import PARAMS

    dag = dags["servicetitan_quality_backfill"]

    assert type(dag.timetable).__name__ == "NullTimetable"
    assert tuple(dag.params) == PARAMS == ("from", "to", "days", "dry_run")
    assert {dag.params.get_param(name).schema["format"] for name in ("from", "to")} == {"date"}
    assert dag.task_ids == ["plan", "restate_month", "summarise"]
    months = dag.get_task("restate_month")
    assert months.partial_kwargs["max_active_tis_per_dagrun"] == 4
    assert {dag.get_task("plan").pool, months.partial_kwargs["pool"]} == {"servicetitan_backfill"}
    assert {task.pool for each in CHECKING for task in dags[each].tasks if task.pool != "default_pool"} == {
        "servicetitan_source"
    }


@pytest.mark.parametrize("dag_id", CHECKING)
def test_the_default_params_leave_nothing_out(dags: dict[str, Any], dag_id: str) -> None:
    """A scheduled run judges every credential, at its interval's end, and may speak."""
    from include.orchestration.check_tasks import PARAMS, filters_of

    params = dags[dag_id].params.dump()
    assert tuple(params) == PARAMS

    assert not filters_of(params).narrow
    assert (params["window_end"], params["notify"]) == (None, "auto")


@pytest.mark.parametrize(
    ("dag_id", "expression"),
    [
        pytest.param("servicetitan_sync_failures", "*/15 * * * *", id="sync failures every 15 minutes"),
        pytest.param("servicetitan_credential_health", "0 */6 * * *", id="credentials every 6 hours"),
        pytest.param("servicetitan_data_quality", "0 */6 * * *", id="quality every 6 hours"),
        pytest.param("servicetitan_api_metrics", "20 * * * *", id="API calls every hour, twenty past"),
        pytest.param("servicetitan_housekeeping", "30 3 * * *", id="housekeeping once a day"),
    ],
)
def test_schedules_have_windows(dags: dict[str, Any], dag_id: str, expression: str) -> None:
    """A bare cron string would give empty intervals."""
    timetable = dags[dag_id].timetable
    assert type(timetable).__name__ == "CronDataIntervalTimetable"
    assert timetable.expression == expression


def test_a_run_that_hangs_still_reaches_its_last_task(dags: dict[str, Any]) -> None:
    """All tries of the longest path end before the run does: else `conclude` would be skipped, and nobody told."""
    for dag in dags.values():
        longest = {
            task.task_id: task.execution_timeout * (task.retries + 1) + task.retry_delay * task.retries
            for task in dag.tasks
        }
        checking = ["ingest", "evaluate", "update_daily", "due_slack", "drain_slack", "conclude"]
        path = [name for name in checking if name in longest] if dag.dag_id in CHECKING else list(longest)
        assert sum((longest[name] for name in path), timedelta(0)) < dag.dagrun_timeout


def test_the_last_task_runs_after_all_others_whatever_became_of_them(dags: dict[str, Any]) -> None:
    """It alone says how the run went."""
    for dag in dags.values():
        name = LAST_TASKS[dag.dag_id]
        assert [task.task_id for task in dag.leaves] == [name]
        last = dag.get_task(name)
        assert last.trigger_rule == "all_done"
        assert last.get_flat_relative_ids(upstream=True) == set(dag.task_ids) - {name}


@pytest.mark.parametrize("dag_id", CHECKING)
def test_messages_wait_for_the_evaluation_alone(dags: dict[str, Any], dag_id: str) -> None:
    """And go out although it failed: earlier runs may have left some."""
    for kind in ("slack", "email"):
        due = dags[dag_id].get_task(f"due_{kind}")
        assert due.upstream_task_ids == {"evaluate"}
        assert due.trigger_rule == "all_done"
        assert dags[dag_id].get_task(f"drain_{kind}").upstream_task_ids == {f"due_{kind}"}

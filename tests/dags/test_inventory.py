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
TAGS = {"servicetitan", "monitoring", "alerts"}
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
    assert set(dags) == {path.stem for path in FILES} == {"servicetitan_sync_failures"}


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


def test_the_default_params_leave_nothing_out(dags: dict[str, Any]) -> None:
    """A scheduled run judges every credential, at its interval's end, and may speak."""
    from include.orchestration.sync_failures_run import filters_of

    params = dags["servicetitan_sync_failures"].params.dump()

    assert not filters_of(params).narrow
    assert (params["window_end"], params["notify"]) == (None, "auto")


def test_the_15_minute_dag_has_windows_of_15_minutes(dags: dict[str, Any]) -> None:
    """A bare cron string would give empty intervals."""
    timetable = dags["servicetitan_sync_failures"].timetable
    assert type(timetable).__name__ == "CronDataIntervalTimetable"
    assert timetable.expression == "*/15 * * * *"


def test_a_run_that_hangs_still_reaches_its_last_task(dags: dict[str, Any]) -> None:
    """All tries of the longest path end before the run does: else `conclude` would be skipped, and nobody told."""
    for dag in dags.values():
        longest = {
            task.task_id: task.execution_timeout * (task.retries + 1) + task.retry_delay * task.retries
            for task in dag.tasks
        }
        path = ["evaluate", "due_slack", "drain_slack", "conclude"]
        assert sum((longest[name] for name in path), timedelta(0)) < dag.dagrun_timeout

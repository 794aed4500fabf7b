"""The failure notice of several DAGs: the DAGs themselves, run in process, over real databases and a real mail server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest

from include.orchestration.failure_notice import OUTAGE_VARIABLE
from tests.orchestration.monitored_world import MonitoredWorld, monitored_world

pytestmark = pytest.mark.filterwarnings(
    "ignore:Using `httpx` with"
)  # Airflow's in-process API server loads a test client

DAGS = Path(__file__).parents[2] / "dags"
ONCALL = "oncall@example.com"
OFTEN, SELDOM = "servicetitan_sync_failures", "servicetitan_credential_health"


@pytest.fixture
def world(
    make_database: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, airflow_metadata: Path
) -> Iterator[MonitoredWorld]:
    """A healthy world of today, whose failures of its own go to one mail address; no outage is remembered."""
    from airflow.models.variable import Variable

    Variable.delete(OUTAGE_VARIABLE)
    with monitored_world(make_database, monkeypatch, tmp_path) as made:
        monkeypatch.setenv("SERVICETITAN_MONITOR_FAILURE_CHANNEL", f"email:{ONCALL}")
        made.succeed(made.credential, at=datetime.now(UTC))
        yield made


@pytest.fixture(scope="module")
def dags(airflow_metadata: Path) -> dict[str, Any]:
    """The DAGs by id, each task with one try: nothing passes while a test waits."""
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(DAGS)
    for dag in bag.dags.values():
        for task in dag.tasks:
            task.retries = 0
    return dict(bag.dags)


def notices(world: MonitoredWorld) -> list[str]:
    """Which DAG each notice speaks of."""
    told = [str(mail.get_body(("plain",)).get_content()) for mail in world.mail.messages if mail["To"] == ONCALL]
    return [next(dag for dag in (OFTEN, SELDOM) if f"{dag}: the check itself failed" in text) for text in told]


def go_through(world: MonitoredWorld, dags: dict[str, Any], steps: list[tuple[str, str]]) -> None:
    """Run DAGs one after the other, each while our schema is there (``well``) or is not (``ill``)."""
    for dag_id, state in steps:
        hide(world, hidden=state == "ill")
        run = dags[dag_id].test()
        assert run.get_task_instance("evaluate").state == ("failed" if state == "ill" else "success")


def hide(world: MonitoredWorld, *, hidden: bool) -> None:
    """Rename our schema away, or back."""
    with psycopg.connect(world.monitoring_dsn, autocommit=True) as conn:
        is_hidden = conn.execute("SELECT to_regnamespace('monitoring') IS NULL").fetchone() == (True,)
        if hidden != is_hidden:
            before, after = ("monitoring", "hidden") if hidden else ("hidden", "monitoring")
            conn.execute(f"ALTER SCHEMA {before} RENAME TO {after}")


@pytest.mark.parametrize(
    ("steps", "told"),
    [
        pytest.param(
            [(OFTEN, "ill"), (SELDOM, "ill"), (OFTEN, "ill"), (OFTEN, "well"), (SELDOM, "ill")],
            [OFTEN, SELDOM],
            id="one outage is told once, and the other DAG's failure only when it outlives the first",
        ),
        pytest.param(
            [(SELDOM, "ill"), (OFTEN, "ill"), (OFTEN, "well"), (OFTEN, "ill"), (OFTEN, "ill"), (SELDOM, "ill")],
            [SELDOM, OFTEN],
            id="a DAG that worked in between has a new outage, although the DAG that told the first has not run again",
        ),
        pytest.param(
            [(SELDOM, "ill"), (OFTEN, "well"), (SELDOM, "ill"), (SELDOM, "well"), (SELDOM, "ill")],
            [SELDOM, SELDOM],
            id="an outage lasts until the DAG that told it works again, whoever else works, and the next one is told",
        ),
    ],
)
def test_the_failure_channel_hears_of(
    world: MonitoredWorld, dags: dict[str, Any], steps: list[tuple[str, str]], told: list[str]
) -> None:
    """Runs of two DAGs that share our database."""
    go_through(world, dags, steps)

    assert notices(world) == told


def test_a_notice_that_could_not_be_sent_is_sent_by_the_next_failure(
    world: MonitoredWorld, dags: dict[str, Any]
) -> None:
    """An outage counts as told only when it was."""
    world.environment.delenv("SERVICETITAN_MONITOR_FAILURE_CHANNEL")
    go_through(world, dags, [(OFTEN, "ill")])
    assert notices(world) == []

    world.environment.setenv("SERVICETITAN_MONITOR_FAILURE_CHANNEL", f"email:{ONCALL}")
    go_through(world, dags, [(SELDOM, "ill"), (OFTEN, "ill")])
    assert notices(world) == [SELDOM]


def test_a_wrong_param_is_nobodys_outage_and_does_not_end_one(world: MonitoredWorld, dags: dict[str, Any]) -> None:
    """Who pressed the button sees it in the log; whether the check itself works, such a run does not know."""
    run = dags[OFTEN].test(run_conf={"credential": "999"})
    assert run.get_task_instance("evaluate").state == "failed"
    assert notices(world) == []

    go_through(world, dags, [(OFTEN, "ill")])
    hide(world, hidden=False)
    dags[OFTEN].test(run_conf={"credential": "999"})
    go_through(world, dags, [(OFTEN, "ill")])
    assert notices(world) == [OFTEN]

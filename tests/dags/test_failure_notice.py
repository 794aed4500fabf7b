"""The failure notices of the DAGs, run in process over real databases and a real mail server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from include.orchestration.duties import CHECK_DUTIES, EVALUATION, LATE_PASS, RETENTION
from tests.orchestration.monitored_world import MonitoredWorld, monitored_world

pytestmark = pytest.mark.filterwarnings(
    "ignore:Using `httpx` with"
)  # Airflow's in-process API server loads a test client

DAGS = Path(__file__).parents[2] / "dags"
ONCALL = "oncall@example.com"
OFTEN, SELDOM = "servicetitan_sync_failures", "servicetitan_credential_health"
QUALITY, HOUSEKEEPING = "servicetitan_data_quality", "servicetitan_housekeeping"


@pytest.fixture
def world(
    make_database: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, airflow_metadata: Path
) -> Iterator[MonitoredWorld]:
    """A healthy world of today, whose failures of its own go to one mail address; no outage is remembered."""
    from airflow.models.variable import Variable

    for duty in (EVALUATION, *CHECK_DUTIES, RETENTION, LATE_PASS):
        Variable.delete(duty.outage)
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


def test_a_notice_leads_to_its_run_and_to_the_runbook(world: MonitoredWorld, dags: dict[str, Any]) -> None:
    """As the policy has them; to no page of the dashboard, which knows nothing of its alert."""
    links = "{airflow: 'https://airflow.example.com', runbook: 'https://wiki.example.com/r', dashboard: 'https://d.example.com'}"
    world.overlay.write_text(world.overlay.read_text().replace("alerting: {", f"alerting: {{links: {links}, "))
    go_through(world, dags, [(OFTEN, "ill")])

    text = last_text(world)
    assert f"Airflow run: https://airflow.example.com/dags/{OFTEN}/runs/" in text
    assert "Runbook: https://wiki.example.com/r#monitor-health" in text
    assert "d.example.com" not in text


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


@pytest.mark.parametrize("dag_id", [OFTEN, SELDOM, QUALITY])
def test_a_misspelt_param_is_refused_and_told_to_nobody(world: MonitoredWorld, dag_id: str) -> None:
    """Of every checking DAG: nothing is judged, and nothing that earlier runs left goes out."""
    from airflow.dag_processing.dagbag import DagBag

    dag = DagBag(DAGS).dags[dag_id]  # of its own: `dag.test` keeps Params for the next run
    for task in dag.tasks:
        task.retries = 0
    run = dag.test(run_conf={"notfy": "never"})

    states = {ti.task_id: str(ti.state) for ti in run.get_task_instances()}
    assert (states["evaluate"], states["drain_slack"], states["conclude"]) == ("failed", "skipped", "failed")
    assert world.rows("SELECT * FROM monitoring.check_run") == []
    assert world.mail.messages == []


STALE, BLIND, UNKEPT = "Daily Quality Not Updated", "Monitor Cannot See", "Housekeeping Failed"
TITLES = (STALE, BLIND, UNKEPT)

ENDS = {"evaluate": "success", "update_daily": "success"}, {"delete_alert_events": "success", "late_data": "success"}
"""How tasks end in a run of the quality check, and of the housekeeping, while nothing is wrong."""

TROUBLES: dict[str, tuple[dict[str, str], tuple[str, str] | None]] = {
    "well": ({}, None),
    "no schema": (
        {
            "evaluate": "failed",
            "update_daily": "upstream_failed",
            "delete_alert_events": "failed",
            "late_data": "failed",
        },
        ("ALTER SCHEMA monitoring RENAME TO hidden", "ALTER SCHEMA hidden RENAME TO monitoring"),
    ),
    "no writing": (
        {"update_daily": "failed", "late_data": "failed"},
        (
            "ALTER TABLE monitoring.quality_daily ADD CONSTRAINT refused CHECK (false) NOT VALID",
            "ALTER TABLE monitoring.quality_daily DROP CONSTRAINT refused",
        ),
    ),
    "no deleting": (
        {"delete_alert_events": "failed"},
        (
            "ALTER TABLE monitoring.alert_event RENAME TO hidden_event",
            "ALTER TABLE monitoring.hidden_event RENAME TO alert_event",
        ),
    ),
    "no source": (
        {"update_daily": "failed", "late_data": "failed"},
        (
            "ALTER TABLE servicetitan_sync_logs RENAME COLUMN status TO state",
            "ALTER TABLE servicetitan_sync_logs RENAME COLUMN state TO status",
        ),
    ),
}
"""What ends otherwise, and the statements that bring the trouble and take it away."""


def run_in(world: MonitoredWorld, dags: dict[str, Any], dag_id: str, trouble: str, **options: Any) -> Any:
    """Run a DAG in trouble, after syncs that give its days something new, and see how its tasks end."""
    now = datetime.now(UTC)
    last_window_end = now.replace(hour=now.hour // 6 * 6, minute=0, second=0, microsecond=0)
    for at in (now, last_window_end - timedelta(hours=1)):
        world.succeed(world.credential, at=at)
    ends, statements = TROUBLES[trouble]
    dsn = world.source_dsn if trouble == "no source" else world.monitoring_dsn
    with psycopg.connect(dsn, autocommit=True) as conn:
        if statements:
            conn.execute(statements[0])
        try:
            run = dags[dag_id].test(**options)
        finally:
            if statements:
                conn.execute(statements[1])
    usual = ENDS[dag_id == HOUSEKEEPING]
    assert {task: str(run.get_task_instance(task).state) for task in usual} == {
        task: ends.get(task, usually) for task, usually in usual.items()
    }
    assert run.get_task_instance("conclude").state == ("success" if trouble == "well" else "failed")
    return run


def subjects(world: MonitoredWorld) -> list[str]:
    """What each notice is titled."""
    told = [str(mail["Subject"]) for mail in world.mail.messages if mail["To"] == ONCALL]
    return [next(title for title in TITLES if title in subject) for subject in told]


def last_text(world: MonitoredWorld) -> str:
    """The last notice, its lines as one."""
    text = [str(mail.get_body(("plain",)).get_content()) for mail in world.mail.messages if mail["To"] == ONCALL][-1]
    return " ".join(text.split())


@pytest.mark.parametrize(
    ("steps", "told"),
    [
        pytest.param(
            [(QUALITY, "no writing"), (QUALITY, "no writing"), (QUALITY, "well"), (QUALITY, "no writing")],
            [STALE, STALE],
            id="a table that is not updated is told once, and again when it was updated in between",
        ),
        pytest.param(
            [(QUALITY, "no writing"), (QUALITY, "no schema"), (QUALITY, "no writing")],
            [STALE, BLIND],
            id="a stale table hides no blindness, and blindness does not end the outage of the table",
        ),
        pytest.param(
            [(QUALITY, "no schema"), (HOUSEKEEPING, "no schema"), (QUALITY, "no writing"), (QUALITY, "no schema")],
            [BLIND, UNKEPT, STALE, BLIND],
            id="blindness hides neither the housekeeping nor a stale table, which hide no blindness either",
        ),
        pytest.param(
            [(QUALITY, "no source"), (QUALITY, "no writing")],
            [STALE],
            id="a source that cannot be read has an alert of its own, and what fails after it is told",
        ),
        pytest.param(
            [(HOUSEKEEPING, "no deleting"), (HOUSEKEEPING, "no deleting"), (HOUSEKEEPING, "no source")],
            [UNKEPT, UNKEPT],
            id="deletions that fail are told once, and hide no late pass that fails",
        ),
        pytest.param(
            [
                (HOUSEKEEPING, "no schema"),
                (HOUSEKEEPING, "no deleting"),
                (HOUSEKEEPING, "well"),
                (HOUSEKEEPING, "no writing"),
            ],
            [UNKEPT, UNKEPT],
            id="one notice tells of both, until the housekeeping succeeds",
        ),
    ],
)
def test_the_failure_channel_hears_also_of(
    world: MonitoredWorld, dags: dict[str, Any], steps: list[tuple[str, str]], told: list[str]
) -> None:
    """Runs in which one thing or another is wrong."""
    for dag_id, trouble in steps:
        run_in(world, dags, dag_id, trouble)

    assert subjects(world) == told


def test_a_notice_says_what_is_affected(world: MonitoredWorld, dags: dict[str, Any]) -> None:
    """Of a stale table, and of a housekeeping that failed whole; without the words of a monitor that is blind."""
    run = run_in(world, dags, QUALITY, "no writing")
    text = last_text(world)
    assert f"monitoring.quality_daily was not brought up to date in run {run.run_id}; until it is, reports show" in text
    assert "all other alerts go on. Run `python -m include.cli doctor`" in text
    assert "look at the log of the task update_daily." in text

    run = run_in(world, dags, HOUSEKEEPING, "no schema")
    text = last_text(world)
    assert (
        f"what is too old was not deleted and the last days were not restated in run {run.run_id}; alerts do not"
        in text
    )
    assert "Failed tasks: delete_check_runs, delete_deliveries, delete_alert_events," in text
    assert "must not trust it" not in text


@contextmanager
def as_backfill() -> Iterator[None]:
    """Let the runs that begin meanwhile be those of a backfill, which `dag.test` has no option for."""
    from airflow.models.dagrun import DagRun
    from sqlalchemy import event

    def make_it_one(mapper: Any, connection: Any, run: Any) -> None:
        run.run_type = "backfill"

    event.listen(DagRun, "before_insert", make_it_one)
    try:
        yield
    finally:
        event.remove(DagRun, "before_insert", make_it_one)


@pytest.mark.parametrize(("dag_id", "trouble"), [(QUALITY, "no writing"), (HOUSEKEEPING, "no schema")])
def test_a_backfill_tells_nothing_and_ends_nothing(
    world: MonitoredWorld, dags: dict[str, Any], dag_id: str, trouble: str
) -> None:
    """Neither one that fails nor, in an outage, one that does not."""
    with as_backfill():
        assert run_in(world, dags, dag_id, trouble).run_type == "backfill"
    assert subjects(world) == []

    run_in(world, dags, dag_id, trouble)
    assert len(subjects(world)) == 1
    with as_backfill():
        run_in(world, dags, dag_id, "well")
    run_in(world, dags, dag_id, trouble)
    assert len(subjects(world)) == 1


def test_a_wrong_param_of_the_quality_check_says_nothing_of_the_table(
    world: MonitoredWorld, dags: dict[str, Any]
) -> None:
    """It is refused before, and the table's outage lasts."""
    run_in(world, dags, QUALITY, "no writing")
    run = dags[QUALITY].test(run_conf={"credential": "999"})
    assert run.get_task_instance("update_daily").state == "upstream_failed"
    run_in(
        world, dags, QUALITY, "no writing", run_conf={"credential": None}
    )  # `dag.test` keeps Params for the next run

    assert subjects(world) == [STALE]

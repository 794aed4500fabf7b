"""The 15-minute DAG with all its tasks, in process: what it sends, counts and reports, and what one failing task changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from include.orchestration.duties import CHECK_DUTIES, EVALUATION
from tests.dags.test_failure_notice import as_backfill
from tests.orchestration.monitored_world import ADDRESS, MonitoredWorld, monitored_world

pytestmark = pytest.mark.filterwarnings(
    "ignore:Using `httpx` with"
)  # Airflow's in-process API server loads a test client

DAGS = Path(__file__).parents[2] / "dags"
DAG_ID, ONCALL = "servicetitan_sync_failures", "oncall@example.com"
BESIDE = ("measure", "check_health")
UNCOUNTED, UNMADE, BLIND = "Metrics Not Updated", "Health Check Not Made", "Monitor Cannot See"

TROUBLES = {
    "no counting": (
        "ALTER TABLE monitoring.sync_counter ADD CONSTRAINT refused CHECK (false) NOT VALID",
        "ALTER TABLE monitoring.sync_counter DROP CONSTRAINT refused",
    ),
    "no report": (
        "ALTER TABLE monitoring.health_snapshot ADD CONSTRAINT refused CHECK (false) NOT VALID",
        "ALTER TABLE monitoring.health_snapshot DROP CONSTRAINT refused",
    ),
    "no schema": ("ALTER SCHEMA monitoring RENAME TO hidden", "ALTER SCHEMA hidden RENAME TO monitoring"),
    "no source": (
        "ALTER TABLE servicetitan_sync_logs RENAME COLUMN status TO state",
        "ALTER TABLE servicetitan_sync_logs RENAME COLUMN state TO status",
    ),
}
"""What brings a trouble, and what takes it away."""

ENDS = {
    "no counting": {"measure": "failed"},
    "no report": {"check_health": "failed"},
    "no schema": {"evaluate": "failed", "measure": "failed", "check_health": "failed"},
    "no source": {"measure": "failed"},
}
"""How tasks end in it, that otherwise succeed."""


@pytest.fixture
def world(
    make_database: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, airflow_metadata: Path
) -> Iterator[MonitoredWorld]:
    """A healthy world of today, whose failures of its own go to one mail address; no outage is remembered."""
    from airflow.models.variable import Variable

    for duty in (EVALUATION, *CHECK_DUTIES):
        Variable.delete(duty.outage)
    with monitored_world(make_database, monkeypatch, tmp_path) as made:
        monkeypatch.setenv("SERVICETITAN_MONITOR_FAILURE_CHANNEL", f"email:{ONCALL}")
        made.succeed(made.credential, at=datetime.now(UTC) - timedelta(minutes=1))
        yield made


@pytest.fixture(scope="module")
def dag(airflow_metadata: Path) -> Any:
    """The DAG, each task with one try: nothing passes while a test waits."""
    from airflow.dag_processing.dagbag import DagBag

    found = DagBag(DAGS).dags[DAG_ID]
    for task in found.tasks:
        task.retries = 0
    return found


@contextmanager
def trouble(world: MonitoredWorld, name: str) -> Iterator[None]:
    """Something is wrong for a while."""
    begins, ends = TROUBLES[name]
    dsn = world.source_dsn if name == "no source" else world.monitoring_dsn
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute(begins.encode())
        try:
            yield
        finally:
            conn.execute(ends.encode())


def run_in(world: MonitoredWorld, dag: Any, *troubles: str, **options: Any) -> Any:
    """Run the DAG in some troubles, after a sync that gives it something to count, and see how its tasks end."""
    world.succeed(world.credential, at=datetime.now(UTC) - timedelta(seconds=1))
    with ExitStack() as stack:
        for each in troubles:
            stack.enter_context(trouble(world, each))
        run = dag.test(**options)
    usual = dict.fromkeys(("evaluate", *BESIDE), "success")
    expected = usual | {task: state for each in troubles for task, state in ENDS[each].items()}
    assert states(run, *usual) == expected
    assert str(run.state) == ("failed" if troubles else "success")
    return run


def states(run: Any, *tasks: str) -> dict[str, str]:
    """How tasks ended."""
    return {task: str(run.get_task_instance(task).state) for task in tasks}


def notices(world: MonitoredWorld) -> list[str]:
    """What each notice to the failure channel is titled."""
    told = [str(mail["Subject"]) for mail in world.mail.messages if mail["To"] == ONCALL]
    return [next(title for title in (UNCOUNTED, UNMADE, BLIND) if title in subject) for subject in told]


FAILED_3_TIMES = "ServiceTitan integration for Acme Heating (production) has failed 3 times in the last hour"


def test_it_sends_what_there_is_to_tell_and_nothing_more(world: MonitoredWorld, dag: Any) -> None:
    """One alert, to its channel and its address; what stands beside the messages adds none."""
    world.fail_three_times(world.credential, before=datetime.now(UTC))

    run_in(world, dag)

    texts = world.slack_texts()
    assert len(texts) == 1
    assert FAILED_3_TIMES in texts[0]
    assert [mail["To"] for mail in world.mail.messages] == [ADDRESS]
    sent = world.rows("SELECT status, count(*) AS n FROM monitoring.delivery GROUP BY 1")
    assert [(row["status"], row["n"]) for row in sent] == [("sent", 2)]

    run_in(world, dag)
    assert len(world.slack_texts()) == len(world.mail.messages) == 1


def test_it_counts_and_reports(world: MonitoredWorld, dag: Any) -> None:
    """The syncs of its window, each once, and the health as of its window's end."""
    run_in(world, dag)
    [health] = world.rows("SELECT * FROM monitoring.health_snapshot")
    [judged] = world.rows("SELECT * FROM monitoring.check_run WHERE check_name = 'sync_failures'")
    [counted] = world.rows("SELECT syncs FROM monitoring.sync_counter WHERE status = 'completed'")

    assert health["as_of"] == judged["window_to"]
    assert health["report"]["metadata"]["total_credentials"] == 1
    assert health["report"]["details"]["system_resources"]["checks"]["sync_failures"]["status"] == "healthy"
    assert counted["syncs"] >= 1


@pytest.mark.parametrize("name", ["no counting", "no report"])
def test_alerts_do_not_wait_for_what_fails_beside_them(world: MonitoredWorld, dag: Any, name: str) -> None:
    """The run is red, and the message is out."""
    world.fail_three_times(world.credential, before=datetime.now(UTC))

    run_in(world, dag, name)

    assert FAILED_3_TIMES in world.slack_texts()[0]


@pytest.mark.parametrize(
    ("steps", "told"),
    [
        pytest.param(
            [("no counting",), ("no counting",), (), ("no counting",)],
            [UNCOUNTED, UNCOUNTED],
            id="a count that fails is told once, and again when it worked in between",
        ),
        pytest.param(
            [("no report",), ("no report",), (), ("no report",)],
            [UNMADE, UNMADE],
            id="so is a health check that is not made",
        ),
        pytest.param(
            [("no counting", "no report"), ("no report",), ("no counting", "no report")],
            [UNCOUNTED, UNCOUNTED],
            id="both at once are told in one notice, and the outage of the one that works in between is over",
        ),
        pytest.param(
            [("no counting",), ("no counting", "no report")],
            [UNCOUNTED, UNMADE],
            id="the outage of one hides no failure of the other",
        ),
        pytest.param(
            [("no schema",), ("no counting",)],
            [BLIND, UNCOUNTED],
            id="of what fails beside a failed evaluation, only the evaluation is told",
        ),
        pytest.param(
            [("no source",), ("no counting",)],
            [UNCOUNTED],
            id="a source that cannot be read has an alert of its own: that nothing was counted is no news",
        ),
    ],
)
def test_the_failure_channel_hears(
    world: MonitoredWorld, dag: Any, steps: list[tuple[str, ...]], told: list[str]
) -> None:
    """Runs in which one thing or another is wrong."""
    for troubles in steps:
        run_in(world, dag, *troubles)

    assert notices(world) == told


def test_a_source_that_cannot_be_read_is_what_the_report_is_about(world: MonitoredWorld, dag: Any) -> None:
    """It is made all the same."""
    run_in(world, dag, "no source")

    [health] = world.rows("SELECT status, report FROM monitoring.health_snapshot")
    assert health["status"] == "unknown"
    assert health["report"]["details"]["recent_syncs"]["status"] == "unknown"


def test_a_backfill_counts_and_reports_nothing(world: MonitoredWorld, dag: Any) -> None:
    """Both tasks are skipped, and the run is none the worse."""
    with as_backfill():
        run = dag.test()

    assert states(run, "evaluate", *BESIDE) == {"evaluate": "success", "measure": "skipped", "check_health": "skipped"}
    assert str(run.state) == "success"
    assert world.rows("SELECT * FROM monitoring.health_snapshot") == []
    assert world.rows("SELECT * FROM monitoring.sync_counter") == []


def test_a_run_that_looks_at_the_past_does_neither(world: MonitoredWorld, dag: Any) -> None:
    """It writes history, and no more."""
    past = (datetime.now(UTC) - timedelta(days=2)).isoformat()
    run = dag.test(run_conf={"window_end": past})

    assert states(run, "evaluate", *BESIDE) == {"evaluate": "success", "measure": "skipped", "check_health": "skipped"}
    assert notices(world) == []
    dag.test(run_conf={"window_end": None})  # `dag.test` keeps Params for the next run


def test_both_stand_beside_the_messages(dag: Any) -> None:
    """After the evaluation, whatever became of it; before nothing but the end."""
    for name in BESIDE:
        task = dag.get_task(name)
        assert task.upstream_task_ids == {"evaluate"}
        assert task.downstream_task_ids == {"conclude"}
        assert task.trigger_rule == "all_done"
        longest = task.execution_timeout * 3 + task.retry_delay * 2
        assert longest < timedelta(minutes=15), "the next run waits for it"

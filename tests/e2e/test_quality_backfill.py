"""
The backfills of the daily quality for real, on two Celery workers: spread, silent, beside live alerts, and past a death.

The tests follow one another in the order of the file: each computes days of its own, and the last kills a worker. What
they leave is compared with what the command ``quality`` writes into a monitoring database of its own.
"""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from datetime import time as wall_time
from pathlib import Path
from typing import Any

import psycopg
import pytest

from include.simulation.local_airflow import LocalAirflow
from include.simulation.postgres import EmbeddedPostgres
from include.simulation.redis_server import RedisServer
from include.warehouse.migration import upgrade
from include.warehouse.quality_daily import QUALITY_LOCK, days_between
from tests.e2e.celery_workers import CeleryWorker, celery_environment, celery_workers
from tests.e2e.deployment import (
    DATA_QUALITY,
    DAY,
    HOUR,
    MINUTE,
    PROJECT,
    RUN_SECONDS,
    SYNC_FAILURES,
    Deployment,
    deployed,
    last_boundary,
)
from tests.orchestration.monitored_world import connection_of
from tests.orchestration.quality_history import DETAILS, ERRORS

pytestmark = pytest.mark.timeout(900)  # a deployment starts in the first; all together take some three minutes

QUALITY_BACKFILL = "servicetitan_quality_backfill"
WORKERS = ("worker-1", "worker-2")
CONCURRENCY = 2
MONTHS_AT_ONCE = 3
"""More than one worker can take, fewer than both: whichever takes which, both have some, and the checks have a slot."""

BETWEEN_SYNCS = 4 * HOUR
FAILING = "Acme Heating"
LIVE = {FAILING, "Leaky Pipes", "Past Plumbing", "Steady Air"}
"""Companies that the checks may tell of while a test runs, as one does when a 6-hour window ends; the others have synced
too long ago."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """
    The days that are computed; all of them are final.

    Args:
        killed: first days of two months, oldest first, at which a worker dies.
        spread: first days of the four months after these.
        days: three days after these, for the 6-hour DAG.
    """

    killed: Sequence[date]
    spread: Sequence[date]
    days: Sequence[date]

    @classmethod
    def before(cls, end: date) -> Past:
        """Return the days that end before a day."""
        days = days_between(end - 3 * DAY, end - DAY)
        months = [days[0].replace(day=1)]
        while len(months) < 7:
            months.insert(0, (months[0] - DAY).replace(day=1))
        return cls(killed=months[:2], spread=months[2:6], days=days)


@dataclass(frozen=True, slots=True, kw_only=True)
class OnWorkers:
    """The deployment, its workers by name, its past, and the database that the command wrote into."""

    deployment: Deployment
    workers: dict[str, CeleryWorker]
    past: Past
    by_command: str


@pytest.fixture(scope="module")
def on_workers(tmp_path_factory: pytest.TempPathFactory, postgres_server: EmbeddedPostgres) -> Iterator[OnWorkers]:
    """Everything with CeleryExecutor, Redis and two workers; the checks of alerts and of quality run by their schedule."""
    home = tmp_path_factory.mktemp("on_workers")
    past = Past.before((last_boundary(datetime.now(UTC)) - 10 * DAY).date())  # before what `plant_history` writes
    names = ("e2e_celery_results", "e2e_celery_by_command")
    results, by_command = (postgres_server.create_database(name) for name in names)
    upgrade(by_command)
    workers: dict[str, CeleryWorker] = {}

    @contextmanager
    def beside(airflow: LocalAirflow) -> Iterator[None]:
        with celery_workers(airflow, *WORKERS, concurrency=CONCURRENCY) as started:
            workers.update(started)
            yield

    with (
        RedisServer(home / "redis") as redis,
        deployed(
            home,
            postgres_server,
            prefix="e2e_celery",
            dags=(SYNC_FAILURES, DATA_QUALITY),
            environment={
                **celery_environment(redis, results_dsn=results),
                "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "True",  # those not wanted
            },
            beside=beside,
            plant_before=lambda deployment: plant_past(deployment, past),
        ) as deployment,
    ):
        deployment.airflow.wait_for_dag(QUALITY_BACKFILL)
        allow_months_at_once(deployment, MONTHS_AT_ONCE)
        command(deployment, monitoring_dsn=by_command, first=past.killed[0], last=past.days[-1])
        yield OnWorkers(deployment=deployment, workers=workers, past=past, by_command=by_command)
    for name in names:
        postgres_server.drop_database(name)


def test_months_are_spread_over_the_workers_while_alerts_go_on(on_workers: OnWorkers) -> None:
    """Three months are held half-way, on both workers; meanwhile the 15-minute check tells of a failing company."""
    deployment, months = on_workers.deployment, on_workers.past.spread
    first, last = months[0], last_day_of(months[-1])
    told, delivered = told_of_others(deployment), newest_delivery(deployment)
    with held(deployment, [month.replace(day=10) for month in months]):
        run_id = trigger(deployment, first, last)
        busy = await_months(on_workers, run_id, lambda found: running(found, at_least=MONTHS_AT_ONCE))
        assert {each["hostname"] for each in busy.values() if each["state"] == "running"} == set(WORKERS)

        deployment.fail_three_times(deployment.credentials[FAILING], error="HTTP 401 invalid_client")
        deployment.expect(SYNC_FAILURES, deployment.airflow.trigger(SYNC_FAILURES))
        assert deployment.told(FAILING) == (1, 1)
        assert not [each for each in months_of(deployment, run_id).values() if each["state"] == "success"]
    deployment.expect(QUALITY_BACKFILL, run_id)

    done = months_of(deployment, run_id)
    assert [label[:7] for label in done] == [f"{month:%Y-%m}" for month in reversed(months)]
    assert all(f"{last_day_of(month).day} days" in label for label, month in zip(done, reversed(months), strict=True))
    assert {each["hostname"] for each in done.values()} == set(WORKERS)
    assert_as_by_command(on_workers, days_between(first, last))
    assert companies_told_of(deployment, after=delivered) <= LIVE
    assert told_of_others(deployment) == told


def test_airflows_own_backfill_of_the_six_hour_check_leaves_the_same_days(on_workers: OnWorkers) -> None:
    """By its command line, over three days: the last window of one, all of another, the first of the third."""
    deployment, days = on_workers.deployment, on_workers.past.days
    told, delivered = told_of_others(deployment), newest_delivery(deployment)
    airflow(
        deployment,
        *("backfill", "create", "--dag-id", DATA_QUALITY, "--max-active-runs", "3"),
        *("--from-date", at(days[0], hour=18), "--to-date", at(days[2], hour=0)),
    )
    runs = [str(run["dag_run_id"]) for run in deployment.runs(DATA_QUALITY, run_type="backfill")]
    assert len(runs) == 6
    for run_id in runs:
        deployment.expect(DATA_QUALITY, run_id)

    assert_as_by_command(on_workers, days)
    assert companies_told_of(deployment, after=delivered) <= LIVE
    assert told_of_others(deployment) == told


def test_a_killed_workers_month_is_finished_by_the_other(on_workers: OnWorkers) -> None:
    """It dies when nine days of the month are done; Airflow misses its heartbeat and tries again."""
    deployment, months = on_workers.deployment, on_workers.past.killed
    told, delivered = told_of_others(deployment), newest_delivery(deployment)
    halfway = months[1].replace(day=10)
    with held(deployment, [halfway]):
        run_id = trigger(deployment, months[0], last_day_of(months[1]))
        await_months(
            on_workers, run_id, lambda _: computed(deployment, months[1]) == days_between(months[1], halfway - DAY)
        )
        label, month = next(iter(months_of(deployment, run_id).items()))
        assert (label, month["state"], month["try_number"]) == (f"{months[1]:%Y-%m}", "running", 1)
        killed = str(month["hostname"])
        on_workers.workers[killed].kill()
    deployment.expect(QUALITY_BACKFILL, run_id)

    retried = next(iter(months_of(deployment, run_id).values()))
    assert retried["try_number"] == 2
    assert {retried["hostname"]} == set(WORKERS) - {killed}
    assert_as_by_command(on_workers, days_between(months[0], last_day_of(months[1])))
    assert companies_told_of(deployment, after=delivered) <= LIVE
    assert told_of_others(deployment) == told


def plant_past(deployment: Deployment, past: Past) -> None:
    """Write syncs of every outcome, some with details, from the first day to the last; four companies take turns."""
    chance = random.Random(4)  # noqa: S311 - rows to test with
    companies = [f"Past Company {number}" for number in range(4)]
    for number, company in enumerate(companies):
        deployment.add(company, environment="integration" if number == 3 else "production")
    started, number = datetime.combine(past.killed[0], wall_time(), UTC), 0
    while started.date() <= past.days[-1]:
        processed = chance.choice([0, 1, 10, 250])
        lost = chance.choice([0, 0, 1, processed // 2])
        status = chance.choice(["completed"] * 6 + ["failed", "cancelled"])
        deployment.hub.add_run(
            deployment.credentials[companies[number % 4]],
            status=status,
            data_type=chance.choice(["invoices", "customers", "both"]),
            started_at=started,
            completed_at=started + chance.choice([MINUTE, 7 * MINUTE, HOUR]),
            records=(processed, processed - lost, lost),
            error_message=chance.choice(ERRORS) if status == "failed" else None,
            error_details=chance.choice(DETAILS),
        )
        started, number = started + BETWEEN_SYNCS, number + 1


def allow_months_at_once(deployment: Deployment, slots: int) -> None:
    """Set the size of the backfill's pool."""
    answer = deployment.airflow.request(
        "PATCH",
        "/api/v2/pools/servicetitan_backfill",
        params={"update_mask": ["slots"]},
        json={"pool": "servicetitan_backfill", "slots": slots, "include_deferred": False},
    )
    assert answer.status_code == 200, answer.text


def command(deployment: Deployment, *, monitoring_dsn: str, first: date, last: date) -> None:
    """Compute days with the command ``quality``, into another monitoring database."""
    _succeed(
        [sys.executable, "-m", "include.cli", "quality", "--from", first.isoformat(), "--to", last.isoformat()],
        environment={**deployment.airflow.environment(), "AIRFLOW_CONN_MONITORING_DB": connection_of(monitoring_dsn)},
        cwd=PROJECT,
    )


def airflow(deployment: Deployment, *arguments: str) -> None:
    """Run a command of Airflow's in the deployment's environment."""
    _succeed(
        [sys.executable, "-m", "airflow", *arguments],
        environment=deployment.airflow.environment(),
        cwd=deployment.airflow.state_dir,
    )


def _succeed(command: Sequence[str], *, environment: dict[str, str], cwd: Path) -> None:
    done = subprocess.run(command, env=environment, cwd=cwd, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def trigger(deployment: Deployment, first: date, last: date) -> str:
    """Trigger the backfill by hand over these days, and return the id of its run."""
    return deployment.airflow.trigger(QUALITY_BACKFILL, conf={"from": first.isoformat(), "to": last.isoformat()})


def months_of(deployment: Deployment, run_id: str) -> dict[str, dict[str, Any]]:
    """The task instances of the months by what the UI shows of them (its index, until Airflow knows), in their order."""
    found = [
        task
        for task in deployment.airflow.task_instances(QUALITY_BACKFILL, run_id)
        if task["task_id"] == "restate_month" and task["map_index"] >= 0
    ]
    found.sort(key=lambda task: int(task["map_index"]))
    return {str(task["rendered_map_index"] or task["map_index"]): task for task in found}


def running(months: dict[str, dict[str, Any]], *, at_least: int) -> bool:
    """Whether so many months run at once."""
    return sum(month["state"] == "running" for month in months.values()) >= at_least


def await_months(
    on_workers: OnWorkers, run_id: str, is_so: Callable[[dict[str, dict[str, Any]]], bool]
) -> dict[str, dict[str, Any]]:
    """Return the months of a run once something is so."""
    deadline = time.monotonic() + RUN_SECONDS
    while not is_so(found := months_of(on_workers.deployment, run_id)):
        on_workers.deployment.airflow.require_running()
        for worker in on_workers.workers.values():
            worker.require_running()
        assert time.monotonic() < deadline, on_workers.deployment.states(run_id, dag=QUALITY_BACKFILL)
        time.sleep(0.5)
    return found


@contextmanager
def held(deployment: Deployment, days: Sequence[date]) -> Iterator[None]:
    """Keep days from being replaced: who comes to one waits, and has done the days before it."""
    with psycopg.connect(deployment.monitoring_dsn, autocommit=True) as conn:
        for day in days:
            conn.execute("SELECT pg_advisory_lock(%s, %s)", (QUALITY_LOCK, day.toordinal()))
        yield


def computed(deployment: Deployment, month: date) -> list[date]:
    """The days of a month that were ever computed."""
    query = "SELECT day FROM monitoring.quality_day WHERE day BETWEEN %s AND %s ORDER BY day"
    return [day for (day,) in deployment.rows(query, month, last_day_of(month))]


def assert_as_by_command(on_workers: OnWorkers, days: Sequence[date]) -> None:
    """The tables of these days are what the command wrote, all columns but the moments of computing and reading."""
    with psycopg.connect(on_workers.by_command) as conn:
        by_command = tables(conn, days)
    with psycopg.connect(on_workers.deployment.monitoring_dsn) as conn:
        by_dag = tables(conn, days)
    assert [day for (day,) in by_dag["quality_day"]] == list(days)
    for name, rows in by_command.items():
        assert rows, name
        assert by_dag[name] == rows


def tables(conn: psycopg.Connection[Any], days: Sequence[date]) -> dict[str, list[tuple[Any, ...]]]:
    """What is stored of some days, by table; the ledger's days alone stand in ``quality_day``."""
    queries = {
        "quality_daily": "SELECT to_jsonb(q) - 'computed_at' FROM monitoring.quality_daily AS q "
        "WHERE day = ANY (%s) ORDER BY day, credential_id, data_type",
        "field_quality_daily": "SELECT to_jsonb(q) FROM monitoring.field_quality_daily AS q "
        "WHERE day = ANY (%s) ORDER BY day, credential_id, data_type, field",
        "ledger": "SELECT to_jsonb(q) - 'read_at' FROM monitoring.quality_day AS q WHERE day = ANY (%s) ORDER BY day",
        "quality_day": "SELECT day FROM monitoring.quality_day WHERE day = ANY (%s) ORDER BY day",
    }
    return {name: conn.execute(query, (list(days),)).fetchall() for name, query in queries.items()}


def newest_delivery(deployment: Deployment) -> int:
    """The id of the newest message, sent or not."""
    ((newest,),) = deployment.rows("SELECT coalesce(max(id), 0) FROM monitoring.delivery")
    return int(newest)


def told_of_others(deployment: Deployment) -> tuple[int, int]:
    """How many Slack messages and mails name none of the companies that are live: of the past, or of a failure."""
    mails = [str(mail.get_body(("plain",)).get_content()) for mail in deployment.mail.messages]
    texts = ([message.text for message in deployment.slack.messages], mails)
    slack, mail = (sum(not any(company in text for company in LIVE) for text in each) for each in texts)
    return slack, mail


def companies_told_of(deployment: Deployment, *, after: int) -> set[str | None]:
    """Whom the messages after one are of, sent or not."""
    query = """
        SELECT DISTINCT company_name FROM monitoring.delivery
        LEFT JOIN monitoring.alert ON fingerprint = ANY (fingerprints) WHERE delivery.id > %s
    """
    return {company for (company,) in deployment.rows(query, after)}


def last_day_of(month: date) -> date:
    """The last day of the month that begins with a day."""
    return (month + timedelta(days=32)).replace(day=1) - DAY


def at(day: date, *, hour: int) -> str:
    """An hour of a day in UTC, as Airflow takes it."""
    return datetime.combine(day, wall_time(hour), UTC).isoformat()

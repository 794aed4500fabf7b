"""
A deployment for real: scheduler, LocalExecutor, API server, PostgreSQL, a Slack server and an SMTP server.

Its source has a past from the start (`plant_history`), laid out around two instants, so that a test knows every row.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import psycopg
from pytest_httpserver import HTTPServer

from include.simulation.airflow_settings import read_airflow_settings
from include.simulation.hub_plus import HubPlus, create_source
from include.simulation.local_airflow import LocalAirflow
from include.simulation.mail_server import MailServer
from include.simulation.postgres import EmbeddedPostgres
from include.simulation.slack_server import SlackServer
from include.warehouse.migration import upgrade
from tests.orchestration.monitored_world import NO_CATCH_UP, OVERLAY, connection_of, mail_connection, slack_connection

PROJECT = Path(__file__).parents[2]
SYNC_FAILURES = "servicetitan_sync_failures"
CREDENTIAL_HEALTH = "servicetitan_credential_health"
DATA_QUALITY = "servicetitan_data_quality"
HOUSEKEEPING = "servicetitan_housekeeping"
DAGS = (SYNC_FAILURES, CREDENTIAL_HEALTH, DATA_QUALITY, HOUSEKEEPING)

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
BETWEEN_SYNCS = 20 * MINUTE
DEAD_MAN = "/ping/0f3a9c1e-an-address-that-is-a-secret"
HOSTILE_COMPANY = "<!channel> {{ 7*7 }} <b>Evil</b> Inc"
RUN_SECONDS = 280
"""No run of a DAG takes longer, on a machine with much else to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """
    When things happened in the source before the monitor was there.

    Args:
        boundary: the last end of a 6-hour window before the deployment started.
        long_ago: 06:00 UTC 9 days before, where a 6-hour window ends: farther back than any rule looks from today,
            and than late data is restated.
        completed: when each planted sync of "Steady Air" completed, oldest first; each had 20 records, all good.
    """

    boundary: datetime
    long_ago: datetime
    completed: Sequence[datetime]


@dataclass
class Deployment:
    """A deployment that runs: what it reads, what it tells, and Airflow itself."""

    airflow: LocalAirflow
    hub: HubPlus
    source_dsn: str
    monitoring_dsn: str
    overlay: Path
    slack: SlackServer
    mail: MailServer
    switch: HTTPServer
    credentials: dict[str, int]
    past: Past
    failed: list[int] = field(default_factory=list)

    def run(self, dag: str = SYNC_FAILURES, *, expect: str = "success", **params: str) -> str:
        """Trigger a run by hand, wait for its end and return its id; never while a scheduled one is due or running."""
        self.wait_out_the_schedule()
        run_id = self.airflow.trigger(dag, conf=params)
        self.expect(dag, run_id, expect)
        return run_id

    def run_together(self, dags: Sequence[str], **params: str) -> None:
        """Trigger a run of each DAG at once, and wait until all have succeeded."""
        for dag, run_id in [(dag, self.airflow.trigger(dag, conf=params)) for dag in dags]:
            self.expect(dag, run_id)

    def backfill(self, dag: str, *, start: datetime, last: datetime) -> list[str]:
        """Ask for a backfill of the intervals that start from ``start`` to ``last``, and return the ids of its runs."""
        answer = self.airflow.request(
            "POST",
            "/api/v2/backfills",
            json={
                "dag_id": dag,
                "from_date": start.isoformat(),
                "to_date": last.isoformat(),
                "reprocess_behavior": "none",
                "max_active_runs": 1,
                "run_backwards": False,
                "dag_run_conf": {},
            },
        )
        assert answer.status_code == 200, answer.text
        return [run["dag_run_id"] for run in self.runs(dag, run_type="backfill")]

    def expect(self, dag: str, run_id: str, state: str = "success") -> None:
        """Wait for a run's end and say how it must have ended."""
        ended = self.airflow.wait_for_run(dag, run_id, timeout=RUN_SECONDS)
        assert ended == state, "\n".join([str(self.states(run_id, dag=dag)), *self.failures(run_id, dag=dag)])

    def wait_out_the_schedule(self, *, quiet: timedelta = 2 * MINUTE) -> None:
        """Wait until no run of any DAG is due for so long and none is running, so that counts are this test's own."""
        # First what is due, then what runs: a run that starts between the two is seen by the second.
        while self.next_due() < datetime.now(UTC) + quiet or self.runs("~", state=["running", "queued"]):
            time.sleep(1)

    def next_due(self) -> datetime:
        """When the scheduler starts its next run, of whichever DAG; in the past where it is about to."""
        answer = self.airflow.request("GET", "/api/v2/dags", params={"paused": False, "limit": 50})
        assert answer.status_code == 200, answer.text
        due = [dag["next_dagrun_run_after"] for dag in answer.json()["dags"]]
        return min(
            (datetime.fromisoformat(instant) for instant in due if instant is not None), default=datetime.now(UTC)
        )

    @contextmanager
    def policy_with(self, more: str) -> Iterator[None]:
        """Have more lines in the policy's overlay for a while, also when a test fails meanwhile."""
        before = self.overlay.read_text()
        self.overlay.write_text(before + more)
        try:
            yield
        finally:
            self.overlay.write_text(before)

    def runs(self, dag: str, **wanted: Any) -> list[dict[str, Any]]:
        """The runs of a DAG (``~``: of all) that the API finds, such as those of a ``run_type``."""
        answer = self.airflow.request("GET", f"/api/v2/dags/{dag}/dagRuns", params={"limit": 50, **wanted})
        assert answer.status_code == 200, answer.text
        return list(answer.json()["dag_runs"])

    def states(self, run_id: str, *, dag: str = SYNC_FAILURES) -> dict[str, str]:
        """States of a run's task instances."""
        return {
            f"{task['task_id']}[{task['map_index']}]": str(task["state"])
            for task in self.airflow.task_instances(dag, run_id)
        }

    def failures(self, run_id: str, *, dag: str = SYNC_FAILURES) -> list[str]:
        """What the failed tasks of a run logged at last, and what the monitor said of its own health."""
        logs = [
            f"{task['task_id']}: {self.airflow.task_log(dag, run_id, task['task_id'], try_number=task['try_number'])[-2000:]}"
            for task in self.airflow.task_instances(dag, run_id)
            if task["state"] == "failed" and task["map_index"] == -1
        ]
        query = "SELECT title, message FROM monitoring.alert WHERE rule = 'monitor_health'"
        return [*logs, *(f"{title}: {message}" for title, message in self.rows(query))]

    def add(self, company: str, **credential: Any) -> int:
        """A new company with one credential."""
        self.credentials[company] = int(self.hub.add_credential(self.hub.add_company(company), **credential))
        return self.credentials[company]

    def fail_three_times(self, credential: int, *, error: str) -> None:
        """Three failures within the last ten minutes; `correct_failures` takes them back."""
        self.failed += self.fail(credential, before=datetime.now(UTC), error=error)

    def fail(self, credential: int, *, before: datetime, error: str) -> list[int]:
        """Three failures within the ten minutes before an instant."""
        ends = [before - minutes * MINUTE for minutes in (9, 6, 3)]
        return [
            int(
                self.hub.add_run(
                    credential, status="failed", started_at=end - MINUTE, completed_at=end, error_message=error
                )
            )
            for end in ends
        ]

    def correct_failures(self) -> None:
        """Finish the failed runs as completed after all, as upstream's recovery does in place."""
        for run in self.failed:
            self.hub.finish_run(run, at=datetime.now(UTC) - timedelta(seconds=2), status="completed")
        self.failed.clear()

    def succeed(self, credential: int, *, ago: timedelta = timedelta(seconds=2)) -> None:
        """One success, just now."""
        end = datetime.now(UTC) - ago
        self.hub.add_run(credential, started_at=end - MINUTE, completed_at=end)

    def told(self, company: str) -> tuple[int, int]:
        """How many Slack messages and mails name a company."""
        mails = [str(mail.get_body(("plain",)).get_content()) for mail in self.mail.messages]
        return (
            sum(company in message.text for message in self.slack.messages),
            sum(company in text for text in mails),
        )

    def pings(self) -> int:
        """How often the dead man's switch was pinged."""
        return sum(request.path == DEAD_MAN for request, _ in self.switch.log)

    def sent(self) -> tuple[int, int]:
        """How many Slack messages and mails there were."""
        return len(self.slack.messages), len(self.mail.messages)

    def ledger(self, company: str) -> set[tuple[str, str, str, str | None]]:
        """Of each message of a company's alerts: rule, the alert's state, the message's, and why it was not sent."""
        query = """
            SELECT rule, state, status, silent FROM monitoring.alert
            JOIN monitoring.delivery ON fingerprint = ANY (fingerprints) WHERE company_name = %s
        """
        return {(rule, state, status, silent) for rule, state, status, silent in self.rows(query, company)}

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """Rows of the monitoring database."""
        with psycopg.connect(self.monitoring_dsn) as conn:
            return list(conn.execute(query, values))


@contextmanager
def deployed(
    home: Path,
    server: EmbeddedPostgres,
    *,
    prefix: str = "e2e",
    dags: Sequence[str] = DAGS,
    environment: Mapping[str, str] | None = None,
    beside: Callable[[LocalAirflow], AbstractContextManager[object]] = lambda _: nullcontext(),
    plant_before: Callable[[Deployment], None] = lambda _: None,
) -> Iterator[Deployment]:
    """
    Start everything, wait for the first scheduled run of each DAG, and stop everything in the end.

    The policy keeps sync failures firing for no time, so that a close needs one tick.

    Args:
        home: for its files.
        server: where its databases are made.
        prefix: of their names.
        dags: those that run; the others are not waited for.
        environment: more variables for every component.
        beside: what runs beside Airflow, such as its workers; entered before the first runs are waited for.
        plant_before: writes what the source has from before `plant_history`.
    """
    names = (f"{prefix}_airflow", f"{prefix}_hub_plus", f"{prefix}_monitoring")
    metadata_dsn, source_dsn, monitoring_dsn = (server.create_database(name) for name in names)
    create_source(source_dsn)
    upgrade(monitoring_dsn)
    overlay = home / "monitor.yaml"
    overlay.write_text(OVERLAY.replace(NO_CATCH_UP, ""))
    shipped = read_airflow_settings(PROJECT / "airflow_settings.yaml")
    with SlackServer() as slack, MailServer() as mail, HubPlus(source_dsn) as hub, HTTPServer(threaded=True) as switch:
        switch.expect_request(DEAD_MAN, method="GET").respond_with_data("OK")
        airflow = LocalAirflow(
            home / "airflow",
            metadata_dsn=metadata_dsn,
            pools=shipped.pools,
            environment={
                "AIRFLOW_CONN_HUB_PLUS_DB": connection_of(source_dsn),
                "AIRFLOW_CONN_MONITORING_DB": connection_of(monitoring_dsn),
                "AIRFLOW_CONN_SLACK_ALERTS": slack_connection(slack),
                "AIRFLOW_CONN_ALERT_EMAIL": mail_connection(mail),
                "AIRFLOW_CONN_DEAD_MAN": json.dumps({"conn_type": "http", "host": switch.url_for(DEAD_MAN)}),
                "SERVICETITAN_MONITOR_CONFIG": str(overlay),
                "SERVICETITAN_MONITOR_FAILURE_CHANNEL": "email:oncall@example.com",
                **(environment or {}),
            },
        )
        boundary = last_boundary(datetime.now(UTC))
        made = Deployment(
            airflow=airflow,
            hub=hub,
            source_dsn=source_dsn,
            monitoring_dsn=monitoring_dsn,
            overlay=overlay,
            slack=slack,
            mail=mail,
            switch=switch,
            credentials={},
            past=Past(boundary=boundary, long_ago=boundary.replace(hour=6) - 9 * DAY, completed=()),
        )
        plant_before(made)
        plant_history(made)
        try:
            airflow.start()
            await_execution_api(airflow)
            with beside(airflow):
                for dag in dags:
                    airflow.wait_for_dag(dag)
                for dag in dags:
                    first = first_scheduled_run(made, dag)
                    made.expect(dag, first)
                yield made
        finally:
            airflow.stop()
    for name in names:
        server.drop_database(name)


def await_execution_api(airflow: LocalAirflow) -> None:
    """
    Let the API server build what tasks speak with, which it does at the first request.

    That takes 7 seconds of a core, half a minute on a busy machine, and it answers nobody meanwhile.
    """
    httpx.get(f"{airflow.url}/execution/health", timeout=RUN_SECONDS, trust_env=False).raise_for_status()


def first_scheduled_run(deployment: Deployment, dag: str) -> str:
    """Return the run that the scheduler itself started for the last whole interval, once it is there."""
    deadline = time.monotonic() + RUN_SECONDS
    while not (found := deployment.runs(dag, run_type="scheduled")):
        assert time.monotonic() < deadline, f"the scheduler started no run of {dag}"
        time.sleep(0.5)
    return str(found[0]["dag_run_id"])


def last_boundary(now: datetime) -> datetime:
    """Return the last end of a 6-hour window."""
    return now.replace(hour=now.hour // 6 * 6, minute=0, second=0, microsecond=0)


def plant_history(deployment: Deployment) -> None:
    """
    Write what the source has from before the monitor: 9 days ago trouble of every kind, today a sync that lost records.

    Steady Air syncs every 20 minutes, in the 14 hours around the instant long ago and from an hour before the 6-hour
    boundary until now: the platform is never silent. Whoever is mentioned completed a sync in the hour before the
    boundary. Ids follow time, as in the source.
    """
    hub, boundary, long_ago = deployment.hub, deployment.past.boundary, deployment.past.long_ago
    for company in ("Acme Heating", HOSTILE_COMPANY, "Past Plumbing", "Leaky Pipes", "Steady Air"):
        deployment.add(company)
    past, leaky, steady = (deployment.credentials[name] for name in ("Past Plumbing", "Leaky Pipes", "Steady Air"))
    bad = {"data_type": "invoices", "records": (100, 60, 40)}
    completed = [
        *_every_20_minutes(long_ago - 8 * HOUR, long_ago + 6 * HOUR),
        *_every_20_minutes(boundary - HOUR, datetime.now(UTC)),
    ]
    for end in completed[: 14 * 3]:
        hub.add_run(steady, started_at=end - 5 * MINUTE, completed_at=end, records=(20, 20, 0))
    hub.add_run(past, data_type="customers", started_at=long_ago - 3 * HOUR, completed_at=long_ago + HOUR)
    hub.add_run(past, started_at=long_ago - 2 * HOUR, completed_at=long_ago - 110 * MINUTE, **bad)
    deployment.fail(past, before=long_ago, error="HTTP 401 invalid_client")

    for credential in deployment.credentials.values():
        if credential == steady:
            continue
        hub.add_run(credential, started_at=boundary - 31 * MINUTE, completed_at=boundary - 30 * MINUTE)
    hub.add_run(leaky, started_at=boundary - 50 * MINUTE, completed_at=boundary - 40 * MINUTE, **bad)
    for end in completed[14 * 3 :]:
        hub.add_run(steady, started_at=end - 5 * MINUTE, completed_at=end, records=(20, 20, 0))
    deployment.past = Past(boundary=boundary, long_ago=long_ago, completed=completed)


def _every_20_minutes(start: datetime, end: datetime) -> list[datetime]:
    return [start + number * BETWEEN_SYNCS for number in range(1, (end - start) // BETWEEN_SYNCS + 1)]


def completed_on(deployment: Deployment, day: date) -> int:
    """Return how many of Steady Air's planted syncs completed on a day in UTC."""
    return sum(end.date() == day for end in deployment.past.completed)

"""
The whole thing for real: scheduler, LocalExecutor, API server, PostgreSQL, a Slack server and an SMTP server.

One Airflow for the module; the tests follow one another in the order of the file, each from where the last one ended.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from include.simulation.airflow_settings import read_airflow_settings
from include.simulation.hub_plus import HubPlus, create_source
from include.simulation.local_airflow import LocalAirflow
from include.simulation.mail_server import MailServer
from include.simulation.postgres import EmbeddedPostgres
from include.simulation.slack_server import SlackServer
from include.warehouse.migration import upgrade
from tests.orchestration.monitored_world import OVERLAY, connection_of, mail_connection, slack_connection

PROJECT = Path(__file__).parents[2]
DAG = "servicetitan_sync_failures"
MINUTE = timedelta(minutes=1)
TOKEN = "xoxb-123456789012-abcdefABCDEF123456"
WEBHOOK = "https://hooks.slack.com/services/T0AAAAAAA/B0AAAAAAA/abcdefABCDEF123456789012"
HOSTILE = f"{WEBHOOK} <!channel> {{{{ 7*7 }}}} <script>alert(1)</script> token={TOKEN} \u202e" + "A" * 100_000


@dataclass
class Deployment:
    """A deployment that runs: what it reads, what it tells, and Airflow itself."""

    airflow: LocalAirflow
    hub: HubPlus
    source_dsn: str
    monitoring_dsn: str
    slack: SlackServer
    mail: MailServer
    acme: int
    hostile: int
    failed: list[int] = field(default_factory=list)

    def run(self, *, expect: str = "success", **params: str) -> str:
        """Trigger a run by hand, wait for its end and return its id; never while a scheduled one is due or running."""
        self.wait_out_the_schedule()
        run_id = self.airflow.trigger(DAG, conf=params)
        assert self.airflow.wait_for_run(DAG, run_id, timeout=280) == expect, self.states(run_id)
        return run_id

    def wait_out_the_schedule(self) -> None:
        """Wait until the next tick is more than two minutes away and nothing runs, so that counts are this test's own."""
        while True:
            left = 900 - time.time() % 900
            active = self.airflow.request(
                "GET", f"/api/v2/dags/{DAG}/dagRuns", params={"state": ["running", "queued"]}
            ).json()["total_entries"]
            if 120 < left < 895 and not active:
                return
            time.sleep(1)

    def states(self, run_id: str) -> dict[str, str]:
        """States of a run's task instances."""
        return {
            f"{task['task_id']}[{task['map_index']}]": str(task["state"])
            for task in self.airflow.task_instances(DAG, run_id)
        }

    def fail_three_times(self, credential: int, *, error: str) -> None:
        """Three failures within the last ten minutes; `correct_failures` takes them back."""
        for minutes in (9, 6, 3):
            end = datetime.now(UTC) - minutes * MINUTE
            run = self.hub.add_run(
                credential, status="failed", started_at=end - MINUTE, completed_at=end, error_message=error
            )
            self.failed.append(int(run))

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


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory, postgres_server: EmbeddedPostgres) -> Iterator[Deployment]:
    """Start everything; the policy keeps sync failures firing for no time, so that a close needs one tick."""
    home = tmp_path_factory.mktemp("deployment")
    names = ("e2e_airflow", "e2e_hub_plus", "e2e_monitoring")
    metadata_dsn, source_dsn, monitoring_dsn = (postgres_server.create_database(name) for name in names)
    create_source(source_dsn)
    upgrade(monitoring_dsn)
    overlay = home / "monitor.yaml"
    overlay.write_text(OVERLAY)
    shipped = read_airflow_settings(PROJECT / "airflow_settings.yaml")
    with SlackServer() as slack, MailServer() as mail, HubPlus(source_dsn) as hub:
        airflow = LocalAirflow(
            home / "airflow",
            metadata_dsn=metadata_dsn,
            pools=shipped.pools,
            environment={
                "AIRFLOW_CONN_HUB_PLUS_DB": connection_of(source_dsn),
                "AIRFLOW_CONN_MONITORING_DB": connection_of(monitoring_dsn),
                "AIRFLOW_CONN_SLACK_ALERTS": slack_connection(slack),
                "AIRFLOW_CONN_ALERT_EMAIL": mail_connection(mail),
                "SERVICETITAN_MONITOR_CONFIG": str(overlay),
                "SERVICETITAN_MONITOR_FAILURE_CHANNEL": "email:oncall@example.com",
            },
        )
        made = Deployment(
            airflow=airflow,
            hub=hub,
            source_dsn=source_dsn,
            monitoring_dsn=monitoring_dsn,
            slack=slack,
            mail=mail,
            acme=int(hub.add_credential(hub.add_company("Acme Heating"))),
            hostile=int(hub.add_credential(hub.add_company("<!channel> {{ 7*7 }} <b>Evil</b> Inc"))),
        )
        try:
            airflow.start()
            airflow.wait_for_dag(DAG)
            yield made
        finally:
            airflow.stop()
    for name in names:
        postgres_server.drop_database(name)


def test_a_run_by_hand_tells_each_channel_once(deployment: Deployment) -> None:
    """Two rules speak of Acme: three in an hour, and three in a row."""
    deployment.succeed(deployment.acme, ago=30 * MINUTE)
    deployment.run()
    assert deployment.told("Acme Heating") == (0, 0)

    deployment.fail_three_times(deployment.acme, error="HTTP 401 invalid_client")
    deployment.run()
    assert deployment.told("Acme Heating") == (2, 2)


def test_the_button_in_the_ui_judges_the_present_moment(deployment: Deployment) -> None:
    """The UI fills in a logical date; Airflow's inferred interval, judged long ago, is not what is meant."""
    deployment.wait_out_the_schedule()
    now = datetime.now(UTC)
    answer = deployment.airflow.request(
        "POST", f"/api/v2/dags/{DAG}/dagRuns", json={"logical_date": now.isoformat(), "conf": {"notify": "never"}}
    )
    assert answer.status_code == 200, answer.text
    assert deployment.airflow.wait_for_run(DAG, answer.json()["dag_run_id"], timeout=280) == "success"

    with psycopg.connect(deployment.monitoring_dsn) as conn:
        row = conn.execute("SELECT count(*) FROM monitoring.check_run WHERE window_to = %s", (now,)).fetchone()
    assert row == (1,)


def test_a_second_tick_and_a_filtered_run_send_nothing(deployment: Deployment) -> None:
    """Whatever is already told stays told."""
    deployment.run()
    deployment.run(credential=str(deployment.hostile))

    assert deployment.told("Acme Heating") == (2, 2)


def test_hostile_text_comes_out_escaped_redacted_and_cut(deployment: Deployment) -> None:
    """In Slack, mail, XCom and logs."""
    deployment.fail_three_times(deployment.hostile, error=HOSTILE)
    run_id = deployment.run()

    messages = [message for message in deployment.slack.messages if "Evil" in message.text]
    assert len(messages) == 2
    for message in messages:
        everything = message.text + json.dumps(message.blocks)
        assert "<!channel>" not in everything
        assert TOKEN not in everything
        assert "hooks.slack.com/services/T0" not in everything
        assert "\u202e" not in everything
        assert "{{ 7*7 }}" in everything
        assert len(everything) < 14_000
    mails = [mail for mail in deployment.mail.messages if "Evil" in str(mail.get_body(("plain",)).get_content())]
    assert len(mails) == 2
    for mail in mails:
        html = mail.get_body(("html",)).get_content()
        assert "<script>alert" not in html
        assert TOKEN not in mail.as_string() + html
        assert "services/T0AAAAAAA" not in html
    logs = "".join(
        deployment.airflow.task_log(DAG, run_id, task["task_id"], map_index=task["map_index"])
        for task in deployment.airflow.task_instances(DAG, run_id)
        if task["state"] == "success"
    )
    assert "judged sync_failures" in logs
    assert TOKEN not in logs
    assert WEBHOOK not in logs
    assert "A" * 1_000 not in logs
    xcom = json.dumps(deployment.airflow.xcom(DAG, run_id, "evaluate"))
    assert "Evil" not in xcom
    assert "alert(1)" not in xcom


def test_a_slack_that_fails_is_retried_and_told_once(deployment: Deployment) -> None:
    """The task's own retry sends what the first try could not; the mail is not held up, and the closes arrive."""
    before = deployment.told("Acme Heating")
    deployment.correct_failures()
    deployment.slack.fail_next(status=500)
    run_id = deployment.run()

    assert deployment.told("Acme Heating") == (before[0] + 2, before[1] + 2)
    tries = {task["task_id"]: task["try_number"] for task in deployment.airflow.task_instances(DAG, run_id)}
    assert tries["drain_slack"] == 2
    assert tries["drain_email"] == 1


def test_a_backfill_sends_nothing(deployment: Deployment) -> None:
    """It fills history, through the scheduler."""
    now = datetime.now(UTC)
    start = now - timedelta(hours=2)
    for minutes in (9, 6, 3):
        end = start + 30 * MINUTE - minutes * MINUTE
        deployment.hub.add_run(
            deployment.acme, status="failed", started_at=end - MINUTE, completed_at=end, error_message="HTTP 401"
        )
    sent = len(deployment.slack.messages), len(deployment.mail.messages)
    answer = deployment.airflow.request(
        "POST",
        "/api/v2/backfills",
        json={
            "dag_id": DAG,
            "from_date": start.isoformat(),
            "to_date": (start + 30 * MINUTE).isoformat(),
            "reprocess_behavior": "none",
            "max_active_runs": 1,
            "run_backwards": False,
            "dag_run_conf": {},
        },
    )
    assert answer.status_code == 200, answer.text
    runs = deployment.airflow.request(
        "GET", f"/api/v2/dags/{DAG}/dagRuns", params={"run_type": "backfill", "limit": 50}
    ).json()["dag_runs"]
    assert len(runs) >= 2
    for run in runs:
        assert deployment.airflow.wait_for_run(DAG, run["dag_run_id"], timeout=280) == "success"

    assert (len(deployment.slack.messages), len(deployment.mail.messages)) == sent
    with psycopg.connect(deployment.monitoring_dsn) as conn:
        row = conn.execute("SELECT count(*) FROM monitoring.check_run WHERE mode = 'historical'").fetchone()
    assert row is not None
    assert row[0] >= len(runs)


def test_a_source_that_cannot_be_read_is_told_and_the_run_is_red(deployment: Deployment) -> None:
    """By its own alert, once; only `conclude` fails."""
    with psycopg.connect(deployment.source_dsn, autocommit=True) as conn:
        conn.execute("ALTER TABLE servicetitan_sync_logs RENAME COLUMN status TO state")
    run_id = deployment.run(expect="failed")

    states = deployment.states(run_id)
    assert states["evaluate[-1]"] == "success"
    assert states["conclude[-1]"] == "failed"
    assert sum("Monitor Cannot See" in message.text for message in deployment.slack.messages) == 1
    deployment.run(expect="failed")
    assert sum("Monitor Cannot See" in message.text for message in deployment.slack.messages) == 1
    with psycopg.connect(deployment.source_dsn, autocommit=True) as conn:
        conn.execute("ALTER TABLE servicetitan_sync_logs RENAME COLUMN state TO status")
    deployment.run()


def test_its_own_failure_is_told_to_the_failure_channel(deployment: Deployment) -> None:
    """Our schema is gone: no alert can be raised, and the one channel of the environment hears of it."""
    with psycopg.connect(deployment.monitoring_dsn, autocommit=True) as conn:
        conn.execute("ALTER SCHEMA monitoring RENAME TO hidden")
    run_id = deployment.run(expect="failed")
    with psycopg.connect(deployment.monitoring_dsn, autocommit=True) as conn:
        conn.execute("ALTER SCHEMA hidden RENAME TO monitoring")

    assert deployment.states(run_id)["evaluate[-1]"] == "failed"
    notices = [mail for mail in deployment.mail.messages if mail["To"] == "oncall@example.com"]
    texts = [str(notice.get_body(("plain",)).get_content()) for notice in notices]
    assert ["the check itself failed" in text and run_id in text for text in texts] == [True]

"""The logs of tasks as a collector finds them: written by Airflow's supervisor, file by file, and on stdout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from include.simulation.postgres import EmbeddedPostgres
from tests.dags import supervised_run
from tests.orchestration.monitored_world import monitored_world

SYNC_FAILURES = "servicetitan_sync_failures"
TOKEN = "xoxb-123456789012-abcdefABCDEF123456"
WEBHOOK = "https://hooks.slack.com/services/T0AAAAAAA/B0AAAAAAA/abcdefABCDEF123456789012"
PASSWORD = "hunter2Hunter2hunter2"
SECRETS = ("abcdefABCDEF", "B0AAAAAAA", PASSWORD)


@dataclass(frozen=True)
class Logs:
    """What one run left: the lines of each task's file, and those on stdout."""

    by_task: dict[str, list[dict[str, Any]]]
    stdout: str

    def decisions(self, task: str) -> list[dict[str, Any]]:
        """The lines of a task that tell a decision."""
        return [line for line in self.by_task[task] if "decision" in line]


def logs_of(folder: Path, *, stdout: str) -> Logs:
    """Parse every task's file, every line of it."""
    return Logs(
        by_task={
            str(path.relative_to(folder).parts[2]).removeprefix("task_id="): [
                json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()
            ]
            for path in sorted(folder.rglob("*.log"))
        },
        stdout=stdout,
    )


@dataclass(frozen=True)
class Planted:
    """The credential that fails in the world of the test, and the logs of a run that looks at it."""

    credential: int
    logs: Logs
    alerts: list[Any]
    deliveries: list[Any]


def database(server: EmbeddedPostgres, name: str) -> str:
    """An empty database, which is left to the server's end."""
    return server.create_database(f"task_logs_{name}")


@pytest.fixture(scope="module")
def planted(
    postgres_server: EmbeddedPostgres, airflow_metadata: Path, tmp_path_factory: pytest.TempPathFactory
) -> Planted:
    """A run in which secrets are wherever the monitor reads texts: failed syncs, the policy file, a connection.

    Nothing listens where Slack should be.
    """
    home = tmp_path_factory.mktemp("task_logs")
    with (
        pytest.MonkeyPatch.context() as monkeypatch,
        monitored_world(partial(database, postgres_server), monkeypatch, home) as world,
    ):
        now = datetime.now(UTC)
        world.succeed(world.credential, at=now)
        world.tick(now - timedelta(minutes=30))  # remembers the good policy
        world.overlay.write_text(f"{world.overlay.read_text()}\nrulez: {{url: '{WEBHOOK}'}}\n")
        slack = {"conn_type": "slack", "password": TOKEN, "extra": {"base_url": "http://127.0.0.1:9/api/"}}
        monkeypatch.setenv("AIRFLOW_CONN_SLACK_ALERTS", json.dumps(slack))
        broken = int(world.hub.add_credential(world.hub.add_company("Broken Boilers")))
        world.fail_three_times(broken, before=now, error=f"refused: token={TOKEN} password={PASSWORD}")
        done = subprocess.run(
            [sys.executable, "-m", "tests.dags.supervised_run", SYNC_FAILURES],
            env={
                **os.environ,
                "AIRFLOW__CORE__EXECUTOR": supervised_run.EXECUTOR,
                "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(home / "logs"),
                "AIRFLOW__LOGGING__JSON_LOGS": "True",
            },
            capture_output=True,
            text=True,
            timeout=280,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-4_000:]
        return Planted(
            credential=broken,
            logs=logs_of(home / "logs", stdout=done.stdout),
            alerts=list(world.rows("SELECT * FROM monitoring.alert WHERE rule = 'sync_failures'")),
            deliveries=list(world.rows("SELECT * FROM monitoring.delivery WHERE status = 'sent'")),
        )


def test_the_fields_of_a_decision_are_in_the_tasks_log_file(planted: Planted) -> None:
    """With the window, the rule, the credential and the fingerprint, beside what Airflow says of the task."""
    (alert,) = planted.alerts
    lines = planted.logs.decisions("evaluate")
    (opened,) = [line for line in lines if (line["decision"], line.get("rule")) == ("alert_opened", "sync_failures")]
    (judged,) = [line for line in lines if line["decision"] == "check_judged"]

    assert opened["fingerprint"] == alert["fingerprint"]
    assert opened["credential_id"] == str(planted.credential)
    assert (opened["logger"], opened["level"]) == ("servicetitan.evaluation", "info")
    assert (opened["check"], opened["mode"], opened["verdict"]) == ("sync_failures", "live", "breach")
    assert datetime.fromisoformat(opened["window_to"]) == alert["opened_at"]
    assert datetime.fromisoformat(opened["window_from"]) < alert["opened_at"]
    assert opened["event"].startswith(f"opened sync_failures (high) of credential {planted.credential}, production: ")
    assert (opened["dag_id"], opened["task_id"]) == (SYNC_FAILURES, "evaluate")
    assert judged["verdicts"]["sync_failures.breach"] == 1
    assert (judged["run_id"], judged["window_to"]) == (opened["run_id"], opened["window_to"])


def test_a_message_that_was_sent_is_a_line_of_its_channels_task(planted: Planted) -> None:
    """Mail alone is there to take one."""
    sent = [line for line in planted.logs.decisions("drain_email") if line["decision"] == "delivery_sent"]

    assert {(line["delivery_id"], line["channel"]) for line in sent} == {
        (row["id"], row["channel"]) for row in planted.deliveries
    }
    assert all(line["map_index"] == 0 and line["notify_reason"] == "first" for line in sent)


def test_no_planted_secret_is_in_any_line(planted: Planted) -> None:
    """What goes by them is told all the same: the wrong policy file, the failing syncs, the refused connection."""
    told = {line["decision"] for task in planted.logs.by_task for line in planted.logs.decisions(task)}
    text = json.dumps(planted.logs.by_task, ensure_ascii=False) + planted.logs.stdout

    assert told >= {"policy_refused", "delivery_failed", "alert_opened", "check_judged"}
    assert [secret for secret in SECRETS if secret in text] == []


def test_stdout_has_the_same_lines_as_json(planted: Planted) -> None:
    """Where the executor repeats task logs there and ``json_logs`` is on."""
    shown = [json.loads(line) for line in planted.logs.stdout.splitlines() if line.startswith("{")]
    in_files = {
        (line["timestamp"], line["decision"]) for task in planted.logs.by_task for line in planted.logs.decisions(task)
    }

    assert {(line["timestamp"], line["decision"]) for line in shown if "decision" in line} == in_files
    assert any(line.get("fingerprint") == planted.alerts[0]["fingerprint"] for line in shown)

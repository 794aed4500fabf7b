"""
The 15-minute DAG for real, from the source to Slack and mail, in good days and bad.

The tests follow one another in the order of the file, each from where the last one ended.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime

import psycopg

from tests.e2e.deployment import DEAD_MAN, HOSTILE_COMPANY, MINUTE, RUN_SECONDS, Deployment
from tests.e2e.deployment import SYNC_FAILURES as DAG

TOKEN = "xoxb-123456789012-abcdefABCDEF123456"
WEBHOOK = "https://hooks.slack.com/services/T0AAAAAAA/B0AAAAAAA/abcdefABCDEF123456789012"
HOSTILE = f"{WEBHOOK} <!channel> {{{{ 7*7 }}}} <script>alert(1)</script> token={TOKEN} \u202e" + "A" * 100_000


def test_a_run_by_hand_tells_each_channel_once(deployment: Deployment) -> None:
    """Two rules speak of Acme: three in an hour, which is told, and three in a row, which that explains."""
    acme = deployment.credentials["Acme Heating"]
    deployment.succeed(acme, ago=30 * MINUTE)
    deployment.run()
    assert deployment.told("Acme Heating") == (0, 0)

    deployment.fail_three_times(acme, error="HTTP 401 invalid_client")
    deployment.run()
    assert deployment.told("Acme Heating") == (1, 1)
    assert deployment.ledger("Acme Heating") == {
        ("sync_failures", "firing", "sent", None),
        ("consecutive_failures", "firing", "not_sent", "inhibited"),
    }


def test_the_button_in_the_ui_judges_the_present_moment(deployment: Deployment) -> None:
    """The UI fills in a logical date; Airflow's inferred interval, judged long ago, is not what is meant."""
    deployment.wait_out_the_schedule()
    now = datetime.now(UTC)
    answer = deployment.airflow.request(
        "POST", f"/api/v2/dags/{DAG}/dagRuns", json={"logical_date": now.isoformat(), "conf": {"notify": "never"}}
    )
    assert answer.status_code == 200, answer.text
    assert deployment.airflow.wait_for_run(DAG, answer.json()["dag_run_id"], timeout=RUN_SECONDS) == "success"

    judged = deployment.rows("SELECT check_name FROM monitoring.check_run WHERE window_to = %s ORDER BY 1", now)
    assert judged == [("measure_syncs",), ("sync_failures",)]


def test_a_second_tick_and_a_filtered_run_send_nothing(deployment: Deployment) -> None:
    """Whatever is already told stays told."""
    deployment.run()
    deployment.run(credential=str(deployment.credentials[HOSTILE_COMPANY]))

    assert deployment.told("Acme Heating") == (1, 1)


def test_the_watcher_is_watched(deployment: Deployment) -> None:
    """A heartbeat goes to each channel once a day, and each check that completes pings the switch outside."""
    deployment.wait_out_the_schedule(quiet=4 * MINUTE)
    slack, mail = deployment.sent()
    pings = deployment.pings()
    with deployment.policy_with("alerting: {heartbeat: {every: 24h, to: ops}, ping_connection: dead_man}\n"):
        run_id = deployment.run()

        assert deployment.sent() == (slack + 1, mail + 1)
        assert "heartbeat" in deployment.slack.messages[-1].text.lower()
        assert deployment.pings() == pings + 1
        logs = deployment.airflow.task_log(DAG, run_id, "conclude")
        assert "dead_man was pinged" in logs
        assert DEAD_MAN not in logs

        deployment.run()
    assert deployment.sent() == (slack + 1, mail + 1)
    assert deployment.pings() == pings + 2


def test_hostile_text_comes_out_escaped_redacted_and_cut(deployment: Deployment) -> None:
    """In Slack, mail, XCom and logs."""
    deployment.fail_three_times(deployment.credentials[HOSTILE_COMPANY], error=HOSTILE)
    run_id = deployment.run()

    messages = [message for message in deployment.slack.messages if "Evil" in message.text]
    assert len(messages) == 1
    for message in messages:
        everything = message.text + json.dumps(message.blocks)
        assert "<!channel>" not in everything
        assert TOKEN not in everything
        assert "hooks.slack.com/services/T0" not in everything
        assert "\u202e" not in everything
        assert "{{ 7*7 }}" in everything
        assert len(everything) < 14_000
    mails = [mail for mail in deployment.mail.messages if "Evil" in str(mail.get_body(("plain",)).get_content())]
    assert len(mails) == 1
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
    deployment.wait_out_the_schedule(quiet=4 * MINUTE)
    before = deployment.told("Acme Heating")
    deployment.correct_failures()
    deployment.slack.fail_next(status=500)
    run_id = deployment.run()

    assert deployment.told("Acme Heating") == (before[0] + 1, before[1] + 1)
    assert {state for _, state, _, _ in deployment.ledger("Acme Heating")} == {"inactive"}
    tries = {task["task_id"]: task["try_number"] for task in deployment.airflow.task_instances(DAG, run_id)}
    assert tries["drain_slack"] == 2
    assert tries["drain_email"] == 1


def test_a_source_that_cannot_be_read_is_told_and_the_run_is_red(deployment: Deployment) -> None:
    """By its own alert, once; only `conclude` fails."""
    deployment.wait_out_the_schedule(quiet=4 * MINUTE)
    with psycopg.connect(deployment.source_dsn, autocommit=True) as conn:
        conn.execute("ALTER TABLE servicetitan_sync_logs RENAME COLUMN status TO state")
    pings = deployment.pings()
    with deployment.policy_with("alerting: {ping_connection: dead_man}\n"):
        run_id = deployment.run(expect="failed")
    assert deployment.pings() == pings  # a check that saw nothing has not completed

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

"""The lines of evaluations and deliveries over a real world: one per decision, and few when everything breaks."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from include.orchestration.evaluation import evaluate_check
from include.orchestration.evaluation_request import Evaluation
from include.orchestration.policy_file import load_policy
from include.simulation.bulk_history import bulk_history
from include.simulation.hub_plus import create_source
from include.sync_health.checks import SYNC_FAILURES
from include.sync_health.windows import RunMode, Window
from include.warehouse.migration import upgrade
from tests.orchestration.monitored_world import NOON, TICK, MonitoredWorld, connection_of, monitored_world

MINUTE = timedelta(minutes=1)
TOKEN = "xoxb-123456789012-abcdefABCDEF123456"

Written = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def world(
    make_database: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[MonitoredWorld]:
    """A healthy world at noon."""
    with monitored_world(make_database, monkeypatch, tmp_path) as made:
        yield made


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Callable[[], list[dict[str, Any]]]:
    """Return what returns the fields of each line since it was asked last."""
    caplog.set_level(logging.INFO, logger="servicetitan")

    def since() -> list[dict[str, Any]]:
        found = [
            {**vars(record)["fields"], "said": record.getMessage()}
            for record in caplog.records
            if hasattr(record, "fields")
        ]
        caplog.clear()
        return found

    return since


def test_the_life_of_an_alert_is_a_line_at_each_step(world: MonitoredWorld, lines: Written) -> None:
    """Opened, told, closed; a tick in which nothing changes has the line of the run alone."""
    world.fail_three_times(world.credential, before=NOON)
    world.tick_and_drain(NOON)
    opening = lines()
    world.tick_and_drain(NOON + TICK)
    quiet = lines()
    world.succeed(world.credential, at=NOON + 70 * MINUTE)
    world.tick_and_drain(NOON + 5 * TICK)
    closing = lines()

    (opened,) = [line for line in opening if (line["decision"], line.get("rule")) == ("alert_opened", "sync_failures")]
    (alert,) = world.rows("SELECT * FROM monitoring.alert WHERE rule = 'sync_failures'")
    assert (opened["fingerprint"], opened["episode_id"]) == (alert["fingerprint"], str(alert["episode_id"]))
    assert (opened["credential_id"], opened["company_id"]) == (str(world.credential), alert["company_id"])
    assert (opened["verdict"], opened["severity"], opened["environment"]) == ("breach", "high", "production")
    assert opened["reason"] == "3 failed runs in the last hour, the threshold is 3"
    assert (opened["window_from"], opened["window_to"]) == ((NOON - TICK).isoformat(), NOON.isoformat())
    assert (opened["check"], opened["mode"]) == ("sync_failures", "live")

    deliveries = {
        row["id"]: row["channel"] for row in world.rows("SELECT * FROM monitoring.delivery WHERE status = 'sent'")
    }
    sent = [line for line in [*opening, *closing] if line["decision"] == "delivery_sent"]
    assert {line["delivery_id"]: line["channel"] for line in sent} == deliveries
    assert {line["notify_reason"] for line in sent} == {"first", "closed", "updated"}
    assert all(line["alerts"] == 1 and line["fingerprint"] == alert["fingerprint"] for line in sent)

    inhibited = [line for line in opening if line["decision"] == "delivery_not_sent"]
    assert {(line["rule"], line["not_sent_because"]) for line in inhibited} == {("consecutive_failures", "inhibited")}

    assert [line["decision"] for line in quiet] == ["check_judged"]
    (run,) = world.rows("SELECT * FROM monitoring.check_run WHERE window_to = %s", NOON)
    (judged,) = [line for line in opening if line["decision"] == "check_judged"]
    assert judged["check_run_id"] == str(run["run_id"])
    assert (judged["rows_read"], judged["verdicts"]) == (run["rows_read"], run["verdicts"])
    assert (judged["opened"], judged["deliveries"], judged["not_sent"]) == (2, 2, {"inhibited": 2})

    (closed,) = [line for line in closing if (line["decision"], line.get("rule")) == ("alert_closed", "sync_failures")]
    assert (closed["close_reason"], closed["verdict"]) == ("recovered", "clear")
    assert closed["fingerprint"] == alert["fingerprint"]
    assert closed["said"].startswith(f"closed sync_failures of credential {world.credential}, production, as recovered")


def test_a_retry_of_a_run_tells_no_decision_twice(world: MonitoredWorld, lines: Written) -> None:
    """The window is judged again, and nothing comes of it."""
    world.fail_three_times(world.credential, before=NOON)
    world.tick(NOON)
    lines()
    world.tick(NOON)

    assert [line["decision"] for line in lines()] == ["check_judged"]


def test_an_open_alert_that_gets_worse_is_one_line(world: MonitoredWorld, lines: Written) -> None:
    """With both severities; a stuck sync is high after two hours."""
    start = NOON - 65 * MINUTE
    world.hub.add_run(world.credential, status="running", started_at=start)
    world.tick(NOON)
    lines()
    world.tick(start + timedelta(hours=2, minutes=5))

    (worse,) = [line for line in lines() if line["decision"] == "alert_changed"]
    assert (worse["change"], worse["rule"]) == ("escalated", "stuck_sync")
    assert (worse["previous_severity"], worse["severity"]) == ("medium", "high")


def test_what_is_recovering_is_told_as_a_change(world: MonitoredWorld, lines: Written) -> None:
    """Before it closes, where a rule keeps firing."""
    world.overlay.write_text(world.overlay.read_text().replace("keep_firing_for: 0s", "keep_firing_for: 30m"))
    world.fail_three_times(world.credential, before=NOON)
    world.tick(NOON)
    world.succeed(world.credential, at=NOON + 70 * MINUTE)
    lines()
    world.tick(NOON + 5 * TICK)

    changed = [line for line in lines() if line["decision"] == "alert_changed"]
    assert [(line["rule"], line["change"], line["verdict"]) for line in changed] == [
        ("sync_failures", "recovering", "clear")
    ]


def test_a_run_that_is_undone_says_so_on_every_line(world: MonitoredWorld, lines: Written) -> None:
    """As the trial of a baseline is."""
    world.fail_three_times(world.credential, before=NOON)
    evaluate_check(
        Evaluation(
            source_conninfo=world.source_dsn,
            monitoring_conninfo=world.monitoring_dsn,
            policy=load_policy(overlay=world.overlay).policy,
            window=Window(start=NOON - TICK, as_of=NOON),
            mode=RunMode.LIVE,
            now=NOON,
            dry_run=True,
        )
    )

    found = lines()
    assert {line["decision"] for line in found} >= {"alert_opened", "check_judged"}
    assert all(line["dry_run"] is True for line in found)


def test_a_source_that_cannot_be_seen_is_told_with_its_cause_and_without_its_password(
    world: MonitoredWorld, lines: Written
) -> None:
    """The driver's text is quoted, redacted."""
    connection = json.loads(connection_of(world.source_dsn))
    connection |= {"password": "hunter2Hunter2hunter2", "schema": "nowhere"}
    world.environment.setenv("AIRFLOW_CONN_HUB_PLUS_DB", json.dumps(connection))
    world.tick(NOON)

    found = lines()
    (unseen,) = [line for line in found if line["decision"] == "source_not_seen"]
    (judged,) = [line for line in found if line["decision"] == "check_judged"]
    assert unseen["cause"] == judged["cause"]
    assert "nowhere" in unseen["error"]
    assert "hunter2" not in json.dumps(found)


def test_a_delivery_that_fails_is_told_with_its_reason(world: MonitoredWorld, lines: Written) -> None:
    """And what is waited for, in seconds."""
    connection = {"conn_type": "slack", "password": TOKEN, "extra": {"base_url": "http://127.0.0.1:9/api/"}}
    world.environment.setenv("AIRFLOW_CONN_SLACK_ALERTS", json.dumps(connection))
    world.fail_three_times(world.credential, before=NOON)
    world.tick_and_drain(NOON)

    found = lines()
    (failed,) = [line for line in found if line["decision"] == "delivery_failed"]
    assert (failed["channel"], failed["notify_reason"], failed["attempts"]) == (
        "slack:#servicetitan-alerts",
        "first",
        1,
    )
    assert failed["wait_seconds"] > 0
    assert failed["error"]
    assert "abcdefABCDEF" not in json.dumps(found)


def test_two_thousand_credentials_that_break_write_few_lines_and_lose_no_number(
    make_database: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    lines: Written,
) -> None:
    """Twenty of each kind, the worst first, and one that counts the others by rule."""
    source, monitoring = make_database("hub_plus"), make_database("monitoring")
    create_source(source)
    bulk_history(source, rows=8_000, rows_per_day=8_000 * 36, until=NOON, failed_share=1, credentials=2_000)
    upgrade(monitoring)
    overlay = tmp_path / "monitor.yaml"
    overlay.write_text("receivers: {ops: {slack: ['#servicetitan-alerts'], email: [ops@example.com]}}\n")
    policy = load_policy(overlay=overlay).policy
    outcome = evaluate_check(
        Evaluation(
            check=SYNC_FAILURES,
            source_conninfo=source,
            monitoring_conninfo=monitoring,
            policy=policy,
            window=Window(start=NOON - TICK, as_of=NOON),
            mode=RunMode.LIVE,
            configured=("slack", "email"),
            now=NOON,
        )
    )

    found = lines()
    assert outcome.opened > 2_000
    assert len(found) < 100
    kinds = Counter(line["decision"] for line in found)
    assert kinds["alert_opened"] == policy.summary_above
    assert kinds["check_judged"] == 1
    (left,) = [line for line in found if line["decision"] == "lines_left_out" and line["lines_of"] == "opened"]
    assert left["left_out"] == sum(left["rules"].values()) == outcome.opened - policy.summary_above
    by_rule = Counter(left["rules"]) + Counter(line["rule"] for line in found if line["decision"] == "alert_opened")
    assert by_rule == Counter(outcome.opened_by_rule)
    assert found[0]["severity"] == "critical"  # the outage comes first
    assert datetime.fromisoformat(found[0]["window_to"]) == NOON.astimezone(UTC)

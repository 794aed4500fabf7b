"""``test-alert``: through the outbox and the real senders."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from include.cli import main
from tests.commands.alerting_world import quarter_ago
from tests.orchestration.monitored_world import CHANNEL, OVERLAY, MonitoredWorld, monitored_world


@pytest.fixture
def world(
    make_database: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[MonitoredWorld]:
    """A monitor with one Slack channel and one mail address."""
    with monitored_world(make_database, monkeypatch, tmp_path) as made:
        yield made


def test_each_channel_gets_one_and_the_ledger_knows(world: MonitoredWorld, capsys: pytest.CaptureFixture[str]) -> None:
    """The message says that nothing is wrong, and no alert is open afterwards."""
    assert main(["test-alert"]) == 0

    assert len(world.slack_texts()) == len(world.subjects()) == 1
    assert "Nothing is wrong" in world.slack_texts()[0]
    assert "sent" in capsys.readouterr().out
    assert {row["status"] for row in world.rows("SELECT status FROM monitoring.delivery")} == {"sent"}
    assert world.rows("SELECT 1 FROM monitoring.alert") == []


def test_a_refusal_is_told_and_exits_2(world: MonitoredWorld, capsys: pytest.CaptureFixture[str]) -> None:
    """With the service's own word, while the other channel has its message."""
    world.slack.fail_next(error="channel_not_found")

    assert main(["test-alert", "--json"]) == 2
    slack, mail = json.loads(capsys.readouterr().out)["channels"]
    assert (slack["sent"], mail["sent"]) == (False, True)
    assert "channel_not_found" in slack["detail"]
    statuses = world.rows("SELECT status FROM monitoring.delivery ORDER BY channel DESC")
    assert [row["status"] for row in statuses] == ["dead", "sent"]  # the DAG does not go on trying a test


def test_a_channel_without_a_connection_is_told(
    world: MonitoredWorld, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The other one is still tested."""
    monkeypatch.delenv("AIRFLOW_CONN_ALERT_EMAIL")

    assert main(["test-alert", "--json"]) == 2
    slack, mail = json.loads(capsys.readouterr().out)["channels"]
    assert (slack["sent"], mail["sent"]) == (True, False)
    assert "has no connection" in mail["detail"]


def test_it_leads_where_messages_lead(world: MonitoredWorld) -> None:
    """And so does whatever else was due: an alert that a test takes along has the links that the DAG gives it."""
    world.overlay.write_text(
        OVERLAY.replace("alerting: {", "alerting: {links: {dashboard: 'https://airflow.example.com/monitor'}, ")
    )
    as_of = quarter_ago(1)
    world.fail_three_times(world.credential, before=as_of)
    world.tick(as_of)

    assert main(["test-alert", "--channel", f"slack:{CHANNEL}", "--channel", f"slack:{CHANNEL}"]) == 0

    alert, test = world.slack_texts()
    assert "https://airflow.example.com/monitor/alerts?fingerprint=" in alert
    assert "Dashboard: https://airflow.example.com/monitor" in test


@pytest.mark.parametrize(
    ("channel", "words"),
    [
        pytest.param("#general", "write slack:#name or email:address", id="no kind"),
        pytest.param("slack:general", "did you mean '#general'?", id="a Slack channel without #"),
        pytest.param("email:nobody", "use one bare address", id="no address"),
        pytest.param(
            "https://hooks.slack.com/services/T0/B0/s3cr3tS3cr3t",
            "a text that looks like a secret",
            id="a webhook's URL",
        ),
        pytest.param("email:a@b.c\nBcc: x@y.z", "use one bare address", id="a header smuggled in"),
    ],
)
def test_a_wrong_channel_is_one_line(
    world: MonitoredWorld, capsys: pytest.CaptureFixture[str], channel: str, words: str
) -> None:
    """It says how to write one, and nothing is put into the outbox."""
    assert main(["test-alert", "--channel", channel]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line
    assert "s3cr3t" not in line
    assert world.rows("SELECT 1 FROM monitoring.delivery") == []

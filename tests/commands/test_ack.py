"""``ack``: somebody has an alert in hand, or gives it back; against a real database."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from include import cli
from include.warehouse.alert_store import save_step
from include.warehouse.monitoring_session import connect
from tests.commands.alerting_world import HOUR, MINUTE, failing_since, quarter_ago, refused, told, told_json
from tests.orchestration.monitored_world import MonitoredWorld, monitored_world
from tests.warehouse.monitoring_records import alert

BOB = ("--by", "Bob")


@pytest.fixture
def world(
    make_database: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[MonitoredWorld]:
    """A credential that failed three times half an hour ago, which Slack and mail were told of."""
    with monitored_world(make_database, monkeypatch, tmp_path) as made:
        yield made


@pytest.fixture
def failing(world: MonitoredWorld) -> str:
    """The fingerprint of its open alert."""
    return failing_since(world, quarter_ago(2))


def held(world: MonitoredWorld, fingerprint: str) -> object:
    """What is stored of its acknowledgement."""
    (row,) = world.rows("SELECT acknowledged FROM monitoring.alert WHERE fingerprint = %s", fingerprint)
    return row["acknowledged"]


def kinds(world: MonitoredWorld, fingerprint: str) -> list[str]:
    """What its history records, oldest first."""
    rows = world.rows("SELECT kind FROM monitoring.alert_event WHERE fingerprint = %s ORDER BY as_of", fingerprint)
    return [row["kind"] for row in rows]


def test_somebody_has_it_in_hand_until_it_closes(
    world: MonitoredWorld, failing: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (line,) = told(capsys, "ack", failing[:6], *BOB, "--reason", "a ticket is open")

    assert line.startswith(f"acknowledged until it closes: {failing[:12]} sync_failures, high, firing: ServiceTitan ")
    assert kinds(world, failing) == ["opened", "acknowledged"]
    assert held(world, failing)


def test_for_a_while(world: MonitoredWorld, failing: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = datetime.now(UTC)

    found = told_json(capsys, "ack", failing, *BOB, "--reason", "a ticket is open", "--for", "4h")

    acknowledged = found["acknowledged"]
    assert (found["fingerprint"], found["type"], found["state"]) == (failing, "servicetitan_sync_failures", "firing")
    assert (acknowledged["by"], acknowledged["reason"]) == ("Bob", "a ticket is open")
    until, at = (datetime.fromisoformat(acknowledged[key]) for key in ("until", "at"))
    assert until == at.replace(microsecond=0) + 4 * HOUR
    assert before <= at <= before + MINUTE


def test_it_is_given_back(world: MonitoredWorld, failing: str, capsys: pytest.CaptureFixture[str]) -> None:
    told(capsys, "ack", failing, *BOB, "--reason", "a ticket is open")

    (line,) = told(capsys, "ack", failing, "--remove", "--by", "Ann")
    again = refused(capsys, "ack", failing, "--remove", "--by", "Ann")

    assert line.startswith(f"given back, and repeated again: {failing[:12]} sync_failures, high, firing: ")
    assert kinds(world, failing) == ["opened", "acknowledged", "unacknowledged"]
    assert held(world, failing) is None
    assert again == f"fingerprint: nobody has acknowledged alert {failing[:12]}"


def test_only_what_is_open_can_be_in_hand(world: MonitoredWorld, capsys: pytest.CaptureFixture[str]) -> None:
    recovered = failing_since(world, quarter_ago(9))
    world.succeed(world.credential, at=quarter_ago(8))
    world.tick(quarter_ago(3))

    says = refused(capsys, "ack", recovered, *BOB, "--reason", "a ticket is open")
    unknown = refused(capsys, "ack", "f" * 12, *BOB, "--reason", "a ticket is open")

    assert says == f"fingerprint: alert {recovered[:12]} is inactive; only one that is open can be acknowledged"
    assert unknown.startswith(f"FINGERPRINT: '{'f' * 12}' is the beginning of no alert that is kept; take the digits")
    assert kinds(world, recovered) == ["opened", "closed"]


def test_a_wrong_policy_file_keeps_nobody_from_taking_it_in_hand(
    world: MonitoredWorld, failing: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The monitor goes on by the last good one, and so do the commands that whoever it woke needs."""
    world.overlay.write_text("summary_above: many")

    assert cli.main(["ack", failing, *BOB, "--reason", "a ticket is open"]) == 0
    assert cli.main(["silence", "list"]) == 0
    assert cli.main(["why", failing]) == 0

    out, err = capsys.readouterr()
    notes = err.splitlines()
    assert "  acknowledged by Bob until it closes" in out.replace("next: ", "")
    assert len(notes) == 3
    assert all(note.startswith("note: the policy file is wrong, this goes by the last good one (") for note in notes)
    assert all("summary_above: 'many' is not allowed" in note for note in notes)


def test_a_wrong_policy_file_is_told_where_no_good_one_is_kept(
    world: MonitoredWorld, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing has run yet."""
    world.overlay.write_text("summary_above: many")

    assert "summary_above: 'many' is not allowed" in refused(capsys, "silence", "list")


def test_what_begins_like_several_is_listed(world: MonitoredWorld, capsys: pytest.CaptureFixture[str]) -> None:
    """With so many digits that they differ."""
    twins = [f"abcdef{'0' * 8}{digit}{'0' * 49}" for digit in "123"]
    with connect(world.monitoring_dsn) as conn:
        alerts = [replace(alert(str(number)), fingerprint=twin) for number, twin in enumerate(twins)]
        save_step(conn, alerts=alerts, events=[], deliveries=[], now=datetime.now(UTC))

    assert cli.main(["ack", "abcdef", *BOB, "--reason", "a ticket is open"]) == 2

    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "error: FINGERPRINT: 'abcdef' is the beginning of 3 alerts; give more of it:"
    assert lines[1:] == [f"error: {twin[:15]} sync_failures, high, firing: failed 3 times" for twin in twins]
    assert told(capsys, "ack", twins[1][:15], *BOB, "--reason", "a ticket is open")
    assert [held(world, twin) is not None for twin in twins] == [False, True, False]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        pytest.param(
            ["12345", *BOB, "--reason", "x"],
            "FINGERPRINT: '12345' is no fingerprint; write the hexadecimal digits that a message ends with, at least 6",
            id="too few digits",
        ),
        pytest.param(["stale_sync", *BOB, "--reason", "x"], "FINGERPRINT: 'stale_sync' is no fingerprint", id="a rule"),
        pytest.param(
            ["f" * 12, *BOB], "--reason: it is missing; say what is being done about the alert", id="no reason"
        ),
        pytest.param(["f" * 12, *BOB, "--reason", " "], "--reason: it is empty; say why", id="an empty reason"),
        pytest.param(["f" * 12, "--reason", "x"], "the following arguments are required: --by", id="by nobody"),
        pytest.param(["f" * 12, "--by", "", "--reason", "x"], "--by: it is empty; say who", id="by an empty name"),
        pytest.param(
            ["f" * 12, *BOB, "--reason", "x", "--for", "4"],
            "--for: '4' is not a duration; write a whole number",
            id="for",
        ),
        pytest.param(
            ["f" * 12, *BOB, "--remove", "--reason", "x"],
            "--reason: it says nothing beside --remove; leave it out",
            id="a reason to give it back",
        ),
        pytest.param(
            ["f" * 12, *BOB, "--remove", "--for", "4h"],
            "--for: it says nothing beside --remove; leave it out",
            id="giving it back for a while",
        ),
    ],
)
def test_a_mistake_is_one_line_before_any_database_is_asked(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, arguments: list[str], says: str
) -> None:
    """None is configured here."""
    monkeypatch.delenv("SERVICETITAN_MONITOR_CONFIG", raising=False)
    monkeypatch.delenv("AIRFLOW_CONN_MONITORING_DB", raising=False)

    assert refused(capsys, "ack", *arguments).startswith(says)

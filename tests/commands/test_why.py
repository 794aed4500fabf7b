"""``why``: the time line of an alert, from a monitor that ran: real source, schema, Slack and mail."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from include import cli
from include.commands.why import MOST_LINES
from include.sync_health.alerts import AlertState, CloseReason
from include.warehouse.alert_store import save_step
from include.warehouse.monitoring_session import connect
from tests.commands.alerting_world import (
    DAY,
    MINUTE,
    failing_since,
    fingerprint,
    quarter_ago,
    refused,
    told,
    told_json,
)
from tests.orchestration.monitored_world import ADDRESS, CHANNEL, MonitoredWorld, monitored_world
from tests.warehouse.monitoring_records import alert, event

ROOT = Path(__file__).resolve().parents[2]
SLACK, MAIL = f"slack:{CHANNEL}", f"email:{ADDRESS}"


@pytest.fixture
def world(
    make_database: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[MonitoredWorld]:
    """A source with one healthy credential, and a monitor that has not run yet."""
    with monitored_world(make_database, monkeypatch, tmp_path) as made:
        yield made


def without_times(lines: list[str]) -> list[str]:
    """The lines with every instant as T and every fingerprint as F."""
    return [re.sub(r"\b[0-9a-f]{12}\b", "F", re.sub(r"20\d\d-\d\d-\d\d \d\d:\d\d UTC", "T", line)) for line in lines]


def test_the_whole_story_of_an_alert(world: MonitoredWorld, capsys: pytest.CaptureFixture[str]) -> None:
    """It opens, is silenced and taken in hand, and closes: each line says who and why, and the oldest is first."""
    failing = failing_since(world, quarter_ago(9))
    silenced = ("--match", "rule=sync_failures", "--for", "2h")
    told(capsys, "silence", "add", *silenced, "--author", "Ann", "--reason", "it moves")
    told(capsys, "ack", failing, "--by", "Bob", "--reason", "a ticket is open")
    lines = without_times(told(capsys, "why", failing[:6]))

    assert lines[0] == (
        "F sync_failures, high, firing: ServiceTitan integration for Acme Heating (production) has failed 3 times in the "
        "last hour"
    )
    assert lines[1:6] == [
        "  T  opened, high: 3 failed runs in the last hour, the threshold is 3",
        f"  T  sent to {SLACK}: it opened",
        f"  T  sent to {MAIL}: it opened",
        "  T  silence of Ann until T: it moves",
        "  T  acknowledged: by Bob: a ticket is open",
    ]
    assert "  next: it closes when it is clear" in lines
    assert "  next: silenced by Ann until T: it moves; a close is told all the same" in lines
    assert any(line.startswith("  next: acknowledged by Bob until it closes: a ticket is open") for line in lines)

    world.succeed(world.credential, at=quarter_ago(8))
    world.tick_and_drain(quarter_ago(3))
    lines = without_times(told(capsys, "why", failing[:6]))

    assert lines[0].startswith("F sync_failures, high, inactive: ")
    happened, *sent, comes = (line for line in lines if "closed" in line)
    assert happened == "  T  closed, recovered: the latest run completed at T; 0 failed in the window"
    assert sorted(sent) == [f"  T  sent to {channel}: it closed" for channel in (MAIL, SLACK)]
    assert comes == "  next: it is closed; if it opens again by T, it goes on in the same conversation"


def test_why_not(world: MonitoredWorld, capsys: pytest.CaptureFixture[str]) -> None:
    """The symptom was not told beside its cause; it says which, and when the channel heard of that."""
    failing_since(world, quarter_ago(2))

    found = told_json(capsys, "why", fingerprint(world, "consecutive_failures"))

    (one,) = found["alerts"]
    assert (one["type"], one["state"]) == ("servicetitan_consecutive_failures", "firing")
    silent = {each["channel"]: each["text"] for each in one["time_line"] if each["what"] == "not_sent"}
    cause = fingerprint(world, "sync_failures")[:12]
    for channel in (SLACK, MAIL):
        assert re.fullmatch(
            rf"not sent to {channel}: inhibited by sync_failures of the same credential \({cause}\), told at 20\S+ \S+ UTC",
            silent[channel],
        )
        (next_of,) = (line for line in one["next"] if line.startswith(channel))
        assert f"inhibited by sync_failures of the same credential ({cause})" in next_of
        assert "; told when that closes, or after " in next_of
    times = [datetime.fromisoformat(each["at"]) for each in one["time_line"]]
    assert times == sorted(times)


def test_why_not_when_the_cause_is_no_longer_kept(world: MonitoredWorld, capsys: pytest.CaptureFixture[str]) -> None:
    cause = failing_since(world, quarter_ago(2))
    with connect(world.monitoring_dsn) as conn:
        conn.execute("DELETE FROM monitoring.alert WHERE fingerprint = %s", (cause,))

    lines = told(capsys, "why", fingerprint(world, "consecutive_failures"))

    assert sum(line.endswith(f"inhibited by its cause {cause[:12]}, which is no longer kept") for line in lines) == 2


def test_from_a_shell(world: MonitoredWorld) -> None:
    """With nothing but the connection to our own database."""
    failing = failing_since(world, quarter_ago(2))
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("AIRFLOW", "SERVICETITAN"))}
    kept["AIRFLOW_CONN_MONITORING_DB"] = os.environ["AIRFLOW_CONN_MONITORING_DB"]

    done = subprocess.run(
        [sys.executable, "-m", "include.cli", "why", failing[:12]],
        cwd=ROOT,
        env=kept,
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{failing[:12]} sync_failures, high, firing: ")
    assert f"  sent to {SLACK}: it opened\n" in done.stdout


def test_what_a_silence_hid_and_what_its_end_told(world: MonitoredWorld, capsys: pytest.CaptureFixture[str]) -> None:
    """By its author and reason; a summary accounts for it when the silence is over."""
    began = quarter_ago(3)
    silenced = ("--match", "rule=sync_failures", "--from", began.isoformat(), "--for", "2h")
    made = told_json(capsys, "silence", "add", *silenced, "--author", "Ann", "--reason", "it moves")["silence"]
    failing = failing_since(world, quarter_ago(2))
    hidden = without_times(told(capsys, "why", failing))
    told(capsys, "silence", "end", made["id"], "--by", "Bob")
    world.tick_and_drain(datetime.now(UTC))
    ended = without_times(told(capsys, "why", failing))

    assert hidden[1:3] == [
        "  T  silence of Ann until T: it moves",
        "  T  opened, high: 3 failed runs in the last hour, the threshold is 3",
    ]
    assert set(hidden[3:5]) == {
        f"  T  not sent to {channel}: silenced by Ann until T: it moves" for channel in (SLACK, MAIL)
    }
    assert (
        f"  next: {SLACK}: not told, silenced by Ann until T: it moves; told in one summary when that is over" in hidden
    )
    for channel in (SLACK, MAIL):
        assert f"  T  sent to {channel}: the summary of what a silence or a mute kept back" in ended
    assert not [line for line in ended if "next: silenced" in line]


def test_an_alert_that_no_route_takes(world: MonitoredWorld, capsys: pytest.CaptureFixture[str]) -> None:
    """The sandbox is capped at low."""
    sandbox = int(world.hub.add_credential(world.hub.add_company("Sand Box"), environment="integration"))
    as_of = quarter_ago(2)
    world.fail_three_times(sandbox, before=as_of)
    world.tick_and_drain(as_of)

    lines = without_times(told(capsys, "why", fingerprint(world, "sync_failures")))

    assert lines[1:] == [
        "  T  opened, low: 3 failed runs in the last hour, the threshold is 3",
        "  T  not sent: no route of the policy takes it",
        "  next: it closes when it is clear",
    ]


def test_a_message_that_was_refused(world: MonitoredWorld, capsys: pytest.CaptureFixture[str]) -> None:
    """How often it was tried, and what the channel said."""
    world.environment.setenv("AIRFLOW_CONN_ALERT_EMAIL", '{"conn_type": "smtp", "host": "127.0.0.1", "port": 1}')
    failing = failing_since(world, quarter_ago(1))

    (one,) = told_json(capsys, "why", failing)["alerts"]

    (waits,) = (each for each in one["time_line"] if each["channel"] == MAIL)
    assert waits["what"] == "pending"
    assert re.match(rf"waits to be sent to {MAIL}: it opened; 1 attempt so far, the last: \S", waits["text"])
    assert f"{MAIL}: a message waits to be sent, it opened" in " ".join(one["next"])


def test_every_alert_of_a_credential(world: MonitoredWorld, capsys: pytest.CaptureFixture[str]) -> None:
    """Those that are open in full; one that closed long ago only by its name."""
    failing_since(world, quarter_ago(2))
    now = datetime.now(UTC)
    long_ago = replace(
        alert("1", credential_id="1", state=AlertState.INACTIVE, closed_at=now - 8 * DAY, opened_at=now - 9 * DAY),
        rule="stale_sync",
        fingerprint="e" * 64,
        close_reason=CloseReason.RECOVERED,
    )
    with connect(world.monitoring_dsn) as conn:
        save_step(conn, alerts=[long_ago], events=[], deliveries=[], now=now)

    lines = told(capsys, "why", "--credential", "1")
    found = told_json(capsys, "why", "--credential", "1")

    heads = [line for line in lines if line and not line.startswith(" ")]
    assert {head.split(" ", 1)[1].split(",")[0] for head in heads[:2]} == {"consecutive_failures", "sync_failures"}
    assert heads[2] == "other alerts of credential 1, without their time lines:"
    assert lines[-1].startswith(f"  {'e' * 12} stale_sync, high, inactive: failed 3 times, closed at ")
    assert {each["type"] for each in found["alerts"]} == {
        "servicetitan_sync_failures",
        "servicetitan_consecutive_failures",
    }
    assert [each["fingerprint"] for each in found["older"]] == ["e" * 64]
    assert "checks" not in found


def test_a_credential_without_an_alert(world: MonitoredWorld, capsys: pytest.CaptureFixture[str]) -> None:
    """It says so, and when somebody last looked."""
    as_of = quarter_ago(1)
    world.tick(as_of)

    lines = told(capsys, "why", "--credential", "1")
    found = told_json(capsys, "why", "--credential", "1")

    assert lines[:3] == [
        "credential 1 has no alert, and had none that is kept",
        f"  check sync_failures last ran for {as_of:%Y-%m-%d %H:%M} UTC",
        "  check credential_health has never run",
    ]
    assert (found["alerts"], found["older"]) == ([], [])
    assert found["checks"]["sync_failures"] == {"last_run": as_of.isoformat(), "blind": None}
    assert found["checks"]["credential_health"]["last_run"] is None


def test_a_check_that_could_not_see_proves_nothing(world: MonitoredWorld, capsys: pytest.CaptureFixture[str]) -> None:
    world.environment.setenv(
        "AIRFLOW_CONN_HUB_PLUS_DB",
        '{"conn_type": "postgres", "host": "127.0.0.1", "port": 1, "login": "x", "password": "x", "schema": "x"}',
    )
    world.tick(quarter_ago(1))

    lines = told(capsys, "why", "--credential", "1")

    assert lines[1].endswith("UTC, and could not see: unreachable")


def test_a_long_story_is_cut_at_its_beginning(world: MonitoredWorld, capsys: pytest.CaptureFixture[str]) -> None:
    """The newest lines are printed; with --all every line."""
    one = alert("1", credential_id="1")
    events = [event(one, as_of=one.last_as_of + number * MINUTE) for number in range(MOST_LINES + 7)]
    with connect(world.monitoring_dsn) as conn:
        save_step(conn, alerts=[one], events=events, deliveries=[], now=datetime.now(UTC))

    lines = told(capsys, "why", one.fingerprint)
    everything = told(capsys, "why", one.fingerprint, "--all")

    assert lines[1] == "  ... 7 earlier lines; --all prints them"
    assert lines[2:] == everything[8:]
    assert len([line for line in everything if "opened, high" in line]) == MOST_LINES + 7
    (found,) = told_json(capsys, "why", one.fingerprint)["alerts"]
    assert len(found["time_line"]) == MOST_LINES + 7


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        pytest.param([], "name either the FINGERPRINT of an alert or a --credential; see why --help", id="nothing"),
        pytest.param(["abcdef", "--credential", "1"], "name either the FINGERPRINT of an alert or a", id="both"),
        pytest.param(["abcde"], "FINGERPRINT: 'abcde' is no fingerprint; write the hexadecimal digits", id="too short"),
        pytest.param(["stale_sync"], "FINGERPRINT: 'stale_sync' is no fingerprint", id="a rule"),
        pytest.param(
            ["--credential", "Acme Heating"],
            "--credential: 'Acme Heating' is no credential; use an id of Hub Plus, such as 42",
            id="a name for an id",
        ),
    ],
)
def test_a_mistake_is_one_line_before_any_database_is_asked(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, arguments: list[str], says: str
) -> None:
    """None is configured here."""
    monkeypatch.delenv("SERVICETITAN_MONITOR_CONFIG", raising=False)
    monkeypatch.delenv("AIRFLOW_CONN_MONITORING_DB", raising=False)

    assert refused(capsys, "why", *arguments).startswith(says)


def test_nothing_is_written(world: MonitoredWorld, capsys: pytest.CaptureFixture[str]) -> None:
    failing = failing_since(world, quarter_ago(2))
    before = world.rows("SELECT * FROM monitoring.alert_event ORDER BY 1, 2, 3")

    assert cli.main(["why", failing]) == 0
    assert cli.main(["why", "--credential", "1", "--json"]) == 0

    assert world.rows("SELECT * FROM monitoring.alert_event ORDER BY 1, 2, 3") == before
    capsys.readouterr()

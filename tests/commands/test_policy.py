"""``policy``: the policy in force, and whether a file may become it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from include import cli
from include.orchestration.policy_file import SHIPPED_FILE, load_policy, parse_policy
from tests.orchestration.monitored_world import ADDRESS, CHANNEL, MonitoredWorld, monitored_world


@pytest.fixture(autouse=True)
def _no_overlay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SERVICETITAN_MONITOR_CONFIG", raising=False)


def test_it_prints_the_effective_policy_as_yaml_that_can_be_read_back(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    overlay = tmp_path / "mine.yaml"
    overlay.write_text("summary_above: 7")
    monkeypatch.setenv("SERVICETITAN_MONITOR_CONFIG", str(overlay))

    code = cli.main(["policy"])

    text = capsys.readouterr().out
    loaded = load_policy(overlay=overlay)
    assert code == 0
    assert text.startswith(f"# version {loaded.version}, from {SHIPPED_FILE}, then {overlay}\n")
    assert parse_policy(text).policy == loaded.policy
    assert list(yaml.safe_load(text))[:3] == ["source", "storage", "reporting"]


def test_with_json_it_tells_version_files_and_policy(capsys: pytest.CaptureFixture[str]) -> None:
    code = cli.main(["policy", "--json"])

    answer = json.loads(capsys.readouterr().out)
    loaded = load_policy()
    assert code == 0
    assert (answer["version"], answer["sources"]) == (loaded.version, [str(SHIPPED_FILE)])
    assert parse_policy(json.dumps(answer["policy"])).policy == loaded.policy


def test_a_right_file_is_ok(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "new.yaml"
    file.write_text("source: {timezone: America/New_York}")

    assert cli.main(["policy", "--check", str(file)]) == 0
    assert capsys.readouterr().out.startswith(f"ok: {file} is a valid policy; version ")
    assert cli.main(["policy", "--check", str(file), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["ok"] is True


def test_a_wrong_file_tells_every_mistake_on_a_line_of_its_own(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "new.yaml"
    file.write_text("source: {timezon: UTC}\nrules: {stuck_sync: {open_for: 90}}\n")

    code = cli.main(["policy", "--check", str(file)])

    out, err = capsys.readouterr()
    assert (code, out) == (2, "")
    lines = err.splitlines()
    assert [line.split(": ")[:2] for line in lines] == [
        ["error", "source.timezon"],
        ["error", "rules.stuck_sync.open_for"],
    ]
    assert "did you mean timezone?" in lines[0]
    assert "(new.yaml line 2)" in lines[1]


def test_with_json_the_mistakes_are_a_list(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    missing = tmp_path / "none.yaml"

    code = cli.main(["policy", "--check", str(missing), "--json"])

    assert code == 2
    assert json.loads(capsys.readouterr().out) == {
        "ok": False,
        "file": str(missing),
        "mistakes": [f"{missing}: does not exist"],
    }


def test_the_file_is_checked_over_the_shipped_one_whatever_the_environment_names(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "new.yaml"
    file.write_text("summary_above: 3")
    monkeypatch.setenv("SERVICETITAN_MONITOR_CONFIG", "/nowhere/broken.yaml")

    assert cli.main(["policy", "--check", str(file)]) == 0
    assert "ok" in capsys.readouterr().out


# -- the baseline --------------------------------------------------------------------------------


@pytest.fixture
def world(
    make_database: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[MonitoredWorld]:
    """A source that nobody has watched so far: three credentials fail, and its first one has been stale for months."""
    with monitored_world(make_database, monkeypatch, tmp_path) as made:
        now = datetime.now(UTC)
        for number in (1, 2, 3):
            failing = int(made.hub.add_credential(made.hub.add_company(f"Failing {number}"), created_at=now))
            made.fail_three_times(failing, before=now, error=f"odd {number}")
        yield made


ADOPTED = {"sync_failures": 3, "consecutive_failures": 3, "stale_sync": 1}


def adopt(capsys: pytest.CaptureFixture[str], *options: str) -> dict[str, Any]:
    assert cli.main(["policy", "--adopt-baseline", "--json", *options]) == 0
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    return answer


def test_what_is_broken_already_is_told_in_one_message_per_channel(
    world: MonitoredWorld, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = adopt(capsys)

    assert (answer["adopted"], answer["messages"], answer["not_sent"]) == (ADOPTED, 2, {})
    waiting = world.rows("SELECT channel, reason, cardinality(fingerprints) AS alerts FROM monitoring.delivery")
    assert {(row["channel"], row["reason"], row["alerts"]) for row in waiting} == {
        (f"slack:{CHANNEL}", "baseline", 7),
        (f"email:{ADDRESS}", "baseline", 7),
    }
    world.drain(datetime.now(UTC) + timedelta(minutes=1))
    assert len(world.slack_texts()) == 1
    assert len(world.subjects()) == 1


def test_it_comes_once_and_the_checks_go_on_from_there(
    world: MonitoredWorld, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing of it is told again; what breaks afterwards is told as ever."""
    adopt(capsys)
    again = adopt(capsys)

    assert (again["adopted"], again["messages"]) == ({}, 0)
    next_tick = datetime.now(UTC) + timedelta(minutes=5)
    new = int(world.hub.add_credential(world.hub.add_company("New trouble")))
    world.fail_three_times(new, before=next_tick, error="odd 4")
    world.tick_and_drain(next_tick)
    summary, told = world.slack_texts()
    assert "New trouble" not in summary
    assert "New trouble" in told


def test_a_dry_run_says_the_same_and_writes_nothing(world: MonitoredWorld, capsys: pytest.CaptureFixture[str]) -> None:
    answer = adopt(capsys, "--dry-run")

    assert answer["dry_run"] is True
    assert (answer["adopted"], answer["messages"], answer["not_sent"]) == (ADOPTED, 2, {})
    for table in ("alert", "alert_event", "delivery", "check_run", "credential_snapshot", "policy_version"):
        assert world.rows(f"SELECT 1 FROM monitoring.{table}") == []

    assert cli.main(["policy", "--adopt-baseline", "--dry-run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("would adopt 7 alerts as of ")
    assert [line.split() for line in lines[1:4]] == [[str(count), rule] for rule, count in ADOPTED.items()]
    assert lines[4] == "messages that would wait for the next run of a check: 2"


@pytest.mark.parametrize("options", [[], ["--dry-run"]], ids=["adopting", "a dry run"])
@pytest.mark.parametrize(
    ("breaks", "words"),
    [
        pytest.param("DROP SCHEMA monitoring CASCADE", "run python -m include.cli migrate", id="a schema not migrated"),
        pytest.param(
            "ALTER TABLE servicetitan_sync_logs RENAME TO gone", "servicetitan_sync_logs", id="a source unlike Hub Plus"
        ),
        pytest.param(
            "UPDATE servicetitan_sync_logs SET started_at = started_at + interval '400 days',"
            " completed_at = completed_at + interval '400 days'",
            "no baseline of a source in doubt",
            id="a source in doubt",
        ),
    ],
)
def test_without_a_sight_of_the_source_nothing_is_adopted(
    world: MonitoredWorld, capsys: pytest.CaptureFixture[str], options: list[str], breaks: str, words: str
) -> None:
    dsn = world.monitoring_dsn if "monitoring" in breaks else world.source_dsn
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute(breaks)

    assert cli.main(["policy", "--adopt-baseline", *options]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = (each for each in err.splitlines() if each.startswith("error: "))
    assert words in line
    if "monitoring" not in breaks:
        assert world.rows("SELECT 1 FROM monitoring.alert") == []


def test_a_wrong_policy_adopts_nothing(world: MonitoredWorld, capsys: pytest.CaptureFixture[str]) -> None:
    """Also where an older one is remembered."""
    world.overlay.write_text("summary_above: many")

    assert cli.main(["policy", "--adopt-baseline"]) == 2
    assert "summary_above" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param(["--dry-run"], "belongs to --adopt-baseline", id="a dry run of nothing"),
        pytest.param(["--adopt-baseline", "--check", "x.yaml"], "not allowed with", id="two things at once"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    try:
        code = cli.main(["policy", *arguments])
    except SystemExit as error:
        code = int(str(error.code))
    assert code == 2
    assert words in capsys.readouterr().err

"""``check``: what it prints and how it exits, over a real source."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from include.cli import main
from tests.orchestration.monitored_world import NOON, MonitoredWorld, monitored_world

AT_NOON = ["--as-of", NOON.isoformat()]
MINUTE = timedelta(minutes=1)


@pytest.fixture
def world(
    make_database: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[MonitoredWorld]:
    """A healthy source; our own schema is not needed, and is taken away."""
    with monitored_world(make_database, monkeypatch, tmp_path) as made:
        monkeypatch.delenv("AIRFLOW_CONN_MONITORING_DB")
        with psycopg.connect(made.monitoring_dsn, autocommit=True) as conn:
            conn.execute("DROP SCHEMA monitoring CASCADE")
        yield made


def test_all_clear_exits_0(world: MonitoredWorld, capsys: pytest.CaptureFixture[str]) -> None:
    """And says how much it read."""
    assert main(["check", "all", *AT_NOON]) == 0
    assert "0 breach" in capsys.readouterr().out


def test_a_breach_exits_1_and_is_printed_in_the_fixed_shape(
    world: MonitoredWorld, capsys: pytest.CaptureFixture[str]
) -> None:
    """The JSON that other tools read."""
    secret = "xoxb-123456789012-abcdefABCDEF123456"
    world.fail_three_times(world.credential, before=NOON, error=f"HTTP 401 invalid_client token={secret}")

    assert main(["check", "sync-failures", *AT_NOON, "--json"]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert answer["as_of"] == NOON.isoformat()
    assert list(answer["checks"]) == ["sync-failures"]
    check = answer["checks"]["sync-failures"]
    assert check["window"] == [(NOON - timedelta(hours=1)).isoformat(), NOON.isoformat()]
    assert check["rows_read"] >= 4
    (found,) = answer["observations"]
    assert {
        "type",
        "severity",
        "verdict",
        "fingerprint",
        "credential_id",
        "company",
        "environment",
        "data_type",
        "title",
        "message",
        "metadata",
    } <= set(found)
    assert (found["type"], found["verdict"], found["severity"]) == ("servicetitan_sync_failures", "breach", "high")
    assert found["metadata"]["failure_count"] == 3
    assert secret not in json.dumps(answer)


def test_all_verdicts_are_printed_when_asked_for(world: MonitoredWorld, capsys: pytest.CaptureFixture[str]) -> None:
    """``--all`` shows what is clear as well."""
    assert main(["check", "consecutive-failures", *AT_NOON, "--all", "--json"]) == 0
    assert [each["verdict"] for each in json.loads(capsys.readouterr().out)["observations"]] == ["clear"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param(["check", "all", "--as-of", "noon"], "is no instant", id="no instant"),
        pytest.param(["check", "all", "--as-of", "2099-01-01T00:00:00Z"], "in the future", id="the future"),
        pytest.param(["check", "all", "--credential", "99"], "is not among the 1 credentials", id="no such credential"),
    ],
)
def test_a_users_mistake_is_one_line_and_exit_2(
    world: MonitoredWorld, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    """No traceback."""
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert words in line


def test_what_cannot_be_told_exits_2(world: MonitoredWorld, capsys: pytest.CaptureFixture[str]) -> None:
    """A missing table, and stamps from the future: 2 wins over 1."""
    now = datetime.now(UTC)
    for minutes in (1, 2, 3):
        world.succeed(world.credential, at=now + timedelta(hours=3) + minutes * MINUTE)
    world.fail_three_times(world.credential, before=NOON)
    assert main(["check", "all", *AT_NOON]) == 2
    assert "source.timezone" in capsys.readouterr().out

    with psycopg.connect(world.source_dsn, autocommit=True) as conn:
        conn.execute("ALTER TABLE servicetitan_sync_logs RENAME TO gone")
    assert main(["check", "all"]) == 2
    assert "servicetitan_sync_logs" in capsys.readouterr().err


def test_the_verdicts_are_those_of_the_dag(
    make_database: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One implementation: what the shell says breaches is what the tick opened."""
    with monitored_world(make_database, monkeypatch, tmp_path) as world:
        world.fail_three_times(world.credential, before=NOON)
        world.hub.add_run(world.credential, status="running", started_at=NOON - 3 * timedelta(hours=1))
        world.tick(NOON)
        main(["check", "all", *AT_NOON, "--json"])
        answer = json.loads(capsys.readouterr().out)

        breaching = {each["fingerprint"] for each in answer["observations"] if each["verdict"] == "breach"}
        opened = {str(row["fingerprint"]) for row in world.rows("SELECT fingerprint FROM monitoring.alert")}
        assert breaching == opened
        assert len(opened) == 3

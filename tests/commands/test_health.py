"""``health``: what it prints, its exit codes, and that looking writes nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from include.cli import main
from include.commands.health import exit_code
from include.sync_health.checks import CHECKS
from include.sync_health.health import HealthStatus, StoredHealth
from include.warehouse.check_runs import CheckRun, record_check_run
from include.warehouse.health_snapshots import store_health
from include.warehouse.monitoring_session import connect
from tests.orchestration.monitored_world import OVERLAY, MonitoredWorld, connection_of, monitored_world

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)


@pytest.fixture
def world(
    make_database: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[MonitoredWorld]:
    """A healthy world of now, in which every check has just run."""
    now = datetime.now(UTC)
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path))
    with monitored_world(make_database, monkeypatch, tmp_path) as made:
        made.overlay.write_text(OVERLAY + "health: {disk_free_share: 0.01, memory_free_share: 0.01}\n")
        made.succeed(made.credential, at=now - 5 * MINUTE)
        with connect(made.monitoring_dsn) as conn:
            for check in CHECKS.values():
                window = {"window_from": now - check.every, "window_to": now}
                run = CheckRun.of(check=check.name, mode="live", filters={}, status="seen", computed_at=now, **window)
                record_check_run(conn, run)
        yield made


def in_error(world: MonitoredWorld) -> None:
    """Upstream could not refresh a token."""
    world.hub.set_status(world.credential, "error", at=datetime.now(UTC) - HOUR)


def failing(world: MonitoredWorld) -> None:
    """Six syncs failed within the hour."""
    for minutes in (0, 20):
        world.fail_three_times(world.credential, before=datetime.now(UTC) - minutes * MINUTE)


def elsewhere(variable: str, dsn: Callable[[MonitoredWorld], str]) -> Callable[[MonitoredWorld], None]:
    """Nobody listens where a database should be."""

    def move(world: MonitoredWorld) -> None:
        parts = conninfo_to_dict(dsn(world)) | {"port": "1"}
        world.environment.setenv(variable, connection_of(make_conninfo(**parts)))

    return move


@pytest.mark.parametrize(
    ("change", "code", "status"),
    [
        pytest.param(lambda world: None, 0, "healthy", id="all is well"),
        pytest.param(in_error, 0, "warning", id="a warning is no failure, as for /health"),
        pytest.param(failing, 1, "unhealthy", id="most syncs fail"),
        pytest.param(
            elsewhere("AIRFLOW_CONN_HUB_PLUS_DB", lambda world: world.source_dsn),
            2,
            "unhealthy",
            id="the source is down: what nobody sees wins over what is known to be broken",
        ),
        pytest.param(
            elsewhere("AIRFLOW_CONN_MONITORING_DB", lambda world: world.monitoring_dsn),
            2,
            "unhealthy",
            id="our database is down",
        ),
        pytest.param(
            lambda world: world.environment.delenv("AIRFLOW_CONN_MONITORING_DB"), 2, "unhealthy", id="ours is not named"
        ),
    ],
)
def test_now(
    world: MonitoredWorld,
    capsys: pytest.CaptureFixture[str],
    change: Callable[[MonitoredWorld], None],
    code: int,
    status: str,
) -> None:
    """The exit code and the report, as JSON and for people."""
    change(world)

    assert main(["health", "--json"]) == code
    report = json.loads(capsys.readouterr().out)
    assert main(["health"]) == code
    out, err = capsys.readouterr()

    assert (report["name"], report["status"]) == ("servicetitan_integration", status)
    first, *rest = out.splitlines()
    assert re.fullmatch(rf"servicetitan_integration: {status} \(as of 20\S+\)", first)
    for name, part in report["details"].items():
        assert f"{name:<17} {part['status']}" in rest
    assert "Traceback" not in err


def test_a_person_reads_who_has_an_issue_and_why(world: MonitoredWorld, capsys: pytest.CaptureFixture[str]) -> None:
    """Each on a line below its part."""
    in_error(world)

    main(["health"])

    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert f"- Connection error: Acme Heating (production), credential {world.credential}" in lines
    assert "- 1 in status error" in lines
    assert any("add an Airflow connection servicetitan_<credential id>" in line for line in lines)


def test_looking_writes_nothing(world: MonitoredWorld, capsys: pytest.CaptureFixture[str]) -> None:
    """No report, no probe, no count."""
    before = dump(world)

    main(["health", "--json"])

    assert dump(world) == before
    assert world.rows("SELECT * FROM monitoring.health_snapshot") == []
    capsys.readouterr()


def dump(world: MonitoredWorld) -> dict[str, Any]:
    """How many rows each of our tables has."""
    names = [
        row["table_name"]
        for row in world.rows(
            "SELECT table_name FROM information_schema.tables WHERE table_schema = 'monitoring' "
            "AND table_type = 'BASE TABLE' ORDER BY 1"
        )
    ]
    return {name: world.rows(f"SELECT count(*) AS n FROM monitoring.{name}")[0]["n"] for name in names}


def keep(world: MonitoredWorld, status: HealthStatus, *, age: timedelta) -> None:
    """Store a report of so long ago."""
    at = datetime.now(UTC) - age
    report = {
        "name": "servicetitan_integration",
        "status": str(status),
        "details": {
            "credentials": {"status": str(status), "reasons": ["as it was"], "issues": [], "issues_left_out": 7}
        },
        "metadata": {"last_check": at.isoformat(), "total_credentials": 3, "active_credentials": 2},
    }
    with connect(world.monitoring_dsn) as conn:
        store_health(conn, StoredHealth(as_of=at, status=status, report=report, every=15 * MINUTE, computed_at=at))


@pytest.mark.parametrize(
    ("status", "age", "code", "says"),
    [
        pytest.param(HealthStatus.HEALTHY, 5 * MINUTE, 0, "healthy (as of ", id="healthy"),
        pytest.param(HealthStatus.WARNING, 5 * MINUTE, 0, "warning (as of ", id="a warning"),
        pytest.param(HealthStatus.DEGRADED, 5 * MINUTE, 1, "degraded (as of ", id="degraded"),
        pytest.param(HealthStatus.UNKNOWN, 5 * MINUTE, 2, "unknown (as of ", id="unknown"),
        pytest.param(
            HealthStatus.UNHEALTHY, 2 * HOUR, 2, "unknown (the last health check is 2 hours old", id="out of date"
        ),
        pytest.param(None, MINUTE, 2, "unknown (no health check is stored yet", id="none is stored"),
    ],
)
def test_stored(
    world: MonitoredWorld,
    capsys: pytest.CaptureFixture[str],
    status: HealthStatus | None,
    age: timedelta,
    code: int,
    says: str,
) -> None:
    """What the DAG found, with its age; the source is not looked at."""
    world.environment.delenv("AIRFLOW_CONN_HUB_PLUS_DB")
    if status is not None:
        keep(world, status, age=age)

    assert main(["health", "--stored"]) == code
    out = capsys.readouterr().out
    assert main(["health", "--stored", "--json"]) == code
    answer = json.loads(capsys.readouterr().out)

    assert out.startswith(f"servicetitan_integration: {says}")
    assert (answer["age_seconds"] is None) is (status is None)
    if status is not None:
        assert "- as it was" in out
        assert "- and 7 more issues" in out
        assert ("was unhealthy)" in out) is (age > HOUR)


def test_stored_without_a_schema_names_the_fix(world: MonitoredWorld, capsys: pytest.CaptureFixture[str]) -> None:
    """In one line, with exit code 2."""
    with psycopg.connect(world.monitoring_dsn, autocommit=True) as conn:
        conn.execute("DROP SCHEMA monitoring CASCADE")

    assert main(["health", "--stored"]) == 2
    assert "run python -m include.cli migrate" in capsys.readouterr().err


def test_a_part_that_is_not_configured_is_no_failure() -> None:
    """It counts as healthy."""
    parts = {"api_connectivity": {"status": "not_configured"}, "credentials": {"status": "warning"}}

    assert exit_code({"status": "warning", "details": parts}) == 0

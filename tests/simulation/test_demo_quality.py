"""The daily quality of the demo's history, and how a shell gets at it."""

from __future__ import annotations

import json
import stat
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from include.simulation.airflow_settings import ConnectionSetting
from include.simulation.demo_quality import compute_history
from include.simulation.demo_script import DemoWorld
from include.simulation.demo_shell import write_connections
from include.simulation.hub_plus import create_source
from include.warehouse.migration import upgrade

MakeDatabase = Callable[..., str]
NOW = datetime(2026, 11, 24, 12, 3, 7, tzinfo=UTC)


@pytest.fixture
def databases(make_database: MakeDatabase, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """The demo's source with five days of the past, and our schema."""
    monkeypatch.delenv("SERVICETITAN_MONITOR_CONFIG", raising=False)
    source, monitoring = make_database("demo_source"), make_database("demo_monitoring")
    create_source(source)
    upgrade(monitoring)
    with DemoWorld(source, since=NOW, past_days=5) as world:
        world.seed()
    return source, monitoring


def test_whole_days_are_computed_once(databases: tuple[str, str]) -> None:
    """From the first day of the past to yesterday; a start that finds them stored leaves the final ones alone."""
    told: list[str] = []
    compute_history(*databases, since=NOW, now=NOW, tell=told.append)
    with psycopg.connect(databases[1]) as conn:
        stored = conn.execute("SELECT min(day), max(day), count(*) FROM monitoring.quality_day").fetchone()
    first, last = (NOW - timedelta(days=14)).date(), (NOW - timedelta(days=1)).date()
    assert stored == (first, last, 14)
    assert told[0].startswith("14 days, ")

    compute_history(*databases, since=NOW, now=NOW + timedelta(days=30), tell=told.append)
    compute_history(*databases, since=NOW, now=NOW + timedelta(days=30), tell=told.append)
    # Those that were not final yet, and no other.
    assert [line.split(",")[0] for line in told[1:]] == ["3 days", "0 days"]


def test_what_keeps_it_from_being_computed_is_told_and_stops_nothing(
    databases: tuple[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    policy = tmp_path / "wrong.yaml"
    policy.write_text("sources: {}", encoding="utf-8")
    monkeypatch.setenv("SERVICETITAN_MONITOR_CONFIG", str(policy))
    told: list[str] = []
    compute_history(*databases, since=NOW, now=NOW, tell=told.append)
    assert len(told) == 1
    assert told[0].startswith("not computed: ")
    assert "did you mean source?" in told[0]


def test_a_shell_reads_the_connections_and_nobody_else_does(tmp_path: Path) -> None:
    connection = ConnectionSetting(
        conn_id="monitoring_db", conn_type="postgres", host="127.0.0.1", port=6000, password="it's $(touch x) `y`"
    )
    file = tmp_path / "connections.sh"
    file.write_text("of an earlier start", encoding="utf-8")
    file.chmod(0o644)
    write_connections(file, [connection])
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    shown = subprocess.run(
        ["sh", "-c", ". ./connections.sh; printenv AIRFLOW_CONN_MONITORING_DB"],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert json.loads(shown.stdout) == json.loads(connection.to_json())
    assert [each.name for each in tmp_path.iterdir()] == ["connections.sh"]

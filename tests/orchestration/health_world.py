"""A world whose health is checked at noon, a ServiceTitan server to probe, and what the check stores of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from include.orchestration.check_tasks import RunFacts
from include.orchestration.health_run import check_health
from include.simulation.servicetitan_server import ServiceTitanServer
from include.sync_health.checks import CHECKS
from include.warehouse.check_runs import CheckRun, record_check_run
from include.warehouse.monitoring_session import connect
from tests.orchestration.monitored_world import NOON, OVERLAY, TICK, MonitoredWorld, connection_of, monitored_world

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
HEALTH = OVERLAY + "health: {disk_free_share: 0.01, memory_free_share: 0.01}\n"
"""Whatever machine this runs on has room enough."""


@pytest.fixture(name="world")
def health_world(
    make_database: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[MonitoredWorld]:
    """A healthy world in which every check has just run, and nothing can be probed."""
    with monitored_world(make_database, monkeypatch, tmp_path) as made:
        made.overlay.write_text(HEALTH)
        with connect(made.monitoring_dsn) as conn:
            for check in CHECKS.values():
                run = CheckRun.of(
                    check=check.name,
                    window_from=NOON - check.every,
                    window_to=NOON,
                    mode="live",
                    filters={},
                    status="seen",
                    computed_at=NOON,
                )
                record_check_run(conn, run)
        yield made


@pytest.fixture(name="titan")
def titan_server() -> Iterator[ServiceTitanServer]:
    """A ServiceTitan server."""
    with ServiceTitanServer() as server:
        yield server


def facts(**changes: Any) -> RunFacts:
    """The scheduled run whose window ends at noon."""
    values: dict[str, Any] = {
        "params": {},
        "interval": (NOON - TICK, NOON),
        "run_after": NOON,
        "is_backfill": False,
        "last_try": True,
    }
    return RunFacts(**(values | changes))


def found(world: MonitoredWorld, **changes: Any) -> Mapping[str, Any]:
    """Make the check a minute after noon, and return the report that is stored."""
    answer = check_health(facts(**changes), now=NOON + MINUTE)
    [row] = world.rows("SELECT * FROM monitoring.health_snapshot")
    assert answer["status"] == row["status"] == row["report"]["status"]
    assert (row["as_of"], row["every_seconds"], row["computed_at"]) == (NOON, 900, NOON + MINUTE)
    assert answer["parts"] == {name: part["status"] for name, part in row["report"]["details"].items()}
    report: Mapping[str, Any] = row["report"]
    return report


def statuses(report: Mapping[str, Any]) -> dict[str, str]:
    """The parts that are not healthy."""
    return {name: part["status"] for name, part in report["details"].items() if part["status"] != "healthy"}


def probe_connection(titan: ServiceTitanServer) -> str:
    """The server as a connection."""
    values = {
        "conn_type": "servicetitan",
        "login": titan.client.client_id,
        "password": titan.client.client_secret,
        "extra": titan.extra(),
    }
    return json.dumps(values)


def allow_probes(world: MonitoredWorld, titan: ServiceTitanServer, *credentials: int) -> None:
    """Give credentials a connection by which they can be probed."""
    for each in credentials:
        world.environment.setenv(f"AIRFLOW_CONN_SERVICETITAN_{each}", probe_connection(titan))


def another(world: MonitoredWorld, name: str, **known: Any) -> int:
    """Add a credential of a company of its own."""
    return int(world.hub.add_credential(world.hub.add_company(name), **known))


def unreachable(world: MonitoredWorld) -> None:
    """Nobody listens where the source should be."""
    parts = conninfo_to_dict(world.source_dsn) | {"port": "1"}
    world.environment.setenv("AIRFLOW_CONN_HUB_PLUS_DB", connection_of(make_conninfo(**parts)))


def failing(world: MonitoredWorld) -> None:
    """Six syncs failed within the hour."""
    world.fail_three_times(world.credential, before=NOON)
    world.fail_three_times(world.credential, before=NOON - 20 * MINUTE)

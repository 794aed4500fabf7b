"""Runs of the health check: which of them store a report, and which do not."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from include.orchestration.health_run import check_health
from include.simulation.servicetitan_server import ServiceTitanServer
from include.sync_health.errors import MonitorError, SourceError
from tests.orchestration.health_world import (
    allow_probes,
    another,
    facts,
    failing,
    found,
    health_world,
    titan_server,
    unreachable,
)
from tests.orchestration.monitored_world import NOON, TICK, MonitoredWorld, connection_of

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)

__all__ = ["health_world", "titan_server"]  # fixtures, known to pytest by being here


def test_a_retry_replaces_the_report_of_its_window(world: MonitoredWorld) -> None:
    """One row for each window."""
    check_health(facts(), now=NOON + MINUTE)
    failing(world)
    check_health(facts(), now=NOON + 2 * MINUTE)

    rows = world.rows("SELECT as_of, status FROM monitoring.health_snapshot")
    assert [(row["as_of"], row["status"]) for row in rows] == [(NOON, "unhealthy")]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        pytest.param({"is_backfill": True}, "it looks at the past", id="a backfill"),
        pytest.param({"interval": (NOON - HOUR, NOON - HOUR + TICK)}, "it looks at the past", id="a late run"),
        pytest.param({"params": {"window_end": "2026-03-01T00:00:00Z"}}, "it looks at the past", id="another window"),
        pytest.param({"params": {"window_end": "2027-01-01T00:00:00Z"}}, "lies in the future", id="the future"),
        pytest.param({"params": {"notfy": "never"}}, "unknown Param 'notfy'", id="a misspelt Param"),
        pytest.param({"params": {"window_end": "noon"}}, "is no instant", id="an instant that is none"),
    ],
)
def test_a_run_that_makes_no_report(world: MonitoredWorld, changes: dict[str, Any], why: str) -> None:
    """It says why, and stores nothing."""
    answer = check_health(facts(**changes), now=NOON + MINUTE)

    assert why in answer["skipped"]
    assert world.rows("SELECT * FROM monitoring.health_snapshot") == []


@pytest.mark.parametrize(
    ("late", "is_made"),
    [
        pytest.param(30 * MINUTE, True, id="two intervals late"),
        pytest.param(30 * MINUTE + timedelta(seconds=1), False, id="later: it would be out of date when it is stored"),
    ],
)
def test_a_late_run(world: MonitoredWorld, late: timedelta, is_made: bool) -> None:
    """Up to the age at which a report counts."""
    answer = check_health(facts(), now=NOON + late)

    assert ("skipped" not in answer) is is_made
    assert len(world.rows("SELECT * FROM monitoring.health_snapshot")) == is_made


def test_params_that_narrow_the_check_narrow_nothing_here(world: MonitoredWorld) -> None:
    """The report is of the whole."""
    another(world, "Second")

    report = found(world, params={"credential": str(world.credential), "notify": "never"})

    assert report["metadata"]["total_credentials"] == 2


def test_a_run_by_hand_is_no_proof_of_a_scheduler(world: MonitoredWorld) -> None:
    """``airflow dags test`` needs none."""
    report = found(world, by_hand_at=NOON, interval=(NOON - TICK, NOON))

    assert report["details"]["system_resources"]["scheduler"]["status"] == "not_configured"


def test_passing_trouble_is_tried_again(world: MonitoredWorld) -> None:
    """And told by the last try."""
    unreachable(world)

    with pytest.raises(SourceError, match="cannot be reached"):
        check_health(facts(last_try=False), now=NOON + MINUTE)
    assert world.rows("SELECT * FROM monitoring.health_snapshot") == []
    assert found(world)["status"] == "unhealthy"


def test_without_our_database_the_task_fails(world: MonitoredWorld) -> None:
    """There is nowhere to keep a report."""
    parts = conninfo_to_dict(world.monitoring_dsn) | {"port": "1"}
    world.environment.setenv("AIRFLOW_CONN_MONITORING_DB", connection_of(make_conninfo(**parts)))

    with pytest.raises(MonitorError, match="cannot be reached"):
        check_health(facts(), now=NOON + MINUTE)


def test_nothing_secret_is_stored(world: MonitoredWorld, titan: ServiceTitanServer) -> None:
    """Of what the source, its errors and the API say."""
    another(world, "Leaky client_secret=hunter2hunter2", connection_status="error")
    allow_probes(world, titan, world.credential)
    titan.fail_next("api", status=500, title="token=hunter2hunter2")

    report = json.dumps(found(world))

    assert "Leaky" in report
    assert "hunter2" not in report
    assert titan.client.client_secret not in report

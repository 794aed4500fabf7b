"""What the health check sees over a real source, our real schema and a ServiceTitan server."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import timedelta

import psycopg
import pytest

from include.orchestration import health_look
from include.simulation.servicetitan_server import ServiceTitanServer
from include.sync_health.checks import CHECKS
from include.sync_health.errors import MonitorError
from tests.orchestration.health_world import (
    HEALTH,
    allow_probes,
    another,
    failing,
    found,
    health_world,
    statuses,
    titan_server,
    unreachable,
)
from tests.orchestration.monitored_world import NOON, MonitoredWorld
from tests.orchestration.source_troubles import CREDENTIALS, LOGS, changed, dropped, locked

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)

__all__ = ["health_world", "titan_server"]  # fixtures, known to pytest by being here


def test_a_healthy_world(world: MonitoredWorld) -> None:
    """Every part is, and the whole; nothing to probe is said, and no fault."""
    world.succeed(world.credential, at=NOON - 10 * MINUTE)
    another(world, "Idle Inc", connection_status="inactive")

    report = found(world)

    assert report["status"] == "healthy"
    assert statuses(report) == {"api_connectivity": "not_configured"}
    assert report["metadata"] == {
        "last_check": (NOON + MINUTE).isoformat(),
        "total_credentials": 2,
        "active_credentials": 1,
    }
    syncs, resources = report["details"]["recent_syncs"], report["details"]["system_resources"]
    assert (syncs["finished"], syncs["failed"]) == (1, 0)
    assert resources["source_database"]["size_bytes"] > 0
    assert resources["scheduler"]["run_began_at"] == NOON.isoformat()
    assert {name: check["status"] for name, check in resources["checks"].items()} == dict.fromkeys(CHECKS, "healthy")


def unnamed(world: MonitoredWorld) -> None:
    """Nobody configured the source."""
    world.environment.delenv("AIRFLOW_CONN_HUB_PLUS_DB")


def in_error(world: MonitoredWorld) -> None:
    """Upstream could not refresh a token."""
    world.hub.set_status(world.credential, "error", at=NOON - HOUR)


def overdue(world: MonitoredWorld) -> None:
    """The credentials were not checked for a day."""
    with psycopg.connect(world.monitoring_dsn) as conn:
        conn.execute(
            "UPDATE monitoring.check_run SET window_from = window_from - %(day)s, window_to = window_to - %(day)s "
            "WHERE check_name = 'credential_health'",
            {"day": DAY},
        )


def open_alert(world: MonitoredWorld) -> None:
    """A credential that never completed a sync is stale, by the check of the credentials."""
    another(world, "Never Ltd")
    world.tick(NOON, check=CHECKS["credential_health"])


@pytest.mark.parametrize(
    ("change", "status", "parts"),
    [
        pytest.param(in_error, "warning", {"credentials": "warning"}, id="a connection in error"),
        pytest.param(failing, "unhealthy", {"recent_syncs": "unhealthy"}, id="most syncs fail"),
        pytest.param(open_alert, "warning", {"recent_syncs": "warning"}, id="a stale credential"),
        pytest.param(overdue, "degraded", {"system_resources": "degraded"}, id="a check that does not run"),
        pytest.param(
            unreachable,
            "unhealthy",
            {"credentials": "unknown", "recent_syncs": "unknown", "system_resources": "unhealthy"},
            id="the source is down",
        ),
        pytest.param(
            unnamed,
            "unhealthy",
            {"credentials": "unknown", "recent_syncs": "unknown", "system_resources": "unhealthy"},
            id="nobody configured the source",
        ),
    ],
)
def test_a_world_that_is_not(
    world: MonitoredWorld, change: Callable[[MonitoredWorld], None], status: str, parts: dict[str, str]
) -> None:
    """The parts that suffer, and only they."""
    change(world)

    report = found(world)

    quiet = {} if "unknown" in parts.values() else {"api_connectivity": "not_configured"}
    blind = {"api_connectivity": "unknown"} if "unknown" in parts.values() else {}
    assert report["status"] == status
    assert statuses(report) == parts | quiet | blind


UNSEEN_SOURCE = {"credentials": "unknown", "recent_syncs": "unknown", "api_connectivity": "unknown"}


@pytest.mark.parametrize(
    ("trouble", "parts", "reason"),
    [
        pytest.param(
            lambda world: changed(world, f"ALTER TABLE {LOGS} RENAME TO gone", f"ALTER TABLE gone RENAME TO {LOGS}"),
            UNSEEN_SOURCE,
            "the source could not be read:",
            id="the sync log is gone",
        ),
        pytest.param(
            dropped(CREDENTIALS, "connection_status"),
            UNSEEN_SOURCE,
            "the source could not be read:",
            id="a column is gone that everything needs",
        ),
        pytest.param(
            locked,
            {"recent_syncs": "unknown"},
            "the recent syncs could not be read: ",
            id="the sync log is locked: the credentials are told all the same",
        ),
    ],
)
def test_a_source_that_can_be_reached_and_not_read(
    world: MonitoredWorld,
    trouble: Callable[[MonitoredWorld], AbstractContextManager[None]],
    parts: dict[str, str],
    reason: str,
) -> None:
    """What cannot be seen is unknown, with its reason; the database itself is there."""
    with trouble(world):
        report = found(world)

    assert report["status"] == "unknown"
    assert statuses(report) == {"api_connectivity": "not_configured"} | parts
    assert report["details"]["recent_syncs"]["reasons"][0].startswith(reason)
    assert report["details"]["system_resources"]["source_database"]["reachable"] is True


@pytest.mark.parametrize(
    ("table", "part", "reason"),
    [
        pytest.param("alert", "recent_syncs", "the open alerts could not be read", id="the alerts"),
        pytest.param("check_run", "system_resources", "when each check ran last could not be read", id="the checks"),
        pytest.param("credential_snapshot", None, "", id="the memory of credentials: they are judged without"),
        pytest.param("probe_result", None, "", id="the memory of probes: they are tried without"),
    ],
)
def test_a_table_of_ours_that_is_gone_takes_no_other_away(
    world: MonitoredWorld, table: str, part: str | None, reason: str
) -> None:
    """Each is read by itself."""
    with psycopg.connect(world.monitoring_dsn) as conn:
        conn.execute(f"ALTER TABLE monitoring.{table} RENAME TO gone".encode())

    report = found(world)

    assert statuses(report) == {"api_connectivity": "not_configured"} | ({part: "unknown"} if part else {})
    assert not part or any(reason in each for each in report["details"][part]["reasons"])


@pytest.mark.parametrize("kind", [RuntimeError, KeyError])
def test_what_breaks_is_unknown_and_not_quoted(world: MonitoredWorld, kind: type[Exception]) -> None:
    """Whatever is raised by what looks at the machine, the report is made."""

    def breaks() -> None:
        raise kind("password=hunter2hunter2")

    world.environment.setattr(health_look, "memory_space", breaks)

    report = found(world)

    assert statuses(report) == {"api_connectivity": "not_configured", "system_resources": "unknown"}
    reasons = report["details"]["system_resources"]["reasons"]
    assert f"memory: the memory could not be read: {kind.__name__}; the log has the details" in reasons
    assert "hunter2" not in json.dumps(report)


# --- probes ---


@pytest.mark.parametrize(
    ("failures", "status", "rate"),
    [
        pytest.param(0, "healthy", 100.0, id="both answer"),
        pytest.param(1, "degraded", 50.0, id="one does"),
        pytest.param(2, "unhealthy", 0.0, id="none does"),
    ],
)
def test_probes(world: MonitoredWorld, titan: ServiceTitanServer, failures: int, status: str, rate: float) -> None:
    """Of the active credentials that have a connection: told, stored, and counted among the API calls."""
    second, third = another(world, "Second"), another(world, "Third", connection_status="inactive")
    another(world, "No connection")
    allow_probes(world, titan, world.credential, second, third)
    if failures:
        titan.fail_next("api", times=failures, status=503, title="Service Unavailable")

    report = found(world)

    part = report["details"]["api_connectivity"]
    assert (part["status"], part["success_rate"], report["status"]) == (status, rate, status)
    tried = {result["credential_id"]: result["status"] for result in part["test_results"]}
    assert set(tried) == {str(world.credential), str(second)}
    assert sorted(tried.values()) == ["error"] * failures + ["success"] * (2 - failures)
    stored = {row["credential_id"]: row["status"] for row in world.rows("SELECT * FROM monitoring.probe_result")}
    assert stored == tried
    counted = world.rows("SELECT source, sum(requests) AS n, sum(errors) AS e FROM monitoring.api_counter GROUP BY 1")
    assert [(row["source"], row["n"], row["e"]) for row in counted] == [("probe", 2, failures)]


def test_a_sample_of_none_tries_nobody(world: MonitoredWorld, titan: ServiceTitanServer) -> None:
    """The policy can switch probing off."""
    allow_probes(world, titan, world.credential)
    world.overlay.write_text(HEALTH.replace("health: {", "health: {probe_sample: 0, "))

    assert statuses(found(world)) == {"api_connectivity": "not_configured"}
    assert titan.called("api") == []


def test_probes_that_cannot_be_kept_fail_the_task_and_leave_the_report(
    world: MonitoredWorld, titan: ServiceTitanServer
) -> None:
    """The next try counts its own."""
    allow_probes(world, titan, world.credential)
    with psycopg.connect(world.monitoring_dsn) as conn:
        conn.execute("ALTER TABLE monitoring.api_counter RENAME TO gone")
    with pytest.raises(MonitorError):
        found(world)
    [row] = world.rows("SELECT status FROM monitoring.health_snapshot")
    assert row["status"] == "healthy"
    assert world.rows("SELECT * FROM monitoring.probe_result") == []

    with psycopg.connect(world.monitoring_dsn) as conn:
        conn.execute("ALTER TABLE monitoring.gone RENAME TO api_counter")
    found(world)
    assert len(world.rows("SELECT * FROM monitoring.probe_result")) == 1


# --- tokens ---


def short_lived(world: MonitoredWorld, *, refreshed: timedelta) -> None:
    """Its token, which lasted 15 minutes, was got so long before noon."""
    got = NOON - refreshed
    world.hub.set_token(world.credential, expires_at=got + 15 * MINUTE, at=got)


@pytest.mark.parametrize(
    ("succeeded", "issues"),
    [
        pytest.param(50 * HOUR, ["Token expiring soon"], id="no sync has completed since it expired"),
        pytest.param(30 * HOUR, [], id="one has, long before the hour that is read: it is looked up"),
    ],
)
def test_a_short_lived_token_that_expired_two_days_ago(
    world: MonitoredWorld, succeeded: timedelta, issues: list[str]
) -> None:
    """Judged as the rule judges, although only an hour of syncs is read."""
    world.hub.delete_run(world.hub.runs_of(world.credential, status="completed")[0])
    world.succeed(world.credential, at=NOON - succeeded)
    short_lived(world, refreshed=49 * HOUR + 30 * MINUTE)

    report = found(world)

    assert [each["issue"] for each in report["details"]["credentials"]["issues"]] == issues
    assert report["details"]["credentials"]["tokens"]["expiring_literal"] == 1


def test_no_more_last_successes_are_looked_up_than_is_fair(world: MonitoredWorld) -> None:
    """Those left are counted, not blamed."""
    world.environment.setattr(health_look, "LOOKED_UP_AT_ONCE", 0)
    short_lived(world, refreshed=60 * HOUR)

    tokens = found(world)["details"]["credentials"]["tokens"]

    assert (tokens["expiring"], tokens["not_judged"]) == (0, 1)

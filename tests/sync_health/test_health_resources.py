"""The health check's system_resources: each row is one thing that is not as it should be, all others being well."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.sync_health.health import HealthPart, Unseen
from include.sync_health.health_resources import (
    CheckState,
    DatabaseState,
    NotAsked,
    Resources,
    SchedulerState,
    Space,
    resources_part,
)
from include.sync_health.measuring_policies import HealthPolicy

NOW = datetime(2026, 3, 10, 12, 1, tzinfo=UTC)
SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
GIB = 1 << 30
POLICY = HealthPolicy()
PRIMARY = DatabaseState(size_bytes=5 * GIB, is_standby=False)
BEATING = SchedulerState(
    is_healthy=True,
    heartbeat_at=NOW - 3 * SECOND,
    others={"metadatabase": "healthy", "dag_processor": "healthy", "triggerer": None},
)
OFTEN = CheckState(every=15 * MINUTE, window_to=NOW - MINUTE)
SELDOM = CheckState(every=6 * HOUR, window_to=NOW - 6 * HOUR)
WELL = Resources(
    source=PRIMARY,
    monitoring=PRIMARY,
    disk=Space(of="the disk of temporary files", total_bytes=100 * GIB, free_bytes=60 * GIB),
    memory=Space(of="this machine's memory", total_bytes=8 * GIB, free_bytes=4 * GIB),
    scheduler=BEATING,
    checks={"sync_failures": OFTEN, "credential_health": SELDOM},
)
LOST = Unseen(reason="nobody could look")


def part(**changes: Any) -> HealthPart:
    """The part where all is well but this."""
    return resources_part(replace(WELL, **changes), policy=POLICY, now=NOW)


def standby(lag: timedelta | None, **known: Any) -> DatabaseState:
    """A database that follows another one."""
    return DatabaseState(size_bytes=GIB, is_standby=True, lag=lag, **known)


def room(free: float) -> Space:
    """So many percent free."""
    return Space(of="it", total_bytes=10_000, free_bytes=round(100 * free))


def checks(**changes: Any) -> dict[str, CheckState]:
    """The checks, the 15-minute one changed."""
    return {"sync_failures": replace(OFTEN, **changes), "credential_health": SELDOM}


@pytest.mark.parametrize(
    ("changes", "status", "reason"),
    [
        pytest.param({}, "healthy", "", id="all is well"),
        # The databases.
        pytest.param(
            {"source": DatabaseState(error="connection refused")},
            "unhealthy",
            "source database: connection refused",
            id="the source cannot be reached",
        ),
        pytest.param(
            {"monitoring": DatabaseState(error="connection refused")},
            "unhealthy",
            "monitoring database: connection refused",
            id="our database cannot be reached",
        ),
        pytest.param({"source": standby(5 * MINUTE)}, "healthy", "", id="the source is a standby 5 minutes behind"),
        pytest.param(
            {"source": standby(5 * MINUTE + SECOND)},
            "warning",
            "this standby is 5 minutes 1 second behind, more than 5 minutes",
            id="the source is a standby further behind",
        ),
        pytest.param(
            {"source": standby(None, untold=("its lag is not known: nothing replayed",))},
            "unknown",
            "its lag is not known",
            id="nobody knows how far the source is behind",
        ),
        pytest.param(
            {"source": DatabaseState(untold=("whether it is a standby is not known: our role may not ask",))},
            "unknown",
            "our role may not ask",
            id="nobody knows whether the source is a standby",
        ),
        pytest.param(
            {"source": DatabaseState(is_standby=False, untold=("its size is not known: our role may not ask",))},
            "healthy",
            "source database: its size is not known: our role may not ask",
            id="the size is a figure: that it is not known is said, and nothing else",
        ),
        pytest.param(
            {"monitoring": standby(timedelta(0))}, "unhealthy", "nobody can write", id="our database is a standby"
        ),
        pytest.param({"monitoring": DatabaseState()}, "unknown", "", id="nobody knows whether ours can be written"),
        pytest.param({"source": LOST}, "unknown", "source database: nobody could look", id="looking broke"),
        # The worker.
        pytest.param({"disk": room(10)}, "healthy", "", id="exactly 10 percent of the disk is free"),
        pytest.param({"disk": room(9.99)}, "warning", "9.99 % of it is free", id="less of the disk is free"),
        pytest.param({"memory": room(5)}, "healthy", "", id="exactly 5 percent of the memory is free"),
        pytest.param({"memory": room(4.99)}, "warning", "memory: 4.99 % of it is free", id="less memory is free"),
        pytest.param({"disk": Space(of="it", total_bytes=0, free_bytes=0)}, "warning", "0 %", id="a disk of no size"),
        pytest.param({"disk": LOST}, "unknown", "disk: nobody could look", id="the disk cannot be read"),
        pytest.param({"memory": LOST}, "unknown", "memory: nobody could look", id="the memory cannot be read"),
        # The scheduler.
        pytest.param(
            {"scheduler": replace(BEATING, is_healthy=False, heartbeat_at=NOW - HOUR)},
            "unhealthy",
            "scheduler: its heartbeat is missing: the last was at 2026-03-10T11:01:00+00:00",
            id="the scheduler stopped",
        ),
        pytest.param(
            {"scheduler": replace(BEATING, is_healthy=False, heartbeat_at=None)},
            "unhealthy",
            "none is known",
            id="the scheduler never began",
        ),
        pytest.param(
            {"scheduler": replace(BEATING, others={"metadatabase": "unhealthy"})},
            "unhealthy",
            "scheduler: metadatabase is not healthy",
            id="Airflow's own database ails",
        ),
        pytest.param(
            {"scheduler": replace(BEATING, others={"dag_processor": "unhealthy"})},
            "warning",
            "dag processor is not healthy",
            id="the DAG processor ails",
        ),
        pytest.param(
            {"scheduler": LOST}, "unknown", "scheduler: nobody could look", id="the API server does not answer"
        ),
        pytest.param(
            {"scheduler": LOST, "scheduled_at": NOW - MINUTE},
            "healthy",
            "told by the run that it began; nobody could look",
            id="it does not answer, but the scheduler began this very run",
        ),
        pytest.param(
            {"scheduler": LOST, "scheduled_at": NOW - 31 * MINUTE},
            "unknown",
            "nobody could look",
            id="a run that it began long ago proves nothing",
        ),
        pytest.param(
            {"scheduler": replace(BEATING, is_healthy=False), "scheduled_at": NOW},
            "unhealthy",
            "heartbeat is missing",
            id="what the API server says counts more than the run",
        ),
        pytest.param(
            {"scheduler": NotAsked(reason="set base_url")},
            "healthy",
            "scheduler: set base_url",
            id="nobody said where to ask: counts as healthy, and says so",
        ),
        # The checks.
        pytest.param({"checks": checks(window_to=NOW - 30 * MINUTE)}, "healthy", "", id="a check two intervals ago"),
        pytest.param(
            {"checks": checks(window_to=NOW - 30 * MINUTE - SECOND)},
            "degraded",
            "check sync_failures: its last window ended 30 minutes 1 second ago, and one is due every 15 minutes",
            id="a check that is overdue",
        ),
        pytest.param(
            {"checks": checks(window_to=None)}, "warning", "is its DAG paused?", id="a check that has never run"
        ),
        pytest.param(
            {"checks": checks(blind="missing_table")},
            "unknown",
            "check sync_failures: its last run could not see: missing table",
            id="a check whose last run could not see",
        ),
        pytest.param(
            {"checks": checks(window_to=NOW + HOUR)}, "warning", "1 hour in the future", id="a check of the future"
        ),
        pytest.param({"checks": LOST}, "unknown", "checks: nobody could look", id="nobody knows when they ran"),
        # Together.
        pytest.param(
            {"disk": room(1), "memory": LOST}, "unknown", "nobody could look", id="what nobody sees beside a warning"
        ),
        pytest.param(
            {"checks": checks(window_to=NOW - HOUR), "memory": LOST}, "degraded", "1 hour ago", id="and beside worse"
        ),
    ],
)
def test_resources(changes: dict[str, Any], status: str, reason: str) -> None:
    """The worst of them counts, and each reason says of what."""
    found = part(**changes)

    assert str(found.status) == status
    assert any(reason in each for each in found.reasons) if reason else found.reasons == ()


def test_details() -> None:
    """Each thing with its status and figures."""
    assert part().details == {
        "source_database": {
            "status": "healthy",
            "reachable": True,
            "size_bytes": 5 * GIB,
            "is_standby": False,
            "lag_seconds": None,
        },
        "monitoring_database": {
            "status": "healthy",
            "reachable": True,
            "size_bytes": 5 * GIB,
            "is_standby": False,
            "lag_seconds": None,
        },
        "worker": {
            "disk": {
                "status": "healthy",
                "of": "the disk of temporary files",
                "total_bytes": 100 * GIB,
                "free_bytes": 60 * GIB,
                "free_share": 60.0,
            },
            "memory": {
                "status": "healthy",
                "of": "this machine's memory",
                "total_bytes": 8 * GIB,
                "free_bytes": 4 * GIB,
                "free_share": 50.0,
            },
        },
        "scheduler": {
            "status": "healthy",
            "heartbeat_at": "2026-03-10T12:00:57+00:00",
            "heartbeat_age_seconds": 3,
            "metadatabase": "healthy",
            "dag_processor": "healthy",
            "triggerer": None,
        },
        "checks": {
            "sync_failures": {
                "status": "healthy",
                "last_window_to": "2026-03-10T12:00:00+00:00",
                "age_seconds": 60,
                "every_seconds": 900,
                "blind": None,
            },
            "credential_health": {
                "status": "healthy",
                "last_window_to": "2026-03-10T06:01:00+00:00",
                "age_seconds": 21_600,
                "every_seconds": 21_600,
                "blind": None,
            },
        },
    }


def test_what_could_not_be_looked_at_has_a_place_in_the_details() -> None:
    """Under its own name, as unknown or not reachable."""
    details = part(
        source=DatabaseState(error="refused"), memory=LOST, scheduler=NotAsked(reason="set base_url"), checks=LOST
    ).details

    assert details["source_database"] == {"status": "unhealthy", "reachable": False}
    assert details["worker"]["memory"] == {"status": "unknown"}
    assert details["scheduler"]["status"] == "not_configured"
    assert details["checks"] == {"status": "unknown"}


@given(total=st.integers(1, 10**15), share=st.floats(0, 1))
def test_a_share_is_a_share(total: int, share: float) -> None:
    """From 0 to 100, however large the disk."""
    space = Space(of="it", total_bytes=total, free_bytes=int(total * share))

    assert 0 <= space.free_share <= 100

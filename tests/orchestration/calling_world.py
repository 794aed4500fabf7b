"""API calls in a monitored world: written as the application's recorder does, or straight into our own table."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from include.orchestration.api_metrics_run import ingest
from include.orchestration.check_tasks import RunFacts
from include.sync_health.api_calls import collapse
from include.sync_health.api_window import SETTLED_AFTER
from include.sync_health.checks import API_METRICS
from include.warehouse.api_hours import replace_hours
from include.warehouse.api_sources import ApiSource, record_source
from include.warehouse.monitoring_session import connect
from tests.orchestration.monitored_world import MonitoredWorld
from tests.sync_health.call_rows import Call, calls_frame

HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)


def bring_in(
    world: MonitoredWorld,
    as_of: datetime,
    *,
    late: timedelta = timedelta(minutes=1),
    is_backfill: bool = False,
    **params: Any,
) -> dict[str, Any]:
    """Run the task `ingest` of the scheduled run whose window ends at ``as_of``."""
    facts = RunFacts(
        params=params,
        interval=(as_of - API_METRICS.every, as_of),
        run_after=as_of,
        is_backfill=is_backfill,
        last_try=True,
    )
    return ingest(facts, now=as_of + late)


def bad_calls(world: MonitoredWorld, *, hour: datetime) -> list[Call]:
    """An hour of 200 slow calls of the world's credential, a quarter of which was refused for the rate."""
    return [
        Call(
            at=hour + number * timedelta(seconds=10),
            credential=str(world.credential),
            endpoint=f"/crm/v2/tenant/7/customers/{number}",
            status=200 if number % 4 else 429,
            ms=8_000.0,
        )
        for number in range(200)
    ]


def good_calls(world: MonitoredWorld, *, hour: datetime) -> list[Call]:
    """An hour of 200 quick calls that all succeeded."""
    return [
        Call(
            at=hour + number * timedelta(seconds=10),
            credential=str(world.credential),
            endpoint=f"/crm/v2/tenant/7/customers/{number}",
            ms=120.0,
        )
        for number in range(200)
    ]


def store_hour(world: MonitoredWorld, calls: Iterable[Call], *, hour: datetime) -> None:
    """Store an hour as a table that was read as soon as it had settled."""
    now = hour + HOUR + SETTLED_AFTER
    with connect(world.monitoring_dsn) as conn:
        replace_hours(
            conn,
            collapse(calls_frame(calls)),
            source="table",
            hours=[hour],
            names={str(world.credential): ("production", "1")},
            now=now,
        )
        record_source(
            conn,
            ApiSource(source="table", status="available", has_timings=True, detail="", read_until=now, updated_at=now),
        )


def call_badly(world: MonitoredWorld, *, hour: datetime) -> None:
    """Store an hour of `bad_calls`."""
    store_hour(world, bad_calls(world, hour=hour), hour=hour)


def lines_of(world: MonitoredWorld, *, hour: datetime, number: int = 3) -> str:
    """Requests as the application logs them, each with an answer that tells its time."""
    kinds = (
        ("ServiceTitan API GET request", {"params": {}}),
        ("ServiceTitan API response processed", {"method": "GET", "status_code": 200, "duration_ms": 250}),
    )
    return "".join(
        json.dumps(
            {
                "message": message,
                "context": {"endpoint": "/customers", **context, "credential_id": world.credential},
                "level": 200,
                "level_name": "INFO",
                "channel": "servicetitan",
                "datetime": (hour + each * MINUTE).isoformat(),
                "extra": {},
            }
        )
        + "\n"
        for each in range(number)
        for message, context in kinds
    )


def keep_log(world: MonitoredWorld, folder: Path, *, hour: datetime) -> None:
    """Have the application log some requests, and the policy name the file."""
    (folder / "servicetitan.log").write_text(lines_of(world, hour=hour))
    with world.overlay.open("a") as overlay:
        overlay.write(f"api_calls: {{logs: ['{folder}/servicetitan.log']}}\n")

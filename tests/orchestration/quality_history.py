"""A few weeks of messy syncs to compute the daily quality of, and what is stored of them."""

from __future__ import annotations

import random
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

import psycopg

from include.sync_health.frames import CANCELLED_BY_USER
from tests.orchestration.monitored_world import MonitoredWorld

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)

FIRST, LAST = date(2026, 2, 26), date(2026, 3, 9)
"""The days to compute: two months meet in them, and New York's clocks change."""

NOW = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)

OLDEST = datetime(2026, 2, 20, tzinfo=UTC)
"""When the source's first sync started."""

DETAILS = (
    {"failed_invoices": [{"id": 7, "error": "Customer name is required"}]},
    ["Zip Code is Empty", "Customer name is required"],
    {"0": {"field": "total", "message": "must be a number"}},
    None,
    {},
)
ERRORS = (
    "HTTP 401 invalid_client",
    "ServiceTitan API rate limit exceeded after all retries",
    "Zip Code is Empty",
    None,
    CANCELLED_BY_USER,
)


def fill(world: MonitoredWorld, *, seed: int = 1, until: datetime = NOW) -> None:
    """Add three credentials' syncs from `OLDEST` on: about thirty a day, with every outcome, some of them days long."""
    chance = random.Random(seed)  # noqa: S311 - rows to test with
    world.hub.delete_runs_before(until)  # the world's own sync: its key comes first, and its time last
    credentials = [world.credential]
    for name, environment in (("Beta Plumbing", "production"), ("Gamma Electric", "integration")):
        company = world.hub.add_company(name)
        credentials.append(int(world.hub.add_credential(company, environment=environment)))
    at = OLDEST
    while at < until:
        processed = chance.choice([0, 1, 10, 250])
        lost = chance.choice([0, 0, 1, processed // 2])
        status = chance.choice(["completed"] * 6 + ["failed", "running", "cancelled"])
        took = chance.choice([MINUTE, 7 * MINUTE, HOUR, 20 * HOUR])
        is_over = status != "running" and at + took <= until
        world.hub.add_run(
            chance.choice(credentials),
            status=status if is_over else "running",
            data_type=chance.choice(["invoices", "customers", "both"]),
            started_at=at,
            completed_at=at + took if is_over and chance.random() < 0.95 else None,
            records=(processed, processed - lost + chance.choice([0, 0, 0, 1]), lost),
            error_message=chance.choice(ERRORS) if status == "failed" else None,
            error_details=chance.choice(DETAILS),
            metadata=chance.choice(DETAILS),
        )
        at += timedelta(minutes=chance.randint(20, 80))


def stored(world: MonitoredWorld, *, last: date = LAST) -> dict[str, list[dict[str, Any]]]:
    """Return what is stored of the days from `FIRST` to ``last``, without when it was computed."""
    tables = {
        "quality_daily": "day, credential_id, data_type",
        "field_quality_daily": "day, credential_id, data_type, field",
        "quality_day": "day",
        "quality_revision": "day, credential_id, data_type, revision_id",
    }
    return {
        table: [
            without_times(row)
            for row in world.rows(
                f"SELECT * FROM monitoring.{table} WHERE day BETWEEN %s AND %s ORDER BY {order}", FIRST, last
            )
        ]
        for table, order in tables.items()
    }


def without_times(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row without the moment of its computation, which differs from run to run."""
    return {name: value for name, value in row.items() if name not in ("computed_at", "read_at")}


def forget(world: MonitoredWorld) -> None:
    """Empty the tables of the daily quality."""
    with psycopg.connect(world.monitoring_dsn) as conn:
        conn.execute(
            "TRUNCATE monitoring.quality_daily, monitoring.field_quality_daily, monitoring.quality_day,"
            " monitoring.quality_revision RESTART IDENTITY"
        )


def is_silent(world: MonitoredWorld) -> bool:
    """Return whether nobody was told anything, and no alert ever moved."""
    counts = world.rows(
        "SELECT (SELECT count(*) FROM monitoring.delivery) + (SELECT count(*) FROM monitoring.alert)"
        " + (SELECT count(*) FROM monitoring.alert_event) AS found"
    )
    return counts[0]["found"] == 0 and world.slack_texts() == [] and world.subjects() == []

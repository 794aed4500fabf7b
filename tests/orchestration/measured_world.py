"""A monitored world whose runs also measure, and what its StatsD was told."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import psycopg

from include.dashboard.metrics_page import figures_of
from include.orchestration.check_tasks import RunFacts
from include.orchestration.measuring import measure_quality, measure_syncs
from include.simulation.statsd_server import Series, StatsdServer
from include.sync_health.checks import DATA_QUALITY, SYNC_FAILURES, Check
from include.sync_health.policy import Policy
from include.sync_health.record_counts import RECORDS
from include.warehouse.monitoring_session import connect
from tests.dashboard.planted_metrics import parsed
from tests.orchestration.monitored_world import NOON, MonitoredWorld

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
PREFIX = "airflow.servicetitan."
COMPLETED = f"{PREFIX}sync.completed"


def facts(as_of: datetime, *, check: Check = SYNC_FAILURES, is_backfill: bool = False, **params: Any) -> RunFacts:
    """Return the facts of the scheduled run of the window that ends at ``as_of``."""
    return RunFacts(
        params=params, interval=(as_of - check.every, as_of), run_after=as_of, is_backfill=is_backfill, last_try=True
    )


def measure(world: MonitoredWorld, as_of: datetime = NOON, *, evaluated: bool = True, **options: Any) -> dict[str, Any]:
    """Run the tasks of a window, a minute after its end."""
    late = options.pop("late", MINUTE)
    if evaluated:
        world.tick(as_of)
    return measure_syncs(facts(as_of, **options), now=as_of + late)


def measure_data(world: MonitoredWorld, as_of: datetime = NOON, *, late: timedelta = MINUTE, **options: Any) -> Any:
    """Run the quality task of a window."""
    return measure_quality(facts(as_of, check=DATA_QUALITY, **options), now=as_of + late)


def counted(statsd: StatsdServer, name: str) -> dict[tuple[str, ...], float]:
    """Return what a counter rose by, by the values of its labels in the contract's order."""
    order = ("environment", "data_type", "status", "company_id", "error_class", "credential_id")
    return {values(series, order): value for series, value in statsd.counters(f"{PREFIX}{name}").items()}


def values(series: Series, order: tuple[str, ...]) -> tuple[str, ...]:
    """Return the values of a series' labels in an order."""
    labels = dict(series[1])
    return tuple(labels[name] for name in order if name in labels)


def gauge(statsd: StatsdServer, name: str, **labels: str) -> float | None:
    """Return a gauge by some of its labels; None: it was not told."""
    found = [
        value for series, value in statsd.gauges(f"{PREFIX}{name}").items() if labels.items() <= dict(series[1]).items()
    ]
    assert len(found) < 2
    return found[0] if found else None


def company(world: MonitoredWorld) -> str:
    """Return the company's id."""
    (row,) = world.rows("SELECT DISTINCT company_id FROM monitoring.credential_snapshot")
    return str(row["company_id"])


READER = "narrow_metrics"
"""A role that may read all of the source but, at first, the counts of records."""


def hide_counts(world: MonitoredWorld) -> None:
    """Let the monitor read the source as `READER` from now on, without a right on the counts."""
    with psycopg.connect(world.source_dsn, autocommit=True) as owner:
        if not owner.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (READER,)).fetchone():
            owner.execute(f"CREATE ROLE {READER} LOGIN PASSWORD 'pw'".encode())
        owner.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {READER}".encode())
        table = world.hub.shape.log_table
        kept = ", ".join(("id", *(name for name in world.hub.shape.log_columns if name not in RECORDS)))
        owner.execute(f"REVOKE SELECT ON {table} FROM {READER}".encode())
        owner.execute(f"GRANT SELECT ({kept}) ON {table} TO {READER}".encode())
    world.as_role(READER, "pw")


def page(world: MonitoredWorld, *, now: datetime) -> Mapping[str, float]:
    """Return what ``/metrics`` says: each series by its name, those of our own with their first label's value."""
    with connect(world.monitoring_dsn) as conn:
        figures = figures_of(conn, policy=Policy(), policy_is_wrong=False, now=now)
    found = {}
    for (name, labels), value in parsed(figures.written(budgets=[], seconds=0.0).decode()).items():
        told = dict(labels)
        found[f"{name} {told['count']}" if "count" in told else f"{name} {told.get('status', '')}".strip()] = value
    return found

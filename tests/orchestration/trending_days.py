"""Days in a world's monitoring schema, and syncs in its source, by which the trend rules breach and clear."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime, time, timedelta

import psycopg

from tests.orchestration.monitored_world import MonitoredWorld

HOUR, DAY, WEEK = timedelta(hours=1), timedelta(days=1), timedelta(days=7)

_STORE = """
    INSERT INTO monitoring.quality_daily
        (day, credential_id, data_type, environment, syncs_total, syncs_completed, syncs_clean, syncs_partial,
         syncs_failed, syncs_cancelled, syncs_open, records_processed, records_successful, records_failed,
         quality_score, score_low, score_high, inconsistent, is_final, computed_at, calc_version)
    VALUES (%(day)s, %(credential)s, 'invoices', 'production', 24, 24, 0, 24, 0, 0, 0, 1000, %(good)s, 1000 - %(good)s,
            %(good)s / 10.0, 0, 100, 0, %(is_final)s, %(read_at)s, 1)
    ON CONFLICT (day, credential_id, data_type) DO UPDATE
    SET records_successful = excluded.records_successful, records_failed = excluded.records_failed,
        quality_score = excluded.quality_score
"""

_COMPUTED = """
    INSERT INTO monitoring.quality_day (day, read_at, rows, is_final, timezone, calc_version)
    VALUES (%(day)s, %(read_at)s, 1, %(is_final)s, 'UTC', 2)
    ON CONFLICT (day) DO UPDATE SET read_at = excluded.read_at
"""


def store(
    world: MonitoredWorld, days: Iterable[date], *, good: int, is_final: bool = True, read_after: timedelta = DAY
) -> None:
    """Store days of the world's credential: so many of a thousand records were good; read so long after they began."""
    with psycopg.connect(world.monitoring_dsn) as conn:
        for day in days:
            values = {
                "day": day,
                "credential": str(world.credential),
                "good": good,
                "is_final": is_final,
                "read_at": datetime.combine(day, time(), tzinfo=UTC) + read_after,
            }
            conn.execute(_STORE, values)
            conn.execute(_COMPUTED, values)


def good_weeks(world: MonitoredWorld, *, before: date) -> None:
    """Store eight good days of the same weekday."""
    store(world, [before - number * WEEK for number in range(1, 9)], good=990)


def lose_yesterday(world: MonitoredWorld, *, as_of: datetime, good: int = 800, read_after: timedelta = DAY) -> None:
    """Store eight good weeks of yesterday's weekday and today's, and a yesterday that lost many records."""
    today = as_of.date()
    good_weeks(world, before=today)
    good_weeks(world, before=today - DAY)
    store(world, [today - DAY], good=good, is_final=False, read_after=read_after)


def bring_nothing(world: MonitoredWorld, *, before: datetime, count: int = 3) -> None:
    """
    Add so many completed syncs without a record, the last of them a quarter of an hour before an instant.

    The healthy sync of the world, three hours before noon, brought some: they are of another data type.
    """
    for number in range(count):
        end = before - HOUR / 4 - number * HOUR / 4
        bring(world, 0, at=end)


def bring(world: MonitoredWorld, records: int, *, at: datetime) -> None:
    """Add one completed sync of invoices."""
    world.hub.add_run(
        world.credential,
        data_type="invoices",
        started_at=at - HOUR / 60,
        completed_at=at,
        records=(records, records, 0),
    )

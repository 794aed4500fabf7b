"""That the tick runner's windows are those of the DAGs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pendulum

from include.orchestration.tick_runner import due_windows
from include.sync_health.checks import CHECKS


def test_windows_are_those_of_the_dags_timetables(airflow_metadata: Path) -> None:
    """A day of each, as Airflow itself would schedule them."""
    from airflow.dag_processing.dagbag import DagBag
    from airflow.timetables.base import TimeRestriction
    from airflow.timetables.interval import CronDataIntervalTimetable

    bag = DagBag(Path(__file__).parents[2] / "dags")
    start = pendulum.datetime(2026, 3, 10, tz="UTC")
    for check in CHECKS.values():
        declared: Any = bag.dags[f"servicetitan_{check.name}"].timetable
        timetable = CronDataIntervalTimetable(declared.expression, timezone="UTC")  # the scheduler's side of it
        scheduled, interval = [], None
        while True:
            info = timetable.next_dagrun_info(
                last_automated_data_interval=interval,
                restriction=TimeRestriction(earliest=start, latest=start.add(days=1), catchup=True),
            )
            if info is None or info.data_interval.end > start.add(days=1):
                break
            interval = info.data_interval
            scheduled.append((interval.start, interval.end))
        windows = [(end - check.every, end) for end, _ in due_windows([check], after=start, until=start.add(days=1))]
        mine = [window for window in windows if window[0] >= start]
        assert mine == scheduled

"""Workers that die: whatever a task was doing, running it again loses nothing and doubles nothing."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest

from include.orchestration.check_tasks import RunFacts
from include.orchestration.daily_quality_run import update_daily
from include.warehouse.binary_rows import BinaryRows
from include.warehouse.migration import upgrade
from tests.orchestration.monitored_world import NOON, TICK, MonitoredWorld, connection_of, monitored_world

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
SIX_HOURS = 6 * HOUR


@pytest.fixture
def world(
    make_database: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[MonitoredWorld]:
    """A healthy world with one credential."""
    with monitored_world(make_database, monkeypatch, tmp_path) as made:
        yield made


STEPS = [
    "include.warehouse.alert_store.load_alerts",
    "include.warehouse.check_runs.last_seen_run",
    "include.warehouse.check_runs.newest_start_seen",
    "include.warehouse.snapshots.credential_memory",
    "include.orchestration.sights.recall",
    "include.warehouse.source_reader.SourceReader.read_credentials",
    "include.warehouse.source_reader.SourceReader.read_runs",
    "include.warehouse.source_reader.SourceReader.read_older_successes",
    "include.sync_health.credential_facts.credential_facts",
    "include.orchestration.sights.read_for",
    "include.warehouse.alert_store.lock_alerts",
    "include.orchestration.evaluation.judge_tick",
    "include.orchestration.evaluation.step",
    "include.orchestration.evaluation.kept_back",
    "include.orchestration.evaluation.decide",
    "include.warehouse.snapshots.record_credential_changes",
    "include.warehouse.alert_store.save_step",
    "include.warehouse.check_runs.record_check_run",
    "include.orchestration.evaluation._outcome",
]
"""What an evaluation goes through, in order; the last one runs after the commit."""


class WorkerDied(BaseException):
    """What no code of ours may catch."""


def restate(world: MonitoredWorld, as_of: datetime) -> None:
    """Restate the days of one run of the data-quality check."""
    update_daily(
        RunFacts(params={}, interval=(as_of - SIX_HOURS, as_of), run_after=as_of, is_backfill=False, last_try=True),
        now=as_of + MINUTE,
    )


@contextmanager
def dying_at(place: str, *, when: str) -> Iterator[None]:
    """Let the worker die just before or just after it does something for the first time."""
    original = pkgutil.resolve_name(place)

    def dying(*args: object, **options: object) -> None:
        if when == "after":
            original(*args, **options)
        raise WorkerDied

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(place, dying)
        with pytest.raises(WorkerDied):
            yield


@pytest.mark.parametrize("place", STEPS, ids=lambda place: place.rpartition(".")[2])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_crash_at_any_step_and_a_retry_lose_and_double_nothing(world: MonitoredWorld, place: str, when: str) -> None:
    """The task dies just before or just after the step, and Airflow runs it again."""
    old = int(world.hub.add_credential(world.hub.add_company("Best Plumbing")))
    world.succeed(old, at=NOON - timedelta(days=9))  # what it last completed is sought by itself
    world.fail_three_times(world.credential, before=NOON)
    world.fail_three_times(old, before=NOON, error="HTTP 500 Internal Server Error")  # a message of its own
    with dying_at(place, when=when):
        world.tick(NOON)
    world.tick_and_drain(NOON)
    world.tick_and_drain(NOON + TICK)

    for told in (world.slack_texts(), world.subjects()):
        assert sorted("Best Plumbing" in text for text in told) == [False, True]
    assert len(world.rows("SELECT * FROM monitoring.check_run")) == 2
    assert len(world.rows("SELECT * FROM monitoring.alert_event WHERE kind = 'opened'")) == 4
    assert len(world.rows("SELECT * FROM monitoring.credential_snapshot")) == 2
    silent = world.rows("SELECT silent FROM monitoring.delivery WHERE silent IS NOT NULL")
    assert [row["silent"] for row in silent] == ["inhibited"] * 4


DAILY_STEPS = [
    "include.orchestration.daily_quality_run.late_syncs",
    "include.warehouse.source_reader.SourceReader.oldest_start",
    "include.warehouse.source_reader.SourceReader.stream_days",
    "include.sync_health.daily_quality.aggregate_days",
    "include.warehouse.quality_daily.replace_days",
]
"""What restating days goes through, in order; the last one commits day by day."""

DAILY = "day, credential_id, data_type, syncs_total, records_processed, records_failed, quality_score, is_final"


@pytest.mark.parametrize("place", DAILY_STEPS, ids=lambda place: place.rpartition(".")[2])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_crash_while_days_are_restated_and_a_retry_leave_what_one_run_would(
    world: MonitoredWorld, make_database: Callable[..., str], place: str, when: str
) -> None:
    """Three days, each with a sync that changed late, compared with a database in which nobody died."""
    for days in (0, 1, 2):
        world.succeed(world.credential, at=NOON - timedelta(days=days, hours=1))
    restate(world, NOON)
    for days in (0, 1, 2):
        world.succeed(world.credential, at=NOON - timedelta(days=days, hours=2))
    with dying_at(place, when=when):
        restate(world, NOON + SIX_HOURS)
    restate(world, NOON + SIX_HOURS)
    after_the_crash = world.rows(f"SELECT {DAILY} FROM monitoring.quality_daily ORDER BY day")

    ours = make_database("undisturbed")
    upgrade(ours)
    world.environment.setenv("AIRFLOW_CONN_MONITORING_DB", connection_of(ours))
    world.monitoring_dsn = ours
    restate(world, NOON + SIX_HOURS)
    assert after_the_crash == world.rows(f"SELECT {DAILY} FROM monitoring.quality_daily ORDER BY day")
    assert [row["syncs_total"] for row in after_the_crash] == [2, 2, 3]


def test_a_crash_between_two_days_leaves_each_whole_and_the_retry_does_the_rest(
    world: MonitoredWorld,
) -> None:
    """The first day is committed, the second is as it was; no row of either is halfway."""
    for days in (0, 1):
        world.succeed(world.credential, at=NOON - timedelta(days=days, hours=1))
    encode, calls = BinaryRows.encode, 0

    def dying_on_the_second_day(rows: BinaryRows, frame: pd.DataFrame) -> bytes:
        nonlocal calls
        calls += len(frame) > 0
        if calls == 2:
            raise WorkerDied
        return encode(rows, frame)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BinaryRows, "encode", dying_on_the_second_day)
        with pytest.raises(WorkerDied):
            restate(world, NOON)
    before, today = (NOON - timedelta(days=1)).date(), NOON.date()
    assert [row["day"] for row in world.rows("SELECT day FROM monitoring.quality_daily")] == [before]

    restate(world, NOON)
    found = world.rows("SELECT day, syncs_total FROM monitoring.quality_daily ORDER BY day")
    assert [(row["day"], row["syncs_total"]) for row in found] == [(before, 1), (today, 2)]

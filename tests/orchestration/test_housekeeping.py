"""Once a day: what is old goes, what is late is counted, and a run of it may be repeated."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from airflow.sdk.exceptions import AirflowFailException

from include.orchestration import housekeeping
from include.orchestration.check_tasks import RunFacts
from include.orchestration.daily_quality_run import LATE_DATA, late_syncs, update_daily
from include.orchestration.housekeeping import STEPS, conclude_run, delete_old, late_pass, refuse_params
from include.sync_health.errors import RequestError, SourceError
from include.sync_health.policy import RetentionPolicy
from tests.orchestration.monitored_world import NOON, MonitoredWorld, monitored_world

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
TODAY = NOON.date()
HALF_PAST_THREE = NOON.replace(hour=3, minute=30)


@pytest.fixture
def world(
    make_database: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[MonitoredWorld]:
    """A healthy world with one credential, whose source goes back for two months."""
    with monitored_world(make_database, monkeypatch, tmp_path) as made:
        made.succeed(made.credential, at=NOON - 60 * DAY)
        made.succeed(made.credential, at=NOON - 60 * DAY + HOUR)
        yield made


def run(at: datetime = HALF_PAST_THREE, *, late: timedelta = MINUTE, is_backfill: bool = False) -> dict[str, Any]:
    """Run the late pass that is due at an instant."""
    facts = RunFacts(params={}, interval=(at - DAY, at), run_after=at, is_backfill=is_backfill, last_try=True)
    return late_pass(facts, now=at + late)


def update(at: datetime) -> dict[str, Any]:
    """Run the 6-hour task that is due at an instant."""
    facts = RunFacts(params={}, interval=(at - 6 * HOUR, at), run_after=at, is_backfill=False, last_try=True)
    return update_daily(facts, now=at + MINUTE)


def sync(world: MonitoredWorld, at: datetime, *, took: timedelta = MINUTE) -> str:
    """Add a completed sync that ended at an instant."""
    return str(world.hub.add_run(world.credential, started_at=at - took, completed_at=at, records=(10, 9, 1)))


def days(world: MonitoredWorld, columns: str = "day, syncs_total") -> list[tuple[Any, ...]]:
    """Return what is stored, by day."""
    return [tuple(row.values()) for row in world.rows(f"SELECT {columns} FROM monitoring.quality_daily ORDER BY day")]


def test_a_sync_that_took_longer_than_the_slack_is_counted_and_stays_counted(world: MonitoredWorld) -> None:
    """The 6-hour reads do not see it; the late pass does, and from then on they have it by its key."""
    sync(world, NOON - DAY)
    slow = sync(world, NOON - DAY, took=6 * DAY)
    update(NOON - 12 * HOUR)
    assert days(world) == [(TODAY - DAY, 1)]

    passed = run()
    assert (passed["late_syncs"], passed["missed_by_narrow"]) == (1, 1)
    assert late_syncs(world.monitoring_dsn) == (slow,)
    assert dict(days(world))[TODAY - DAY] == 2

    update(NOON - 6 * HOUR)
    assert dict(days(world))[TODAY - DAY] == 2


def test_a_day_becomes_final_with_the_late_pass_after_its_last_late_day(world: MonitoredWorld) -> None:
    """Four days are restated, and today; the oldest of them is over."""
    for number in range(6):
        sync(world, HALF_PAST_THREE - number * DAY - HOUR)
    update(HALF_PAST_THREE)
    assert {is_final for (is_final,) in days(world, "is_final")} == {False}

    assert run()["days"] == 5
    assert days(world, "day, is_final") == [
        (TODAY - 4 * DAY, True),
        *((TODAY - number * DAY, False) for number in (3, 2, 1, 0)),
    ]


def test_days_that_nobody_finished_are_finished_when_it_runs_again(world: MonitoredWorld) -> None:
    """Airflow stood still for two weeks."""
    sync(world, HALF_PAST_THREE - 15 * DAY)
    run(HALF_PAST_THREE - 14 * DAY)
    assert days(world, "is_final") == [(False,)]

    run()
    assert days(world, "day, is_final")[0] == (TODAY - 15 * DAY, True)


def test_a_retry_of_the_late_pass_is_the_same_run(world: MonitoredWorld) -> None:
    """One record, the same days."""
    sync(world, NOON - DAY, took=3 * DAY)
    run()
    before = days(world, "day, syncs_total, is_final, is_vanished")
    run(late=2 * HOUR)

    records = world.rows(
        "SELECT window_to, anomalies, open_sync_ids FROM monitoring.check_run WHERE check_name = %s", LATE_DATA
    )
    assert [row["window_to"] for row in records] == [HALF_PAST_THREE]
    assert days(world, "day, syncs_total, is_final, is_vanished") == before


def test_an_old_run_that_is_repeated_does_todays_work(world: MonitoredWorld) -> None:
    """Clearing last month's run must not restate today's days by last month's eyes."""
    sync(world, NOON - DAY)
    run(HALF_PAST_THREE - 30 * DAY, late=30 * DAY)
    run(HALF_PAST_THREE - 30 * DAY, late=30 * DAY, is_backfill=True)

    records = world.rows("SELECT window_to FROM monitoring.check_run WHERE check_name = %s", LATE_DATA)
    assert [row["window_to"] for row in records] == [HALF_PAST_THREE]
    assert days(world)[0] == (TODAY - DAY, 1)


def test_no_more_late_syncs_are_remembered_than_can_be_read_by_key(
    world: MonitoredWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newest of them; the record says how many there were."""
    monkeypatch.setattr(housekeeping, "LATE_SYNCS_REMEMBERED", 1)
    sync(world, NOON - DAY, took=3 * DAY)
    newest = sync(world, NOON - DAY + HOUR, took=3 * DAY)

    assert run()["late_syncs"] == 2
    assert late_syncs(world.monitoring_dsn) == (newest,)
    (record,) = world.rows("SELECT notes FROM monitoring.check_run WHERE check_name = %s", LATE_DATA)
    assert any("2 syncs took longer" in note for note in record["notes"])


def test_a_source_that_cannot_be_read_fails_the_late_pass_and_changes_nothing(world: MonitoredWorld) -> None:
    """The 15-minute check raises the alert."""
    run()
    before = days(world, "*")
    with psycopg.connect(world.source_dsn) as conn:
        conn.execute("ALTER TABLE servicetitan_sync_logs RENAME TO elsewhere")

    with pytest.raises(SourceError):
        run(HALF_PAST_THREE + DAY)
    assert days(world, "*") == before


def test_each_step_deletes_by_its_own_retention(world: MonitoredWorld) -> None:
    """A tick's record, an hour past its retention."""
    world.tick(NOON - RetentionPolicy().check_runs - HOUR)
    world.tick(NOON)
    assert len(world.rows("SELECT 1 FROM monitoring.check_run")) == 2

    deleted = {step: delete_old(step, now=NOON)["deleted"] for step in STEPS}

    assert deleted == {**dict.fromkeys(STEPS, 0), "check_runs": 1}
    assert {step: delete_old(step, now=NOON)["deleted"] for step in STEPS} == dict.fromkeys(STEPS, 0)


def test_the_policy_says_how_long(world: MonitoredWorld) -> None:
    """An overlay with a shorter retention."""
    world.tick(NOON - 40 * DAY)
    world.tick(NOON)
    assert delete_old("check_runs", now=NOON)["deleted"] == 0
    world.overlay.write_text("retention: {check_runs: 30d}\n")

    assert delete_old("check_runs", now=NOON)["deleted"] == 1


def test_there_is_a_step_for_each_retention_of_the_policy() -> None:
    """A new one needs a task."""
    assert set(STEPS) == {field.name for field in fields(RetentionPolicy)}


def test_a_step_that_is_none_is_refused(world: MonitoredWorld) -> None:
    """By name."""
    with pytest.raises(RequestError, match="quality_daily"):
        delete_old("quality_daily", now=NOON)


def test_a_param_is_refused_and_named() -> None:
    """Whoever asks for a dry run must not get a real one."""
    refuse_params({})
    with pytest.raises(RequestError, match="no Params, and would leave 'dry_run', 'before' undone; trigger it without"):
        refuse_params({"dry_run": True, "before": "2020-01-01"})


def context(**states: str) -> dict[str, Any]:
    """Return what a task knows of its run: the states of the tasks."""
    told = {"conclude": "running", **states}
    ti = SimpleNamespace(dag_id="dag", task_id="conclude", get_task_states=lambda dag_id, run_ids: {run_ids[0]: told})
    return {"ti": ti, "dag_run": SimpleNamespace(run_id="run")}


@pytest.mark.parametrize("state", ["failed", "upstream_failed", "skipped"])
def test_a_step_that_was_not_done_fails_the_run_by_name(state: str) -> None:
    """The last task would else make a failed run green."""
    with pytest.raises(AirflowFailException, match="not done: delete_check_runs;"):
        conclude_run(context(delete_check_runs=state, late_data="success"))


def test_a_run_whose_steps_are_done_is_done() -> None:
    """Itself left out."""
    conclude_run(context(delete_check_runs="success", late_data="success"))

"""Days are restated from what the source has of them now."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from include.orchestration.check_tasks import RunFacts
from include.orchestration.daily_quality_run import days_touched, update_daily
from include.orchestration.day_restatement import restate_days
from include.sync_health.errors import RequestError, SourceError
from include.sync_health.policy import Policy
from include.sync_health.windows import RunMode, Window
from tests.orchestration.monitored_world import NOON, MonitoredWorld, monitored_world

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
TODAY = NOON.date()


@pytest.fixture
def world(
    make_database: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[MonitoredWorld]:
    """A healthy world with one credential."""
    with monitored_world(make_database, monkeypatch, tmp_path) as made:
        yield made


def update(world: MonitoredWorld, as_of: datetime = NOON, *, is_backfill: bool = False, **options: Any) -> Any:
    """Run the task of the window that ends at ``as_of``, a minute after it."""
    now = options.pop("now", as_of + MINUTE)
    interval = options.pop("interval", (as_of - 6 * HOUR, as_of))
    facts = RunFacts(params=options, interval=interval, run_after=as_of, is_backfill=is_backfill, last_try=True)
    return update_daily(facts, now=now)


def sync(world: MonitoredWorld, at: datetime, *, took: timedelta = MINUTE, good: int = 9, lost: int = 1) -> int:
    """Add a completed sync that ended at an instant."""
    return int(
        world.hub.add_run(world.credential, started_at=at - took, completed_at=at, records=(good + lost, good, lost))
    )


def days(world: MonitoredWorld, columns: str = "day, syncs_total") -> list[tuple[Any, ...]]:
    """Return what is stored, by day."""
    return [tuple(row.values()) for row in world.rows(f"SELECT {columns} FROM monitoring.quality_daily ORDER BY day")]


def on_source(world: MonitoredWorld, statement: str, *values: Any) -> None:
    """Change the source as its owner."""
    with psycopg.connect(world.source_dsn) as conn:
        conn.execute(statement.encode(), values)


def window(start: str, end: str) -> Window:
    """Return a window of March 2026, in UTC, from day and hour."""
    start_at, end_at = (datetime.fromisoformat(f"2026-03-{each}:00+00:00") for each in (start, end))
    return Window(start=start_at, as_of=end_at)


@pytest.mark.parametrize(
    ("touched", "zone", "mode", "first", "last"),
    [
        pytest.param(window("10T06", "10T12"), "UTC", RunMode.LIVE, 7, 10, id="live: today and the three days before"),
        pytest.param(
            window("09T18", "10T00"), "UTC", RunMode.LIVE, 7, 9, id="live at midnight: the new day has nothing"
        ),
        pytest.param(window("04T06", "10T12"), "UTC", RunMode.LIVE, 4, 10, id="live, a long window: all it touches"),
        pytest.param(window("10T06", "10T12"), "UTC", RunMode.HISTORICAL, 10, 10, id="historical: its own day"),
        pytest.param(
            window("09T18", "10T00"), "UTC", RunMode.HISTORICAL, 9, 9, id="historical up to midnight: one day"
        ),
        pytest.param(window("09T20", "10T02"), "UTC", RunMode.HISTORICAL, 9, 10, id="historical over midnight: both"),
        pytest.param(
            window("10T00", "10T06"),
            "America/New_York",
            RunMode.HISTORICAL,
            9,
            10,
            id="in New York it is over midnight",
        ),
        pytest.param(
            window("10T06", "10T12"), "America/New_York", RunMode.LIVE, 7, 10, id="live in New York, after the clocks"
        ),
    ],
)
def test_the_days_of_a_run(touched: Window, zone: str, mode: RunMode, first: int, last: int) -> None:
    """In the reporting time zone."""
    found = days_touched(touched, Policy(reporting_timezone=zone), mode=mode)

    assert found == [date(2026, 3, number) for number in range(first, last + 1)]


def test_a_day_says_what_its_syncs_did(world: MonitoredWorld) -> None:
    """From the source's rows to the row that reports read."""
    sync(world, NOON - HOUR, good=8, lost=2, took=30 * MINUTE)

    counts = update(world)

    wanted = "day, credential_id, company_name, syncs_total, syncs_clean, records_processed, quality_score, is_final"
    assert days(world, wanted) == [(TODAY, str(world.credential), "Acme Heating", 2, 1, 20, 90.0, False)]
    assert (counts["mode"], counts["days"], counts["rows"]) == ("live", 1, 1)


@pytest.mark.parametrize(
    ("shape", "tells"),
    [
        pytest.param("migrations", True, id="a log with all counts"),
        pytest.param("architecture", False, id="a log that counts what was processed alone"),
    ],
)
def test_the_ledger_says_whether_the_log_told_outcomes(
    make_database: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, shape: str, tells: bool
) -> None:
    with monitored_world(make_database, monkeypatch, tmp_path, shape=shape) as world:
        update(world)
        ledger = world.rows("SELECT DISTINCT tells_outcomes FROM monitoring.quality_day")

    assert [row["tells_outcomes"] for row in ledger] == [tells]


def test_a_late_change_restates_its_day(world: MonitoredWorld) -> None:
    """Rows change in place; a retry finds the same."""
    earlier = sync(world, NOON - 2 * DAY)
    sync(world, NOON - 20 * DAY)
    update(world)
    on_source(
        world, "UPDATE servicetitan_sync_logs SET records_successful = 4, records_failed = 6 WHERE id = %s", earlier
    )

    update(world, NOON + 6 * HOUR)
    first = days(world, "day, quality_score")
    update(world, NOON + 6 * HOUR, now=NOON + 7 * HOUR)

    assert first == days(world, "day, quality_score") == [(TODAY - 2 * DAY, 40.0), (TODAY, 100.0)]


def test_a_credential_that_is_gone_keeps_its_days(world: MonitoredWorld) -> None:
    """Marked, with the last known numbers and name."""
    other = int(world.hub.add_credential(world.hub.add_company("Beta Plumbing")))
    world.succeed(other, at=NOON - HOUR)
    update(world)
    on_source(world, "DELETE FROM servicetitan_credentials WHERE id = %s", other)
    update(world, NOON + 6 * HOUR)

    found = world.rows("SELECT company_name, is_vanished, syncs_total FROM monitoring.quality_daily ORDER BY 1")
    assert [tuple(row.values()) for row in found] == [("Acme Heating", False, 1), ("Beta Plumbing", True, 1)]


def test_days_that_the_source_has_lost_stay_as_they_are(world: MonitoredWorld) -> None:
    """Its retention deletes by start; nothing is marked, and the count says so."""
    for number in (40, 30):
        sync(world, NOON - number * DAY)
        update(world, NOON - number * DAY + HOUR, is_backfill=True, now=NOON)
    before = days(world, "day, syncs_total, is_vanished, is_final")
    on_source(world, "DELETE FROM servicetitan_sync_logs WHERE started_at < %s", NOON.replace(tzinfo=None) - 35 * DAY)

    counts = update(world, NOON - 40 * DAY + HOUR, is_backfill=True, now=NOON + HOUR)

    assert (counts["refused"], counts["days"], counts["vanished"]) == (1, 0, 0)
    assert days(world, "day, syncs_total, is_vanished, is_final") == before
    assert before == [(TODAY - 40 * DAY, 1, False, True), (TODAY - 30 * DAY, 1, False, True)]


def test_a_source_that_lost_everything_erases_nothing(world: MonitoredWorld) -> None:
    """An empty table is no evidence that nothing ever ran."""
    update(world)
    before = days(world, "*")
    on_source(world, "DELETE FROM servicetitan_sync_logs")

    assert update(world, NOON + 6 * HOUR)["refused"] == 4
    assert days(world, "*") == before


def test_a_day_at_the_edge_of_the_source_only_grows(world: MonitoredWorld) -> None:
    """Half of the day was deleted upstream."""
    for hours in (6, 5, 4):
        sync(world, NOON - hours * HOUR)
    update(world)
    on_source(world, "DELETE FROM servicetitan_sync_logs WHERE started_at < %s", NOON.replace(tzinfo=None) - 5 * HOUR)

    assert update(world, NOON + HOUR)["kept"] == 1
    assert days(world) == [(TODAY, 4)]


def test_a_backfill_computes_its_own_days_and_they_are_final(world: MonitoredWorld) -> None:
    """It reads what the source has today, and so may say so."""
    for number in (12, 11, 10):
        sync(world, NOON - number * DAY)

    counts = update(world, NOON - 11 * DAY + HOUR, is_backfill=True, now=NOON)

    assert counts["mode"] == "historical"
    assert days(world, "day, is_final") == [(TODAY - 11 * DAY, True)]


def test_days_are_those_of_the_reporting_time_zone(world: MonitoredWorld) -> None:
    """03:00 in UTC is the evening before in New York."""
    world.overlay.write_text("reporting: {timezone: America/New_York}\n")
    sync(world, NOON - 9 * HOUR)
    update(world)

    assert days(world) == [(TODAY - DAY, 1), (TODAY, 1)]


def test_a_policy_without_the_fallback_stores_no_durations_that_nobody_stored(world: MonitoredWorld) -> None:
    """``reporting.duration_fallback`` reaches the aggregate."""
    update(world)
    on = days(world, "duration_avg_seconds")
    world.overlay.write_text("reporting: {duration_fallback: false}\n")
    update(world, now=NOON + HOUR)

    assert (on, days(world, "duration_avg_seconds")) == ([(60.0,)], [(None,)])


def test_separate_stretches_of_days_are_one_restatement(world: MonitoredWorld) -> None:
    """Only the days that were asked for are touched, in any order."""
    for number in (12, 11, 10, 2):
        sync(world, NOON - number * DAY)
    wanted = [TODAY - 2 * DAY, TODAY - 12 * DAY]

    restated = restate_days(
        world.source_dsn,
        world.monitoring_dsn,
        policy=Policy(),
        days=wanted,
        as_of=NOON,
        clock=lambda: NOON,
        slack=DAY,
    )

    assert [day for (day,) in days(world, "day")] == sorted(wanted)
    assert (restated.days, restated.rows, restated.refused) == (2, 2, ())


def test_no_day_at_all_is_a_mistake(world: MonitoredWorld) -> None:
    """Rather than a silent success."""
    with pytest.raises(RequestError, match="no day"):
        restate_days(
            world.source_dsn, world.monitoring_dsn, policy=Policy(), days=[], as_of=NOON, clock=lambda: NOON, slack=DAY
        )


def test_a_source_without_the_log_is_an_error_and_changes_nothing(world: MonitoredWorld) -> None:
    """The task fails; the alert is the check's own."""
    update(world)
    before = days(world, "*")
    on_source(world, "ALTER TABLE servicetitan_sync_logs RENAME TO elsewhere")

    with pytest.raises(SourceError, match="servicetitan_sync_log"):
        update(world, NOON + 6 * HOUR)
    assert days(world, "*") == before


def test_a_window_in_the_future_is_refused(world: MonitoredWorld) -> None:
    """Nothing can be said of it yet."""
    with pytest.raises(RequestError, match="future"):
        update(world, now=NOON - HOUR)
    with pytest.raises(RequestError, match="no instant"):
        update(world, window_end="yesterday", now=datetime(2026, 3, 10, 12, tzinfo=UTC))

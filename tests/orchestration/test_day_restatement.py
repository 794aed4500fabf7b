"""Days computed again: what the source cannot say is refused, and what has moved is counted once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from include.orchestration.backfill_days import Month
from include.orchestration.check_tasks import RunFacts
from include.orchestration.daily_quality_run import update_daily
from include.orchestration.day_restatement import Progress, Restated, restate_days
from include.orchestration.history import History
from include.orchestration.quality_estimate import MonthEstimate, estimate_months
from include.sync_health.errors import SourceError
from include.sync_health.policy import Policy
from include.warehouse.quality_daily import days_between
from tests.orchestration.monitored_world import NOON, MonitoredWorld, monitored_world

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
TODAY = NOON.date()
DETAILS = {"validation_errors": [{"field": "zip", "message": "Zip Code is Empty", "code": "missing", "index": 7}]}


@pytest.fixture
def world(
    make_database: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[MonitoredWorld]:
    """One credential without a sync, nothing computed yet."""
    with monitored_world(make_database, monkeypatch, tmp_path) as made:
        made.hub.delete_runs_before(NOON)
        yield made


def sync(world: MonitoredWorld, at: datetime, **more: Any) -> Any:
    """Add a completed sync of ten records, one of them failed, that ended at an instant."""
    given = {"started_at": at - MINUTE, "completed_at": at, "records": (10, 9, 1), "data_type": "both"} | more
    return world.hub.add_run(given.pop("credential", world.credential), **given)


def on_source(world: MonitoredWorld, statement: str, *values: Any) -> None:
    """Change the source as its owner."""
    with psycopg.connect(world.source_dsn) as conn:
        conn.execute(statement.encode(), values)


def delete_before(world: MonitoredWorld, cutoff: datetime) -> None:
    """Delete what started before an instant, as the source's retention does."""
    on_source(world, "DELETE FROM servicetitan_sync_logs WHERE started_at < %s", cutoff.replace(tzinfo=None))


def restate(
    world: MonitoredWorld, first: date, last: date = TODAY, *, at: datetime = NOON, zone: str = "UTC"
) -> Restated:
    """Restate days as a backfill does."""
    return restate_days(
        world.source_dsn,
        world.monitoring_dsn,
        policy=Policy(reporting_timezone=zone),
        days=days_between(first, last),
        as_of=at,
        clock=lambda: at,
        slack=7 * DAY,
    )


def estimate(world: MonitoredWorld, first: date, last: date = TODAY, *, zone: str = "UTC") -> MonthEstimate:
    """Tell how much restating them would be."""
    history = History(
        source_conninfo=world.source_dsn,
        monitoring_conninfo=world.monitoring_dsn,
        policy=Policy(reporting_timezone=zone),
        as_of=NOON,
    )
    month = Month(first=first, last=last)
    return estimate_months(history, {month: days_between(first, last)}, with_writes=True)[0]


def daily(world: MonitoredWorld, columns: str = "day, syncs_total") -> list[tuple[Any, ...]]:
    """Return what is stored, by day and key."""
    query = f"SELECT {columns} FROM monitoring.quality_daily ORDER BY day, credential_id, data_type"
    return [tuple(row.values()) for row in world.rows(query)]


def weekly_syncs(world: MonitoredWorld) -> int:
    """Return the syncs of all weeks."""
    ((total,),) = (
        tuple(row.values()) for row in world.rows("SELECT sum(syncs_total) FROM monitoring.bi_quality_weekly")
    )
    return int(total)


def source_syncs(world: MonitoredWorld) -> int:
    """Return the rows of the log."""
    with psycopg.connect(world.source_dsn) as conn:
        row = conn.execute("SELECT count(*) FROM servicetitan_sync_logs").fetchone()
    assert row is not None
    return int(row[0])


def a_sync_every_third_day(world: MonitoredWorld) -> None:
    for days in range(60, 0, -3):
        sync(world, NOON - days * DAY)


def three_imports_and_a_log(world: MonitoredWorld) -> None:
    for days in (75, 74, 70):
        sync(world, NOON - days * DAY)
    for hours in range(200, 0, -5):
        sync(world, NOON - hours * HOUR)


def an_import_over_midnight_and_a_log(world: MonitoredWorld) -> None:
    midnight = NOON - 70 * DAY + 12 * HOUR
    sync(world, midnight + MINUTE, started_at=midnight - MINUTE)
    for hours in range(200, 0, -5):
        sync(world, NOON - hours * HOUR)


@pytest.mark.parametrize(
    ("fill", "refused", "days_with_syncs"),
    [
        pytest.param(a_sync_every_third_day, 20, 20, id="a sync every third day: from its first on"),
        pytest.param(three_imports_and_a_log, 69, 12, id="three imports long before the log have their days"),
        pytest.param(an_import_over_midnight_and_a_log, 71, 10, id="an import over midnight has the day of its end"),
        pytest.param(lambda world: None, 81, 0, id="an empty log"),
    ],
)
@pytest.mark.parametrize("index", [None, "started_at", "completed_at"])
def test_a_dry_run_refuses_the_days_that_the_run_refuses(
    world: MonitoredWorld,
    fill: Callable[[MonitoredWorld], None],
    refused: int,
    days_with_syncs: int,
    index: str | None,
) -> None:
    """Before it and after it; however the log is searched, all of its syncs are counted."""
    fill(world)
    if index:
        on_source(world, f"CREATE INDEX ON servicetitan_sync_logs ({index})")
    first = TODAY - 80 * DAY
    before = estimate(world, first)
    done = restate(world, first)

    assert (before.days_refused, len(done.refused), estimate(world, first).days_refused) == (refused,) * 3
    assert done.days == 81 - refused
    assert len(daily(world)) == days_with_syncs
    assert sum(total for _, total in daily(world)) == source_syncs(world)


def test_a_source_without_credentials_is_refused_by_both(world: MonitoredWorld) -> None:
    """In the same words."""
    on_source(world, "DELETE FROM servicetitan_credentials")
    told = []
    for ask in (estimate, restate):
        with pytest.raises(SourceError, match="the credentials table has no rows") as refused:
            ask(world, TODAY - DAY)
        told.append(str(refused.value))
    assert told[0] == told[1]


def test_another_reporting_zone_counts_every_sync_once(world: MonitoredWorld) -> None:
    """What ended late in the evening in UTC is of the next morning in Tokyo: the evening before the log is replaced too."""
    for days in (22, 15, 8):
        sync(world, NOON - days * DAY + 11 * HOUR + 30 * MINUTE)
    first = TODAY - 24 * DAY
    restate(world, first)
    before = daily(world)
    dry = estimate(world, first, zone="Asia/Tokyo")
    done = restate(world, first, zone="Asia/Tokyo", at=NOON + MINUTE)

    assert before == [(TODAY - days * DAY, 1) for days in (22, 15, 8)]
    assert daily(world, "day, syncs_total, is_vanished") == [(TODAY - days * DAY, 1, False) for days in (21, 14, 7)]
    assert weekly_syncs(world) == source_syncs(world) == 3
    assert (done.refused, done.removed) == ((first, first + DAY), 3)
    assert dry.days_refused == 2


def test_another_zone_does_not_replace_what_is_older_than_the_log(world: MonitoredWorld) -> None:
    """The source's retention has deleted it: the old zone's rows are all that is known."""
    for days in (22, 21, 8):
        sync(world, NOON - days * DAY)
    first = TODAY - 24 * DAY
    restate(world, first)
    delete_before(world, NOON - 10 * DAY)
    done = restate(world, first, zone="Asia/Tokyo", at=NOON + MINUTE)

    assert daily(world, "day, syncs_total, is_vanished") == [(TODAY - days * DAY, 1, False) for days in (22, 21, 8)]
    assert TODAY - 21 * DAY in done.refused


@pytest.mark.parametrize("zone", ["Asia/Tokyo", "America/New_York"])
def test_another_zone_deletes_no_day_that_the_log_has_nothing_of(world: MonitoredWorld, zone: str) -> None:
    """The retention has reached the early morning: the day before is over in both zones, and the old one's row stays."""
    yesterday, midnight = TODAY - 10 * DAY, NOON - 9 * DAY - 12 * HOUR
    for at in (midnight - 12 * HOUR, midnight + 2 * HOUR, midnight + 7 * HOUR, midnight + 20 * HOUR):
        sync(world, at)
    restate(world, TODAY - 12 * DAY)
    delete_before(world, midnight + 6 * HOUR)
    dry = estimate(world, TODAY - 12 * DAY, zone=zone)
    done = restate(world, TODAY - 12 * DAY, zone=zone, at=NOON + MINUTE)

    assert daily(world)[0] == (yesterday, 1)
    assert (yesterday in done.refused, len(done.refused)) == (True, dry.days_refused)
    assert sum(total for day, total in daily(world) if day > yesterday) == source_syncs(world) == 2


def test_a_zone_by_another_name_is_the_same_zone(world: MonitoredWorld) -> None:
    """A day that the retention has taken half of stays whole."""
    for hours in (4, 20):
        sync(world, NOON - 9 * DAY - 12 * HOUR + hours * HOUR)
    restate(world, TODAY - 9 * DAY)
    delete_before(world, NOON - 9 * DAY)
    done = restate(world, TODAY - 9 * DAY, zone="Etc/UTC", at=NOON + MINUTE)

    assert daily(world) == [(TODAY - 9 * DAY, 2)]
    assert (done.kept, done.removed) == (1, 0)


def test_days_read_in_the_future_are_told(world: MonitoredWorld) -> None:
    """A machine's clock was wrong: nobody would know why they never change."""
    for days in (4, 3, 2, 1):
        sync(world, NOON - days * DAY)
    restate(world, TODAY - 4 * DAY)
    assert not any("future" in note for note in restate(world, TODAY - 4 * DAY).notes)
    with psycopg.connect(world.monitoring_dsn) as conn:
        conn.execute("UPDATE monitoring.quality_day SET read_at = '2027-06-01Z' WHERE day < %s", (TODAY - 2 * DAY,))
    (told,) = (note for note in restate(world, TODAY - 3 * DAY).notes if "future" in note)

    assert told.startswith(
        f"1 days from {TODAY - 3 * DAY} to {TODAY - 3 * DAY} are left as they are: by the ledger they were read up to "
        "2027-06-01T00:00:00+00:00, which lies in the future"
    )
    assert told.endswith("run UPDATE monitoring.quality_day SET read_at = now() WHERE read_at > now()")


def test_a_corrected_data_type_is_counted_once(world: MonitoredWorld) -> None:
    """The row of the wrong one goes; the week is what the source says."""
    for days in range(24, 0, -1):
        sync(world, NOON - days * DAY)
    first = TODAY - 22 * DAY
    restate(world, first)
    on_source(
        world,
        "UPDATE servicetitan_sync_logs SET data_type = 'invoices' WHERE completed_at::date = %s",
        TODAY - 12 * DAY,
    )
    done = restate(world, first, at=NOON + MINUTE)

    assert [row for row in daily(world, "day, data_type, is_vanished") if row[0] == TODAY - 12 * DAY] == [
        (TODAY - 12 * DAY, "invoices", False)
    ]
    assert (done.removed, done.vanished) == (1, 0)
    assert weekly_syncs(world) == source_syncs(world) - 2


def test_a_sync_over_midnight_is_counted_once(world: MonitoredWorld) -> None:
    """Open at 23:55 and of that day; ended at 00:05, and of the next."""
    sync(world, NOON - 20 * DAY)
    for night in range(8):
        midnight = datetime(2026, 3, 2, tzinfo=UTC) + night * DAY
        open_sync = world.hub.add_run(world.credential, status="running", started_at=midnight - 5 * MINUTE)
        live(world, midnight)
        world.hub.finish_run(open_sync, status="completed", at=midnight + 5 * MINUTE, records=(10, 9, 1))
        live(world, midnight + 6 * HOUR)

    found = daily(world, "day, syncs_total, syncs_open, is_vanished")
    assert found == [(date(2026, 3, 2) + night * DAY, 1, 0, False) for night in range(8)]
    assert weekly_syncs(world) == 8


def test_a_long_window_does_not_miss_the_long_syncs_of_its_first_days(world: MonitoredWorld) -> None:
    """After days without a run: what the late pass remembers is of newer days."""
    sync(world, NOON - 20 * DAY)
    sync(world, NOON - 6 * DAY, started_at=NOON - 9 * DAY)
    restate(world, TODAY - 6 * DAY, TODAY - 6 * DAY)
    live(world, NOON + MINUTE, length=7 * DAY)

    assert daily(world, "day, syncs_total, is_vanished") == [(TODAY - 6 * DAY, 1, False)]


def live(world: MonitoredWorld, at: datetime, *, length: timedelta = 6 * HOUR) -> dict[str, Any]:
    """Run the task of the window that ends at an instant."""
    facts = RunFacts(params={}, interval=(at - length, at), run_after=at, is_backfill=False, last_try=True)
    return update_daily(facts, now=at + MINUTE)


def test_a_deleted_credential_keeps_its_history(world: MonitoredWorld) -> None:
    """Beside one whose data type was corrected, which does not keep the wrong one."""
    other = world.hub.add_credential(world.hub.add_company("Beta Plumbing"))
    sync(world, NOON - 20 * DAY)
    for credential in (world.credential, other):
        sync(world, NOON - DAY, credential=credential)
    restate(world, TODAY - DAY)
    on_source(world, "DELETE FROM servicetitan_credentials WHERE id = %s", other)
    on_source(world, "UPDATE servicetitan_sync_logs SET data_type = 'invoices'")
    done = restate(world, TODAY - DAY, at=NOON + MINUTE)

    assert daily(world, "company_name, data_type, syncs_total, is_vanished") == [
        ("Acme Heating", "invoices", 1, False),
        ("Beta Plumbing", "both", 1, True),
    ]
    assert (done.removed, done.vanished) == (1, 1)


def test_a_credential_that_is_deleted_while_days_are_restated_keeps_its_history(world: MonitoredWorld) -> None:
    """Its rows are gone from the days still to come, and so is it: nothing of it has moved."""
    other = world.hub.add_credential(world.hub.add_company("Beta Plumbing"))
    on_source(world, "CREATE INDEX ON servicetitan_sync_logs (completed_at)")  # or so few rows are read all at once
    sync(world, NOON - 20 * DAY)
    for age in range(6):
        sync(world, NOON - age * DAY - MINUTE, credential=other)
    restate(world, TODAY - 5 * DAY)
    before = daily(world)

    def delete_it(progress: Progress) -> None:
        if progress.days_done == 1:
            on_source(world, "DELETE FROM servicetitan_credentials WHERE id = %s", other)

    done = restate_days(
        world.source_dsn,
        world.monitoring_dsn,
        policy=Policy(),
        days=days_between(TODAY - 5 * DAY, TODAY),
        as_of=NOON + MINUTE,
        clock=lambda: NOON + MINUTE,
        slack=7 * DAY,
        rows_per_read=1,
        progress=delete_it,
    )

    assert daily(world) == before
    assert (done.removed, done.vanished > 0) == (0, True)


@pytest.mark.parametrize(
    ("change", "fields", "with_detail"),
    [
        pytest.param("SELECT 1", 1, 1, id="as it was"),
        pytest.param(
            "ALTER TABLE servicetitan_sync_logs ALTER error_details TYPE bytea USING NULL",
            1,
            1,
            id="of a type that cannot be read: what is known stays",
        ),
        pytest.param("UPDATE servicetitan_sync_logs SET error_details = NULL", 0, 0, id="empty: none is left"),
        pytest.param("ALTER TABLE servicetitan_sync_logs DROP error_details", 0, 0, id="no such column: none is left"),
    ],
)
def test_details_that_cannot_be_read_any_more_are_kept(
    world: MonitoredWorld, change: str, fields: int, with_detail: int
) -> None:
    """Which is not that there are none."""
    sync(world, NOON - 20 * DAY)
    sync(world, NOON - DAY, data_type="customers", error_details=DETAILS)
    restate(world, TODAY - DAY)
    assert world.rows("SELECT field FROM monitoring.field_quality_daily") == [{"field": "zip"}]
    on_source(world, change)
    restate(world, TODAY - DAY, at=NOON + MINUTE)

    assert len(world.rows("SELECT field FROM monitoring.field_quality_daily")) == fields
    assert daily(world, "syncs_with_detail") == [(with_detail,)]

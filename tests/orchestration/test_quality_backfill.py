"""Which days a backfill takes, by whose connection it reads, what it would be, and what it refuses."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.orchestration.backfill_days import (
    Month,
    Which,
    days_asked_for,
    in_batches,
    months_between,
    undone_days,
    which_of,
)
from include.orchestration.day_restatement import Progress
from include.orchestration.history import open_history, wanted_days
from include.orchestration.quality_backfill import Pace, plan_months, restate_month, restate_range
from include.sync_health.errors import MonitorError, PolicyError, RequestError, SourceError
from include.warehouse.quality_daily import days_between
from tests.orchestration.monitored_world import MonitoredWorld, connection_of, monitored_world
from tests.orchestration.quality_history import DAY, FIRST, LAST, NOW, OLDEST, fill, is_silent, stored

DAYS = days_between(FIRST, LAST)
DATES = st.dates(date(2000, 1, 1), date(2040, 1, 1))


@pytest.fixture
def world(
    make_database: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[MonitoredWorld]:
    """Weeks of messy syncs, nothing computed yet."""
    with monitored_world(make_database, monkeypatch, tmp_path) as made:
        fill(made)
        yield made


def also(world: MonitoredWorld, text: str) -> None:
    """Add to the policy file."""
    world.overlay.write_text(f"{world.overlay.read_text()}\n{text}\n")


def params(**changes: Any) -> dict[str, Any]:
    """Return the Params of the whole range."""
    return {"from": FIRST.isoformat(), "to": LAST.isoformat(), "days": "all", "dry_run": False} | changes


@given(first=DATES, length=st.integers(0, 900))
def test_months_are_the_range_once(first: date, length: int) -> None:
    """In order, without gap or overlap, each within one calendar month."""
    last = first + timedelta(days=length)
    months = months_between(first, last)

    assert [day for month in months for day in month.days()] == days_between(first, last)
    assert all((each.first.year, each.first.month) == (each.last.year, each.last.month) for each in months)
    assert len({each.label for each in months}) == len(months)


def test_no_day_is_no_month() -> None:
    assert months_between(date(2026, 1, 2), date(2026, 1, 1)) == ()


@given(
    days=st.lists(st.sampled_from(days_between(date(2026, 1, 1), date(2026, 6, 1))), unique=True).map(sorted),
    newest_first=st.booleans(),
    done=st.integers(0, 200),
)
def test_what_is_done_and_what_is_not_are_all_days(days: list[date], newest_first: bool, done: int) -> None:
    """Wherever it stops: the batches hold each day once, and those that are left are the last of them."""
    batches = in_batches(days, newest_first=newest_first)
    order = [day for batch in batches for day in batch]
    assert sorted(order) == days
    assert list(undone_days(batches, done=done)) == order[done:]


@pytest.mark.parametrize(
    ("first", "last", "says"),
    [
        pytest.param(None, None, "from: the first day is missing; give one, such as 2026-03-01", id="nothing"),
        pytest.param("", None, "from: '' is no date; write it as YYYY-MM-DD", id="an empty text"),
        pytest.param("2026-03-01", "", "to: '' is no date; write it as YYYY-MM-DD", id="an empty end is not yesterday"),
        pytest.param("2026-W10-1", None, "from: '2026-W10-1' is no date", id="a day of a week's number"),
        pytest.param("March", None, "from: 'March' is no date; write it as YYYY-MM-DD", id="a word"),
        pytest.param("20260301", None, "from: '20260301' is no date", id="another form of a date"),
        pytest.param("2026-02-30", None, "from: '2026-02-30' is no date", id="a day that no calendar has"),
        pytest.param("2026-03-01", "2026-13-01", "to: '2026-13-01' is no date", id="a month that no calendar has"),
        pytest.param("2026-03-05", "2026-03-04", "to: 2026-03-04 lies before from, 2026-03-05", id="backwards"),
        pytest.param(
            "2026-03-10", None, "to: 2026-03-09 (yesterday, where none is given) lies before from", id="only today"
        ),
        pytest.param("2026-03-01", "2026-03-11", "to: 2026-03-11 lies in the future; today is 2026-03-10", id="future"),
        pytest.param("1970-01-01", None, "from: 1970-01-01 lies before all history; choose a day from", id="an epoch"),
        pytest.param("0001-01-01", None, "from: 0001-01-01 lies before all history", id="the first of all days"),
    ],
)
def test_a_range_that_makes_no_sense_is_one_line(first: str | None, last: str | None, says: str) -> None:
    """With the name of the Param, its value and the fix."""
    with pytest.raises(RequestError) as refused:
        days_asked_for(first, last, timezone="UTC", now=NOW)

    assert str(refused.value).startswith(says)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("zone", "last", "found"),
    [
        pytest.param("UTC", None, date(2026, 3, 9), id="yesterday is the last, where none is given"),
        pytest.param("Pacific/Auckland", None, date(2026, 3, 10), id="yesterday of the reporting zone"),
        pytest.param("UTC", "2026-03-10", date(2026, 3, 10), id="today may be asked for"),
        pytest.param("Pacific/Auckland", "2026-03-11", date(2026, 3, 11), id="where it is tomorrow already"),
    ],
)
def test_the_last_day(zone: str, last: str | None, found: date) -> None:
    """Noon of March 10 in UTC."""
    assert days_asked_for("2026-03-01", last, timezone=zone, now=NOW) == (date(2026, 3, 1), found)


def test_an_unknown_choice_of_days_is_one_line() -> None:
    assert which_of(None) is Which.ALL
    with pytest.raises(RequestError, match="days: 'some' is not known; choose one of all, missing"):
        which_of("some")


def test_how_far_it_is_is_one_line() -> None:
    """Rates since it began; what is left at the pace until now."""
    ticks = iter([0.0, 10.0, 40.0])
    pace = Pace(clock=lambda: next(ticks))
    half = Progress(days_done=10, days_total=40, rows_read=300_000, rows_written=1_200, day=FIRST)
    whole = Progress(days_done=40, days_total=40, rows_read=1_200_000, rows_written=4_800, day=LAST)

    assert pace.line(half) == ("10 of 40 days, 300,000 rows read, 1,200 written, 30,000 rows/s, about 30 seconds left")
    assert pace.line(whole) == "40 of 40 days, 1,200,000 rows read, 4,800 written, 30,000 rows/s"


def test_a_month_tells_how_far_it_is(world: MonitoredWorld, caplog: pytest.LogCaptureFixture) -> None:
    """At most ten lines and a last one, with the month's name; the result has counts only."""
    with caplog.at_level(logging.INFO, logger="servicetitan.quality_backfill"):
        counts = restate_month({"month": "2026-03", "first": "2026-03-01", "last": "2026-03-09"}, params(), now=NOW)

    told = [message for message in caplog.messages if " of 9 days, " in message]
    assert 1 <= len(told) <= 10
    assert all(message.startswith("2026-03: ") for message in told)
    assert told[-1].startswith("2026-03: 9 of 9 days, ")
    assert counts["month"] == "2026-03"
    assert (counts["days"], counts["refused"]) == (9, 0)
    assert counts["rows"] > 0
    assert all(isinstance(count, int) for name, count in counts.items() if name != "month")


def test_missing_days_are_those_that_are_not_final_as_of_now(world: MonitoredWorld) -> None:
    """Never computed, provisional, of another zone or definition; the others are left alone."""
    history = open_history(now=NOW)
    assert wanted_days(history, DAYS, which=Which.MISSING) == DAYS

    restate_range(history, [DAYS[2:]], clock=lambda: NOW)
    assert wanted_days(history, DAYS, which=Which.MISSING) == [*DAYS[:2], *days_between(date(2026, 3, 7), LAST)]
    with psycopg.connect(world.monitoring_dsn) as conn:
        conn.execute("UPDATE monitoring.quality_day SET calc_version = 1 WHERE day = %s", (DAYS[3],))
        conn.execute("UPDATE monitoring.quality_day SET timezone = 'Europe/Berlin' WHERE day = %s", (DAYS[4],))
    assert wanted_days(history, DAYS[:6], which=Which.MISSING) == [*DAYS[:2], DAYS[3], DAYS[4]]

    (march, february) = plan_months(params(days="missing"), now=NOW)
    assert restate_month(february, params(days="missing"), now=NOW)["days"] == 2
    assert restate_month(march, params(days="missing"), now=NOW)["days"] == 5
    assert restate_month(february, params(days="missing"), now=NOW) == {"month": "2026-02"}
    assert [each["month"] for each in plan_months(params(days="missing"), now=NOW)] == ["2026-03"]


def test_a_day_that_the_zone_skips_is_none(world: MonitoredWorld) -> None:
    """Samoa had no December 30, 2011."""
    also(world, "reporting: {timezone: Pacific/Apia}")
    days = days_between(date(2011, 12, 29), date(2011, 12, 31))

    assert wanted_days(open_history(now=NOW), days, which=Which.ALL) == [days[0], days[2]]


def test_a_dry_run_writes_nothing_and_says_what_it_would_be(
    world: MonitoredWorld, caplog: pytest.LogCaptureFixture
) -> None:
    """About; what is older than the source is told apart."""
    restate_range(open_history(now=NOW), [DAYS[:4]], clock=lambda: NOW)
    tables = stored(world)
    versions = world.rows("SELECT * FROM monitoring.policy_version")

    with caplog.at_level(logging.INFO, logger="servicetitan.quality_backfill"):
        assert plan_months(params(**{"from": "2026-02-10"}, dry_run=True), now=NOW) == []

    told = [each.getMessage() for each in caplog.records if each.name == "servicetitan.quality_backfill"]
    head, february, march, total = [line.split() for line in told if "dry run" not in line]
    assert head == ["month", "days", "too", "old", "to", "read", "to", "write", "stored", "final"]
    assert (february[:3], march[:3], total[:3]) == (
        ["2026-02", "19", "10"],
        ["2026-03", "9", "0"],
        ["total", "28", "10"],
    )
    assert february[5:] == [str(sum(row["rows"] for row in tables["quality_day"][:3])), "3"]
    assert int(total[3].lstrip("~")) >= 400
    real = restate_range(open_history(now=NOW), [DAYS], clock=lambda: NOW).counts
    about = int(march[4].lstrip("~")) / 9
    assert 0.5 * about <= (real["rows"] + real["unchanged"]) / len(DAYS) <= 2 * about
    assert world.rows("SELECT * FROM monitoring.policy_version") == versions
    assert is_silent(world)


@pytest.mark.parametrize(
    ("index", "scans", "note"),
    [
        pytest.param(None, ["scans", "~5", "~5", "~10"], "about 10 scans; with an index on started_at", id="no index"),
        pytest.param("started_at", ["final", "0", "0", "0"], None, id="an index on the start"),
    ],
)
def test_an_estimate_says_how_often_a_log_without_an_index_is_gone_through(
    world: MonitoredWorld, caplog: pytest.LogCaptureFixture, index: str | None, scans: list[str], note: str | None
) -> None:
    """Before a backfill as in a dry run: of a month the oldest start, and two for each of its two reads."""
    with psycopg.connect(world.source_dsn) as owner:
        owner.execute("ALTER TABLE servicetitan_sync_logs DROP CONSTRAINT servicetitan_sync_logs_pkey")
        if index:
            owner.execute(f"CREATE INDEX ON servicetitan_sync_logs ({index})".encode())
    with caplog.at_level(logging.INFO, logger="servicetitan.quality_backfill"):
        plan_months(params(), now=NOW)

    told = [each.getMessage() for each in caplog.records if each.name == "servicetitan.quality_backfill"]
    assert [line.split()[-1] for line in told[:4]] == scans
    assert [note in line for line in told[4:]] == ([True] if note else [])


def test_a_dry_run_left_the_tables_as_they_were(world: MonitoredWorld) -> None:
    """Not even the ledger moved."""
    before = stored(world)
    plan_months(params(dry_run=True), now=NOW)

    assert stored(world) == before == {table: [] for table in before}


def test_days_older_than_the_source_are_refused(world: MonitoredWorld) -> None:
    """Counted and told; what was stored of them stays."""
    with psycopg.connect(world.monitoring_dsn) as conn:
        conn.execute(
            "INSERT INTO monitoring.quality_day (day, read_at, rows, is_final, calc_version)"
            " VALUES ('2026-02-15', '2026-02-20T00:00Z', 4, true, 2)"
        )
    days = days_between(date(2026, 2, 14), FIRST)
    done = restate_range(open_history(now=NOW), [days], clock=lambda: NOW)

    assert done.refused == tuple(days_between(date(2026, 2, 14), OLDEST.date() - DAY))
    assert done.counts["refused"] == 6
    assert done.counts["days"] == len(days) - 6
    kept = world.rows("SELECT rows FROM monitoring.quality_day WHERE day = '2026-02-15'")
    assert kept == [{"rows": 4}]


def test_a_replica_is_read_where_the_policy_names_one(world: MonitoredWorld) -> None:
    """The primary is not even asked; the time-out is the backfill's own."""
    also(world, "backfill: {connection: hub_plus_replica, statement_timeout: 9m}")
    with pytest.raises(
        MonitorError, match=r"^backfill\.connection: connection 'hub_plus_replica' is not configured; set "
    ):
        open_history(now=NOW)
    world.environment.setenv("AIRFLOW_CONN_HUB_PLUS_REPLICA", connection_of(world.source_dsn))
    world.environment.delenv("AIRFLOW_CONN_HUB_PLUS_DB")

    history = open_history(now=NOW)
    assert (history.policy.source.connection, history.policy.source.statement_timeout) == (
        "hub_plus_replica",
        timedelta(minutes=9),
    )
    assert restate_range(history, [DAYS], clock=lambda: NOW).counts["days"] == len(DAYS)
    assert len(plan_months(params(), now=NOW)) == 2


@pytest.mark.parametrize(
    ("backfill", "named"),
    [
        pytest.param(
            "statement_timeout: 1s",
            "connection 'hub_plus_db' (source.connection), or raise backfill.statement_timeout",
            id="from the source itself",
        ),
        pytest.param(
            "connection: hub_plus_replica, statement_timeout: 1s",
            "connection 'hub_plus_replica' (backfill.connection), or raise backfill.statement_timeout",
            id="from a replica",
        ),
    ],
)
def test_a_time_out_of_a_backfill_names_the_keys_that_are_in_force(
    world: MonitoredWorld, backfill: str, named: str
) -> None:
    """Raising ``source.statement_timeout`` would change nothing."""
    also(world, f"backfill: {{{backfill}}}")
    world.environment.setenv("AIRFLOW_CONN_HUB_PLUS_REPLICA", connection_of(world.source_dsn))
    history = open_history(now=NOW)
    with psycopg.connect(world.source_dsn) as slow:
        # A view of the log's name that answers as slowly as a table without an index may.
        slow.execute("ALTER TABLE servicetitan_sync_logs RENAME TO kept_logs")
        slow.execute("CREATE VIEW servicetitan_sync_logs AS SELECT kept_logs.* FROM kept_logs, pg_sleep(5)")
    with pytest.raises(SourceError) as refused:
        restate_range(history, [DAYS], clock=lambda: NOW)

    assert refused.value.cause == "timeout"
    assert str(refused.value).endswith(f"look at the load of the source, {named}")


def test_reads_are_as_small_and_as_slow_as_the_policy_says(world: MonitoredWorld) -> None:
    """A pause between reads of few rows: progress comes in pieces."""
    also(world, "backfill: {pause: 1s, rows_per_read: 1000}")
    told: list[Progress] = []
    restate_range(open_history(now=NOW), [DAYS], clock=lambda: NOW, progress=told.append)

    assert len(told) >= 2
    assert [each.days_done for each in told] == sorted({each.days_done for each in told})
    assert told[-1].days_done == told[-1].days_total == len(DAYS)
    assert told[-1].day == LAST


def test_a_doubt_about_the_time_zone_stops_it(world: MonitoredWorld) -> None:
    """Every row would count on another day's side of midnight."""
    stamp = NOW + timedelta(hours=3)
    for minutes in (1, 2, 3):
        world.succeed(world.credential, at=stamp + timedelta(minutes=minutes))
    world.tick(NOW)
    with pytest.raises(SourceError, match="no day is restated"):
        plan_months(params(), now=NOW)
    assert stored(world)["quality_day"] == []


def test_a_wrong_policy_file_stops_it(world: MonitoredWorld) -> None:
    """Somebody is there to mend it: the last good one is no substitute."""
    world.tick(NOW)
    also(world, "summary_above: x")
    with pytest.raises(PolicyError, match="summary_above"):
        plan_months(params(), now=NOW)


def test_a_month_by_its_name() -> None:
    month = Month(first=date(2026, 1, 30), last=date(2026, 1, 31))
    assert (month.label, month.days()) == ("2026-01", [date(2026, 1, 30), date(2026, 1, 31)])
    assert datetime.combine(month.last, datetime.min.time(), tzinfo=UTC) < NOW

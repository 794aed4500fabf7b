"""However the days are computed, and in whichever order, pieces or company: the tables are the same."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import psycopg
import pytest
import time_machine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from include.cli import main
from include.orchestration.backfill_days import in_batches, months_between
from include.orchestration.check_tasks import RunFacts
from include.orchestration.daily_quality_run import update_daily
from include.orchestration.history import History, open_history
from include.orchestration.quality_backfill import plan_months, restate_month, restate_range
from include.sync_health.daily_quality import day_bounds
from include.warehouse.quality_daily import days_between
from tests.orchestration.monitored_world import MonitoredWorld, monitored_world
from tests.orchestration.quality_history import DAY, FIRST, HOUR, LAST, MINUTE, NOW, fill, forget, is_silent, stored

ROOT = Path(__file__).parents[2]
PARAMS = {"from": FIRST.isoformat(), "to": LAST.isoformat(), "days": "all", "dry_run": False}
DAYS = days_between(FIRST, LAST)
SHELL = ["quality", "--from", FIRST.isoformat(), "--to", LAST.isoformat()]


@pytest.fixture
def world(
    make_database: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[MonitoredWorld]:
    """Weeks of messy syncs, nothing computed yet."""
    with monitored_world(make_database, monkeypatch, tmp_path) as made:
        fill(made)
        yield made


def in_zone(world: MonitoredWorld, zone: str, *more: str) -> None:
    """Choose the reporting time zone, and what else the policy file is to say."""
    world.overlay.write_text("\n".join([world.overlay.read_text(), f"reporting: {{timezone: {zone}}}", *more]))


def by_the_checks_own_dag(zone: str) -> None:
    """As ``airflow backfill create`` has it: run by run over the windows of the 6-hour check."""
    at, until = day_bounds(FIRST, timezone=zone)[0], day_bounds(LAST, timezone=zone)[1]
    at = at.replace(hour=at.hour // 6 * 6)
    while at < until:
        run(at, is_backfill=True)
        at += 6 * HOUR


def run(start: datetime, *, is_backfill: bool) -> dict[str, Any]:
    """One run of ``update_daily``."""
    facts = RunFacts(
        params={}, interval=(start, start + 6 * HOUR), run_after=start, is_backfill=is_backfill, last_try=True
    )
    return update_daily(facts, now=NOW)


def by_months(zone: str) -> None:
    """As the tasks of the backfill's DAG do."""
    for month in plan_months(PARAMS, now=NOW):
        restate_month(month, PARAMS, now=NOW)


def by_the_shell(zone: str) -> None:
    """As somebody at night does."""
    with time_machine.travel(NOW, tick=False):
        assert main(SHELL) == 0


def restate(days: list[date] = DAYS, *, newest_first: bool = False, history: History | None = None, **more: Any) -> Any:
    """Restate days in this process."""
    batches = in_batches(days, newest_first=newest_first)
    return restate_range(history or open_history(now=NOW), batches, clock=lambda: NOW, **more)


WAYS = {"run by run": by_the_checks_own_dag, "month by month": by_months, "from the shell": by_the_shell}


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Kathmandu"])
def test_three_ways_of_computing_give_one_result(world: MonitoredWorld, zone: str) -> None:
    """And each of them twice; nobody is told."""
    in_zone(world, zone)
    found: dict[str, Any] = {}
    for name, way in WAYS.items():
        forget(world)
        way(zone)
        found[name] = stored(world)
        way(zone)
        found[f"{name}, again"] = stored(world)

    first = found["run by run"]
    assert {name: tables == first for name, tables in found.items()} == dict.fromkeys(found, True)
    assert len(first["quality_daily"]) > 60
    assert len(first["field_quality_daily"]) > 10
    assert [row["day"] for row in first["quality_day"]] == DAYS
    assert all(row["is_final"] for row in first["quality_daily"] if row["day"] <= date(2026, 3, 6))
    assert not any(row["is_final"] for row in first["quality_daily"] if row["day"] > date(2026, 3, 6))
    assert first["quality_revision"] == []
    assert is_silent(world)


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_after_late_corrections_it_is_as_if_they_had_always_been(
    world: MonitoredWorld, way: Callable[[str], None]
) -> None:
    """Counts, ends, statuses, data types and details changed after the days were final, in New York's 23 hours too."""
    zone = "America/New_York"
    in_zone(world, zone)
    restate()
    before = stored(world)
    correct(world)
    way(zone)
    corrected = stored(world)
    forget(world)
    restate()

    assert corrected["quality_revision"]
    assert corrected["quality_daily"] != before["quality_daily"]
    assert corrected | {"quality_revision": []} == stored(world)


def correct(world: MonitoredWorld) -> None:
    """Change every third row in one way or another, as recoveries and corrections do."""
    with psycopg.connect(world.source_dsn) as conn:
        for change in (
            "records_failed = 0, records_successful = records_processed WHERE id % 15 = 0",
            "completed_at = completed_at + interval '9 hours' WHERE id % 15 = 3",
            "status = 'failed', error_message = 'HTTP 503' WHERE id % 15 = 6 AND status = 'completed'",
            "data_type = 'invoices' WHERE id % 15 = 9",
            "error_details = NULL WHERE id % 15 = 12",
        ):
            conn.execute(f"UPDATE servicetitan_sync_logs SET {change}".encode())


def test_one_way_after_another_writes_nothing(world: MonitoredWorld) -> None:
    """What is stored already is the same: each row keeps the moment at which it was computed."""
    by_months("UTC")
    before = world.rows("SELECT * FROM monitoring.quality_daily ORDER BY day, credential_id, data_type")

    done = restate()
    by_the_checks_own_dag("UTC")

    assert (done.counts["rows"], done.counts["vanished"], done.counts["revised"]) == (0, 0, 0)
    assert done.counts["unchanged"] >= len(before) > 0
    assert world.rows("SELECT * FROM monitoring.quality_daily ORDER BY day, credential_id, data_type") == before


def test_backwards_is_forwards(world: MonitoredWorld) -> None:
    """The newest month first, and day by day backwards."""
    restate()
    forwards = stored(world)
    forget(world)
    restate(newest_first=True)
    by_month = stored(world)
    forget(world)
    for day in reversed(DAYS):
        restate([day])

    assert by_month == stored(world) == forwards


class Killed(Exception):
    """What ends a backfill half-way."""


@pytest.mark.parametrize("days", [1, 2], ids=["after a day", "after some days"])
def test_one_that_dies_half_way_leaves_whole_days_and_goes_on(world: MonitoredWorld, days: int) -> None:
    """What is there is as it would be in the end; started again, it finishes."""
    restate()
    whole = stored(world)
    forget(world)
    told: list[int] = []

    def die(progress: Any) -> None:
        told.append(progress.days_done)
        if len(told) >= days:
            raise Killed

    batches = [[day] for day in DAYS]
    with pytest.raises(Killed):
        restate_range(open_history(now=NOW), batches, clock=lambda: NOW, progress=die)
    done = [row["day"] for row in stored(world)["quality_day"]]
    assert done == DAYS[:days]
    for table, rows in stored(world).items():
        assert rows == [row for row in whole[table] if row["day"] in done]

    restate()
    assert stored(world) == whole
    assert is_silent(world)


def test_a_process_that_is_killed_leaves_whole_days_and_is_started_again(world: MonitoredWorld) -> None:
    """No handler runs, no transaction is closed by us."""
    restate()
    whole = stored(world)
    forget(world)
    in_zone(world, "UTC", "backfill: {pause: 20s, rows_per_read: 1000}")
    process = subprocess.Popen(
        [sys.executable, "-m", "include.cli", *SHELL], cwd=ROOT, env=dict(os.environ), stderr=subprocess.DEVNULL
    )
    until = time.monotonic() + 60
    while not stored(world)["quality_day"]:
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()

    done = [row["day"] for row in stored(world)["quality_day"]]
    assert 0 < len(done) < len(DAYS)
    assert stored(world)["quality_daily"] == final_as(
        stored(world), [row for row in whole["quality_daily"] if row["day"] in done]
    )
    in_zone_again = world.overlay.read_text().replace("pause: 20s", "pause: 0s")
    world.overlay.write_text(in_zone_again)
    restate_later()
    assert {table: len(rows) for table, rows in stored(world).items()} == {t: len(rows) for t, rows in whole.items()}
    assert stored(world)["quality_daily"] == final_as(stored(world), whole["quality_daily"])


def final_as(tables: dict[str, Any], rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return rows with the ``is_final`` of what is stored: the process that was killed went by another clock."""
    finals = {row["day"]: row["is_final"] for row in tables["quality_daily"]}
    return [row | {"is_final": finals[row["day"]]} for row in rows]


def restate_later() -> None:
    """Restate all days by a clock that is ahead of the machine's, whose readings the killed process stored."""
    later = max(NOW, datetime.now(NOW.tzinfo)) + MINUTE
    restate_range(open_history(now=later), [DAYS], clock=lambda: later)


def test_two_at_once_give_what_one_does(world: MonitoredWorld) -> None:
    """One from the old end, one from the new, over the same days."""
    restate()
    alone = stored(world)
    forget(world)

    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(restate, newest_first=False), pool.submit(restate, newest_first=True)]:
            assert done.result().counts["days"] + done.result().counts["superseded"] == len(DAYS)

    assert stored(world) == alone
    assert is_silent(world)


def test_a_live_run_beside_it_restates_its_days(world: MonitoredWorld) -> None:
    """Both write the newest days; the last of them is right, whoever it was."""
    today = NOW.date()
    restate([*DAYS, today])
    alone = stored(world, last=today)
    forget(world)

    with ThreadPoolExecutor(2) as pool:
        live = pool.submit(run, NOW - 6 * HOUR, is_backfill=False)
        back = pool.submit(restate, [*DAYS, today], newest_first=True)
        assert live.result()["mode"] == "live"
        back.result()

    assert stored(world, last=today) == alone
    assert is_silent(world)


def test_alerts_and_their_messages_are_as_before(world: MonitoredWorld) -> None:
    """An open alert, one message sent and one due: history moves none of them."""
    world.fail_three_times(world.credential, before=NOW)
    world.tick(NOW)
    tables = ("alert", "alert_event", "delivery", "check_run")

    def as_it_is() -> dict[str, Any]:
        return {table: world.rows(f"SELECT * FROM monitoring.{table} ORDER BY 1") for table in tables}

    before = as_it_is()
    assert before["delivery"]
    for way in WAYS.values():
        way("UTC")
    with time_machine.travel(NOW, tick=False):
        assert main([*SHELL, "--newest-first", "--missing"]) == 0

    assert as_it_is() == before
    assert world.slack_texts() == []
    # A sync that ended well is told of by the live check, as ever.
    world.succeed(world.credential, at=NOW + 10 * MINUTE)
    world.tick_and_drain(NOW + 15 * MINUTE)
    assert world.slack_texts()


@pytest.fixture
def split_world(world: MonitoredWorld) -> tuple[MonitoredWorld, Any]:
    """A world that all examples share, and what computing all days at once gives."""
    restate()
    return world, stored(world)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.sets(st.sampled_from(DAYS[1:]), max_size=4), shuffled=st.randoms(use_true_random=False))
def test_wherever_the_range_is_cut(split_world: tuple[MonitoredWorld, Any], cuts: set[date], shuffled: Any) -> None:
    """Pieces of any length in any order are the whole."""
    world, whole = split_world
    forget(world)
    edges = [FIRST, *sorted(cuts), LAST + DAY]
    pieces = [days_between(start, end - DAY) for start, end in pairwise(edges)]
    shuffled.shuffle(pieces)
    restate_range(open_history(now=NOW), pieces, clock=lambda: NOW)

    assert stored(world) == whole


def test_the_months_of_the_range_are_those_of_the_plan(world: MonitoredWorld) -> None:
    """The newest first, cut to what was asked for, as plain strings."""
    assert plan_months(PARAMS, now=NOW) == [
        {"month": "2026-03", "first": "2026-03-01", "last": "2026-03-09"},
        {"month": "2026-02", "first": "2026-02-26", "last": "2026-02-28"},
    ]
    assert [month.label for month in months_between(FIRST, LAST)] == ["2026-02", "2026-03"]
    assert timedelta(days=len(DAYS)) == LAST - FIRST + DAY

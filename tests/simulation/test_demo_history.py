"""The months before the demo's week: a trend to look at, of which no alert comes and none is missing."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta

import psycopg
import pytest

from include.orchestration.policy_file import load_policy
from include.orchestration.tick_runner import TickRunner
from include.simulation.demo_history import PAST_DAYS, past_runs, with_past
from include.simulation.demo_quality import compute_history
from include.simulation.demo_script import DemoWorld, demo_plan
from include.simulation.generated_timeline import SEASONING, Generated, generate
from include.simulation.hub_plus import create_source
from include.simulation.messy_rows import Messy, PlannedRun
from include.simulation.timeline import Fold, RowName, Table
from include.sync_health.checks import CHECKS
from include.warehouse.migration import upgrade

MakeDatabase = Callable[..., str]
NOW = datetime(2026, 11, 24, 23, 40, 7, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)

COMPARABLE = """
    SELECT count(*)
    FROM monitoring.quality_daily AS judged JOIN monitoring.quality_day AS computed USING (day)
    WHERE day = %(day)s AND judged.quality_score IS NOT NULL AND computed.read_at >= day + 1 AND 4 <= (
        SELECT count(*)
        FROM monitoring.quality_daily AS before
        WHERE before.credential_id = judged.credential_id AND before.data_type = judged.data_type
          AND before.day < judged.day AND before.day >= judged.day - 56 AND (judged.day - before.day) %% 7 = 0
          AND before.is_final AND before.quality_score IS NOT NULL
    )
"""
"""How many keys of a whole day have what `quality_drop` compares it with."""


@functools.cache
def week(shape: str = "migrations") -> Generated:
    return generate(demo_plan(NOW, until=NOW + HOUR, shape=shape), until=NOW + HOUR)


@functools.cache
def past() -> tuple[PlannedRun, ...]:
    begin = week().plan.begin
    return tuple(past_runs(week().accounts, until=begin - SEASONING, days=PAST_DAYS, seed=1))


def score_of(back: int) -> float:
    """Return the percentage of records that succeeded on a day, by its number of days back from the end of the past."""
    day = (week().plan.begin - SEASONING).date() - back * DAY
    records = [run.records for run in past() if run.started_at.date() == day]
    return 100 * sum(good for _, good, _ in records) / sum(processed for processed, _, _ in records)


def test_its_days_are_whole_and_end_where_the_week_begins() -> None:
    begin = week().plan.begin
    days = {run.started_at.date() for run in past()}
    last = (begin - SEASONING).date()
    silent = last - 48 * DAY
    assert days == {last - back * DAY for back in range(PAST_DAYS + 1)} - {silent}
    assert max(run.completed_at or run.started_at for run in past()) < begin
    first_of_the_week = min(write.at for write in week().writes if write.table is Table.RUN)
    assert max(run.started_at for run in past()) < first_of_the_week + 4 * HOUR


def test_the_trend_has_its_episodes() -> None:
    assert score_of(110) < 96
    assert score_of(40) > 99
    assert all(score_of(back) < 95 for back in range(30, 35))
    assert score_of(29) > 99
    failed = Counter(run.status for run in past() if run.started_at.date() == day_back(17))
    assert failed["failed"] > 5 * failed["completed"]
    assert len([run for run in past() if run.started_at.date() == day_back(5)]) > 3 * len(
        [run for run in past() if run.started_at.date() == day_back(PAST_DAYS)]
    )


def day_back(number: int) -> date:
    """Return a day of the past, counted back from its end."""
    return (week().plan.begin - SEASONING).date() - number * DAY


def test_counts_add_up_and_every_run_has_ended() -> None:
    for run in past():
        processed, successful, rejected = run.records
        assert processed == successful + rejected
        assert run.completed_at is not None
        assert run.completed_at > run.started_at


def test_the_same_seed_gives_the_same_past_and_another_one_another() -> None:
    until = week().plan.begin - SEASONING
    few = week().accounts[:3]
    assert past_runs(few, until=until, days=5, seed=1) == past_runs(few, until=until, days=5, seed=1)
    assert past_runs(few, until=until, days=5, seed=1) != past_runs(few, until=until, days=5, seed=2)
    assert past_runs(few, until=until, days=0, seed=1) == []


@pytest.mark.parametrize("shape", ["migrations", "uuid"])
def test_the_week_is_the_same_behind_it(shape: str) -> None:
    """Its runs have later numbers, in its rows and in what must be told of them."""
    before = week(shape)
    after = with_past(before, past())
    old, new = Fold(before.writes), Fold(after.writes)
    old.play(NOW)
    new.play(NOW)

    def moved(name: RowName) -> RowName:
        return (name[0], name[1] + len(past())) if name[0] is Table.RUN else name

    assert {moved(name): row for name, row in old.rows.items()}.items() <= new.rows.items()
    assert len(new.rows) == len(old.rows) + len(past())
    numbers = {before.id_text(Table.RUN, name[1]): after.id_text(*moved(name)) for name in old.rows if name[0] == "run"}
    stuck = [
        (a.identity["sync"], b.identity["sync"])
        for a, b in zip(before.truths, after.truths, strict=True)
        if "sync" in a.identity
    ]
    assert stuck
    assert all(numbers[one] == other for one, other in stuck if one in numbers)
    assert after.messy[Messy.ZERO_RECORDS] > before.messy[Messy.ZERO_RECORDS]
    assert after.messy[Messy.HOSTILE_ERROR] == before.messy[Messy.HOSTILE_ERROR]


def test_numbers_rise_with_the_start() -> None:
    writes = with_past(week(), past()).writes
    started = [
        write.values["started_at"]
        for write in sorted(
            (write for write in writes if write.table is Table.RUN and write.values and "started_at" in write.values),
            key=lambda write: write.number,
        )
    ][: len(past())]
    assert started == sorted(started)


def test_no_alert_comes_of_it_and_none_is_missing(make_database: MakeDatabase) -> None:
    """Before midnight and after it, when yesterday is compared with the same weekday of the weeks before."""

    def alerts(days: int) -> tuple[list[tuple[object, ...]], int]:
        source, monitoring = make_database("past_source"), make_database("past_monitoring")
        create_source(source)
        upgrade(monitoring)
        with DemoWorld(source, since=NOW, past_days=days) as world:
            world.seed()
            compute_history(source, monitoring, since=NOW, now=NOW, tell=print)
            runner = TickRunner(
                source_conninfo=source,
                monitoring_conninfo=monitoring,
                policy=load_policy().policy,
                before_tick=world.advance,
                lag=timedelta(0),
            )
            for as_of in (NOW, NOW + HOUR / 10, NOW + HOUR, NOW + 1.25 * HOUR):
                for check in CHECKS.values():
                    runner.tick(check, as_of=as_of)
                # As the check's DAG does; what was yesterday's becomes whole.
                compute_history(source, monitoring, since=as_of, now=as_of, tell=print)
        with psycopg.connect(monitoring) as conn:
            found = conn.execute(
                # How much of its budget a service level has used is of the last 28 days, which the past is part of.
                "SELECT rule, credential_id, data_type, state, severity, title,"
                " CASE WHEN rule <> 'error_budget' THEN message END, opened_at, closed_at"
                " FROM monitoring.alert ORDER BY rule, credential_id, data_type, opened_at"
            ).fetchall()
            compared = conn.execute(COMPARABLE, {"day": NOW.date()}).fetchone()
        assert compared is not None
        return found, compared[0]

    (with_it, compared), (without, compared_without) = alerts(PAST_DAYS), alerts(0)
    assert with_it == without
    assert {row[0] for row in with_it} >= {"sync_failures", "consecutive_failures", "stuck_sync"}
    assert compared > 50
    assert compared_without == 0

"""The generated world in the database: the same however it is written, and odd in every way that is counted."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
import pytest

from include.simulation.generated_timeline import Generated, WorldPlan, generate
from include.simulation.generated_world import GeneratedWorld
from include.simulation.hub_plus import SHAPES, create_source
from include.simulation.messy_rows import HOSTILE_ERROR, HUGE_ERROR, UNKNOWN_STATUSES, Messy
from include.simulation.source_shapes import CREDENTIALS, shape_named
from include.simulation.timeline import Changes, Fold, Table, Write
from include.simulation.world_plan import HOSTILE_COMPANY, QUIET_HOURS, Account
from include.sync_health.frames import CANCELLED_BY_USER

MakeDatabase = Callable[..., str]
HOUR, DAY = timedelta(hours=1), timedelta(days=1)

AUTUMN = WorldPlan(begin=datetime(2026, 10, 29, tzinfo=UTC), shape="entities", timezone="America/New_York")
"""Over the change of New York's clocks on 1 November."""

PLAIN = WorldPlan(begin=datetime(2026, 11, 18, 7, 30, tzinfo=UTC), shape="migrations", timezone="UTC")


@functools.cache
def world(plan: WorldPlan, until: datetime | None = None) -> Generated:
    return generate(plan, until=until)


def written(make_database: MakeDatabase, generated: Generated, *instants: datetime) -> str:
    """Return the DSN of a source that holds the world, seeded at the first instant and carried on to the others."""
    dsn = make_database()
    create_source(dsn, shape=generated.plan.shape)
    with GeneratedWorld(dsn, generated) as writer:
        writer.seed(instants[0])
        for instant in instants[1:]:
            writer.advance(instant)
    return dsn


def dump(dsn: str, shape: str) -> dict[str, list[str]]:
    """Return every row of every table, all columns, by id."""
    form = shape_named(shape)
    with psycopg.connect(dsn) as conn:
        return {
            table: [row[0] for row in conn.execute(f"SELECT {table}::text FROM {table} ORDER BY id".encode())]
            for table in (form.company_table, CREDENTIALS, form.log_table)
        }


def count(dsn: str, generated: Generated, condition: str, *values: Any) -> int:
    table = shape_named(generated.plan.shape).log_table
    with psycopg.connect(dsn) as conn:
        row = conn.execute(f"SELECT count(*) FROM {table} WHERE {condition}".encode(), values).fetchone()
        assert row is not None
        return int(row[0])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("timezone", ["UTC", "America/New_York"])
def test_a_world_carried_on_is_the_one_seeded_later(make_database: MakeDatabase, shape: str, timezone: str) -> None:
    generated = world(replace(AUTUMN, shape=shape, timezone=timezone))
    begin, end = AUTUMN.begin, AUTUMN.end
    at_once = dump(written(make_database, generated, end), shape)
    in_steps = written(make_database, generated, begin + HOUR, begin + 2 * DAY, begin + 2 * DAY + HOUR / 12, end)
    assert dump(in_steps, shape) == at_once
    assert len(at_once[shape_named(shape).log_table]) > 3_000


def test_a_later_writer_goes_on_where_an_earlier_one_stopped(make_database: MakeDatabase) -> None:
    generated, pause = world(PLAIN), PLAIN.begin + 3 * DAY
    dsn = written(make_database, generated, pause)
    with GeneratedWorld(dsn, generated) as writer:
        with pytest.raises(ValueError, match="written up to"):
            writer.seed(PLAIN.end)
        writer.advance(PLAIN.end)
        writer.advance(pause)  # the past: nothing
    assert dump(dsn, PLAIN.shape) == dump(written(make_database, generated, PLAIN.end), PLAIN.shape)


@pytest.mark.parametrize("shape", ["migrations", "entities", "architecture"])
def test_other_writers_get_the_next_ids(make_database: MakeDatabase, shape: str) -> None:
    generated = world(replace(AUTUMN, shape=shape))
    dsn = written(make_database, generated, AUTUMN.begin + DAY, AUTUMN.begin + 2 * DAY)
    form = shape_named(shape)
    with psycopg.connect(dsn) as conn:
        for table in (form.company_table, CREDENTIALS, form.log_table):
            row = conn.execute(
                f"SELECT max(id) + 1, nextval(pg_get_serial_sequence('{table}', 'id')) FROM {table}".encode()
            ).fetchone()
            assert row is not None
            assert row[0] == row[1]


def test_ids_follow_the_order_of_commits_not_of_starts(make_database: MakeDatabase) -> None:
    generated = world(PLAIN)
    inserted: dict[int, datetime] = {}
    for write in generated.writes:
        if write.table is Table.RUN and write.values is not None:
            inserted.setdefault(write.number, write.at)
    in_order = [inserted[number] for number in sorted(inserted)]
    assert in_order == sorted(in_order)
    dsn = written(make_database, generated, PLAIN.end)
    with psycopg.connect(dsn) as conn:
        starts = [
            row[0]
            for row in conn.execute("SELECT started_at FROM servicetitan_sync_logs ORDER BY id")
            if row[0].replace(tzinfo=UTC) < PLAIN.end
        ]
    behind = sum(start < newest for start, newest in zip(starts, accumulate(starts, max), strict=True))
    assert behind >= generated.messy[Messy.LATE_COMMIT]


def test_the_same_seed_gives_the_same_world_and_another_one_another() -> None:
    assert generate(PLAIN) == world(PLAIN)
    assert generate(replace(PLAIN, seed=2)).writes != world(PLAIN).writes


def test_a_farther_horizon_only_adds() -> None:
    near, far = world(PLAIN, PLAIN.begin + 2 * DAY), world(PLAIN)
    assert list(near.writes) == [write for write in far.writes if write.at <= near.until]
    assert generate(PLAIN, until=PLAIN.end + 2 * DAY).writes[: len(far.writes)] == far.writes


@pytest.mark.parametrize("plan", [pytest.param(AUTUMN, id="entities"), pytest.param(PLAIN, id="migrations")])
def test_every_oddness_that_the_shape_allows_occurs(plan: WorldPlan) -> None:
    generated = world(plan)
    absent = {Messy.NULL_SYNC_TYPE, Messy.DST_HOUR} if plan is PLAIN else set()
    assert {kind for kind, number in generated.messy.items() if not number} == absent


@pytest.mark.parametrize("plan", [pytest.param(AUTUMN, id="entities"), pytest.param(PLAIN, id="migrations")])
def test_the_rows_are_odd_as_often_as_is_counted(make_database: MakeDatabase, plan: WorldPlan) -> None:
    generated = world(plan)
    dsn = written(make_database, generated, plan.end)
    end = plan.end.astimezone(ZoneInfo(plan.timezone)).replace(tzinfo=None)
    contradicts = "records_successful > records_processed OR records_failed > records_processed OR records_failed < 0"
    found = {
        Messy.NULL_SYNC_TYPE: count(dsn, generated, "sync_type IS NULL"),
        Messy.UNKNOWN_STATUS: count(dsn, generated, "status = ANY(%s)", list(UNKNOWN_STATUSES)),
        Messy.ZERO_RECORDS: count(dsn, generated, "status = 'completed' AND records_processed = 0"),
        Messy.CONTRADICTING_COUNTS: count(dsn, generated, contradicts),
        Messy.STORED_PROCESSING_TIME: count(dsn, generated, "processing_time_seconds IS NOT NULL"),
        Messy.NULL_PROCESSING_TIME: count(dsn, generated, "processing_time_seconds IS NULL AND status <> 'running'"),
        Messy.CANCELLED_AS_FAILED: count(dsn, generated, "status = 'failed' AND error_message = %s", CANCELLED_BY_USER),
        Messy.CANCELLED_STATUS: count(dsn, generated, "status = 'cancelled'"),
        Messy.STUCK_RUNNING: count(dsn, generated, "status = 'running' AND started_at < %s", end - HOUR),
        Messy.FUTURE_STAMP: count(dsn, generated, "started_at > %s", end + 300 * DAY),
        Messy.NEGATIVE_DURATION: count(dsn, generated, "completed_at = started_at - interval '5 seconds'"),
        Messy.HUGE_ERROR: count(dsn, generated, "error_message = %s", HUGE_ERROR),
        Messy.HOSTILE_ERROR: count(dsn, generated, "error_message = %s", HOSTILE_ERROR),
    }
    assert found == {kind: generated.messy[kind] for kind in found}


def test_companies_share_names_are_renamed_and_one_is_hostile(make_database: MakeDatabase) -> None:
    generated = world(PLAIN)
    renames = [
        write for write in generated.writes if write.table is Table.COMPANY and "created_at" not in (write.values or {})
    ]
    assert len(renames) == 3
    dsn = written(make_database, generated, PLAIN.end)
    with psycopg.connect(dsn) as conn:
        names = [row[0] for row in conn.execute("SELECT company_name FROM company")]
        pairs = conn.execute(
            f"SELECT count(*) FROM (SELECT company_id FROM {CREDENTIALS} GROUP BY 1 HAVING count(DISTINCT environment) = 2) x".encode()
        ).fetchone()
    assert len(set(names)) < len(names)
    assert HOSTILE_COMPANY in names
    assert pairs is not None
    assert pairs[0] >= 5


def test_credentials_come_go_and_are_never_used(make_database: MakeDatabase) -> None:
    generated = world(PLAIN)
    (deleted,) = (account for account in generated.accounts if account.deleted_at)
    (newcomer,) = (account for account in generated.accounts if account.created_at > PLAIN.begin)
    (unused,) = (account for account in generated.accounts if not account.is_in_use)

    def statuses(at: datetime) -> dict[int, str]:
        with psycopg.connect(written(make_database, generated, at)) as conn:
            return dict(conn.execute(f"SELECT id, connection_status FROM {CREDENTIALS}".encode()).fetchall())

    first, last = statuses(PLAIN.begin), statuses(PLAIN.end)
    assert set(first) - set(last) == {deleted.number}
    assert set(last) - set(first) == {newcomer.number}
    assert last[unused.number] == "inactive"


def test_tokens_of_both_kinds_are_renewed_in_time() -> None:
    generated = world(PLAIN)
    fold = Fold(generated.writes)
    fold.play(PLAIN.end)
    lifetimes = [
        row["token_expires_at"] - row["updated_at"]
        for (table, _), row in fold.rows.items()
        if table is Table.CREDENTIAL and row["token_expires_at"] is not None
    ]
    assert {lifetime for lifetime in lifetimes if lifetime > DAY} >= {30 * DAY, 60 * DAY}
    assert sum(lifetime == timedelta(minutes=15) for lifetime in lifetimes) > 15


def test_weekends_and_nights_are_quieter_for_some() -> None:
    saturday = datetime(2026, 11, 21, tzinfo=UTC)

    def starts(account: Account, day: datetime) -> list[datetime]:
        return [start for _, _, start in account.slots(since=day, until=day + DAY)]

    accounts = world(PLAIN).accounts
    resting = [account for account in accounts if account.rests_at_weekends and account.is_in_use]
    quiet = [account for account in accounts if account.quiet_from is not None and account.is_in_use]
    assert min(len(resting), len(quiet)) > 3
    for account in resting:
        assert len(starts(account, saturday)) < 0.6 * len(starts(account, saturday - 2 * DAY))
    for account in quiet:
        hours = {start.hour for start in starts(account, saturday - 2 * DAY)}
        assert len(hours) == 24 - QUIET_HOURS
    assert {account.cadence for account in accounts} == {HOUR, 4 * HOUR, DAY}


def test_the_writer_tells_its_secrets(make_database: MakeDatabase) -> None:
    dsn = make_database()
    create_source(dsn)
    with GeneratedWorld(dsn, world(PLAIN)) as writer:
        writer.seed(PLAIN.end)
    with psycopg.connect(dsn) as conn:
        rows = conn.execute(f"SELECT client_id, client_secret, access_token FROM {CREDENTIALS}".encode()).fetchall()
    stored = {value for row in rows for value in row if value}
    assert stored
    assert stored <= set(writer.secrets)


@pytest.mark.parametrize(
    ("instant", "told"),
    [
        pytest.param(datetime(2026, 11, 19), "timezone-aware", id="a naive instant"),  # noqa: DTZ001
        pytest.param(PLAIN.begin - HOUR, "not within", id="before the world began"),
        pytest.param(PLAIN.end + HOUR, "not within", id="after what was generated"),
    ],
)
def test_instants_that_make_no_sense_are_refused(make_database: MakeDatabase, instant: datetime, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        written(make_database, world(PLAIN), instant)


class TestFold:
    """The writes of a stretch of time, added up."""

    AT = datetime(2026, 11, 18, tzinfo=UTC)

    def test_what_came_and_went_within_it_is_nothing(self) -> None:
        writes = [Write(self.AT, Table.RUN, 1, {"status": "running"}), Write(self.AT + HOUR, Table.RUN, 1, None)]
        assert Fold(writes).play(self.AT + HOUR) == Changes()

    def test_a_row_of_before_is_updated_in_what_changed_and_deleted_once(self) -> None:
        run = (Table.RUN, 1)
        writes = [
            Write(self.AT, *run, {"status": "running", "records_processed": 0}),
            Write(self.AT + HOUR, *run, {"status": "completed"}, "it completed"),
            Write(self.AT + 2 * HOUR, *run, {"records_processed": 3}),
            Write(self.AT + 3 * HOUR, *run, None),
        ]
        fold = Fold(writes)
        assert fold.play(self.AT) == Changes(inserted=[run])
        assert fold.play(self.AT + 2 * HOUR) == Changes(
            updated={run: {"status": "completed", "records_processed": 3}}, told=["01:00:00 it completed"]
        )
        assert fold.play(self.AT + 3 * HOUR) == Changes(deleted=[run])
        assert fold.rows == {}

"""The demo's world: what stands when one begins to look, and what opens and closes while one looks."""

from __future__ import annotations

import functools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import psycopg
import pytest

from include.simulation.demo_script import DemoWorld, demo_plan
from include.simulation.generated_timeline import Generated, generate
from include.simulation.hub_plus import SHAPES, create_source
from include.simulation.messy_rows import HOSTILE_ERROR, Messy
from include.simulation.planted_faults import Fault
from include.simulation.planted_truth import Truth
from include.simulation.timeline import Fold
from include.simulation.world_plan import HOSTILE_COMPANY
from tests.simulation.naive_scan import breaches

MakeDatabase = Callable[..., str]
NOW = datetime(2026, 11, 24, 12, 3, 7, tzinfo=UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


@functools.cache
def demo(*, pace: float = 1.0) -> Generated:
    return generate(demo_plan(NOW, until=NOW + DAY, pace=pace), until=NOW + DAY)


def first_truths(rule: str, *, pace: float = 1.0) -> list[Truth]:
    """Return those that are due in the first quarter of an hour."""
    return [truth for truth in demo(pace=pace).truths if truth.rule == rule and NOW < truth.due_at < NOW + 15 * MINUTE]


@pytest.mark.parametrize(
    ("rule", "opens", "closes"),
    [
        pytest.param("token_expiry", 2, 7, id="a token comes within its last week and is renewed"),
        pytest.param("stale_sync", 3, 8, id="a sync grows stale and completes"),
        pytest.param("consecutive_failures", 3, 8, id="a sync fails in a row and completes"),
        pytest.param("data_quality", 3, 8, id="a sync's records fail and are corrected"),
        pytest.param("connection_error", 4, 9, id="a connection breaks and is back"),
        pytest.param("stuck_sync", 4, 7, id="a run passes the hour and completes"),
        pytest.param("platform_outage", 5, 11, id="failures of everybody turn up late and grow old"),
        pytest.param("sync_failures", 3, 61, id="three failures leave the hour only after it"),
    ],
)
def test_each_fault_opens_and_closes_while_one_looks(rule: str, opens: int, closes: int) -> None:
    (truth,) = first_truths(rule)
    assert abs(truth.due_at - NOW - opens * MINUTE) <= timedelta(seconds=1)
    assert truth.over_at is not None
    assert NOW + (closes - 1) * MINUTE < truth.over_at <= NOW + closes * MINUTE


def test_what_stands_when_one_begins_to_look_is_mended_within_ten_minutes() -> None:
    standing = [truth for truth in demo().truths if truth.due_at <= NOW and (not truth.over_at or truth.over_at > NOW)]
    assert sorted(truth.rule for truth in standing) == [
        *["consecutive_failures"] * 3,
        "stuck_sync",
        *["sync_failures"] * 2,
    ]
    assert all(truth.over_at is not None and truth.over_at <= NOW + 10 * MINUTE for truth in standing)


def test_a_naive_scan_finds_the_same_minute_by_minute() -> None:
    generated = demo()
    fold = Fold(generated.writes)
    for minute in range(-60, 240, 3):
        now = NOW + minute * MINUTE
        fold.play(now)
        expected = {
            (truth.rule, tuple(sorted(truth.identity.items())))
            for truth in generated.truths
            if truth.due_at <= now and (truth.over_at is None or now < truth.over_at)
        }
        assert breaches(fold.rows, now=now) == expected, minute


def test_rounds_go_on_with_other_credentials() -> None:
    failing = [truth for truth in demo().truths if truth.rule == "sync_failures" and truth.due_at > NOW]
    assert len(failing) == 96
    assert all(a.identity != b.identity for a, b in pairwise(failing))
    assert [b.due_at - a.due_at for a, b in pairwise(failing)] == [15 * MINUTE] * 95


def test_pace_shortens_the_script_but_not_the_rules() -> None:
    (stuck,) = (truth for truth in first_truths("stuck_sync", pace=5) if truth.due_at < NOW + 3 * MINUTE)
    assert stuck.due_at - stuck.began_at == HOUR + timedelta(seconds=1)
    assert stuck.over_at == NOW + 7 * MINUTE / 5


def test_looking_farther_ahead_changes_nothing_of_before() -> None:
    near = generate(demo_plan(NOW, until=NOW + HOUR), until=NOW + HOUR)
    far = demo()
    assert list(near.writes) == [write for write in far.writes if write.at <= near.until]


def test_its_past_is_messy_and_hostile() -> None:
    generated = demo()
    absent = {Messy.NULL_SYNC_TYPE, Messy.DST_HOUR, Messy.STUCK_RUNNING}  # by its shape, zone and script
    assert {kind for kind, number in generated.messy.items() if not number} == absent
    (hostile,) = (fault for fault in generated.faults if fault.error == HOSTILE_ERROR)
    assert hostile.fault is Fault.AUTH_BREAK
    assert hostile.account is not None
    assert generated.accounts[hostile.account - 1].company_name == HOSTILE_COMPANY


@pytest.mark.parametrize("shape", SHAPES)
def test_it_lives_in_every_shape_and_tells_what_happens(make_database: MakeDatabase, shape: str) -> None:
    dsn = make_database()
    create_source(dsn, shape=shape)
    with DemoWorld(dsn, since=NOW, past_days=3, shape=shape, timezone="America/New_York") as world:
        assert not world.is_seeded
        world.seed()
        assert world.is_seeded
        told = [line for minute in range(1, 17) for line in world.advance(NOW + minute * MINUTE)]
    assert any("sync failed, HTTP 401" in line for line in told)
    assert any("hung completed" in line for line in told)
    assert any("connection is back" in line for line in told)


def test_many_small_steps_pauses_and_restarts_write_what_one_step_writes(make_database: MakeDatabase) -> None:
    def world_of(dsn: str) -> DemoWorld:
        return DemoWorld(dsn, since=NOW, past_days=3)

    def runs(dsn: str) -> list[str]:
        with psycopg.connect(dsn) as conn:
            return [row[0] for row in conn.execute("SELECT l::text FROM servicetitan_sync_logs l ORDER BY id")]

    small, big = make_database(), make_database()
    for dsn in (small, big):
        create_source(dsn)
        with world_of(dsn) as world:
            world.seed()
    with world_of(small) as world:
        for second in range(0, 1_801, 60):
            world.advance(NOW + timedelta(seconds=second))
        world.advance(NOW + 10 * MINUTE)  # the past: nothing
    end = NOW + 3 * DAY  # farther than it is worked out at a time
    with world_of(small) as world:
        world.advance(end)
    with world_of(big) as world:
        world.advance(end)
    assert runs(small) == runs(big)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        pytest.param({"since": NOW.replace(tzinfo=None)}, "timezone-aware", id="a naive beginning"),
        pytest.param({"pace": 0}, "pace must be positive", id="a standing clock"),
        pytest.param({"credentials": 20}, "more than 20 credentials", id="too few credentials"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(options: dict[str, object], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        demo_plan(**({"since": NOW, "until": NOW + HOUR} | options))  # type: ignore[arg-type]

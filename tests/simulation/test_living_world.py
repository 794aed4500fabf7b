"""The living world: what breaks recovers, within minutes, and nothing is written twice or ahead of its time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from include.simulation.history import HOUR, INVALID_CLIENT, MINUTE, PlantedFaults, seed_history
from include.simulation.hub_plus import SHAPES, HubPlus, create_source
from include.simulation.living_world import LivingWorld

NOW = datetime(2026, 11, 24, 12, 3, 7, tzinfo=UTC)


@pytest.fixture
def world(make_database: Callable[..., str]) -> Iterator[HubPlus]:
    dsn = make_database()
    create_source(dsn)
    with HubPlus(dsn) as world:
        yield world


@pytest.fixture
def faults(world: HubPlus) -> PlantedFaults:
    return seed_history(world, as_of=NOW, companies=12, days=6)


def rows(world: HubPlus, condition: str = "true") -> list[tuple[Any, ...]]:
    with psycopg.connect(world.dsn) as conn:
        return conn.execute(
            "SELECT service_titan_credential_id, data_type, status, started_at AT TIME ZONE 'UTC',"
            " completed_at AT TIME ZONE 'UTC', error_message FROM servicetitan_sync_logs"
            f" WHERE {condition} ORDER BY id".encode()
        ).fetchall()


@pytest.mark.usefixtures("faults")
def test_a_sync_breaks_three_times_and_recovers(world: HubPlus) -> None:
    life = LivingWorld(world, since=NOW)
    broken = life.advance(NOW + 4 * MINUTE)
    new = f"started_at > '{NOW:%F %T}' AND data_type = 'invoices'"
    failed = rows(world, new)
    assert [(row[2], row[5]) for row in failed] == [("failed", INVALID_CLIENT)] * 3
    assert [row[4] for row in failed] == [NOW + minute * MINUTE for minute in (1, 2, 3)]
    assert len({row[0] for row in failed}) == 1
    assert sum("failed" in line for line in broken) == 3

    life.advance(NOW + 8 * MINUTE)
    assert [row[2] for row in rows(world, new)] == ["failed"] * 3 + ["completed"]
    assert rows(world, new)[-1][0] == failed[0][0]


@pytest.mark.usefixtures("faults")
def test_a_run_passes_the_hour_while_one_looks_and_then_completes(world: HubPlus) -> None:
    life = LivingWorld(world, since=NOW)
    life.advance(NOW + 3 * MINUTE)
    hanging = "data_type = 'customers' AND status = 'running'"
    (stuck,) = rows(world, hanging)
    assert NOW + 3 * MINUTE - stuck[3] < HOUR < NOW + 5 * MINUTE - stuck[3]
    life.advance(NOW + 7 * MINUTE)
    assert rows(world, hanging) == []


def test_what_the_history_left_open_ends(world: HubPlus, faults: PlantedFaults) -> None:
    before = dict(world.open_runs())
    assert faults.stuck_run in before
    life = LivingWorld(world, since=NOW)
    life.advance(NOW + 4 * MINUTE)
    assert set(before) & set(dict(world.open_runs())) == {faults.stuck_run}
    life.advance(NOW + 7 * MINUTE)
    assert set(before) & set(dict(world.open_runs())) == set()


@pytest.mark.usefixtures("faults")
def test_everybody_syncs_once_an_hour_and_ends(world: HubPlus) -> None:
    life = LivingWorld(world, since=NOW)
    life.advance(NOW + 2 * HOUR)
    regular = rows(world, f"data_type = 'both' AND started_at > '{NOW:%F %T}'")
    assert len(regular) == 2 * len(world.credentials())
    assert all(row[2] == "completed" for row in regular if row[3] < NOW + 110 * MINUTE)


@pytest.mark.usefixtures("faults")
def test_many_small_steps_write_what_one_big_step_writes(make_database: Callable[..., str], world: HubPlus) -> None:
    life = LivingWorld(world, since=NOW)
    for second in range(0, 1801, 7):
        life.advance(NOW + timedelta(seconds=second))
    life.advance(NOW + 30 * MINUTE)
    life.advance(NOW + 10 * MINUTE)

    dsn = make_database()
    create_source(dsn)
    with HubPlus(dsn) as other:
        seed_history(other, as_of=NOW, companies=12, days=6)
        LivingWorld(other, since=NOW).advance(NOW + 30 * MINUTE)
        assert {row[:4] for row in rows(world)} == {row[:4] for row in rows(other)}
        assert len(rows(world)) == len(rows(other))


@pytest.mark.usefixtures("faults")
def test_nothing_is_written_ahead_of_its_time(world: HubPlus) -> None:
    life = LivingWorld(world, since=NOW)
    for minute in range(20):
        life.advance(NOW + minute * MINUTE)
        newest = max(at for row in rows(world) for at in row[3:5] if at is not None)
        assert newest <= NOW + minute * MINUTE


@pytest.mark.usefixtures("faults")
def test_pace_shortens_the_script_but_not_the_hour_of_a_stuck_run(world: HubPlus) -> None:
    life = LivingWorld(world, since=NOW, pace=4)
    told = life.advance(NOW + 2 * MINUTE)
    assert [line.split(": ")[-1] for line in told].count("an invoices sync completed") == 1
    assert any("hung completed" in line for line in told)
    crosses_the_hour_at = NOW + MINUTE
    (stuck,) = rows(world, f"data_type = 'customers' AND started_at = '{crosses_the_hour_at - HOUR:%F %T}'")
    assert stuck[2] == "completed"
    assert stuck[4] == NOW + timedelta(minutes=7) / 4


@pytest.mark.parametrize("shape", SHAPES)
def test_it_lives_in_every_shape(make_database: Callable[..., str], shape: str) -> None:
    dsn = make_database()
    create_source(dsn, shape=shape)
    with HubPlus(dsn, shape=shape, timezone="America/New_York") as world:
        seed_history(world, as_of=NOW, companies=8, days=6)
        told = LivingWorld(world, since=NOW).advance(NOW + 16 * MINUTE)
    assert len(told) >= 8


@pytest.mark.usefixtures("faults")
class TestRefusals:
    """Arguments that make no sense are named."""

    def test_a_naive_beginning(self, world: HubPlus) -> None:
        with pytest.raises(ValueError, match="timezone-aware"):
            LivingWorld(world, since=NOW.replace(tzinfo=None))

    def test_a_standing_clock(self, world: HubPlus) -> None:
        with pytest.raises(ValueError, match="pace must be positive"):
            LivingWorld(world, since=NOW, pace=0)


def test_an_empty_source_cannot_live(world: HubPlus) -> None:
    with pytest.raises(ValueError, match="three credentials"):
        LivingWorld(world, since=NOW)

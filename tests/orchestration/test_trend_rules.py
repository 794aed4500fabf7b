"""The rules that compare with our own stored days, over real databases: once told, once closed, and never of the past."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, time, timedelta
from pathlib import Path

import psycopg
import pytest

from include.sync_health.checks import DATA_QUALITY
from tests.orchestration.monitored_world import NOON, TICK, MonitoredWorld, monitored_world
from tests.orchestration.trending_days import bring, bring_nothing, good_weeks, lose_yesterday, store

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
SIX_HOURS = 6 * HOUR
MIDNIGHT = datetime.combine(NOON.date(), time(), tzinfo=UTC)


@pytest.fixture
def world(
    make_database: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[MonitoredWorld]:
    """A healthy world with one credential, whose error budgets nobody minds."""
    with monitored_world(make_database, monkeypatch, tmp_path) as made:
        with made.overlay.open("a") as overlay:
            overlay.write("  error_budget: {mode: off}\n")
        yield made


def states(world: MonitoredWorld) -> dict[str, str]:
    """The state of each rule's alert."""
    return {row["rule"]: row["state"] for row in world.rows("SELECT rule, state FROM monitoring.alert")}


def verdicts(world: MonitoredWorld) -> set[str]:
    """What the last run said of the trend rules."""
    (run,) = world.rows("SELECT verdicts FROM monitoring.check_run ORDER BY computed_at DESC, window_to DESC LIMIT 1")
    return {key for key in run["verdicts"] if key.startswith(("quality_drop.", "empty_syncs."))}


def test_a_day_worse_than_usual_is_told_once_and_closed_by_the_next_good_day(world: MonitoredWorld) -> None:
    """Every 6 hours it is judged, once a day it can change."""
    lose_yesterday(world, as_of=NOON)
    for as_of in (NOON, NOON + SIX_HOURS):
        world.tick_and_drain(as_of, check=DATA_QUALITY)
        assert states(world) == {"quality_drop": "firing"}
        assert len(world.slack_texts()) == len(world.subjects()) == 1
    assert (
        "ServiceTitan invoices quality for Acme Heating (production) dropped to 80.0% on Monday 2026-03-09, 19.0 points "
        "below its usual 99.0%" in world.slack_texts()[0]
    )

    store(world, [NOON.date()], good=990, is_final=False)
    world.tick_and_drain(NOON + DAY, check=DATA_QUALITY)
    assert states(world) == {"quality_drop": "inactive"}
    assert len(world.slack_texts()) == len(world.subjects()) == 2


@pytest.mark.parametrize(
    "read_after", [pytest.param(None, id="not in the ledger"), pytest.param(18 * HOUR, id="read before it ended")]
)
def test_a_day_that_was_not_read_whole_is_not_judged(world: MonitoredWorld, read_after: timedelta | None) -> None:
    """At midnight the day before is not computed yet: an open alert waits."""
    lose_yesterday(world, as_of=NOON, read_after=read_after or DAY)
    if read_after is None:
        with psycopg.connect(world.monitoring_dsn) as conn:
            conn.execute("DELETE FROM monitoring.quality_day WHERE day = %s", (NOON.date() - DAY,))
    world.tick_and_drain(NOON, check=DATA_QUALITY)
    assert states(world) == {}

    lose_yesterday(world, as_of=NOON)
    world.tick(NOON + SIX_HOURS, check=DATA_QUALITY)
    world.tick(MIDNIGHT + DAY, check=DATA_QUALITY)
    assert states(world) == {"quality_drop": "firing"}
    assert verdicts(world) == {"quality_drop.no_data"}


def test_a_deleted_credential_takes_its_alerts_with_it(world: MonitoredWorld) -> None:
    """Both say that the target is gone."""
    lose_yesterday(world, as_of=NOON)
    bring_nothing(world, before=NOON)
    world.tick(NOON, check=DATA_QUALITY)
    assert states(world) == {"quality_drop": "firing", "empty_syncs": "firing"}

    other = int(world.hub.add_credential(world.hub.add_company("Somebody else")))
    with psycopg.connect(world.source_dsn) as conn:
        conn.execute("DELETE FROM servicetitan_sync_logs")
        conn.execute("DELETE FROM servicetitan_credentials WHERE id = %s", (world.credential,))
    world.succeed(other, at=NOON + HOUR)
    world.tick(NOON + SIX_HOURS, check=DATA_QUALITY)
    assert {row["close_reason"] for row in world.rows("SELECT close_reason FROM monitoring.alert")} == {
        "target_removed"
    }


def test_empty_syncs_are_told_once_and_their_end_within_a_tick(world: MonitoredWorld) -> None:
    """The 15-minute check reads counts and stored days only while such an alert is open."""
    lose_yesterday(world, as_of=NOON, good=990)
    bring_nothing(world, before=NOON)
    world.tick_and_drain(NOON)
    assert states(world) == {}
    world.tick_and_drain(NOON, check=DATA_QUALITY)
    assert states(world) == {"empty_syncs": "firing"}
    assert "have brought no records for 45 minutes (3 in a row)" in world.slack_texts()[0]

    bring(world, 0, at=NOON + TICK / 3)
    world.tick_and_drain(NOON + TICK)
    world.tick_and_drain(NOON + SIX_HOURS, check=DATA_QUALITY)
    assert states(world) == {"empty_syncs": "firing"}
    assert len(world.slack_texts()) == 1

    bring(world, 120, at=NOON + SIX_HOURS + TICK / 3)
    world.tick_and_drain(NOON + SIX_HOURS + TICK)
    assert states(world) == {"empty_syncs": "inactive"}
    assert len(world.slack_texts()) == len(world.subjects()) == 2


def test_counts_that_cannot_be_read_do_not_blind_the_15_minute_check(world: MonitoredWorld) -> None:
    """The open alert waits; what fails is told."""
    lose_yesterday(world, as_of=NOON, good=990)
    bring_nothing(world, before=NOON)
    world.tick(NOON, check=DATA_QUALITY)
    world.fail_three_times(world.credential, before=NOON + TICK)
    with psycopg.connect(world.source_dsn, autocommit=True) as conn:
        conn.execute("ALTER TABLE servicetitan_sync_logs DROP COLUMN records_processed")
    assert world.tick(NOON + TICK)["blind"] is None
    assert verdicts(world) == {"empty_syncs.no_data"}
    assert states(world)["empty_syncs"] == states(world)["sync_failures"] == "firing"


def test_history_is_not_compared_with(world: MonitoredWorld) -> None:
    """A backfill judges neither rule, writes no event of theirs, and moves no alert."""
    lose_yesterday(world, as_of=NOON)
    bring_nothing(world, before=NOON)
    outcome = world.tick(NOON, check=DATA_QUALITY, late=30 * DAY, is_backfill=True)
    assert outcome["mode"] == "historical"
    assert verdicts(world) == set()
    assert world.rows("SELECT * FROM monitoring.alert_event") == []
    assert states(world) == {}


@pytest.mark.parametrize(
    ("mode", "alerts", "messages"),
    [
        pytest.param("shadow", {"quality_drop": "firing", "empty_syncs": "firing"}, 0, id="recorded, not sent"),
        pytest.param("off", {}, 0, id="not judged"),
    ],
)
def test_modes_are_those_of_every_rule(world: MonitoredWorld, mode: str, alerts: dict[str, str], messages: int) -> None:
    with world.overlay.open("a") as overlay:
        overlay.write(f"  quality_drop: {{mode: {mode}}}\n  empty_syncs: {{mode: {mode}}}\n")
    lose_yesterday(world, as_of=NOON)
    bring_nothing(world, before=NOON)
    world.tick_and_drain(NOON, check=DATA_QUALITY)
    assert states(world) == alerts
    assert len(world.slack_texts()) == messages


def test_switched_off_they_close_what_is_open(world: MonitoredWorld) -> None:
    """As every rule does."""
    lose_yesterday(world, as_of=NOON)
    world.tick(NOON, check=DATA_QUALITY)
    with world.overlay.open("a") as overlay:
        overlay.write("  quality_drop: {mode: off}\n")
    world.tick(NOON + SIX_HOURS, check=DATA_QUALITY)
    assert [row["close_reason"] for row in world.rows("SELECT close_reason FROM monitoring.alert")] == ["rule_changed"]


def test_too_little_history_is_no_verdict(world: MonitoredWorld) -> None:
    """A new database says nothing for four weeks."""
    good_weeks(world, before=NOON.date())
    store(world, [NOON.date() - DAY], good=500, is_final=False)
    bring_nothing(world, before=NOON)
    world.tick(NOON, check=DATA_QUALITY)
    assert states(world) == {}

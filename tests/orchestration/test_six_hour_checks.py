"""The 6-hour checks and what the 15-minute check does for them, over real databases and real servers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest

from include.sync_health.checks import CHECKS, CREDENTIAL_HEALTH, DATA_QUALITY, SYNC_FAILURES
from tests.orchestration.monitored_world import NOON, TICK, MonitoredWorld, monitored_world

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
SIX_HOURS = 6 * HOUR


@pytest.fixture
def world(
    make_database: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[MonitoredWorld]:
    """A healthy world with one credential."""
    with monitored_world(make_database, monkeypatch, tmp_path) as made:
        yield made


def open_rules(world: MonitoredWorld) -> set[str]:
    """The rules that have an open alert."""
    return {row["rule"] for row in world.rows("SELECT rule FROM monitoring.alert WHERE state <> 'inactive'")}


def test_a_failed_refresh_that_fails_is_told_within_a_tick(world: MonitoredWorld) -> None:
    """The cause with its symptom, in one message, and not the symptoms beside it."""
    world.hub.set_status(world.credential, "error", at=NOON - 20 * MINUTE)
    world.fail_three_times(world.credential, before=NOON)
    world.tick_and_drain(NOON)

    assert open_rules(world) == {"connection_error", "sync_failures", "consecutive_failures"}
    assert len(world.slack_texts()) == len(world.subjects()) == 1
    assert "ServiceTitan Connection Error" in world.slack_texts()[0]


def test_a_failed_refresh_whose_syncs_stopped_is_told_by_the_6_hour_check_at_the_latest(world: MonitoredWorld) -> None:
    """Nothing runs, so nothing fails: the 15-minute check has no reason to look, and the 6-hour one has."""
    world.hub.set_status(world.credential, "error", at=NOON - 2 * HOUR)
    world.tick_and_drain(NOON)
    assert world.slack_texts() == []

    world.tick_and_drain(NOON, check=CREDENTIAL_HEALTH)
    assert open_rules(world) == {"connection_error"}
    assert "has been in error for 2 hours" in world.slack_texts()[0]

    world.tick_and_drain(NOON + TICK)
    world.tick_and_drain(NOON + SIX_HOURS, check=CREDENTIAL_HEALTH)
    assert len(world.slack_texts()) == 1

    world.hub.set_status(world.credential, "active", at=NOON + SIX_HOURS + MINUTE)
    world.succeed(world.credential, at=NOON + SIX_HOURS + 2 * MINUTE)
    world.tick_and_drain(NOON + SIX_HOURS + TICK)
    assert open_rules(world) == set()
    assert len(world.slack_texts()) == 2


def test_a_run_that_completes_since_is_evidence_although_the_status_stays(world: MonitoredWorld) -> None:
    """Upstream does not always reset it."""
    world.hub.set_status(world.credential, "error", at=NOON - 2 * HOUR)
    world.tick_and_drain(NOON, check=CREDENTIAL_HEALTH)
    world.succeed(world.credential, at=NOON + 2 * MINUTE)
    world.tick_and_drain(NOON + TICK)

    assert open_rules(world) == set()
    world.tick_and_drain(NOON + SIX_HOURS, check=CREDENTIAL_HEALTH)
    assert len(world.slack_texts()) == 2


def test_a_credential_that_went_silent_is_stale_after_48_hours_and_its_recovery_is_told_within_a_tick(
    world: MonitoredWorld,
) -> None:
    """From its last success, which lies outside the window that is read."""
    late = NOON + 2 * DAY
    world.hub.add_run(world.credential, started_at=late, status="running")  # the platform is not silent
    world.tick_and_drain(late - SIX_HOURS, check=CREDENTIAL_HEALTH)
    assert open_rules(world) == set()

    world.tick_and_drain(late, check=CREDENTIAL_HEALTH)
    assert open_rules(world) == {"stale_sync"}
    assert "has not completed a sync for 2 days 3 hours" in world.slack_texts()[0]

    world.succeed(world.credential, at=late + 2 * MINUTE)
    world.tick_and_drain(late + TICK)
    assert "stale_sync" not in open_rules(world)


def test_a_long_lived_token_that_nobody_renews_is_told_once_and_closed_when_it_is(world: MonitoredWorld) -> None:
    """At 7 days; the next handshake is the evidence, within a tick."""
    world.hub.set_token(world.credential, expires_at=NOON + 7 * DAY + HOUR, at=NOON - 30 * DAY)
    world.tick_and_drain(NOON, check=CREDENTIAL_HEALTH)
    assert world.slack_texts() == []

    world.tick_and_drain(NOON + SIX_HOURS, check=CREDENTIAL_HEALTH)
    world.tick_and_drain(NOON + 2 * SIX_HOURS, check=CREDENTIAL_HEALTH)
    assert open_rules(world) == {"token_expiry"}
    assert len(world.slack_texts()) == 1
    assert "expires in 6 days 19 hours" in world.slack_texts()[0]

    world.hub.set_token(world.credential, expires_at=NOON + 60 * DAY, at=NOON + 2 * SIX_HOURS + MINUTE)
    world.tick_and_drain(NOON + 2 * SIX_HOURS + TICK)
    assert open_rules(world) == set()


def test_a_sync_with_many_failed_records_is_told_and_closed_by_the_next_good_one(world: MonitoredWorld) -> None:
    """The 15-minute check reads the counts only while such an alert is open."""
    world.hub.add_run(
        world.credential,
        started_at=NOON - HOUR,
        completed_at=NOON - 50 * MINUTE,
        data_type="invoices",
        records=(100, 60, 40),
    )
    world.tick_and_drain(NOON)
    assert open_rules(world) == set()
    world.tick_and_drain(NOON, check=DATA_QUALITY)
    assert open_rules(world) == {"data_quality"}
    assert "has high failure rate: 40.0% (40 of 100 records failed)" in world.slack_texts()[0]

    good = NOON + DAY  # the bad one leaves the window of 24 hours
    world.hub.add_run(
        world.credential, started_at=good - 20 * MINUTE, completed_at=good, data_type="invoices", records=(100, 99, 1)
    )
    world.tick_and_drain(good)
    assert open_rules(world) == set()
    assert len(world.slack_texts()) == 2


@pytest.mark.parametrize("check", [CREDENTIAL_HEALTH, DATA_QUALITY], ids=lambda check: str(check.name))
def test_a_source_that_is_down_is_one_message_whichever_check_finds_it(world: MonitoredWorld, check: object) -> None:
    """And its recovery is told by the next tick."""
    with psycopg.connect(world.source_dsn, autocommit=True) as conn:
        conn.execute("ALTER TABLE servicetitan_sync_logs RENAME TO gone")
    for each in (check, SYNC_FAILURES, CREDENTIAL_HEALTH, DATA_QUALITY):
        world.tick_and_drain(NOON, check=each)
    assert len(world.slack_texts()) == 1

    with psycopg.connect(world.source_dsn, autocommit=True) as conn:
        conn.execute("ALTER TABLE gone RENAME TO servicetitan_sync_logs")
    world.tick_and_drain(NOON + TICK)
    assert len(world.slack_texts()) == 2
    assert open_rules(world) == set()


def test_a_column_that_only_the_quality_check_needs_blinds_only_it(world: MonitoredWorld) -> None:
    """A grant revoked: the other checks see as ever, and do not close its alert."""
    with psycopg.connect(world.source_dsn, autocommit=True) as conn:
        conn.execute("CREATE ROLE reader LOGIN PASSWORD 'reader'")
        conn.execute(
            "GRANT SELECT (id, service_titan_credential_id, data_type, status, started_at, completed_at, updated_at, "
            "error_message) ON servicetitan_sync_logs TO reader"
        )
        conn.execute("GRANT SELECT ON servicetitan_credentials, company TO reader")
    try:
        world.as_role("reader", "reader")
        outcome = world.tick_and_drain(NOON, check=DATA_QUALITY)
        assert outcome["blind"] == "permission"
        assert len(world.slack_texts()) == 1
        assert "records_processed" in world.slack_texts()[0]

        assert world.tick_and_drain(NOON + TICK)["blind"] is None
        assert open_rules(world) == {"monitor_health"}
    finally:
        with psycopg.connect(world.source_dsn, autocommit=True) as conn:
            conn.execute("DROP OWNED BY reader")
            conn.execute("DROP ROLE reader")


@pytest.mark.parametrize("name", sorted(CHECKS))
def test_history_sends_nothing_moves_nothing_and_does_not_invent_a_past(world: MonitoredWorld, name: str) -> None:
    """Before the first snapshot, status and token are not recorded."""
    world.hub.set_status(world.credential, "error", at=NOON - 30 * DAY)
    world.fail_three_times(world.credential, before=NOON)
    outcome = world.tick_and_drain(NOON, check=CHECKS[name], late=30 * DAY, is_backfill=True)

    assert outcome["mode"] == "historical"
    assert world.rows("SELECT * FROM monitoring.alert") == []
    assert world.rows("SELECT * FROM monitoring.delivery") == []
    assert world.rows("SELECT * FROM monitoring.credential_snapshot") == []
    (run,) = world.rows("SELECT verdicts FROM monitoring.check_run")
    assert not [key for key in run["verdicts"] if key.startswith("connection_error.") and not key.endswith("no_data")]


def test_a_late_run_does_not_take_what_the_source_shows_now_for_the_past(world: MonitoredWorld) -> None:
    """A scheduler that was down for five hours: failures are told, a status of now is not backdated."""
    world.tick(NOON - 5 * TICK)
    world.hub.set_status(world.credential, "error", at=NOON + 4 * HOUR)
    world.tick_and_drain(NOON, check=CREDENTIAL_HEALTH, late=5 * HOUR)

    assert open_rules(world) == set()
    assert [row["connection_status"] for row in world.rows("SELECT * FROM monitoring.credential_snapshot")] == [
        "active"
    ]

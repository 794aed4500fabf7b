"""Ticks in trouble: what the monitor cannot see, read or reach is told, and silences nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest

from include.sync_health.errors import RequestError, SourceError
from tests.orchestration.monitored_world import NOON, TICK, MonitoredWorld, connection_of, monitored_world

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)

UNTOLD_IN_SLACK = {"not_configured": 2, "inhibited": 1}
"""Of one credential's failures, where only mail is configured: a channel that was told of no cause is not spared the
symptom for its sake, it has no connection; the one that was, is."""


@pytest.fixture
def world(
    make_database: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[MonitoredWorld]:
    """A healthy world with one credential."""
    with monitored_world(make_database, monkeypatch, tmp_path) as made:
        yield made


def test_an_unreadable_source_is_an_alert_of_its_own_and_closes_nothing(world: MonitoredWorld) -> None:
    """It is told once; what was open stays open, marked stale; both end on evidence."""
    world.fail_three_times(world.credential, before=NOON)
    world.tick_and_drain(NOON)
    with psycopg.connect(world.source_dsn, autocommit=True) as conn:
        conn.execute("ALTER TABLE servicetitan_sync_logs RENAME TO gone")
    for ticks in (1, 2):
        outcome = world.tick_and_drain(NOON + ticks * TICK)
        assert (outcome["blind"], outcome["closed"]) == ("missing_table", 0)
    assert len(world.slack_texts()) == 2
    assert "servicetitan_sync_logs" in world.slack_texts()[-1]
    stale = world.rows("SELECT stale_since FROM monitoring.alert WHERE rule = 'sync_failures'")
    assert stale[0]["stale_since"] == NOON + TICK

    with psycopg.connect(world.source_dsn, autocommit=True) as conn:
        conn.execute("ALTER TABLE gone RENAME TO servicetitan_sync_logs")
    world.succeed(world.credential, at=NOON + 6 * TICK)
    outcome = world.tick_and_drain(NOON + 7 * TICK)
    assert (outcome["blind"], outcome["closed"]) == (None, 3)
    assert len(world.slack_texts()) == 4
    assert sorted("Cannot See" in text for text in world.slack_texts()[2:]) == [False, True]


def test_passing_trouble_is_tried_again_before_anybody_is_told(
    world: MonitoredWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the last try makes it an alert."""
    parts = {
        "conn_type": "postgres",
        "host": "127.0.0.1",
        "port": 1,
        "login": "u",
        "schema": "s",
        "password": "hunter22",
    }
    unreachable = json.dumps(parts)
    monkeypatch.setenv("AIRFLOW_CONN_HUB_PLUS_DB", unreachable)

    with pytest.raises(SourceError) as caught:
        world.tick(NOON, last_try=False)
    assert caught.value.cause == "unreachable"
    assert "hunter22" not in str(caught.value)

    outcome = world.tick_and_drain(NOON)
    assert outcome["blind"] == "unreachable"
    assert len(world.slack_texts()) == 1


def test_a_source_that_nobody_configured_is_an_alert(world: MonitoredWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """It names the connection and the variable to set."""
    monkeypatch.delenv("AIRFLOW_CONN_HUB_PLUS_DB")
    outcome = world.tick_and_drain(NOON)

    assert outcome["blind"] == "not_configured"
    assert "AIRFLOW_CONN_HUB_PLUS_DB" in world.slack_texts()[0]


def test_a_wrong_time_zone_is_not_all_clear(world: MonitoredWorld) -> None:
    """Stamps from the future by whole hours: told as such, and no open alert closes by them."""
    world.fail_three_times(world.credential, before=NOON)
    world.tick_and_drain(NOON)
    for minutes in (1, 2, 3):
        world.succeed(world.credential, at=NOON + 5 * HOUR + minutes * MINUTE)
    world.succeed(world.credential, at=NOON + MINUTE)
    outcome = world.tick_and_drain(NOON + TICK)

    assert (outcome["blind"], outcome["closed"]) == ("wrong_time_zone", 0)
    assert "source.timezone" in world.slack_texts()[-1]


def test_an_empty_source_is_not_all_clear(world: MonitoredWorld) -> None:
    """No row at all: perhaps the wrong database."""
    with psycopg.connect(world.source_dsn, autocommit=True) as conn:
        conn.execute("TRUNCATE servicetitan_sync_logs")

    assert world.tick_and_drain(NOON)["blind"] == "no_rows"


@pytest.mark.parametrize(
    "change",
    [
        pytest.param("completed_at = 'infinity'", id="an end that is infinite"),
        pytest.param(
            "completed_at = '294276-01-01', started_at = '-infinity'", id="stamps beyond what Python can hold"
        ),
        pytest.param("error_message = repeat(E'\\u202e<!channel>', 100000), data_type = 'x'", id="a huge hostile text"),
    ],
)
def test_one_odd_row_silences_nothing(world: MonitoredWorld, change: str) -> None:
    """The other failures are told as ever."""
    other = int(world.hub.add_credential(world.hub.add_company("Best Plumbing")))
    world.fail_three_times(world.credential, before=NOON)
    world.fail_three_times(other, before=NOON, error="HTTP 500 Internal Server Error")
    with psycopg.connect(world.source_dsn, autocommit=True) as conn:
        conn.execute(
            f"UPDATE servicetitan_sync_logs SET {change} WHERE id = (SELECT max(id) FROM servicetitan_sync_logs)"
        )
    outcome = world.tick_and_drain(NOON)

    assert outcome["blind"] is None
    told = [text for text in world.slack_texts() if "Acme Heating" in text]
    assert ["has failed 3 times in the last hour" in text for text in told] == [True]


def test_what_the_reader_cannot_digest_is_an_alert(world: MonitoredWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """A surprise in the reader is told, not only logged."""
    world.fail_three_times(world.credential, before=NOON)
    world.tick_and_drain(NOON)

    def surprise(*_: object, **__: object) -> None:
        raise ValueError("an array that nobody expected")

    monkeypatch.setattr("include.orchestration.sights.read_for", surprise)
    outcome = world.tick_and_drain(NOON + TICK)
    assert (outcome["blind"], outcome["closed"]) == ("invalid", 0)
    assert "Monitor Cannot See" in world.slack_texts()[-1]


def test_a_filtered_run_that_is_blind_moves_only_what_it_would_have_judged(world: MonitoredWorld) -> None:
    """The other credential's alert is not even marked stale, and nobody is told; the run itself says so."""
    other = int(world.hub.add_credential(world.hub.add_company("Best Plumbing")))
    for credential in (world.credential, other):
        world.fail_three_times(credential, before=NOON)
    world.tick_and_drain(NOON)
    with psycopg.connect(world.source_dsn, autocommit=True) as conn:
        conn.execute("ALTER TABLE servicetitan_sync_logs RENAME TO gone")
    outcome = world.tick_and_drain(NOON + TICK, credential=str(world.credential))

    assert outcome["blind"] == "missing_table"
    assert len(world.slack_texts()) == 1  # one cause, two credentials
    stale = world.rows("SELECT credential_id FROM monitoring.alert WHERE stale_since IS NOT NULL")
    assert {row["credential_id"] for row in stale} == {str(world.credential)}


def test_a_garbled_connection_of_one_channel_does_not_stop_the_other(
    world: MonitoredWorld, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A token pasted where a connection belongs: told in the log without the token."""
    monkeypatch.setenv("AIRFLOW_CONN_SLACK_ALERTS", "xoxb-123456789012-abcdefABCDEF123456")
    world.fail_three_times(world.credential, before=NOON)
    outcome = world.tick_and_drain(NOON)

    assert outcome["not_sent"] == UNTOLD_IN_SLACK
    assert len(world.subjects()) == 1
    assert "slack_alerts" in caplog.text
    assert "abcdefABCDEF" not in caplog.text


def test_a_wrong_policy_file_does_not_hide_where_our_schema_is(
    world: MonitoredWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last good policy is kept behind a connection that the wrong file still names."""
    monkeypatch.setenv("AIRFLOW_CONN_OUR_OWN_DB", connection_of(world.monitoring_dsn))
    monkeypatch.delenv("AIRFLOW_CONN_MONITORING_DB")
    world.overlay.write_text("storage: {connection: our_own_db}\n" + world.overlay.read_text())
    world.tick_and_drain(NOON)
    world.overlay.write_text(world.overlay.read_text() + "rulez: {}\n")
    world.tick_and_drain(NOON + TICK)

    assert "rulez" in world.slack_texts()[-1]


def test_a_clock_that_was_once_ahead_is_told(world: MonitoredWorld) -> None:
    """Alerts judged in the future are no-ops until then: somebody has to know."""
    world.fail_three_times(world.credential, before=NOON + timedelta(days=20))
    world.tick_and_drain(NOON + timedelta(days=20))
    for minutes in (9, 6, 3):
        world.succeed(world.credential, at=NOON - minutes * MINUTE)
    with psycopg.connect(world.source_dsn, autocommit=True) as conn:
        conn.execute("DELETE FROM servicetitan_sync_logs WHERE status = 'failed'")
    world.tick_and_drain(NOON)

    assert "the clock was once ahead" in world.slack_texts()[-1]


def test_a_wrong_policy_file_is_told_and_the_last_good_one_stays_in_force(world: MonitoredWorld) -> None:
    """Once; and closed when it is right again."""
    world.tick_and_drain(NOON)
    good = world.overlay.read_text()
    world.overlay.write_text(good + "\nrulez: {}\n")
    world.fail_three_times(world.credential, before=NOON + TICK)
    world.tick_and_drain(NOON + TICK)
    world.tick_and_drain(NOON + 2 * TICK)

    assert len(world.slack_texts()) == 2
    assert sorted("rulez" in text for text in world.slack_texts()) == [False, True]

    world.overlay.write_text(good)
    assert world.tick_and_drain(NOON + 3 * TICK)["closed"] == 1


def test_without_slack_mail_still_works_and_the_run_says_what_is_missing(
    world: MonitoredWorld, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """One channel's absence silences no other."""
    monkeypatch.delenv("AIRFLOW_CONN_SLACK_ALERTS")
    world.fail_three_times(world.credential, before=NOON)
    outcome = world.tick_and_drain(NOON)

    assert outcome["not_sent"] == UNTOLD_IN_SLACK
    assert len(world.subjects()) == 1
    assert "add the connection slack_alerts" in caplog.text


@pytest.mark.parametrize(
    ("params", "words"),
    [
        pytest.param({"credential": "4711"}, "4711 is not among the 1 credentials", id="an unknown credential"),
        pytest.param({"credential": "1; DROP"}, "is no credential id", id="no id at all"),
        pytest.param({"environment": "integration"}, "admits none of the 1 credentials", id="an empty environment"),
        pytest.param(
            {"environment": "staging"}, "choose one of all, production, integration", id="an unknown environment"
        ),
        pytest.param({"window_end": "yesterday"}, "is no instant", id="no instant"),
        pytest.param({"window_end": "2026-03-10T12:00:00"}, "has no offset", id="an instant without an offset"),
        pytest.param({"window_end": "2031-01-01T00:00:00Z"}, "lies in the future", id="an instant in the future"),
        pytest.param({"notify": "loud"}, "choose one of auto, never", id="an unknown way to notify"),
    ],
)
def test_a_wrong_param_is_one_clear_error(world: MonitoredWorld, params: dict[str, str], words: str) -> None:
    """It names the Param, the value and the fix."""
    with pytest.raises(RequestError, match=words):
        world.tick(NOON, **params)

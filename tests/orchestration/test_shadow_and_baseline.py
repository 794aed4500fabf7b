"""Starting to watch: rules in shadow, and the baseline of what was broken before anybody looked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from include.sync_health.checks import CREDENTIAL_HEALTH, DATA_QUALITY, SYNC_FAILURES
from include.sync_health.errors import SourceError
from tests.orchestration.monitored_world import NOON, OVERLAY, TICK, MonitoredWorld, monitored_world

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
SLACK = "slack:#servicetitan-alerts"
STATE_TABLES = ("alert", "alert_event", "delivery", "check_run", "credential_snapshot")


@pytest.fixture
def world(
    make_database: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[MonitoredWorld]:
    """A healthy world with one credential."""
    with monitored_world(make_database, monkeypatch, tmp_path) as made:
        yield made


# -- shadow --------------------------------------------------------------------------------------

SHADOWED = OVERLAY.replace("{keep_firing_for: 0s}", "{keep_firing_for: 0s, mode: shadow}")


def test_a_rule_in_shadow_is_recorded_and_not_sent_until_it_goes_live(world: MonitoredWorld) -> None:
    """What is still open then is told then; meanwhile it hides nothing from those whom it does not tell."""
    world.overlay.write_text(SHADOWED)
    world.fail_three_times(world.credential, before=NOON)
    outcome = world.tick_and_drain(NOON)
    assert (outcome["opened"], outcome["not_sent"]) == (2, {"shadow": 1})
    assert ["in a row" in text for text in world.slack_texts()] == [True]
    alerts = world.rows("SELECT state, told FROM monitoring.alert WHERE rule = 'sync_failures'")
    assert [(row["state"], row["told"]) for row in alerts] == [("firing", {})]
    assert len(world.rows("SELECT * FROM monitoring.alert_event WHERE kind = 'opened'")) == 2
    world.tick_and_drain(NOON + TICK)
    assert len(world.slack_texts()) == len(world.subjects()) == 1

    world.overlay.write_text(OVERLAY)
    assert world.tick_and_drain(NOON + 2 * TICK)["opened"] == 0
    assert ["in the last hour" in text for text in world.slack_texts()] == [False, True]
    assert len(world.subjects()) == 2

    world.succeed(world.credential, at=NOON + HOUR)
    assert world.tick_and_drain(NOON + HOUR + TICK)["closed"] == 2
    assert len(world.slack_texts()) == len(world.subjects()) == 4


def test_what_came_and_went_in_shadow_is_never_told(world: MonitoredWorld) -> None:
    """Neither its opening nor its close, whenever the rule goes live."""
    world.overlay.write_text(SHADOWED + "  consecutive_failures: {mode: off}\n")
    world.fail_three_times(world.credential, before=NOON)
    assert world.tick_and_drain(NOON)["opened"] == 1
    world.succeed(world.credential, at=NOON + HOUR)
    assert world.tick_and_drain(NOON + HOUR + TICK)["closed"] == 1
    world.overlay.write_text(OVERLAY)
    world.tick_and_drain(NOON + 2 * HOUR)

    assert world.slack_texts() == world.subjects() == []
    events = world.rows("SELECT kind FROM monitoring.alert_event ORDER BY as_of")
    assert [row["kind"] for row in events] == ["opened", "closed"]


def test_a_rule_that_goes_into_shadow_still_closes_what_it_told(world: MonitoredWorld) -> None:
    """But repeats it no more."""
    world.fail_three_times(world.credential, before=NOON)
    world.tick_and_drain(NOON)
    world.overlay.write_text(SHADOWED + "  consecutive_failures: {mode: off}\n")
    world.fail_three_times(world.credential, before=NOON + 13 * HOUR)
    assert world.tick_and_drain(NOON + 13 * HOUR)["not_sent"] == {"shadow": 2, "never_told": 2}
    assert len(world.slack_texts()) == 1

    world.succeed(world.credential, at=NOON + 14 * HOUR)
    world.tick_and_drain(NOON + 14 * HOUR + TICK)
    parent, reply = world.slack.messages
    assert (parent.thread_ts, reply.thread_ts) == (None, parent.ts)
    assert "Recovered" in reply.text


# -- baseline ------------------------------------------------------------------------------------


def neglect(world: MonitoredWorld) -> dict[str, int]:
    """Break something of every rule that looks at one credential, each of a company of its own, and return whose."""
    names = ("Errored", "Stale", "Stuck", "Lossy", "Lapsing", "Failing")
    broken = {name: int(world.hub.add_credential(world.hub.add_company(f"{name} Inc"))) for name in names}
    for name, credential in broken.items():
        world.succeed(credential, at=NOON - (5 * DAY if name == "Stale" else 4 * HOUR))
    world.hub.set_status(broken["Errored"], "error", at=NOON - 3 * HOUR)
    world.hub.add_run(broken["Stuck"], status="running", started_at=NOON - 90 * MINUTE)
    world.hub.add_run(broken["Lossy"], started_at=NOON - HOUR, completed_at=NOON - 50 * MINUTE, records=(100, 60, 40))
    world.hub.set_token(broken["Lapsing"], expires_at=NOON + 3 * DAY, at=NOON - 30 * DAY)
    world.fail_three_times(broken["Failing"], before=NOON)
    return broken


RULE_OF = {
    "Errored": "connection_error",
    "Stale": "stale_sync",
    "Stuck": "stuck_sync",
    "Lossy": "data_quality",
    "Lapsing": "token_expiry",
    "Failing": "sync_failures",
}


def test_a_baseline_is_one_message_and_nothing_of_it_is_told_again(world: MonitoredWorld) -> None:
    """Whatever rules and severities it has; what a second one would adopt is nothing."""
    neglect(world)
    outcome = world.adopt_baseline(NOON)
    world.drain(NOON + MINUTE)
    assert (outcome.opened, outcome.deliveries, dict(outcome.not_sent)) == (7, 2, {})
    assert len(world.slack_texts()) == len(world.subjects()) == 1
    assert "7 things were already broken when monitoring began" in world.subjects()[0]
    found = world.rows("SELECT rule FROM monitoring.alert WHERE state = 'firing'")
    assert {row["rule"] for row in found} == {*RULE_OF.values(), "consecutive_failures"}
    said = "".join(str(message.blocks) for message in world.slack.messages)
    assert [name for name in RULE_OF if f"{name} Inc" not in said] == []

    again = world.adopt_baseline(NOON + MINUTE)
    assert (again.opened, again.deliveries, dict(again.not_sent)) == (0, 0, {})
    for check in (SYNC_FAILURES, CREDENTIAL_HEALTH, DATA_QUALITY):
        assert world.tick_and_drain(NOON + TICK, check=check)["opened"] == 0
    assert len(world.slack_texts()) == len(world.subjects()) == 1


def test_what_breaks_after_the_baseline_is_news(world: MonitoredWorld) -> None:
    """Its own message, beside everything that was adopted."""
    neglect(world)
    world.adopt_baseline(NOON)
    world.drain(NOON + MINUTE)
    world.fail_three_times(world.credential, before=NOON + TICK)
    world.tick_and_drain(NOON + TICK)

    assert ["Acme Heating" in text for text in world.slack_texts()[1:]] == [True]
    assert len(world.subjects()) == 2


def test_what_was_adopted_closes_one_by_one_with_a_message_each(world: MonitoredWorld) -> None:
    """The close goes to whoever was told of the opening, in whatever message."""
    broken = neglect(world)
    world.adopt_baseline(NOON)
    world.drain(NOON + MINUTE)
    ((stuck, _),) = world.hub.open_runs()
    hub = world.hub
    mend: dict[str, Callable[[datetime], object]] = {
        "Errored": lambda at: hub.set_status(broken["Errored"], "active", at=at),
        "Stale": lambda at: world.succeed(broken["Stale"], at=at),
        "Stuck": lambda at: hub.finish_run(stuck, at=at, status="completed"),
        "Lapsing": lambda at: hub.set_token(broken["Lapsing"], expires_at=NOON + 60 * DAY, at=at),
        "Failing": lambda at: world.succeed(broken["Failing"], at=at),  # both in an hour and in a row
    }
    as_of = NOON + HOUR  # the failures have left their hour
    for name, recover in mend.items():
        before, as_of = len(world.slack_texts()), as_of + TICK
        recover(as_of - MINUTE)
        world.tick_and_drain(as_of)
        news = world.slack_texts()[before:]
        closes = [text for text in news if "Recovered" in text]
        assert len(closes) == (2 if name == "Failing" else 1), name
        assert [text for text in closes if f"{name} Inc" not in text] == []
        worse = [text for text in news if text not in closes]  # the stuck sync has been open for two hours
        assert [("Stuck Inc" in text, "escalated" in text) for text in worse] == [(True, True)] * (name == "Errored")
    left = world.rows("SELECT rule FROM monitoring.alert WHERE state <> 'inactive'")
    assert [row["rule"] for row in left] == ["data_quality"]
    assert len(world.subjects()) == len(world.slack_texts()) == 1 + 6 + 1


def test_what_stays_broken_after_a_baseline_is_repeated_as_ever(world: MonitoredWorld) -> None:
    """After 12 hours what is high by then; the failures in a row are explained by now, and the rest is not due."""
    broken = neglect(world)
    world.adopt_baseline(NOON)
    world.drain(NOON + MINUTE)
    world.fail_three_times(broken["Failing"], before=NOON + 12 * HOUR)
    world.tick_and_drain(NOON + 12 * HOUR)

    repeated = world.slack_texts()[1:]
    assert sorted(name for name in broken for text in repeated if f"{name} Inc" in text) == [
        "Errored",
        "Failing",
        "Stale",
        "Stuck",
    ]
    assert len(repeated) == 4


def test_many_that_recover_at_once_are_a_summary(world: MonitoredWorld) -> None:
    """Above twenty, as with any closes."""
    world.overlay.write_text(OVERLAY + "  platform_outage: {mode: off}\n")
    many = [int(world.hub.add_credential(world.hub.add_company(f"Company {number}"))) for number in range(21)]
    for each in many:
        world.succeed(each, at=NOON - 2 * HOUR)
    runs = [world.hub.add_run(each, status="running", started_at=NOON - 90 * MINUTE) for each in many]
    assert world.adopt_baseline(NOON).opened == 21
    world.drain(NOON + MINUTE)
    assert len(world.slack_texts()) == len(world.subjects()) == 1

    for run in runs:
        world.hub.finish_run(run, at=NOON + 10 * MINUTE, status="completed")
    assert world.tick_and_drain(NOON + TICK)["closed"] == 21
    assert len(world.slack_texts()) == len(world.subjects()) == 2
    assert "21" in world.subjects()[1]


def test_a_baseline_that_goes_out_after_all_of_it_closed_tells_of_the_close_as_well(world: MonitoredWorld) -> None:
    """Slack was away: one message there, and no second one about the same end."""
    other = int(world.hub.add_credential(world.hub.add_company("Best Plumbing")))
    world.succeed(other, at=NOON - 2 * HOUR)
    runs = [
        world.hub.add_run(each, status="running", started_at=NOON - 90 * MINUTE) for each in (world.credential, other)
    ]
    assert world.adopt_baseline(NOON).opened == 2
    world.slack.fail_next(status=500)
    world.drain(NOON + MINUTE)
    for run in runs:
        world.hub.finish_run(run, at=NOON + 10 * MINUTE, status="completed")
    assert world.tick(NOON + TICK)["closed"] == 2
    world.drain(NOON + 20 * MINUTE)
    world.drain(NOON + HOUR)

    assert len(world.slack_texts()) == 1
    assert len(world.subjects()) == 1 + 2  # the mail went out in time, and is followed by a close of each
    slack = world.rows("SELECT reason, status, silent FROM monitoring.delivery WHERE channel = %s ORDER BY id", SLACK)
    assert [(row["reason"], row["status"], row["silent"]) for row in slack] == [
        ("baseline", "sent", None),
        ("closed", "not_sent", "already_told"),
        ("closed", "not_sent", "already_told"),
    ]


def test_a_late_baseline_tells_of_the_closes_before_it(world: MonitoredWorld) -> None:
    """It shows how each of them stands when it goes out; what has recovered by then is not told again."""
    other = int(world.hub.add_credential(world.hub.add_company("Best Plumbing")))
    first, _ = (
        world.hub.add_run(each, status="running", started_at=NOON - 90 * MINUTE) for each in (world.credential, other)
    )
    assert world.adopt_baseline(NOON).opened == 3  # the other one never completed a sync, and is stale
    world.slack.fail_next(status=500)
    world.drain(NOON + MINUTE)
    world.hub.finish_run(first, at=NOON + 10 * MINUTE, status="completed")
    assert world.tick(NOON + TICK)["closed"] == 1
    world.drain(NOON + 20 * MINUTE)
    world.drain(NOON + HOUR)

    assert ["Recovered: Acme Heating" in text for text in world.slack_texts()] == [True]
    silent = world.rows("SELECT silent FROM monitoring.delivery WHERE channel LIKE 'slack:%%' AND reason = 'closed'")
    assert [row["silent"] for row in silent] == ["already_told"]


def test_a_retried_baseline_changes_nothing(world: MonitoredWorld) -> None:
    """The same instant again: the same rows, and one message."""
    neglect(world)
    first, again = world.adopt_baseline(NOON), world.adopt_baseline(NOON)
    world.drain(NOON + MINUTE)

    assert first.run_id == again.run_id
    assert (first.opened, again.opened, again.deliveries) == (7, 0, 0)
    assert len(world.slack_texts()) == len(world.subjects()) == 1


def test_a_healthy_source_has_no_baseline_to_tell(world: MonitoredWorld) -> None:
    """No message says that nothing is wrong."""
    outcome = world.adopt_baseline(NOON)
    world.drain(NOON + MINUTE)

    assert (outcome.opened, outcome.deliveries) == (0, 0)
    assert world.slack_texts() == world.subjects() == []


def _table_is_gone(world: MonitoredWorld) -> None:
    _on_source(world, "ALTER TABLE servicetitan_sync_logs RENAME TO gone")


def _log_is_empty(world: MonitoredWorld) -> None:
    _on_source(world, "TRUNCATE servicetitan_sync_logs")


def _no_credential_is_left(world: MonitoredWorld) -> None:
    _on_source(world, "TRUNCATE servicetitan_credentials CASCADE")


def _stamps_are_from_the_future(world: MonitoredWorld) -> None:
    for minutes in (1, 2, 3):
        world.succeed(world.credential, at=NOON + 5 * HOUR + minutes * MINUTE)


def _on_source(world: MonitoredWorld, statement: str) -> None:
    with psycopg.connect(world.source_dsn, autocommit=True) as conn:
        conn.execute(statement.encode())


@pytest.mark.parametrize(
    ("trouble", "cause"),
    [
        pytest.param(_table_is_gone, "missing_table", id="a table that is not there"),
        pytest.param(_log_is_empty, "no_rows", id="a log without a row"),
        pytest.param(_no_credential_is_left, "no_rows", id="a source without a credential"),
        pytest.param(_stamps_are_from_the_future, "wrong_time_zone", id="stamps from the future"),
    ],
)
def test_a_source_that_cannot_be_seen_or_trusted_has_no_baseline(
    world: MonitoredWorld, trouble: Callable[[MonitoredWorld], None], cause: str
) -> None:
    """It raises, and not a row is stored: the next attempt starts from nothing."""
    neglect(world)
    trouble(world)
    with pytest.raises(SourceError) as caught:
        world.adopt_baseline(NOON)

    assert caught.value.cause == cause
    assert {table: world.rows(f"SELECT * FROM monitoring.{table}") for table in STATE_TABLES} == {
        table: [] for table in STATE_TABLES
    }


@pytest.mark.parametrize(
    ("lag", "cause"),
    [
        pytest.param(2 * HOUR + 30 * MINUTE, "wrong_time_zone", id="perhaps a zone west of the one that is set"),
        pytest.param(28 * HOUR, "stale_source", id="a replica that stopped longer ago than zones lie apart"),
    ],
)
def test_a_source_whose_rows_stopped_has_no_baseline(world: MonitoredWorld, lag: timedelta, cause: str) -> None:
    """Rows every half hour for days, and then none: what looks broken may be only late."""
    for count in range(100):
        world.succeed(world.credential, at=NOON - lag + MINUTE - count * 30 * MINUTE)
    with psycopg.connect(world.source_dsn, autocommit=True) as conn:
        conn.execute("DELETE FROM servicetitan_sync_logs WHERE started_at > %s", (NOON.replace(tzinfo=None) - lag,))
    with pytest.raises(SourceError) as caught:
        world.adopt_baseline(NOON)

    assert caught.value.cause == cause
    assert [table for table in STATE_TABLES if world.rows(f"SELECT * FROM monitoring.{table}")] == []


def test_a_source_that_nobody_configured_has_no_baseline(world: MonitoredWorld) -> None:
    """The error says what to set."""
    missing = SourceError("set AIRFLOW_CONN_HUB_PLUS_DB", cause="not_configured")
    with pytest.raises(SourceError, match="AIRFLOW_CONN_HUB_PLUS_DB"):
        world.adopt_baseline(NOON, source=missing)
    assert [table for table in STATE_TABLES if world.rows(f"SELECT * FROM monitoring.{table}")] == []

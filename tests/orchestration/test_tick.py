"""From a row in the source to a message, tick by tick, over real databases and real servers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from include.orchestration.check_tasks import RunFacts, due_addresses
from tests.orchestration.monitored_world import NOON, OVERLAY, TICK, MonitoredWorld, monitored_world

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)


@pytest.fixture
def world(
    make_database: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[MonitoredWorld]:
    """A healthy world with one credential."""
    with monitored_world(make_database, monkeypatch, tmp_path) as made:
        yield made


def test_one_message_when_it_breaks_none_in_between_one_when_it_recovers(world: MonitoredWorld) -> None:
    """In Slack and by mail."""
    world.tick_and_drain(NOON)
    assert world.slack_texts() == []

    world.fail_three_times(world.credential, before=NOON + TICK)
    outcome = world.tick_and_drain(NOON + TICK)
    assert len(world.slack_texts()) == len(world.subjects()) == 1
    assert "has failed 3 times in the last hour" in world.slack_texts()[0]
    # Three in an hour are also three in a row: an alert of its own, which the first one explains.
    assert (outcome["opened"], outcome["not_sent"]) == (2, {"inhibited": 2})

    world.tick_and_drain(NOON + 2 * TICK)
    assert len(world.slack_texts()) == len(world.subjects()) == 1

    world.succeed(world.credential, at=NOON + 4 * TICK + 30 * MINUTE)
    outcome = world.tick_and_drain(NOON + 4 * TICK + 45 * MINUTE)
    assert (outcome["closed"], outcome["not_sent"]) == (2, {"never_told": 2})
    assert len(world.slack_texts()) == len(world.subjects()) == 2
    assert "Recovered" in world.slack_texts()[1]
    assert "in the last hour" in world.slack_texts()[1]

    world.tick_and_drain(NOON + 8 * TICK)
    assert len(world.slack_texts()) == len(world.subjects()) == 2


def test_what_still_fails_is_repeated_after_the_policys_interval(world: MonitoredWorld) -> None:
    """High severity every 12 hours; the failures in a row, once the cause that hid them is older than a day."""
    world.fail_three_times(world.credential, before=NOON)
    world.tick_and_drain(NOON)
    said = []
    for hours in (6, 11, 12, 18, 24, 30, 36, 42):
        world.fail_three_times(world.credential, before=NOON + hours * HOUR)
        world.tick_and_drain(NOON + hours * HOUR)
        said.append(len(world.slack_texts()))

    assert said == [1, 1, 2, 2, 3, 4, 5, 6]
    assert ["in a row" in text for text in world.slack_texts()] == [False, False, False, True, False, True]


def test_without_inhibition_each_rule_speaks_for_itself(world: MonitoredWorld) -> None:
    """Of the opening and of the close."""
    world.overlay.write_text(world.overlay.read_text() + "inhibition: false\n")
    world.fail_three_times(world.credential, before=NOON)
    assert world.tick_and_drain(NOON)["not_sent"] == {}
    assert sorted("in a row" in text for text in world.slack_texts()) == [False, True]
    assert len(world.subjects()) == 2

    world.succeed(world.credential, at=NOON + HOUR)
    world.tick_and_drain(NOON + HOUR + TICK)
    assert len(world.slack_texts()) == len(world.subjects()) == 4


def test_a_retried_tick_changes_nothing(world: MonitoredWorld) -> None:
    """The same window again: same state, same outbox, no second message."""
    world.fail_three_times(world.credential, before=NOON)
    first = world.tick(NOON)
    again = world.tick(NOON)
    world.drain(NOON + MINUTE)
    world.drain(NOON + 2 * MINUTE)

    assert first["run_id"] == again["run_id"]
    assert (first["opened"], again["opened"]) == (2, 0)
    assert (first["deliveries"], again["deliveries"]) == (2, 0)
    assert len(world.slack_texts()) == len(world.subjects()) == 1
    assert len(world.rows("SELECT * FROM monitoring.delivery")) == 4  # of two alerts in two channels, one is sent
    assert len(world.rows("SELECT * FROM monitoring.check_run")) == 1


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"is_backfill": True}, id="a backfill"),
        pytest.param({"late": 6 * HOUR + MINUTE}, id="a run older than the live horizon"),
    ],
)
def test_the_past_is_history_and_nothing_but_history(world: MonitoredWorld, options: dict[str, object]) -> None:
    """No outbox row, no alert state; the breach stands in the history, once, however often it is run."""
    world.fail_three_times(world.credential, before=NOON)
    for _ in range(2):
        outcome = world.tick_and_drain(NOON, **options)  # type: ignore[arg-type]

    assert outcome["mode"] == "historical"
    assert world.slack_texts() == []
    assert world.rows("SELECT * FROM monitoring.delivery") == []
    assert world.rows("SELECT * FROM monitoring.alert") == []
    events = world.rows("SELECT kind FROM monitoring.alert_event")
    assert [event["kind"] for event in events] == ["observed", "observed"]  # one per rule


def test_a_backfill_beside_live_runs_moves_no_live_alert(world: MonitoredWorld) -> None:
    """Also when it looks at a time when all was well."""
    world.fail_three_times(world.credential, before=NOON)
    world.tick_and_drain(NOON)
    before = world.rows("SELECT * FROM monitoring.alert ORDER BY fingerprint")
    world.tick_and_drain(NOON - 2 * HOUR, is_backfill=True)

    assert world.rows("SELECT * FROM monitoring.alert ORDER BY fingerprint") == before


def test_a_late_run_within_the_horizon_still_alerts_and_says_that_it_is_late(world: MonitoredWorld) -> None:
    """A scheduler that was down for two hours."""
    world.fail_three_times(world.credential, before=NOON)
    outcome = world.tick(NOON, late=2 * HOUR)
    world.drain(NOON + 2 * HOUR)

    assert outcome["mode"] == "live"
    assert len(world.slack_texts()) == 1
    blocks = str([message.blocks for message in world.slack.messages])
    assert "late" in blocks.lower()


def test_an_older_window_after_a_newer_one_is_a_no_op(world: MonitoredWorld) -> None:
    """Compare-and-set by fingerprint."""
    world.fail_three_times(world.credential, before=NOON)
    world.tick_and_drain(NOON)
    before = world.rows("SELECT * FROM monitoring.alert ORDER BY fingerprint")
    outcome = world.tick(NOON - HOUR, late=HOUR)

    assert outcome["mode"] == "live"
    assert (outcome["opened"], outcome["closed"], outcome["deliveries"]) == (0, 0, 0)
    assert world.rows("SELECT * FROM monitoring.alert ORDER BY fingerprint") == before


def test_a_filtered_run_moves_only_what_it_judged(world: MonitoredWorld) -> None:
    """Credential 2 recovers unseen; the run for credential 1 closes nothing of it, the next full run does."""
    other = int(world.hub.add_credential(world.hub.add_company("Best Plumbing")))
    for credential in (world.credential, other):
        world.fail_three_times(credential, before=NOON)
    world.tick_and_drain(NOON)
    assert len(world.slack_texts()) == 1  # one cause, two credentials
    for credential in (world.credential, other):
        world.succeed(credential, at=NOON + HOUR)

    filtered = world.tick_and_drain(NOON + HOUR + TICK, credential=str(world.credential))
    assert filtered["closed"] == 2
    assert ["Acme Heating" in text for text in world.slack_texts()[1:]] == [True]
    full = world.tick_and_drain(NOON + HOUR + 2 * TICK)
    assert full["closed"] == 2
    assert ["Best Plumbing" in text for text in world.slack_texts()[2:]] == [True]


def test_notify_never_keeps_quiet_and_loses_nothing(world: MonitoredWorld) -> None:
    """The next run that may speak does."""
    world.fail_three_times(world.credential, before=NOON)
    outcome = world.tick_and_drain(NOON, notify="never")
    assert outcome["not_sent"] == {"notify_never": 4}
    assert world.slack_texts() == []

    assert world.tick_and_drain(NOON + TICK)["not_sent"] == {"inhibited": 2}
    assert len(world.slack_texts()) == len(world.subjects()) == 1


def test_a_rule_that_is_switched_off_closes_its_alerts_and_says_why(world: MonitoredWorld) -> None:
    """Nobody is left with an alert that never ends, nor without the one that it hid."""
    world.fail_three_times(world.credential, before=NOON)
    world.tick_and_drain(NOON)
    world.overlay.write_text(OVERLAY.replace("{keep_firing_for: 0s}", "{mode: off}"))
    world.tick_and_drain(NOON + TICK)

    rows = world.rows("SELECT rule, state, close_reason FROM monitoring.alert ORDER BY rule")
    assert [(row["rule"], row["state"], row["close_reason"]) for row in rows] == [
        ("consecutive_failures", "firing", None),
        ("sync_failures", "inactive", "rule_changed"),
    ]
    assert len(world.slack_texts()) == 3
    told = world.rows("SELECT reason FROM monitoring.delivery WHERE status = 'sent' AND channel LIKE 'slack:%%'")
    assert sorted(row["reason"] for row in told) == ["closed", "first", "unsuppressed", "updated"]
    closed = [message for message in world.slack.messages if "rule changed" in message.text]
    assert ["the rule is off" in str(message.blocks) for message in closed] == [True, True]  # the reply and its parent


def test_a_run_that_is_to_keep_quiet_drains_nothing_either(world: MonitoredWorld) -> None:
    """What an earlier run left waits for the next one."""
    world.fail_three_times(world.credential, before=NOON)
    world.tick(NOON)
    quiet, loud = (
        RunFacts(params={"notify": notify}, interval=(None, None), run_after=NOON, is_backfill=False, last_try=True)
        for notify in ("never", "auto")
    )

    assert due_addresses("slack", quiet, mode="live", now=NOON + MINUTE) == []
    assert due_addresses("slack", loud, mode="live", now=NOON + MINUTE) == ["#servicetitan-alerts"]


def test_a_run_that_was_stuck_is_followed_past_the_window(world: MonitoredWorld) -> None:
    """Remembered by id from run to run, long after it left the window that is read."""
    stuck = world.hub.add_run(world.credential, status="running", started_at=NOON - 90 * MINUTE)
    world.tick_and_drain(NOON)
    assert "has been running for 1 hour 30 minutes" in world.slack_texts()[0]

    as_of = NOON
    while as_of < NOON + timedelta(days=11):
        as_of += timedelta(hours=23)
        world.succeed(world.credential, at=as_of - HOUR)
        world.tick(as_of)
    world.hub.finish_run(stuck, at=as_of, status="completed")
    assert world.tick(as_of + TICK)["closed"] == 1


def test_a_deleted_run_closes_as_removed_not_as_recovered(world: MonitoredWorld) -> None:
    """There is no evidence that it ever ended."""
    stuck = world.hub.add_run(world.credential, status="running", started_at=NOON - 90 * MINUTE)
    world.tick_and_drain(NOON)
    world.hub.delete_run(stuck)
    world.tick_and_drain(NOON + TICK)

    closed = world.rows("SELECT close_reason FROM monitoring.alert WHERE rule = 'stuck_sync'")
    assert [row["close_reason"] for row in closed] == ["target_removed"]


def test_what_is_stored_holds_no_secret(world: MonitoredWorld) -> None:
    """Neither one from an error message nor one from the credentials table."""
    token = "xoxb-123456789012-abcdefABCDEF123456"
    world.fail_three_times(world.credential, before=NOON, error=f"HTTP 401: client_secret={token}")
    world.tick_and_drain(NOON)

    tables = ("alert", "alert_event", "delivery", "check_run", "credential_snapshot", "policy_version")
    stored = "".join(str(world.rows(f"SELECT * FROM monitoring.{table}")) for table in tables)
    assert "HTTP 401" in stored
    assert [secret for secret in [token, *world.hub.secrets] if secret in stored] == []


def test_a_storm_is_one_message_per_channel(world: MonitoredWorld) -> None:
    """Twenty-five credentials break in one tick, for reasons of their own, and recover in one."""
    world.overlay.write_text(world.overlay.read_text() + "  platform_outage: {mode: off}\n")
    company = world.hub.add_company("Best Plumbing")
    many = [
        int(world.hub.add_credential(company if number == 0 else world.hub.add_company(f"Company {number}")))
        for number in range(25)
    ]
    for credential in many:
        world.fail_three_times(credential, before=NOON)
    outcome = world.tick_and_drain(NOON)
    assert (outcome["opened"], outcome["not_sent"]) == (50, {"inhibited": 50})
    assert len(world.slack_texts()) == len(world.subjects()) == 1
    assert "25" in world.slack_texts()[0]

    for credential in many:
        world.succeed(credential, at=NOON + HOUR)
    world.tick_and_drain(NOON + HOUR + TICK)
    assert len(world.slack_texts()) == len(world.subjects()) == 2
    assert "25" in world.slack_texts()[1]


def test_an_outage_is_one_message_and_so_is_its_end(world: MonitoredWorld) -> None:
    """Everyone fails with one error: the platform is named, not its customers; whoever still fails after it is."""
    many = [int(world.hub.add_credential(world.hub.add_company(f"Company {number}"))) for number in range(5)]
    for credential in many:
        world.fail_three_times(credential, before=NOON, error="HTTP 503 Service Unavailable")
    outcome = world.tick_and_drain(NOON)
    assert outcome["opened"] == 11
    assert len(world.slack_texts()) == len(world.subjects()) == 1
    assert "Platform" in world.slack_texts()[0]

    for credential in many[1:]:
        world.succeed(credential, at=NOON + HOUR)
    world.fail_three_times(many[0], before=NOON + HOUR + TICK, error="HTTP 503 Service Unavailable")
    for ticks in (5, 6, 7, 8):
        world.tick_and_drain(NOON + ticks * TICK)
    ended, left = world.slack_texts()[1:]
    assert "Recovered" in ended
    assert "Company 0" in left
    assert len(world.subjects()) == 3

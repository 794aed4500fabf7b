"""Delivery through faults: nothing lost, at most the message in flight doubled, and then marked."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from pytest_httpserver import HTTPServer

from include.orchestration.delivery import LEASE
from include.orchestration.retry_pauses import FIRST_BACKOFF, LONGEST_BACKOFF, retry_pause
from include.warehouse import outbox
from tests.orchestration.monitored_world import (
    NOON,
    MonitoredWorld,
    mail_connection,
    monitored_world,
    slack_connection,
)

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
SLACK, MAIL = "slack:#servicetitan-alerts", "email:ops@example.com"


@pytest.fixture
def world(
    make_database: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[MonitoredWorld]:
    """A world with one alert for Slack and one for mail due: a stuck sync."""
    with monitored_world(make_database, monkeypatch, tmp_path) as made:
        made.hub.add_run(made.credential, status="running", started_at=NOON - 90 * MINUTE)
        made.tick(NOON)
        yield made


def status_of(world: MonitoredWorld, channel: str) -> str:
    """Where the one delivery to a channel stands."""
    (row,) = world.rows("SELECT status FROM monitoring.delivery WHERE channel = %s", channel)
    return str(row["status"])


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        pytest.param({"status": 500}, "http_500", id="a server error"),
        pytest.param({"mode": "drop_before"}, "no_answer", id="a connection that breaks off before the answer"),
        pytest.param({"error": "invalid_auth"}, "invalid_auth", id="a revoked token"),
        pytest.param({"error": "channel_not_found"}, "channel_not_found", id="a channel that is not there"),
        pytest.param({"error": "is_archived"}, "is_archived", id="an archived channel"),
        pytest.param({"error": "internal_error"}, "internal_error", id="Slack's own trouble"),
        pytest.param({"retry_after": 600}, "ratelimited", id="a rate limit of ten minutes"),
        pytest.param({"status": 200, "error": "<html>"}, "bad_answer", id="an answer that is not Slack's"),
        pytest.param({"status": 502, "error": "<html>"}, "http_502", id="a proxy's answer"),
    ],
)
def test_what_slack_refuses_stays_due_and_arrives_once_when_it_answers(
    world: MonitoredWorld, fault: dict, code: str
) -> None:
    """The mail is not held up by it."""
    world.slack.fail_next(**fault)
    world.drain(NOON + MINUTE)
    assert world.slack_texts() == []
    assert len(world.subjects()) == 1
    assert status_of(world, SLACK) == "pending"
    (row,) = world.rows("SELECT last_error FROM monitoring.delivery WHERE channel = %s", SLACK)
    assert row["last_error"].startswith(code)

    world.drain(NOON + HOUR)
    world.drain(NOON + 2 * HOUR)
    assert len(world.slack_texts()) == 1
    assert len(world.subjects()) == 1
    assert status_of(world, SLACK) == "sent"


def test_a_short_rate_limit_is_waited_out(world: MonitoredWorld) -> None:
    """Retry-After is honoured within the same drain."""
    world.slack.fail_next(retry_after=7)
    world.drain(NOON + MINUTE)

    assert world.waits == [7.0]
    assert len(world.slack_texts()) == 1


@pytest.mark.parametrize("error", ["invalid_blocks", "msg_blocks_too_long"])
def test_refused_blocks_are_sent_as_text_at_once(world: MonitoredWorld, error: str) -> None:
    """The news matters more than its looks."""
    world.slack.fail_next(error=error)
    world.drain(NOON + MINUTE)

    (message,) = world.slack.messages
    assert "has been running for" in message.text
    assert not message.blocks
    (row,) = world.rows("SELECT receipt FROM monitoring.delivery WHERE channel = %s", SLACK)
    assert row["receipt"]["text_only"] == error
    assert row["receipt"]["ts"] == message.ts


def test_an_answer_that_never_came_is_told_again_and_marked(world: MonitoredWorld) -> None:
    """One possible doubt, never a loss."""
    world.slack.fail_next(mode="accept_then_drop")
    world.drain(NOON + MINUTE)
    world.drain(NOON + HOUR)

    first, second = world.slack.messages
    assert "may be a repeat" not in str(first.blocks).lower()
    assert "may be a repeat" in (second.text + str(second.blocks)).lower()


def test_a_worker_killed_between_send_and_commit_doubles_that_one_message_marked(world: MonitoredWorld) -> None:
    """Its lease runs out, and nobody can know whether it was sent."""
    killed = RuntimeError("killed")

    def die(*_: object, **__: object) -> None:
        raise killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(outbox, "mark_sent", die)
        with pytest.raises(RuntimeError, match="killed"):
            world.drain(NOON + MINUTE)
    assert len(world.slack_texts()) + len(world.subjects()) == 1

    world.drain(NOON + 2 * MINUTE, owner="worker-2")  # the other channel only: this one's lease still runs
    world.drain(NOON + MINUTE + LEASE, owner="worker-2")
    world.drain(NOON + HOUR, owner="worker-3")

    everything = [str(message.blocks) for message in world.slack.messages] + [
        str(message) for message in world.mail.messages
    ]
    assert len(everything) == 3
    assert sum("may be a repeat" in text.lower() for text in everything) == 1


@pytest.mark.parametrize(
    "mode",
    [
        pytest.param("refuse_connection", id="the server is not taking connections"),
        pytest.param("greylist", id="the recipient is greylisted"),
        pytest.param("refuse_recipient", id="the recipient is refused"),
        pytest.param("refuse_content", id="the content is refused"),
        pytest.param("drop_in_data", id="the connection breaks off in DATA"),
    ],
)
def test_what_the_mail_server_refuses_stays_due_and_arrives_once(world: MonitoredWorld, mode: str) -> None:
    """Slack is not held up by it."""
    world.mail.fail_next(mode)  # type: ignore[arg-type]
    world.drain(NOON + MINUTE)
    assert world.subjects() == []
    assert len(world.slack_texts()) == 1
    assert status_of(world, MAIL) == "pending"

    world.drain(NOON + HOUR)
    world.drain(NOON + 2 * HOUR)
    assert len(world.subjects()) == 1
    assert status_of(world, MAIL) == "sent"


def test_what_recovered_before_it_could_be_told_is_one_message(world: MonitoredWorld) -> None:
    """Slack was away while it broke and recovered: the late opening says both, and the close has nothing to add."""
    world.slack.fail_next(status=500)
    world.drain(NOON + MINUTE)
    ((stuck, _),) = world.hub.open_runs()
    world.hub.finish_run(stuck, at=NOON + 10 * MINUTE)
    assert world.tick(NOON + 15 * MINUTE)["closed"] == 1
    world.drain(NOON + 20 * MINUTE)
    world.drain(NOON + HOUR)

    (text,) = world.slack_texts()
    assert "Recovered" in text
    assert len(world.subjects()) == 2  # the mail of the opening went out in time
    slack = world.rows("SELECT reason, status, silent FROM monitoring.delivery WHERE channel = %s ORDER BY id", SLACK)
    assert [(row["reason"], row["status"], row["silent"]) for row in slack] == [
        ("first", "sent", None),
        ("closed", "not_sent", "already_told"),
        ("updated", "not_sent", "superseded"),
    ]


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param("", id="an empty body"),
        pytest.param("[]", id="JSON that is no object"),
        pytest.param('{"ok": true}', id="ok without a ts"),
        pytest.param("<html>Welcome</html>", id="a page of a captive portal"),
    ],
)
def test_an_answer_that_is_not_slacks_is_in_doubt(
    world: MonitoredWorld, monkeypatch: pytest.MonkeyPatch, httpserver: HTTPServer, answer: str
) -> None:
    """It may have been posted: told again later, and marked; nothing crashes, and nothing of the body is kept."""
    httpserver.expect_request("/api/chat.postMessage").respond_with_data(answer, content_type="application/json")
    connection = {"conn_type": "slack", "password": "xoxb-t", "extra": {"base_url": httpserver.url_for("/api/")}}
    monkeypatch.setenv("AIRFLOW_CONN_SLACK_ALERTS", json.dumps(connection))
    world.drain(NOON + MINUTE)

    (row,) = world.rows("SELECT * FROM monitoring.delivery WHERE channel = %s", SLACK)
    assert (row["status"], row["possible_repeat"]) == ("pending", True)
    assert "Welcome" not in row["last_error"]
    assert len(world.subjects()) == 1


def test_a_message_that_alone_is_refused_does_not_hold_up_the_others(world: MonitoredWorld) -> None:
    """A spam filter that dislikes one text."""
    for number in range(3):
        company = world.hub.add_company(f"Company {number}")
        credential = world.hub.add_credential(company)
        world.hub.add_run(credential, status="running", started_at=NOON - 90 * MINUTE)
    world.tick(NOON + 15 * MINUTE)
    world.mail.fail_next("refuse_content")
    world.drain(NOON + 16 * MINUTE)

    assert len(world.subjects()) == 3
    world.drain(NOON + HOUR)
    assert len(world.subjects()) == 4


def test_retry_after_of_nothing_is_no_busy_loop(world: MonitoredWorld) -> None:
    """At least a second each, and no longer than a drain is patient."""
    world.slack.fail_next(retry_after=0, times=1_000)
    world.drain(NOON + MINUTE)

    assert set(world.waits) == {1.0}
    assert len(world.waits) <= 45
    assert status_of(world, SLACK) == "pending"


def test_an_episode_that_was_never_told_and_is_followed_by_another_is_left_out(world: MonitoredWorld) -> None:
    """Slack was away; what it hears is the episode that is open."""
    world.overlay.write_text(world.overlay.read_text() + "inhibition: false\n")
    world.slack.fail_next(status=500)
    world.fail_three_times(world.credential, before=NOON + 15 * MINUTE)
    world.tick(NOON + 15 * MINUTE)
    world.drain(NOON + 16 * MINUTE)
    world.succeed(world.credential, at=NOON + 80 * MINUTE)
    world.tick(NOON + 90 * MINUTE)
    world.fail_three_times(world.credential, before=NOON + 105 * MINUTE)
    world.tick(NOON + 105 * MINUTE)
    world.drain(NOON + 180 * MINUTE)

    told = [text for text in world.slack_texts() if "times in" in text]
    assert len(told) == 2  # one per rule, both of the second episode
    silent = world.rows(
        "SELECT DISTINCT silent FROM monitoring.delivery WHERE channel = %s AND silent IS NOT NULL"
        " AND reason IN ('first', 'closed')",
        SLACK,
    )
    assert [row["silent"] for row in silent] == ["superseded"]


def test_a_surprise_in_a_sender_leaves_no_lease_and_no_token_behind(
    world: MonitoredWorld, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A token with a line break in it is refused by Python's HTTP client, with the token in the error's text."""
    connection = json.loads(slack_connection(world.slack))
    connection["password"] = "xoxb-123456789012-SECRET\nPART"
    monkeypatch.setenv("AIRFLOW_CONN_SLACK_ALERTS", json.dumps(connection))
    world.drain(NOON + MINUTE)

    (row,) = world.rows("SELECT * FROM monitoring.delivery WHERE channel = %s", SLACK)
    assert row["status"] == "pending"
    assert "SECRET" not in row["last_error"] + caplog.text


@pytest.mark.parametrize("sender", ["monitor", "mönitor@exämple.com", ""])
def test_a_wrong_sender_address_is_one_clear_error(
    world: MonitoredWorld, monkeypatch: pytest.MonkeyPatch, sender: str
) -> None:
    """It names the connection's field."""
    connection = json.loads(mail_connection(world.mail))
    connection["extra"]["from_email"] = sender
    monkeypatch.setenv("AIRFLOW_CONN_ALERT_EMAIL", json.dumps(connection))
    world.drain(NOON + MINUTE)

    (row,) = world.rows("SELECT * FROM monitoring.delivery WHERE channel = %s", MAIL)
    assert row["status"] == "pending"
    assert "from_email" in row["last_error"]


def test_old_news_that_is_over_is_not_sent(world: MonitoredWorld) -> None:
    """A channel that nobody configured for two days hears what is open, and not what was."""
    ((stuck, _),) = world.hub.open_runs()
    world.hub.finish_run(stuck, at=NOON + 10 * MINUTE)
    world.tick(NOON + 15 * MINUTE)
    world.drain(NOON + timedelta(days=2))

    assert world.slack_texts() == []
    statuses = world.rows("SELECT reason, status, silent FROM monitoring.delivery")
    assert {row["status"] for row in statuses if row["reason"] != "updated"} == {"dead"}
    assert {row["silent"] for row in statuses if row["reason"] == "updated"} == {"cannot_edit"}


def test_a_message_that_could_not_be_delivered_for_a_day_is_dead(world: MonitoredWorld) -> None:
    """And stays in the ledger with its reason."""
    world.slack.fail_next(error="invalid_auth", times=200)
    now = NOON
    while now <= NOON + timedelta(hours=26):
        now += timedelta(minutes=20)
        world.drain(now)

    assert status_of(world, SLACK) == "dead"
    assert world.slack_texts() == []


def test_the_mail_has_a_text_part_and_says_what_sent_it(world: MonitoredWorld) -> None:
    """Headers and parts that mail programs and mailing lists go by."""
    world.drain(NOON + MINUTE)

    (mail,) = world.mail.messages
    assert mail.get_content_type() == "multipart/alternative"
    assert [part.get_content_type() for part in mail.iter_parts()] == ["text/plain", "text/html"]
    assert mail["Auto-Submitted"] == "auto-generated"
    assert str(mail["From"]) == "ServiceTitan monitor <monitor@example.com>"
    assert mail["To"] == "ops@example.com"
    assert mail["Message-ID"]
    assert "has been running for" in mail.get_body(("plain",)).get_content()


def test_a_webhook_is_the_lesser_way(world: MonitoredWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a bot token messages still arrive, with blocks, and without a ts to come back to."""
    path = world.slack.webhook_url.partition("/services/")[2]
    host = world.slack.webhook_url.removesuffix(f"/{path}").removeprefix("http://")
    monkeypatch.delenv("AIRFLOW_CONN_SLACK_ALERTS")
    monkeypatch.setenv(
        "AIRFLOW_CONN_SLACK_ALERTS_WEBHOOK",
        f'{{"conn_type": "slackwebhook", "host": "{host}", "schema": "http", "password": "{path}"}}',
    )
    world.drain(NOON + MINUTE)

    (message,) = world.slack.messages
    assert message.via == "webhook"
    assert message.blocks
    (row,) = world.rows("SELECT receipt FROM monitoring.delivery WHERE channel = %s", SLACK)
    assert row["receipt"] == {"webhook": True}


def test_pauses_grow_to_a_cap_and_are_never_all_the_same() -> None:
    """Jitter takes at most a quarter off; what the service asks for is taken as it is."""
    pauses = [retry_pause(attempts, retry_after=None) for attempts in range(1, 20)]

    assert FIRST_BACKOFF * 0.75 <= pauses[0] <= FIRST_BACKOFF
    assert all(LONGEST_BACKOFF * 0.75 <= pause <= LONGEST_BACKOFF for pause in pauses[6:])
    assert retry_pause(9, retry_after=3.0) == timedelta(seconds=3)
    assert retry_pause(9, retry_after=-5.0) == timedelta(seconds=1)
    assert retry_pause(9, retry_after=1e15) == timedelta(hours=1)
    assert retry_pause(1, retry_after=float("nan")) <= FIRST_BACKOFF
    assert len({retry_pause(20, retry_after=None) for _ in range(10)}) > 1

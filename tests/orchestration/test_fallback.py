"""A channel that refuses us: what waits goes to its fallback at once, and a person is called."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException
from psycopg.rows import dict_row

from include.orchestration import operators
from include.simulation.delivery_worker import SLACK
from include.simulation.delivery_world import MAIL, TICK, DeliveryWorld, Tally, closed, mail_connection
from include.simulation.mail_server import MailServer
from include.simulation.slack_server import SlackServer
from include.sync_health.alerts import NotifyReason
from include.warehouse.channel_states import ChannelState, channel_states
from include.warehouse.migration import upgrade
from include.warehouse.monitoring_session import connect
from tests.orchestration.monitored_world import connection_of

OVERLAY = """
alerting:
  fallback: {"slack:#servicetitan-alerts": "email:ops@example.com"}
  links: {airflow: "https://airflow.example.com"}
"""


@pytest.fixture
def world(
    make_database: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[DeliveryWorld]:
    """An outbox, and the policy that names mail as Slack's fallback."""
    dsn = make_database("monitoring")
    upgrade(dsn)
    overlay = tmp_path / "monitor.yaml"
    overlay.write_text(OVERLAY)
    monkeypatch.setenv("SERVICETITAN_MONITOR_CONFIG", str(overlay))
    monkeypatch.setenv("AIRFLOW_CONN_MONITORING_DB", connection_of(dsn))
    with SlackServer() as slack, MailServer() as mail, mail_connection(mail):
        made = DeliveryWorld(monitoring_dsn=dsn, slack=slack, mail=mail)
        monkeypatch.setattr(operators, "wall_clock", made.clock)
        yield made


def run_task(world: DeliveryWorld, channel: str = SLACK) -> dict[str, int]:
    """Do what the channel's drain task does."""
    ti = SimpleNamespace(
        dag_id="servicetitan_sync_failures", run_id="scheduled__1", task_id="drain_slack", map_index=0, try_number=1
    )
    return operators.drain_from_task(channel, send=world.sender(channel), context={"ti": ti})


def ledger(world: DeliveryWorld) -> list[Mapping[str, Any]]:
    with psycopg.connect(world.monitoring_dsn, row_factory=dict_row) as conn:
        return list(conn.execute("SELECT * FROM monitoring.delivery ORDER BY id"))


def state_of(world: DeliveryWorld, channel: str) -> ChannelState:
    with connect(world.monitoring_dsn) as conn:
        return channel_states(conn)[channel]


@pytest.mark.parametrize("error", ["invalid_auth", "channel_not_found", "is_archived", "not_in_channel"])
def test_what_a_channel_refuses_arrives_by_its_fallback_in_the_same_run(world: DeliveryWorld, error: str) -> None:
    """The task fails at once all the same; every mail says why it is one."""
    world.announce(alerts=3)
    world.slack.fail_next(error=error)
    with pytest.raises(AirflowFailException, match=f"3 handed over: {error}.*3 sent"):
        run_task(world)

    assert world.slack.messages == []
    assert len(world.slack.requests) == 1
    assert len(world.mail.messages) == 3
    for mail in world.mail.messages:
        assert f"Sent here because {SLACK} refuses our messages" in str(mail.get_body(("plain",)))
    rows = ledger(world)
    assert [(row["channel"], row["status"], row["fallback_of"]) for row in rows] == [
        *[(SLACK, "dead", None)] * 3,
        *[(MAIL, "sent", SLACK)] * 3,
    ]
    assert all(row["last_error"].startswith(error) for row in rows[:3])
    assert (state_of(world, SLACK).refused_since, state_of(world, MAIL).refused_since) == (world.now, None)


def test_the_channel_is_tried_again_with_the_next_message_and_speaks_for_itself_once_mended(
    world: DeliveryWorld,
) -> None:
    """A close whose opening went to the fallback is a message of its own in the channel."""
    world.announce(alerts=1)
    world.slack.fail_next(error="invalid_auth")
    with pytest.raises(AirflowFailException):
        run_task(world)
    world.now += TICK
    world.owe(NotifyReason.CLOSED, closed(world.alerts[0], at=world.now))
    assert run_task(world) == {"sent": 1, "waiting": 0, "dead": 0, "handed_over": 0}

    (message,) = world.slack.messages
    assert message.thread_ts is None
    assert "Recovered" in message.text
    assert not state_of(world, SLACK).refuses


def test_a_fallback_without_a_connection_is_none(world: DeliveryWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it would get would wait there for nobody; in the channel it is still due when somebody mends that."""
    monkeypatch.delenv("AIRFLOW_CONN_ALERT_EMAIL")
    world.announce(alerts=1)
    world.slack.fail_next(error="invalid_auth")
    with pytest.raises(AirflowFailException, match="1 waiting"):
        run_task(world)

    assert [(row["channel"], row["status"]) for row in ledger(world)] == [(SLACK, "pending")]


def test_a_channel_that_does_not_answer_is_no_refusal(world: DeliveryWorld) -> None:
    """It is well again in a minute, and the fallback would be one more channel to look at."""
    world.announce(alerts=2)
    world.slack.fail_next(status=503)
    with pytest.raises(AirflowException, match="1 waiting"):
        run_task(world)

    assert world.mail.messages == []
    assert {row["channel"] for row in ledger(world)} == {SLACK}


def test_a_fallback_that_refuses_as_well_keeps_its_messages(world: DeliveryWorld) -> None:
    """One step is all there is: nothing goes round in circles."""
    world.announce(alerts=1)
    world.slack.fail_next(error="invalid_auth")
    world.mail.fail_next("refuse_recipient")
    with pytest.raises(AirflowFailException, match=r"email:ops@example\.com: 0 sent, 1 waiting"):
        run_task(world)
    world.now += TICK
    assert run_task(world, MAIL)["sent"] == 1


def test_messages_of_a_task_lead_to_its_run(world: DeliveryWorld) -> None:
    world.announce(alerts=1)
    run_task(world)

    (message,) = world.slack.messages
    assert "https://airflow.example.com/dags/servicetitan_sync_failures/runs/scheduled__1" in str(message.blocks)


@pytest.mark.parametrize("error", ["msg_too_long", "no_text", "invalid_arguments"])
def test_a_message_that_alone_can_never_be_posted_goes_to_the_fallback_alone(world: DeliveryWorld, error: str) -> None:
    world.announce(alerts=3)
    world.slack.fail_next(error=error)
    with pytest.raises(AirflowFailException, match=r"2 sent.*1 handed over.*1 sent"):
        run_task(world)

    assert (len(world.slack.messages), len(world.mail.messages)) == (2, 1)
    assert not state_of(world, SLACK).refuses


def test_what_another_worker_has_in_flight_is_not_told_twice(world: DeliveryWorld) -> None:
    """Slack has just taken its message when a second worker is refused: the fallback gets the others alone."""
    world.announce(alerts=3)

    def second_worker() -> None:
        world.on_sent = None
        world.slack.fail_next(error="token_revoked")
        world.drain(fallback=MAIL, owner="worker-2")

    world.on_sent = second_worker
    world.drain(fallback=MAIL)

    assert (len(world.slack.messages), len(world.mail.messages)) == (1, 2)
    assert world.messages_told() == Tally(sent=3)


def test_a_mail_in_place_of_a_message_that_may_have_arrived_says_that_it_may_be_a_repeat(world: DeliveryWorld) -> None:
    """Slack took it and did not answer; when it is tried again the token is no good any more."""
    world.announce(alerts=2)
    world.slack.fail_next(mode="accept_then_drop")
    world.drain(fallback=MAIL)
    world.slack.fail_next(error="token_revoked")
    world.ticks(1, fallback=MAIL)

    assert (len(world.slack.messages), len(world.mail.messages)) == (1, 2)
    assert world.messages_told() == Tally(sent=2, doubled=1, marked=1)


@pytest.mark.parametrize("retry_after", [5, 600], ids=["a moment", "beyond a drain's patience"])
def test_a_channel_that_is_back_after_a_day_and_asks_us_to_wait_gets_everything(
    world: DeliveryWorld, retry_after: int
) -> None:
    """What it is owed is older than a day; who asks to wait refuses nothing."""
    world.announce(alerts=2)
    world.now += timedelta(hours=25)
    world.slack.fail_next(retry_after=retry_after)
    world.drain(fallback=MAIL)
    world.ticks(1, fallback=MAIL)

    assert (len(world.slack.messages), len(world.mail.messages)) == (2, 0)


@pytest.mark.parametrize(
    "connection",
    [pytest.param('{"conn_type": "slack"}', id="somebody emptied it"), pytest.param(None, id="somebody deleted it")],
)
def test_a_connection_without_its_token_is_a_channel_that_refuses_us(
    world: DeliveryWorld, monkeypatch: pytest.MonkeyPatch, connection: str | None
) -> None:
    """What is due goes to the fallback, and the text says what to mend."""
    for variable in ("AIRFLOW_CONN_SLACK_ALERTS", "AIRFLOW_CONN_SLACK_ALERTS_WEBHOOK"):
        monkeypatch.delenv(variable, raising=False)
    if connection is not None:
        monkeypatch.setenv("AIRFLOW_CONN_SLACK_ALERTS", connection)
    world.announce(alerts=2)
    world.sender = operators.sender_to  # type: ignore[method-assign]
    with pytest.raises(AirflowFailException, match="2 handed over: no_token: the connection slack_alerts is missing"):
        run_task(world)

    assert len(world.mail.messages) == 2
    assert state_of(world, SLACK).refuses

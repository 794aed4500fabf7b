"""What is one conversation to its readers: first messages that are kept up to date, replies, and what happens when it is gone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row
from slack_sdk.webhook import WebhookClient

from include.orchestration.conversation import ALONE, Conversation, conversation_of
from include.orchestration.delivery import LEASE
from include.orchestration.slack_sender import send_by_webhook
from include.simulation.delivery_worker import SLACK
from include.simulation.delivery_world import (
    MAIL,
    TICK,
    DeliveryWorld,
    alert_of,
    closed,
    mail_connection,
)
from include.simulation.mail_server import MailServer
from include.simulation.slack_server import SlackServer
from include.sync_health.alerts import Alert, NotifyReason
from include.sync_health.threads import new_thread
from include.sync_health.verdicts import Severity
from include.warehouse import outbox
from include.warehouse.channel_states import channel_states
from include.warehouse.migration import upgrade
from include.warehouse.monitoring_session import connect

LOUD = [
    NotifyReason.NEW_IN_GROUP,
    NotifyReason.REOPENED,
    NotifyReason.UNSUPPRESSED,
    NotifyReason.ESCALATED,
    NotifyReason.REPEAT,
]


@pytest.fixture
def world(make_database: Callable[..., str]) -> Iterator[DeliveryWorld]:
    """An empty outbox."""
    dsn = make_database("monitoring")
    upgrade(dsn)
    with SlackServer() as slack, MailServer() as mail, mail_connection(mail):
        yield DeliveryWorld(monitoring_dsn=dsn, slack=slack, mail=mail)


def ledger(world: DeliveryWorld) -> list[Mapping[str, Any]]:
    """The deliveries, in the order in which they were decided."""
    with psycopg.connect(world.monitoring_dsn, row_factory=dict_row) as conn:
        return list(conn.execute("SELECT * FROM monitoring.delivery ORDER BY id"))


def statuses(world: DeliveryWorld) -> list[tuple[str, str | None]]:
    """Where each delivery stands, and why it was not sent."""
    return [(row["status"], row["silent"]) for row in ledger(world)]


def later(world: DeliveryWorld, reason: NotifyReason, *alerts: Alert, **options: Any) -> None:
    """Let a tick pass that decides this, and drain Slack."""
    world.now += TICK
    world.owe(reason, *alerts, **options)
    world.drain(options.get("channel", SLACK))


def escalated(alert: Alert) -> Alert:
    return replace(alert, severity=Severity.CRITICAL, peak_severity=Severity.CRITICAL)


@pytest.mark.parametrize("reason", LOUD, ids=str)
def test_what_needs_attention_is_a_reply_that_the_channel_sees_too(world: DeliveryWorld, reason: NotifyReason) -> None:
    world.announce(alerts=1)
    world.drain()
    later(world, reason, escalated(world.alerts[0]))

    parent, reply = world.slack.messages
    assert parent.thread_ts is None
    assert (reply.thread_ts, reply.reply_broadcast) == (parent.ts, True)


def test_a_close_is_a_quiet_reply_and_the_first_message_shows_it_in_the_channel(world: DeliveryWorld) -> None:
    world.announce(alerts=1)
    world.drain()
    world.now += TICK
    over = closed(world.alerts[0], at=world.now)
    world.owe(NotifyReason.CLOSED, over)
    world.owe(NotifyReason.UPDATED, over)
    world.drain()

    parent, reply = world.slack.messages
    assert (reply.thread_ts, reply.reply_broadcast) == (parent.ts, False)
    assert "Recovered" in parent.text
    assert [("Recovered" in edit.text) for edit in parent.edits] == [False]
    assert not parent.shows_edited  # it has blocks: nothing but the text tells that it changed
    receipts = [row["receipt"] for row in ledger(world)]
    assert receipts == [
        {"channel": parent.channel_id, "ts": parent.ts, "parent": True},
        {"channel": parent.channel_id, "ts": reply.ts},
        {"channel": parent.channel_id, "ts": parent.ts, "edited": True},
    ]


def test_a_late_close_that_finds_its_alert_open_again_is_loud_and_says_it_all(world: DeliveryWorld) -> None:
    """The opening that was decided meanwhile has nothing to add, so that nothing else would be seen in the channel."""
    world.announce(alerts=1)
    world.drain()
    (alert,) = world.alerts
    thread = new_thread(SLACK, group=alert.fingerprint, as_of=world.now)
    world.now += TICK
    world.owe(NotifyReason.CLOSED, closed(alert, at=world.now))
    world.now += TICK
    again = alert_of(1, at=world.now)
    world.owe(NotifyReason.REOPENED, again, thread=thread)
    world.drain()

    parent, reply = world.slack.messages
    assert (reply.thread_ts, reply.reply_broadcast) == (parent.ts, True)
    assert "open again" in reply.text
    assert statuses(world) == [("sent", None), ("sent", None), ("not_sent", "already_told")]


def test_others_of_the_group_reply_into_its_thread_and_the_first_message_shows_them(world: DeliveryWorld) -> None:
    first, second = (alert_of(number, at=world.now) for number in (1, 2))
    thread = new_thread(SLACK, group="one cause", as_of=world.now)
    world.owe(NotifyReason.FIRST, first, thread=thread)
    world.drain()
    later(world, NotifyReason.NEW_IN_GROUP, second, thread=thread)
    later(world, NotifyReason.UPDATED, first, thread=thread)

    parent, reply = world.slack.messages
    assert reply.thread_ts == parent.ts
    assert "Company 01" in str(parent.blocks)
    assert "Company 02" in str(parent.blocks)


PARENT = {"channel": "C1", "ts": "1.0", "parent": True}


@pytest.mark.parametrize(
    ("reason", "thread", "parent", "into"),
    [
        pytest.param(NotifyReason.DIGEST, None, None, ALONE, id="a summary belongs to none"),
        pytest.param(NotifyReason.FIRST, "t", None, Conversation(begins=True), id="the first message begins it"),
        pytest.param(NotifyReason.REPEAT, "t", None, Conversation(begins=True), id="whichever is the first sent"),
        pytest.param(NotifyReason.REPEAT, "t", PARENT, Conversation(parent=PARENT, broadcast=True), id="a loud reply"),
        pytest.param(NotifyReason.CLOSED, "t", PARENT, Conversation(parent=PARENT), id="a quiet reply"),
        pytest.param(NotifyReason.UPDATED, "t", PARENT, Conversation(parent=PARENT, edits=True), id="an edit"),
    ],
)
def test_what_a_delivery_is_sent_into(
    reason: NotifyReason, thread: str | None, parent: Mapping[str, Any] | None, into: Conversation
) -> None:
    assert conversation_of(reason, thread=thread, parent=parent) == into


def deleted(world: DeliveryWorld) -> None:
    world.slack.workspace.delete(world.slack.messages[0])


def too_old(world: DeliveryWorld) -> None:
    world.slack.workspace.edit_window = timedelta(0)


def refusing(error: str) -> Callable[[DeliveryWorld], None]:
    return lambda world: world.slack.fail_next("chat.update", error=error)


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(deleted, id="somebody deleted it"),
        pytest.param(too_old, id="the workspace lets nobody edit old messages"),
        pytest.param(refusing("cant_update_message"), id="it is not ours"),
        pytest.param(refusing("is_inactive"), id="its channel is no more"),
        pytest.param(refusing("channel_not_found"), id="its channel is gone"),
        pytest.param(refusing("block_mismatch"), id="a refusal that speaks of that message"),
    ],
)
def test_a_first_message_that_cannot_be_edited_is_followed_by_a_new_one(
    world: DeliveryWorld, spoil: Callable[[DeliveryWorld], None]
) -> None:
    """And that one is edited and replied to from then on; the channel itself is not taken for one that refuses us."""
    world.announce(alerts=1)
    world.drain()
    before = world.slack.messages
    spoil(world)
    later(world, NotifyReason.UPDATED, escalated(world.alerts[0]))
    (anew,) = [message for message in world.slack.messages if message not in before]
    assert anew.thread_ts is None
    assert "Critical" in anew.text

    world.slack.workspace.edit_window = None
    world.now += TICK
    over = closed(world.alerts[0], at=world.now)
    world.owe(NotifyReason.CLOSED, over)
    world.owe(NotifyReason.UPDATED, over)
    world.drain()
    assert "Recovered" in next(message.text for message in world.slack.messages if message.ts == anew.ts)
    assert world.slack.messages[-1].thread_ts == anew.ts
    with connect(world.monitoring_dsn) as conn:
        assert not channel_states(conn)[SLACK].refuses


def test_a_reply_to_a_thread_that_is_gone_begins_a_new_one(world: DeliveryWorld) -> None:
    world.announce(alerts=1)
    world.drain()
    deleted(world)
    later(world, NotifyReason.ESCALATED, escalated(world.alerts[0]))
    later(world, NotifyReason.CLOSED, closed(world.alerts[0], at=world.now))

    anew, reply = world.slack.messages
    assert anew.thread_ts is None
    assert reply.thread_ts == anew.ts


def test_an_edit_whose_blocks_slack_refuses_is_text_without_the_old_blocks(world: DeliveryWorld) -> None:
    world.announce(alerts=1)
    world.drain()
    world.slack.fail_next("chat.update", error="msg_blocks_too_long")
    later(world, NotifyReason.UPDATED, closed(world.alerts[0], at=world.now))

    (message,) = world.slack.messages
    assert "Recovered" in message.text
    assert not message.blocks
    assert ledger(world)[-1]["receipt"]["text_only"] == "msg_blocks_too_long"


def test_several_edits_that_wait_are_one(world: DeliveryWorld) -> None:
    """A channel that was out for hours hears the state of now."""
    world.announce(alerts=1)
    world.drain()
    for severity in (Severity.MEDIUM, Severity.CRITICAL):
        world.now += TICK
        world.owe(NotifyReason.UPDATED, replace(world.alerts[0], severity=severity))
    world.drain()

    assert len(world.slack.messages[0].edits) == 1
    assert "Critical" in world.slack.messages[0].text
    assert statuses(world) == [("sent", None), ("not_sent", "superseded"), ("sent", None)]


def test_an_edit_of_a_killed_worker_is_repeated_without_saying_so(world: DeliveryWorld) -> None:
    world.announce(alerts=1)
    world.drain()
    with psycopg.connect(world.monitoring_dsn) as conn:
        world.recover()
        conn.execute("UPDATE monitoring.delivery SET possible_repeat = true WHERE reason = 'updated'")
    world.drain()

    (message,) = world.slack.messages
    assert "Recovered" in message.text
    assert "may be a repeat" not in message.text + str(message.blocks)


def test_mails_of_a_conversation_refer_to_its_first_and_are_never_edits(world: DeliveryWorld) -> None:
    world.announce(MAIL, alerts=1)
    world.drain(MAIL)
    later(world, NotifyReason.ESCALATED, escalated(world.alerts[0]), channel=MAIL)
    later(world, NotifyReason.UPDATED, escalated(world.alerts[0]), channel=MAIL)
    later(world, NotifyReason.CLOSED, closed(world.alerts[0], at=world.now), channel=MAIL)

    first, second, third = world.mail.messages
    assert first["In-Reply-To"] is None
    for reply in (second, third):
        assert reply["In-Reply-To"] == reply["References"] == first["Message-ID"]
    assert len({mail["Message-ID"] for mail in world.mail.messages}) == 3
    assert statuses(world) == [("sent", None), ("sent", None), ("not_sent", "cannot_edit"), ("sent", None)]
    assert [row["receipt"] for row in ledger(world)][:2] == [
        {"message_id": first["Message-ID"], "parent": True},
        {"message_id": second["Message-ID"]},
    ]


def test_a_repeat_of_a_mail_has_its_message_id(world: DeliveryWorld) -> None:
    """A mailbox that has the first may leave out the second; whoever replies refers to both."""
    world.announce(MAIL, alerts=1)
    world.mail.fail_next("accept_then_drop")
    world.drain(MAIL)
    world.ticks(1, channel=MAIL)

    first, second = world.mail.messages
    assert first["Message-ID"] == second["Message-ID"]
    assert "may be a repeat" in str(second.get_body(("plain",)))


def test_a_webhook_has_no_threads_and_no_edits_and_every_message_says_what_it_is_about(world: DeliveryWorld) -> None:
    world.sender = lambda channel: send_by_webhook(  # type: ignore[method-assign]
        WebhookClient(world.slack.webhook_url, retry_handlers=[])
    )
    world.announce(alerts=1)
    world.drain()
    later(world, NotifyReason.ESCALATED, escalated(world.alerts[0]))
    later(world, NotifyReason.UPDATED, escalated(world.alerts[0]))

    assert [message.thread_ts for message in world.slack.messages] == [None, None]
    assert all("Company 01" in message.text for message in world.slack.messages)
    assert not world.slack.messages[0].edits
    assert [row["receipt"] for row in ledger(world)] == [{"webhook": True}, {"webhook": True}, None]
    assert statuses(world) == [("sent", None), ("sent", None), ("not_sent", "cannot_edit")]


def test_a_bots_conversation_goes_on_through_a_webhook(world: DeliveryWorld) -> None:
    """The token is lost, the webhook is there: an edit ends as such, a reply is a message of its own."""
    world.announce(alerts=1)
    world.drain()
    world.sender = lambda channel: send_by_webhook(  # type: ignore[method-assign]
        WebhookClient(world.slack.webhook_url, retry_handlers=[])
    )
    later(world, NotifyReason.UPDATED, escalated(world.alerts[0]))
    later(world, NotifyReason.ESCALATED, escalated(world.alerts[0]))

    assert statuses(world) == [("sent", None), ("not_sent", "cannot_edit"), ("sent", None)]
    assert world.slack.messages[-1].thread_ts is None


def held(world: DeliveryWorld) -> None:
    """Let a worker take the next delivery, and be slow about it."""
    with connect(world.monitoring_dsn) as conn:
        assert outbox.lease_next(conn, channel=SLACK, owner="slow", now=world.now, lease_for=LEASE)


def test_a_conversation_does_not_begin_twice(world: DeliveryWorld) -> None:
    """While one worker posts its first message, another one does not reply into nothing."""
    first, second = (alert_of(number, at=world.now) for number in (1, 2))
    thread = new_thread(SLACK, group="one cause", as_of=world.now)
    world.owe(NotifyReason.FIRST, first, thread=thread)
    held(world)
    world.owe(NotifyReason.NEW_IN_GROUP, second, thread=thread)
    world.drain(owner="quick")
    assert world.slack.messages == []

    world.now += LEASE
    world.drain(owner="quick")
    parent, reply = world.slack.messages
    assert (parent.thread_ts, reply.thread_ts) == (None, parent.ts)


def test_two_edits_of_a_message_are_not_in_flight_at_once(world: DeliveryWorld) -> None:
    """The older could arrive last, and stay."""
    world.announce(alerts=1)
    world.drain()
    world.now += TICK
    world.owe(NotifyReason.UPDATED, escalated(world.alerts[0]))
    held(world)
    world.now += timedelta(minutes=1)
    world.owe(NotifyReason.UPDATED, closed(world.alerts[0], at=world.now))
    world.drain(owner="quick")
    assert not world.slack.messages[0].edits

    world.now += LEASE
    world.drain(owner="quick")
    assert "Recovered" in world.slack.messages[0].text

"""Threads and edits in the simulated Slack, spoken to by the real ``slack_sdk``: what it keeps, and what it refuses."""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any
from urllib.error import URLError

import pytest
from slack_sdk import WebClient

from include.simulation.slack_server import SlackServer
from include.simulation.slack_workspace import BOT_TOKEN
from tests.simulation.slack_calls import CHANNEL, CHANNELS, TOKENS, client, refusal, section

NAME = "servicetitan-alerts"


@pytest.fixture
def slack() -> Iterator[SlackServer]:
    """A Slack of one's own: its channels may be archived."""
    with SlackServer(channels=CHANNELS, tokens=TOKENS) as running:
        yield running


def posted(slack: SlackServer, text: str = "parent", **more: Any) -> str:
    """Post as the bot; returns the ts."""
    return str(client(slack).chat_postMessage(channel=CHANNEL, text=text, **more)["ts"])


def test_a_thread_of_a_parent_with_edits_and_replies_can_be_looked_into(slack: SlackServer) -> None:
    ts = posted(slack)
    posted(slack, "loud", thread_ts=ts, reply_broadcast=True)
    posted(slack, "quiet", thread_ts=ts)
    client(slack).chat_update(channel=CHANNEL, ts=ts, text="parent, now")

    parent, loud, quiet = slack.messages
    assert (parent.text, [edit.text for edit in parent.edits]) == ("parent, now", ["parent"])
    assert (loud.thread_ts, loud.reply_broadcast) == (ts, True)
    assert (quiet.thread_ts, quiet.reply_broadcast) == (ts, False)


def test_a_broadcast_without_a_thread_is_an_ordinary_message(slack: SlackServer) -> None:
    posted(slack, reply_broadcast=True)

    assert not slack.messages[0].reply_broadcast


def test_there_is_no_reply_to_a_reply_nor_to_what_was_deleted(slack: SlackServer) -> None:
    parent = posted(slack)
    reply = posted(slack, "reply", thread_ts=parent)

    assert refusal(lambda: posted(slack, "x", thread_ts=reply))["error"] == "thread_not_found"
    slack.workspace.delete(slack.messages[0])
    assert refusal(lambda: posted(slack, "x", thread_ts=parent))["error"] == "thread_not_found"
    assert [message.text for message in slack.messages] == ["reply"]


def someone_elses(slack: SlackServer) -> str:
    return slack.workspace.say("I wrote this", channel=NAME).ts


def deleted(slack: SlackServer) -> str:
    ts = posted(slack)
    slack.workspace.delete(slack.messages[0])
    return ts


def archived(slack: SlackServer) -> str:
    ts = posted(slack)
    slack.workspace.archive(NAME)
    return ts


def too_old(slack: SlackServer) -> str:
    ts = posted(slack)
    slack.workspace.edit_window = timedelta(0)
    return ts


@pytest.mark.parametrize(
    ("prepare", "change", "error"),
    [
        pytest.param(posted, {"ts": "1.000000"}, "message_not_found", id="a message that is not there"),
        pytest.param(posted, {"channel": "C0OTHER"}, "message_not_found", id="another channel's"),
        pytest.param(posted, {"channel": "C0NOWHERE"}, "channel_not_found", id="an unknown channel"),
        pytest.param(posted, {"channel": f"#{NAME}"}, "channel_not_found", id="a channel by its name"),
        pytest.param(deleted, {}, "message_not_found", id="one that was deleted"),
        pytest.param(someone_elses, {}, "cant_update_message", id="one that a person wrote"),
        pytest.param(archived, {}, "is_inactive", id="one in an archived channel"),
        pytest.param(too_old, {}, "edit_window_closed", id="one that is too old"),
        pytest.param(posted, {"blocks": [section()] * 51}, "invalid_blocks", id="too many blocks"),
        pytest.param(posted, {"blocks": [section("x" * 2900)] * 5}, "msg_blocks_too_long", id="too long blocks"),
        pytest.param(posted, {"text": ""}, "no_text", id="nothing to say"),
        pytest.param(posted, {"reply_broadcast": True}, "cant_broadcast_message", id="a broadcast of no reply"),
    ],
)
def test_an_edit_that_slack_refuses_changes_nothing(
    slack: SlackServer, prepare: Callable[[SlackServer], str], change: dict[str, Any], error: str
) -> None:
    arguments = {"channel": CHANNEL, "ts": prepare(slack), "text": "edited", **change}
    before = slack.messages

    assert refusal(lambda: client(slack).api_call("chat.update", json=arguments))["error"] == error
    assert slack.messages == before


def test_an_edit_needs_its_scope_and_ignores_what_it_does_not_know(slack: SlackServer) -> None:
    arguments = {"channel": CHANNEL, "ts": posted(slack), "text": "edited", "thread_broadcast": "what is this"}

    answer = refusal(lambda: client(slack, "xoxb-reader").api_call("chat.update", json=arguments))
    assert (answer["error"], answer["needed"]) == ("missing_scope", "chat:write")
    assert client(slack).api_call("chat.update", json=arguments)["ok"]
    assert slack.messages[0].text == "edited"


@pytest.mark.parametrize("method", ["chat.postMessage", "chat.update"])
@pytest.mark.parametrize(
    ("mode", "is_done"),
    [
        pytest.param("hang", False, id="never answered, nothing done"),
        pytest.param("accept_then_hang", True, id="done, and never answered"),
    ],
)
def test_a_call_that_is_never_answered_ends_with_the_patience_of_the_client(
    slack: SlackServer, method: str, mode: Any, is_done: bool
) -> None:
    ts = posted(slack)
    slack.fail_next(method, mode=mode)
    impatient = WebClient(token=BOT_TOKEN, base_url=slack.base_url, retry_handlers=[], timeout=0.2)  # type: ignore[arg-type]
    with pytest.raises((TimeoutError, URLError, http.client.HTTPException)):
        impatient.api_call(method, json={"channel": CHANNEL, "ts": ts, "text": "after"})

    while (method, 0) not in slack.requests:  # a busy server may get to it only now
        time.sleep(0.01)
    assert any(message.text == "after" for message in slack.messages) is is_done

"""What the simulated Slack refuses, as the real ``slack_sdk`` is told: Slack's codes and Slack's words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from slack_sdk.webhook import WebhookClient

from include.simulation.slack_rules import block_errors
from include.simulation.slack_server import SlackServer
from include.simulation.slack_workspace import BOT_TOKEN
from tests.simulation.slack_calls import CHANNEL, CHANNELS, TOKENS, button, client, mrkdwn, plain, refusal, section


@pytest.fixture(scope="module")
def server() -> Iterator[SlackServer]:
    with SlackServer(channels=CHANNELS, tokens=TOKENS) as running:
        yield running


@pytest.fixture
def slack(server: SlackServer) -> SlackServer:
    server.workspace.clear()
    server.requests.clear()
    return server


BLOCK_REFUSALS = [
    pytest.param([{"type": "divider"}] * 51, "no more than 50 items allowed [json-pointer:/blocks]", id="51 blocks"),
    pytest.param(
        [section("x" * 3001)],
        "must be less than 3001 characters [json-pointer:/blocks/0/text/text]",
        id="a section's text of 3,001",
    ),
    pytest.param([section("")], "must be more than 0 characters [json-pointer:/blocks/0/text/text]", id="empty text"),
    pytest.param(
        [{"type": "section"}], "missing required field: text or fields [json-pointer:/blocks/0]", id="a bare section"
    ),
    pytest.param(
        [{"type": "section", "text": {"type": "mrkdwn"}}],
        "missing required field: text [json-pointer:/blocks/0/text]",
        id="a text object without text",
    ),
    pytest.param(
        [{"type": "section", "text": "hello"}], "must be an object [json-pointer:/blocks/0/text]", id="a bare string"
    ),
    pytest.param(
        [{"type": "section", "fields": [mrkdwn("f")] * 11}],
        "no more than 10 items allowed [json-pointer:/blocks/0/fields]",
        id="11 fields",
    ),
    pytest.param(
        [{"type": "section", "fields": [mrkdwn("f"), mrkdwn("f" * 2001)]}],
        "must be less than 2001 characters [json-pointer:/blocks/0/fields/1/text]",
        id="a field of 2,001",
    ),
    pytest.param(
        [{"type": "section", "fields": []}],
        "no fewer than 1 items allowed [json-pointer:/blocks/0/fields]",
        id="no fields",
    ),
    pytest.param(
        [{"type": "header", "text": plain("h" * 151)}],
        "must be less than 151 characters [json-pointer:/blocks/0/text/text]",
        id="a header of 151",
    ),
    pytest.param(
        [{"type": "header", "text": mrkdwn("h")}],
        "unsupported type: mrkdwn [json-pointer:/blocks/0/text/type]",
        id="a mrkdwn header",
    ),
    pytest.param(
        [{"type": "header"}], "missing required field: text [json-pointer:/blocks/0]", id="a header without text"
    ),
    pytest.param(
        [{"type": "context", "elements": [mrkdwn("c")] * 11}],
        "no more than 10 items allowed [json-pointer:/blocks/0/elements]",
        id="11 context elements",
    ),
    pytest.param(
        [{"type": "context"}],
        "missing required field: elements [json-pointer:/blocks/0]",
        id="a context without elements",
    ),
    pytest.param(
        [{"type": "actions", "elements": [button()] * 26}],
        "no more than 25 items allowed [json-pointer:/blocks/0/elements]",
        id="26 actions",
    ),
    pytest.param(
        [{"type": "actions", "elements": [button("t" * 76)]}],
        "must be less than 76 characters [json-pointer:/blocks/0/elements/0/text/text]",
        id="a button's text of 76",
    ),
    pytest.param(
        [{"type": "actions", "elements": [button(url="https://example.com/" + "u" * 2981)]}],
        "must be less than 3001 characters [json-pointer:/blocks/0/elements/0/url]",
        id="a URL of 3,001",
    ),
    pytest.param(
        [{"type": "actions", "elements": [button(url="nonsense")]}],
        "must be a valid URL [json-pointer:/blocks/0/elements/0/url]",
        id="a URL that is none",
    ),
    pytest.param(
        [{"type": "actions", "elements": [button(style="loud")]}],
        "must be a valid enum value [json-pointer:/blocks/0/elements/0/style]",
        id="a style that is none",
    ),
    pytest.param(
        [{"type": "actions", "elements": [button(action_id="a"), button(action_id="a")]}],
        "action_id already exists: a [json-pointer:/blocks/0/elements/1]",
        id="an action_id twice",
    ),
    pytest.param(
        [{"type": "actions", "elements": [{"type": "lever"}]}],
        "unsupported type: lever [json-pointer:/blocks/0/elements/0/type]",
        id="an unknown element",
    ),
    pytest.param(
        [section(block_id="b" * 256)],
        "must be less than 256 characters [json-pointer:/blocks/0/block_id]",
        id="a block_id of 256",
    ),
    pytest.param(
        [section(block_id="b"), section(block_id="b")],
        "block_id already exists: b [json-pointer:/blocks/1/block_id]",
        id="a block_id twice",
    ),
    pytest.param(
        [{"type": "banner", "text": plain("x")}],
        "unsupported type: banner [json-pointer:/blocks/0/type]",
        id="an unknown type of block",
    ),
    pytest.param([{"text": plain("x")}], "missing required field: type [json-pointer:/blocks/0]", id="no type"),
    pytest.param(
        [section(colour="red")],
        "invalid additional property: colour [json-pointer:/blocks/0]",
        id="an unknown field of a block",
    ),
    pytest.param(
        [{"type": "section", "text": {**mrkdwn("x"), "emoji": True}}],
        "invalid additional property: emoji [json-pointer:/blocks/0/text]",
        id="a field of the other kind of text",
    ),
    pytest.param(
        [{"type": "image", "image_url": "https://example.com/a.png"}],
        "missing required field: alt_text [json-pointer:/blocks/0]",
        id="a picture without words",
    ),
]


@pytest.mark.parametrize(("blocks", "words"), BLOCK_REFUSALS)
def test_blocks_are_refused_with_the_place(slack: SlackServer, blocks: list[dict[str, Any]], words: str) -> None:
    answer = refusal(lambda: client(slack).chat_postMessage(channel=CHANNEL, text="x", blocks=blocks))

    assert answer["error"] == "invalid_blocks"
    assert answer["response_metadata"]["messages"][0] == f"[ERROR] {words}"
    assert slack.messages == []


REFUSALS = [
    pytest.param({"channel": "C0NOBODY", "text": "x"}, "channel_not_found", id="an unknown channel"),
    pytest.param({"text": "x"}, "invalid_arguments", id="no channel"),
    pytest.param({"channel": "C0OTHER", "text": "x"}, "not_in_channel", id="a channel the bot has not joined"),
    pytest.param({"channel": "#old", "text": "x"}, "is_archived", id="an archived channel"),
    pytest.param({"channel": CHANNEL}, "no_text", id="nothing at all"),
    pytest.param({"channel": CHANNEL, "text": " \n"}, "no_text", id="only white space"),
    pytest.param({"channel": CHANNEL, "text": "x", "blocks": "[{"}, "invalid_blocks_format", id="blocks cut short"),
    pytest.param({"channel": CHANNEL, "text": "x", "blocks": {"a": 1}}, "invalid_blocks_format", id="blocks no list"),
    pytest.param({"channel": CHANNEL, "text": "x" * 40_001}, "msg_too_long", id="a text of 40,001"),
    pytest.param(
        {"channel": CHANNEL, "text": "x", "blocks": [section("x" * 2700)] * 5},
        "msg_blocks_too_long",
        id="blocks of more than 13,200 characters together",
    ),
    pytest.param({"channel": CHANNEL, "text": ["x"]}, "invalid_arguments", id="a text that is a list"),
    pytest.param({"channel": CHANNEL, "text": "x", "unfurl_links": "maybe"}, "invalid_arguments", id="maybe a boolean"),
    pytest.param(
        {"channel": CHANNEL, "text": "x", "thread_ts": "1.000000"}, "thread_not_found", id="an unknown thread"
    ),
    pytest.param({"channel": CHANNEL, "text": "x", "markdown_text": "y"}, "markdown_text_conflict", id="two texts"),
    pytest.param(
        {"channel": CHANNEL, "text": "x", "metadata": {"event_type": 1}}, "invalid_metadata_format", id="odd metadata"
    ),
    pytest.param(
        {"channel": CHANNEL, "text": "x", "attachments": [{"blocks": [section("")]}]},
        "invalid_blocks",
        id="a bad block in an attachment",
    ),
    pytest.param({"channel": CHANNEL, "text": "x", "attachments": "{}"}, "invalid_attachments", id="odd attachments"),
    pytest.param(
        {"channel": CHANNEL, "text": "x", "attachments": [{}] * 101}, "too_many_attachments", id="101 attachments"
    ),
]


@pytest.mark.parametrize(("body", "error"), REFUSALS)
def test_a_post_is_refused(slack: SlackServer, body: dict[str, Any], error: str) -> None:
    assert refusal(lambda: client(slack).api_call("chat.postMessage", json=body))["error"] == error
    assert slack.messages == []


@pytest.mark.parametrize(
    ("token", "error"),
    [
        pytest.param(None, "not_authed", id="no token"),
        pytest.param("xoxb-wrong", "invalid_auth", id="an unknown token"),
        pytest.param("xoxb-reader", "missing_scope", id="a token that may not write"),
    ],
)
def test_a_token_is_refused(slack: SlackServer, token: str | None, error: str) -> None:
    answer = refusal(lambda: client(slack, token).chat_postMessage(channel=CHANNEL, text="x"))

    assert answer["error"] == error
    if error == "missing_scope":
        assert (answer["needed"], answer["provided"]) == ("chat:write", "channels:read")


def test_a_revoked_token_is_refused() -> None:
    with SlackServer() as slack:
        slack.workspace.revoke(BOT_TOKEN)
        assert refusal(client(slack).auth_test)["error"] == "token_revoked"


def test_an_unknown_method_is_refused(slack: SlackServer) -> None:
    assert refusal(lambda: client(slack).api_call("chat.shout"))["error"] == "unknown_method"


@pytest.mark.parametrize(
    ("change", "error"),
    [
        pytest.param({"ts": "1.000000"}, "message_not_found", id="an unknown ts"),
        pytest.param({"ts": None}, "invalid_arguments", id="no ts"),
        pytest.param({"channel": "servicetitan-alerts"}, "channel_not_found", id="a channel's name, not its id"),
        pytest.param({"text": ""}, "no_text", id="nothing to say"),
        pytest.param({"blocks": [section("")]}, "invalid_blocks", id="a bad block"),
    ],
)
def test_an_update_is_refused(slack: SlackServer, change: dict[str, Any], error: str) -> None:
    posted = client(slack).chat_postMessage(channel=CHANNEL, text="first")
    body = {"channel": CHANNEL, "ts": posted["ts"], "text": "second", **change}

    assert refusal(lambda: client(slack).api_call("chat.update", json=body))["error"] == error
    assert [message.text for message in slack.messages] == ["first"]


def test_what_a_webhook_posted_cannot_be_updated_by_the_bot(slack: SlackServer) -> None:
    WebhookClient(slack.webhook_url).send(text="hello")
    ts = slack.messages[0].ts

    answer = refusal(lambda: client(slack).chat_update(channel=CHANNEL, ts=ts, text="changed"))
    assert answer["error"] == "cant_update_message"


@given(
    st.recursive(
        st.none() | st.booleans() | st.text(max_size=8) | st.integers(),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(
                st.sampled_from(["type", "text", "fields", "elements", "block_id", "url"]),
                inner | st.sampled_from(["section", "header", "context", "actions", "button", "mrkdwn", "plain_text"]),
                max_size=4,
            )
        ),
        max_leaves=12,
    )
)
def test_no_payload_breaks_the_rules_themselves(payload: Any) -> None:
    """Whatever is sent, the answer is a list of objections in Slack's form, never a crash."""
    assert all("[json-pointer:/blocks" in line for line in block_errors(payload))

"""The simulated Slack, spoken to by the real ``slack_sdk``: what it accepts and keeps, and how it fails."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.error import URLError

import pytest
from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError
from slack_sdk.webhook import WebhookClient

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


# --- what is accepted ------------------------------------------------------------------------------------------------


def test_auth_test_names_the_bot_and_its_scopes(slack: SlackServer) -> None:
    answer = client(slack).auth_test()

    assert answer["bot_id"] == "B0SIMULATED"
    assert answer.headers["x-oauth-scopes"] == "chat:write,channels:read,users:read"


def test_api_test_needs_no_token(slack: SlackServer) -> None:
    assert client(slack, None).api_test()["ok"]
    assert refusal(lambda: client(slack, None).api_test(error="my_error"))["error"] == "my_error"


def test_channels_and_users_can_be_looked_up(slack: SlackServer) -> None:
    web = client(slack)

    assert web.conversations_info(channel=CHANNEL)["channel"]["name"] == "servicetitan-alerts"
    assert [each["id"] for each in web.conversations_list()["channels"]] == [each.id for each in CHANNELS]
    assert web.users_info(user="U0SIMULATED")["user"]["is_bot"]


@pytest.mark.parametrize("reference", [CHANNEL, "#servicetitan-alerts", "servicetitan-alerts"])
@pytest.mark.parametrize("as_json", [True, False], ids=["JSON body", "form body"])
def test_a_message_is_stored_as_it_was_sent(slack: SlackServer, reference: str, as_json: bool) -> None:
    """Forms carry blocks and metadata as JSON text; what is stored is the same."""
    body: dict[str, Any] = {
        "channel": reference,
        "text": "Zwölf & <b>",
        "blocks": [section(), {"type": "divider"}],
        "metadata": {"event_type": "alert", "event_payload": {"fingerprint": "ab12"}},
        "unfurl_links": False,
        "unknown_argument": "ignored",
    }
    if as_json:
        answer = client(slack).api_call("chat.postMessage", json=body)
    else:
        form = {name: json.dumps(value) if isinstance(value, list | dict) else value for name, value in body.items()}
        answer = client(slack).api_call("chat.postMessage", data=form)

    (message,) = slack.messages
    assert (answer["channel"], answer["ts"]) == (CHANNEL, message.ts)
    assert (message.text, message.channel, message.via) == ("Zwölf & <b>", "servicetitan-alerts", "bot")
    assert list(message.blocks) == body["blocks"]
    assert message.metadata == body["metadata"]


def test_every_block_that_we_send_is_accepted_at_its_limit(slack: SlackServer) -> None:
    blocks = [
        {"type": "header", "text": plain("h" * 150), "block_id": "b" * 255},
        section("s" * 3000),
        {"type": "section", "fields": [mrkdwn("f" * 200)] * 10},
        {"type": "context", "elements": [mrkdwn("c" * 20)] * 10},
        {"type": "actions", "elements": [button("t" * 75, action_id=str(i)) for i in range(25)]},
        section(accessory=button(url="https://example.com/" + "u" * 1000, style="danger", action_id="a")),
        {"type": "image", "image_url": "https://example.com/a.png", "alt_text": "a"},
        *[{"type": "divider"}] * 43,
    ]
    assert len(blocks) == 50

    client(slack).chat_postMessage(channel=CHANNEL, text="fallback", blocks=blocks)

    assert len(slack.messages) == 1


def test_a_username_is_taken_only_with_its_scope(slack: SlackServer) -> None:
    client(slack).chat_postMessage(channel=CHANNEL, text="one", username="Someone")
    client(slack, "xoxb-public").chat_postMessage(channel=CHANNEL, text="two", username="Someone")

    assert [message.username for message in slack.messages] == ["ServiceTitan Monitor", "Someone"]


def test_a_public_channel_takes_a_stranger_with_the_scope_for_it(slack: SlackServer) -> None:
    assert client(slack, "xoxb-public").chat_postMessage(channel="C0OTHER", text="hello")["ok"]


def test_replies_belong_to_their_thread(slack: SlackServer) -> None:
    parent = client(slack).chat_postMessage(channel=CHANNEL, text="parent")
    client(slack).chat_postMessage(channel=CHANNEL, text="reply", thread_ts=parent["ts"], reply_broadcast=True)

    assert [(message.thread_ts, message.reply_broadcast) for message in slack.messages] == [
        (None, False),
        (parent["ts"], True),
    ]


def test_timestamps_are_unique_and_rise_even_when_the_clock_stands_still() -> None:
    now = datetime(2026, 11, 24, 16, 0, tzinfo=UTC)
    with SlackServer(clock=lambda: now) as slack:
        web = client(slack)
        posts = [
            threading.Thread(target=web.chat_postMessage, kwargs={"channel": CHANNEL, "text": str(number)})
            for number in range(12)
        ]
        for post in posts:
            post.start()
        for post in posts:
            post.join()

        stamps = [message.ts for message in slack.messages]
        assert len(stamps) == 12
        assert stamps == sorted(set(stamps))
        assert stamps[0] == f"{int(now.timestamp())}.000000"
        assert slack.messages[0].posted_at == now


def test_an_update_keeps_what_stood_there_before(slack: SlackServer) -> None:
    web = client(slack)
    posted = web.chat_postMessage(channel=CHANNEL, text="open", blocks=[section("open")])
    web.chat_update(channel=CHANNEL, ts=posted["ts"], text="worse", blocks=[section("worse")])
    assert not slack.messages[0].shows_edited

    web.chat_update(channel=CHANNEL, ts=posted["ts"], text="closed")

    (message,) = slack.messages
    assert (message.text, message.blocks, message.shows_edited) == ("closed", (), True)
    assert [edit.text for edit in message.edits] == ["open", "worse"]
    assert message.edits[0].blocks == (section("open"),)


# --- webhooks --------------------------------------------------------------------------------------------------------


def test_a_webhook_answers_ok(slack: SlackServer) -> None:
    answer = WebhookClient(slack.webhook_url).send(text="hello", blocks=[section()])

    assert (answer.status_code, answer.body) == (200, "ok")
    assert [(message.text, message.via) for message in slack.messages] == [("hello", "webhook")]


@pytest.mark.parametrize(
    ("path", "body", "status", "text"),
    [
        pytest.param("", {"text": ""}, 400, "no_text", id="nothing to say"),
        pytest.param("", {"text": "x", "blocks": [section("")]}, 400, "invalid_blocks", id="a bad block"),
        pytest.param("/T0SIMULATED/B0SIMULATED/wrong", {"text": "x"}, 403, "invalid_token", id="a wrong token"),
        pytest.param("/T0SIMULATED/B0OTHER/x", {"text": "x"}, 404, "no_service", id="an unknown webhook"),
        pytest.param("/T0OTHER/B0SIMULATED/x", {"text": "x"}, 404, "no_team", id="an unknown workspace"),
    ],
)
def test_a_webhook_refuses_in_plain_text(
    slack: SlackServer, path: str, body: dict[str, Any], status: int, text: str
) -> None:
    url = slack.base_url.replace("/api/", f"/services{path}") if path else slack.webhook_url
    answer = WebhookClient(url).send_dict(body)

    assert (answer.status_code, answer.body) == (status, text)
    assert slack.messages == []


@pytest.mark.parametrize("body", [b"not json", b"[1]", b"\xff"], ids=["no JSON", "a list", "no UTF-8"])
def test_a_webhook_refuses_what_it_cannot_read(slack: SlackServer, body: bytes) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", slack.port, timeout=5)
    connection.request(
        "POST", slack.webhook_url.partition(str(slack.port))[2], body, {"Content-Type": "application/json"}
    )
    answer = connection.getresponse()

    assert (answer.status, answer.read()) == (400, b"invalid_payload")
    connection.close()


def test_a_webhook_of_an_archived_channel_is_gone() -> None:
    with SlackServer(channels=CHANNELS, webhook_channel="old") as slack:
        answer = WebhookClient(slack.webhook_url).send(text="x")
        assert (answer.status_code, answer.body) == (410, "channel_is_archived")


def test_a_webhook_of_a_deleted_channel_is_not_found() -> None:
    with SlackServer(channels=CHANNELS, webhook_channel="deleted") as slack:
        answer = WebhookClient(slack.webhook_url).send(text="x")
        assert (answer.status_code, answer.body) == (404, "channel_not_found")


# --- rate limit and faults -------------------------------------------------------------------------------------------


def test_one_message_a_second_for_each_channel() -> None:
    now = [datetime(2026, 11, 24, tzinfo=UTC)]
    with SlackServer(
        channels={"one": "C1", "two": "C2"}, channel_interval=timedelta(seconds=1), clock=lambda: now[0]
    ) as slack:
        web = client(slack)
        web.chat_postMessage(channel="one", text="first")
        with pytest.raises(SlackApiError) as caught:
            web.chat_postMessage(channel="one", text="second")
        assert caught.value.response.status_code == 429
        assert caught.value.response.headers["Retry-After"] == "1"
        assert caught.value.response["error"] == "ratelimited"
        web.chat_postMessage(channel="two", text="elsewhere")
        limited = WebhookClient(slack.webhook_url).send(text="webhooks too")
        assert (limited.status_code, limited.headers["Retry-After"]) == (429, "1")

        now[0] += timedelta(seconds=1)
        web.chat_postMessage(channel="one", text="second")
        assert [message.text for message in slack.messages] == ["first", "elsewhere", "second"]


@pytest.mark.parametrize(
    ("fault", "status", "error"),
    [
        pytest.param({"error": "fatal_error"}, 200, "fatal_error", id="an error code comes with 200"),
        pytest.param({"retry_after": 7}, 429, "ratelimited", id="Retry-After means 429"),
        pytest.param({"error": "ratelimited"}, 429, "ratelimited", id="ratelimited means 429"),
        pytest.param({"status": 503, "error": "service_unavailable"}, 503, "service_unavailable", id="as told"),
    ],
)
def test_the_next_call_fails_as_told(slack: SlackServer, fault: dict[str, Any], status: int, error: str) -> None:
    slack.fail_next(**fault)
    with pytest.raises(SlackApiError) as caught:
        client(slack).chat_postMessage(channel=CHANNEL, text="x")

    assert caught.value.response.status_code == status
    assert caught.value.response["error"] == error
    if status == 429:
        assert caught.value.response.headers["Retry-After"] == str(fault.get("retry_after", 1))
    assert slack.messages == []
    assert client(slack).chat_postMessage(channel=CHANNEL, text="then well again")["ok"]


def test_a_gateway_error_has_no_json(slack: SlackServer) -> None:
    slack.fail_next(status=502)
    answer = refusal(lambda: client(slack).chat_postMessage(channel=CHANNEL, text="x"))

    assert "upstream connect error" in answer["error"]


def test_faults_hit_their_method_and_as_often_as_told(slack: SlackServer) -> None:
    slack.fail_next("chat.update", times=2, error="fatal_error")
    posted = client(slack).chat_postMessage(channel=CHANNEL, text="x")
    update = {"channel": CHANNEL, "ts": posted["ts"], "text": "y"}

    assert [refusal(lambda: client(slack).chat_update(**update))["error"] for _ in range(2)] == ["fatal_error"] * 2
    assert client(slack).chat_update(**update)["ok"]


def test_a_webhook_fails_as_told(slack: SlackServer) -> None:
    slack.fail_next("webhook", error="action_prohibited")
    slack.fail_next("webhook", status=500)
    send = WebhookClient(slack.webhook_url, retry_handlers=[]).send

    assert [(answer.status_code, answer.body) for answer in (send(text="x"), send(text="x"), send(text="x"))] == [
        (403, "action_prohibited"),
        (500, "rollback_error"),
        (200, "ok"),
    ]


@pytest.mark.parametrize(
    ("mode", "stored"),
    [
        pytest.param("drop_before", [], id="dropped before: nothing is stored"),
        pytest.param("accept_then_drop", ["x"], id="dropped after: the message is there, and nobody knows"),
    ],
)
def test_the_connection_is_dropped(slack: SlackServer, mode: Any, stored: list[str]) -> None:
    slack.fail_next(mode=mode)
    with pytest.raises((http.client.HTTPException, ConnectionError, URLError)):
        client(slack).chat_postMessage(channel=CHANNEL, text="x")

    assert [message.text for message in slack.messages] == stored
    assert slack.requests == [("chat.postMessage", 0)]


def test_a_slow_answer_outlasts_the_client_and_the_message_is_there(slack: SlackServer) -> None:
    slack.fail_next(mode="delay", delay=timedelta(seconds=0.6))
    impatient = WebClient(token=BOT_TOKEN, base_url=slack.base_url, retry_handlers=[], timeout=0.2)  # type: ignore[arg-type]
    with pytest.raises((TimeoutError, URLError)):
        impatient.chat_postMessage(channel=CHANNEL, text="late")

    # The next call is answered after the slow one has been stored, or before; so wait for the store itself.
    stored = threading.Event()
    slack.workspace.on_change = lambda message: stored.set()
    assert slack.messages or stored.wait(5)
    slack.workspace.on_change = None
    assert [message.text for message in slack.messages] == ["late"]


def test_messages_and_port_survive_an_outage() -> None:
    slack = SlackServer().start()
    url = slack.base_url
    client(slack).chat_postMessage(channel=CHANNEL, text="before")
    slack.stop()
    with pytest.raises(URLError):
        client(slack).chat_postMessage(channel=CHANNEL, text="during")
    slack.start()
    client(slack).chat_postMessage(channel=CHANNEL, text="after")
    slack.stop()

    assert slack.base_url == url
    assert [message.text for message in slack.messages] == ["before", "after"]


def test_stopping_ends_a_delayed_answer_at_once() -> None:
    """A demo that is told to stop must not wait for the faults it was told to play."""
    slack = SlackServer().start()
    slack.fail_next(mode="delay", delay=timedelta(minutes=5))

    def post() -> None:
        with suppress(OSError, http.client.HTTPException):
            client(slack).chat_postMessage(channel=CHANNEL, text="x")

    poster = threading.Thread(target=post)
    poster.start()
    slack.stop()
    poster.join(5)

    assert not poster.is_alive()


def test_an_oversized_body_is_refused(slack: SlackServer) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", slack.port, timeout=5)
    connection.putrequest("POST", "/api/chat.postMessage")
    connection.putheader("Content-Length", str(5 * 1024 * 1024))
    connection.endheaders()

    assert connection.getresponse().status == 413
    connection.close()

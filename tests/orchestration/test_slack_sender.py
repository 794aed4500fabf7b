"""What one call to Slack comes to: its receipt, or its refusal in our terms."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from pytest_httpserver import HTTPServer

from include.orchestration.conversation import ALONE, PARENT_GONE, Conversation
from include.orchestration.slack_sender import TOKEN_REFUSED
from include.simulation.delivery_worker import slack_sender
from include.simulation.slack_server import SlackServer
from include.sync_health.alerts import NotifyReason
from include.sync_health.errors import DeliveryError
from include.sync_health.messages import Message, message_for

NOW = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
EDIT, REPLY = "an edit", "a reply"


@pytest.fixture
def slack() -> Iterator[SlackServer]:
    with SlackServer() as running:
        yield running


def message() -> Message:
    return message_for([], reason=NotifyReason.TEST, as_of=NOW, now=NOW)


def send(slack: SlackServer, into: Conversation = ALONE) -> Any:
    return slack_sender(slack.base_url, token=slack.token, timeout=5)(message(), delivery_key="k", into=into)


def into(slack: SlackServer, what: str | None) -> Conversation:
    """Return the conversation that a message begins; or post its first message, and return what goes into it."""
    if what is None:
        return Conversation(begins=True)
    parent = send(slack, Conversation(begins=True))
    return Conversation(parent=parent, edits=what == EDIT, broadcast=what == REPLY)


@pytest.mark.parametrize(
    ("what", "fault", "code", "permanent", "ambiguous", "channel_wide"),
    [
        pytest.param(None, {"error": "invalid_auth"}, "invalid_auth", True, False, True, id="a token refused"),
        pytest.param(None, {"error": "msg_too_long"}, "msg_too_long", True, False, False, id="a text too long"),
        pytest.param(None, {"error": "fatal_error"}, "fatal_error", False, True, True, id="Slack does not know itself"),
        pytest.param(None, {"error": "internal_error"}, "internal_error", False, True, True, id="nor here"),
        pytest.param(None, {"error": "team_added_to_org"}, "team_added_to_org", False, False, True, id="a migration"),
        pytest.param(None, {"mode": "accept_then_drop"}, "no_answer", False, True, True, id="no answer to a message"),
        pytest.param(REPLY, {"mode": "accept_then_drop"}, "no_answer", False, True, True, id="no answer to a reply"),
        pytest.param(REPLY, {"error": "thread_not_found"}, PARENT_GONE, True, False, False, id="a thread that is gone"),
        pytest.param(
            REPLY, {"error": "restricted_action_thread_locked"}, PARENT_GONE, True, False, False, id="a locked thread"
        ),
        pytest.param(REPLY, {"error": "channel_not_found"}, "channel_not_found", True, False, True, id="a channel"),
        pytest.param(EDIT, {"mode": "accept_then_drop"}, "no_answer", False, False, True, id="no answer to an edit"),
        pytest.param(EDIT, {"status": 503}, "http_503", False, False, True, id="an edit, and a server's trouble"),
        pytest.param(EDIT, {"error": "fatal_error"}, "fatal_error", False, False, True, id="an edit may be repeated"),
        pytest.param(EDIT, {"error": "update_failed"}, "update_failed", False, False, True, id="Slack's own trouble"),
        pytest.param(EDIT, {"error": "ratelimited"}, "ratelimited", False, False, True, id="an edit too many"),
        pytest.param(EDIT, {"error": "msg_too_long"}, "msg_too_long", True, False, False, id="an edit too long"),
        pytest.param(EDIT, {"error": "edit_window_closed"}, PARENT_GONE, True, False, False, id="an edit too late"),
        pytest.param(
            EDIT, {"status": 302}, "http_302", True, False, True, id="an edit, and an address that is not Slack's"
        ),
        pytest.param(
            EDIT, {"error": "some_new_word"}, PARENT_GONE, True, False, False, id="an edit, some other reason"
        ),
    ],
)
def test_a_refusal_says_what_it_means(
    slack: SlackServer,
    what: str | None,
    fault: dict[str, Any],
    code: str,
    permanent: bool,
    ambiguous: bool,
    channel_wide: bool,
) -> None:
    goes_into = into(slack, what)
    slack.fail_next("chat.update" if what == EDIT else "chat.postMessage", **fault)
    with pytest.raises(DeliveryError) as caught:
        send(slack, goes_into)

    error = caught.value
    assert (error.code, error.permanent, error.ambiguous, error.channel_wide) == (
        code,
        permanent,
        ambiguous,
        channel_wide,
    )


@pytest.mark.parametrize("word", sorted(TOKEN_REFUSED))
def test_a_token_that_may_not_edit_is_refused_by_the_whole_channel(slack: SlackServer, word: str) -> None:
    goes_into = into(slack, EDIT)
    slack.fail_next("chat.update", error=word)
    with pytest.raises(DeliveryError) as caught:
        send(slack, goes_into)

    assert (caught.value.code, caught.value.permanent, caught.value.channel_wide) == (word, True, True)


def test_an_edit_says_what_slack_would_else_decide_otherwise(httpserver: HTTPServer) -> None:
    """chat.update reads names and links by itself unless told not to, and might keep blocks that it is not given."""
    refused = {"ok": False, "error": "invalid_blocks"}
    httpserver.expect_ordered_request("/api/chat.update").respond_with_json(refused)
    httpserver.expect_ordered_request("/api/chat.update").respond_with_json({"ok": True, "channel": "C1", "ts": "1.0"})
    send = slack_sender(httpserver.url_for("/api/"), token="xoxb-t", timeout=5)
    parent = {"channel": "C1", "ts": "1.0", "parent": True}
    receipt = send(message(), delivery_key="k", into=Conversation(parent=parent, edits=True))

    whole, text = (request.get_json() for request, _ in httpserver.log)
    assert receipt == {"channel": "C1", "ts": "1.0", "edited": True, "text_only": "invalid_blocks"}
    assert set(whole) == {"channel", "ts", "text", "blocks", "parse", "link_names"}
    assert (whole["channel"], whole["ts"], whole["parse"], whole["link_names"]) == ("C1", "1.0", "none", False)
    assert whole["blocks"]
    assert text == {**whole, "text": text["text"], "blocks": []}


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(httpserver: HTTPServer, status: int) -> None:
    """It would take the token along; whoever is called finds the wrong address in the text."""
    elsewhere = {"Location": httpserver.url_for("/elsewhere")}
    httpserver.expect_request("/api/chat.postMessage").respond_with_data("", status=status, headers=elsewhere)
    send = slack_sender(httpserver.url_for("/api/"), token="xoxb-t", timeout=5)
    with pytest.raises(DeliveryError, match="base_url") as caught:
        send(message(), delivery_key="k")

    error = caught.value
    assert (error.code, error.permanent, error.ambiguous, error.channel_wide) == (f"http_{status}", True, False, True)
    assert [request.path for request, _ in httpserver.log] == ["/api/chat.postMessage"]

"""How the tests of the simulated Slack speak to it: the SDK's client, and blocks in a few characters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError

from include.simulation.slack_server import SlackServer
from include.simulation.slack_workspace import BOT_TOKEN, Channel

CHANNEL = "C0SERVICETITAN"
CHANNELS = (
    Channel(id=CHANNEL, name="servicetitan-alerts"),
    Channel(id="C0OLD", name="old", is_archived=True),
    Channel(id="C0OTHER", name="other", is_member=False),
)
# The first may do what the monitor does, the second more, the third less.
TOKENS = {
    BOT_TOKEN: ("chat:write", "channels:read", "users:read"),
    "xoxb-public": ("chat:write", "chat:write.public", "chat:write.customize"),
    "xoxb-reader": ("channels:read",),
}


def client(slack: SlackServer, token: str | None = BOT_TOKEN) -> WebClient:
    """Return a client without the SDK's own retry of a dropped connection, which would hide what the server did."""
    return WebClient(token=token, base_url=slack.base_url, retry_handlers=[], timeout=5)


def mrkdwn(text: str) -> dict[str, Any]:
    """Return a text object with markup."""
    return {"type": "mrkdwn", "text": text}


def plain(text: str) -> dict[str, Any]:
    """Return a text object without markup."""
    return {"type": "plain_text", "text": text}


def section(text: str = "hello", **more: Any) -> dict[str, Any]:
    """Return a section block."""
    return {"type": "section", "text": mrkdwn(text), **more}


def button(text: str = "Open", **more: Any) -> dict[str, Any]:
    """Return a button."""
    return {"type": "button", "text": plain(text), **more}


def refusal(call: Callable[[], object]) -> dict[str, Any]:
    """Return the body of the answer with which ``call`` is refused."""
    with pytest.raises(SlackApiError) as caught:
        call()
    return dict(caught.value.response.data)

"""
Slack's Web API and incoming webhooks as functions over a ``Workspace``: arguments in, an HTTP answer out.

Methods: ``api.test``, ``auth.test``, ``chat.postMessage``, ``chat.update``, ``conversations.info``,
``conversations.list``, ``users.info``. The Web API refuses with status 200 and ``"ok": false`` (429 with
``Retry-After`` when rate limited); a webhook refuses with a status and the error code as its text.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from typing import Any
from urllib.parse import parse_qsl

from include.simulation.slack_rules import SlackRefusal
from include.simulation.slack_workspace import Channel, SlackMessage, Workspace

WEBHOOK_PATH = "/services/T0SIMULATED/B0SIMULATED/simulatedwebhooktoken"
# A webhook's status for each refusal; every other one is a 400 (docs.slack.dev, incoming webhooks).
WEBHOOK_STATUS = {
    "invalid_token": 403,
    "action_prohibited": 403,
    "no_service": 404,
    "no_team": 404,
    "channel_not_found": 404,
    "channel_is_archived": 410,
    "ratelimited": 429,
}

Answer = tuple[int, Mapping[str, str], bytes]


def as_json(body: Mapping[str, Any]) -> bytes:
    """Return ``body`` as the bytes of a JSON document."""
    return json.dumps(body).encode()


def refused(refusal: SlackRefusal, *, headers: Mapping[str, str]) -> Answer:
    """Return the Web API's answer to a refusal."""
    body: dict[str, Any] = {"ok": False, "error": refusal.error, **refusal.extra}
    if refusal.messages:
        body["errors"] = list(refusal.messages)
        body["response_metadata"] = {"messages": [f"[ERROR] {line}" for line in refusal.messages]}
    if refusal.error == "ratelimited":
        return 429, {**headers, "Retry-After": str(refusal.retry_after or 1)}, as_json(body)
    return 200, headers, as_json(body)


def _message(message: SlackMessage) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "type": "message",
        "subtype": "bot_message",
        "text": message.text,
        "ts": message.ts,
        "username": message.username,
        "bot_id": "B0SIMULATED",
        "blocks": list(message.blocks),
    }
    if message.thread_ts:
        shown["thread_ts"] = message.thread_ts
    return shown


def _post_message(workspace: Workspace, arguments: Mapping[str, Any], scopes: Collection[str]) -> dict[str, Any]:
    channel = workspace.find_channel(arguments.get("channel"), by_name=True)
    message = workspace.post(arguments, channel=channel, scopes=scopes, via="bot")
    return {"channel": channel.id, "ts": message.ts, "message": _message(message)}


def _update(workspace: Workspace, arguments: Mapping[str, Any], scopes: Collection[str]) -> dict[str, Any]:
    if not arguments.get("ts"):
        raise SlackRefusal("invalid_arguments", messages=["missing required field: ts"])
    # Unlike chat.postMessage, chat.update does not take a channel's name.
    channel = workspace.find_channel(arguments.get("channel"), by_name=False)
    message = workspace.update(arguments, channel=channel)
    return {"channel": channel.id, "ts": message.ts, "text": message.text, "message": _message(message)}


def _channel(channel: Channel) -> dict[str, Any]:
    return {
        "id": channel.id,
        "name": channel.name,
        "is_channel": True,
        "is_private": False,
        "is_archived": channel.is_archived,
        "is_member": channel.is_member,
    }


def _info(workspace: Workspace, arguments: Mapping[str, Any], scopes: Collection[str]) -> dict[str, Any]:
    return {"channel": _channel(workspace.find_channel(arguments.get("channel"), by_name=False))}


def _list(workspace: Workspace, arguments: Mapping[str, Any], scopes: Collection[str]) -> dict[str, Any]:
    return {"channels": [_channel(channel) for channel in workspace.channels], "response_metadata": {"next_cursor": ""}}


def _user(workspace: Workspace, arguments: Mapping[str, Any], scopes: Collection[str]) -> dict[str, Any]:
    if arguments.get("user") != "U0SIMULATED":
        raise SlackRefusal("user_not_found")
    return {"user": {"id": "U0SIMULATED", "name": "servicetitan_monitor", "is_bot": True, "tz": "Etc/UTC"}}


def _auth(workspace: Workspace, arguments: Mapping[str, Any], scopes: Collection[str]) -> dict[str, Any]:
    return {
        "url": "https://simulated.slack.com/",
        "team": "Simulated",
        "user": "servicetitan_monitor",
        "team_id": "T0SIMULATED",
        "user_id": "U0SIMULATED",
        "bot_id": "B0SIMULATED",
        "is_enterprise_install": False,
    }


def _api(workspace: Workspace, arguments: Mapping[str, Any], scopes: Collection[str]) -> dict[str, Any]:
    if error := arguments.get("error"):
        raise SlackRefusal(str(error))
    return {"args": dict(arguments)}


_Method = Callable[[Workspace, Mapping[str, Any], Collection[str]], dict[str, Any]]
_METHODS: Mapping[str, tuple[tuple[str, ...], _Method]] = {
    "api.test": ((), _api),
    "auth.test": ((), _auth),
    "chat.postMessage": (("chat:write",), _post_message),
    "chat.update": (("chat:write",), _update),
    "conversations.info": (("channels:read",), _info),
    "conversations.list": (("channels:read",), _list),
    "users.info": (("users:read",), _user),
}


def call(workspace: Workspace, method: str, arguments: Mapping[str, Any], *, token: str | None) -> Answer:
    """Answer one call of the Web API."""
    headers: dict[str, str] = {}
    try:
        if method not in _METHODS:
            raise SlackRefusal("unknown_method")
        needs, handle = _METHODS[method]
        scopes: tuple[str, ...] = ()
        if method != "api.test":
            scopes = workspace.scopes_of(token, needs=needs)
            headers["x-oauth-scopes"] = ",".join(scopes)
            headers["x-accepted-oauth-scopes"] = ",".join(needs)
        body = {"ok": True, **handle(workspace, arguments, scopes)}
    except SlackRefusal as refusal:
        return refused(refusal, headers=headers)
    return 200, headers, as_json(body)


def call_webhook(workspace: Workspace, path: str, arguments: Mapping[str, Any] | None, *, channel: str) -> Answer:
    """
    Answer one post to a webhook that belongs to the named channel: the text ``ok``, or the error code as text.

    ``arguments`` is None when the body could not be read.
    """
    try:
        team, bot, _ = WEBHOOK_PATH.removeprefix("/services/").split("/")
        parts = path.removeprefix("/services/").split("/")
        if len(parts) != 3 or parts[1] != bot:
            raise SlackRefusal("no_service")
        if parts[0] != team:
            raise SlackRefusal("no_team")
        if path != WEBHOOK_PATH:
            raise SlackRefusal("invalid_token")
        if arguments is None:
            raise SlackRefusal("invalid_payload")
        owner = workspace.find_channel(channel, by_name=True)
        if owner.is_archived:
            raise SlackRefusal("channel_is_archived")
        # A webhook belongs to its channel and to its app: it takes no other, and no name of its own.
        workspace.post(arguments, channel=owner, scopes=(), via="webhook")
    except SlackRefusal as refusal:
        headers = {"Retry-After": str(refusal.retry_after)} if refusal.retry_after else {}
        return WEBHOOK_STATUS.get(refusal.error, 400), headers, refusal.error.encode()
    return 200, {}, b"ok"


def read_arguments(body: bytes, *, query: str, content_type: str) -> dict[str, Any]:
    """
    Return the arguments of a body of JSON, of a form, or of a form with JSON in ``payload``.

    Raises:
        SlackRefusal: ``invalid_charset``, ``invalid_json`` or ``json_not_object``.
    """
    arguments: dict[str, Any] = dict(parse_qsl(query, keep_blank_values=True))
    try:
        decoded = body.decode()
    except UnicodeDecodeError:
        raise SlackRefusal("invalid_charset") from None
    if not decoded:
        return arguments
    if content_type != "application/json":
        form = dict(parse_qsl(decoded, keep_blank_values=True))
        if set(form) != {"payload"}:
            return arguments | form
        decoded = form["payload"]
    try:
        found = json.loads(decoded)
    except ValueError:
        raise SlackRefusal("invalid_json") from None
    if not isinstance(found, dict):
        raise SlackRefusal("json_not_object")
    return arguments | found

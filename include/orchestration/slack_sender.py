"""
Sending a message to Slack: by a bot token, or by an incoming webhook as the lesser way.

A message is one call, and a second one only where Slack refuses its blocks: the text alone. slack_sdk's own retries are
off: after an answer that never came they would post again without saying so.
"""

from __future__ import annotations

import logging
import re
import socket
from collections.abc import Callable, Mapping
from http.client import HTTPException, InvalidURL
from typing import TYPE_CHECKING, Any

from include.orchestration.conversation import ALONE, CANNOT_EDIT, PARENT_GONE, Conversation
from include.sync_health.errors import DeliveryError
from include.sync_health.messages import Message
from include.sync_health.slack_blocks import SLACK_POST_OPTIONS, SlackPayload, slack_payload, text_only

if TYPE_CHECKING:
    from slack_sdk import WebClient
    from slack_sdk.web import SlackResponse
    from slack_sdk.webhook import WebhookClient, WebhookResponse

SLACK_TIMEOUT_SECONDS = 30

CODE = re.compile(r"[a-z][a-z0-9_]{1,60}")
"""What Slack's error codes look like."""

BAD_ANSWER = "bad_answer"
"""Our code for an answer that is not Slack's."""

BLOCK_CODES = frozenset(
    {"invalid_blocks", "invalid_blocks_format", "msg_blocks_too_long", "invalid_attachments", "invalid_payload"}
)
"""Slack's words for "I don't like these blocks": the text alone is sent at once instead."""

MESSAGE_CODES = {"no_text": "no_text", "msg_too_long": "msg_too_long", "invalid_arguments": "invalid_message"}
"""Slack's words for a message that can never be posted, as `delivery.MESSAGE_CODES` knows them."""

THREAD_GONE = frozenset(
    {
        "thread_not_found",
        "message_not_found",
        "cannot_reply_to_message",
        "restricted_action_non_threadable_channel",
        "restricted_action_thread_locked",
        "thread_locked",
    }
)
"""Slack's words for a thread that takes no reply: https://docs.slack.dev/reference/methods/chat.postMessage"""

TOKEN_REFUSED = frozenset(
    {
        "access_denied",
        "account_inactive",
        "accesslimited",
        "ekm_access_denied",
        "enterprise_is_restricted",
        "invalid_auth",
        "missing_scope",
        "no_permission",
        "not_allowed_token_type",
        "not_authed",
        "org_login_required",
        "team_access_not_granted",
        "token_expired",
        "token_revoked",
        "two_factor_setup_required",
    }
)
"""Slack's words for a token that may not do this at all: https://docs.slack.dev/reference/methods/chat.update"""

PASSING = frozenset(
    {
        BAD_ANSWER,
        "internal_error",
        "fatal_error",
        "service_unavailable",
        "request_timeout",
        "update_failed",
        "team_added_to_org",
        "external_channel_migrating",
    }
)
"""Words for what passes without anybody's doing; the last two tell of a migration: same pages."""

IN_DOUBT = frozenset({BAD_ANSWER, "internal_error", "fatal_error"})
"""Words with which the message may have been posted all the same: same pages."""

EDIT_OPTIONS: Mapping[str, Any] = {"parse": "none", "link_names": False}
"""What chat.postMessage does by default, and chat.update does not: there, ``parse`` is ``client``."""


def quiet_logger() -> logging.Logger:
    """Return a logger for slack_sdk that writes nothing: its errors would hold the webhook's URL."""
    quiet = logging.getLogger("servicetitan.slack_sdk")
    quiet.disabled = True
    return quiet


def send_by_bot(client: WebClient, *, channel: str) -> Callable[..., Mapping[str, Any]]:
    """
    Return a sender that posts to ``channel`` and gives ``{"channel": id, "ts": ts}`` as receipt.

    A message that began a conversation has ``"parent": True`` in its receipt, an edit ``"edited": True``. A reply goes to
    ``channel`` as well, but an edit to the channel id of the first message's receipt, since chat.update takes no name.

    Args:
        client: a WebClient; its retry handlers are not used.
        channel: ``#name`` or an id.
    """
    from include.orchestration.slack_client import direct

    client = direct(client)

    def deliver(payload: SlackPayload, *, key: str, into: Conversation) -> Mapping[str, Any]:
        if into.edits:
            return _edit(client, payload, parent=into.parent or {})
        arguments: dict[str, Any] = {"channel": channel, "text": payload.text, **SLACK_POST_OPTIONS}
        if payload.blocks:
            arguments["blocks"] = payload.blocks
        arguments["metadata"] = {"event_type": "servicetitan_alert", "event_payload": {"delivery_key": key}}
        thread = (into.parent or {}).get("ts")
        if thread:
            arguments |= {"thread_ts": thread, "reply_broadcast": into.broadcast}
        try:
            answer = _accepted(client, "chat.postMessage", arguments)
        except DeliveryError as error:
            raise _parent_gone(error) if thread and error.code in THREAD_GONE else error from None
        receipt = {"channel": answer.get("channel"), "ts": answer["ts"]}
        return {**receipt, "parent": True} if into.begins or (into.parent and not thread) else receipt

    return _with_text_only_retry(deliver)


def send_by_webhook(client: WebhookClient) -> Callable[..., Mapping[str, Any]]:
    """
    Return a sender that posts to a webhook's own channel.

    A webhook gives no ``ts``: its messages can be neither edited nor replied to, and the receipt says only
    ``{"webhook": True}``.
    """

    def deliver(payload: SlackPayload, *, key: str, into: Conversation) -> Mapping[str, Any]:
        if into.edits:
            raise DeliveryError("a webhook cannot edit a message", code=CANNOT_EDIT, permanent=True, channel_wide=False)
        body: dict[str, Any] = {"text": payload.text}
        if payload.blocks:
            body["blocks"] = payload.blocks
        response: WebhookResponse = _answered(lambda: client.send_dict(body))
        if response.status_code != 200 or response.body != "ok":
            raise _refused(
                response.body,
                status=response.status_code,
                retry_after=_seconds(response.headers),
            )
        return {"webhook": True}

    return _with_text_only_retry(deliver)


def refusing_without(conn_id: str) -> Callable[..., Mapping[str, Any]]:
    """Return a sender that refuses every message because a connection is missing or lacks its token."""

    def refuse(message: Message, *, delivery_key: str, into: Conversation = ALONE) -> Mapping[str, Any]:
        raise DeliveryError(
            f"the connection {conn_id} is missing, or has no token in its password", code="no_token", permanent=True
        )

    return refuse


def _with_text_only_retry(deliver: Callable[..., Mapping[str, Any]]) -> Callable[..., Mapping[str, Any]]:
    def send(message: Message, *, delivery_key: str, into: Conversation = ALONE) -> Mapping[str, Any]:
        try:
            return deliver(slack_payload(message), key=delivery_key, into=into)
        except DeliveryError as error:
            if error.code not in BLOCK_CODES:
                raise
            return {**deliver(text_only(message), key=delivery_key, into=into), "text_only": error.code}

    return send


def _edit(client: WebClient, payload: SlackPayload, *, parent: Mapping[str, Any]) -> Mapping[str, Any]:
    """
    Let the conversation's first message say this; doing it twice changes nothing, so no failure is ambiguous.

    A refusal for good is about that message (it is gone, too old, in a channel that is no more), unless it is one of
    `TOKEN_REFUSED`, or none of Slack's: whether the channel takes messages, a new one will tell.
    """
    if not (parent.get("channel") and parent.get("ts")):
        raise DeliveryError(
            "the first message was not posted by a bot", code=CANNOT_EDIT, permanent=True, channel_wide=False
        )
    # An empty list takes earlier blocks away; without one they might be kept, and shown in place of the text.
    arguments = {
        "channel": parent["channel"],
        "ts": parent["ts"],
        "text": payload.text,
        "blocks": payload.blocks,
        **EDIT_OPTIONS,
    }
    try:
        answer = _accepted(client, "chat.update", arguments)
    except DeliveryError as error:
        error.ambiguous = False
        is_slacks = error.code not in TOKEN_REFUSED and not error.code.startswith("http_")
        is_about_it = error.permanent and error.channel_wide and is_slacks
        raise _parent_gone(error) if is_about_it else error from None
    return {"channel": answer.get("channel"), "ts": answer["ts"], "edited": True}


def _parent_gone(error: DeliveryError) -> DeliveryError:
    return DeliveryError(str(error), code=PARENT_GONE, permanent=True, channel_wide=False)


def _accepted(client: WebClient, method: str, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return Slack's answer, which has a ``ts``."""
    response: SlackResponse = _answered(lambda: client.api_call(method, json=dict(arguments)))
    answer = response.data if isinstance(response.data, dict) else {}
    if not answer.get("ts"):
        raise _refused(BAD_ANSWER, status=int(response.status_code), retry_after=None)
    return answer


def _answered(call: Callable[[], Any]) -> Any:
    """Return the answer of a call, or raise `DeliveryError` in our terms; never with the request in its text."""
    from slack_sdk.errors import SlackApiError, SlackRequestError

    try:
        return call()
    except SlackApiError as error:
        status = int(error.response.status_code)
        answer = error.response.data if isinstance(error.response.data, dict) else {}
        code = answer.get("error") or (f"http_{status}" if status >= 300 else BAD_ANSWER)
        raise _refused(code, status=status, retry_after=_seconds(error.response.headers)) from None
    except SlackRequestError:
        raise DeliveryError("the Slack client could not make the request", code="request", permanent=False) from None
    except OSError as error:
        # URLError is one: a connection that was refused sent nothing; anything later may have been accepted.
        reason = getattr(error, "reason", error)
        unsent = isinstance(reason, ConnectionRefusedError | socket.gaierror)
        raise DeliveryError(
            f"no answer from Slack ({type(reason).__name__})",
            code="unreachable" if unsent else "no_answer",
            permanent=False,
            ambiguous=not unsent,
        ) from None
    except HTTPException as error:
        # An unusable URL was never asked; an answer that broke off may have been preceded by the message's arrival.
        unsent = isinstance(error, InvalidURL)
        raise DeliveryError(
            f"Slack's answer cannot be read ({type(error).__name__})",
            code="invalid_url" if unsent else "no_answer",
            permanent=unsent,
            ambiguous=not unsent,
        ) from None


def _refused(code: object, *, status: int, retry_after: float | None) -> DeliveryError:
    """Return Slack's refusal as an error; an answer that is not in Slack's manner is in doubt, and not quoted."""
    word = code if isinstance(code, str) and CODE.fullmatch(code) else BAD_ANSWER
    if status >= 500 and word == BAD_ANSWER:
        word = f"http_{status}"
    redirected = 300 <= status < 400
    if redirected:
        word = f"http_{status}"
    limited = status == 429 or word in ("ratelimited", "rate_limited")
    passing = limited or status >= 500 or word in PASSING
    return DeliveryError(
        f"Slack answered {word}"
        + (": its address leads elsewhere; check base_url in the connection" if redirected else ""),
        code="ratelimited" if limited else MESSAGE_CODES.get(word, word),
        permanent=not passing,
        retry_after=(retry_after if retry_after is not None else 30.0) if limited else None,
        ambiguous=status >= 500 or word in IN_DOUBT,
        channel_wide=word not in MESSAGE_CODES and word not in BLOCK_CODES,
    )


def _seconds(headers: Any) -> float | None:
    """Return Retry-After in seconds, or None where it is absent or not a number."""
    found = {str(key).lower(): value for key, value in dict(headers or {}).items()}.get("retry-after")
    value = found[0] if isinstance(found, list) else found
    try:
        return float(value) if value is not None else None
    except ValueError:
        return None

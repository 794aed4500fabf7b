"""
Sending a message to Slack: by a bot token, or by an incoming webhook as the lesser way.

slack_sdk's own retries are off: after an answer that never came they would post again without saying so.
"""

from __future__ import annotations

import logging
import re
import socket
from collections.abc import Callable, Mapping
from http.client import HTTPException, InvalidURL
from typing import TYPE_CHECKING, Any

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


def quiet_logger() -> logging.Logger:
    """Return a logger for slack_sdk that writes nothing: its errors would hold the webhook's URL."""
    quiet = logging.getLogger("servicetitan.slack_sdk")
    quiet.disabled = True
    return quiet


def send_by_bot(client: WebClient, *, channel: str) -> Callable[..., Mapping[str, Any]]:
    """
    Return a sender that posts to ``channel`` and gives ``{"channel": id, "ts": ts}`` as receipt.

    Args:
        client: a WebClient without retry handlers.
        channel: ``#name`` or an id.
    """

    def post(payload: SlackPayload, *, key: str) -> Mapping[str, Any]:
        arguments: dict[str, Any] = {"channel": channel, "text": payload.text, **SLACK_POST_OPTIONS}
        if payload.blocks:
            arguments["blocks"] = payload.blocks
        arguments["metadata"] = {"event_type": "servicetitan_alert", "event_payload": {"delivery_key": key}}
        response: SlackResponse = _answered(lambda: client.api_call("chat.postMessage", json=arguments))
        answer = response.data if isinstance(response.data, dict) else {}
        if not answer.get("ts"):
            raise _refused(BAD_ANSWER, status=int(response.status_code), retry_after=None)
        return {"channel": answer.get("channel"), "ts": answer["ts"]}

    return _with_text_only_retry(post)


def send_by_webhook(client: WebhookClient) -> Callable[..., Mapping[str, Any]]:
    """
    Return a sender that posts to a webhook's own channel.

    A webhook gives no ``ts``: its messages can be neither edited nor threaded, and the receipt says only
    ``{"webhook": True}``.
    """

    def post(payload: SlackPayload, *, key: str) -> Mapping[str, Any]:
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

    return _with_text_only_retry(post)


def _with_text_only_retry(post: Callable[..., Mapping[str, Any]]) -> Callable[..., Mapping[str, Any]]:
    def send(message: Message, *, delivery_key: str) -> Mapping[str, Any]:
        try:
            return post(slack_payload(message), key=delivery_key)
        except DeliveryError as error:
            if error.code not in BLOCK_CODES:
                raise
            return {**post(text_only(message), key=delivery_key), "text_only": error.code}

    return send


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
    limited = status == 429 or word in ("ratelimited", "rate_limited")
    passing = limited or status >= 500 or word in (BAD_ANSWER, "internal_error", "fatal_error", "service_unavailable")
    return DeliveryError(
        f"Slack answered {word}",
        code="ratelimited" if limited else MESSAGE_CODES.get(word, word),
        permanent=not passing,
        retry_after=(retry_after if retry_after is not None else 30.0) if limited else None,
        ambiguous=status >= 500 or word == BAD_ANSWER,
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

"""
What Slack refuses in a message, with the error codes and the words that Slack uses.

The limits are Slack's documented ones (docs.slack.dev, Block Kit reference and ``chat.postMessage``): 50 blocks,
section text 3,000 characters, 10 fields of 2,000, header 150 and plain text only, 10 context elements, 25 actions,
button text 75, value 2,000, URL 3,000, ``block_id`` and ``action_id`` 255 and unique, text 40,000. One is not
documented but real: the blocks together may have about 13,200 characters, else ``msg_blocks_too_long`` (slackapi/bolt-js issue 2509).

Blocks of the kinds that the monitor sends are checked to the last field. The other kinds that Slack knows
(``rich_text``, ``table``, ``video`` ...) are accepted without a look inside; a kind that Slack does not know is
refused. Unknown top-level arguments are ignored, as Slack ignores them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MAX_TEXT = 40_000
MAX_MARKDOWN_TEXT = 12_000
MAX_BLOCKS = 50
MAX_BLOCKS_TOTAL = 13_200
MAX_SECTION_TEXT = 3_000
MAX_FIELDS = 10
MAX_FIELD_TEXT = 2_000
MAX_HEADER_TEXT = 150
MAX_CONTEXT_ELEMENTS = 10
MAX_ACTIONS = 25
MAX_BUTTON_TEXT = 75
MAX_URL = 3_000
MAX_VALUE = 2_000
MAX_ALT_TEXT = 2_000
MAX_ID = 255
MAX_ATTACHMENTS = 100

UNEXAMINED_BLOCKS = frozenset({"call", "context_actions", "file", "input", "markdown", "rich_text", "table", "video"})
UNEXAMINED_ELEMENTS = frozenset(
    {
        "channels_select",
        "checkboxes",
        "conversations_select",
        "datepicker",
        "datetimepicker",
        "external_select",
        "multi_channels_select",
        "multi_conversations_select",
        "multi_external_select",
        "multi_static_select",
        "multi_users_select",
        "overflow",
        "radio_buttons",
        "static_select",
        "timepicker",
        "users_select",
        "workflow_button",
    }
)
_BOOLEANS = ("as_user", "link_names", "mrkdwn", "reply_broadcast", "unfurl_links", "unfurl_media")


class SlackRefusal(Exception):
    """
    Slack says no.

    Args:
        error: Slack's error code, such as ``channel_not_found``.
        messages: what ``response_metadata.messages`` says, without the ``[ERROR]`` in front.
        extra: further keys of the answer, such as ``needed`` and ``provided``.
        retry_after: seconds for the ``Retry-After`` header; only with ``ratelimited``.
    """

    def __init__(
        self,
        error: str,
        *,
        messages: Sequence[str] = (),
        extra: Mapping[str, str] | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(error)
        self.error = error
        self.messages = tuple(messages)
        self.extra = dict(extra or {})
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageContent:
    """What a message says, once Slack has accepted it. ``blocks`` and ``attachments`` are as they were sent."""

    text: str
    blocks: tuple[Mapping[str, Any], ...]
    attachments: tuple[Mapping[str, Any], ...]
    metadata: Mapping[str, Any] | None


def read_content(arguments: Mapping[str, Any]) -> MessageContent:
    """
    Return the content of a ``chat.postMessage``, ``chat.update`` or webhook body, or refuse it as Slack does.

    Args:
        arguments: the body; ``blocks``, ``attachments`` and ``metadata`` may be JSON text, as forms carry them.

    Raises:
        SlackRefusal: ``invalid_arguments``, ``invalid_blocks_format``, ``invalid_blocks``, ``msg_blocks_too_long``,
            ``invalid_attachments``, ``too_many_attachments``, ``invalid_metadata_format``, ``markdown_text_conflict``,
            ``msg_too_long`` or ``no_text``.
    """
    _check_types(arguments)
    blocks = _objects(arguments.get("blocks"), refusal="invalid_blocks_format")
    attachments = _objects(arguments.get("attachments"), refusal="invalid_attachments")
    text = arguments.get("text") or ""
    markdown = arguments.get("markdown_text") or ""
    if markdown and (text or blocks):
        raise SlackRefusal("markdown_text_conflict")
    if len(markdown) > MAX_MARKDOWN_TEXT or len(text) > MAX_TEXT:
        raise SlackRefusal("msg_too_long")
    if len(attachments) > MAX_ATTACHMENTS:
        raise SlackRefusal("too_many_attachments")
    nested = [(f"/attachments/{i}/blocks", a["blocks"]) for i, a in enumerate(attachments) if a.get("blocks")]
    for pointer, found in [("/blocks", list(blocks)), *nested]:
        if errors := block_errors(found, pointer=pointer):
            raise SlackRefusal("invalid_blocks", messages=errors)
        if len(json.dumps(found, ensure_ascii=False, separators=(",", ":"))) > MAX_BLOCKS_TOTAL:
            raise SlackRefusal("msg_blocks_too_long")
    if not (text.strip() or markdown.strip() or blocks or attachments):
        raise SlackRefusal("no_text")
    return MessageContent(
        text=text or markdown, blocks=blocks, attachments=attachments, metadata=_metadata(arguments.get("metadata"))
    )


def block_errors(blocks: object, *, pointer: str = "/blocks") -> list[str]:
    """
    Return what Slack would object to in ``blocks``, in its words; empty when it would accept them.

    Each line ends in the place: ``must be less than 3001 characters [json-pointer:/blocks/0/text/text]``.
    """
    if not isinstance(blocks, list):
        return [_at("must provide an array", pointer)]
    checker = _Checker()
    if len(blocks) > MAX_BLOCKS:
        checker.object_to(f"no more than {MAX_BLOCKS} items allowed", pointer)
    seen: set[str] = set()
    for index, block in enumerate(blocks):
        place = f"{pointer}/{index}"
        checker.block(block, place)
        block_id = block.get("block_id") if isinstance(block, Mapping) else None
        if isinstance(block_id, str) and block_id:
            if block_id in seen:
                checker.object_to(f"block_id already exists: {block_id[:40]}", f"{place}/block_id")
            seen.add(block_id)
    return checker.errors


def _check_types(arguments: Mapping[str, Any]) -> None:
    wrong = [
        _at("must be a string", f"/{name}")
        for name in ("text", "channel", "ts", "thread_ts", "username", "markdown_text")
        if not isinstance(arguments.get(name), str | None)
    ]
    wrong += [
        _at("must be a boolean", f"/{name}")
        for name in _BOOLEANS
        if arguments.get(name) not in (None, True, False, "0", "1", "true", "false", "")
    ]
    if wrong:
        raise SlackRefusal("invalid_arguments", messages=wrong)


def _from_json(value: Any, *, refusal: str) -> Any:
    if not isinstance(value, str):
        return value
    if not value.strip():
        return None
    try:
        return json.loads(value)
    except ValueError:
        raise SlackRefusal(refusal) from None


def _objects(value: Any, *, refusal: str) -> tuple[Mapping[str, Any], ...]:
    value = _from_json(value, refusal=refusal)
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(item, Mapping) for item in value):
        raise SlackRefusal(refusal)
    return tuple(value)


def _metadata(value: Any) -> Mapping[str, Any] | None:
    value = _from_json(value, refusal="invalid_metadata_format")
    if value is None:
        return None
    if (
        not isinstance(value, Mapping)
        or not isinstance(value.get("event_type"), str)
        or not isinstance(value.get("event_payload"), Mapping)
    ):
        raise SlackRefusal("invalid_metadata_format")
    return value


def _at(words: str, pointer: str) -> str:
    return f"{words} [json-pointer:{pointer}]"


class _Checker:
    """Collects objections while it walks the blocks; one method per kind of block or element."""

    def __init__(self) -> None:
        self.errors: list[str] = []

    def object_to(self, words: str, pointer: str) -> None:
        self.errors.append(_at(words, pointer))

    def block(self, block: Any, pointer: str) -> None:
        if not isinstance(block, Mapping):
            self.object_to("must be an object", pointer)
            return
        kind = block.get("type")
        if not isinstance(kind, str):
            self.object_to("missing required field: type", pointer)
            return
        self.string(block, "block_id", pointer, limit=MAX_ID)
        check = _BLOCKS.get(kind)
        if check is not None:
            check(self, block, pointer)
        elif kind not in UNEXAMINED_BLOCKS:
            self.object_to(f"unsupported type: {kind}", f"{pointer}/type")

    def header(self, block: Mapping[str, Any], pointer: str) -> None:
        self.only(block, pointer, "text")
        self.text(block, "text", pointer, limit=MAX_HEADER_TEXT, kinds=("plain_text",), required=True)

    def section(self, block: Mapping[str, Any], pointer: str) -> None:
        self.only(block, pointer, "text", "fields", "accessory", "expand")
        if "text" not in block and "fields" not in block:
            self.object_to("missing required field: text or fields", pointer)
        self.text(block, "text", pointer, limit=MAX_SECTION_TEXT)
        if "fields" in block:
            fields = self.items(block, "fields", pointer, limit=MAX_FIELDS)
            for index in range(len(fields)):
                self.text(dict(enumerate(fields)), index, f"{pointer}/fields", limit=MAX_FIELD_TEXT)
        if "accessory" in block:
            self.element(block["accessory"], f"{pointer}/accessory")

    def divider(self, block: Mapping[str, Any], pointer: str) -> None:
        self.only(block, pointer)

    def context(self, block: Mapping[str, Any], pointer: str) -> None:
        self.only(block, pointer, "elements")
        elements = self.items(block, "elements", pointer, limit=MAX_CONTEXT_ELEMENTS)
        for index, element in enumerate(elements):
            if isinstance(element, Mapping) and element.get("type") == "image":
                self.image(element, f"{pointer}/elements/{index}", names=("image_url", "alt_text", "slack_file"))
            else:
                self.text(dict(enumerate(elements)), index, f"{pointer}/elements", limit=MAX_FIELD_TEXT)

    def actions(self, block: Mapping[str, Any], pointer: str) -> None:
        self.only(block, pointer, "elements")
        seen: set[str] = set()
        for index, element in enumerate(self.items(block, "elements", pointer, limit=MAX_ACTIONS)):
            self.element(element, f"{pointer}/elements/{index}")
            action_id = element.get("action_id") if isinstance(element, Mapping) else None
            if isinstance(action_id, str) and action_id in seen:
                self.object_to(f"action_id already exists: {action_id[:40]}", f"{pointer}/elements/{index}")
            elif isinstance(action_id, str):
                seen.add(action_id)

    def image(
        self,
        block: Mapping[str, Any],
        pointer: str,
        names: tuple[str, ...] = ("image_url", "alt_text", "title", "slack_file", "block_id"),
    ) -> None:
        self.only(block, pointer, *names)
        if "slack_file" not in block:
            self.string(block, "image_url", pointer, limit=MAX_URL, required=True)
        self.string(block, "alt_text", pointer, limit=MAX_ALT_TEXT, required=True)
        self.text(block, "title", pointer, limit=MAX_ALT_TEXT, kinds=("plain_text",))

    def element(self, element: Any, pointer: str) -> None:
        kind = element.get("type") if isinstance(element, Mapping) else None
        if kind == "button":
            self.button(element, pointer)
        elif kind == "image":
            self.image(element, pointer)
        elif not isinstance(kind, str) or kind not in UNEXAMINED_ELEMENTS:
            self.object_to(f"unsupported type: {kind}", f"{pointer}/type")

    def button(self, button: Mapping[str, Any], pointer: str) -> None:
        self.only(button, pointer, "text", "action_id", "url", "value", "style", "confirm", "accessibility_label")
        self.text(button, "text", pointer, limit=MAX_BUTTON_TEXT, kinds=("plain_text",), required=True)
        self.string(button, "action_id", pointer, limit=MAX_ID)
        self.string(button, "url", pointer, limit=MAX_URL)
        self.string(button, "value", pointer, limit=MAX_VALUE)
        url = button.get("url")
        if isinstance(url, str) and "://" not in url and not url.startswith("mailto:"):
            self.object_to("must be a valid URL", f"{pointer}/url")
        if button.get("style") not in (None, "primary", "danger"):
            self.object_to("must be a valid enum value", f"{pointer}/style")

    def only(self, found: Mapping[str, Any], pointer: str, *names: str) -> None:
        for name in found:
            if name not in {"type", "block_id", *names}:
                self.object_to(f"invalid additional property: {name}", pointer)

    def items(self, block: Mapping[str, Any], name: str, pointer: str, *, limit: int) -> list[Any]:
        items = block.get(name)
        if items is None:
            self.object_to(f"missing required field: {name}", pointer)
            return []
        if not isinstance(items, list):
            self.object_to("must be an array", f"{pointer}/{name}")
            return []
        if not items:
            self.object_to("no fewer than 1 items allowed", f"{pointer}/{name}")
        if len(items) > limit:
            self.object_to(f"no more than {limit} items allowed", f"{pointer}/{name}")
        return items

    def string(self, found: Mapping[Any, Any], name: str, pointer: str, *, limit: int, required: bool = False) -> None:
        value = found.get(name)
        if value is None:
            if required or name in found:
                self.object_to(f"missing required field: {name}", pointer)
        elif not isinstance(value, str):
            self.object_to("must be a string", f"{pointer}/{name}")
        elif not value and required:
            self.object_to("must be more than 0 characters", f"{pointer}/{name}")
        elif len(value) > limit:
            self.object_to(f"must be less than {limit + 1} characters", f"{pointer}/{name}")

    def text(
        self,
        found: Mapping[Any, Any],
        name: str | int,
        pointer: str,
        *,
        limit: int,
        kinds: tuple[str, ...] = ("plain_text", "mrkdwn"),
        required: bool = False,
    ) -> None:
        """Check a text object: its type, its own fields, and 1 to ``limit`` characters."""
        if name not in found:
            if required:
                self.object_to(f"missing required field: {name}", pointer)
            return
        text, place = found[name], f"{pointer}/{name}"
        if not isinstance(text, Mapping):
            self.object_to("must be an object", place)
            return
        if text.get("type") not in kinds:
            self.object_to(f"unsupported type: {text.get('type')}", f"{place}/type")
            return
        own = "emoji" if text["type"] == "plain_text" else "verbatim"
        for key in text:
            if key not in {"type", "text", own}:
                self.object_to(f"invalid additional property: {key}", place)
        self.string(text, "text", place, limit=limit, required=True)


_BLOCKS: Mapping[str, Callable[[_Checker, Mapping[str, Any], str], None]] = {
    "actions": _Checker.actions,
    "context": _Checker.context,
    "divider": _Checker.divider,
    "header": _Checker.header,
    "image": _Checker.image,
    "section": _Checker.section,
}

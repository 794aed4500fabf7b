"""What Slack accepts, and what a message must not hold: asserted of any payload."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

from include.sync_health.alerts import Alert
from include.sync_health.slack_blocks import (
    BLOCKS_LIMIT,
    CONTEXT_LIMIT,
    FIELD_LIMIT,
    FIELDS_LIMIT,
    HEADER_LIMIT,
    PAYLOAD_BUDGET,
    SECTION_LIMIT,
    TEXT_LIMIT,
    SlackPayload,
)
from tests.sync_health.message_alerts import alert

OURS = re.compile(
    r"<!date\^\d+\^\{date_short_pretty\} \{time\}\|\d{4}-\d\d-\d\d \d\d:\d\d UTC>|<https?://[^<>|\s]+\|[A-Za-z ]+>"
)
"""The only markup in angle brackets that we write ourselves."""


def units(text: str) -> int:
    """The length as JavaScript and Java count it."""
    return len(text.encode("utf-16-le")) // 2


def texts_of(blocks: tuple[dict[str, Any], ...]) -> list[str]:
    """Every text object's text."""
    found = []
    for block in blocks:
        objects = (
            [block[key] for key in ("text",) if key in block] + block.get("fields", []) + block.get("elements", [])
        )
        found += [each["text"] for each in objects]
    return found


def assert_slack_accepts(payload: SlackPayload) -> None:
    """Every documented limit, and the one that is not."""
    assert 0 < units(payload.text) <= TEXT_LIMIT
    assert len(payload.blocks) <= BLOCKS_LIMIT
    assert units(json.dumps(payload.blocks, ensure_ascii=False)) <= PAYLOAD_BUDGET
    for block in payload.blocks:
        if block["type"] == "header":
            assert block["text"]["type"] == "plain_text"
            assert 0 < units(block["text"]["text"]) <= HEADER_LIMIT
        elif block["type"] == "context":
            assert 0 < len(block["elements"]) <= CONTEXT_LIMIT
            assert all(0 < units(each["text"]) <= SECTION_LIMIT for each in block["elements"])
        else:
            assert block["type"] == "section"
            assert ("text" in block) != ("fields" in block)
            assert 0 < units(block.get("text", {}).get("text", "x")) <= SECTION_LIMIT
            assert 0 < len(block.get("fields", ["x"])) <= FIELDS_LIMIT
            assert all(0 < units(each["text"]) <= FIELD_LIMIT for each in block.get("fields", []))


def assert_nothing_but_text(payload: SlackPayload) -> None:
    """No bracket and no ampersand that is not ours or an entity."""
    for text in (payload.text, *texts_of(payload.blocks)):
        rest = OURS.sub("", text)
        assert not set(rest) & set("<>"), rest
        assert re.fullmatch(r"(?:[^&]|&(?:amp|lt|gt);)*", rest), rest


def dirty(text: str, *, rule: str) -> Alert:
    """An alert that holds a text wherever the source can put one."""
    return replace(
        alert(rule),
        title=text,
        message=text,
        reason=text,
        company_name=text,
        environment=text,
        credential_id=text,
        data_type=text,
        metadata={"latest_error": text, "sync_id": text, "check": text, "cause": text},
        evidence={**{f"{text}{number}": text for number in range(30)}, "failures": text, "last_success_at": text},
    )

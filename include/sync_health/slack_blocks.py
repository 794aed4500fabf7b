"""
Messages as Slack wants them: Block Kit with a text fallback, inside every limit, with all data escaped.

Lengths are counted in UTF-16 units of the escaped text: whichever way Slack counts, it is no more than that.
Data cannot make a mention, a link or a date: ``& < >`` are escaped in every value, also in ``text`` and in
plain_text objects, and mrkdwn objects are ``verbatim``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlsplit

from include.sync_health.message_parts import Fact, Listing, Message, Text
from include.sync_health.redaction import ELLIPSIS

Block = dict[str, Any]

HEADER_LIMIT = 150  # https://docs.slack.dev/reference/block-kit/blocks/header-block
SECTION_LIMIT = 3_000  # https://docs.slack.dev/reference/block-kit/blocks/section-block
FIELDS_LIMIT = 10  # same page
FIELD_LIMIT = 2_000  # same page
CONTEXT_LIMIT = 10  # https://docs.slack.dev/reference/block-kit/blocks/context-block
BLOCKS_LIMIT = 50  # https://docs.slack.dev/reference/block-kit/blocks
TEXT_LIMIT = 3_000  # ours; https://docs.slack.dev/reference/methods/chat.postMessage recommends 4,000 at most
URL_LIMIT = 3_000  # https://docs.slack.dev/reference/block-kit/block-elements/button-element
PAYLOAD_BUDGET = 12_000
"""Characters of all blocks as JSON. Slack refuses more than some 13,200 with ``msg_blocks_too_long``, which it does
not document: https://github.com/slackapi/bolt-js/issues/2509"""

SLACK_POST_OPTIONS: Mapping[str, bool] = {
    "unfurl_links": False,
    "unfurl_media": False,
    "link_names": False,
    "mrkdwn": True,
}
"""What the sender passes to chat.postMessage beside a payload: https://docs.slack.dev/reference/methods/chat.postMessage"""

_FIELD_ROOM = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class SlackPayload:
    """``text`` is never empty; ``blocks`` is empty for a message in text alone."""

    text: str
    blocks: tuple[Block, ...] = ()


def slack_payload(message: Message) -> SlackPayload:
    """
    Return the message as blocks within `PAYLOAD_BUDGET`, and its text fallback within `TEXT_LIMIT`.

    Where room is short, the members of a summary go first ("and 12 more"), then whatever stands last.
    """
    blocks: list[Block] = [
        {"type": "header", "text": {"type": "plain_text", "text": _title(message), "emoji": True}},
        _section(_fit(message.sentence, SECTION_LIMIT)),
    ]
    blocks += _fact_blocks(message.facts)
    if message.advice:
        cause, step = _escape(message.advice.likely_cause), _escape(message.advice.first_step)
        blocks.append(_section(f"*Likely cause*\n{cause}\n*First step*\n{step}"))
    if message.latest_error:
        # Backticks would end the block of code; there is no way to escape them.
        error = _fit(message.latest_error.replace("`", "'"), SECTION_LIMIT - 40)
        blocks.append(_section(f"*Latest error*\n```{error}```"))
    end = _closing_blocks(message)
    for listing, part in _with_share(message.listings):
        room = (PAYLOAD_BUDGET - _size([*blocks, *end])) // part
        blocks += _listing_blocks(listing, room=room)
    blocks += end
    return SlackPayload(text=_fallback(message), blocks=tuple(_within_budget(blocks)))


def text_only(message: Message) -> SlackPayload:
    """Return the message without blocks, within `TEXT_LIMIT`: for when Slack refuses them."""
    return SlackPayload(text=_fallback(message))


def _fallback(message: Message) -> str:
    lines = [_title(message), _fit(message.sentence, 600)]
    lines += [f"{_escape(fact.label)}: {_fit(_joined(fact.value), 200)}" for fact in message.facts]
    if message.advice:
        lines.append(f"First step: {_escape(message.advice.first_step)}")
    if message.latest_error:
        lines.append(f"Latest error: {_fit(message.latest_error, 500)}")
    lines += [_fit(_joined(note), 300) for note in message.notes]
    links = [f"{_escape(label)}: {url}" for label, raw in message.links if (url := safe_url(raw))]
    for listing, part in _with_share(message.listings):
        room = (
            (TEXT_LIMIT - _units("\n".join([*lines, *links]))) // part
            - _units(listing.title)
            - 40
            - _units(listing.rest)
        )
        shown = _while_room((_fit(_joined(line), 200) for line in listing.lines), room=room)
        more = _more(listing, shown=len(shown))
        lines += [f"{_escape(listing.title)}:", *shown, *([more] if more else [])]
    return _leading((f"{line}\n" for line in [*lines, *links]), room=TEXT_LIMIT)


def _title(message: Message) -> str:
    return _fit(f"{message.emoji} {message.title}", HEADER_LIMIT)


def _section(mrkdwn: str) -> Block:
    return {"type": "section", "text": _mrkdwn(mrkdwn)}


def _mrkdwn(text: str) -> Block:
    return {"type": "mrkdwn", "text": text, "verbatim": True}


def _fact_blocks(facts: Sequence[Fact]) -> Iterable[Block]:
    fields = [_mrkdwn(f"*{_fit(fact.label, 100)}*\n{_rendered(fact.value, room=_FIELD_ROOM) or '-'}") for fact in facts]
    for start in range(0, min(len(fields), 2 * FIELDS_LIMIT), FIELDS_LIMIT):
        yield {"type": "section", "fields": fields[start : start + FIELDS_LIMIT]}


def _with_share(listings: Sequence[Listing]) -> Iterable[tuple[Listing, int]]:
    """
    Yield each listing with what part of the room that is left it may take: a third, or more when fewer wait.

    So the first, which tell the most, are not cut for the sake of the last, and yet leave them something.
    """
    return ((listing, min(len(listings) - place, 3)) for place, listing in enumerate(listings))


def _listing_blocks(listing: Listing, *, room: int) -> list[Block]:
    """Return the listing as sections, with as many lines as fit into ``room``; none where not even one does."""
    head = f"*{_fit(listing.title, 100)}*"
    rendered = (f"• {_rendered(line, room=_FIELD_ROOM)}" for line in listing.lines)
    lines = _while_room(rendered, room=room - _units(head) - _room_for_sections(room) - _units(listing.rest))
    if not lines:
        return []
    if more := _more(listing, shown=len(lines)):
        lines.append(more)
    sections = [head]
    for line in lines:
        if _units(sections[-1]) + _units(line) + 1 > SECTION_LIMIT:
            sections.append(line)
        else:
            sections[-1] += f"\n{line}"
    return [_section(text) for text in sections]


def _room_for_sections(room: int) -> int:
    """Return what a listing's sections take besides its lines: "and 12 more", and the JSON of one and of every 3,000."""
    return 200 + room // 20


def _while_room(lines: Iterable[str], *, room: int) -> list[str]:
    """Return the leading lines whose JSON fits: there, line breaks and quotes take two characters each."""
    kept = []
    for line in lines:
        room -= _units(json.dumps(line, ensure_ascii=False))
        if room < 0:
            break
        kept.append(line)
    return kept


def _closing_blocks(message: Message) -> list[Block]:
    blocks: list[Block] = []
    notes = [_mrkdwn(f"ℹ️ {_rendered(note, room=_FIELD_ROOM)}") for note in message.notes[:CONTEXT_LIMIT]]
    if notes:
        blocks.append({"type": "context", "elements": notes})
    links = ""
    for label, raw in message.links:
        if url := safe_url(raw):
            longer = f"{links}{' · ' if links else ''}<{url}|{_escape(label)}>"
            links = longer if _units(longer) <= SECTION_LIMIT else links  # what does not fit is left out, and no other
    if links:
        blocks.append(_section(links))
    if message.footer:
        blocks.append({"type": "context", "elements": [_mrkdwn(_rendered(message.footer, room=_FIELD_ROOM))]})
    return blocks


def _within_budget(blocks: list[Block]) -> list[Block]:
    kept = blocks[:BLOCKS_LIMIT]
    while _size(kept) > PAYLOAD_BUDGET:
        kept.pop()
    return kept


def safe_url(url: str) -> str | None:
    """
    Return a link's address with what would end it (spaces, ``< > |``, quotes) percent-encoded.

    None for what is neither http nor https, has no host, carries a user or password, or is too long.
    """
    try:
        parts = urlsplit(url)
        host, user = parts.hostname, parts.username
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or not host or user is not None:
        return None
    encoded = quote(url, safe="%/:?#[]@!$&'()*+,;=~-._").replace("'", "%27")
    return encoded.replace("&", "&amp;") if len(encoded) <= URL_LIMIT else None


def utc_text(instant: datetime) -> str:
    """Return an aware instant as "2026-11-24 17:05 UTC"."""
    return instant.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")


def _slack_date(instant: datetime) -> str:
    return f"<!date^{int(instant.timestamp())}^{{date_short_pretty}} {{time}}|{utc_text(instant)}>"


def _rendered(text: Text, *, room: int) -> str:
    """Return mrkdwn: strings escaped, instants in the reader's zone; strings share ``room``."""
    return "".join(part if isinstance(part, str) else _slack_date(part) for part in _fitted(text, room=room))


def _fitted(text: Text, *, room: int) -> Iterable[str | datetime]:
    for part in text:
        if isinstance(part, str):
            fitted = _fit(part, max(room, 1))
            room -= _units(fitted)
            yield fitted
        else:
            yield part


def _joined(text: Text) -> str:
    """Return the text with instants in UTC, not yet escaped."""
    return "".join(part if isinstance(part, str) else utc_text(part) for part in text)


_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


def _escape(text: str) -> str:
    """Return text that Slack takes for nothing but text: https://docs.slack.dev/messaging/formatting-message-text."""
    return "".join(_ENTITIES.get(character, character) for character in text)


def _fit(text: str, limit: int) -> str:
    """Return text escaped and cut, so that what results has at most ``limit`` UTF-16 units and no broken entity."""
    pieces = [_ENTITIES.get(character, character) for character in text[: limit + 1]]
    if len(text) <= limit and sum(map(_units, pieces)) <= limit:
        return "".join(pieces)
    return _leading(pieces, room=limit - len(ELLIPSIS)) + ELLIPSIS


def _leading(pieces: Iterable[str], *, room: int) -> str:
    kept: list[str] = []
    for piece in pieces:
        room -= _units(piece)
        if room < 0:
            break
        kept.append(piece)
    return "".join(kept).rstrip()


def _more(listing: Listing, *, shown: int) -> str:
    return _fit(listing.more(shown), 120)


def _units(text: str) -> int:
    """Return the length in UTF-16 units."""
    return len(text) + sum(character > "\uffff" for character in text)


def _size(blocks: Sequence[Block]) -> int:
    return _units(json.dumps(blocks, ensure_ascii=False))

"""
Messages as mail: a subject of one line, a complete text part, and HTML that reads well on a phone and in the dark.

The HTML has its CSS inlined (clients drop style sheets) and keeps a style sheet only for dark mode and small
screens. It loads nothing: no images, no fonts, no scripts; and it shows no emoji, which some clients draw as empty
boxes. All data passes Jinja's autoescape. Times are UTC.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from include.sync_health.message_parts import Listing, Message, Status, Text
from include.sync_health.redaction import shorten
from include.sync_health.slack_blocks import safe_url, utc_text

SUBJECT_LIMIT = 150
"""Characters of a subject; clients show about half of it."""

MAIL_LIMIT = 100_000
"""Bytes of text and HTML together; Gmail cuts a mail's HTML at about 102 kB."""

SUBJECT_PREFIX = "[ServiceTitan] "

_ENCODED_WORD, _NO_ENCODED_WORD = "=?", "= ?"
"""How an encoded word begins (RFC 2047): Python, and each mailbox, would decode one in a name, with line breaks and all."""

_TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True, slots=True, kw_only=True)
class MailContent:
    """What a mail holds: ``subject`` without line breaks, ``text`` plain, ``html`` a whole document."""

    subject: str
    text: str
    html: str


def mail_content(message: Message) -> MailContent:
    """
    Return the message as mail, within `SUBJECT_LIMIT` and `MAIL_LIMIT`.

    A summary lists all members that the limit allows, and says how many more there are.
    """
    told = " ".join(f"{SUBJECT_PREFIX}{message.subject}".split()).replace(_ENCODED_WORD, _NO_ENCODED_WORD)
    subject = shorten(told, limit=SUBJECT_LIMIT)
    links = tuple((label, url) for label, raw in message.links if (url := _address(raw)))
    lines = max((len(listing.lines) for listing in message.listings), default=0)
    while True:
        listings = tuple(replace(listing, lines=listing.lines[:lines]) for listing in message.listings)
        content = MailContent(
            subject=subject,
            text=_text(message, listings=listings, links=links),
            html=_html(message, subject=subject, listings=listings, links=links),
        )
        # Without its listings a message is a few kilobytes: every other text in it was cut when it was cleaned.
        if not lines or len(content.text.encode()) + len(content.html.encode()) <= MAIL_LIMIT:
            return content
        lines //= 2


def _text(message: Message, *, listings: Sequence[Listing], links: Sequence[tuple[str, str]]) -> str:
    lines = [message.title, "", message.sentence]
    if message.notes:
        lines += ["", *(f"! {_joined(note)}" for note in message.notes)]
    if message.facts:
        lines += ["", *(f"{fact.label}: {_joined(fact.value)}" for fact in message.facts)]
    if message.advice:
        lines += ["", "Likely cause", message.advice.likely_cause, "", "First step", message.advice.first_step]
    if message.latest_error:
        lines += ["", "Latest error", message.latest_error]
    for listing in listings:
        lines += ["", listing.title, *(f"- {_joined(line)}" for line in listing.lines)]
        if more := listing.more(len(listing.lines)):
            lines.append(f"- {more}")
    if links:
        lines += ["", *(f"{label}: {url}" for label, url in links)]
    return "\n".join([*lines, "", "-- ", _joined(message.footer), ""])


def _html(message: Message, *, subject: str, listings: Sequence[Listing], links: Sequence[tuple[str, str]]) -> str:
    # Both are needed only where a mail is made, and take longer to import than all else here.
    import css_inline
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["instants"] = _joined
    page = environment.get_template("mail.html.j2").render(
        message=message, subject=subject, listings=listings, links=links, tone=_tone(message)
    )
    inliner = css_inline.CSSInliner(load_remote_stylesheets=False, keep_at_rules=True)
    return str(inliner.inline(page))


def _tone(message: Message) -> str:
    if message.status.is_open:
        return message.severity.value
    return "recovered" if message.status in (Status.RECOVERED, Status.TEST, Status.ALIVE) else "closed"


def _address(url: str) -> str | None:
    encoded = safe_url(url)
    return encoded.replace("&amp;", "&") if encoded else None  # Jinja escapes it again, for HTML


def _joined(text: Text) -> str:
    return "".join(part if isinstance(part, str) else utc_text(part) for part in text)

"""What a mail holds: subject, text and HTML, as the golden files have them."""

from __future__ import annotations

import os
import re
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from include.sync_health.alerts import NotifyReason
from include.sync_health.mail import MAIL_LIMIT, SUBJECT_LIMIT, MailContent, mail_content
from include.sync_health.messages import Message, message_for
from tests.sync_health.hostile_texts import HOSTILE, SECRETS, untrusted
from tests.sync_health.message_alerts import AS_OF, RULES, alert, broken_already, storm
from tests.sync_health.message_cases import CASES, LINKS, NOW, Case
from tests.sync_health.slack_limits import dirty

GOLDEN = Path(__file__).parent.parent / "golden" / "mail"
WITH_HTML = (
    "sync_failures-first",
    "sync_failures-recovered",
    "sync_failures-late_and_possible_repeat",
    "summary-first",
    "baseline-some_closed",
    "group-first_mixed_severity",
    "group-updated_partly_recovered",
    "digest",
)
"""The cases whose HTML is kept too: one of each shape."""

VOID = frozenset({"meta", "br", "hr", "img", "input", "link"})


class Page(HTMLParser):
    """The elements, their attributes and the text that a browser would see."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: Counter[str] = Counter()
        self.attributes: set[tuple[str, str]] = set()
        self.text = ""
        self.open: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Count it, and remember its attributes."""
        self.elements[tag] += 1
        self.attributes |= {(name, value or "") for name, value in attrs}
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Close the innermost, which must be of that name."""
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Collect what is read."""
        if self.open and self.open[-1] not in ("style", "title"):
            self.text += data


PAGES = ("https://airflow.example.com/", "https://wiki.example.com/")
"""What `LINKS` leads to."""


def without_addresses(page: Page) -> set[tuple[str, str]]:
    """The attributes of a page, but for where its links lead."""
    return {(name, value) for name, value in page.attributes if name != "href"}


def mail_of(message: Message) -> tuple[MailContent, Page]:
    """A mail whose limits and form have been checked."""
    mail = mail_content(message)
    page = Page(mail.html)
    assert not page.open
    assert 0 < len(mail.subject) <= SUBJECT_LIMIT
    assert mail.subject.splitlines() == [mail.subject]
    assert len(mail.text.encode()) + len(mail.html.encode()) <= MAIL_LIMIT
    assert not page.elements.keys() & {"script", "img", "link", "iframe", "object", "form", "svg", "base"}
    assert {name for name, _ in page.attributes} <= {"lang", "charset", "name", "content", "class", "style", "href"}
    assert "url(" not in mail.html
    assert "@import" not in mail.html
    return mail, page


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_mail_is_as_the_golden_file_has_it(case: Case) -> None:
    """UPDATE_GOLDEN=1 writes the files anew; look at the difference before committing it."""
    mail, _ = mail_of(case.message())
    rendered = {f"{case.name}.txt": f"Subject: {mail.subject}\n\n{mail.text}"}
    if case.name in WITH_HTML:
        rendered[f"{case.name}.html"] = mail.html
    for name, content in rendered.items():
        if os.environ.get("UPDATE_GOLDEN"):
            GOLDEN.mkdir(parents=True, exist_ok=True)
            (GOLDEN / name).write_text(content, encoding="utf-8")
        assert (GOLDEN / name).read_text(encoding="utf-8") == content


def test_every_golden_file_has_its_case() -> None:
    """No file is left behind by a case that is gone."""
    expected = {f"{case.name}.txt" for case in CASES} | {f"{name}.html" for name in WITH_HTML}

    assert {file.name for file in GOLDEN.iterdir()} == expected


@settings(deadline=None)  # redaction of many long texts takes its time on a busy machine
@given(text=untrusted, rule=st.sampled_from(RULES), reason=st.sampled_from(NotifyReason))
def test_no_element_of_a_mail_comes_from_data(text: str, rule: str, reason: NotifyReason) -> None:
    """The same alert with harmless words of the same shape has the same elements and attributes."""
    at: dict[str, Any] = {"reason": reason, "as_of": AS_OF, "now": NOW, "links": LINKS}
    mail, page = mail_of(message_for([dirty(text, rule=rule)], **at))
    _, harmless = mail_of(message_for([dirty("words", rule=rule)], **at))

    assert page.elements.keys() <= harmless.elements.keys()
    assert without_addresses(page) <= without_addresses(harmless)
    # An id that is none has no silence; what addresses hold is tested where they are made.
    assert page.elements["a"] <= harmless.elements["a"]
    assert all(url.startswith(PAGES) for name, url in page.attributes if name == "href")
    assert not [secret for _, secret in SECRETS if secret in mail.html + mail.text + mail.subject]
    assert "=?" not in mail.subject  # RFC 2047: it would be decoded


@pytest.mark.parametrize("text", HOSTILE[:12], ids=repr)
def test_hostile_text_is_shown_as_it_is_written(text: str) -> None:
    """Escaped once: in the browser's eyes, and in the text part, it is what it was. Jinja stays literal."""
    mail, page = mail_of(
        message_for([replace(alert("sync_failures"), message=text)], reason=NotifyReason.FIRST, as_of=AS_OF, now=NOW)
    )

    assert text in page.text
    assert text in mail.text


def test_both_parts_tell_the_same() -> None:
    """The text part is complete: every fact, note, step, error and link."""
    message = next(case for case in CASES if case.name == "sync_failures-late_and_possible_repeat").message()
    mail, page = mail_of(message)
    assert message.advice

    for words in (
        message.title,
        message.sentence,
        message.advice.likely_cause,
        message.advice.first_step,
        message.latest_error or "",
        "Told late: judged at 2026-11-24 10:00 UTC, sent at 2026-11-24 12:02 UTC",
        *(fact.label for fact in message.facts),
    ):
        assert words in mail.text
        assert words in page.text
    for _, url in message.links:
        assert url in mail.text
        assert ("href", url) in page.attributes


@pytest.mark.parametrize("count", [21, 400, 2_000])
def test_a_storm_fits_into_one_mail_and_counts_what_it_leaves_out(count: int) -> None:
    """Listed and counted together are all of them."""
    mail, page = mail_of(message_for(storm(count), reason=NotifyReason.FIRST, as_of=AS_OF, now=NOW))
    listed = mail.text.count("High: ServiceTitan integration for Company")

    assert listed == page.text.count("High: ServiceTitan integration for Company")
    assert listed >= min(count, 100)
    assert (f"and {count - listed} more" in mail.text) is (listed < count)


@pytest.mark.parametrize("count", [1, 200, 3_000])
def test_a_baseline_fits_into_one_mail_and_counts_what_it_leaves_out(count: int) -> None:
    """Both parts list the same; listed and counted together are all of them."""
    mail, page = mail_of(message_for(broken_already(count), reason=NotifyReason.BASELINE, as_of=AS_OF, now=NOW))
    listed = len(re.findall(r"^- (?:Critical|High|Medium): ", mail.text, re.MULTILINE))
    more = sum(int(each) for each in re.findall(r"^- and (\d+) more$", mail.text, re.MULTILINE))

    assert listed + more == count
    assert listed >= min(count, 200)
    assert len(re.findall(r"(?:Critical|High|Medium): ", page.text)) == listed


def test_a_subject_is_one_line_whatever_the_data() -> None:
    """A line break in a company's name must not become a header."""
    mail, _ = mail_of(
        message_for(
            [replace(alert("sync_failures"), company_name="Acme\r\nBcc: all@example.com " + "x" * 500)],
            reason=NotifyReason.FIRST,
            as_of=AS_OF,
            now=NOW,
        )
    )

    assert mail.subject.startswith("[ServiceTitan] High: Multiple ServiceTitan Sync Failures: Acme Bcc:")


@pytest.mark.parametrize(
    ("endpoint", "words"),
    [
        pytest.param(
            "/crm/v2/tenant/{id}/customers", "/crm/v2/tenant/{id}/customers (production)", id="by its template"
        ),
        pytest.param("other", "other endpoints (production)", id="those beyond the limit"),
        pytest.param("", "an unknown endpoint (production)", id="one that the log does not tell"),
        pytest.param("/a\r\nBcc: all@example.com", "/a Bcc: ‹email› (production)", id="in one line, whatever it is"),
    ],
)
def test_a_subject_names_the_endpoint(endpoint: str, words: str) -> None:
    told = alert("api_errors")
    about = replace(told, metadata={**told.metadata, "endpoint": endpoint})
    mail, _ = mail_of(message_for([about], reason=NotifyReason.FIRST, as_of=AS_OF, now=NOW))

    assert mail.subject.startswith(f"[ServiceTitan] Medium: ServiceTitan API Errors: {words}")
    assert mail.subject.splitlines() == [mail.subject]


def test_dark_mode_and_small_screens_are_provided_for() -> None:
    """The style sheet that stays holds only the rules that cannot be inlined."""
    mail, page = mail_of(CASES[0].message())

    assert "prefers-color-scheme: dark" in mail.html
    assert "max-width: 480px" in mail.html
    assert ("name", "viewport") in page.attributes
    assert ("lang", "en") in page.attributes

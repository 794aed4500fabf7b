"""What Slack is sent: inside every limit, escaped, and as the golden files have it."""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from include.sync_health.alerting_policies import LinksPolicy
from include.sync_health.alerts import CloseReason, NotifyReason
from include.sync_health.links import links_in
from include.sync_health.messages import Links, message_for
from include.sync_health.slack_blocks import (
    SLACK_POST_OPTIONS,
    safe_url,
    slack_payload,
    text_only,
)
from tests.sync_health.hostile_texts import HOSTILE, SECRETS, untrusted
from tests.sync_health.message_alerts import AS_OF, RULES, alert, broken_already, closed, storm
from tests.sync_health.message_cases import CASES, NOW, Case
from tests.sync_health.slack_limits import assert_nothing_but_text, assert_slack_accepts, dirty, texts_of

GOLDEN = Path(__file__).parent.parent / "golden" / "slack"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_slack_message_is_as_the_golden_file_has_it(case: Case) -> None:
    """UPDATE_GOLDEN=1 writes the files anew; look at the difference before committing it."""
    payload = slack_payload(case.message())
    rendered = json.dumps({"text": payload.text, "blocks": payload.blocks}, indent=1, ensure_ascii=False) + "\n"
    file = GOLDEN / f"{case.name}.json"
    if os.environ.get("UPDATE_GOLDEN"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(rendered, encoding="utf-8")

    assert file.read_text(encoding="utf-8") == rendered
    assert_slack_accepts(payload)
    assert_nothing_but_text(payload)


def test_every_golden_file_has_its_case() -> None:
    """No file is left behind by a case that is gone."""
    assert {file.stem for file in GOLDEN.iterdir()} == {case.name for case in CASES}


@settings(deadline=None)  # redaction of many long texts takes its time on a busy machine
@given(
    text=untrusted,
    rule=st.sampled_from(RULES),
    reason=st.sampled_from(NotifyReason),
    ended=st.sampled_from((None, *CloseReason)),
)
def test_any_alert_is_accepted_and_says_nothing_of_its_own(
    text: str, rule: str, reason: NotifyReason, ended: CloseReason | None
) -> None:
    """No text of the source breaks a limit, makes a mention, or shows a secret."""
    one = dirty(text, rule=rule)
    if ended:
        one = closed(one, why=ended, reason=text)
    message = message_for([one], reason=reason, as_of=AS_OF, now=NOW, possible_repeat=True)
    payload = slack_payload(message)

    assert_slack_accepts(payload)
    assert_nothing_but_text(payload)
    assert_slack_accepts(text_only(message))
    shown = json.dumps([payload.text, payload.blocks], ensure_ascii=False)
    assert not [secret for _, secret in SECRETS if secret in shown]


@settings(deadline=None)  # redaction of many long texts takes its time on a busy machine
@given(texts=st.lists(untrusted, min_size=2, max_size=30), reason=st.sampled_from(NotifyReason))
def test_any_summary_is_accepted_and_says_nothing_of_its_own(texts: list[str], reason: NotifyReason) -> None:
    """The same for many alerts at once."""
    message = message_for(
        [dirty(text, rule=RULES[number % len(RULES)]) for number, text in enumerate(texts)],
        reason=reason,
        as_of=AS_OF,
        now=NOW,
    )
    payload = slack_payload(message)

    assert_slack_accepts(payload)
    assert_nothing_but_text(payload)


@pytest.mark.parametrize("text", HOSTILE[:12], ids=repr)
def test_hostile_text_is_shown_as_it_is_written(text: str) -> None:
    """Escaped, not executed and not dropped: Jinja stays literal."""
    shown = slack_payload(
        message_for([replace(alert("sync_failures"), message=text)], reason=NotifyReason.FIRST, as_of=AS_OF, now=NOW)
    ).blocks[1]["text"]["text"]

    assert shown == text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def test_a_megabyte_of_error_is_cut() -> None:
    """A page of HTML as an error text must not cost the message."""
    huge = replace(alert("sync_failures"), message="m" * 1_000_000, metadata={"latest_error": "<p>&" * 250_000})
    payload = slack_payload(message_for([huge], reason=NotifyReason.FIRST, as_of=AS_OF, now=NOW))

    assert_slack_accepts(payload)
    assert_nothing_but_text(payload)


@pytest.mark.parametrize("count", [21, 100, 2_000])
def test_a_storm_lists_what_fits_and_counts_the_rest(count: int) -> None:
    """Listed and counted together are all of them, in the blocks and in the text."""
    payload = slack_payload(message_for(storm(count), reason=NotifyReason.FIRST, as_of=AS_OF, now=NOW))
    blocks = "\n".join(texts_of(payload.blocks))

    assert_slack_accepts(payload)
    for text in (blocks, payload.text):
        more = re.search(r"^and (\d+) more$", text, re.MULTILINE)
        assert text.count("High: ServiceTitan integration for Company") + (int(more[1]) if more else 0) == count
    assert blocks.count("High: ServiceTitan integration for Company") >= min(count, 50)


@pytest.mark.parametrize("count", [1, 21, 200, 3_000])
def test_a_baseline_fits_and_counts_what_it_leaves_out(count: int) -> None:
    """Listed and counted together are all of them; the counts by rule are whole, and each rule shows some of its worst."""
    message = message_for(broken_already(count), reason=NotifyReason.BASELINE, as_of=AS_OF, now=NOW)
    payload = slack_payload(message)
    blocks = "\n".join(texts_of(payload.blocks))

    assert_slack_accepts(payload)
    for text in (blocks, payload.text):
        listed = len(re.findall(r"^(?:• )?(?:Critical|High|Medium): ", text, re.MULTILINE))
        more = sum(int(each) for each in re.findall(r"^and (\d+) more$", text, re.MULTILINE))
        assert listed + more == count
        for counts in message.listings[0].lines:
            assert f"{counts[0]}\n" in text
    for listing in message.listings:
        assert f"*{listing.title}*\n• " in blocks
    assert len(payload.blocks) <= 20


@pytest.mark.parametrize(
    ("url", "safe"),
    [
        pytest.param("https://x.example/a?b=1&c=2", "https://x.example/a?b=1&amp;c=2", id="an ampersand is escaped"),
        pytest.param("https://x.example/a|b>c<d e", "https://x.example/a%7Cb%3Ec%3Cd%20e", id="what would end it"),
        pytest.param("https://x.example/%20", "https://x.example/%20", id="encoded already"),
        pytest.param("javascript:alert(1)", None, id="no script"),
        pytest.param("https://bob:pw@x.example/", None, id="no password"),
        pytest.param("/relative", None, id="no host"),
        pytest.param("https://[broken", None, id="not a URL"),
        pytest.param("https://x.example/" + "a" * 3_000, None, id="too long"),
    ],
)
def test_links_cannot_break_out(url: str, safe: str | None) -> None:
    """Only http and https, and nothing that Slack would read as markup."""
    assert safe_url(url) == safe


def test_a_link_that_is_not_safe_is_left_out() -> None:
    """The message still goes."""
    payload = slack_payload(
        message_for(
            [alert("sync_failures")],
            reason=NotifyReason.FIRST,
            as_of=AS_OF,
            now=NOW,
            links=Links(run="javascript:alert(1)", runbook="https://wiki.example.com/|<!channel>"),
        )
    )

    assert_nothing_but_text(payload)
    assert "javascript" not in json.dumps(payload.blocks)


@pytest.mark.parametrize("length", [30, 700, 1_000])
def test_long_addresses_are_no_reason_to_refuse_a_message(length: int) -> None:
    """The policy takes any up to 1,000 characters; together they are more than a section holds."""
    page = f"https://example.com/{'a' * (length - 20)}"
    links = links_in(LinksPolicy(dashboard=page, airflow=page, runbook=page), dag_id="dag", run_id="r" * 250)
    payload = slack_payload(
        message_for([alert("sync_failures")], reason=NotifyReason.FIRST, as_of=AS_OF, now=NOW, links=links)
    )

    assert_slack_accepts(payload)
    assert f"/alerts?fingerprint={alert('sync_failures').fingerprint}|Alert>" in "".join(texts_of(payload.blocks))


def test_the_sender_is_told_to_unfurl_nothing() -> None:
    """A link in a message must not fetch pages or make names into mentions."""
    assert not any(SLACK_POST_OPTIONS[name] for name in ("unfurl_links", "unfurl_media", "link_names"))

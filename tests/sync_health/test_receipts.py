"""What is told of what was kept back, or not seen; and the heartbeat."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from include.sync_health.advice import advice_on
from include.sync_health.alerts import NotifyReason
from include.sync_health.mail import mail_content
from include.sync_health.message_parts import Message, Status
from include.sync_health.messages import message_for
from include.sync_health.receipts import RECEIPTS
from include.sync_health.slack_blocks import slack_payload
from include.sync_health.verdicts import Severity
from tests.sync_health.conversation_cases import DIGEST, GAP, NOW, SILENCED, conversation_cases, group, recovered
from tests.sync_health.message_alerts import AS_OF, alert
from tests.sync_health.slack_limits import assert_slack_accepts, texts_of

CASES = {case.name: case for case in conversation_cases()}


def lines_of(message: Message) -> dict[str, list[str]]:
    """The listings as text, by title."""
    return {each.title: ["".join(map(str, line)) for line in each.lines] for each in message.listings}


@pytest.mark.parametrize(
    ("case", "title"),
    [
        ("digest", "Digest of 2026-11-23: 12 ServiceTitan alerts kept back, 1 still open"),
        ("digest-nothing_open", "Digest of 2026-11-23: 12 ServiceTitan alerts kept back, none still open"),
        ("digest-without_details", "Digest: 1 ServiceTitan alert kept back, 1 still open"),
        ("silence_ended", "A silence of Ann Bell has ended: 5 ServiceTitan alerts kept back, 1 still open"),
        (
            "silence_ended-mutes",
            "The mutes nights and weekends have ended: 5 ServiceTitan alerts kept back, none still open",
        ),
        (
            "silence_ended-several",
            "2 silences of Ann Bell and Bo Lee have ended: 5 ServiceTitan alerts kept back, 3 still open",
        ),
        ("silence_ended-without_details", "A silence has ended: 1 ServiceTitan alert kept back, none still open"),
        ("catch_up", "While we could not see: 3 ServiceTitan alerts opened and closed"),
        ("catch_up-open_again", "While we could not see: 3 ServiceTitan alerts opened and closed, 1 open again"),
        ("heartbeat", "Heartbeat: the ServiceTitan monitor is alive"),
    ],
)
def test_the_title_of_a_receipt_tells_how_many_and_what_is_left(case: str, title: str) -> None:
    """As far as the details tell."""
    message = CASES[case].message()

    assert message.title == message.subject == title


@pytest.mark.parametrize(
    ("kept_back_by", "topics", "begins"),
    [
        (["muted"], ["nights"], "The mute nights has ended"),
        (["muted"], [], "A mute of the policy has ended"),
        (["muted"], ["a", "b", "c", "d", "e"], "The mutes a, b and 3 others have ended"),
        (["silenced"], [], "A silence of Ann Bell has ended"),
        (["muted", "silenced"], ["nights", "1f0c6a52"], "Silences and mutes have ended"),
    ],
)
def test_what_has_ended_is_named(kept_back_by: list[str], topics: list[str], begins: str) -> None:
    """A silence by who asked for it, a mute by its name."""
    details = {**SILENCED, "kept_back_by": kept_back_by, "topics": topics}
    message = message_for([], reason=NotifyReason.SILENCE_ENDED, as_of=AS_OF, now=NOW, details=details)

    assert message.title.startswith(f"{begins}: ")


def test_a_digest_of_several_days_says_from_when_to_when() -> None:
    """After a gap of the monitor itself."""
    details = {**DIGEST, "topics": ["2026-11-23", "2026-11-21", "2026-11-22"]}
    message = message_for([], reason=NotifyReason.DIGEST, as_of=AS_OF, now=NOW, details=details)

    assert message.title.startswith("Digest of 2026-11-21 to 2026-11-23: ")


def test_a_digest_counts_by_rule_and_lists_what_is_still_open() -> None:
    """What was kept back most stands first."""
    lines = lines_of(CASES["digest"].message())

    assert lines["Kept back, by rule"] == ["9 × servicetitan_stale_sync", "3 × servicetitan_consecutive_failures"]
    assert lines["What spent the budget, by rule"] == ["10 × servicetitan_consecutive_failures"]
    assert len(lines["Still open"]) == 1
    assert len(lines["Over by now"]) == 2


def test_what_is_still_open_comes_with_its_first_step() -> None:
    """It is told for the first time; alerts of several rules or causes have none in common."""
    stale = alert("stale_sync")
    at: dict[str, Any] = {"reason": NotifyReason.DIGEST, "as_of": AS_OF, "now": NOW}

    assert message_for([stale, *recovered(group(2))], **at).advice == advice_on(stale)
    assert message_for([stale, *group(2)], **at).advice is None


def test_a_silence_that_ended_says_whose_it_was_and_why() -> None:
    """Every one of them."""
    facts = {fact.label: fact.value for fact in CASES["silence_ended"].message().facts}

    assert facts["Silence of Ann Bell"] == ("Acme moves its data centre",)


def test_a_catch_up_says_when_nobody_saw_and_what_was_then() -> None:
    """Each with its own instants; over is over."""
    message = CASES["catch_up"].message()

    assert [fact.label for fact in message.facts] == ["Not seen from", "Not seen until"]
    assert lines_of(message)["Opened and closed"][0].endswith("2026-11-24 08:45:00+00:00 to 2026-11-24 12:00:00+00:00")
    assert message.status is Status.RECOVERED


def test_a_heartbeat_asks_for_nothing_and_says_when_the_checks_ran() -> None:
    """As far as the details tell."""
    message = CASES["heartbeat-with_details"].message()

    assert message.sentence.startswith("Nothing to do")
    assert [fact.label for fact in message.facts] == [
        "Open alerts",
        "Last run of data_quality",
        "Last run of sync_failures",
    ]
    assert CASES["heartbeat"].message().facts == ()


@pytest.mark.parametrize("reason", sorted(RECEIPTS))
def test_the_worst_that_is_open_counts(reason: NotifyReason) -> None:
    """What is over raises no alarm, and a receipt of nothing known is calm."""
    critical = replace(recovered(group(1))[0], severity=Severity.CRITICAL)
    at: dict[str, Any] = {"reason": reason, "as_of": AS_OF, "now": NOW, "details": {**SILENCED, **GAP}}

    assert message_for([critical, alert("stale_sync")], **at).severity is Severity.MEDIUM
    assert message_for([], **at).severity is Severity.LOW
    assert not message_for([critical], **at).status.is_open


@pytest.mark.parametrize("reason", sorted(RECEIPTS))
def test_a_receipt_of_ten_thousand_fits_and_counts_what_it_leaves_out(reason: NotifyReason) -> None:
    """Listed and counted together are all of them."""
    alerts = [*group(5_000), *[replace(each, fingerprint=f"x{each.fingerprint}") for each in recovered(group(5_000))]]
    message = message_for(alerts, reason=reason, as_of=AS_OF, now=NOW, details={"kept_back": 10_000, "missed": 10_000})
    payload, mail = slack_payload(message), mail_content(message)

    assert_slack_accepts(payload)
    for text in ("\n".join(texts_of(payload.blocks)), payload.text, mail.text):
        more = sum(int(each) for each in re.findall(r"^(?:- )?and (\d+) more", text, re.MULTILINE))
        listed = len(re.findall(r"^(?:• |- )?(?:High|Recovered): .*Company", text, re.MULTILINE))
        assert listed + more == 10_000
    assert "10000 ServiceTitan alerts" in message.title

"""What the messages of one conversation say: several alerts of one cause, told as one."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from include.sync_health.advice import BY_ERROR_CLASS, OUTAGE, SHARED, advice_on, advice_on_group
from include.sync_health.alerts import Alert, AlertState, CloseReason, NotifyReason
from include.sync_health.mail import MAIL_LIMIT, mail_content
from include.sync_health.message_parts import Listing, Message, Status
from include.sync_health.messages import message_for
from include.sync_health.slack_blocks import PAYLOAD_BUDGET, slack_payload, text_only
from include.sync_health.verdicts import ErrorClass, Severity
from tests.sync_health.conversation_cases import (
    LINKS,
    NOW,
    acknowledged,
    conversation_cases,
    flapping,
    group,
    recovered,
)
from tests.sync_health.hostile_texts import SECRETS, untrusted
from tests.sync_health.message_alerts import AS_OF, RULES, alert, closed, storm
from tests.sync_health.slack_limits import assert_nothing_but_text, assert_slack_accepts, dirty, texts_of

CASES = {case.name: case for case in conversation_cases()}


def told(alerts: Sequence[Alert], reason: NotifyReason, **changes: Any) -> Message:
    """A message about alerts, as it is sent at `NOW`."""
    return message_for(alerts, reason=reason, as_of=AS_OF, now=NOW, **changes)


def plain(listing: Listing) -> list[str]:
    """The lines of a listing as text."""
    return ["".join(map(str, line)) for line in listing.lines]


def notes_of(message: Message) -> str:
    """All notes as one text."""
    return " | ".join("".join(map(str, note)) for note in message.notes)


@pytest.mark.parametrize(
    ("case", "status", "title"),
    [
        ("group-first", Status.OPEN, "High: 1 cause, 14 credentials"),
        ("group-first_mixed_severity", Status.OPEN, "Critical: 1 cause, 14 credentials"),
        ("group-first_some_closed", Status.PARTLY_RECOVERED, "High, partly recovered: 1 cause, 14 credentials"),
        ("group-repeat", Status.STILL_OPEN, "High, still open: 1 cause, 14 credentials"),
        ("group-new_in_group", Status.OPEN, "High: 2 more credentials with the same cause; 16 in all"),
        ("group-escalated", Status.ESCALATED, "Critical, escalated from high: 1 cause, 14 credentials"),
        ("group-unsuppressed", Status.STILL_OPEN, "High, still open: 1 cause, 14 credentials"),
        ("group-reopened", Status.OPEN_AGAIN, "High, open again: 1 cause, 14 credentials"),
        ("group-closed_some", Status.PARTLY_RECOVERED, "3 recovered, 11 still open"),
        ("group-closed_all", Status.RECOVERED, "All 14 recovered"),
        ("group-closed_all_differently", Status.CLOSED, "All 14 closed, 11 of them recovered"),
        ("group-updated_open", Status.OPEN, "High, open: 1 cause, 14 credentials"),
        ("group-updated_recovering", Status.RECOVERING, "High, recovering: 1 cause, 14 credentials"),
        ("group-updated_partly_recovered", Status.PARTLY_RECOVERED, "High, partly recovered: 3 of 14"),
        ("group-updated_partly_closed", Status.PARTLY_CLOSED, "High, partly closed: 4 of 10"),
        ("group-updated_recovered", Status.RECOVERED, "Recovered: all 14"),
        ("group-updated_closed", Status.CLOSED, "Closed: all 14"),
    ],
)
def test_the_title_of_a_conversation_tells_where_it_stands(case: str, status: Status, title: str) -> None:
    """With the rule's own title behind it, and in the subject its environment."""
    message = CASES[case].message()

    assert message.status is status
    assert message.title == f"{title}: Multiple ServiceTitan Sync Failures"
    assert message.subject == f"{message.title} (production)"


def test_members_say_their_own_severity_and_the_worst_counts() -> None:
    """The worst stands first."""
    message = CASES["group-first_mixed_severity"].message()

    assert message.severity is Severity.CRITICAL
    assert plain(message.listings[0])[:2] == [
        "Critical: Company 004 (credential 4)",
        "High: Company 000 (credential 0)",
    ]


def test_members_that_opened_at_different_times_say_when() -> None:
    """One instant for all is a fact of the group."""
    one, two = group(2)
    message = told([one, replace(two, opened_at=AS_OF)], NotifyReason.REPEAT)

    assert plain(message.listings[0])[1] == f"High: Company 001 (credential 1); since {AS_OF}"
    assert ("The latest opened", (AS_OF,)) in [(fact.label, fact.value) for fact in message.facts]


def test_a_close_says_how_each_ended_and_who_is_left() -> None:
    """Each reason in its own words."""
    closed_now, still_open = CASES["group-closed_some"].message().listings
    differently = CASES["group-closed_all_differently"].message()

    assert plain(closed_now)[0] == (
        "Recovered: Company 000 (credential 0); after 3 hours 15 minutes; the latest run completed at 2026-11-24 11:50 UTC"
    )
    assert (closed_now.total, still_open.total) == (3, 11)
    assert "1 closed because the target is gone, 1 closed by a changed rule" in differently.sentence
    assert any(line.startswith("Closed, target removed: Company 012") for line in plain(differently.listings[0]))


def test_a_close_of_one_says_where_its_conversation_stands() -> None:
    """It is told as one alert, with whom, why and how long."""
    message = CASES["group-closed_one"].message()

    assert message.title == "Recovered: Multiple ServiceTitan Sync Failures"
    assert "Of the 14 in this conversation: 3 recovered, 11 still open" in notes_of(message)


def test_a_close_that_is_over_already_says_what_is_open_again() -> None:
    """Sent late, when the alerts have opened anew."""
    message = told(group(3), NotifyReason.CLOSED)

    assert message.status is Status.OPEN_AGAIN
    assert message.title.startswith("High, open again: 1 cause, 3 credentials")


def test_new_alerts_of_the_same_credentials_are_no_new_credentials() -> None:
    """A second data type of a credential is one more alert."""
    first = group(3)
    second = replace(first[0], fingerprint="f" * 64, data_type="invoices")
    message = told([second], NotifyReason.NEW_IN_GROUP, neighbours=(second, *first))

    assert message.title.startswith("High: 1 more alert with the same cause; 4 in all")
    assert "has a cause that was told before: auth. In this conversation: 4 open." in message.sentence
    assert message.advice == told(first, NotifyReason.FIRST).advice  # not what helps with one alone


def test_alerts_without_a_cause_stand_alone_unless_they_share_a_thread() -> None:
    """Several rules or causes are a summary; a thread is one conversation whatever its causes are by now."""
    causeless = [replace(each, cause=None, error_class=None) for each in group(3)]

    assert told(causeless, NotifyReason.FIRST).title.startswith("3 ServiceTitan alerts opened")
    assert told(storm(9), NotifyReason.FIRST).title.startswith("9 ServiceTitan alerts opened")
    assert told([causeless[0]], NotifyReason.UPDATED, neighbours=causeless).title == (
        "High, open: 3 credentials: Multiple ServiceTitan Sync Failures"
    )


def test_a_conversation_of_several_rules_names_each_and_offers_no_silence() -> None:
    """Where the policy groups by other things: a silence of the environment would hide far more."""
    message = CASES["group-of_several_rules"].message()

    assert message.title == (
        "High, still open: 3 credentials: Multiple ServiceTitan Sync Failures / ServiceTitan Sync Stale"
    )
    assert message.sentence.startswith("3 credentials (production) are told in one conversation: Multiple")
    assert sorted(plain(message.listings[0])) == [
        "High: Company 000 (credential 0): Multiple ServiceTitan Sync Failures",
        "High: Company 001 (credential 1): Multiple ServiceTitan Sync Failures",
        "High: Company 013 (credential 13): ServiceTitan Sync Stale",
    ]
    assert [label for label, _ in message.links] == ["All of them", "Runbook", "Airflow run"]


def test_a_test_of_several_alerts_is_no_conversation() -> None:
    """Nothing of it is open."""
    assert told(group(2), NotifyReason.TEST).title.startswith("2 ServiceTitan alerts in a test")


def test_members_are_told_once_however_they_are_handed_over() -> None:
    """The neighbours hold the members or do not."""
    everybody = group(16)
    with_members = told(everybody[14:], NotifyReason.NEW_IN_GROUP, neighbours=everybody)

    assert told(everybody[14:], NotifyReason.NEW_IN_GROUP, neighbours=everybody[:14]) == with_members


@pytest.mark.parametrize(
    "reason", [NotifyReason.FIRST, NotifyReason.REPEAT, NotifyReason.UPDATED, NotifyReason.REOPENED]
)
def test_one_who_has_it_in_hand_is_named_until_when_and_why(reason: NotifyReason) -> None:
    """Of one alert and of all of a group."""
    until = NOW + timedelta(hours=20)
    words = f"Acknowledged by Ann Bell until {until}: the customer renews the secret today"

    assert words in notes_of(told([acknowledged(alert("sync_failures"), until=until)], reason))
    assert words in notes_of(told([acknowledged(each, until=until) for each in group(3)], reason))


@pytest.mark.parametrize(
    ("until", "holds"),
    [
        pytest.param(NOW, False, id="at its end it holds no more"),
        pytest.param(NOW + timedelta(seconds=1), True, id="a moment before"),
        pytest.param(None, True, id="as long as the episode lasts"),
    ],
)
def test_an_acknowledgement_that_is_over_is_not_told(until: Any, holds: bool) -> None:
    """Judged by the wall clock."""
    message = told([acknowledged(alert("sync_failures"), until=until)], NotifyReason.REPEAT)

    assert ("Acknowledged" in notes_of(message)) is holds


def test_a_colleague_known_by_a_mail_address_is_named_without_it() -> None:
    """Masked as a whole it would not say who."""
    message = told([acknowledged(alert("sync_failures"), by="ann.bell@example.com")], NotifyReason.REPEAT)

    assert "Acknowledged by ann.bell: " in notes_of(message)
    assert "example.com" not in notes_of(message)


def test_some_of_a_group_in_hand_flapping_or_unseen_are_counted_and_marked() -> None:
    """Those that closed count no more."""
    notes = notes_of(CASES["group-updated_open"].message())

    assert "Acknowledged: 2 of 14, by Ann Bell" in notes
    assert "Flapping: 1 of 14" in notes
    assert "No fresh data for 1 of 14" in notes
    assert plain(CASES["group-updated_open"].message().listings[0])[0] == (
        "High: Company 000 (credential 0); acknowledged by Ann Bell"
    )


@pytest.mark.parametrize(
    ("ago", "words"),
    [
        pytest.param(timedelta(hours=20), "came back 2 times within a day", id="within a day"),
        pytest.param(timedelta(days=3), "came back 2 times within 3 days", id="a longer window of the policy"),
    ],
)
def test_a_flapping_alert_says_how_often_it_came_back_and_what_changes(ago: timedelta, words: str) -> None:
    """Once: the relapses are among the returns."""
    shaky = replace(flapping(alert("sync_failures")), returns=(NOW - ago, NOW - timedelta(hours=1)))
    notes = notes_of(told([shaky], NotifyReason.REPEAT))

    assert f"Flapping: {words}; from here on one message a day" in notes
    assert "failed again" not in notes


def test_what_was_before_is_told_where_it_is_known() -> None:
    """The episode before, the severity before, and what kept it back."""
    assert "The episode before closed at 2026-11-24 09:30:00+00:00; it was calm for 2 hours 30 minutes" in notes_of(
        CASES["sync_failures-reopened"].message()
    )
    assert CASES["consecutive_failures-escalated"].message().title.startswith("High, escalated from medium: ")
    assert "Kept back until now by the mute nights, since 2026-11-24 04:00:00+00:00" in notes_of(
        CASES["sync_failures-unsuppressed"].message()
    )


@pytest.mark.parametrize("reason", [NotifyReason.REOPENED, NotifyReason.ESCALATED, NotifyReason.UNSUPPRESSED])
@pytest.mark.parametrize(
    "details",
    [
        {},
        {"was": 7, "closed_before": "yesterday", "kept_back_by": None, "topics": 3, "silences": "Ann", "since": []},
        {"was": {}, "closed_before": {}, "kept_back_by": ["?"], "silences": [None, {}], "since": "2026-11-24T12:00:00"},
    ],
    ids=["nothing", "odd values", "odd parts"],
)
def test_a_message_without_its_details_is_told_all_the_same(reason: NotifyReason, details: dict[str, Any]) -> None:
    """Less is said; nothing is guessed."""
    message = told([alert("sync_failures")], reason, details=details)

    assert re.match(r"High, (open again|escalated|still open): ", message.title)
    assert slack_payload(message).blocks
    assert told(group(2), reason, details=details).count == 2


def test_an_escalation_that_has_eased_names_no_severity_it_came_from() -> None:
    """ "High, escalated from critical" would be wrong."""
    eased = told([alert("sync_failures")], NotifyReason.ESCALATED, details={"was": "critical"})

    assert eased.title.startswith("High, escalated: ")


def test_a_message_in_place_of_another_channel_says_so() -> None:
    """Whoever reads it should mend the other one."""
    assert "Sent here because slack:#servicetitan-alerts refuses our messages" in notes_of(
        CASES["sync_failures-fallback"].message()
    )
    assert "Sent here because email:ops@example.com refuses" in notes_of(
        told([alert("sync_failures")], NotifyReason.FIRST, fallback_of="email:ops@example.com")
    )


@pytest.mark.parametrize("error_class", ErrorClass)
def test_a_group_is_advised_by_what_its_credentials_share(error_class: ErrorClass) -> None:
    """Entering the secrets of fourteen credentials anew, one by one, is no first step."""
    alerts = [replace(each, error_class=error_class) for each in group(2)]

    assert advice_on_group(alerts) == SHARED.get(error_class, BY_ERROR_CLASS[error_class])
    assert advice_on_group(alerts[:1]) == BY_ERROR_CLASS[error_class]


def test_a_rule_with_its_own_advice_gives_it_to_a_group_as_well() -> None:
    """And so does an outage, whose advice is by class."""
    stuck, outage = alert("stuck_sync", error_class=ErrorClass.AUTH), alert("platform_outage")

    assert advice_on_group([stuck, replace(stuck, credential_id="18")]) == advice_on(stuck)
    assert advice_on_group([outage, outage]) is OUTAGE[ErrorClass.SERVER]


@pytest.mark.parametrize("links", [LINKS, None], ids=["a dashboard", "no dashboard"])
@pytest.mark.parametrize("reason", [NotifyReason.FIRST, NotifyReason.UPDATED, NotifyReason.CLOSED])
def test_ten_thousand_members_fit_and_the_rest_is_counted_and_found(reason: NotifyReason, links: Any) -> None:
    """Listed and counted together are all of them, in the blocks, the text and the mail."""
    alerts = group(10_000)
    if reason is NotifyReason.CLOSED:
        alerts = recovered(alerts)
    message = told(alerts, reason, links=links)
    payload, mail = slack_payload(message), mail_content(message)
    rest = "on the dashboard" if links else "ask by python -m include.cli why --credential ID"

    assert_slack_accepts(payload)
    assert "10000" in message.title
    for text in ("\n".join(texts_of(payload.blocks)), payload.text, mail.text):
        more = re.search(r"^(?:- )?and (\d+) more: (.*)$", text, re.MULTILINE)
        assert more is not None
        assert text.count("(credential ") + int(more[1]) == 10_000
        assert more[2] == rest
    assert mail.text.count("(credential ") >= 100
    assert len(mail.text.encode()) + len(mail.html.encode()) <= MAIL_LIMIT


def in_any_state(one: Alert, kind: str, text: str) -> Alert:
    """The alert as it is in one of many states, with a text wherever somebody could have written one."""
    return {
        "firing": one,
        "recovering": replace(one, state=AlertState.RECOVERING),
        "stale": replace(one, stale_since=AS_OF),
        "flapping": flapping(one),
        "acknowledged": acknowledged(one, by=text, reason=text),
        "recovered": closed(one, why=CloseReason.RECOVERED, reason=text),
        "removed": closed(one, why=CloseReason.TARGET_REMOVED, reason=text),
    }[kind]


KINDS = ("firing", "recovering", "stale", "flapping", "acknowledged", "recovered", "removed")


@settings(deadline=None)  # redaction of many long texts takes its time on a busy machine
@given(
    texts=st.lists(st.tuples(untrusted, st.sampled_from(KINDS)), min_size=1, max_size=12),
    members=st.integers(min_value=1, max_value=12),
    reason=st.sampled_from(NotifyReason),
    rule=st.sampled_from(RULES),
    one_cause=st.booleans(),
)
def test_any_conversation_is_accepted_and_says_nothing_of_its_own(
    texts: list[tuple[str, str]], members: int, reason: NotifyReason, rule: str, one_cause: bool
) -> None:
    """No text of the source, of the policy or of a colleague breaks a limit, makes a mention, or shows a secret."""
    everybody = [
        replace(
            in_any_state(dirty(text, rule=rule), kind, text),
            fingerprint=f"{number:064x}",
            cause="a" * 16 if one_cause else None,
        )
        for number, (text, kind) in enumerate(texts)
    ]
    text = texts[0][0]
    details = {
        "kept_back_by": ["silenced", text],
        "topics": [each for each, _ in texts],
        "silences": [{"author": each, "reason": each} for each, _ in texts],
        "rules": {each: 3 for each, _ in texts},
        "checks": {each: AS_OF.isoformat() for each, _ in texts},
        "since": text,
        "was": text,
        "closed_before": text,
        "from": text,
    }
    message = told(
        everybody[:members],
        reason,
        details=details,
        neighbours=everybody,
        links=LINKS,
        fallback_of=text,
        possible_repeat=True,
    )
    payload, mail = slack_payload(message), mail_content(message)

    for each in (payload, text_only(message)):
        assert_slack_accepts(each)
        assert_nothing_but_text(each)
    assert len(json.dumps(payload.blocks, ensure_ascii=False)) <= PAYLOAD_BUDGET
    shown = json.dumps([payload.text, payload.blocks], ensure_ascii=False) + mail.subject + mail.text + mail.html
    assert not [secret for _, secret in SECRETS if secret in shown]
    assert mail.subject.splitlines() == [mail.subject]

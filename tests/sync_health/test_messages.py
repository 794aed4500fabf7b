"""What messages say: the values, before any rendering."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given, settings

from include.sync_health.advice import BY_ERROR_CLASS, BY_RULE, advice_for
from include.sync_health.alerts import AlertState, CloseReason, NotifyReason
from include.sync_health.messages import LATE_AFTER, Links, Message, Status, message_for
from include.sync_health.policy import RulePolicies
from include.sync_health.summaries import MOST_MEMBERS
from include.sync_health.verdicts import ErrorClass
from tests.sync_health.hostile_texts import SECRETS, untrusted
from tests.sync_health.message_cases import AS_OF, CASES, NOW, RULES, alert, closed, storm


def facts_of(message: Message) -> dict[str, str]:
    """The facts as text, for looking up by label."""
    return {fact.label: "".join(map(str, fact.value)) for fact in message.facts}


def notes_of(message: Message) -> str:
    """All notes as one text."""
    return " | ".join("".join(map(str, note)) for note in message.notes)


def test_the_cases_cover_every_rule_and_every_reason() -> None:
    """A new rule or reason needs its golden files."""
    assert set(RULES) == set(RulePolicies.__slots__)
    assert {case.reason for case in CASES} == set(NotifyReason)
    assert {each.close_reason for case in CASES for each in case.alerts} >= set(CloseReason)


@pytest.mark.parametrize("error_class", ErrorClass)
def test_every_error_class_has_a_likely_cause_and_a_first_step(error_class: ErrorClass) -> None:
    """Nobody is told that something fails without being told where to begin."""
    advice = BY_ERROR_CLASS[error_class]

    assert advice.likely_cause
    assert advice.first_step


def test_a_rule_without_error_texts_has_its_own_advice() -> None:
    """A stuck sync has no error; and an alert with neither gets none."""
    assert advice_for("stuck_sync", None) is BY_RULE["stuck_sync"]
    assert advice_for("sync_failures", None) is None


@pytest.mark.parametrize(
    ("case", "status", "begins"),
    [
        pytest.param("sync_failures-first", Status.OPEN, "High: ", id="a first message says the severity"),
        pytest.param("sync_failures-repeat", Status.STILL_OPEN, "High, still open: ", id="a repeat says still open"),
        pytest.param("sync_failures-recovered", Status.RECOVERED, "Recovered: ", id="recovered"),
        pytest.param(
            "sync_failures-expired",
            Status.EXPIRED,
            "Closed without evidence of recovery: ",
            id="expired is never called recovered",
        ),
        pytest.param(
            "stuck_sync-target_removed",
            Status.TARGET_REMOVED,
            "Closed, target removed: ",
            id="removed is not recovered",
        ),
        pytest.param(
            "sync_failures-first_closed_meanwhile",
            Status.RECOVERED,
            "Recovered: ",
            id="a first message of what has closed meanwhile says that it has recovered",
        ),
        pytest.param(
            "sync_failures-first_recovering", Status.RECOVERING, "High, recovering: ", id="recovering when it is sent"
        ),
        pytest.param(
            "sync_failures-closed_but_open_again",
            Status.OPEN_AGAIN,
            "High, open again: ",
            id="a close that comes after the next opening",
        ),
        pytest.param("test-bare", Status.TEST, "Test: ", id="a test without an alert"),
        pytest.param("summary-recovered", Status.RECOVERED, "22 ServiceTitan alerts closed", id="all recovered"),
        pytest.param("summary-closed_mixed", Status.CLOSED, "22 ServiceTitan alerts closed", id="not all recovered"),
    ],
)
def test_the_title_tells_the_current_state(case: str, status: Status, begins: str) -> None:
    """Which may have moved on since the delivery was decided."""
    message = next(each for each in CASES if each.name == case).message()

    assert message.status is status
    assert message.title.startswith(begins)
    assert message.title in message.subject


@pytest.mark.parametrize(
    ("why", "words"),
    [
        pytest.param(CloseReason.RECOVERED, "recovered; evidence: because", id="recovered"),
        pytest.param(CloseReason.EXPIRED, "closed without evidence of recovery: because", id="expired"),
        pytest.param(CloseReason.TARGET_REMOVED, "the target is gone, which is no recovery: because", id="removed"),
        pytest.param(CloseReason.RULE_CHANGED, "the rule was changed and no longer applies: because", id="rule"),
    ],
)
def test_a_close_says_why_and_how_long_it_was_open(why: CloseReason, words: str) -> None:
    """Each reason in its own words."""
    ended = closed(alert("sync_failures"), why=why, reason="because")
    facts = facts_of(message_for([ended], reason=NotifyReason.CLOSED, as_of=AS_OF, now=NOW))

    assert facts["Why closed"] == words
    assert facts["Was open for"] == "3 hours 15 minutes"


@pytest.mark.parametrize(
    ("lag", "is_late"),
    [
        pytest.param(LATE_AFTER, False, id="exactly half an hour is in time"),
        pytest.param(LATE_AFTER + timedelta(seconds=1), True, id="past half an hour is late"),
    ],
)
def test_a_late_message_says_so(lag: timedelta, is_late: bool) -> None:
    """Both instants are told."""
    message = message_for([alert("sync_failures")], reason=NotifyReason.FIRST, as_of=AS_OF, now=AS_OF + lag)

    assert ("Told late" in notes_of(message)) is is_late


def test_notes_tell_of_repeats_stale_data_and_flapping() -> None:
    """What a reader must know to trust the rest."""
    shaky = replace(alert("sync_failures"), stale_since=AS_OF - timedelta(hours=1), flaps=1)
    notes = notes_of(message_for([shaky], reason=NotifyReason.REPEAT, as_of=AS_OF, now=NOW, possible_repeat=True))

    assert "may be a repeat" in notes
    assert "No fresh data since" in notes
    assert "failed again 1 time meanwhile" in notes


def test_a_summary_counts_rules_causes_and_credentials() -> None:
    """One cause and many credentials is one problem, and reads like it."""
    message = message_for(storm(23), reason=NotifyReason.FIRST, as_of=AS_OF, now=NOW)
    by_rule, by_cause, members = message.listings

    assert message.title == "23 ServiceTitan alerts opened, worst high"
    assert message.sentence == "2 causes, 23 credentials. Now: 23 open."
    assert by_rule.lines == (("23 × Multiple ServiceTitan Sync Failures",),)
    assert by_cause.lines[0] == ("20 credentials: auth: Failed to refresh access token",)
    assert len(members.lines) == members.total == 23


def test_a_summary_lists_what_needs_attention_first() -> None:
    """Open before closed without a recovery, and recovered last."""
    still_open, gone, well = storm(3)
    gone = closed(gone, why=CloseReason.TARGET_REMOVED, reason="the credential was deleted upstream")
    well = closed(well, why=CloseReason.RECOVERED, reason="the latest run completed")
    message = message_for([well, gone, still_open], reason=NotifyReason.CLOSED, as_of=AS_OF, now=NOW)

    assert [str(line[0]).split(":")[0] for line in message.listings[-1].lines] == [
        "High, open again",
        "Closed, target removed",
        "Recovered",
    ]
    assert message.status is Status.OPEN_AGAIN


def test_a_summary_holds_a_limited_number_of_members_and_the_true_count() -> None:
    """The rest is "N more" in every renderer."""
    members = message_for(storm(MOST_MEMBERS + 5), reason=NotifyReason.FIRST, as_of=AS_OF, now=NOW).listings[-1]

    assert len(members.lines) == MOST_MEMBERS
    assert members.total == MOST_MEMBERS + 5


def test_only_configured_links_are_there() -> None:
    """No link is better than a dead one."""
    message = message_for(
        [alert("sync_failures")],
        reason=NotifyReason.FIRST,
        as_of=AS_OF,
        now=NOW,
        links=Links(runbook="https://wiki.example.com/r"),
    )

    assert message.links == (("Runbook", "https://wiki.example.com/r"),)


def test_nothing_to_speak_of_and_naive_instants_are_refused() -> None:
    """Both are mistakes of the caller."""
    with pytest.raises(ValueError, match="needs an alert"):
        message_for([], reason=NotifyReason.FIRST, as_of=AS_OF, now=NOW)
    with pytest.raises(ValueError, match="timezone-aware"):
        message_for([], reason=NotifyReason.TEST, as_of=datetime(2026, 1, 1), now=NOW)  # noqa: DTZ001 - the mistake


@settings(deadline=None)  # redaction of many long texts takes its time on a busy machine
@given(untrusted)
def test_no_secret_of_an_alert_is_in_its_message(text: str) -> None:
    """Wherever in the alert it stands."""
    dirty = replace(
        alert("sync_failures"),
        title=text,
        message=text,
        reason=text,
        company_name=text,
        metadata={"latest_error": text, "sync_id": text},
        evidence={text or "empty": text, "failures": text, "classes": {text: text}},
        state=AlertState.FIRING,
    )
    seen = repr(message_for([dirty, closed(dirty, why=CloseReason.RECOVERED, reason=text)], **AT)) + repr(
        message_for([dirty], **AT)
    )

    assert not [secret for _, secret in SECRETS if secret in seen]


AT = {"reason": NotifyReason.REPEAT, "as_of": AS_OF, "now": NOW}

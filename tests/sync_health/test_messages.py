"""What messages say: the values, before any rendering."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings

from include.sync_health.advice import BY_ERROR_CLASS, BY_RULE, SHARED, advice_for, advice_on
from include.sync_health.alerts import AlertState, CloseReason, NotifyReason
from include.sync_health.messages import LATE_AFTER, Links, Message, Status, message_for
from include.sync_health.platform_outage import SHARED_CLASSES
from include.sync_health.rule_policies import RulePolicies
from include.sync_health.summaries import MOST_MEMBERS, MOST_MEMBERS_OF_A_RULE
from include.sync_health.verdicts import ErrorClass
from tests.sync_health.hostile_texts import SECRETS, untrusted
from tests.sync_health.message_alerts import (
    AS_OF,
    EXPIRED_TOKEN,
    NEVER_COMPLETED,
    RULES,
    alert,
    broken_already,
    closed,
    storm,
)
from tests.sync_health.message_cases import CASES, NOW


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


def test_an_edit_is_never_late() -> None:
    """It shows what is now, and tells nobody."""
    message = message_for([alert("sync_failures")], reason=NotifyReason.UPDATED, as_of=AS_OF - LATE_AFTER, now=NOW)

    assert "Told late" not in notes_of(message)


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


def test_an_outage_weighs_as_much_as_the_credentials_it_counts() -> None:
    """It names none of them, and yet it is the cause to look at first."""
    message = message_for([*storm(3), alert("platform_outage")], reason=NotifyReason.REPEAT, as_of=AS_OF, now=NOW)
    _, by_cause, _ = message.listings

    assert message.sentence == "2 causes, 31 credentials. Now: 4 still open."
    assert by_cause.lines[0] == ("31 credentials: server: ServiceTitan API server error: 503",)
    assert message.advice is advice_for("platform_outage", ErrorClass.SERVER)


def test_a_summary_advises_on_what_its_credentials_share() -> None:
    """With one cause they are advised as a group is: "this credential" helps nobody who reads of twenty."""
    advice = message_for(storm(23), reason=NotifyReason.FIRST, as_of=AS_OF, now=NOW).advice

    assert advice is SHARED[ErrorClass.AUTH]


def test_a_summary_advises_on_what_is_still_open() -> None:
    """The cause of most of them is over, and needs nobody."""
    alerts = [
        closed(each, why=CloseReason.RECOVERED, reason="it ran") if each.error_class is ErrorClass.AUTH else each
        for each in storm(23)
    ]
    advice = message_for(alerts, reason=NotifyReason.FIRST, as_of=AS_OF, now=NOW).advice

    assert advice is BY_ERROR_CLASS[ErrorClass.SERVER]


def test_a_summary_lists_what_needs_attention_first() -> None:
    """Open before closed without a recovery, and recovered last."""
    still_open, gone, well = alert("sync_failures"), alert("stuck_sync"), alert("stale_sync")
    gone = closed(gone, why=CloseReason.TARGET_REMOVED, reason="the credential was deleted upstream")
    well = closed(well, why=CloseReason.RECOVERED, reason="the latest run completed")
    message = message_for([well, gone, still_open], reason=NotifyReason.CLOSED, as_of=AS_OF, now=NOW)

    assert [str(line[0]).split(":")[0] for line in message.listings[-1].lines] == [
        "High, open again",
        "Closed, target removed",
        "Recovered",
    ]
    assert message.status is Status.OPEN_AGAIN


@pytest.mark.parametrize(
    "reason", [NotifyReason.FIRST, NotifyReason.CLOSED, NotifyReason.BASELINE, NotifyReason.DIGEST]
)
def test_each_line_of_a_summary_names_its_alert(reason: NotifyReason) -> None:
    """By the digits that ``why``, ``ack`` and ``silence`` take: a company's name is none of their arguments."""
    alerts = [
        closed(each, why=CloseReason.RECOVERED, reason="it ran") if number % 2 else each
        for number, each in enumerate(storm(22))
    ]
    message = message_for(alerts, reason=reason, as_of=AS_OF, now=NOW)

    lines = [str(line[0]) for listing in message.listings for line in listing.lines]
    assert all(sum(f"({each.fingerprint[:12]})" in line for line in lines) == 1 for each in alerts)


def test_a_summary_holds_a_limited_number_of_members_and_the_true_count() -> None:
    """The rest is "N more" in every renderer."""
    members = message_for(storm(MOST_MEMBERS + 5), reason=NotifyReason.FIRST, as_of=AS_OF, now=NOW).listings[-1]

    assert len(members.lines) == MOST_MEMBERS
    assert members.total == MOST_MEMBERS + 5


def test_the_baseline_is_grouped_by_rule_with_the_worst_first() -> None:
    """Counts of everything, then each rule's own list."""
    message = message_for(broken_already(14), reason=NotifyReason.BASELINE, as_of=AS_OF, now=NOW)
    counts, *rules = message.listings

    assert message.title == "14 things were already broken when monitoring began, worst critical"
    assert message.sentence.startswith("3 causes, 31 credentials. Now: 14 open.")
    assert counts.lines[:2] == (
        ("1 × ServiceTitan Platform Outage (critical)",),
        ("3 × ServiceTitan Sync Stale (1 high, 2 medium)",),
    )
    assert [str(line[0]).split(" ")[0] for line in counts.lines] == [str(listing.total) for listing in rules]
    assert sum(listing.total for listing in rules) == 14
    assert [str(line[0]).split(":")[0] for line in rules[1].lines] == ["High", "Medium", "Medium"]


def test_a_single_thing_is_a_baseline_too() -> None:
    """Not an opening: nobody should look for what has just happened."""
    message = message_for([alert("stale_sync")], reason=NotifyReason.BASELINE, as_of=AS_OF, now=NOW)

    assert message.title == "1 thing was already broken when monitoring began, medium"
    assert message.status is Status.OPEN


def test_a_baseline_holds_a_limited_number_of_each_rule_and_the_true_counts() -> None:
    """The rest is "N more" in every renderer."""
    message = message_for(broken_already(3000), reason=NotifyReason.BASELINE, as_of=AS_OF, now=NOW)

    assert sum(listing.total for listing in message.listings[1:]) == 3000
    assert max(len(listing.lines) for listing in message.listings) == MOST_MEMBERS_OF_A_RULE


def test_an_outage_is_advised_by_its_error_class() -> None:
    """Entering one credential's secret anew helps nobody when all are refused."""
    advised = {error_class: advice_for("platform_outage", error_class) for error_class in SHARED_CLASSES}

    assert None not in advised.values()
    assert len(set(advised.values())) == len(SHARED_CLASSES)
    assert not [each for error_class, each in advised.items() if each is BY_ERROR_CLASS[error_class]]


@pytest.mark.parametrize(
    ("check", "cause", "says"),
    [
        pytest.param("sync_failures", "unreachable", "doctor", id="the source does not answer"),
        pytest.param("policy", "invalid", "policy --check", id="the policy file is wrong"),
        pytest.param("data_quality", "invalid", "doctor", id="a column of the source is of a wrong type"),
        pytest.param("clock", "went_back", "NTP", id="the clock was ahead"),
        pytest.param("sync_failures", "evaluation_stuck_sync", "log of the task evaluate", id="a rule failed"),
        pytest.param("sync_failures", "stale_source", "copy that has stopped", id="rows stopped coming"),
    ],
)
def test_blindness_is_advised_by_what_keeps_the_monitor_from_seeing(check: str, cause: str, says: str) -> None:
    """``doctor`` finds nothing wrong where a rule raised, and the wrong file keeps no alert from closing."""
    advice = advice_on(alert("monitor_health", identity={"check": check, "cause": cause}))

    assert advice is not None
    assert says in advice.first_step


@pytest.mark.parametrize("rule", RULES)
def test_every_open_alert_is_told_with_a_likely_cause_and_a_first_step(rule: str) -> None:
    """For whoever is woken."""
    assert message_for([alert(rule)], reason=NotifyReason.FIRST, as_of=AS_OF, now=NOW).advice is not None


@pytest.mark.parametrize(
    ("rule", "changes", "shown"),
    [
        pytest.param(
            "token_expiry",
            {},
            {
                "Known token lifetime": "60 days",
                "Judged as": "long-lived",
                "Token expires": "2026-11-28 18:00:00+00:00",
            },
            id="a token that expires",
        ),
        pytest.param(
            "token_expiry",
            EXPIRED_TOKEN,
            {"Known token lifetime": "15 minutes", "Token expired": "2026-11-22 09:00:00+00:00"},
            id="a token that has expired is not said to expire",
        ),
        pytest.param(
            "stale_sync",
            NEVER_COMPLETED,
            {"Last success": "none found", "Allowed without a success": "2 days"},
            id="never completed",
        ),
        pytest.param(
            "connection_error",
            {"evidence": {"error_began_at": None}},
            {"In error since": "unknown"},
            id="since nobody knows",
        ),
        pytest.param("platform_outage", {}, {"Share that failed": "77.5% (threshold 50%)"}, id="an outage's share"),
        pytest.param("no_syncs", {}, {"Hours with a sync, of the 24 before": "23"}, id="what is usual"),
        pytest.param(
            "data_quality",
            {},
            {"Syncs judged": "22", "Failed records, newest sync": "12% (threshold 20%)"},
            id="how the newest sync compares",
        ),
        pytest.param(
            "error_budget",
            {},
            {
                "Achieved": "99.36% (objective 99%)",
                "Burn factor of the last 3 days": "2.31 (threshold 1)",
                "Burn factor of the last day": "1.8",
            },
            id="how fast a budget burns, and over which days",
        ),
        pytest.param(
            "data_quality",
            {"evidence": {"judged": 1, "contradicting": 2}},
            {"Syncs judged": "1", "Syncs whose counts contradict": "2"},
            id="counts that contradict themselves",
        ),
    ],
)
def test_evidence_is_told_in_words(rule: str, changes: Mapping[str, Any], shown: Mapping[str, str]) -> None:
    """With its unit, and what it was measured by."""
    facts = facts_of(message_for([alert(rule, **changes)], reason=NotifyReason.FIRST, as_of=AS_OF, now=NOW))

    assert facts.items() >= shown.items()


@pytest.mark.parametrize("rule", RULES)
def test_no_fact_is_told_twice_or_without_a_word_for_it(rule: str) -> None:
    """Labels differ, and none is the bare key of a number that nobody named."""
    labels = [fact.label for fact in message_for([alert(rule)], reason=NotifyReason.FIRST, as_of=AS_OF, now=NOW).facts]

    assert len(labels) == len(set(labels))
    assert "Syncs whose counts contradict" not in labels


def test_an_alert_about_no_credential_is_named_by_its_environment() -> None:
    """A subject tells it all."""
    message = message_for([alert("no_syncs")], reason=NotifyReason.FIRST, as_of=AS_OF, now=NOW)

    assert message.subject == "High: No ServiceTitan Syncs: production"


def test_the_sample_of_an_outage_is_its_latest_error() -> None:
    """While it is open; a close tells no old errors."""
    outage = alert("platform_outage")
    ended = closed(outage, why=CloseReason.RECOVERED, reason="mended")

    assert message_for([outage], **AT).latest_error == "ServiceTitan API server error: 503"
    assert message_for([ended], reason=NotifyReason.CLOSED, as_of=AS_OF, now=NOW).latest_error is None


def test_only_configured_links_are_there() -> None:
    """No link is better than a dead one."""
    message = message_for(
        [alert("sync_failures")],
        reason=NotifyReason.FIRST,
        as_of=AS_OF,
        now=NOW,
        links=Links(runbook="https://wiki.example.com/r"),
    )

    assert message.links == (("Runbook", "https://wiki.example.com/r#sync-failures"),)


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

"""What is told of what was kept back or missed, who is taken along, and in which order: the edges of `decide`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from include.sync_health.alerts import (
    Acknowledgement,
    Alert,
    Held,
    NotifyReason,
    SilentReason,
    Suppression,
)
from include.sync_health.lifecycle import step
from include.sync_health.matchers import Matcher, Tagged
from include.sync_health.muting import Suppressors
from include.sync_health.notifications import decide, owes_a_close
from include.sync_health.rule_policies import RuleMode, RulePolicies, StaleSyncPolicy
from include.sync_health.speeches import member_of
from include.sync_health.verdicts import Severity, Verdict
from tests.sync_health.alert_histories import MAIL, POLICY, SLACK, T0, TICK, rule_saw
from tests.sync_health.decide_cases import (
    FIRST,
    HOUR,
    TOLD,
    closed,
    decided,
    limited,
    of_slack,
    opened,
    silenced,
    to_slack,
    told,
)

B, C = Verdict.BREACH, Verdict.CLEAR
DAY = timedelta(days=1)
ONLY_SLACK = to_slack(POLICY)
SILENCE = Suppression(why=SilentReason.SILENCED, by=FIRST, since=T0 - HOUR)
NOTHING = Suppressors(at=T0)


def said(*alerts: Alert, **options: Any) -> list[tuple[str, int]]:
    """What Slack is told or not told, each with its number of members."""
    decision = decided(*alerts, **{"policy": ONLY_SLACK, **options})
    return [(str(each.reason or each.silent), len(each.members)) for each in of_slack(decision)]


def held(alert: Alert, **changes: Any) -> Held:
    """What the ledger has of an opening that the first silence kept from Slack."""
    values: dict[str, Any] = {
        "key": f"held {alert.fingerprint} {changes.get('channel', SLACK)}",
        "channel": SLACK,
        "why": SilentReason.SILENCED,
        "by": FIRST,
        "member": member_of(alert),
        "as_of": T0 - HOUR,
        "rule": alert.rule,
    }
    return Held(**{**values, **changes})


def of_rule(rule: str, **changes: Any) -> Alert:
    """An alert of any rule that opened at T0, of which nobody was told."""
    return next(iter(step({}, [rule_saw(rule, **changes)], policy=POLICY, as_of=T0).alerts.values()))


@pytest.mark.parametrize(
    ("alert", "owes"),
    [
        pytest.param(opened(told={SLACK: TOLD}), False, id="open and told"),
        pytest.param(closed(opened(told={SLACK: TOLD})), True, id="over, and told to be open"),
        pytest.param(closed(opened(told={SLACK: told(NotifyReason.CLOSED)})), False, id="over, and told to be"),
        pytest.param(
            closed(opened(told={SLACK: told(NotifyReason.CLOSED), MAIL: TOLD})), True, id="over, and half of them know"
        ),
        pytest.param(closed(opened()), False, id="over, and nobody ever knew"),
    ],
)
def test_a_close_is_owed_to_whom_believes_it_open(alert: Alert, owes: bool) -> None:
    """One channel is enough."""
    assert owes_a_close(alert) is owes


def test_the_worst_goes_out_first_then_by_rule_and_fingerprint() -> None:
    """Both what is said and what is not."""
    failing = sorted((opened(str(each)) for each in range(3)), key=lambda each: each.fingerprint)
    stuck, stale = of_rule("stuck_sync"), of_rule("stale_sync")
    worst = of_rule("data_quality", severity=Severity.CRITICAL)
    least = of_rule("connection_error", severity=Severity.MEDIUM, identity={"credential": "9"})
    order = [each.fingerprint for each in (worst, stale, stuck, *failing, least)]

    mixed = (stuck, failing[1], least, failing[2], stale, worst, failing[0])
    for may_notify in (True, False):
        decision = decided(*mixed, policy=ONLY_SLACK, may_notify=may_notify)
        assert [each.members[0].fingerprint for each in decision.deliveries] == order


def test_what_is_given_comes_back_and_of_the_rest_what_changed() -> None:
    """An alert that nothing was said of is given back; one that only lay beside it is not, unless a message took it along."""
    quiet, beside = opened("1", told={SLACK: TOLD}), opened("2", told={SLACK: told(NotifyReason.FIRST, thread="other")})
    along = opened("3", told={SLACK: TOLD})
    around = {each.fingerprint: each for each in (beside, along)}

    assert decided(quiet, policy=ONLY_SLACK, open_alerts=around).alerts == {quiet.fingerprint: quiet}
    due = opened("1", told={SLACK: told(NotifyReason.FIRST, at=T0 - 12 * HOUR)})
    assert set(decided(due, policy=ONLY_SLACK, open_alerts=around).alerts) == {due.fingerprint, along.fingerprint}


def test_where_an_alert_is_given_twice_the_judged_one_counts() -> None:
    """The other is as it was before this tick."""
    alert = closed(opened(told={SLACK: TOLD}))
    before = {alert.fingerprint: opened(told={SLACK: TOLD})}

    assert said(alert, open_alerts=before, as_of=T0 + TICK) == [("closed", 1)]


@pytest.mark.parametrize(
    ("alerts", "options", "then"),
    [
        pytest.param(
            [opened(suppressed={SLACK: SILENCE})],
            {"held": [held(opened())]},
            [("silence_ended", 1)],
            id="the silence is over: one receipt, and no opening beside it",
        ),
        pytest.param(
            [opened(suppressed={SLACK: SILENCE})],
            {"held": [held(opened())], "suppressors": silenced(2)},
            [("silenced", 1)],
            id="another silence holds: no receipt",
        ),
        pytest.param(
            [opened(suppressed={SLACK: SILENCE})],
            {"held": [held(opened(), rule="")]},
            [("silence_ended", 1)],
            id="the ledger does not know the rule: a receipt all the same",
        ),
        pytest.param(
            [opened("1", suppressed={SLACK: SILENCE}), opened("2", suppressed={SLACK: SILENCE})],
            {"held": [held(opened("1"))]},
            [("silence_ended", 2)],
            id="the receipt lists whatever the silence released",
        ),
        pytest.param(
            [
                opened("1", suppressed={SLACK: SILENCE}),
                opened("2", told={SLACK: told(NotifyReason.FIRST, at=T0 - 12 * HOUR)}, suppressed={SLACK: SILENCE}),
            ],
            {"held": [held(opened("1"))]},
            [("silence_ended", 1), ("repeat", 1)],
            id="but not what the channel is only reminded of",
        ),
        pytest.param(
            [closed(opened(told={SLACK: TOLD}))],
            {"held": [held(opened())], "as_of": T0 + TICK},
            [("silence_ended", 1), ("closed", 1)],
            id="a reminder was kept back, and it closes with the silence: both are told",
        ),
        pytest.param(
            [],
            {"held": [held(opened())], "open_alerts": {opened().fingerprint: opened(told={SLACK: TOLD})}},
            [("silence_ended", 1)],
            id="nobody judged it: a receipt of what is open still",
        ),
        pytest.param(
            [],
            {
                "held": [held(opened())],
                "open_alerts": {opened().fingerprint: opened(told={SLACK: TOLD})},
                "policy": replace(ONLY_SLACK, routes=()),
            },
            [("silence_ended", 1)],
            id="the channel knows it, and no route goes there any more: a receipt",
        ),
        pytest.param(
            [],
            {
                "held": [held(opened())],
                "open_alerts": {opened().fingerprint: opened()},
                "policy": replace(ONLY_SLACK, routes=()),
            },
            [],
            id="the channel never knew it, and no route goes there any more: none",
        ),
        pytest.param([], {"held": [held(opened())], "configured": {"email"}}, [], id="no connection: no receipt"),
        pytest.param([], {"held": [held(opened())], "may_notify": False}, [], id="a run that may not speak: none"),
    ],
)
def test_what_was_kept_back_is_accounted_for(
    alerts: list[Alert], options: Mapping[str, Any], then: list[tuple[str, int]]
) -> None:
    """Once nothing keeps it back, and where it may be told."""
    assert said(*alerts, **options) == then


def test_what_is_over_does_not_end_the_look_at_what_is_not() -> None:
    """Of three that the first silence kept back one is unknown and one over; the third is silenced by another."""
    gone, over = opened("1"), closed(opened("2"))
    still = opened("3", credential_id="3")
    known = {over.fingerprint: over, still.fingerprint: still}
    other = silenced(2, match=Matcher(credential=frozenset({"3"})))
    rows = [held(each) for each in (gone, over, still)]
    decision = decided(policy=ONLY_SLACK, held=rows, open_alerts=known, suppressors=other)

    assert [[each.fingerprint for each in said.members] for said in decision.deliveries] == [
        [gone.fingerprint, over.fingerprint]
    ]


def test_a_receipt_in_one_channel_keeps_nothing_from_the_other() -> None:
    """Slack has it in its receipt; mail, of which the ledger has nothing, is told by itself."""
    alert = opened(suppressed={SLACK: SILENCE, MAIL: SILENCE})
    decision = decided(alert, held=[held(alert)])

    assert [(each.channel, str(each.reason)) for each in decision.deliveries] == [
        (SLACK, "silence_ended"),
        (MAIL, "unsuppressed"),
    ]


def test_what_spent_the_budget_is_counted_over_the_days_of_a_digest() -> None:
    """By rule; a day of which nothing is known adds nothing, and no other receipt speaks of it."""
    alert = opened()
    days = [held(alert, key=str(ago), why=SilentReason.BUDGET, by=None, as_of=T0 - ago * DAY) for ago in (1, 2, 3)]
    spent = {
        "2026-03-09": {SLACK: {"stale_sync": 4, "stuck_sync": 1}},
        "2026-03-08": {SLACK: {"stale_sync": 3}},
        "2026-03-07": {MAIL: {"stale_sync": 9}},
        "2026-03-06": {SLACK: {"stale_sync": 9}},
    }
    of_both = decided(policy=ONLY_SLACK, held=[*days, held(alert)], spent_before=spent).deliveries
    assert {str(each.reason): each.details.get("spent") for each in of_both} == {
        "digest": {"stale_sync": 7, "stuck_sync": 1},
        "silence_ended": None,
    }
    assert decided(policy=ONLY_SLACK, held=days[:1]).deliveries[0].details["spent"] == {}


# -- causes, and the budget -------------------------------------------------------------------------------------------


def test_of_causes_and_symptoms_that_the_budget_keeps_back_none_hides_another() -> None:
    """Each would be hidden by the one before, were that told; so each is in the digest."""
    chain = [
        of_rule(rule, severity=Severity.MEDIUM)
        for rule in ("connection_error", "sync_failures", "consecutive_failures")
    ]
    policy = to_slack(limited(0))
    assert said(*chain, policy=policy) == [("budget", 1)] * 3
    assert said(*chain, policy=to_slack(limited(1))) == [("first", 1), ("inhibited", 1), ("inhibited", 1)]


def test_a_cause_whose_reminder_the_budget_keeps_back_hides_its_symptoms_still() -> None:
    """The channel knows it."""
    cause = replace(
        of_rule("connection_error", severity=Severity.MEDIUM),
        told={SLACK: told(NotifyReason.FIRST, at=T0 - 25 * HOUR, severity=Severity.MEDIUM)},
    )
    symptom = of_rule("sync_failures", severity=Severity.MEDIUM)

    assert said(cause, symptom, policy=to_slack(limited(0))) == [("inhibited", 1), ("budget", 1)]


# -- neighbours of a thread -------------------------------------------------------------------------------------------

IN_HAND = Acknowledgement(by="Kim", at=T0 - HOUR, reason="on it")
TAGGED = replace(ONLY_SLACK, tags={"vip": Tagged(credentials=frozenset({"2"}))})
STALE_IN_SHADOW = replace(ONLY_SLACK, rules=RulePolicies(stale_sync=StaleSyncPolicy(mode=RuleMode.SHADOW)))


@pytest.mark.parametrize(
    ("neighbour", "options", "members"),
    [
        pytest.param(opened("2"), {}, 2, id="one that fires too"),
        pytest.param(opened("2", acknowledged=IN_HAND), {}, 1, id="not one that is in hand"),
        pytest.param(
            opened("2", acknowledged=replace(IN_HAND, until=T0 + TICK)), {}, 1, id="not one that is in hand for a while"
        ),
        pytest.param(opened("2", acknowledged=replace(IN_HAND, until=T0)), {}, 2, id="one that was in hand until now"),
        pytest.param(
            opened("2"),
            {"suppressors": silenced(match=Matcher(tag=frozenset({"vip"}))), "policy": TAGGED},
            1,
            id="not one whose tag is silenced",
        ),
        pytest.param(of_rule("stale_sync"), {"policy": STALE_IN_SHADOW}, 1, id="not one whose rule is in shadow"),
    ],
)
def test_whom_a_reminder_takes_along(neighbour: Alert, options: Mapping[str, Any], members: int) -> None:
    """Of those that share its thread, whoever may be repeated at all."""
    due = opened("1", told={SLACK: told(NotifyReason.FIRST, at=T0 - 12 * HOUR)})
    beside = replace(neighbour, told={SLACK: TOLD})

    assert said(due, open_alerts={beside.fingerprint: beside}, **options) == [("repeat", members)]


# -- what came and went while nobody looked ---------------------------------------------------------------------------

MISSED = closed(opened("2"))


@pytest.mark.parametrize(
    ("missed", "options", "then"),
    [
        pytest.param([MISSED], {}, [(SLACK, 1), (MAIL, 1)], id="to each channel"),
        pytest.param(
            [closed(of_rule("stale_sync", identity={"credential": "9"})), MISSED],
            {"policy": replace(POLICY, rules=STALE_IN_SHADOW.rules)},
            [(SLACK, 1), (MAIL, 1)],
            id="what is in shadow keeps nothing else from being told",
        ),
        pytest.param(
            [closed(opened("1")), MISSED],
            {"suppressors": silenced(match=Matcher(credential=frozenset({"1"})))},
            [(SLACK, 1), (MAIL, 1)],
            id="nor what is silenced",
        ),
        pytest.param(
            [MISSED],
            {
                "suppressors": silenced(match=Matcher(tag=frozenset({"vip"}))),
                "policy": replace(POLICY, tags=TAGGED.tags),
            },
            [],
            id="a tag is silenced",
        ),
        pytest.param([MISSED], {"configured": {"email"}}, [(MAIL, 1)], id="where there is a connection"),
        pytest.param([MISSED], {"may_notify": False}, [], id="to nobody by a run that may not speak"),
        pytest.param(
            [closed(opened("2", told={SLACK: TOLD}))],
            {},
            [(MAIL, 1)],
            id="a channel that believed it open hears a close",
        ),
        pytest.param([MISSED, closed(opened("3"))], {}, [(SLACK, 2), (MAIL, 2)], id="all of it in one message"),
    ],
)
def test_what_came_and_went_is_told(
    missed: list[Alert], options: Mapping[str, Any], then: list[tuple[str, int]]
) -> None:
    """In one message to each channel that would have heard of it."""
    decision = decided(missed=missed, missed_at={T0 - HOUR, T0}, as_of=T0 + TICK, **options)

    assert [(each.channel, len(each.members)) for each in decision.deliveries] == then
    assert all(
        each.reason is NotifyReason.CATCH_UP
        and each.details
        == {
            "missed": len(each.members),
            "from": (T0 - HOUR).isoformat(),
            "until": (T0 + TICK).isoformat(),
        }
        for each in decision.deliveries
    )
    assert decision.alerts == {}


def test_what_the_catch_up_tells_is_not_never_told() -> None:
    """Of what closed beside it, and opened before the gap, the ledger says so."""
    unseen, other = closed(opened("2")), closed(opened("3"))

    assert said(unseen, other, missed=[unseen], missed_at={T0}, as_of=T0 + TICK) == [
        ("catch_up", 1),
        ("never_told", 1),
    ]


def test_a_close_that_was_missed_counts_as_judged_in_this_run() -> None:
    """It is over since an instant that this run makes up for: the ledger has it as never told, once."""
    over = closed(opened())

    assert said(over, as_of=T0 + HOUR) == []
    assert said(over, as_of=T0 + HOUR, missed_at={T0 + TICK}) == [("never_told", 1)]


def test_by_default_it_speaks_and_nothing_is_a_baseline_held_spent_or_missed() -> None:
    """The shortest call is that of an ordinary tick."""
    alert = opened(severity=Severity.MEDIUM)
    decision = decide({alert.fingerprint: alert}, policy=to_slack(limited(1)), as_of=T0, configured={"slack"})

    assert [each.reason for each in decision.deliveries] == [NotifyReason.FIRST]


def test_a_baseline_of_several_causes_is_one_message_and_hides_nothing() -> None:
    """Each would be a conversation of its own, and one explains another."""
    chain = [of_rule("connection_error"), of_rule("sync_failures"), of_rule("data_quality")]

    assert said(*chain, as_baseline=True) == [("baseline", 3)]
    assert said(*chain) == [("first", 1), ("first", 1), ("inhibited", 1)]

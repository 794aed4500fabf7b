"""One cause, one conversation: what shares a message, what joins a thread, and what brings its first message up to date."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from include.sync_health.alerting_policies import GroupingPolicy
from include.sync_health.alerts import Delivery
from include.sync_health.observations import Observation
from include.sync_health.policy import Policy
from include.sync_health.verdicts import Severity, Verdict
from tests.sync_health.alert_histories import MAIL, POLICY, SLACK, T0, TICK, World, rule_saw, saw, with_timers

B, C = Verdict.BREACH, Verdict.CLEAR
HOUR = timedelta(hours=1)


def failed(number: int, verdict: Verdict = B, *, cause: str | None = "invalid_client", **changes: Any) -> Observation:
    """Sync failures of a credential, by a cause."""
    return replace(saw(verdict, credential=str(number)), cause=cause, **changes)


def grouped_by(*names: str) -> Policy:
    """The test policy with another grouping."""
    policy = with_timers()
    return replace(policy, alerting=replace(policy.alerting, grouping=GroupingPolicy(by=names)))


def of_slack(deliveries: Iterable[Delivery]) -> list[tuple[str, int]]:
    """The reasons of the messages to Slack, each with its number of members."""
    return [(str(each.reason), len(each.members)) for each in deliveries if each.reason and each.channel == SLACK]


def threads(deliveries: Iterable[Delivery]) -> set[str | None]:
    """The threads of the messages to Slack."""
    return {each.thread for each in deliveries if each.reason and each.channel == SLACK}


@pytest.mark.parametrize(
    ("by", "messages"),
    [
        pytest.param(("rule", "environment", "cause"), [2, 1, 1], id="by cause, whose cause is unknown stands alone"),
        pytest.param(("rule", "environment"), [4], id="by rule and environment"),
        pytest.param((), [1, 1, 1, 1], id="each for itself"),
    ],
)
def test_openings_of_one_group_are_one_message(by: tuple[str, ...], messages: list[int]) -> None:
    """Two fail by one cause, one by another, of one nobody knows why."""
    world = World(policy=grouped_by(*by))
    told = world.tick(T0, failed(1), failed(2), failed(3, cause="timeout"), failed(4, cause=None))

    assert sorted((count for _, count in of_slack(told)), reverse=True) == messages


def test_environments_and_rules_do_not_mix() -> None:
    """The sandbox's trouble is another's."""
    world = World(policy=with_timers())
    told = world.tick(
        T0,
        failed(1),
        failed(2, environment="integration"),
        replace(rule_saw("stuck_sync", identity={"credential": "3", "sync": "9"}), cause="invalid_client"),
    )

    assert of_slack(told) == [("first", 1)] * 3


def test_newcomers_join_the_thread_of_their_group() -> None:
    """In one message a tick, while any of the group is open; afterwards a new thread begins."""
    world = World(policy=with_timers())
    first = world.tick(T0, failed(1))
    joined = world.tick(T0 + TICK, failed(1), failed(2), failed(3))
    assert of_slack(joined) == [("new_in_group", 2)]
    assert threads(joined) == threads(first)

    ended = world.tick(T0 + 2 * TICK, failed(1, C), failed(2, C), failed(3, C))
    assert of_slack(ended) == [("closed", 3)]
    assert threads(ended) == threads(first)
    later = world.tick(T0 + 3 * TICK, failed(4))
    assert of_slack(later) == [("first", 1)]
    assert threads(later) != threads(first)


def test_some_of_a_group_close_and_the_rest_go_on() -> None:
    """Each close is told once, together with those of its tick."""
    world = World(policy=with_timers())
    world.tick(T0, *(failed(number) for number in range(14)))
    part = world.tick(T0 + TICK, *(failed(number, C if number < 3 else B) for number in range(14)))
    rest = world.tick(T0 + 2 * TICK, *(failed(number, C) for number in range(3, 14)))

    assert (of_slack(part), of_slack(rest)) == ([("closed", 3)], [("closed", 11)])


def test_a_group_repeats_as_one() -> None:
    """Whoever joined later is reminded with the first, and not again by itself."""
    world = World(policy=with_timers())
    world.tick(T0, failed(1))
    world.tick(T0 + HOUR, failed(1), failed(2))
    assert of_slack(world.tick(T0 + 12 * HOUR, failed(1), failed(2))) == [("repeat", 2)]

    assert of_slack(world.tick(T0 + 13 * HOUR, failed(1), failed(2))) == []


def test_worse_than_it_was_told_is_told_at_once_and_once() -> None:
    """Easing off and worsening again to what is known already is no news."""
    world = World(policy=with_timers())
    world.tick(T0, saw(B, severity=Severity.MEDIUM))
    assert world.sent(world.tick(T0 + TICK, saw(B, severity=Severity.HIGH))) == ["escalated"]
    assert world.sent(world.tick(T0 + 2 * TICK, saw(B, severity=Severity.MEDIUM))) == []
    assert world.sent(world.tick(T0 + 3 * TICK, saw(B, severity=Severity.HIGH))) == []
    assert world.sent(world.tick(T0 + 4 * TICK, saw(B, severity=Severity.CRITICAL))) == ["escalated"]


def test_the_first_message_of_a_thread_is_kept_up_to_date() -> None:
    """At Slack alone, once per thread and tick, and only when something that it shows has changed."""
    world = World(policy=with_timers(keep_firing_for=HOUR))
    world.tick(T0, failed(1), failed(2))
    assert world.edits == []
    world.tick(T0 + TICK, failed(1), failed(2))
    assert world.edits == []
    world.tick(T0 + 2 * TICK, failed(1, C), failed(2, C))

    assert [(each.channel, len(each.members)) for each in world.edits] == [(SLACK, 2)]
    world.tick(T0 + 3 * TICK, failed(1, C), failed(2, Verdict.NO_DATA))
    assert [len(each.members) for each in world.edits] == [2, 1]


def test_a_joined_thread_and_a_closed_one_are_brought_up_to_date_too() -> None:
    """Beside the reply, which everybody gets."""
    world = World(policy=with_timers())
    world.tick(T0, failed(1))
    world.tick(T0 + TICK, failed(1), failed(2))
    world.tick(T0 + 2 * TICK, failed(1, C), failed(2))

    assert [len(each.members) for each in world.edits] == [1, 1]


def test_more_conversations_than_anybody_reads_are_one_summary() -> None:
    """Twenty-one causes in one tick; each credential has heard of its own, and closes."""
    world = World(policy=with_timers())
    causes = range(21)
    opened = world.tick(T0, *(failed(number, cause=str(number)) for number in causes))
    closed = world.tick(T0 + TICK, *(failed(number, C, cause=str(number)) for number in causes))

    assert (of_slack(opened), of_slack(closed)) == ([("first", 21)], [("closed", 21)])
    assert threads(opened) == threads(closed) == {None}


@pytest.mark.parametrize("number", [10_000])
def test_a_storm_of_one_cause_is_one_message_and_its_end_is_one(number: int) -> None:
    """Ten thousand credentials break and recover at once, each with two rules that say so."""
    world = World(policy=POLICY)
    outage = rule_saw("platform_outage", B, severity=Severity.CRITICAL)

    def everybody(verdict: Verdict) -> list[Observation]:
        failing = [failed(each, verdict, error_class=outage.error_class) for each in range(number)]
        return [replace(outage, verdict=verdict), *failing]

    opened = world.tick(T0, *everybody(B))
    recovering = world.tick(T0 + TICK, *everybody(C))
    closed = [*world.tick(T0 + 2 * TICK, *everybody(C)), *world.tick(T0 + 3 * TICK, *everybody(C))]

    for channel in (SLACK, MAIL):
        assert world.sent(opened, channel=channel) == ["first"]
        assert world.sent(recovering, channel=channel) == []
        assert world.sent(closed, channel=channel) == ["closed"]


def test_what_opened_and_closed_while_nobody_looked_is_one_message() -> None:
    """To each channel that would have heard of it; there is nothing to close."""
    world, alone = World(policy=with_timers()), World(policy=with_timers())
    alone.tick(T0, failed(1), failed(2), may_notify=False)
    alone.tick(T0 + TICK, failed(1, C), failed(2, C), may_notify=False)
    missed = list(alone.alerts.values())

    caught_up = world.tick(T0 + 2 * TICK, missed=missed)
    assert [(str(each.reason), len(each.members)) for each in caught_up] == [("catch_up", 2)] * 2
    assert world.tick(T0 + 2 * TICK, missed=missed) == []


def test_an_escalation_says_what_was_told_before() -> None:
    """By the time its message is made, what the channel was told is the severity that it has now."""
    world = World(policy=grouped_by("rule", "environment", "cause"))
    world.tick(T0, failed(1, severity=Severity.MEDIUM), failed(2, severity=Severity.MEDIUM))
    worse = [failed(number, severity=Severity.HIGH) for number in (1, 2)]
    [told] = [each for each in world.tick(T0 + TICK, *worse) if each.channel == SLACK and each.reason == "escalated"]

    assert told.details == {"was": {member.fingerprint: "medium" for member in told.members}}


def test_what_came_back_behind_its_cause_goes_on_in_its_conversation() -> None:
    """It is told late, and where it was told before."""
    world = World(policy=with_timers())
    before = world.tick(T0, failed(1))
    world.tick(T0 + TICK, failed(1, C))
    assert of_slack(world.tick(T0 + 2 * TICK, rule_saw("token_expiry"), failed(1))) == [("first", 1)]

    told = world.tick(T0 + 3 * TICK, rule_saw("token_expiry", C), failed(1))
    assert [each.thread for each in told if each.channel == SLACK and each.reason == "unsuppressed"] == [
        *threads(before)
    ]


def test_others_that_open_beside_one_that_came_back_join_its_conversation() -> None:
    """One cause, one conversation, whoever of them was there before."""
    world = World(policy=with_timers())
    before = world.tick(T0, failed(1))
    world.tick(T0 + TICK, failed(1, C))
    again = world.tick(T0 + 2 * TICK, failed(1), failed(2))

    assert of_slack(again) == [("reopened", 1), ("new_in_group", 1)]
    assert threads(again) == threads(before)


def test_a_first_message_that_could_not_be_edited_is_brought_up_to_date_when_it_can_be() -> None:
    """It closed while Slack had no connection: with the close the edit follows."""
    world = World(policy=with_timers())
    world.tick(T0, failed(1))
    world.tick(T0 + TICK, failed(1, C), configured={"email"})
    assert world.edits == []

    assert of_slack(world.tick(T0 + 2 * TICK)) == [("closed", 1)]
    assert [each.channel for each in world.edits] == [SLACK]

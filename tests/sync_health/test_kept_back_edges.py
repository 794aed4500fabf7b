"""Where what is kept back meets a retry, a run over a part, a gap, or the repeat of a neighbour."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import timedelta

from include.sync_health.alerts import Alert, NotifyReason
from include.sync_health.gaps import came_and_went
from include.sync_health.lifecycle import step
from include.sync_health.matchers import Matcher
from include.sync_health.muting import Silence
from include.sync_health.policy import Policy
from include.sync_health.rule_policies import RuleMode, RulePolicies, SyncFailuresPolicy
from include.sync_health.verdicts import Verdict
from tests.sync_health.alert_histories import POLICY, SLACK, T0, TICK, World, saw, with_timers

B, C = Verdict.BREACH, Verdict.CLEAR
HOUR = timedelta(hours=1)
FAILURES = Matcher(rule=frozenset({"sync_failures"}))


def silence(number: int, match: Matcher, *, lasts: timedelta) -> Silence:
    """From T0 on."""
    return Silence(
        id=uuid.UUID(int=number), match=match, starts_at=T0, ends_at=T0 + lasts, author="Kim", reason="x", created_at=T0
    )


def gap(world: World, policy: Policy, **options: object) -> list[str]:
    """One alert comes and goes while nobody looks."""
    instants = {T0 + TICK, T0 + 2 * TICK}
    missed: list[Alert] = []
    for at, verdict in ((T0 + TICK, B), (T0 + 2 * TICK, C)):
        result = step(world.alerts, [saw(verdict)], policy=policy, as_of=at)
        world.alerts |= result.alerts
        missed += came_and_went(result.events, result.alerts, instants=instants)
    told = world.tick(T0 + 3 * TICK, saw(C), missed=missed, missed_at=instants, **options)
    return [str(each.reason or each.silent) for each in told if each.channel == SLACK]


def test_a_retry_does_not_speak_into_another_silence() -> None:
    """The first silence is over, the second is not: the same tick once more finds nothing new to say."""
    world = World(policy=with_timers(), silences=[silence(1, FAILURES, lasts=TICK), silence(2, FAILURES, lasts=HOUR)])
    world.tick(T0, saw(B))
    assert world.sent(world.tick(T0 + TICK, saw(B))) == []
    assert world.sent(world.tick(T0 + TICK, saw(B))) == []


def test_a_run_over_another_credential_does_not_speak_into_another_silence() -> None:
    """It judges nothing of the alert, and asks all the same what keeps it back."""
    world = World(policy=with_timers(), silences=[silence(1, FAILURES, lasts=TICK), silence(2, FAILURES, lasts=HOUR)])
    world.tick(T0, saw(B))
    assert world.sent(world.tick(T0 + TICK, saw(C, credential="2"))) == []


def test_a_rule_in_shadow_is_told_by_no_catch_up() -> None:
    """It is recorded, and told to nobody."""
    policy = replace(
        with_timers(),
        rules=RulePolicies(sync_failures=SyncFailuresPolicy(keep_firing_for=timedelta(0), mode=RuleMode.SHADOW)),
    )
    assert gap(World(policy=policy), policy) == []


def test_what_is_silenced_is_told_by_no_catch_up_and_the_ledger_says_never_told() -> None:
    """A silence holds whoever was looking."""
    assert gap(World(policy=with_timers(), silences=[silence(1, FAILURES, lasts=HOUR)]), with_timers()) == [
        "never_told"
    ]


def test_what_came_and_went_in_a_run_that_may_not_speak_is_in_the_ledger() -> None:
    """Nobody will ever be told of it, and the ledger says so."""
    assert gap(World(policy=with_timers()), with_timers(), may_notify=False) == ["never_told"]


def test_a_repeat_takes_no_silenced_neighbour_along() -> None:
    """They share a thread, and a silence is of one of them."""
    policy = with_timers()
    policy = replace(
        policy, alerting=replace(policy.alerting, grouping=replace(POLICY.alerting.grouping, by=("rule",)))
    )
    world = World(policy=policy)
    world.tick(T0, saw(B, credential="1"), saw(B, credential="2"))
    world.silences = [silence(1, Matcher(credential=frozenset({"2"})), lasts=20 * HOUR)]
    new = world.tick(T0 + 12 * HOUR, saw(B, credential="1"), saw(B, credential="2"))
    repeats = [each for each in new if each.channel == SLACK and each.reason is NotifyReason.REPEAT]
    assert [len(each.members) for each in repeats] == [1]

"""Where what is kept back meets a retry, a run over a part, a gap, or the repeat of a neighbour."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta

import pytest

from include.sync_health.alerting_policies import Mute
from include.sync_health.alerts import Acknowledgement, Alert, NotifyReason, SilentReason
from include.sync_health.gaps import came_and_went
from include.sync_health.lifecycle import step
from include.sync_health.matchers import Matcher
from include.sync_health.muting import Silence
from include.sync_health.policy import Policy
from include.sync_health.rule_policies import RuleMode, RulePolicies, SyncFailuresPolicy
from include.sync_health.verdicts import Severity, Verdict
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


def test_a_recovering_alert_is_not_told_into_another_silence() -> None:
    """For itself it is not told anyway; the receipt of the first silence waits for the end of the second."""
    silences = [silence(1, FAILURES, lasts=TICK), silence(2, FAILURES, lasts=HOUR)]
    world = World(policy=with_timers(keep_firing_for=2 * HOUR), silences=silences)
    world.tick(T0, saw(B))

    assert world.sent(world.tick(T0 + TICK, saw(C))) == []
    assert world.sent(world.tick(T0 + HOUR, saw(C))) == ["silence_ended"]


SHADOWED = RulePolicies(sync_failures=SyncFailuresPolicy(keep_firing_for=timedelta(0), mode=RuleMode.SHADOW))


@pytest.mark.parametrize(
    ("change", "then"),
    [
        pytest.param({"rules": SHADOWED}, [], id="its rule is in shadow by now"),
        pytest.param({"routes": ()}, ["silence_ended"], id="no route takes it there any more"),
    ],
)
def test_the_end_of_a_silence_tells_nothing_open_that_the_policy_keeps_elsewhere(
    change: Mapping[str, object], then: list[str]
) -> None:
    """Nor does its close, of what nobody was told; that a message was kept back is accounted for when it is over."""
    world = World(policy=with_timers(), silences=[silence(1, FAILURES, lasts=TICK)])
    world.tick(T0, saw(B))
    world.policy = replace(world.policy, **change)  # type: ignore[arg-type]

    assert world.sent(world.tick(T0 + TICK, saw(B))) == []
    assert world.sent(world.tick(T0 + 2 * TICK, saw(C))) == then


def test_the_end_of_a_silence_reminds_nobody_of_what_is_in_hand() -> None:
    """Without the silence it would not have been repeated either."""
    world = World(policy=with_timers())
    world.tick(T0, saw(B))
    in_hand = Acknowledgement(by="Kim", at=T0, reason="on it")
    world.alerts = {key: replace(alert, acknowledged=in_hand) for key, alert in world.alerts.items()}
    world.silences = [silence(1, FAILURES, lasts=13 * HOUR)]

    reminded = world.tick(T0 + 12 * HOUR, saw(B))
    assert {each.silent for each in reminded} == {SilentReason.ACKNOWLEDGED}
    assert world.tick(T0 + 13 * HOUR, saw(B)) == []


def test_a_receipt_counts_alerts_and_not_days() -> None:
    """What is kept back over midnight is in the ledger twice, and is one alert all the same."""
    night = Mute(name="night", match=FAILURES, start=time(22), end=time(6), timezone="UTC", reason="nobody reads it")
    policy = with_timers()
    world = World(policy=replace(policy, alerting=replace(policy.alerting, mutes=(night,))))
    for hour in (23, 24, 29):
        assert world.sent(world.tick(datetime(2026, 3, 10, tzinfo=UTC) + hour * HOUR, saw(B))) == []

    (receipt,) = (each for each in world.tick(datetime(2026, 3, 11, 6, tzinfo=UTC), saw(B)) if each.channel == SLACK)
    assert (receipt.details["kept_back"], receipt.details["rules"]) == (1, {"sync_failures": 1})
    assert len(receipt.accounts_for) == 2


def test_what_opened_unseen_and_recovers_is_told() -> None:
    """By the time somebody looks it is recovering; it did break, and its close follows."""
    policy = with_timers(keep_firing_for=HOUR)
    world = World(policy=policy)
    result = step(world.alerts, [saw(B)], policy=policy, as_of=T0)
    world.alerts |= result.alerts

    assert world.sent(world.tick(T0 + TICK, saw(C), missed_at={T0})) == ["first"]
    assert world.sent(world.tick(T0 + TICK + HOUR, saw(C))) == ["closed"]


def test_of_what_is_left_of_a_day_the_worst_have_their_share() -> None:
    """A reminder of something low does not keep something worse back."""
    policy = with_timers()
    policy = replace(
        policy,
        routes=tuple(replace(route, match=Matcher()) for route in policy.routes),
        repeat={**policy.repeat, Severity.LOW: 12 * HOUR},
        alerting=replace(policy.alerting, budget=2),
    )
    world, morning = World(policy=policy), datetime(2026, 3, 10, 6, tzinfo=UTC)
    low = saw(B, credential="2", severity=Severity.LOW)
    world.tick(morning, saw(B, credential="1"), low)
    medium = saw(B, credential="3", severity=Severity.MEDIUM)

    told = world.tick(morning + 12 * HOUR, saw(B, credential="1"), low, medium)
    assert [(str(each.reason or each.silent), each.severity) for each in told if each.channel == SLACK] == [
        ("repeat", Severity.HIGH),
        ("first", Severity.MEDIUM),
        ("budget", Severity.LOW),
    ]

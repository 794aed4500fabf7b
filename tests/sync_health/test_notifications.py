"""Who is told what, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.sync_health.alerts import OPENINGS, Alert, AlertState, EventKind, NotifyReason, SilentReason
from include.sync_health.notifications import NOWHERE, decide
from include.sync_health.observations import Observation
from include.sync_health.policy import Policy
from include.sync_health.rule_policies import RuleMode, RulePolicies, SyncFailuresPolicy
from include.sync_health.verdicts import Severity, Verdict
from tests.sync_health.alert_histories import MAIL, POLICY, SLACK, T0, TICK, World, histories, saw, with_timers

B, C = Verdict.BREACH, Verdict.CLEAR
HOUR = timedelta(hours=1)


def test_one_message_when_it_opens_one_when_it_closes_and_nothing_between() -> None:
    """To each channel of the receiver."""
    world = World(policy=with_timers())

    assert world.sent(world.tick(T0, saw(B))) == ["first"]
    assert world.tick(T0 + TICK, saw(B)) == []
    assert world.tick(T0 + 2 * TICK, saw(Verdict.NO_DATA)) == []
    closing = world.tick(T0 + 3 * TICK, saw(C))
    assert world.sent(closing) == ["closed"]
    assert world.sent(closing, channel=MAIL) == ["closed"]
    assert world.tick(T0 + 4 * TICK, saw(C)) == []


@pytest.mark.parametrize(
    ("severity", "after", "repeated"),
    [
        pytest.param(Severity.CRITICAL, 4 * HOUR - TICK, False, id="critical, before 4 h"),
        pytest.param(Severity.CRITICAL, 4 * HOUR, True, id="critical, at 4 h"),
        pytest.param(Severity.HIGH, 12 * HOUR, True, id="high, at 12 h"),
        pytest.param(Severity.MEDIUM, 12 * HOUR, False, id="medium, at 12 h"),
        pytest.param(Severity.MEDIUM, 24 * HOUR, True, id="medium, at 24 h"),
    ],
)
def test_it_repeats_after_the_policys_interval(severity: Severity, after: timedelta, repeated: bool) -> None:
    """Counted from what the channel was last told, to the tick."""
    world = World(policy=with_timers())
    world.tick(T0, saw(B, severity=severity))

    assert world.sent(world.tick(T0 + after, saw(B, severity=severity))) == (["repeat"] if repeated else [])


def test_what_nobody_can_judge_any_more_is_not_repeated() -> None:
    """The last known state is no news; once it is judged again it is."""
    world = World(policy=with_timers())
    world.tick(T0, saw(B))

    assert world.sent(world.tick(T0 + 13 * HOUR, saw(Verdict.NO_DATA))) == []
    assert world.sent(world.tick(T0 + 14 * HOUR, saw(B))) == ["repeat"]


def test_the_clock_of_repeats_starts_again_with_each() -> None:
    """Twelve hours after the first, and again after twelve more."""
    world = World(policy=with_timers())
    world.tick(T0, saw(B))
    said = [world.sent(world.tick(T0 + hours * HOUR, saw(B))) for hours in range(1, 37)]

    assert [hours for hours, what in enumerate(said, start=1) if what] == [12, 24, 36]


@pytest.mark.parametrize(
    ("number", "messages"),
    [
        pytest.param(20, 20, id="twenty openings are told one by one"),
        pytest.param(21, 1, id="twenty-one share one summary"),
    ],
)
def test_a_storm_is_one_summary(number: int, messages: int) -> None:
    """Per channel and tick; its members count as told, and close in one as well."""
    world = World(policy=with_timers())
    names = [str(each) for each in range(number)]

    opening = world.tick(T0, *(saw(B, credential=name) for name in names))
    closing = world.tick(T0 + TICK, *(saw(C, credential=name) for name in names))

    assert world.sent(opening) == ["first"] * messages
    assert world.sent(closing) == ["closed"] * messages
    assert sum(len(delivery.members) for delivery in opening if delivery.channel == SLACK) == number


@pytest.mark.parametrize(
    ("change", "channel", "why"),
    [
        pytest.param({"routes": ()}, NOWHERE, SilentReason.NO_ROUTE, id="no route"),
        pytest.param(
            {"rules": RulePolicies(sync_failures=SyncFailuresPolicy(mode=RuleMode.SHADOW))},
            NOWHERE,
            SilentReason.SHADOW,
            id="shadow mode",
        ),
    ],
)
def test_silence_has_a_recorded_reason(change: Mapping[str, object], channel: str, why: SilentReason) -> None:
    """The ledger can answer "why not"."""
    world = World(policy=replace(with_timers(), **change))  # type: ignore[arg-type]

    assert [(each.channel, each.silent) for each in world.tick(T0, saw(B))] == [(channel, why)]
    assert world.tick(T0 + TICK, saw(B)) == []


def test_a_channel_without_a_connection_does_not_silence_the_other() -> None:
    """Mail works while Slack is not configured, and hears of it at once when it is."""
    world = World(policy=with_timers())
    world.tick(T0, saw(B))
    fresh = {key: replace(alert, told={}) for key, alert in world.alerts.items()}

    decided = decide(fresh, policy=world.policy, as_of=T0, configured={"email"})
    by_channel = {each.channel: (each.reason, each.silent) for each in decided.deliveries}
    assert by_channel == {
        MAIL: (NotifyReason.FIRST, None),
        SLACK: (None, SilentReason.NOT_CONFIGURED),
    }

    later = decide(decided.alerts, policy=world.policy, as_of=T0 + TICK, configured={"email", "slack"})
    assert [(each.channel, each.reason) for each in later.deliveries] == [(SLACK, NotifyReason.FIRST)]


def test_a_run_that_may_not_notify_loses_nothing() -> None:
    """The next one that may tells what is still open, and a close that is owed."""
    world = World(policy=with_timers())
    assert world.sent(world.tick(T0, saw(B), may_notify=False)) == []
    assert world.sent(world.tick(T0 + TICK, saw(B))) == ["first"]
    assert world.sent(world.tick(T0 + 2 * TICK, saw(C), may_notify=False)) == []
    assert world.sent(world.tick(T0 + 3 * TICK)) == ["closed"]
    assert world.sent(world.tick(T0 + 4 * TICK)) == []


def test_closed_before_anybody_heard_of_it_is_said_to_nobody() -> None:
    """And the ledger says that it is so."""
    world = World(policy=with_timers())
    world.tick(T0, saw(B), may_notify=False)
    closing = world.tick(T0 + TICK, saw(C))

    assert {(each.channel, each.silent) for each in closing} == {
        (SLACK, SilentReason.NEVER_TOLD),
        (MAIL, SilentReason.NEVER_TOLD),
    }


def test_a_close_reaches_whoever_was_told_whatever_the_routes_say_now() -> None:
    """Changing the routes strands no open thread."""
    world = World(policy=with_timers())
    world.tick(T0, saw(B))
    world.policy = replace(world.policy, routes=())

    assert world.sent(world.tick(T0 + TICK, saw(C))) == ["closed"]


@given(history=histories(ticks=30), mute=st.sets(st.integers(0, 29)))
def test_whatever_happens_first_and_closed_pair_up(history: list[Mapping[str, Verdict]], mute: set[int]) -> None:
    """To each channel openings and closes alternate, and what was said last is what is true."""
    world = World(policy=with_timers(keep_firing_for=TICK))
    told: dict[tuple[str, str], list[str]] = {}
    for number, verdicts in enumerate([*history, {}]):
        if number == len(history):  # the last tick finds broken what is open
            verdicts = {alert.identity["credential"]: B for alert in world.alerts.values() if alert.state.is_open}
        observations = [saw(verdict, credential=name) for name, verdict in verdicts.items()]
        may_notify = number not in mute or number == len(history)
        for delivery in world.tick(T0 + number * TICK, *observations, may_notify=may_notify):
            for member in delivery.members:
                if delivery.reason is not None:
                    said = "first" if delivery.reason in OPENINGS else str(delivery.reason)
                    told.setdefault((delivery.channel, member.fingerprint), []).append(said)

    still_open = {fingerprint for fingerprint, alert in world.alerts.items() if alert.state.is_open}
    for (_, fingerprint), reasons in told.items():
        assert reasons == (["first", "closed"] * len(reasons))[: len(reasons)]
        assert (reasons[-1] == "first") == (fingerprint in still_open)


def test_a_close_that_was_owed_when_it_broke_again_is_told_with_the_next() -> None:
    """The channel still believes it open, and so it is: no second opening, one close."""
    world = World(policy=with_timers())
    assert world.sent(world.tick(T0, saw(B))) == ["first"]
    assert world.sent(world.tick(T0 + TICK, saw(C), may_notify=False)) == []
    assert world.sent(world.tick(T0 + 2 * TICK, saw(B))) == []
    assert world.sent(world.tick(T0 + 3 * TICK, saw(C))) == ["closed"]


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"routes": ()}, id="a route that was taken away"),
        pytest.param(
            {
                "rules": RulePolicies(
                    sync_failures=SyncFailuresPolicy(mode=RuleMode.SHADOW, keep_firing_for=timedelta(0))
                )
            },
            id="a rule put in shadow",
        ),
    ],
)
def test_what_the_policy_no_longer_sends_is_not_repeated_but_its_close_is_told(change: Mapping[str, object]) -> None:
    """Nobody is left with an alert that never ends."""
    world = World(policy=with_timers())
    world.tick(T0, saw(B))
    world.policy = replace(world.policy, **change)  # type: ignore[arg-type]

    assert world.sent(world.tick(T0 + 13 * HOUR, saw(B))) == []
    assert world.sent(world.tick(T0 + 50 * HOUR, saw(C))) == ["closed"]


def test_two_states_of_one_alert_never_share_a_key() -> None:
    """The outbox's unique key tells openings, repeats and closes of each episode apart."""
    world = World(policy=with_timers())
    for number in range(120):
        world.tick(T0 + number * TICK, saw(C if number % 60 == 59 else B))

    reasons = [str(each.reason) for each in world.outbox.values() if each.channel == SLACK]
    assert reasons == ["first", "repeat", "closed", "reopened", "repeat", "closed"]


def test_decide_leaves_its_input_alone() -> None:
    """Pure: the alerts given are values."""
    world = World(policy=with_timers())
    world.tick(T0, saw(B))
    alerts: dict[str, Alert] = {key: replace(alert, told={}) for key, alert in world.alerts.items()}
    before = dict(alerts)

    decide(alerts, policy=world.policy, as_of=T0, configured={"slack", "email"})

    assert alerts == before


def in_mode(rule: str, mode: RuleMode) -> Policy:
    """The test policy with one rule in a mode, which closes with the first CLEAR."""
    changed = replace(POLICY.rules.named(rule), mode=mode, keep_firing_for=timedelta(0))
    return replace(POLICY, rules=replace(POLICY.rules, **{rule: changed}))


def of(rule: str, verdict: Verdict) -> Observation:
    """What any rule says, in an identity that is none of the real ones: a shadow looks at nothing else."""
    return replace(saw(verdict), rule=rule, identity={"credential": "1", "environment": "production", "check": "c"})


RULES = sorted(RulePolicies.__slots__)


@pytest.mark.parametrize("rule", RULES)
def test_a_shadowed_rule_is_recorded_and_told_to_nobody(rule: str) -> None:
    """It opens and closes like any other; the ledger says each time that it would have been told."""
    world = World(policy=in_mode(rule, RuleMode.SHADOW))
    opening = world.tick(T0, of(rule, B))
    assert [alert.state for alert in world.alerts.values()] == [AlertState.FIRING]
    assert world.tick(T0 + 25 * HOUR, of(rule, B)) == []
    closing = world.tick(T0 + 26 * HOUR, of(rule, C))

    assert [event.kind for event in world.events] == [EventKind.OPENED, EventKind.CLOSED]
    assert [(each.channel, each.silent) for each in (*opening, *closing)] == [(NOWHERE, SilentReason.SHADOW)] * 2


@pytest.mark.parametrize("rule", RULES)
def test_from_shadow_to_live_what_is_still_open_is_told(rule: str) -> None:
    """With the next tick that judges it, as an opening; and its close follows."""
    world = World(policy=in_mode(rule, RuleMode.SHADOW))
    world.tick(T0, of(rule, B))
    world.policy = in_mode(rule, RuleMode.LIVE)

    assert world.sent(world.tick(T0 + TICK, of(rule, B))) == ["first"]
    assert world.sent(world.tick(T0 + 2 * TICK, of(rule, C))) == ["closed"]


@pytest.mark.parametrize("rule", RULES)
def test_from_live_to_shadow_what_was_told_is_still_closed(rule: str) -> None:
    """It is not repeated, and the ledger says why; its next episode is told to nobody."""
    world = World(policy=in_mode(rule, RuleMode.LIVE))
    assert world.sent(world.tick(T0, of(rule, B))) == ["first"]
    world.policy = in_mode(rule, RuleMode.SHADOW)

    assert [(each.channel, each.silent) for each in world.tick(T0 + 25 * HOUR, of(rule, B))] == [
        (SLACK, SilentReason.SHADOW),
        (MAIL, SilentReason.SHADOW),
    ]
    assert world.sent(world.tick(T0 + 26 * HOUR, of(rule, C))) == ["closed"]
    assert [(each.channel, each.silent) for each in world.tick(T0 + 27 * HOUR, of(rule, B))] == [
        (NOWHERE, SilentReason.SHADOW)
    ]


@pytest.mark.parametrize("number", [1, 2, 20, 21, 3000])
def test_the_baseline_is_one_message_to_each_channel(number: int) -> None:
    """Whatever ``summary_above`` says: what was broken when monitoring began is one piece of news, and counts as told."""
    world = World(policy=with_timers())
    names = [str(each) for each in range(number)]
    told = world.tick(T0, *(saw(B, credential=name) for name in names), as_baseline=True)

    assert [(each.channel, each.reason, len(each.members)) for each in told] == [
        (SLACK, NotifyReason.BASELINE, number),
        (MAIL, NotifyReason.BASELINE, number),
    ]
    assert world.tick(T0 + TICK, *(saw(B, credential=name) for name in names)) == []
    assert world.sent(world.tick(T0 + 2 * TICK, saw(C, credential="0"))) == ["closed"]


def test_what_was_in_the_baseline_repeats_like_any_other() -> None:
    """Its clock began with the summary."""
    world = World(policy=with_timers())
    world.tick(T0, saw(B), as_baseline=True)

    assert world.sent(world.tick(T0 + 12 * HOUR, saw(B))) == ["repeat"]


def test_the_baseline_lists_symptoms_beside_their_causes() -> None:
    """It is a list of what is broken: nothing is hidden in it; afterwards the cause hides as ever."""
    world = World(policy=with_timers())
    expired = replace(saw(B), rule="token_expiry")
    told = world.tick(T0, saw(B), expired, as_baseline=True)
    assert [len(each.members) for each in told] == [2, 2]

    late = replace(saw(B), rule="consecutive_failures", identity={"credential": "1", "data_type": "jobs"})
    assert {each.silent for each in world.tick(T0 + TICK, late)} == {SilentReason.INHIBITED}


def test_the_baseline_goes_where_routes_go_and_closes_as_closes() -> None:
    """A credential of the sandbox is recorded only; a close that is owed is no baseline."""
    world = World(policy=with_timers())
    world.tick(T0, saw(B, credential="1"))
    told = world.tick(
        T0 + TICK,
        saw(C, credential="1"),
        saw(B, credential="2"),
        saw(B, credential="3", severity=Severity.LOW),
        as_baseline=True,
    )

    assert [(each.reason, each.silent) for each in told if each.channel in (SLACK, NOWHERE)] == [
        (NotifyReason.CLOSED, None),
        (NotifyReason.BASELINE, None),
        (None, SilentReason.NO_ROUTE),
    ]

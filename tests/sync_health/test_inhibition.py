"""What explains what: a channel that was told of a cause does not hear of its symptoms, and loses nothing by it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from include.sync_health.alerting_policies import Receiver, Route
from include.sync_health.alerts import OPENINGS, AlertState, SilentReason
from include.sync_health.inhibition import DECIDED_IN_ORDER, SHARED, SYMPTOMS
from include.sync_health.lifecycle import step
from include.sync_health.matchers import Matcher
from include.sync_health.notifications import decide
from include.sync_health.observations import Observation
from include.sync_health.policy import Policy
from include.sync_health.rule_policies import RuleMode, RulePolicies, RulePolicy
from include.sync_health.verdicts import ErrorClass, Severity, Verdict
from tests.sync_health.alert_histories import IDENTITIES, MAIL, POLICY, SLACK, T0, TICK, World
from tests.sync_health.alert_histories import rule_saw as saw

B, C, NONE = Verdict.BREACH, Verdict.CLEAR, Verdict.NO_DATA
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
BOTH = {"slack", "email"}

HIDES_FOR = POLICY.alerting.inhibits_for
PAIRS = [(cause, symptom) for symptom, causes in SYMPTOMS.items() for cause in causes]


def with_mode(rule: str, mode: RuleMode, policy: Policy = POLICY) -> Policy:
    """A policy with one rule in another mode."""
    changed: RulePolicy = replace(policy.rules.named(rule), mode=mode)
    return replace(policy, rules=replace(policy.rules, **{rule: changed}))


def at_once(policy: Policy = POLICY) -> Policy:
    """A policy whose alerts close with the first CLEAR."""
    rules = {
        name: replace(policy.rules.named(name), keep_firing_for=timedelta(0))
        for name in ("sync_failures", "platform_outage")
    }
    calm = replace(policy.alerting.lifecycle, settle_after=timedelta(0))
    alerting = replace(policy.alerting, lifecycle=calm)
    return replace(policy, rules=replace(policy.rules, **rules), alerting=alerting)


def test_every_rule_has_its_place_and_every_cause_comes_before_its_symptoms() -> None:
    """So that there are no cycles, and what a tick tells of a cause is known when its symptoms are decided."""
    assert set(DECIDED_IN_ORDER) == set(RulePolicies.__slots__) == set(IDENTITIES)
    assert set(SHARED) == {cause for cause, _ in PAIRS}
    for cause, symptom in PAIRS:
        assert DECIDED_IN_ORDER.index(cause) < DECIDED_IN_ORDER.index(symptom)


@pytest.mark.parametrize(("cause", "symptom"), PAIRS)
def test_a_cause_told_in_the_same_tick_hides_its_symptom(cause: str, symptom: str) -> None:
    """Whatever their severities: the symptom here is the worse of the two, and would be told first."""
    world = World()
    said = world.said(world.tick(T0, saw(symptom, severity=Severity.CRITICAL), saw(cause, severity=Severity.MEDIUM)))

    assert said == [f"{cause} first", f"{symptom} inhibited"]


@pytest.mark.parametrize(("cause", "symptom"), PAIRS)
def test_an_open_cause_that_this_tick_did_not_judge_hides_as_well(cause: str, symptom: str) -> None:
    """The 6-hour check told it; the 15-minute check finds the symptom."""
    world = World()
    world.tick(T0, saw(cause))

    assert world.said(world.tick(T0 + HOUR, saw(symptom))) == [f"{symptom} inhibited"]


def test_hidden_is_recorded_once_for_an_episode_and_channel() -> None:
    """The ledger answers "why not", and does not grow with every tick."""
    world = World()
    world.tick(T0, saw("token_expiry"))
    hidden = [world.tick(T0 + number * TICK, saw("sync_failures")) for number in range(1, 5)]

    assert [(each.channel, each.silent) for each in hidden[0]] == [
        (SLACK, SilentReason.INHIBITED),
        (MAIL, SilentReason.INHIBITED),
    ]
    assert hidden[1:] == [[], [], []]


@pytest.mark.parametrize(("cause", "symptom"), PAIRS)
def test_a_symptom_that_outlives_its_cause_is_told(cause: str, symptom: str) -> None:
    """In the very tick that closes the cause, as an opening; and its own close follows."""
    world = World(policy=at_once())
    world.tick(T0, saw(cause), saw(symptom))

    said = world.said(world.tick(T0 + TICK, saw(cause, C), saw(symptom)))
    assert sorted(said) == sorted([f"{cause} closed", f"{symptom} unsuppressed"])
    assert world.said(world.tick(T0 + 2 * TICK, saw(symptom, C))) == [f"{symptom} closed"]


def test_a_symptom_that_ends_with_its_cause_is_never_told() -> None:
    """One message for one trouble; the ledger says that nobody had heard of the other."""
    world = World(policy=at_once())
    world.tick(T0, saw("connection_error"), saw("sync_failures"), saw("stale_sync"))
    said = world.said(world.tick(T0 + TICK, saw("connection_error", C), saw("sync_failures", C), saw("stale_sync", C)))

    assert sorted(said) == ["connection_error closed", "stale_sync never_told", "sync_failures never_told"]


def test_a_cause_that_comes_late_silences_the_repeats_and_not_the_close() -> None:
    """Who was told of the symptom hears the end of it."""
    world = World(policy=at_once())
    assert world.said(world.tick(T0, saw("sync_failures"))) == ["sync_failures first"]
    world.tick(T0 + HOUR, saw("token_expiry"))

    assert world.said(world.tick(T0 + 13 * HOUR, saw("sync_failures"))) == ["sync_failures inhibited"]
    assert world.said(world.tick(T0 + 14 * HOUR, saw("sync_failures", C))) == ["sync_failures closed"]


def test_a_repeat_that_was_due_meanwhile_is_told_when_nothing_hides_it() -> None:
    """It counts from what the channel was last told."""
    world = World(policy=at_once())
    world.tick(T0, saw("sync_failures"))
    world.tick(T0 + HOUR, saw("token_expiry"))
    world.tick(T0 + 13 * HOUR, saw("sync_failures"))
    said = world.said(world.tick(T0 + 14 * HOUR, saw("sync_failures"), saw("token_expiry", C)))

    assert sorted(said) == ["sync_failures repeat", "token_expiry closed"]


@pytest.mark.parametrize(
    ("cause", "symptom"),
    [
        pytest.param(
            saw("token_expiry", identity={"credential": "2"}), saw("sync_failures"), id="of another credential"
        ),
        pytest.param(
            saw("sync_failures", identity={"credential": "2"}), saw("consecutive_failures"), id="failures of another"
        ),
        pytest.param(
            saw("platform_outage"),
            saw("sync_failures", error_class=ErrorClass.AUTH),
            id="an outage of server errors does not explain a refused login",
        ),
        pytest.param(
            saw("platform_outage"), saw("sync_failures", error_class=None), id="nor a failure without a class"
        ),
        pytest.param(saw("platform_outage"), saw("sync_failures", environment="integration"), id="an outage elsewhere"),
        pytest.param(saw("no_syncs"), saw("stale_sync", environment="integration"), id="a silence elsewhere"),
        pytest.param(saw("no_syncs"), saw("sync_failures"), id="a silence does not explain a failure"),
        pytest.param(saw("stale_sync"), saw("sync_failures"), id="a symptom does not explain its cause"),
        pytest.param(saw("token_expiry"), saw("stuck_sync"), id="a stuck sync blocks others, whatever the token"),
        pytest.param(saw("token_expiry"), saw("data_quality"), id="nor does a token explain refused records"),
        pytest.param(
            saw("data_quality", identity={"credential": "1", "data_type": "other"}),
            saw("quality_drop"),
            id="refused records of another data type",
        ),
        pytest.param(saw("sync_failures"), saw("quality_drop"), id="a failed sync has no records that could be bad"),
        pytest.param(saw("platform_outage"), saw("empty_syncs"), id="an outage fails syncs, and these complete"),
        pytest.param(saw("token_expiry"), saw("connection_error"), id="a connection error is a cause of its own"),
        pytest.param(saw("monitor_health"), saw("sync_failures"), id="what was seen fails, whatever was not seen"),
        pytest.param(
            saw("monitor_health", identity={"check": "policy", "cause": "invalid"}),
            saw("stale_sync"),
            id="a wrong policy file blinds nobody",
        ),
        pytest.param(
            saw("monitor_health", identity={"check": "clock", "cause": "went_back"}),
            saw("no_syncs"),
            id="nor does a clock that went back",
        ),
        pytest.param(
            saw("monitor_health", identity={"check": "data_quality", "cause": "missing_column"}),
            saw("stale_sync"),
            id="nor a column that another check lacks",
        ),
        pytest.param(
            saw("monitor_health", identity={"check": "sync_failures", "cause": "evaluation_token_expiry"}),
            saw("no_syncs"),
            id="nor a rule that raised",
        ),
        pytest.param(
            saw("token_expiry", evidence={"expires_at": (T0 + 6 * DAY).isoformat()}),
            saw("sync_failures"),
            id="a token that lasts for days explains no failure of today",
        ),
    ],
)
def test_what_does_not_explain_it_does_not_hide_it(cause: Observation, symptom: Observation) -> None:
    """Both are told."""
    world = World()
    said = world.said(world.tick(T0, cause, symptom))

    assert sorted(said) == sorted([f"{cause.rule} first", f"{symptom.rule} first"])


@pytest.mark.parametrize(
    ("age", "what"),
    [
        pytest.param(HIDES_FOR, "inhibited", id="after exactly a day it still hides"),
        pytest.param(HIDES_FOR + TICK, "first", id="after more than a day it does not"),
    ],
)
def test_a_cause_that_nobody_minds_does_not_hide_for_ever(age: timedelta, what: str) -> None:
    """One reminder of each symptom, then its own repeats."""
    world = World()
    world.tick(T0, saw("token_expiry"))

    assert f"sync_failures {what}" in world.said(world.tick(T0 + age, saw("token_expiry"), saw("sync_failures")))


def test_a_token_that_expired_explains_what_fails_since() -> None:
    """From the very instant on: one that expires exactly then has expired."""
    world = World()
    said = world.said(world.tick(T0, saw("token_expiry", evidence={"expires_at": T0.isoformat()}), saw("stale_sync")))

    assert sorted(said) == ["stale_sync inhibited", "token_expiry first"]


def test_a_recovering_cause_still_hides() -> None:
    """No burst of symptoms while an outage ends."""
    world = World()
    world.tick(T0, saw("platform_outage"))
    world.tick(T0 + TICK, saw("platform_outage", C))
    assert {alert.state for alert in world.alerts.values()} == {AlertState.RECOVERING}

    assert world.said(world.tick(T0 + 2 * TICK, saw("platform_outage", C), saw("sync_failures"))) == [
        "sync_failures inhibited"
    ]


def test_a_cause_hides_only_where_it_was_told() -> None:
    """The outage goes to Slack alone, so mail still hears of each credential."""
    policy = replace(
        POLICY,
        receivers={"chat": Receiver(slack=("#ops",)), "all": POLICY.receivers["ops"]},
        routes=(
            Route(match=Matcher(rule=frozenset({"platform_outage"})), to="chat"),
            Route(to="all"),
        ),
    )
    world = World(policy=policy)
    told = world.tick(T0, saw("platform_outage"), saw("sync_failures"))

    assert world.said(told) == ["platform_outage first", "sync_failures inhibited"]
    assert world.said(told, channel=MAIL) == ["sync_failures first"]


@pytest.mark.parametrize(
    ("severity", "symptom"),
    [
        pytest.param(Severity.HIGH, "first", id="what costs no budget is told"),
        pytest.param(Severity.MEDIUM, "budget", id="what costs some waits for the digest with its cause"),
    ],
)
def test_a_cause_that_the_budget_keeps_back_hides_nothing(severity: Severity, symptom: str) -> None:
    """Nobody is told of it today; the next day's digest tells it, and from then on it hides."""
    world = World(policy=replace(POLICY, alerting=replace(POLICY.alerting, budget=0)))
    both = saw("data_quality", severity=Severity.MEDIUM), saw("quality_drop", severity=severity)

    assert sorted(world.said(world.tick(T0, *both))) == ["data_quality budget", f"quality_drop {symptom}"]
    assert world.said(world.tick(T0 + TICK, *both)) == []


@pytest.mark.parametrize(
    "policy",
    [
        pytest.param(with_mode("token_expiry", RuleMode.SHADOW), id="a cause in shadow"),
        pytest.param(
            replace(
                POLICY,
                routes=(Route(match=Matcher(rule=frozenset({"sync_failures"})), to="ops"),),
            ),
            id="a cause without a route",
        ),
        pytest.param(replace(POLICY, inhibition=False), id="inhibition switched off"),
    ],
)
def test_what_nobody_was_told_hides_nothing(policy: Policy) -> None:
    """The symptom is the only news there is."""
    world = World(policy=policy)

    assert "sync_failures first" in world.said(world.tick(T0, saw("token_expiry"), saw("sync_failures")))


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(with_mode("token_expiry", RuleMode.SHADOW), id="put in shadow after it was told"),
        pytest.param(with_mode("token_expiry", RuleMode.OFF), id="switched off after it was told"),
        pytest.param(
            replace(POLICY, routes=(Route(match=Matcher(rule=frozenset({"sync_failures"})), to="ops"),)),
            id="routed elsewhere after it was told",
        ),
    ],
)
def test_a_cause_that_is_no_longer_told_hides_no_longer(change: Policy) -> None:
    """Its repeats would not reach the channel, so what it explains must."""
    world = World()
    world.tick(T0, saw("token_expiry"), saw("sync_failures"))
    world.policy = change

    assert "sync_failures unsuppressed" in world.said(world.tick(T0 + TICK, saw("sync_failures")))


def test_a_run_that_may_not_speak_hides_nothing_for_later() -> None:
    """The cause was not told, so neither it nor the symptom counts as known; the next run tells the cause."""
    world = World()
    assert world.said(world.tick(T0, saw("token_expiry"), saw("sync_failures"), may_notify=False)) == [
        "sync_failures notify_never",
        "token_expiry notify_never",
    ]
    assert world.said(world.tick(T0 + TICK, saw("token_expiry"), saw("sync_failures"))) == [
        "token_expiry first",
        "sync_failures inhibited",
    ]


def test_what_the_tick_judged_wins_over_what_was_known() -> None:
    """A cause that has just closed hides nothing, though it is among the open ones known before."""
    world = World()
    world.tick(T0, saw("token_expiry"))
    known = dict(world.alerts)
    result = step(known, [saw("token_expiry", C), saw("sync_failures")], policy=POLICY, as_of=T0 + TICK)
    decided = decide(result.alerts, policy=POLICY, as_of=T0 + TICK, configured=BOTH, open_alerts=known)

    assert SilentReason.INHIBITED not in {each.silent for each in decided.deliveries}


NAMES = st.sampled_from(sorted(IDENTITIES))
SEEN = st.sampled_from([B, C, Verdict.BAND, NONE, Verdict.REMOVED])
TICKS = st.lists(st.dictionaries(NAMES, SEEN, max_size=5), max_size=25)


@settings(deadline=None)
@given(history=TICKS, gap=st.sampled_from([TICK, HOUR, 9 * HOUR]))
def test_inhibition_never_loses_a_firing(history: list[Mapping[str, Verdict]], gap: timedelta) -> None:
    """
    In every tick, whatever fires and is judged is known to each channel: told itself, or a cause of it was told there.

    And to each channel openings and closes pair up, as without inhibition.
    """
    world = World(policy=at_once())
    said: dict[tuple[str, str], list[str]] = {}
    for number, verdicts in enumerate(history):
        as_of = T0 + number * gap
        for delivery in world.tick(as_of, *(saw(rule, verdict) for rule, verdict in verdicts.items())):
            if delivery.reason is not None and delivery.reason != "repeat":
                reason = "first" if delivery.reason in OPENINGS else str(delivery.reason)
                said.setdefault((delivery.channel, world.rule_of(delivery)), []).append(reason)
        by_rule = {alert.rule: alert for alert in world.alerts.values()}
        for rule, verdict in verdicts.items():
            alert = by_rule.get(rule)
            if verdict is not B or alert is None or alert.state is not AlertState.FIRING:
                continue
            for channel in (SLACK, MAIL):
                causes = [by_rule[each] for each in SYMPTOMS.get(rule, ()) if each in by_rule]
                explained = [
                    cause
                    for cause in causes
                    if cause.state.is_open
                    and channel in cause.told
                    and cause.opened_at is not None
                    and as_of - cause.opened_at <= HIDES_FOR
                ]
                assert channel in alert.told or explained
    for reasons in said.values():
        assert reasons == (["first", "closed"] * len(reasons))[: len(reasons)]


@settings(deadline=None)
@given(history=TICKS)
def test_when_every_cause_is_over_whoever_still_fires_was_told(history: list[Mapping[str, Verdict]]) -> None:
    """Whatever happened before: the last tick closes all causes and finds every symptom."""
    world = World(policy=at_once())
    for number, verdicts in enumerate(history):
        world.tick(T0 + number * TICK, *(saw(rule, verdict) for rule, verdict in verdicts.items()))
    symptoms = set(SYMPTOMS) - {cause for cause, _ in PAIRS}
    last = [saw(rule, B if rule in symptoms else C) for rule in IDENTITIES]
    world.tick(T0 + len(history) * TICK, *last)

    for alert in world.alerts.values():
        if alert.rule in symptoms:
            assert alert.state is AlertState.FIRING
            assert {SLACK, MAIL} <= set(alert.told)


@settings(deadline=None)
@given(history=TICKS, configured=st.sampled_from([BOTH, {"slack"}, set()]))
def test_switched_off_it_changes_nothing(history: list[Mapping[str, Verdict]], configured: Collection[str]) -> None:
    """With ``inhibition`` off each alert is decided as if it were alone."""
    policy = replace(POLICY, inhibition=False)
    together = World(policy=policy)
    alone = {rule: World(policy=policy) for rule in IDENTITIES}
    for number, verdicts in enumerate(history):
        as_of = T0 + number * TICK
        together.tick(as_of, *(saw(rule, verdict) for rule, verdict in verdicts.items()), configured=configured)
        for rule, verdict in verdicts.items():
            alone[rule].tick(as_of, saw(rule, verdict), configured=configured)

    assert set(together.outbox) == {key for world in alone.values() for key in world.outbox}
    assert SilentReason.INHIBITED not in {delivery.silent for delivery in together.outbox.values()}

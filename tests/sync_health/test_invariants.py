"""
The invariants of alerting, over any history: told open is told closed, once; nothing that fires is lost; nothing is said twice.

The pure half: `step` and `decide` alone, with groups, threads, escalation, flapping, silences, mutes, budgets, inhibition,
shadow mode, acknowledgement and catch-up. The same over real databases and servers is
`tests.orchestration.test_invariants`. ``INVARIANT_EXAMPLES`` in the environment asks for more examples than the suite's.
"""

from __future__ import annotations

import os
import uuid
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, time, timedelta

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from include.sync_health.alerting_policies import LifecyclePolicy, Mute
from include.sync_health.alerts import (
    OPENINGS,
    Acknowledgement,
    Alert,
    AlertState,
    CloseReason,
    Delivery,
    EventKind,
    NotifyReason,
)
from include.sync_health.gaps import came_and_went
from include.sync_health.lifecycle import step
from include.sync_health.matchers import Matcher, labels_of
from include.sync_health.muting import Silence, Suppressors
from include.sync_health.observations import Observation
from include.sync_health.routing import channels_of
from include.sync_health.rule_policies import RuleMode, RulePolicies, SyncFailuresPolicy
from include.sync_health.verdicts import Severity, Verdict
from tests.sync_health.alert_histories import POLICY, T0, TICK, World, rule_saw
from tests.sync_health.channel_beliefs import Beliefs, Line

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
EXAMPLES = int(os.environ.get("INVARIANT_EXAMPLES", "150"))

SUBJECTS: Mapping[str, tuple[str, Mapping[str, str], str | None]] = {
    # name: rule, identity, cause
    "one of a group": ("sync_failures", {"credential": "1"}, "a" * 16),
    "another of it": ("sync_failures", {"credential": "2"}, "a" * 16),
    "one alone": ("sync_failures", {"credential": "3"}, None),
    "a symptom": ("consecutive_failures", {"credential": "1", "data_type": "jobs"}, "a" * 16),
    "its cause": ("connection_error", {"credential": "1"}, None),
    "a stale one": ("stale_sync", {"credential": "1"}, None),
    "blindness": ("monitor_health", {"check": "sync_failures", "cause": "unreachable"}, None),
}
"""What may be wrong: one group of two, causes and symptoms, and one that stands alone."""

NAMES = st.sampled_from(sorted(SUBJECTS))
SEVERITIES = st.sampled_from([Severity.MEDIUM, Severity.MEDIUM, Severity.HIGH, Severity.CRITICAL, Severity.LOW])
VERDICTS = st.sampled_from(
    [Verdict.BREACH] * 4 + [Verdict.CLEAR] * 4 + [Verdict.NO_DATA, Verdict.BAND, Verdict.REMOVED, Verdict.EXPIRED]
)
CHANGES = st.dictionaries(NAMES, st.tuples(VERDICTS, SEVERITIES), max_size=4)
GAPS = st.sampled_from([TICK, TICK, TICK, TICK, HOUR, 5 * HOUR, 13 * HOUR, DAY])
MATCHERS = st.sampled_from(
    [
        Matcher(rule=frozenset({"sync_failures"})),
        Matcher(credential=frozenset({"1"})),
        Matcher(credential=frozenset({"2"})),
        Matcher(severity=frozenset({Severity.MEDIUM, Severity.LOW})),
    ]
)
NIGHT = Mute(
    name="night",
    match=Matcher(credential=frozenset({"1", "3"})),
    start=time(20, 0),
    end=time(6, 0),
    timezone="UTC",
    reason="nobody is there",
)


class PureAlerting(RuleBasedStateMachine):
    """A monitor that forgets nothing, and the readers of its channels."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World(policy=POLICY)
        self.now = T0
        self.state: dict[str, tuple[Verdict, Severity]] = {}
        self.beliefs = Beliefs()
        self.said: list[Delivery] = []
        self.silences = 0

    @initialize(
        keep=st.sampled_from([timedelta(0), 2 * TICK]),
        for_=st.sampled_from([timedelta(0), timedelta(0), TICK]),
        above=st.sampled_from([1, 2, 20]),
        budget=st.sampled_from([None, 1, 3, 10]),
        by=st.sampled_from([("rule", "environment", "cause"), ("rule",), ()]),
        lifecycle=st.sampled_from([LifecyclePolicy(), LifecyclePolicy(settle_after=timedelta(0))]),
    )
    def begin(
        self,
        keep: timedelta,
        for_: timedelta,
        above: int,
        budget: int | None,
        by: tuple[str, ...],
        lifecycle: LifecyclePolicy,
    ) -> None:
        alerting = POLICY.alerting
        alerting = replace(alerting, lifecycle=lifecycle, budget=budget, grouping=replace(alerting.grouping, by=by))
        rules = RulePolicies(sync_failures=SyncFailuresPolicy(for_=for_, keep_firing_for=keep))
        self.policy = replace(POLICY, alerting=alerting, rules=rules, summary_above=above)

    # -- what may happen ---------------------------------------------------------------------------------------------

    @rule(changes=CHANGES, gap=GAPS, unseen=st.sets(NAMES, max_size=3), speaks=st.booleans() | st.just(True))
    def tick(
        self, changes: Mapping[str, tuple[Verdict, Severity]], gap: timedelta, unseen: set[str], speaks: bool
    ) -> None:
        """A run, which may see a part only, or be asked to keep quiet."""
        self.now += gap
        self.state |= changes
        self.judge(self.now, self.observed(unseen=unseen), may_notify=speaks)

    @rule(changes=CHANGES, configured=st.sampled_from([{"slack"}, {"email"}, set()]))
    def tick_without_a_connection(self, changes: Mapping[str, tuple[Verdict, Severity]], configured: set[str]) -> None:
        self.now += TICK
        self.state |= changes
        self.judge(self.now, self.observed(), configured=configured)

    @rule(changes=CHANGES, ago=st.sampled_from([TICK, HOUR, 4 * HOUR]))
    def out_of_order(self, changes: Mapping[str, tuple[Verdict, Severity]], ago: timedelta) -> None:
        """I8: what is known better by now stays as it is."""
        as_of, before = self.now - ago, dict(self.world.alerts)
        self.state = {**changes, **self.state}  # of whom nothing was known before, this is the newest
        self.judge(as_of, [self.saw(name, *seen) for name, seen in sorted(changes.items())])
        for fingerprint, alert in before.items():
            if alert.last_as_of >= as_of:
                assert as_it_is(self.world.alerts[fingerprint]) == as_it_is(alert)

    @rule(instants=st.lists(CHANGES, min_size=1, max_size=5), changes=CHANGES)
    def gap(
        self,
        instants: Sequence[Mapping[str, tuple[Verdict, Severity]]],
        changes: Mapping[str, tuple[Verdict, Severity]],
    ) -> None:
        """Nobody looked for a while: the run makes up for it, as `include.orchestration.evaluation` does."""
        missed: list[Alert] = []
        missed_at = {self.now + (number + 1) * TICK for number in range(len(instants))}
        for each in instants:
            self.now += TICK
            self.state |= each
            result = step(self.world.alerts, self.observed(), policy=self.world.policy, as_of=self.now)
            self.world.alerts |= result.alerts
            self.world.events += result.events
            missed += came_and_went(result.events, result.alerts, instants=missed_at)
        self.now += TICK
        self.state |= changes
        result = step(self.world.alerts, self.observed(), policy=self.world.policy, as_of=self.now)
        missed += came_and_went(result.events, result.alerts, instants=missed_at)
        self.judge(self.now, self.observed(), missed=missed, missed_at=missed_at)

    @rule(match=MATCHERS, lasts=st.sampled_from([TICK, HOUR, 10 * HOUR]))
    def silence(self, match: Matcher, lasts: timedelta) -> None:
        self.silences += 1
        self.world.silences.append(
            Silence(
                id=uuid.UUID(int=self.silences),
                match=match,
                starts_at=self.now,
                ends_at=self.now + lasts,
                author="Kim",
                reason="a migration",
                created_at=self.now,
            )
        )

    @rule()
    def end_the_silences(self) -> None:
        self.world.silences = [
            replace(each, ends_at=max(self.now, each.starts_at + timedelta(seconds=1))) for each in self.world.silences
        ]

    @rule(name=NAMES, until=st.sampled_from([None, HOUR]))
    def acknowledge(self, name: str, until: timedelta | None) -> None:
        alert = self.world.alerts.get(self.saw(name, Verdict.CLEAR, Severity.HIGH).fingerprint)
        if alert is not None and alert.state.is_open:
            held = Acknowledgement(by="Kim", at=self.now, reason="on it", until=self.now + until if until else None)
            self.world.alerts[alert.fingerprint] = replace(alert, acknowledged=held)

    @rule(budget=st.sampled_from([None, 1, 2, 10]))
    def limit(self, budget: int | None) -> None:
        self.policy = replace(self.policy, alerting=replace(self.policy.alerting, budget=budget))

    @rule(mode=st.sampled_from([RuleMode.SHADOW, RuleMode.LIVE]))
    def watch_in_shadow(self, mode: RuleMode) -> None:
        failures = replace(self.policy.rules.sync_failures, mode=mode)
        self.policy = replace(self.policy, rules=replace(self.policy.rules, sync_failures=failures))

    @rule(inhibition=st.booleans())
    def inhibit(self, inhibition: bool) -> None:
        self.policy = replace(self.policy, inhibition=inhibition)

    @rule(mutes=st.sampled_from([(), (NIGHT,)]))
    def mute(self, mutes: tuple[Mute, ...]) -> None:
        self.policy = replace(self.policy, alerting=replace(self.policy.alerting, mutes=mutes))

    # -- what always holds -------------------------------------------------------------------------------------------

    @invariant()
    def readers_understand(self) -> None:
        """I2 and I3: nothing is told closed that was not told open."""
        assert self.beliefs.faults == []

    def teardown(self) -> None:
        """I9, then I2, and I5 over the whole."""
        if not self.said and not self.world.alerts:
            return
        self.nothing_suppresses()
        self.everything_recovers()
        self.nobody_was_flooded()

    def nothing_suppresses(self) -> None:
        """I9: what fires was told wherever it belongs, as severe as it is."""
        self.end_the_silences()
        failures = replace(self.policy.rules.sync_failures, mode=RuleMode.LIVE)
        self.policy = replace(
            self.policy,
            inhibition=False,
            rules=replace(self.policy.rules, sync_failures=failures),
            alerting=replace(self.policy.alerting, budget=None, mutes=()),
        )
        self.now += TICK
        self.judge(self.now, self.observed())
        for alert in self.world.alerts.values():
            for channel in channels_of(alert, policy=self.policy) if alert.state is AlertState.FIRING else ():
                told = self.beliefs.open.get((channel, alert.fingerprint))
                assert told is not None, f"{channel} never heard of {alert.rule} {alert.identity}"
                assert told.rank >= alert.severity.rank, f"{channel} believes {alert.rule} to be {told}"

    def everything_recovers(self) -> None:
        """I2: what was told open is told closed."""
        self.state = dict.fromkeys(SUBJECTS, (Verdict.CLEAR, Severity.HIGH))
        for _ in range(12):
            self.now += TICK
            self.judge(self.now, self.observed())
        assert [alert.rule for alert in self.world.alerts.values() if alert.state is not AlertState.INACTIVE] == []
        assert self.beliefs.open == {}, "told open, and never told closed"
        assert self.beliefs.faults == []

    def nobody_was_flooded(self) -> None:
        """
        I5: messages per channel and hour.

        Each episode is told to open once and to close once; more severe than ever it is told three times at most (low to
        critical); what a channel heard in an hour of an episode of an hour before is one opening (kept back), one close
        (owed) and one repeat (the shortest interval is 4 hours). A tick adds one receipt, one digest and one catch-up.
        """
        hours = Counter((each.channel, each.as_of.replace(minute=0)) for each in self.said)
        happened = Counter(
            event.as_of.replace(minute=0)
            for event in self.world.events
            if event.kind in (EventKind.OPENED, EventKind.REOPENED, EventKind.CLOSED, EventKind.ESCALATED)
        )
        ticks = Counter(each.replace(minute=0) for each in {each.as_of for each in self.said})
        for (channel, hour), messages in hours.items():
            assert messages <= happened[hour] + 3 * len(self.world.alerts) + 3 * ticks[hour], (channel, hour)

    # -- how a run is made -------------------------------------------------------------------------------------------

    def saw(self, name: str, verdict: Verdict, severity: Severity) -> Observation:
        """What a rule says of one of the subjects."""
        about, identity, cause = SUBJECTS[name]
        return rule_saw(about, verdict, severity=severity, identity=identity, cause=cause)

    def observed(self, *, unseen: Collection[str] = ()) -> list[Observation]:
        """What a run sees now."""
        return [self.saw(name, *seen) for name, seen in sorted(self.state.items()) if name not in unseen]

    def judge(
        self,
        as_of: datetime,
        observations: Sequence[Observation],
        **options: object,
    ) -> None:
        """One run, and what the readers make of its messages."""
        self.world.policy = self.policy
        silenced = Suppressors(at=as_of, silences=self.world.silences, mutes=self.policy.alerting.mutes)
        happened = len(self.world.events)
        new = [each for each in self.world.tick(as_of, *observations, **options) if each.reason is not None]
        self.said += new
        self.check_tick(new, silenced)
        clear = {each.fingerprint for each in observations if each.verdict is Verdict.CLEAR}
        for event in self.world.events[happened:]:  # I6
            assert event.close_reason is not CloseReason.RECOVERED or event.fingerprint in clear
        for each in new:
            alerts = [(self.world.alerts[member.fingerprint], member.episode_id) for member in each.members]
            lines = [
                Line(
                    fingerprint=alert.fingerprint,
                    is_open=alert.state.is_open,
                    severity=alert.severity,
                    is_another_episode=alert.episode_id != episode,
                )
                for alert, episode in alerts
            ]
            assert each.reason is not None
            self.beliefs.hear(each.channel, each.reason, lines)
        self.the_same_again(as_of, observations, options)

    def the_same_again(
        self, as_of: datetime, observations: Sequence[Observation], options: Mapping[str, object]
    ) -> None:
        """I4 and I8: a retry, or the same window once more, says and changes nothing."""
        again = replace(self.world, alerts=dict(self.world.alerts), outbox=dict(self.world.outbox), events=[], edits=[])
        said = again.tick(as_of, *observations, **{**options, "missed": [], "missed_at": set()})
        assert (said, again.edits) == ([], [])
        assert again.alerts == self.world.alerts

    def check_tick(self, new: Sequence[Delivery], silenced: Suppressors) -> None:
        """I5 within a tick; and what is silenced is not told."""
        batches = Counter((each.channel, each.reason) for each in new)
        assert all(count <= self.policy.summary_above for count in batches.values()), batches
        # A repeat takes its neighbours along, whatever else is said of them in the same tick.
        beside = (NotifyReason.SILENCE_ENDED, NotifyReason.DIGEST, NotifyReason.CATCH_UP, NotifyReason.REPEAT)
        about = Counter(
            (each.channel, member.fingerprint) for each in new if each.reason not in beside for member in each.members
        )
        assert all(count == 1 for count in about.values()), about
        receipts = (NotifyReason.SILENCE_ENDED, NotifyReason.DIGEST)
        for each in new:
            for member in each.members if each.reason in {*OPENINGS, NotifyReason.ESCALATED, *receipts} else ():
                alert = self.world.alerts[member.fingerprint]
                if each.reason in receipts and (alert.episode_id != member.episode_id or not alert.state.is_open):
                    continue  # of what is over it only gives the number
                assert silenced.of(labels_of(alert, tags=self.policy.tags)) is None, each


def as_it_is(alert: Alert) -> Alert:
    """Return an alert without what is remembered of telling it."""
    return replace(alert, told={}, suppressed={}, threads={})


PureAlerting.TestCase.settings = settings(
    max_examples=EXAMPLES,
    stateful_step_count=25,
    deadline=None,
    derandomize="INVARIANT_EXAMPLES" not in os.environ,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestPureAlerting = PureAlerting.TestCase

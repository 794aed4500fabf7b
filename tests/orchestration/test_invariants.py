"""
The invariants of alerting, over real databases, a real Slack and a real mail server, whatever goes wrong between them.

1. A historical run or a backfill puts nothing into the outbox and moves no alert.
2. What a channel was told is open is told closed there, once.
3. Nothing is told closed that was not told open there; a message that says both counts as one.
4. The same windows again, in any pattern of crashes and retries, leave the same outbox and the same alerts.
5. Messages per channel and hour stay within what the hour's ticks can account for.
6. Blindness closes nothing as recovered.
7. What Slack and the mail server accept is within their limits, and holds no secret and no call to everybody.
8. A window older than what is known, or the same again, is a no-op.
9. Silences, shadow mode, the budget, causes, `notify=never` and acknowledgements that come and go lose no firing.

The pure half, with far more examples, is `tests.sync_health.test_invariants`. Not in here: a fallback (what a channel refuses
is told in another one), and channels that refuse for more than a day (their messages are dead by decision 0003).
``INVARIANT_WORLD_EXAMPLES`` in the environment asks for more examples than the suite's.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from include.orchestration import policy_document
from include.orchestration.policy_file import load_policy
from include.sync_health.alerts import AlertState, CloseReason
from include.sync_health.matchers import Matcher
from include.sync_health.routing import channels_of
from tests.orchestration.invariant_world import (
    AFTER_A_TICK,
    CAUSES,
    DRAIN_STEPS,
    TICK_STEPS,
    InvariantWorld,
    dying,
)
from tests.orchestration.monitored_world import NOON, TICK, monitored_world

HOUR = timedelta(hours=1)
EXAMPLES = int(os.environ.get("INVARIANT_WORLD_EXAMPLES", "10"))
SEVERAL = settings(
    max_examples=EXAMPLES,
    stateful_step_count=20,
    deadline=None,
    derandomize="INVARIANT_WORLD_EXAMPLES" not in os.environ,
    suppress_health_check=list(HealthCheck),
)

WHO = st.sampled_from([1, 2, 3])
WHAT = st.sampled_from([*CAUSES, *CAUSES, "succeeds", "succeeds", "succeeds", "lost rows", "deleted"])
CHANGES = st.dictionaries(WHO, WHAT, max_size=2)
GAPS = st.sampled_from([1, 1, 1, 1, 1, 2, 5, 14])
PARAMS = st.sampled_from(
    [
        {},
        {},
        {},
        {"notify": "never"},
        {"credential": "1"},
        {"environment": "production"},
        {"environment": "integration"},
    ]
)
WHEN = st.sampled_from(["before", "after"])
SLACK_FAULTS: Mapping[str, Mapping[str, Any]] = {
    "asks to wait": {"status": 429, "retry_after": 3},
    "is down": {"status": 500, "times": 2},
    "drops the call": {"mode": "drop_before"},
    "accepts and says nothing": {"mode": "accept_then_drop"},
    "refuses the token": {"error": "invalid_auth", "times": 3},
    "lost the parent": {"error": "message_not_found", "method": "chat.update"},
    "drops an edit": {"mode": "accept_then_drop", "method": "chat.update"},
}
MAIL_FAULTS = ("refuse_connection", "greylist", "drop_in_data", "accept_then_drop", "refuse_recipient")


class Alerting(RuleBasedStateMachine):
    """A monitor, what happens to it, and the readers of its channels."""

    def __init__(self, stage: InvariantWorld) -> None:
        super().__init__()
        self.stage = stage
        self.as_of = NOON
        self.silences = 0
        stage.empty()
        self.run()

    @initialize(budget=st.sampled_from(["1", "10", "never"]), above=st.sampled_from(["1", "20"]))
    def begin(self, budget: str, above: str) -> None:
        self.stage.write_policy(budget=budget, above=above)

    # -- what may happen ---------------------------------------------------------------------------------------------

    @rule(changes=CHANGES, gap=GAPS, params=PARAMS, drains=st.sampled_from([1, 1, 1, 0, 2]), again=st.booleans())
    def tick(self, changes: Mapping[int, str], gap: int, params: Mapping[str, Any], drains: int, again: bool) -> None:
        """A run, after a gap or not, and its drain by one worker, by two at once, or by none."""
        self.pass_time(gap, changes)
        self.run(again=again, **params)
        if drains and params.get("notify") != "never":
            self.stage.drain(self.as_of + AFTER_A_TICK, workers=drains)

    @rule(changes=CHANGES, place=st.sampled_from(TICK_STEPS), when=WHEN, is_retried=st.booleans() | st.just(True))
    def tick_with_a_crash(self, changes: Mapping[int, str], place: str, when: str, is_retried: bool) -> None:
        """The worker dies at some step, and Airflow tries again, or does not."""
        self.pass_time(1, changes)
        with dying(place, when=when):
            self.run()
        if is_retried:
            self.run(again=True)
            self.stage.drain(self.as_of + AFTER_A_TICK)

    @rule(place=st.sampled_from(DRAIN_STEPS), when=WHEN)
    def drain_with_a_crash(self, place: str, when: str) -> None:
        """What it had in flight waits for the end of its lease."""
        self.pass_time(1, {})
        self.run()
        with dying(place, when=when):
            self.stage.drain(self.as_of + AFTER_A_TICK)
        self.stage.hear()

    @rule(changes=CHANGES, ago=st.sampled_from([1, 3, 12]))
    def tick_out_of_order(self, changes: Mapping[int, str], ago: int) -> None:
        """I8: what is known better by now stays as it is."""
        as_of, before = self.as_of - ago * TICK, self.stage.alerts()
        for who, what in changes.items():
            if what != "deleted":
                self.stage.happen(who, what, before=as_of)
        self.stage.world.tick(as_of, late=self.as_of + timedelta(minutes=1) - as_of)
        for fingerprint, alert in self.stage.alerts().items():
            known = before.get(fingerprint)
            if known is not None and known.last_as_of >= as_of:
                assert (alert.state, alert.last_as_of, alert.episode_id, alert.severity) == (
                    known.state,
                    known.last_as_of,
                    known.episode_id,
                    known.severity,
                )

    @rule(is_backfill=st.booleans(), hours=st.sampled_from([7, 24]))
    def look_at_the_past(self, is_backfill: bool, hours: int) -> None:
        """I1: history, and nothing but history."""
        alerts, keys = self.stage.alerts(), self.stage.keys()
        as_of = self.as_of if is_backfill else self.as_of - hours * HOUR
        outcome = self.stage.world.tick(as_of, is_backfill=is_backfill, late=self.as_of - as_of + AFTER_A_TICK)
        assert outcome["mode"] == "historical"
        assert self.stage.alerts() == alerts
        assert self.stage.keys() == keys

    @rule(ticks=st.sampled_from([1, 2]))
    def go_blind(self, ticks: int) -> None:
        """I6: the source cannot be reached, and nothing recovers but what the monitor sees of itself."""
        self.stage.see(blind=True)
        before = self.stage.alerts()
        for _ in range(ticks):
            self.pass_time(1, {})
            self.run()
        self.stage.see()
        for fingerprint, alert in self.stage.alerts().items():
            was_open = fingerprint in before and before[fingerprint].state.is_open
            if was_open and alert.rule != "monitor_health":
                assert alert.state.is_open or alert.close_reason is not CloseReason.RECOVERED

    @rule(
        match=st.sampled_from([Matcher(rule=frozenset({"sync_failures"})), Matcher(credential=frozenset({"1"}))]),
        lasts=st.sampled_from([1, 4, 40]),
    )
    def silence(self, match: Matcher, lasts: int) -> None:
        self.silences += 1
        self.stage.silence(match, number=self.silences, at=self.as_of, lasts=lasts * TICK)

    @rule()
    def end_the_silences(self) -> None:
        self.stage.end_silences(self.as_of + timedelta(minutes=3))

    @rule(number=st.integers(0, 5))
    def acknowledge(self, number: int) -> None:
        self.stage.acknowledge(number, at=self.as_of)

    @rule(
        change=st.sampled_from(
            [{"mode": "shadow"}, {"mode": "live"}, {"budget": "1"}, {"budget": "10"}, {"inhibition": "false"}]
        )
    )
    def edit_the_policy(self, change: Mapping[str, str]) -> None:
        self.stage.write_policy(**change)

    @rule(fault=st.sampled_from(sorted(SLACK_FAULTS)))
    def slack_fails(self, fault: str) -> None:
        self.stage.world.slack.fail_next(**SLACK_FAULTS[fault])

    @rule(fault=st.sampled_from(MAIL_FAULTS))
    def mail_fails(self, fault: Any) -> None:
        self.stage.world.mail.fail_next(fault)

    # -- what always holds -------------------------------------------------------------------------------------------

    @invariant()
    def readers_understand(self) -> None:
        """I2 and I3, as far as they can be told now."""
        assert self.stage.beliefs.faults == []

    def teardown(self) -> None:
        """I9, then I2 and the rest, over the whole story."""
        self.nothing_suppresses()
        self.everything_recovers()
        assert self.stage.what_is_wrong_with_the_payloads() == []  # I7
        assert self.stage.doubled() == []
        self.nobody_was_flooded()

    def nothing_suppresses(self) -> None:
        """I9: what fires was told wherever it belongs, as severe as it is."""
        stage = self.stage
        stage.mend()
        stage.end_silences(self.as_of + timedelta(minutes=4))
        stage.write_policy(mode="live", budget="never", inhibition="false")
        for _ in range(2):  # by then a dead worker's lease is over, and so is the pause of what was refused
            self.pass_time(2, {})
            self.run()
            stage.drain(self.as_of + AFTER_A_TICK)
        policy = load_policy(overlay=stage.world.overlay).policy
        for alert in stage.alerts().values():
            for channel in channels_of(alert, policy=policy) if alert.state is AlertState.FIRING else ():
                told = stage.beliefs.open.get((channel, alert.fingerprint))
                assert told is not None, f"{channel} never heard of {alert.rule} {alert.identity}"
                assert told.rank >= alert.severity.rank, f"{channel} believes {alert.rule} to be {told}"

    def everything_recovers(self) -> None:
        """I2: three quiet hours and more, and what was told open is told closed."""
        self.stage.write_policy(catch_up="0m")  # the windows between these are none of them
        self.stage.welcome()  # fewer than three that run prove nothing, nor that an outage is over
        for _ in range(4):
            self.pass_time(5, dict.fromkeys(self.stage.credentials, "succeeds"))
            self.run()
            self.stage.drain(self.as_of + AFTER_A_TICK)
        assert self.stage.unfinished() == []
        still = [(alert.rule, alert.state) for alert in self.stage.alerts().values() if alert.state.is_open]
        assert still == []
        assert self.stage.beliefs.open == {}, "told open, and never told closed"
        assert self.stage.beliefs.faults == []

    def nobody_was_flooded(self) -> None:
        """
        I5: messages per channel and hour, by the ticks that decided them.

        Each episode is told to open once and to close once, each escalation once. Of an episode of an hour before, an hour
        can tell one opening (kept back until then), one close (owed) and one repeat (the shortest interval is 4 hours).
        A tick adds one receipt, one digest and one catch-up.
        """
        (most,) = self.stage.world.rows(
            "WITH happened AS (SELECT date_trunc('hour', as_of) AS hour, count(*) AS events FROM monitoring.alert_event"
            "  WHERE kind IN ('opened', 'reopened', 'closed', 'escalated') GROUP BY 1),"
            " ticks AS (SELECT date_trunc('hour', as_of) AS hour, count(DISTINCT as_of) AS ticks"
            "  FROM monitoring.delivery GROUP BY 1),"
            " said AS (SELECT channel, date_trunc('hour', as_of) AS hour, count(*) AS messages FROM monitoring.delivery"
            "  WHERE reason <> 'updated' AND status <> 'not_sent' GROUP BY 1, 2)"
            " SELECT coalesce(max(messages - coalesce(events, 0) - 3 * ticks), 0) AS beyond"
            " FROM said LEFT JOIN happened USING (hour) LEFT JOIN ticks USING (hour)"
        )
        assert most["beyond"] <= 3 * len(self.stage.alerts())

    # -- how a run is made -------------------------------------------------------------------------------------------

    def pass_time(self, ticks: int, changes: Mapping[int, str]) -> None:
        """Go on to a later window's end, and let things happen just before it."""
        self.as_of += ticks * TICK
        self.stage.live(self.as_of)
        for who, what in changes.items():
            self.stage.happen(who, what, before=self.as_of)

    def run(self, *, again: bool = False, **params: Any) -> None:
        """Evaluate the window that ends now; ``again``: once more, which changes nothing (I4, I8)."""
        if params.get("credential") == "1" and 1 not in self.stage.credentials:
            params = {}
        self.stage.world.tick(self.as_of, **params)
        if again:
            alerts, keys = self.stage.alerts(), self.stage.keys()
            self.stage.world.tick(self.as_of, **params)
            assert self.stage.keys() == keys
            assert self.stage.alerts() == alerts


@pytest.fixture
def stage(
    make_database: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[InvariantWorld]:
    """One world, for all examples of a test."""
    # The policy is read some thousand times, and is one of a dozen texts.
    parsed = functools.cache(policy_document.parse_document)
    monkeypatch.setattr(policy_document, "parse_document", lambda text, *, name: deepcopy(parsed(text, name=name)))
    with monitored_world(make_database, monkeypatch, tmp_path) as world:
        yield InvariantWorld(world=world)


def test_the_invariants_of_alerting_hold_whatever_happens(stage: InvariantWorld) -> None:
    machine = cast("type[RuleBasedStateMachine]", lambda: Alerting(stage))  # anything that makes one will do
    run_state_machine_as_test(machine, settings=SEVERAL)


TICKS = st.lists(
    st.tuples(CHANGES, st.lists(st.tuples(st.sampled_from([None, *TICK_STEPS]), WHEN), max_size=2)),
    min_size=1,
    max_size=6,
)


@given(ticks=TICKS)
@settings(max_examples=max(1, EXAMPLES // 2), derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_pattern_of_crashes_and_retries_leaves_what_one_run_would(
    stage: InvariantWorld, ticks: list[tuple[dict[int, str], list[Any]]]
) -> None:
    """I4: the same windows in a world where nobody died, beside one where they did, and were tried again."""
    found = []
    for dies in (False, True):
        stage.empty()
        as_of = NOON
        for changes, crashes in ticks:
            as_of += TICK
            stage.live(as_of)
            for who, what in changes.items():
                stage.happen(who, what, before=as_of)
            for place, when in crashes if dies else ():
                with dying(place, when=when):
                    stage.world.tick(as_of)
            stage.world.tick(as_of)
        found.append((stage.keys(), stage.alerts()))
    assert found[0] == found[1]

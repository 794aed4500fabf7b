"""Which windows were missed, and what came and went in them; and the monitor's signs of its own life."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from include.sync_health.alerting_policies import AlertingPolicy, HeartbeatPolicy
from include.sync_health.checks import CREDENTIAL_HEALTH, SYNC_FAILURES
from include.sync_health.gaps import came_and_went, missed_instants
from include.sync_health.health_resources import CheckState
from include.sync_health.heartbeats import heartbeats
from include.sync_health.lifecycle import step
from include.sync_health.own_health import judge_surroundings, overdue_checks, refusing_channels
from include.sync_health.rule_policies import MonitorHealthPolicy
from include.sync_health.verdicts import Verdict
from tests.sync_health.alert_histories import MAIL, POLICY, SLACK, T0, TICK, World, saw, with_timers

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@pytest.mark.parametrize(
    ("last_seen", "missed"),
    [
        pytest.param(T0 - TICK, [], id="the run before was seen: none"),
        pytest.param(T0 - 2 * TICK, [T0 - TICK], id="one was missed"),
        pytest.param(
            T0 - HOUR, [T0 - 3 * TICK, T0 - 2 * TICK, T0 - TICK], id="an hour of silence: three, oldest first"
        ),
        pytest.param(T0 - 20 * timedelta(minutes=1), [T0 - TICK], id="a run by hand lay between two ticks"),
        pytest.param(T0 + TICK, [], id="a late run"),
        pytest.param(None, [], id="the very first run"),
    ],
)
def test_what_was_missed(last_seen: datetime | None, missed: list[datetime]) -> None:
    """The ends of the windows between the newest that was seen and the run's own."""
    assert missed_instants(last_seen, as_of=T0, every=TICK, within=DAY) == missed


def test_what_was_missed_long_ago_is_let_go() -> None:
    """A day is ninety-six windows of a quarter of an hour."""
    missed = missed_instants(T0 - 30 * DAY, as_of=T0, every=TICK, within=DAY)

    assert (len(missed), missed[0]) == (96, T0 - DAY)
    assert missed_instants(T0 - 30 * DAY, as_of=T0, every=TICK, within=timedelta(0)) == []


def test_only_what_both_opened_and_closed_in_the_gap_came_and_went() -> None:
    """What was open before closes like anything else, and what is still open is told as open."""
    world = World(policy=with_timers())
    world.tick(T0, saw(Verdict.BREACH, credential="before"))
    instants = [T0 + TICK, T0 + 2 * TICK]
    opening = [saw(Verdict.BREACH, credential=each) for each in ("before", "came", "stays")]
    first = step(world.alerts, opening, policy=world.policy, as_of=instants[0])
    closing = [
        saw(Verdict.CLEAR, credential="before"),
        saw(Verdict.CLEAR, credential="came"),
        saw(Verdict.BREACH, credential="stays"),
    ]
    second = step({**world.alerts, **first.alerts}, closing, policy=world.policy, as_of=instants[1])

    assert came_and_went(first.events, first.alerts, instants=instants) == []
    gone = came_and_went(second.events, second.alerts, instants=instants)
    assert [alert.identity["credential"] for alert in gone] == ["came"]


@pytest.mark.parametrize(
    ("last", "due"),
    [
        pytest.param({}, [SLACK, MAIL], id="never before: to each channel of the receiver"),
        pytest.param({SLACK: T0 - DAY + TICK, MAIL: T0 - DAY}, [MAIL], id="a day after the last, to the tick"),
    ],
)
def test_heartbeats(last: dict[str, datetime], due: list[str]) -> None:
    """As often as the policy says, and none without one."""
    beating = replace(POLICY, alerting=AlertingPolicy(heartbeat=HeartbeatPolicy(every=DAY, to="ops")))

    assert [each.channel for each in heartbeats(beating, last=last, as_of=T0, configured={"slack", "email"})] == due
    assert heartbeats(beating, last={}, as_of=T0, configured=set()) == ()
    assert heartbeats(POLICY, last=last, as_of=T0, configured={"slack", "email"}) == ()


def test_a_check_that_does_not_run_is_told_by_another_and_taken_back_when_it_runs() -> None:
    """More than two intervals after its last window; a check that never ran is none that stopped."""
    states = {
        "sync_failures": CheckState(every=TICK, window_to=T0),
        "credential_health": CheckState(every=6 * HOUR, window_to=T0 - 12 * HOUR - TICK),
        "data_quality": CheckState(every=6 * HOUR, window_to=T0 - 12 * HOUR),
        "api_metrics": CheckState(every=HOUR),
    }
    overdue = overdue_checks(states, check=SYNC_FAILURES.name, as_of=T0 + TICK)
    assert [(each.check, each.cause) for each in overdue] == [("credential_health", "overdue")]
    assert "has not run for 12 hours 30 minutes" in overdue[0].detail
    assert overdue_checks(states, check=CREDENTIAL_HEALTH.name, as_of=T0) == []
    back_after_a_night = {**states, "sync_failures": CheckState(every=TICK, window_to=T0 - 12 * HOUR)}
    assert overdue_checks(back_after_a_night, check=SYNC_FAILURES.name, as_of=T0) == []

    world = World(policy=with_timers())

    def surroundings(as_of: datetime, found: list[object]) -> list[tuple[str, str]]:
        said = judge_surroundings(
            policy_error=None,
            alerts=world.alerts,
            policy=MonitorHealthPolicy(),
            as_of=as_of,
            now=as_of,
            check=SYNC_FAILURES.name,
            found_beside=found,  # type: ignore[arg-type]
        )
        world.tick(as_of, *said)
        return [(str(each.identity["check"]), str(each.verdict)) for each in said]

    refusing = refusing_channels({SLACK: "Slack answered invalid_auth"})
    assert surroundings(T0, [*overdue, *refusing]) == [("credential_health", "breach"), ("delivery", "breach")]
    assert surroundings(T0 + TICK, [*refusing]) == [("delivery", "breach"), ("credential_health", "clear")]
    assert surroundings(T0 + 2 * TICK, []) == [("delivery", "clear")]
    assert surroundings(T0 + 3 * TICK, []) == []

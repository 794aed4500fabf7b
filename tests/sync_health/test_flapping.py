"""Alerts that come and go: told twice and then held open, repeated once a day, closed when they keep still."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.sync_health.alerting_policies import LifecyclePolicy
from include.sync_health.alerts import AlertState, CloseReason, EventKind
from include.sync_health.verdicts import Severity, Verdict
from tests.sync_health.alert_histories import MAIL, SLACK, T0, TICK, World, saw, with_timers

B, C, NONE = Verdict.BREACH, Verdict.CLEAR, Verdict.NO_DATA
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
SHIPPED = LifecyclePolicy()


def lived(world: World, verdicts: list[Verdict], *, every: timedelta = TICK, start: datetime = T0) -> list[str]:
    """What Slack was told, tick by tick."""
    told: list[str] = []
    for number, verdict in enumerate(verdicts):
        told += world.sent(world.tick(start + number * every, saw(verdict)))
    return told


@pytest.mark.parametrize("keep_firing_for", [timedelta(0), TICK, timedelta(minutes=30)])
@pytest.mark.parametrize("severity", list(Severity))
@pytest.mark.parametrize("pattern", [[B, C], [B, B, C], [B, C, C], [B, C, NONE, C]])
def test_a_credential_that_flips_for_a_day_is_four_messages_at_most(
    keep_firing_for: timedelta, severity: Severity, pattern: list[Verdict]
) -> None:
    """In each channel, whatever the severity, the timers and the rhythm."""
    world = World(policy=with_timers(keep_firing_for=keep_firing_for, lifecycle=SHIPPED))
    told: dict[str, list[str]] = {SLACK: [], MAIL: []}
    for number in range(96):
        deliveries = world.tick(T0 + number * TICK, saw(pattern[number % len(pattern)], severity=severity))
        for channel, messages in told.items():
            messages += world.sent(deliveries, channel=channel)

    assert all(len(messages) <= 4 for messages in told.values()), told
    if severity is not Severity.LOW:  # of which no route tells
        assert told[SLACK][0] == "first"


def test_the_first_recovery_is_believed_and_the_second_must_last() -> None:
    """Two hours, by the shipped policy."""
    world = World(policy=with_timers(lifecycle=SHIPPED))

    assert lived(world, [B, C, B]) == ["first", "closed", "reopened"]
    assert lived(world, [C] * 8, start=T0 + 3 * TICK) == []
    assert [alert.state for alert in world.alerts.values()] == [AlertState.RECOVERING]
    assert lived(world, [C], start=T0 + 11 * TICK) == ["closed"]


def test_one_that_comes_back_late_is_a_new_conversation() -> None:
    """More than six hours after its close it is another trouble."""
    world = World(policy=with_timers(lifecycle=SHIPPED))
    lived(world, [B, C])
    first = {each.thread for each in world.outbox.values() if each.channel == SLACK}

    assert lived(world, [B], start=T0 + TICK + 6 * HOUR + TICK) == ["first"]
    assert len(first) == 1
    assert next(iter(world.alerts.values())).told[SLACK].thread not in first


def test_one_that_comes_back_soon_goes_on_in_its_conversation() -> None:
    """At six hours exactly it is still the same."""
    world = World(policy=with_timers(lifecycle=SHIPPED))
    lived(world, [B, C])

    assert lived(world, [B], start=T0 + TICK + 6 * HOUR) == ["reopened"]
    assert len({each.thread for each in world.outbox.values() if each.channel == SLACK}) == 1


def test_three_returns_within_a_day_are_flapping_and_two_quiet_hours_end_it() -> None:
    """The history says both; the state is none of its own."""
    world = World(policy=with_timers(lifecycle=SHIPPED))
    lived(world, [B, C, B, C, B, C, B])
    assert [alert.flapping_since for alert in world.alerts.values()] == [T0 + 6 * TICK]
    lived(world, [C] * 9, start=T0 + 7 * TICK)

    kinds = [event.kind for event in world.events]
    assert kinds[-3:] == [EventKind.FLAPPING, EventKind.RECOVERING, EventKind.CLOSED]
    assert [alert.state for alert in world.alerts.values()] == [AlertState.INACTIVE]


def test_one_that_closes_each_time_flaps_with_its_third_return() -> None:
    """The history says so, as it does of one that never closed."""
    world = World(policy=with_timers(lifecycle=SHIPPED))
    lived(world, [B, C, B, *[C] * 9, B, *[C] * 9, B])

    assert [event.kind for event in world.events][-3:] == [EventKind.CLOSED, EventKind.REOPENED, EventKind.FLAPPING]
    assert [alert.flapping_since for alert in world.alerts.values()] == [T0 + 22 * TICK]


def test_one_that_stays_broken_flaps_no_more() -> None:
    """A day after its returns it is repeated like any other."""
    world = World(policy=with_timers(lifecycle=SHIPPED))
    lived(world, [B, C, B, C, B, C, B])
    lived(world, [B] * 30, every=HOUR, start=T0 + 2 * HOUR)

    assert EventKind.SETTLED in [event.kind for event in world.events]
    assert next(iter(world.alerts.values())).flapping_since is None


def test_what_nobody_can_judge_for_a_week_is_closed_without_evidence() -> None:
    """Never as recovered; a verdict in between starts the week anew."""
    world = World(policy=with_timers(lifecycle=SHIPPED))
    lived(world, [B, NONE])
    assert lived(world, [NONE, B, NONE], start=T0 + 6 * DAY) != ["closed"]
    assert lived(world, [NONE], start=T0 + 6 * DAY + 2 * TICK + 7 * DAY - TICK) == []
    assert lived(world, [NONE], start=T0 + 6 * DAY + 2 * TICK + 7 * DAY) == ["closed"]

    alert = next(iter(world.alerts.values()))
    assert alert.close_reason is CloseReason.EXPIRED
    assert "nobody could judge it for 7 days" in alert.reason


def test_a_pending_breach_that_nobody_can_judge_is_dropped() -> None:
    """After the grace; before it, only its clock stops."""
    world = World(policy=with_timers(for_=HOUR, lifecycle=SHIPPED))
    lived(world, [B, NONE, NONE, NONE, NONE])
    assert [alert.state for alert in world.alerts.values()] == [AlertState.PENDING]
    lived(world, [NONE], start=T0 + 5 * TICK)

    assert [event.kind for event in world.events] == [EventKind.PENDING, EventKind.DROPPED]


@given(verdicts=st.lists(st.sampled_from([B, C, NONE, Verdict.BAND]), min_size=1, max_size=96))
def test_held_open_or_not_only_a_clear_ends_it_as_recovered(verdicts: list[Verdict]) -> None:
    """And in any day there are at most two openings of one alert, since the second is held."""
    world = World(policy=with_timers(lifecycle=SHIPPED))
    openings = 0
    for number, verdict in enumerate(verdicts):
        world.tick(T0 + number * TICK, saw(verdict))
        for event in world.events:
            if event.as_of == T0 + number * TICK:
                openings += event.kind in (EventKind.OPENED, EventKind.REOPENED)
                assert event.close_reason is None or verdict is C
    clears = verdicts.count(C)
    assert openings <= 2 + clears // 9

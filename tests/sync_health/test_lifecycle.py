"""The states of an alert, from tick to tick."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.sync_health.alerts import AlertState, CloseReason, EventKind
from include.sync_health.lifecycle import step
from include.sync_health.observations import Observation
from include.sync_health.verdicts import Severity, Verdict
from tests.sync_health.alert_histories import POLICY, T0, TICK, World, histories, saw, with_timers

B, C, BAND, GONE = Verdict.BREACH, Verdict.CLEAR, Verdict.BAND, Verdict.NO_DATA
HALF_HOUR = timedelta(minutes=30)


@pytest.mark.parametrize(
    ("policy", "verdicts", "states"),
    [
        pytest.param(with_timers(), [B], "firing", id="a breach opens at once without a for"),
        pytest.param(with_timers(), [C], "none", id="a clear of something never heard of is nothing"),
        pytest.param(with_timers(), [B, C], "firing inactive", id="a clear closes at once without keep_firing_for"),
        pytest.param(with_timers(), [B, BAND, GONE], "firing firing firing", id="band and no data change nothing"),
        pytest.param(
            with_timers(for_=HALF_HOUR), [B, B, B], "pending pending firing", id="a breach must last as long as for"
        ),
        pytest.param(
            with_timers(for_=HALF_HOUR), [B, BAND, B], "pending inactive pending", id="band ends a pending one"
        ),
        pytest.param(
            with_timers(for_=HALF_HOUR),
            [B, GONE, B, B],
            "pending pending pending firing",
            id="no data stops the clock of a pending one",
        ),
        pytest.param(
            with_timers(keep_firing_for=HALF_HOUR),
            [B, C, C, C],
            "firing recovering recovering inactive",
            id="it must stay clear as long as keep_firing_for",
        ),
        pytest.param(
            with_timers(keep_firing_for=HALF_HOUR),
            [B, C, B, C, C, C],
            "firing recovering firing recovering recovering inactive",
            id="a relapse is the same episode and starts over",
        ),
        pytest.param(
            with_timers(keep_firing_for=HALF_HOUR),
            [B, C, GONE, C, C],
            "firing recovering recovering recovering inactive",
            id="no data stops the clock of recovery",
        ),
    ],
)
def test_states(policy, verdicts: list[Verdict], states: str) -> None:  # type: ignore[no-untyped-def] - a table's values
    """Timers round up to ticks."""
    world, found = World(policy=policy), []
    for number, verdict in enumerate(verdicts):
        world.tick(T0 + number * TICK, saw(verdict))
        found.append(str(next(iter(world.alerts.values())).state) if world.alerts else "none")

    assert " ".join(found) == states


@pytest.mark.parametrize(
    ("verdict", "reason"),
    [
        pytest.param(Verdict.CLEAR, CloseReason.RECOVERED, id="evidence"),
        pytest.param(Verdict.REMOVED, CloseReason.TARGET_REMOVED, id="the target is gone"),
        pytest.param(Verdict.EXPIRED, CloseReason.EXPIRED, id="followed to the end"),
    ],
)
def test_an_episode_ends_for_a_reason(verdict: Verdict, reason: CloseReason) -> None:
    """And the event says which."""
    world = World(policy=with_timers())
    world.tick(T0, saw(B))
    world.tick(T0 + TICK, saw(verdict))

    alert = next(iter(world.alerts.values()))
    assert (alert.state, alert.close_reason, alert.closed_at) == (AlertState.INACTIVE, reason, T0 + TICK)
    assert [event.close_reason for event in world.events if event.kind is EventKind.CLOSED] == [reason]


def test_a_new_episode_has_a_new_id_and_nobody_was_told_of_it() -> None:
    """Ids follow from the fingerprint and the instant alone."""
    world = World(policy=with_timers())
    world.tick(T0, saw(B))
    first = next(iter(world.alerts.values()))
    world.tick(T0 + TICK, saw(C))
    world.tick(T0 + 2 * TICK, saw(B))
    second = next(iter(world.alerts.values()))

    again = World(policy=with_timers())
    again.tick(T0, saw(B))

    assert first.episode_id != second.episode_id
    assert next(iter(again.alerts.values())).episode_id == first.episode_id
    assert second.opened_at == T0 + 2 * TICK


def test_stale_says_since_when_nothing_is_known() -> None:
    """Set by the first verdict that cannot tell, cleared by the next that can."""
    world = World(policy=with_timers())
    world.tick(T0, saw(B))
    world.tick(T0 + TICK, saw(GONE))
    world.tick(T0 + 2 * TICK, saw(GONE))
    assert next(iter(world.alerts.values())).stale_since == T0 + TICK

    world.tick(T0 + 3 * TICK, saw(B))
    assert next(iter(world.alerts.values())).stale_since is None


def test_peak_severity_is_kept() -> None:
    """It may calm down; what it was at worst stays."""
    world = World(policy=with_timers())
    world.tick(T0, saw(B, severity=Severity.HIGH))
    world.tick(T0 + TICK, saw(B, severity=Severity.MEDIUM))

    alert = next(iter(world.alerts.values()))
    assert (alert.severity, alert.peak_severity) == (Severity.MEDIUM, Severity.HIGH)


@given(history=histories(), repeats=st.data())
def test_replaying_any_tick_changes_nothing(history: list[Mapping[str, Verdict]], repeats: st.DataObject) -> None:
    """Duplicates and late runs are no-ops: compare-and-set by fingerprint."""
    once, often = (
        World(policy=with_timers(keep_firing_for=HALF_HOUR)),
        World(policy=with_timers(keep_firing_for=HALF_HOUR)),
    )
    for number, verdicts in enumerate(history):
        observations = [saw(verdict, credential=name) for name, verdict in verdicts.items()]
        once.tick(T0 + number * TICK, *observations)
        often.tick(T0 + number * TICK, *observations)
        earlier = repeats.draw(st.integers(0, number))
        late = [saw(verdict, credential=name) for name, verdict in history[earlier].items() if name in verdicts]
        often.tick(T0 + earlier * TICK, *late)

    assert often.alerts == once.alerts
    assert set(often.outbox) == set(once.outbox)


@given(history=histories(), order=st.randoms())
def test_the_order_of_observations_does_not_matter(history: list[Mapping[str, Verdict]], order) -> None:  # type: ignore[no-untyped-def] - a Random
    """A tick is a set."""
    straight, shuffled = World(), World()
    for number, verdicts in enumerate(history):
        observations = [saw(verdict, credential=name) for name, verdict in verdicts.items()]
        straight.tick(T0 + number * TICK, *observations)
        order.shuffle(observations)
        shuffled.tick(T0 + number * TICK, *observations)

    assert shuffled.alerts == straight.alerts
    assert list(shuffled.outbox) == list(straight.outbox)


@given(history=histories())
def test_only_evidence_closes_as_recovered(history: list[Mapping[str, Verdict]]) -> None:
    """Whatever else happens, RECOVERED is said at a CLEAR and at nothing else."""
    world = World(policy=with_timers(keep_firing_for=TICK))
    for number, verdicts in enumerate(history):
        as_of = T0 + number * TICK
        world.tick(as_of, *(saw(verdict, credential=name) for name, verdict in verdicts.items()))
        for event in world.events:
            if event.as_of == as_of and event.close_reason is CloseReason.RECOVERED:
                alert = world.alerts[event.fingerprint]
                assert verdicts[alert.identity["credential"]] is Verdict.CLEAR


def test_what_is_refused() -> None:
    """A naive instant, and two observations of one thing."""
    with pytest.raises(ValueError, match=r"^as_of must be timezone-aware$"):
        step({}, [], policy=POLICY, as_of=datetime(2026, 1, 1))  # noqa: DTZ001 - the point of the test
    with pytest.raises(ValueError, match=r"^two observations of sync_failures {'credential': '1'}$"):
        step({}, [saw(B), saw(C)], policy=POLICY, as_of=T0)


def test_what_changes_nothing_stops_no_other() -> None:
    """The first and the third have their tick already or were never heard of; those beside them are judged."""
    seen, unseen, unheard, new = sorted((saw(B, credential=str(each)) for each in range(4)), key=by_fingerprint)
    known = step({}, [seen, unseen], policy=with_timers(), as_of=T0).alerts
    alerts = {**known, seen.fingerprint: replace(known[seen.fingerprint], last_as_of=T0 + TICK)}
    observations = [new, replace(unheard, verdict=C), replace(unseen, verdict=C), seen]

    result = step(alerts, observations, policy=with_timers(), as_of=T0 + TICK)
    assert [(each, alert.state) for each, alert in result.alerts.items()] == [
        (unseen.fingerprint, AlertState.INACTIVE),
        (new.fingerprint, AlertState.FIRING),
    ]
    assert [(event.fingerprint, event.kind) for event in result.events] == [
        (unseen.fingerprint, EventKind.CLOSED),
        (new.fingerprint, EventKind.OPENED),
    ]


def by_fingerprint(observation: Observation) -> str:
    """The order in which a tick judges."""
    return observation.fingerprint


def test_severity_does_not_enter_the_fingerprint() -> None:
    """What it is called, counts or says may change; which alert it is may not."""
    one = saw(B, severity=Severity.LOW)
    other = replace(saw(C), message="other words", metadata={"failure_count": 7})

    assert one.fingerprint == other.fingerprint

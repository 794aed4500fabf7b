"""Silences, mutes and the budget: what is kept back, and what is told of it when it no longer is."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.sync_health.alerting_policies import Mute
from include.sync_health.alerts import Acknowledgement, SilentReason
from include.sync_health.errors import RequestError
from include.sync_health.matchers import Matcher
from include.sync_health.muting import Silence, mutes_at
from include.sync_health.policy import Policy
from include.sync_health.verdicts import Severity, Verdict
from tests.sync_health.alert_histories import MAIL, SLACK, T0, TICK, World, saw, with_timers

B, C = Verdict.BREACH, Verdict.CLEAR
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
FAILURES = Matcher(rule=frozenset({"sync_failures"}))


def silence(**changes: Any) -> Silence:
    """Of sync failures, for an hour from T0."""
    values: dict[str, Any] = {
        "id": uuid.UUID(int=1),
        "match": FAILURES,
        "starts_at": T0,
        "ends_at": T0 + HOUR,
        "author": "Kim",
        "reason": "migration of Acme",
        "created_at": T0,
    }
    return Silence(**{**values, **changes})


def muted(mute: Mute) -> Policy:
    """The test policy with one mute."""
    policy = with_timers()
    return replace(policy, alerting=replace(policy.alerting, mutes=(mute,)))


def limited(budget: int | None) -> Policy:
    """The test policy with a budget, and no summaries."""
    policy = with_timers()
    return replace(policy, summary_above=1000, alerting=replace(policy.alerting, budget=budget))


def test_a_silence_hides_what_opens_and_its_end_tells_what_still_fires() -> None:
    """In one message, which counts as told: its close follows, and nothing is said twice."""
    world = World(policy=with_timers(), silences=[silence()])
    opening = world.tick(T0, saw(B, credential="1"), saw(B, credential="2"))
    assert {(each.silent, each.by) for each in opening} == {(SilentReason.SILENCED, str(uuid.UUID(int=1)))}
    assert world.sent(world.tick(T0 + TICK, saw(B, credential="1"), saw(C, credential="2"))) == []

    ending = [each for each in world.tick(T0 + HOUR, saw(B, credential="1")) if each.channel == SLACK]
    assert [(str(each.reason), len(each.members)) for each in ending] == [("silence_ended", 2)]
    assert ending[0].details["kept_back"] == 2
    assert world.tick(T0 + HOUR + TICK, saw(B, credential="1")) == []
    assert world.sent(world.tick(T0 + HOUR + 2 * TICK, saw(C, credential="1"))) == ["closed"]


def test_a_silence_that_hid_nothing_ends_without_a_word() -> None:
    """There is nothing to account for."""
    world = World(policy=with_timers(), silences=[silence()])
    world.tick(T0, saw(C))

    assert world.tick(T0 + HOUR, saw(C)) == []


def test_what_a_silence_hid_and_is_over_is_accounted_for_all_the_same() -> None:
    """The receipt says that it happened; there is no close of what nobody knew."""
    world = World(policy=with_timers(), silences=[silence()])
    world.tick(T0, saw(B))
    world.tick(T0 + TICK, saw(C))

    ending = world.tick(T0 + HOUR, saw(C))
    assert world.sent(ending) == ["silence_ended"]
    assert world.tick(T0 + HOUR + TICK, saw(C)) == []


def test_a_close_is_never_swallowed() -> None:
    """Whoever was told that it opened hears that it closed, in the middle of a silence."""
    world = World(policy=with_timers())
    world.tick(T0 - TICK, saw(B))
    world.silences.append(silence())

    assert world.sent(world.tick(T0, saw(C))) == ["closed"]


def test_a_silence_hides_repeats_and_escalations_too() -> None:
    """Each once in the ledger; the receipt at its end tells the state."""
    world = World(policy=with_timers())
    world.tick(T0 - TICK, saw(B))
    world.silences.append(silence(ends_at=T0 + 2 * DAY))
    assert world.sent(world.tick(T0, saw(B, severity=Severity.CRITICAL))) == []
    assert world.sent(world.tick(T0 + 13 * HOUR, saw(B, severity=Severity.CRITICAL))) == []

    assert world.sent(world.tick(T0 + 2 * DAY, saw(B, severity=Severity.CRITICAL))) == ["silence_ended"]


def test_of_two_silences_the_longer_counts() -> None:
    """The end of the shorter says nothing of what the other still hides."""
    longer = silence(id=uuid.UUID(int=2), ends_at=T0 + 2 * HOUR, author="Lee")
    world = World(policy=with_timers(), silences=[silence(), longer])
    world.tick(T0, saw(B))
    assert world.sent(world.tick(T0 + HOUR, saw(B))) == []

    assert world.sent(world.tick(T0 + 2 * HOUR, saw(B))) == ["silence_ended"]
    assert world.sent(world.tick(T0 + 3 * HOUR, saw(B))) == []


def test_a_new_episode_under_another_silence_stays_hidden() -> None:
    """What the first hid is over; what the second hides has its turn when that ends."""
    later = silence(id=uuid.UUID(int=2), starts_at=T0 + 2 * TICK, ends_at=T0 + 3 * HOUR)
    world = World(policy=with_timers(), silences=[silence(), later])
    world.tick(T0, saw(B))
    world.tick(T0 + TICK, saw(C))
    assert world.sent(world.tick(T0 + HOUR, saw(B))) == []

    ended = [each for each in world.tick(T0 + 3 * HOUR, saw(B)) if each.channel == SLACK]
    assert [(str(each.reason), len({member.episode_id for member in each.members})) for each in ended] == [
        ("silence_ended", 1)
    ]
    assert ended[0].details["kept_back"] == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"match": Matcher()}, "match: a silence of everything is refused"),
        ({"ends_at": T0}, "until: .* is not after from"),
        ({"ends_at": T0 + 91 * DAY}, "until: .* more than 90 days"),
        ({"author": " "}, "author: it is empty; say who"),
        ({"reason": ""}, "reason: it is empty; say why"),
    ],
)
def test_a_silence_says_of_what_until_when_who_and_why(change: dict[str, Any], message: str) -> None:
    """All of it is required."""
    with pytest.raises(RequestError, match=message):
        silence(**change)


NIGHTS = Mute(
    name="nights",
    match=FAILURES,
    days=frozenset({0, 1, 2, 3, 4}),
    start=time(22),
    end=time(6),
    timezone="America/New_York",
    reason="nobody reads it",
)


@pytest.mark.parametrize(
    ("instant", "holds"),
    [
        pytest.param("2026-03-10T02:00+00:00", True, id="Monday 22:00 in New York, the start is part of it"),
        pytest.param("2026-03-10T01:59+00:00", False, id="a minute before"),
        pytest.param("2026-03-10T09:59+00:00", True, id="Tuesday 05:59"),
        pytest.param("2026-03-10T10:00+00:00", False, id="Tuesday 06:00, the end is not"),
        pytest.param("2026-03-14T09:00+00:00", True, id="Saturday 05:00 belongs to Friday's night"),
        pytest.param("2026-03-15T03:00+00:00", False, id="Saturday 23:00: no night begins on a Saturday"),
        pytest.param("2026-03-07T03:00+00:00", True, id="Friday 22:00 before the clocks change"),
        pytest.param("2026-03-07T02:59+00:00", False, id="Friday 21:59 before the clocks change"),
    ],
)
def test_a_mute_keeps_the_wall_time_of_its_zone(instant: str, holds: bool) -> None:
    """Also over midnight and when the clocks change."""
    assert mutes_at(NIGHTS, datetime.fromisoformat(instant)) is holds


@pytest.mark.parametrize(("minutes", "holds"), [(29, True), (30, False)])
def test_a_bound_that_the_clocks_skip_is_where_it_would_have_been(minutes: int, holds: bool) -> None:
    """02:30 in New York, on the night when 02:00 is 03:00: half an hour after the jump."""
    mute = replace(NIGHTS, end=time(2, 30), days=frozenset(range(7)))

    assert mutes_at(mute, datetime(2026, 3, 8, 7, minutes, tzinfo=UTC)) is holds


def test_a_mute_ends_with_one_summary_each_time() -> None:
    """What it hid last night, and what of it still fires."""
    all_day_long = replace(NIGHTS, start=time(12), end=time(13), timezone="UTC", days=frozenset(range(7)))
    world = World(policy=muted(all_day_long))
    assert world.sent(world.tick(T0, saw(B))) == []
    assert world.sent(world.tick(T0 + HOUR, saw(B))) == ["silence_ended"]
    assert world.sent(world.tick(T0 + 2 * HOUR, saw(C))) == ["closed"]

    assert world.sent(world.tick(T0 + DAY, saw(B, credential="2"))) == []
    assert world.sent(world.tick(T0 + DAY + HOUR, saw(B, credential="2"))) == ["silence_ended"]


def test_ten_a_day_and_the_rest_in_the_digest() -> None:
    """Medium and low ones; the digest goes out in the first tick of the next day, and counts as told."""
    world = World(policy=limited(10))
    told = []
    for number in range(14):
        told += world.sent(world.tick(T0 + number * TICK, saw(B, credential=str(number), severity=Severity.MEDIUM)))
    assert told == ["first"] * 10

    midnight = datetime(2026, 3, 11, tzinfo=UTC)
    still = [saw(B, credential=str(number), severity=Severity.MEDIUM) for number in range(13)]
    digest = [each for each in world.tick(midnight, *still, saw(C, credential="13")) if each.channel == SLACK]
    assert [(str(each.reason or each.silent), len(each.members)) for each in digest] == [
        ("digest", 4),
        ("never_told", 1),
    ]
    assert digest[0].details["rules"] == {"sync_failures": 4}
    assert world.sent(world.tick(midnight + TICK, *still)) == []
    assert world.sent(world.tick(midnight + 2 * TICK, saw(C, credential="12"))) == ["closed"]


def test_days_that_nobody_digested_are_one_digest() -> None:
    """Airflow was down at midnight, and at the next: one message all the same."""
    world = World(policy=limited(0))
    medium = [saw(B, credential=each, severity=Severity.MEDIUM) for each in "12"]
    world.tick(T0, medium[0])
    world.tick(T0 + DAY - HOUR, *medium, held=[])

    digests = [each for each in world.tick(T0 + 3 * DAY, *medium) if each.channel == SLACK]
    assert [(str(each.reason), each.details["topics"]) for each in digests] == [
        ("digest", ["2026-03-10", "2026-03-11"])
    ]


def test_a_digest_tells_what_spent_the_budget_of_its_own_days() -> None:
    """Not that of a day of which something is kept back still, nor that of another channel."""
    longer = silence(match=Matcher(credential=frozenset({"1"})), starts_at=T0 + HOUR, ends_at=T0 + 3 * DAY)
    world = World(policy=limited(0), silences=[longer])
    old, new = (saw(B, credential=each, severity=Severity.MEDIUM) for each in "12")
    world.tick(T0, old)
    world.tick(T0 + DAY, old, new)
    spent = {
        "2026-03-10": {SLACK: {"stale_sync": 9}},
        "2026-03-11": {SLACK: {"sync_failures": 7}, "slack:#other": {"stuck_sync": 5}},
    }

    digests = [each for each in world.tick(T0 + 2 * DAY, old, new, spent_before=spent) if each.reason == "digest"]
    assert {each.channel: each.details["spent"] for each in digests} == {SLACK: {"sync_failures": 7}, MAIL: {}}
    assert [each.details["topics"] for each in digests] == [["2026-03-11"]] * 2


def test_a_storm_costs_one_message_of_the_day() -> None:
    """More than a channel gets one by one are one summary, and none of it waits for the digest."""
    world = World(policy=replace(limited(10), summary_above=20))
    opened = world.tick(T0, *(saw(B, credential=str(each), severity=Severity.MEDIUM) for each in range(25)))

    assert [(str(each.reason), len(each.members)) for each in opened if each.channel == SLACK] == [("first", 25)]
    assert world.spent_on(T0)[SLACK] == 1


def test_what_is_high_or_worse_what_escalates_and_what_closes_costs_nothing() -> None:
    """And goes out when the day's budget is spent."""
    world = World(policy=limited(1))
    assert world.sent(world.tick(T0, saw(B, credential="1", severity=Severity.MEDIUM))) == ["first"]
    assert world.sent(world.tick(T0 + TICK, saw(B, credential="2", severity=Severity.MEDIUM))) == []
    assert world.sent(world.tick(T0 + 2 * TICK, saw(B, credential="3", severity=Severity.HIGH))) == ["first"]
    assert world.sent(world.tick(T0 + 3 * TICK, saw(B, credential="1", severity=Severity.HIGH))) == ["escalated"]
    assert world.sent(world.tick(T0 + 4 * TICK, saw(B, credential="2", severity=Severity.HIGH))) == ["unsuppressed"]
    assert world.sent(world.tick(T0 + 5 * TICK, saw(C, credential="1"))) == ["closed"]


def test_who_has_it_in_hand_is_not_reminded() -> None:
    """Escalations and the close still go; at its end the reminders go on."""
    world = World(policy=with_timers())
    world.tick(T0, saw(B))
    in_hand = Acknowledgement(by="Kim", at=T0 + TICK, reason="on it", until=T0 + 24 * HOUR)
    world.alerts = {key: replace(alert, acknowledged=in_hand) for key, alert in world.alerts.items()}

    reminded = world.tick(T0 + 12 * HOUR, saw(B))
    assert {each.silent for each in reminded} == {SilentReason.ACKNOWLEDGED}
    assert world.sent(world.tick(T0 + 13 * HOUR, saw(B, severity=Severity.CRITICAL))) == ["escalated"]
    assert world.sent(world.tick(T0 + 25 * HOUR, saw(B, severity=Severity.CRITICAL))) == ["repeat"]
    assert world.sent(world.tick(T0 + 26 * HOUR, saw(C))) == ["closed"]
    assert next(iter(world.alerts.values())).acknowledged is None


@given(
    verdicts=st.lists(st.sampled_from([B, C, Verdict.NO_DATA]), min_size=1, max_size=40),
    hours=st.lists(st.tuples(st.integers(0, 9), st.integers(1, 5)), max_size=3),
    budget=st.sampled_from([0, 1, 10, None]),
    severity=st.sampled_from([Severity.MEDIUM, Severity.HIGH]),
)
def test_suppression_that_comes_and_goes_loses_no_firing(
    verdicts: list[Verdict], hours: list[tuple[int, int]], budget: int | None, severity: Severity
) -> None:
    """When nothing keeps it back any more, what fires was told to every channel, and what was told was closed."""
    silences = [
        silence(id=uuid.UUID(int=number), starts_at=T0 + start * HOUR, ends_at=T0 + (start + length) * HOUR)
        for number, (start, length) in enumerate(hours)
    ]
    policy = limited(budget)
    world = World(policy=policy, silences=silences)
    for number, verdict in enumerate(verdicts):
        world.tick(T0 + number * TICK, saw(verdict, severity=severity))
    last = T0 + 2 * DAY
    told = world.tick(last, saw(verdicts[-1], severity=severity))
    again = world.tick(last + TICK, saw(verdicts[-1], severity=severity))

    for alert in world.alerts.values():
        if alert.state.is_open and verdicts[-1] is B and budget != 0:
            assert alert.told, told
        if not alert.state.is_open:
            assert all(each.reason == "closed" for each in alert.told.values())
    assert world.held() == [] or budget == 0
    assert world.sent(again) == []

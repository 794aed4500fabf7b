"""What a newest start that lags may mean: a zone, a source that is not up to date, or nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.sync_health.visibility import Blindness, EarlierSight, clock_blindness, silence_blindness
from tests.sync_health.frames_of import AS_OF, SECOND, runs_frame
from tests.sync_health.oracle import Row

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
QUARTER = 15 * MINUTE


def starting_every(gap: timedelta, *, quiet: timedelta, number: int = 400) -> list[Row]:
    """Runs that started in a steady rhythm, the newest so long before AS_OF."""
    return [
        Row(
            id=each,
            credential=1,
            data_type="both",
            status="completed",
            started_at=AS_OF - quiet - each * gap,
            completed_at=AS_OF - quiet - each * gap + MINUTE,
            updated_at=AS_OF,
        )
        for each in range(number)
    ]


def found(
    rows: list[Row],
    *,
    newest_before: datetime | None = None,
    before: datetime = AS_OF - QUARTER,
    silent_for: timedelta = 2 * HOUR,
) -> Blindness | None:
    """``newest_before`` is the newest start that a run saw at ``before``."""
    sight = None if newest_before is None else EarlierSight(as_of=before, newest_started_at=newest_before)
    return silence_blindness(
        runs_frame(rows),
        check="sync_failures",
        timezone="UTC",
        as_of=AS_OF,
        before=sight,
        silent_for=silent_for,
    )


@pytest.mark.parametrize(
    ("gap", "quiet", "seen_before", "cause"),
    [
        pytest.param(QUARTER, 45 * MINUTE, QUARTER, None, id="three quarters of an hour are too little to tell"),
        pytest.param(QUARTER, 45 * MINUTE + SECOND, QUARTER, "wrong_time_zone", id="more, while rows keep coming, are a zone"),
        pytest.param(QUARTER, 5 * HOUR, QUARTER, "wrong_time_zone", id="five hours late again and again"),
        pytest.param(QUARTER, 5 * HOUR, SECOND, "wrong_time_zone", id="the newest start moved on by a second"),
        pytest.param(QUARTER, 5 * HOUR, timedelta(0), "stale_source", id="it did not move: nothing comes any more"),
        pytest.param(QUARTER, 5 * HOUR, -HOUR, "stale_source", id="a newer one was seen before: its row is gone"),
        pytest.param(QUARTER, 5 * HOUR, None, "wrong_time_zone", id="nobody remembers: it may be a zone"),
        pytest.param(QUARTER, HOUR, timedelta(0), None, id="an hour of silence is the no_syncs rule's to wait for"),
        pytest.param(QUARTER, 2 * HOUR, timedelta(0), None, id="exactly two hours as well"),
        pytest.param(QUARTER, 2 * HOUR + SECOND, timedelta(0), "stale_source", id="past two hours the source is in doubt"),
        pytest.param(30 * MINUTE, 90 * MINUTE, QUARTER, None, id="three times the longest gap is not more"),
        pytest.param(HOUR, 3 * HOUR, timedelta(0), None, id="nor is it for a slow platform that is silent"),
        pytest.param(HOUR, 3 * HOUR + SECOND, timedelta(0), "stale_source", id="more is"),
        pytest.param(QUARTER, 26 * HOUR, QUARTER, "wrong_time_zone", id="as far as zones lie apart"),
        pytest.param(QUARTER, 27 * HOUR, None, "stale_source", id="farther than any zone"),
    ],
)  # fmt: skip
def test_what_a_lag_means(gap: timedelta, quiet: timedelta, seen_before: timedelta | None, cause: str | None) -> None:
    """``seen_before``: how long before the newest start lay the newest one that the last run saw."""
    newest = AS_OF - quiet
    before = None if seen_before is None else newest - seen_before
    blindness = found(starting_every(gap, quiet=quiet), newest_before=before)

    assert (blindness.cause if blindness else None) == cause


def test_rows_that_were_on_time_hours_ago_and_then_stopped_are_a_silence() -> None:
    """A monitor that was down meanwhile: the newest start moved on since, and did not lag then."""
    rows = starting_every(QUARTER, quiet=3 * HOUR)
    on_time = AS_OF - 8 * HOUR

    blindness = found(rows, newest_before=on_time - 10 * MINUTE, before=on_time)
    assert blindness is not None
    assert blindness.cause == "stale_source"
    blindness = found(rows, newest_before=on_time - 3 * HOUR, before=on_time)
    assert blindness is not None
    assert blindness.cause == "wrong_time_zone"


def test_the_policy_says_how_long_a_silence_must_last() -> None:
    """The same number as the rule's."""
    rows = starting_every(QUARTER, quiet=4 * HOUR)
    newest = AS_OF - 4 * HOUR

    assert found(rows, newest_before=newest, silent_for=4 * HOUR) is None
    assert found(rows, newest_before=newest, silent_for=4 * HOUR - SECOND) is not None


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param([], id="no row"),
        pytest.param(starting_every(HOUR, quiet=5 * HOUR, number=49), id="too few starts"),
        pytest.param(starting_every(MINUTE, quiet=5 * HOUR, number=400), id="less than a day of them"),
        pytest.param(starting_every(QUARTER, quiet=8 * DAY), id="none in the week"),
    ],
)
def test_without_a_rhythm_nothing_is_told(rows: list[Row]) -> None:
    """A platform that is being set up, or not used."""
    assert found(rows) is None


def test_words() -> None:
    """The zone's name and what else it may be; a silent source does not speak of zones."""
    rows = starting_every(QUARTER, quiet=5 * HOUR)
    zone = found(rows, newest_before=AS_OF - 6 * HOUR)
    silent = found(rows, newest_before=AS_OF - 5 * HOUR)

    assert zone is not None
    assert zone.detail == (
        "the newest sync started 5 hours ago, although rows keep coming; source.timezone is UTC: if PHP's date.timezone is "
        "another, set it; else the platform is silent, or a replica stopped following"
    )
    assert silent is not None
    assert silent.detail == (
        "no sync has started for 5 hours, longer than ever in the week before: the platform is silent, or what we read is "
        "not up to date"
    )


@given(gap=st.integers(1, 180), quiet=st.integers(0, 40 * 60), moved=st.booleans())
def test_a_platform_within_its_rhythm_is_never_in_doubt(gap: int, quiet: int, moved: bool) -> None:
    """Whatever was seen before: up to three of its gaps is no silence."""
    newest = AS_OF - quiet * MINUTE
    blindness = found(
        starting_every(gap * MINUTE, quiet=quiet * MINUTE), newest_before=newest - SECOND if moved else newest
    )

    if quiet <= 3 * gap or quiet <= 45:
        assert blindness is None
    elif blindness is not None:
        assert (blindness.cause == "wrong_time_zone") <= moved


SUMMER_ENDS = datetime(2026, 11, 1, 6, 0, tzinfo=UTC)
"""When New York's clocks go back from 02:00 to 01:00: what they show of this hour they have shown in the one before."""


@pytest.mark.parametrize(
    ("newest", "timezone", "cause"),
    [
        pytest.param(SUMMER_ENDS + HOUR / 2, "America/New_York", None, id="the hour that the clocks show twice"),
        pytest.param(SUMMER_ENDS + HOUR / 2, "UTC", "wrong_time_zone", id="no such hour in UTC"),
        pytest.param(
            SUMMER_ENDS + 3 * HOUR / 2, "America/New_York", "wrong_time_zone", id="an hour that they show but once"
        ),
    ],
)
def test_the_hour_that_clocks_show_twice_is_no_other_zone(newest: datetime, timezone: str, cause: str | None) -> None:
    """A stamp written half an hour before the change reads as one of half an hour after it."""
    found = clock_blindness(
        check="sync_failures", newest_started_at=newest, timezone=timezone, now=SUMMER_ENDS - HOUR / 2
    )

    assert (found and found.cause) == cause

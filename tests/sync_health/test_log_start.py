"""Where the source's log begins, and which days lie before it."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.sync_health.daily_quality import day_bounds
from include.sync_health.log_start import LONGEST_SILENCE, FirstRow, LogStart, log_start, other_ends, refused_days

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
BEGIN = datetime(2026, 3, 2, 12, tzinfo=UTC)
DAYS = [date(2026, 2, 28), date(2026, 3, 1), date(2026, 3, 2), date(2026, 3, 3)]


def rows(*starts: datetime) -> list[FirstRow]:
    """Return rows that took an hour."""
    return [FirstRow(started_at=start, belongs_at=start + HOUR) for start in starts]


OLD = [datetime(2001, 1, day, tzinfo=UTC) for day in (1, 2, 3)]


@pytest.mark.parametrize(
    ("starts", "at", "strays"),
    [
        pytest.param([], None, [], id="no row"),
        pytest.param([BEGIN], BEGIN, [], id="one row"),
        pytest.param([BEGIN + n * 3 * DAY for n in range(4)], BEGIN, [], id="a sync every third day: the first"),
        pytest.param([BEGIN + n * LONGEST_SILENCE for n in range(4)], BEGIN, [], id="one in thirty days: the first"),
        pytest.param([*OLD, BEGIN], BEGIN, OLD, id="three imports of 2001 before a log of 2026: the log's first"),
        pytest.param([*OLD, BEGIN, BEGIN + DAY], BEGIN, OLD, id="three imports of 2001, and the second row of the log"),
        pytest.param(
            [BEGIN - LONGEST_SILENCE - timedelta(microseconds=1), BEGIN],
            BEGIN,
            [BEGIN - LONGEST_SILENCE - timedelta(microseconds=1)],
            id="a moment further away than the longest silence is a stray",
        ),
        pytest.param(OLD, OLD[0], [], id="imports alone, as far as one can see: the oldest"),
    ],
)
def test_a_log_begins_with_the_oldest_row_that_does_not_stand_apart(
    starts: list[datetime], at: datetime | None, strays: list[datetime]
) -> None:
    """A stray is told by when it belongs to a day."""
    assert log_start(rows(*starts)) == LogStart(at=at, strays=tuple(stray + HOUR for stray in strays))


@given(gaps=st.lists(st.integers(0, 60 * 24), max_size=10))
def test_every_row_is_of_the_log_or_a_stray(gaps: list[int]) -> None:
    """Whatever lies between them, in hours."""
    starts = [BEGIN]
    for gap in gaps:
        starts.append(starts[-1] + gap * HOUR)
    found = log_start(rows(*starts))

    assert found.at is not None
    assert [*(stray - HOUR for stray in found.strays), *starts[len(found.strays) :]] == starts
    assert starts[len(found.strays)] == found.at
    assert all(newer - older <= LONGEST_SILENCE for older, newer in pairwise(starts[len(found.strays) :]))


def refused(start: LogStart, *, with_rows: list[date] | None = None, stored_in: str | None = None) -> list[int]:
    """Return the days of the month, of `DAYS` in UTC, that are refused; all are stored as days of a zone."""
    bounds = {day: day_bounds(day, timezone="UTC") for day in DAYS}
    ends = other_ends(dict.fromkeys(DAYS, stored_in), timezone="UTC")
    return [day.day for day in refused_days(bounds, start=start, with_rows=with_rows or [], other_ends=ends)]


@pytest.mark.parametrize(
    ("start", "options", "days"),
    [
        pytest.param(LogStart(at=BEGIN), {}, [28, 1], id="those that end before the log begins"),
        pytest.param(LogStart(at=datetime(2026, 3, 2, tzinfo=UTC)), {}, [28, 1], id="it begins at midnight"),
        pytest.param(LogStart(at=None), {}, [28, 1, 2, 3], id="a log without rows: all of them"),
        pytest.param(LogStart(at=BEGIN), {"with_rows": DAYS[:1]}, [1], id="not one that has rows all the same"),
        pytest.param(LogStart(at=None), {"with_rows": DAYS[:1]}, [1, 2, 3], id="of an empty log only those without"),
        pytest.param(LogStart(at=BEGIN), {"stored_in": "UTC"}, [28, 1], id="stored in the same zone"),
        pytest.param(
            LogStart(at=datetime(2026, 3, 2, 4, 59, tzinfo=UTC)),
            {"stored_in": "America/New_York"},
            [28],
            id="stored in a zone whose day ends later, in the log",
        ),
        pytest.param(
            LogStart(at=datetime(2026, 3, 2, 5, tzinfo=UTC)),
            {"stored_in": "America/New_York"},
            [28, 1],
            id="stored in a zone whose day ends as the log begins",
        ),
        pytest.param(
            LogStart(at=datetime(2026, 3, 2, tzinfo=UTC)),
            {"stored_in": "Asia/Tokyo"},
            [28, 1],
            id="stored in a zone whose day ends earlier",
        ),
        pytest.param(
            LogStart(at=datetime(2026, 3, 2, 2, tzinfo=UTC)),
            {"stored_in": "Nowhere/Else"},
            [28],
            id="stored in a zone that nobody knows: ended 26 hours before",
        ),
        pytest.param(
            LogStart(at=datetime(2026, 3, 2, 1, 59, tzinfo=UTC)),
            {"stored_in": "Nowhere/Else"},
            [],
            id="stored in a zone that nobody knows: a minute less",
        ),
    ],
)
def test_days_before_the_log_are_refused(start: LogStart, options: dict[str, Any], days: list[int]) -> None:
    assert refused(start, **options) == days


def test_a_stray_has_its_day() -> None:
    """From midnight on, and not at the next one."""
    bounds = {day: day_bounds(day, timezone="UTC") for day in DAYS}
    strays = (bounds[DAYS[0]][0], bounds[DAYS[2]][1] - timedelta(microseconds=1))

    assert LogStart(at=BEGIN, strays=strays).stray_days(bounds) == {DAYS[0], DAYS[2]}


def test_zones_of_the_same_midnights_have_the_same_days() -> None:
    """By other names, or before one of them changes its clocks; where nothing was recorded, nothing is known to differ."""
    zones = {DAYS[0]: "Etc/UTC", DAYS[1]: "Africa/Abidjan", DAYS[2]: None, DAYS[3]: "Europe/London"}
    assert other_ends(zones, timezone="UTC") == {}
    summer = date(2026, 7, 1)
    assert other_ends({summer: "Europe/London"}, timezone="UTC") == {summer: datetime(2026, 7, 1, 23, tzinfo=UTC)}

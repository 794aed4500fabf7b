"""What the newest row says of the configured time zone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from include.orchestration.findings import Status
from include.orchestration.zone_guess import LIKELY_ZONES, zone_finding

WINTER = datetime(2026, 1, 15, 12, 7, tzinfo=UTC)
SUMMER = datetime(2026, 7, 15, 12, 7, tzinfo=UTC)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)


def finding(age: timedelta | None, *, now: datetime = WINTER, timezone: str = "UTC", is_aware: bool = False):
    return zone_finding(None if age is None else now - age, now=now, timezone=timezone, is_aware=is_aware)


@pytest.mark.parametrize(
    ("age", "status"),
    [
        pytest.param(timedelta(0), Status.PASS, id="just now"),
        pytest.param(25 * MINUTE, Status.PASS, id="within the half hour"),
        pytest.param(57 * MINUTE, Status.PASS, id="almost an hour old is old, not an hour off"),
        pytest.param(58 * MINUTE, Status.WARN, id="an hour less the clocks' difference"),
        pytest.param(HOUR, Status.WARN, id="exactly an hour"),
        pytest.param(90 * MINUTE, Status.WARN, id="an hour and the freshest half hour"),
        pytest.param(91 * MINUTE, Status.PASS, id="past the half hour it is only old"),
        pytest.param(5 * HOUR + 15 * MINUTE, Status.WARN, id="five hours and a quarter"),
        pytest.param(14 * HOUR, Status.WARN, id="as far apart as two zones are"),
        pytest.param(15 * HOUR, Status.PASS, id="farther than any two zones"),
        pytest.param(-MINUTE, Status.PASS, id="clocks that differ by a minute"),
        pytest.param(-20 * MINUTE, Status.WARN, id="ahead by minutes: a clock"),
        pytest.param(-4 * HOUR + 10 * MINUTE, Status.WARN, id="ahead by hours: a zone"),
        pytest.param(None, Status.WARN, id="no row to compare with"),
    ],
)
def test_a_whole_number_of_hours_is_suspicious(age: timedelta | None, status: Status) -> None:
    assert finding(age).status is status


@pytest.mark.parametrize(
    ("now", "timezone", "age", "zone"),
    [
        pytest.param(WINTER, "UTC", 5 * HOUR, "America/New_York", id="New York in winter"),
        pytest.param(SUMMER, "UTC", 4 * HOUR, "America/New_York", id="New York in summer"),
        pytest.param(SUMMER, "UTC", 7 * HOUR, "America/Phoenix", id="Phoenix keeps no summer time"),
        pytest.param(WINTER, "America/New_York", -5 * HOUR, "UTC", id="UTC read as New York"),
        pytest.param(WINTER, "America/New_York", HOUR, "America/Chicago", id="Chicago read as New York"),
    ],
)
def test_the_zone_that_would_explain_it_is_named(now: datetime, timezone: str, age: timedelta, zone: str) -> None:
    answer = finding(age + 3 * MINUTE, now=now, timezone=timezone)

    assert answer.status is Status.WARN
    assert zone in answer.detail
    assert "date.timezone" in answer.fix


@pytest.mark.parametrize("age", [5 * HOUR, 15 * MINUTE])
def test_a_column_with_a_zone_of_its_own_cannot_be_read_wrongly(age: timedelta) -> None:
    assert finding(age, is_aware=True).status is Status.PASS
    assert finding(-age, is_aware=True).status is Status.WARN


@given(
    writer=st.sampled_from(LIKELY_ZONES),
    reader=st.sampled_from(LIKELY_ZONES),
    minutes=st.integers(0, 29),
    hour=st.integers(0, 365 * 24),
)
def test_a_row_written_in_one_zone_and_read_in_another_is_noticed(
    writer: str, reader: str, minutes: int, hour: int
) -> None:
    """As PHP writes and we read: wall time of one zone taken for that of another; unless the two agree at the time."""
    now = datetime(2026, 1, 1, tzinfo=UTC) + hour * HOUR
    true = now - minutes * MINUTE
    wall = true.astimezone(ZoneInfo(writer)).replace(tzinfo=None)
    offset = now.astimezone(ZoneInfo(reader)).utcoffset()
    assert offset is not None
    # A clock change within the last half hour moves the wall time itself, and is not meant here.
    assume(true.astimezone(ZoneInfo(writer)).utcoffset() == now.astimezone(ZoneInfo(writer)).utcoffset())
    as_read = (wall - offset).replace(tzinfo=UTC)

    answer = zone_finding(as_read, now=now, timezone=reader, is_aware=False)

    apart = abs(now - as_read - minutes * MINUTE)
    within_reach = apart != timedelta(0) and abs(now - as_read) <= 14 * HOUR
    assert (answer.status is Status.WARN) is (within_reach or as_read > now)

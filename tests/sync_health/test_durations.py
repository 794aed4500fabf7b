"""Durations in people's words and in the policy file's."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.sync_health.durations import ALLOWED, describe, format_duration, parse_duration


@pytest.mark.parametrize(
    ("duration", "words"),
    [
        pytest.param(
            timedelta(days=3, hours=4, minutes=59), "3 days 4 hours", id="the two largest units, rest cut off"
        ),
        pytest.param(timedelta(hours=1), "1 hour", id="a second unit of zero is left out"),
        pytest.param(timedelta(days=1, hours=1), "1 day 1 hour", id="one of each is singular"),
        pytest.param(timedelta(seconds=45), "45 seconds", id="seconds alone"),
        pytest.param(timedelta(0), "0 seconds", id="nothing"),
        pytest.param(timedelta(milliseconds=999), "0 seconds", id="less than a second"),
        pytest.param(timedelta(minutes=59, seconds=59.9), "59 minutes 59 seconds", id="never rounded up"),
        pytest.param(timedelta(days=3, minutes=12), "3 days", id="days are not followed by minutes"),
        pytest.param(timedelta(days=400), "400 days", id="days are the largest unit"),
        pytest.param(-timedelta(hours=2, minutes=5), "minus 2 hours 5 minutes", id="negative says minus"),
        pytest.param(-timedelta(milliseconds=1), "0 seconds", id="a hair below zero is zero"),
    ],
)
def test_describe_says_the_two_largest_units(duration: timedelta, words: str) -> None:
    """An age is never overstated."""
    assert describe(duration) == words


@given(st.timedeltas())
def test_a_described_duration_has_at_most_two_units(duration: timedelta) -> None:
    """Whatever the duration, the words stay short."""
    words = describe(duration).removeprefix("minus ").split(" ")

    assert len(words) in (2, 4)
    assert all(count.isdecimal() for count in words[::2])


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        pytest.param("45s", timedelta(seconds=45), id="seconds"),
        pytest.param("30m", timedelta(minutes=30), id="minutes"),
        pytest.param("6h", timedelta(hours=6), id="hours"),
        pytest.param("7d", timedelta(days=7), id="days"),
        pytest.param("0m", timedelta(0), id="zero"),
        pytest.param("90m", timedelta(hours=1, minutes=30), id="more than the next unit"),
    ],
)
def test_durations_of_the_policy_file_are_read(text: str, duration: timedelta) -> None:
    """One number, one unit."""
    assert parse_duration(text) == duration


@pytest.mark.parametrize(
    "text", ["", "6", "h", "6 h", "-6h", "+6h", "1.5h", "6H", "6w", "1h30m", "٣h", "6h\n", "9" * 99 + "d"]
)
def test_anything_else_is_refused_with_what_is_allowed(text: str) -> None:
    """The error tells what to write instead."""
    with pytest.raises(ValueError, match="30m") as caught:
        parse_duration(text)

    assert ALLOWED in str(caught.value)


def test_a_number_without_a_unit_from_yaml_is_refused() -> None:
    """YAML reads ``window: 60`` as an integer."""
    with pytest.raises(ValueError, match="60 is not a duration"):
        parse_duration(60)


@pytest.mark.parametrize(
    ("duration", "text"),
    [
        pytest.param(timedelta(hours=6), "6h", id="hours"),
        pytest.param(timedelta(days=1), "1d", id="24 hours are a day"),
        pytest.param(timedelta(minutes=90), "90m", id="the largest unit that holds it exactly"),
        pytest.param(timedelta(0), "0s", id="zero"),
    ],
)
def test_format_writes_the_largest_exact_unit(duration: timedelta, text: str) -> None:
    """As a person would write it in the file."""
    assert format_duration(duration) == text


@pytest.mark.parametrize("duration", [-timedelta(seconds=1), timedelta(milliseconds=1)])
def test_what_the_file_cannot_hold_is_not_written(duration: timedelta) -> None:
    """Neither negative durations nor fractions of a second."""
    with pytest.raises(ValueError, match="cannot be written"):
        format_duration(duration)


@given(st.integers(min_value=0, max_value=10**9))
def test_reading_what_was_written_gives_the_duration_back(seconds: int) -> None:
    """`format_duration` and `parse_duration` are inverse."""
    duration = timedelta(seconds=seconds)

    assert parse_duration(format_duration(duration)) == duration

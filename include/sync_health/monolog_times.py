"""
Times as Monolog 1 to 3 write them, as microseconds since 1970 in UTC.

Monolog 2 and 3: a text such as ``2026-03-01T08:00:00.123456+01:00``, without microseconds where they are off. Monolog 1:
a PHP DateTime ``{date, timezone_type, timezone}``. The first is read as columns of digits, many at once; the others,
and whatever an own date format makes of it, one by one.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from include.sync_health.monolog_lines import Moment

NO_TIME = np.iinfo(np.int64).min
"""Stands where a time is missing or none."""

FIRST_YEAR, LAST_YEAR = 2000, 2199
"""A time outside of these years is taken for none."""

MINUTE, HOUR, DAY = 60_000_000, 3_600_000_000, 86_400_000_000
"""Microseconds."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TIME_WIDTH = len("2026-03-01T08:00:00.123456+01:00")
_MARKS = ((4, b"-"), (7, b"-"), (10, b"T"), (13, b":"), (16, b":"), (19, b"."))
_PAIRS = ((11, 23), (14, 59), (17, 59), (20, 99), (22, 99), (24, 99))
"""Where two digits stand together, hours to hundredths of milliseconds, and the highest number that they may be."""


def microseconds_of(texts: bytes) -> NDArray[np.int64]:
    """
    Return times of the usual shape in microseconds since 1970, `NO_TIME` where one has another shape or is none.

    Args:
        texts: one after the other, `TIME_WIDTH` bytes each.
    """
    return _columns(np.frombuffer(texts, dtype=np.uint8).reshape(-1, TIME_WIDTH))


def instant_of(value: str | Moment | None, *, zone: tzinfo) -> int:
    """
    Return one time in microseconds since 1970, `NO_TIME` if it is none.

    Args:
        value: as it stands in the line.
        zone: of a text that names none.
    """
    text, named = (value.date, value.timezone) if isinstance(value, Moment) else (value, None)
    if not text:
        return NO_TIME
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        return NO_TIME
    if moment.tzinfo is None:
        given = _zone(named) if isinstance(value, Moment) else zone
        if given is None:
            return NO_TIME
        moment = moment.replace(tzinfo=given)
    if not FIRST_YEAR <= moment.year <= LAST_YEAR:
        return NO_TIME
    return (moment - _EPOCH) // timedelta(microseconds=1)


@lru_cache(maxsize=256)
def _zone(name: str | None) -> tzinfo | None:
    """Return the zone of a PHP DateTime: an offset, an abbreviation or a name; None if there is none of that name."""
    if not name:
        return None
    try:
        return datetime.fromisoformat(f"2000-01-01T00:00:00{name}").tzinfo or ZoneInfo(name)
    except ValueError:
        pass
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, KeyError):  # a name that is none may be a folder, or leave it
        return None


def _columns(texts: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return the times of texts of `TIME_WIDTH` characters, `NO_TIME` for every other shape."""
    columns = np.ascontiguousarray(texts.T)  # the first characters of all times, then the second ones
    is_time = np.ones(len(texts), dtype=bool)
    for place, mark in _MARKS:
        is_time &= columns[place] == mark[0]
    numbers = []
    for place, highest in _PAIRS:
        tens, ones = columns[place : place + 2] - np.uint8(ord("0"))  # below "0" it wraps to a large number
        is_time &= (tens <= 9) & (ones <= 9)
        number = tens * np.uint8(10) + ones
        is_time &= number <= highest
        numbers.append(number.astype(np.int32))
    hours, minutes, seconds, *fractions = numbers
    whole = (hours * 60 + minutes) * 60 + seconds
    found = whole.astype(np.int64) * 1_000_000 + ((fractions[0] * 100 + fractions[1]) * 100 + fractions[2])
    found += _looked_up(columns[:10], is_time, _day) - _looked_up(columns[26:], is_time, _offset)
    return np.where(is_time, found, np.int64(NO_TIME))


def _looked_up(
    columns: NDArray[np.uint8], is_time: NDArray[np.bool_], meaning: Callable[[str], int | None]
) -> NDArray[np.int64]:
    """Return what each text means, looking at each different one once; where it means nothing, it is no time."""
    width, size = columns.shape
    if not size:
        return np.zeros(0, np.int64)
    is_one = all((column == column[0]).all() for column in columns)  # as most often: it is one day
    keys = np.ascontiguousarray(columns[:, :1].T if is_one else columns.T).view(f"S{width}").ravel()
    different, codes = (keys, np.zeros(size, dtype=np.int64)) if is_one else np.unique(keys, return_inverse=True)
    # NumPy drops the NULs at the end of a text, so a shorter one is none.
    meant = [meaning(key.decode("ascii")) if len(key) == width else None for key in different.tolist()]
    is_time &= np.array([value is not None for value in meant])[codes]
    return np.array([value or 0 for value in meant], dtype=np.int64)[codes]


@lru_cache(maxsize=4_096)
def _day(text: str) -> int | None:
    try:
        day = datetime.fromisoformat(f"{text}T00:00:00+00:00")
    except ValueError:
        return None
    return (day - _EPOCH) // timedelta(microseconds=1) if FIRST_YEAR <= day.year <= LAST_YEAR else None


@lru_cache(maxsize=256)
def _offset(text: str) -> int | None:
    try:
        offset = datetime.fromisoformat(f"2000-01-01T00:00:00{text}").utcoffset()
    except ValueError:
        return None
    return None if offset is None else offset // timedelta(microseconds=1)

"""
Durations as people read them ("3 days 4 hours") and as the policy file writes them ("6h").

Units are fixed lengths: a day is 24 hours. Nothing here knows a calendar or a time zone.
"""

from __future__ import annotations

import re
from datetime import timedelta

_UNITS = (("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1))
_SUFFIXES = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
_DURATION = re.compile(r"([0-9]{1,14})([dhms])")

ALLOWED = "write a whole number and a unit, such as 45s, 30m, 6h or 7d"
"""What a duration in the policy file may look like, in words."""


def describe(duration: timedelta) -> str:
    """
    Return the duration in its two largest units: "3 days 4 hours", "1 hour", "45 seconds", "0 seconds".

    The second unit is the one right below the first, and is left out at zero ("3 days", not "3 days 12 minutes").
    What is smaller is cut off, never rounded up: an age is not overstated. A negative duration is
    described by its size after the word "minus"; one of less than a second is "0 seconds".
    """
    seconds = abs(duration) // timedelta(seconds=1)
    counts: list[tuple[int, str]] = []
    for name, size in _UNITS:
        count, seconds = divmod(seconds, size)
        counts.append((count, name))
    first = next((place for place, (count, _) in enumerate(counts) if count), len(counts) - 1)
    words = [_counted(*counts[first])]
    words += [_counted(count, name) for count, name in counts[first + 1 : first + 2] if count]
    is_negative = duration < timedelta(0) and counts[first][0] > 0
    return ("minus " if is_negative else "") + " ".join(words)


def parse_duration(text: object) -> timedelta:
    """
    Return the duration that the policy file means by "45s", "30m", "6h" or "7d"; "0m" is zero.

    Raises:
        ValueError: anything else (other units, fractions, signs, spaces, no text at all); says what is allowed.
    """
    match = _DURATION.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        shown = repr(text)
        raise ValueError(f"{shown if len(shown) <= 60 else shown[:59] + '…'} is not a duration; {ALLOWED}")
    try:
        return timedelta(seconds=int(match[1]) * _SUFFIXES[match[2]])
    except OverflowError:
        raise ValueError(f"{text!r} is longer than a duration can be; {ALLOWED}") from None


def format_duration(duration: timedelta) -> str:
    """
    Return the duration as the policy file writes it, in the largest unit that holds it exactly: "6h", "90m", "0s".

    Raises:
        ValueError: a negative duration, or one with a fraction of a second.
    """
    seconds, rest = divmod(duration, timedelta(seconds=1))
    if rest or seconds < 0:
        raise ValueError(f"{duration!r} cannot be written in the policy file; {ALLOWED}")
    if not seconds:
        return "0s"
    suffix, size = next((suffix, size) for suffix, size in _SUFFIXES.items() if seconds % size == 0)
    return f"{seconds // size}{suffix}"


def _counted(count: int, name: str) -> str:
    return f"{count} {name}" if count == 1 else f"{count} {name}s"

"""
Which days a backfill takes, in which order, and what is left of them: calendars and people's words only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum

from include.sync_health.errors import RequestError

DAY = timedelta(days=1)

FIRST_POSSIBLE = date(2000, 1, 1)
"""As for every instant that a person gives; no log of syncs is older."""

_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


class Which(StrEnum):
    """Which days of a range are restated."""

    ALL = "all"
    MISSING = "missing"  # not stored as final, by the definitions of now


@dataclass(frozen=True, slots=True, kw_only=True)
class Month:
    """Days of one calendar month, from ``first`` to ``last``, both included."""

    first: date
    last: date

    @property
    def label(self) -> str:
        """Such as ``2026-01``."""
        return f"{self.first:%Y-%m}"

    def days(self) -> list[date]:
        """Return the days, oldest first."""
        return [self.first + number * DAY for number in range((self.last - self.first).days + 1)]


def months_between(first: date, last: date) -> tuple[Month, ...]:
    """Return the months that have a day from ``first`` to ``last``, both included, oldest first; cut to these."""
    months, at = [], first
    while at <= last:
        following = (at.replace(day=1) + timedelta(days=32)).replace(day=1)
        months.append(Month(first=at, last=min(last, following - DAY)))
        at = following
    return tuple(months)


def days_asked_for(
    first: str | None, last: str | None, *, timezone: str, now: datetime, names: tuple[str, str] = ("from", "to")
) -> tuple[date, date]:
    """
    Return the first and the last day that a person asked for.

    Args:
        first, last: as ``YYYY-MM-DD``, in the reporting time zone; without ``last``, yesterday.
        timezone: the reporting time zone, an IANA name.
        now: the wall clock, aware.
        names: what the two are called where the person wrote them.

    Raises:
        RequestError: one is missing or no date, or lies in the future or before all history, or they are in the wrong
            order.
    """
    from include.sync_health.daily_quality import local_day

    today = local_day(now, timezone=timezone)
    if first is None:
        raise RequestError(f"{names[0]}: the first day is missing; give one, such as {today.replace(day=1)}")
    found = _past_day(first, name=names[0], today=today)
    until = today - DAY if last is None else _past_day(last, name=names[1], today=today)
    if found > until:
        told = f"{until} (yesterday, where none is given)" if last is None else f"{until}"
        raise RequestError(f"{names[1]}: {told} lies before {names[0]}, {found}; exchange them or choose a later day")
    return found, until


def which_of(word: str | None) -> Which:
    """
    Return which days are meant; without a word, all.

    Raises:
        RequestError: it is no such word.
    """
    try:
        return Which(word or Which.ALL)
    except ValueError:
        raise RequestError(f"days: {word!r} is not known; choose one of {', '.join(Which)}") from None


def in_batches(days: Sequence[date], *, newest_first: bool) -> list[list[date]]:
    """
    Return days as batches for `restate_range`: as one, which reads each key once, or by month, the newest first.

    Args:
        days: oldest first.
        newest_first: what people look at first comes first; each month costs a search and reads a little twice.
    """
    if not newest_first:
        return [list(days)] if days else []
    months: dict[tuple[int, int], list[date]] = {}
    for day in days:
        months.setdefault((day.year, day.month), []).append(day)
    return list(reversed(months.values()))


def undone_days(batches: Sequence[Sequence[date]], *, done: int) -> Iterator[date]:
    """Yield the days of `restate_range`'s batches that are not done yet, of which ``done`` are."""
    for batch in batches:
        yield from sorted(batch)[done:]
        done = max(0, done - len(batch))


def day_of(text: str, *, name: str, example: date = FIRST_POSSIBLE) -> date:
    """
    Return the day that a person wrote as ``YYYY-MM-DD``, in whichever time zone days are meant.

    Args:
        text: as it was written.
        name: what it is called where the person wrote it.
        example: a day to show how one is written.

    Raises:
        RequestError: it is no date or another form of one, or lies before all history.
    """
    wanted = text.strip()
    try:
        if not _DATE.fullmatch(wanted):
            raise ValueError
        found = date.fromisoformat(wanted)
    except ValueError:
        raise RequestError(f"{name}: {text[:40]!r} is no date; write it as YYYY-MM-DD, such as {example}") from None
    if found < FIRST_POSSIBLE:
        raise RequestError(f"{name}: {found} lies before all history; choose a day from {FIRST_POSSIBLE} on")
    return found


def _past_day(text: str, *, name: str, today: date) -> date:
    found = day_of(text, name=name, example=today)
    if found > today:
        raise RequestError(f"{name}: {found} lies in the future; today is {today}")
    return found

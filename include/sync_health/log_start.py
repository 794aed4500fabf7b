"""
How far the source's log goes back, and which days lie before it: they are refused, since it cannot say anything of them.

Pure. `daily_quality` is imported where it is needed: it brings pandas with it, which most of this needs not.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import pairwise
from types import MappingProxyType

from include.sync_health.zones import known_zones

LONGEST_SILENCE = timedelta(days=30)
"""A log in use has no longer gap between its first rows: a row that stands further away was imported with an old date."""

ZONES_APART = timedelta(hours=26)
"""Two time zones differ by no more, from -12:00 to +14:00: a day of one name ends by so much earlier or later."""

NO_DAYS: Mapping[date, datetime] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstRow:
    """One of the oldest rows of the log: when it started, and the instant by which it belongs to a day (aware)."""

    started_at: datetime
    belongs_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class LogStart:
    """
    Where the log begins.

    Args:
        at: when its oldest row started, strays aside; None: it has no row with a plausible start.
        strays: when the rows that stand further away belong to a day; oldest first.
    """

    at: datetime | None
    strays: tuple[datetime, ...] = ()

    def stray_days(self, bounds: Mapping[date, tuple[datetime, datetime]]) -> set[date]:
        """Return those of some days, given with their instants ``[from, to)``, that a stray row belongs to."""
        return {day for day, (start, end) in bounds.items() if any(start <= stray < end for stray in self.strays)}


def log_start(oldest: Sequence[FirstRow]) -> LogStart:
    """
    Return where a log begins whose oldest rows are these, by ``started_at``: up to a share of it that strays stay below.

    The last of them belongs to the log; so does each older one as long as it stands no further than `LONGEST_SILENCE`
    from the next.
    """
    if not oldest:
        return LogStart(at=None)
    first = len(oldest) - 1
    for older, newer in reversed(list(pairwise(oldest))):
        if newer.started_at - older.started_at > LONGEST_SILENCE:
            break
        first -= 1
    return LogStart(at=oldest[first].started_at, strays=tuple(sorted(row.belongs_at for row in oldest[:first])))


def other_ends(zones: Mapping[date, str | None], *, timezone: str) -> dict[date, datetime]:
    """
    Return those of some stored days that are other days by now, with the instant at which they ended.

    Args:
        zones: the reporting time zone that each was computed in; None: not recorded, and taken for the one of now. Of one
            that this machine does not know, the day may have ended as late as anywhere.
        timezone: the reporting time zone of now. Zones that have the same midnights on a day have the same day.
    """
    from include.sync_health.daily_quality import day_bounds

    ends = {}
    for day, zone in zones.items():
        if zone is None or zone == timezone:
            continue
        now = day_bounds(day, timezone=timezone)
        if zone not in known_zones():
            ends[day] = now[1] + ZONES_APART
        elif (then := day_bounds(day, timezone=zone)) != now:
            ends[day] = then[1]
    return ends


def refused_days(
    bounds: Mapping[date, tuple[datetime, datetime]],
    *,
    start: LogStart,
    with_rows: Collection[date],
    other_ends: Mapping[date, datetime] = NO_DAYS,
) -> tuple[date, ...]:
    """
    Return those of some days of which the source can say nothing: what is stored of them has to stay.

    Args:
        bounds: the days and their instants ``[from, to)``; aware.
        start: of the log; where it has none, all days without rows are refused.
        with_rows: days that have rows all the same, such as `LogStart.stray_days`.
        other_ends: days that are stored as another reporting time zone had them, with their ends there. As long as such a
            day reaches into the log, its rows count on its neighbours too by now, and it has to be computed.

    Returns:
        Days that end before the log begins, in the order given.
    """
    if start.at is None:
        return tuple(day for day in bounds if day not in with_rows)
    return tuple(
        day
        for day, (_, end) in bounds.items()
        if day not in with_rows and max(end, other_ends.get(day, end)) <= start.at
    )

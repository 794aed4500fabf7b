"""
Times of the source: columns with a zone, and naive ones that PHP wrote in its own zone.

Two ways to compare, for two purposes:

- exact: `instant` gives SQL for the instant a column means, by PostgreSQL's own AT TIME ZONE reading (of the two
  readings of an ambiguous hour in autumn it takes standard time, always). Results are judged by instants only.
- wide: `raw_bound` gives a value to compare the bare column with, so that an index can serve and no row pays for
  a conversion. It errs on the side of too many rows by `CLOCK_CHANGE`.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

from psycopg import sql

from include.sync_health.errors import RequestError, SourceError
from include.sync_health.zones import known_zones

CLOCK_CHANGE = timedelta(hours=3)
"""By how much wall-clock order may differ from the order of instants: more than any zone's clock change since 1970."""

SANE_FROM, SANE_UNTIL = "1900-01-01", "2200-01-01"
"""Stamps outside, infinity among them, are no times: neither Python nor pandas can hold all that PostgreSQL can."""

UTC_NAMES = frozenset({"UTC", "Etc/UTC", "Etc/UCT", "UCT", "Zulu", "Etc/Zulu", "Universal", "Etc/Universal"})


def checked_zone(name: str) -> str:
    """
    Return ``name`` when it is an IANA time zone.

    Raises:
        SourceError: ``wrong_time_zone``. PostgreSQL would take any string for a POSIX zone without a word.
    """
    if name not in known_zones():
        raise SourceError(
            f"source.timezone {name!r} is no IANA time zone; write PHP's date.timezone, such as America/New_York",
            cause="wrong_time_zone",
        )
    return name


def is_bare(*, is_aware: bool, zone: str) -> bool:
    """Return whether a column holds instants as they are: it knows its zone, or is naive in UTC."""
    return is_aware or zone in UTC_NAMES


def instant(column: str, *, is_aware: bool, zone: str) -> sql.Composable:
    """
    Return SQL for the instant that a column means; its statement takes the parameter ``zone``.

    A naive column in UTC is returned bare: both types store the same microseconds, and the session is in UTC.
    """
    name = sql.Identifier(column)
    if is_bare(is_aware=is_aware, zone=zone):
        return name
    return sql.SQL("({} AT TIME ZONE %(zone)s::text)").format(name)


def raw_bound(at: datetime, *, is_aware: bool, zone: str, towards: Literal["past", "future"]) -> datetime:
    """
    Return what to compare a bare column with: ``at`` itself, or its wall-clock time moved by `CLOCK_CHANGE`.

    Every row that means an instant later than ``at`` has a value later than the bound ``towards`` the past,
    and every row that means an earlier one a value earlier than the bound towards the future.
    """
    if is_aware:
        return at.astimezone(UTC)
    if zone in UTC_NAMES:
        return at.astimezone(UTC).replace(tzinfo=None)
    wall = at.astimezone(ZoneInfo(zone)).replace(tzinfo=None)
    return wall - CLOCK_CHANGE if towards == "past" else wall + CLOCK_CHANGE


def require_aware(**times: datetime) -> None:
    """
    Refuse a time without a zone.

    Raises:
        RequestError: it names the argument.
    """
    for name, value in times.items():
        if value.tzinfo is None:
            raise RequestError(f"{name} {value.isoformat()} has no time zone; give one, such as +00:00")

"""
Does the newest row of the source say that its time zone is configured wrongly?

A column without a zone, written in one zone and read in another, is off by the difference of their offsets: by whole
hours. A platform that really is silent looks the same from a lag alone, so the answer is a suspicion, with the
zones that would explain it.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from include.orchestration.findings import Finding, passed, warned
from include.sync_health.durations import describe

STEP = timedelta(hours=1)  # zones where this platform could run differ by whole hours
FRESH = timedelta(minutes=30)  # how old the newest row may be anyway, beyond the whole hours
CLOCKS = timedelta(minutes=2)  # by how much two machines' clocks may differ
FURTHEST = timedelta(hours=14)  # two usual zones differ by no more
LIKELY_ZONES = (  # where the platform's servers and people are, then the rest of ServiceTitan's market
    "UTC",
    "America/New_York",
    "America/Chicago",
    "America/Denver",
    "America/Phoenix",
    "America/Los_Angeles",
    "America/Anchorage",
    "Pacific/Honolulu",
    "America/Halifax",
    "Europe/London",
    "Europe/Berlin",
    "Australia/Sydney",
    "Australia/Perth",
)


def zone_finding(newest: datetime | None, *, now: datetime, timezone: str, is_aware: bool) -> Finding:
    """
    Return what the age of the newest row says of ``source.timezone``.

    Args:
        newest: the newest ``started_at`` as it is read now, aware; None: no row.
        now: the wall clock, aware.
        timezone: ``source.timezone``.
        is_aware: the column has a zone of its own, so that the setting cannot be wrong.
    """
    name = "source.timezone"
    if newest is None:
        return warned(
            name,
            "there is no recent sync to compare the clock with",
            fix="make sure that syncs run, and that source.timezone is PHP's date.timezone",
        )
    age = now - newest
    away = f"the newest sync started {describe(abs(age))} {'ago' if age >= timedelta(0) else 'in the future'}"
    if is_aware:
        if age < -CLOCKS:
            return warned(name, away, fix="check the clocks of the Hub Plus servers and of this machine")
        return passed(name, f"{away}; started_at has a zone of its own")
    hours = _whole_hours(age)
    if not hours or abs(age) > FURTHEST or age - hours > FRESH:
        if age < -CLOCKS:
            return warned(name, away, fix="check the clocks, and that source.timezone is PHP's date.timezone")
        return passed(name, f"{away}, read as {timezone}")
    zones = likely_zones(age, now=now, timezone=timezone)
    meant = f"; {' or '.join(zones)} would explain it" if zones else ""
    return warned(
        name,
        f"{away}, read as {timezone}: about a whole number of hours{meant}",
        fix="unless no sync ran since, set source.timezone to PHP's date.timezone on the Hub Plus servers",
    )


def likely_zones(age: timedelta, *, now: datetime, timezone: str) -> tuple[str, ...]:
    """
    Return up to three zones in which a row of that age would have been written just now.

    A row written now in another zone and read in ``timezone`` seems old by ``offset(timezone) - offset(writer)``.
    """
    read_offset = now.astimezone(ZoneInfo(timezone)).utcoffset() or timedelta(0)
    written_offset = read_offset - _whole_hours(age)
    others = (zone for zone in LIKELY_ZONES if zone != timezone)
    return tuple(zone for zone in others if now.astimezone(ZoneInfo(zone)).utcoffset() == written_offset)[:3]


def _whole_hours(age: timedelta) -> timedelta:
    """Return the whole hours at or below the age, since the newest row is a little older than they alone make it."""
    return (age + CLOCKS) // STEP * STEP

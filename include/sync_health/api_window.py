"""The whole hours of API calls that the API rules judge, and which source has told them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any

import pandas as pd

from include.sync_health.api_calls import STORED_HOUR_COLUMNS
from include.sync_health.failures import utc_words
from include.sync_health.frames import require_columns

NOBODY_TELLS = "no source of API calls has been read since these hours settled"

SETTLED_AFTER = timedelta(minutes=15)
"""
When an hour that is over has all its calls: so long a request in a log waits for its answer before it counts
(`log_calls.OPEN_FOR`), while errors count at once. Judged earlier, the share of errors would be too large.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceState:
    """What is known of one source of API calls: its status, whether it tells times, and when it was looked at (aware)."""

    status: str
    has_timings: bool
    looked_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiWindow:
    """
    What the API rules judge.

    Args:
        hours: `STORED_HOUR_COLUMNS`, in any order; at least those of the rules' windows.
        sources: by name; those that nobody ever looked for are left out.
    """

    hours: pd.DataFrame
    sources: Mapping[str, SourceState] = field(default_factory=lambda: MappingProxyType({}))

    def __post_init__(self) -> None:
        """Refuse a frame without its columns."""
        require_columns(self.hours, STORED_HOUR_COLUMNS, name="hours of API calls")

    def statuses(self, *, until: datetime) -> dict[str, str]:
        """Return the sources' statuses; one last looked at before the hours to ``until`` had settled has not told them."""
        settled = until + SETTLED_AFTER
        return {
            name: each.status if each.looked_at >= settled else "unavailable" for name, each in self.sources.items()
        }

    def of(self, source: str, *, first: datetime, until: datetime) -> pd.DataFrame:
        """Return a source's rows of the hours in ``[first, until)``."""
        hours = self.hours
        return hours[(hours["source"] == source) & (hours["hour"] >= first) & (hours["hour"] < until)]


def judged_hours(as_of: datetime, *, window: timedelta) -> tuple[datetime, datetime]:
    """
    Return the last whole UTC hours that had settled at ``as_of``: the beginning of the first, and the end of the last.

    Raises:
        ValueError: ``as_of`` is naive.
    """
    if as_of.tzinfo is None:
        raise ValueError("as_of must be timezone-aware")
    until = (as_of.astimezone(UTC) - SETTLED_AFTER).replace(minute=0, second=0, microsecond=0)
    return until - window, until


def counted_until(until: datetime, *, window: timedelta, source: str | None) -> dict[str, Any]:
    """Return the evidence that all API rules share: which hours were counted, and who told them."""
    return {
        "window_seconds": int(window.total_seconds()),
        "counted_until_at": until.isoformat(),
        "told_by": source,
    }


def hours_words(window: timedelta, *, until: datetime) -> str:
    """Return the judged hours as reasons say them: "the hour before 2026-03-01 12:00 UTC"."""
    hours = int(window.total_seconds() // 3600)
    return f"the {'hour' if hours == 1 else f'{hours} hours'} before {utc_words(until)}"

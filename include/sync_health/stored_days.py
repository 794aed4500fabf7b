"""
What the trend rules compare with: our own daily aggregates of the same weekday, some weeks back.

A rule that compares with the past never asks the source for it: what was stored is what people were shown.
`daily_quality` is imported where it is needed: it brings the reading of error details with it, which no check needs.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from include.sync_health.frames import require_columns
from include.sync_health.rule_policies import RuleMode, RulePolicies

DAY, WEEK, INSTANT = timedelta(days=1), timedelta(days=7), timedelta(microseconds=1)

STORED_COLUMNS = (
    "day",  # datetime64[s], without a zone: the calendar day of the reporting time zone
    "credential_id",  # category of str
    "data_type",  # category of str
    "is_final",  # bool
    "is_vanished",  # bool: its syncs are gone from the source, the last known numbers are kept
    "syncs_completed",  # int64
    "records_processed",  # int64: of completed and failed syncs
    "quality_score",  # float64, percent, as it was stored; NaN where there is none
)
"""One row per day, credential and data type; any dtype that these can be made of will do."""

WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
"""As messages say them, whatever the machine's locale."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DayRead:
    """When the source began to be read for a stored day (aware), and in which reporting zone; None: not recorded."""

    read_at: datetime
    timezone: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredDays:
    """
    The stored days that a run's trend rules look at; see `days_needed`.

    Args:
        rows: `STORED_COLUMNS`, in any order; a day, credential and data type at most once.
        computed: the ledger: which days were ever computed.
    """

    rows: pd.DataFrame
    computed: Mapping[date, DayRead] = field(default_factory=lambda: MappingProxyType({}))

    def __post_init__(self) -> None:
        """Refuse a frame without its columns."""
        require_columns(self.rows, STORED_COLUMNS, name="stored days")

    def computed_whole(self, day: date, *, timezone: str) -> bool:
        """Return whether a day was read in this zone after it had ended."""
        from include.sync_health.daily_quality import day_bounds

        known = self.computed.get(day)
        if known is None or known.timezone not in (None, timezone):
            return False
        return known.read_at >= day_bounds(day, timezone=timezone)[1]


def judged_day(as_of: datetime, *, timezone: str) -> date:
    """Return the last day that was over before the day of ``as_of`` began; not one that the zone's calendar skipped."""
    from include.sync_health.daily_quality import day_bounds, local_day

    day = local_day(as_of, timezone=timezone) - DAY
    start, end = day_bounds(day, timezone=timezone)
    return day if start < end else day - DAY


def days_touched(window: timedelta, *, as_of: datetime, timezone: str) -> tuple[date, ...]:
    """Return the days that (as_of - window, as_of] touches, oldest first; not the one that begins with ``as_of``."""
    from include.sync_health.daily_quality import local_day

    first = local_day(as_of - window, timezone=timezone)
    last = local_day(as_of - INSTANT, timezone=timezone)
    return tuple(first + number * DAY for number in range((last - first).days + 1))


def weeks_before(day: date, *, weeks: int) -> tuple[date, ...]:
    """Return the same weekday of the ``weeks`` weeks before, the newest first."""
    return tuple(day - number * WEEK for number in range(1, weeks + 1))


def days_needed(rules: Collection[str], *, policies: RulePolicies, as_of: datetime, timezone: str) -> tuple[date, ...]:
    """Return the stored days that those of ``rules`` look at that are on; empty where none is."""
    days: set[date] = set()
    drop, empty = policies.quality_drop, policies.empty_syncs
    if "quality_drop" in rules and drop.mode is not RuleMode.OFF:
        day = judged_day(as_of, timezone=timezone)
        days |= {day, *weeks_before(day, weeks=drop.weeks)}
    if "empty_syncs" in rules and empty.mode is not RuleMode.OFF:
        for day in days_touched(empty.window, as_of=as_of, timezone=timezone):
            days |= {*weeks_before(day, weeks=empty.weeks)}
    return tuple(sorted(days))


@dataclass(frozen=True, slots=True, kw_only=True)
class Examples:
    """
    Stored rows of some keys on the same weekday.

    Args:
        key: of each row, the position of its key.
        week: of each row, how many weeks before it lies; 1 is the week before.
        rows: `STORED_COLUMNS`.
    """

    key: NDArray[np.int64]
    week: NDArray[np.int64]
    rows: pd.DataFrame


def examples_of(keys: pd.DataFrame, stored: pd.DataFrame, *, day: date, weeks: int) -> Examples:
    """
    Return the final rows of ``keys`` on the same weekday of the ``weeks`` weeks before ``day``.

    Args:
        keys: different pairs of ``credential_id`` and ``data_type``, as text.
        stored: `STORED_COLUMNS`.
        day: not an example itself.
        weeks: how many.
    """
    number = stored["day"].to_numpy("datetime64[s]").astype("datetime64[D]").astype(np.int64)
    age = np.datetime64(day, "D").astype(np.int64) - number
    wanted = (age > 0) & (age <= 7 * weeks) & (age % 7 == 0) & stored["is_final"].to_numpy(bool)
    key = positions_of(stored, keys)
    wanted &= key >= 0
    return Examples(key=key[wanted], week=age[wanted] // 7, rows=stored[wanted])


def positions_of(rows: pd.DataFrame, keys: pd.DataFrame) -> NDArray[np.int64]:
    """Return, of each row, the position in ``keys`` of its credential and data type; -1 where it is none of them."""
    credentials, data_types = pd.Index(keys["credential_id"].unique()), pd.Index(keys["data_type"].unique())
    table = np.full(len(credentials) * len(data_types) + 1, -1, dtype=np.int64)
    at = credentials.get_indexer(keys["credential_id"]) * len(data_types) + data_types.get_indexer(keys["data_type"])
    table[at] = np.arange(len(keys))
    credential, data_type = _places(rows["credential_id"], credentials), _places(rows["data_type"], data_types)
    # What is none of them falls on the last place, which no key has.
    found: NDArray[np.int64] = table[
        np.where((credential < 0) | (data_type < 0), len(table) - 1, credential * len(data_types) + data_type)
    ]
    return found


def key_names(keys: pd.DataFrame) -> Iterator[tuple[str, str]]:
    """Yield each key as (credential id, data type)."""
    yield from zip(keys["credential_id"].astype(str), keys["data_type"].astype(str), strict=True)


def weekday_of(day: date) -> str:
    """Return a day's weekday in English."""
    return WEEKDAYS[day.weekday()]


def _places(values: pd.Series, among: pd.Index[Any]) -> NDArray[np.int64]:
    """Return each value's place in an index, -1 for none; a category is looked up once."""
    category = values.astype("category")
    places = among.get_indexer(pd.Index(category.cat.categories.astype(str)))
    # A missing value has the code -1, and so the last place: one that means none.
    found: NDArray[np.int64] = np.append(places, -1)[category.cat.codes.to_numpy()]
    return found.astype(np.int64)

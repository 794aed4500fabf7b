"""
The daily aggregates in ``monitoring.quality_daily``: whole days are replaced, and nothing that was once known is erased.

A key whose rows are gone from the source keeps its last known numbers and is marked ``is_vanished``; it is unmarked when
the rows are back. ``field_quality_daily`` goes with it. The ledger ``quality_day`` says which days were computed, and
``quality_revision`` which verdicts of final days changed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

import pandas as pd
import psycopg

from include.sync_health.daily_quality import DAILY_COLUMNS
from include.sync_health.errors import RequestError
from include.sync_health.field_quality import FIELD_COLUMNS
from include.sync_health.frames import require_columns
from include.sync_health.policy import DataQualityPolicy
from include.warehouse.monitoring_session import storage_errors
from include.warehouse.quality_merge import QUALITY_LOCK, DayWriter
from include.warehouse.stored_values import aware

__all__ = ["QUALITY_LOCK", "Replaced", "days_between", "missing_days", "replace_days", "unfinished_days"]

_UNFINISHED = """
    SELECT day FROM monitoring.quality_day WHERE NOT is_final AND day >= %(since)s AND day < %(before)s
    UNION
    SELECT day FROM monitoring.quality_daily WHERE NOT is_final AND day >= %(since)s AND day < %(before)s
    ORDER BY day
"""

_COMPUTED = """
    SELECT day FROM monitoring.quality_day
    WHERE day BETWEEN %s AND %s AND is_final AND timezone = %s AND calc_version = %s
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replaced:
    """
    What became of the days.

    Args:
        days: replaced.
        rows: written, new ones and those that changed.
        unchanged: rows that were there as they are.
        kept: rows whose numbers were left, of days that may only grow: the source has fewer syncs of them than are stored.
        vanished: rows that were marked (or became final since), whose keys are gone from the source.
        revised: keys of final days whose verdict changed.
        superseded: days left alone: a later reading of the source had replaced them already.
    """

    days: int
    rows: int
    unchanged: int
    kept: int
    vanished: int
    revised: int
    superseded: tuple[date, ...]


@storage_errors()
def replace_days(
    conn: psycopg.Connection[Any],
    daily: pd.DataFrame,
    fields: pd.DataFrame,
    *,
    days: Sequence[date],
    read_at: datetime,
    timezone: str,
    quality: DataQualityPolicy,
    final_before: date | None = None,
    only_growing: Collection[date] = (),
) -> Replaced:
    """
    Replace whole days, oldest first, each in a transaction of its own under a lock of its own; committed day by day.

    Doing it again writes nothing but ``read_at`` in the ledger. Of two readings of a day the later wins, whichever comes
    first. ``is_final`` is only ever set. Rows that did not change keep their ``computed_at``.

    Args:
        conn: not in a transaction.
        daily: `DAILY_COLUMNS`: all rows of all of ``days``; a day without any has lost all that it had.
        fields: `FIELD_COLUMNS`: all of theirs; they are replaced, and kept, with the row of their key.
        days: the days to replace, in any order.
        read_at: when the source began to be read for them; aware.
        timezone: the reporting time zone of the days, an IANA name.
        quality: by which the verdicts of final days are compared.
        final_before: days before this are final, and so are their rows that are gone from the source; None: only the rows
            that say so.
        only_growing: days of which the source may have lost rows by its retention: a row of theirs is replaced only by
            one of at least as many syncs, since history is never erased.

    Raises:
        FrameError: a column is missing.
        RequestError: a row is of a day that is not among ``days``, or a field of a key that has no row.
        ValueError: ``read_at`` is naive.
        StorageError: the schema is missing or the database unreachable, the role may not make temporary tables, or a
            value cannot be stored; days already replaced stay so.
    """
    require_columns(daily, DAILY_COLUMNS, name="daily")
    require_columns(fields, FIELD_COLUMNS, name="fields")
    moment = aware(read_at)
    _refuse_strays(daily, fields, days=days)
    by_day = dict(iter(daily.groupby("day", sort=False))) if len(daily) else {}
    fields_by_day = dict(iter(fields.groupby("day", sort=False))) if len(fields) else {}
    writer = DayWriter(conn, read_at=moment, timezone=timezone, quality=quality)
    count = rows = kept = vanished = revised = 0
    computed = 0
    superseded = []
    for day in sorted(set(days)):
        fresh = by_day.get(day, daily.iloc[:0])
        outcome = writer.replace(
            day,
            fresh,
            fields_by_day.get(day, fields.iloc[:0]),
            is_over=final_before is not None and day < final_before,
            only_growing=day in only_growing,
        )
        if outcome is None:
            superseded.append(day)
            continue
        count, computed = count + 1, computed + len(fresh)
        rows, kept = rows + outcome.rows, kept + outcome.kept
        vanished, revised = vanished + outcome.vanished, revised + outcome.revised
    return Replaced(
        days=count,
        rows=rows,
        unchanged=computed - rows - kept,
        kept=kept,
        vanished=vanished,
        revised=revised,
        superseded=tuple(superseded),
    )


@storage_errors()
def unfinished_days(conn: psycopg.Connection[Any], *, since: date, before: date) -> list[date]:
    """
    Return the days in ``[since, before)`` that were computed and are not final, or have a row that is not; oldest first.

    Raises:
        StorageError: the schema is missing or the database unreachable.
    """
    return [day for (day,) in conn.execute(_UNFINISHED, {"since": since, "before": before})]


@storage_errors()
def missing_days(
    conn: psycopg.Connection[Any], *, first: date, last: date, timezone: str, calc_version: int
) -> list[date]:
    """
    Return the days from ``first`` to ``last``, both included, that are not final by these definitions; oldest first.

    Args:
        conn: of the monitoring database.
        first, last: days of the reporting time zone; a day that its calendar skips is always missing.
        timezone: a day that was computed in another reporting zone is missing, and so is one whose zone is not recorded.
        calc_version: a day that was computed by another version of the definitions is missing.

    Raises:
        StorageError: the schema is missing or the database unreachable.
    """
    found = {day for (day,) in conn.execute(_COMPUTED, (first, last, timezone, calc_version))}
    return [day for day in days_between(first, last) if day not in found]


def days_between(first: date, last: date) -> list[date]:
    """Return the days from ``first`` to ``last``, both included."""
    return [first + timedelta(days=number) for number in range((last - first).days + 1)]


def _refuse_strays(daily: pd.DataFrame, fields: pd.DataFrame, *, days: Sequence[date]) -> None:
    for frame in (daily, fields):
        if stray := set(frame["day"].unique()) - set(days):
            raise RequestError(f"days: {_listed(stray)} have rows but are not among the days to replace")


def _listed(days: Iterable[date]) -> str:
    return ", ".join(day.isoformat() for day in sorted(days))

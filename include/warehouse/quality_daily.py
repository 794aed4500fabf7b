"""
The daily aggregates in ``monitoring.quality_daily``: whole days are replaced, each sync counts once, and no sync that was
once known is erased.

Of a day's keys (credential and data type) that have no syncs there any more, those whose syncs the source has lost, with
their credential or by its retention, keep their last known numbers and are marked ``is_vanished``; they are unmarked when
the syncs are back. The others are deleted: their syncs moved, to another data type, or to the day on which they ended, or
over another zone's midnight, and count there. ``field_quality_daily`` goes with its row. The ledger ``quality_day`` says
which days were computed, and ``quality_revision`` which verdicts of final days changed.
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
from include.sync_health.rule_policies import DataQualityPolicy
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
        kept: rows whose numbers were left, of days that may only grow: the source has fewer finished syncs of them than are
            stored.
        vanished: rows that were marked (or became final since), whose syncs are gone from the source.
        removed: rows that were deleted, whose syncs are now of another key or day.
        revised: keys of final days whose verdict changed.
        superseded: days left alone: a later reading of the source had replaced them already.
    """

    days: int
    rows: int
    unchanged: int
    kept: int
    vanished: int
    removed: int
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
    credential_ids: Collection[str] | None = None,
    has_details: bool = True,
    tells_outcomes: bool | None = None,
) -> Replaced:
    """
    Replace whole days, oldest first, each in a transaction of its own under a lock of its own; committed day by day.

    Doing it again writes nothing but ``read_at`` in the ledger. Of two readings of a day the later wins, whichever comes
    first. ``is_final`` is only ever set. Rows that did not change keep their ``computed_at``.

    Args:
        conn: not in a transaction.
        daily: `DAILY_COLUMNS`: all rows of all of ``days``, whatever their credentials; a day without any has lost all that
            it had.
        fields: `FIELD_COLUMNS`: all of theirs; they are replaced, and kept, with the row of their key.
        days: the days to replace, in any order.
        read_at: when the source began to be read for them; aware.
        timezone: the reporting time zone of the days, an IANA name.
        quality: by which the verdicts of final days are compared.
        final_before: days before this are final, and so are their rows that are gone from the source; None: only the rows
            that say so.
        only_growing: days of which the source may have lost rows by its retention: a row of theirs is replaced only by
            one of at least as many finished syncs, and a key without any is deleted only where it has none. A day that
            the ledger knows to have been computed in another zone is taken as it comes all the same: its syncs are on
            the days beside it.
        credential_ids: all credentials that the source had after ``daily`` was read, as text: what of one of them is gone
            was not deleted with it. Their keys that are gone from a day are deleted, with their fields: the syncs moved.
            Of a final day that is a revision. None: not known, all that is gone is marked.
        has_details: False where the source's details of errors cannot be read: rows that have any keep
            ``syncs_with_detail``, ``records_with_detail``, ``missing_required``, ``completeness`` and their fields.
        tells_outcomes: whether the source's log tells how many records succeeded and failed, for the ledger; None: not known.

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
    writer = DayWriter(
        conn,
        read_at=moment,
        timezone=timezone,
        quality=quality,
        credential_ids=credential_ids,
        has_details=has_details,
        tells_outcomes=tells_outcomes,
    )
    count = rows = kept = vanished = removed = revised = 0
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
        vanished, removed = vanished + outcome.vanished, removed + outcome.removed
        revised += outcome.revised
    return Replaced(
        days=count,
        rows=rows,
        unchanged=computed - rows - kept,
        kept=kept,
        vanished=vanished,
        removed=removed,
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

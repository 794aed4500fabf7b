"""
The daily aggregates in ``monitoring.quality_daily``: whole days are replaced, and nothing that was once known is erased.

A key whose rows are gone from the source keeps its last known numbers and is marked ``is_vanished``; it is unmarked when
the rows are back.
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
from include.sync_health.frames import require_columns
from include.warehouse.monitoring_session import storage_errors
from include.warehouse.stored_values import aware, storable_text

QUALITY_LOCK = 1_947_204_611
"""First key of the advisory lock of a day, the second being the day's ordinal; arbitrary, but never to change."""

_COLUMNS = ", ".join((*DAILY_COLUMNS, "computed_at"))
_FINAL = "quality_daily.is_final OR excluded.is_final"
_UPDATED = ", ".join(
    f"{name} = {_FINAL if name == 'is_final' else f'excluded.{name}'}" for name in (*DAILY_COLUMNS[3:], "computed_at")
)
_TEXTS = ("credential_id", "data_type", "company_id", "company_name", "environment")
_NUMBERS = ("quality_score", "score_low", "score_high", "duration_avg_seconds", "duration_p95_seconds")
_TYPES = {
    **dict.fromkeys(DAILY_COLUMNS, "bigint"),
    **dict.fromkeys(_TEXTS, "text"),
    **dict.fromkeys(_NUMBERS, "double precision"),
    "day": "date",
    "is_final": "boolean",
}

# One statement for a whole day, whatever its size: each column travels as one array. The rows that are not in it are
# marked by the same statement, so that no reader sees a day half replaced.
_REPLACE = f"""
    WITH fresh AS (
        SELECT {", ".join(DAILY_COLUMNS)}
        FROM unnest({", ".join(f"%({name})s::{_TYPES[name]}[]" for name in DAILY_COLUMNS)})
             AS given ({", ".join(DAILY_COLUMNS)})
    ), gone AS (
        UPDATE monitoring.quality_daily AS kept
        SET is_vanished = true, is_final = kept.is_final OR %(is_over)s
        WHERE kept.day = %(the_day)s
          AND (kept.credential_id, kept.data_type) NOT IN (SELECT credential_id, data_type FROM fresh)
          AND NOT (kept.is_vanished AND (kept.is_final OR NOT %(is_over)s))
        RETURNING 1
    ), written AS (
        INSERT INTO monitoring.quality_daily ({_COLUMNS})
        SELECT {", ".join(DAILY_COLUMNS)}, %(computed_at)s FROM fresh
        ON CONFLICT (day, credential_id, data_type) DO UPDATE SET {_UPDATED}, is_vanished = false
        WHERE NOT %(only_growing)s OR excluded.syncs_total >= quality_daily.syncs_total
        RETURNING 1
    )
    SELECT (SELECT count(*) FROM written), (SELECT count(*) FROM gone)
"""  # noqa: S608 -- only constants of this module

_NEWEST = "SELECT max(computed_at) FROM monitoring.quality_daily WHERE day = %s"

_UNFINISHED = """
    SELECT DISTINCT day FROM monitoring.quality_daily WHERE NOT is_final AND day >= %s AND day < %s ORDER BY day
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replaced:
    """
    What became of the days.

    Args:
        days: replaced.
        rows: written, new ones and those that were there.
        kept: rows left as they were, of days that may only grow: the source has fewer syncs of them than are stored.
        vanished: rows that were marked (or became final since), whose keys are gone from the source.
        superseded: days left alone: a later reading of the source had replaced them already.
    """

    days: int
    rows: int
    kept: int
    vanished: int
    superseded: tuple[date, ...]


@storage_errors()
def replace_days(
    conn: psycopg.Connection[Any],
    frame: pd.DataFrame,
    *,
    days: Sequence[date],
    computed_at: datetime,
    final_before: date | None = None,
    only_growing: Collection[date] = (),
) -> Replaced:
    """
    Replace whole days, each in a transaction of its own under a lock of its own; committed day by day.

    Doing it again writes the same. Of two readings the later wins, whichever comes first: ``computed_at`` is when the
    source began to be read. ``is_final`` is only ever set.

    Args:
        conn: not in a transaction.
        frame: `DAILY_COLUMNS`: all rows of all of ``days``; a day without any has lost all that it had.
        days: the days to replace, in any order.
        computed_at: aware.
        final_before: rows of days before this that are gone from the source become final too; None: none do.
        only_growing: days of which the source may have lost rows by its retention: a row of theirs is replaced only by
            one of at least as many syncs, since history is never erased.

    Raises:
        FrameError: a column is missing.
        RequestError: ``frame`` has a row of a day that is not among ``days``.
        ValueError: ``computed_at`` is naive.
        StorageError: the schema is missing or the database unreachable; days already replaced stay so.
    """
    require_columns(frame, DAILY_COLUMNS, name="daily")
    moment = aware(computed_at)
    if stray := set(frame["day"]) - set(days):
        raise RequestError(f"days: {_listed(stray)} have rows but are not among the days to replace")
    by_day = dict(iter(frame.groupby("day"))) if len(frame) else {}
    nothing = frame.iloc[:0]
    count = rows = kept = vanished = 0
    superseded = []
    for day in sorted(set(days)):
        fresh = by_day.get(day, nothing)
        with conn.transaction():
            conn.execute("SELECT pg_advisory_xact_lock(%s, %s)", (QUALITY_LOCK, day.toordinal()))
            newest = conn.execute(_NEWEST, (day,)).fetchone()
            if newest and newest[0] is not None and newest[0] > moment:
                superseded.append(day)
                continue
            values = {
                **_arrays(fresh),
                "the_day": day,
                "computed_at": moment,
                "is_over": final_before is not None and day < final_before,
                "only_growing": day in only_growing,
            }
            written, gone = conn.execute(_REPLACE, values).fetchone() or (0, 0)
        count, rows, vanished = count + 1, rows + written, vanished + gone
        kept += len(fresh) - written
    return Replaced(days=count, rows=rows, kept=kept, vanished=vanished, superseded=tuple(superseded))


@storage_errors()
def unfinished_days(conn: psycopg.Connection[Any], *, since: date, before: date) -> list[date]:
    """
    Return the days in ``[since, before)`` with a row that is not final, oldest first.

    Raises:
        StorageError: the schema is missing or the database unreachable.
    """
    return [day for (day,) in conn.execute(_UNFINISHED, (since, before))]


def days_between(first: date, last: date) -> list[date]:
    """Return the days from ``first`` to ``last``, both included."""
    return [first + timedelta(days=number) for number in range((last - first).days + 1)]


def _arrays(frame: pd.DataFrame) -> dict[str, list[Any]]:
    arrays: dict[str, list[Any]] = {}
    for name in DAILY_COLUMNS:
        values = frame[name].astype(object)
        found = values.where(values.notna(), None).tolist()
        arrays[name] = [None if each is None else storable_text(each) for each in found] if name in _TEXTS else found
    return arrays


def _listed(days: Iterable[date]) -> str:
    return ", ".join(day.isoformat() for day in sorted(days))

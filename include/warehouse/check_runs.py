"""The record of what was evaluated: one row per check, window, mode and filters, whether we could see or not."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any, Literal, Self

import psycopg
from psycopg.rows import dict_row

from include.sync_health.visibility import EarlierSight
from include.sync_health.windows import RunMode
from include.warehouse.monitoring_session import storage_errors
from include.warehouse.stored_values import aware, storable_json, stored_moment

RUN_NAMESPACE = uuid.UUID("9a3f2c57-6c1e-5b7d-8f0a-2d4e6b8c1a35")
"""Namespace of the deterministic run ids."""

_COLUMNS = (
    "run_id",
    "check_name",
    "window_from",
    "window_to",
    "mode",
    "filters",
    "status",
    "rows_read",
    "source_ms",
    "total_ms",
    "verdicts",
    "anomalies",
    "notes",
    "open_sync_ids",
    "newest_started_at",
    "error_cause",
    "error",
    "computed_at",
)
_COLUMN_LIST = ", ".join(_COLUMNS)
_OVERWRITE = ", ".join(f"{column} = excluded.{column}" for column in _COLUMNS[1:])

_RECORD = f"""
    INSERT INTO monitoring.check_run ({_COLUMN_LIST})
    SELECT {_COLUMN_LIST} FROM jsonb_populate_record(NULL::monitoring.check_run, %(row)s)
    ON CONFLICT (run_id) DO UPDATE SET {_OVERWRITE}
    WHERE NOT (check_run.status = 'seen' AND excluded.status = 'blind')
"""  # noqa: S608 -- only constants of this module

_LAST_SEEN = f"""
    SELECT {_COLUMN_LIST} FROM monitoring.check_run
    WHERE check_name = %(check)s AND mode = 'live' AND status = 'seen' AND filters = '{{}}'
    ORDER BY window_to DESC, computed_at DESC LIMIT 1
"""  # noqa: S608 -- only constants of this module

_NEWEST_START_SEEN = """
    SELECT window_to, newest_started_at FROM monitoring.check_run
    WHERE check_name = %(check)s AND mode = 'live' AND filters = '{}' AND window_to < %(before)s
      AND newest_started_at IS NOT NULL
    ORDER BY window_to DESC, computed_at DESC LIMIT 1
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckRun:
    """
    One evaluated window, half-open: (window_from, window_to].

    ``blind`` says that the source could not be seen; then ``error_cause`` is the `SourceError`'s cause and ``error``
    its line, already redacted. ``open_sync_ids`` are the rows open at ``window_to``, the next run's memory; None
    means that nobody looked. ``newest_started_at`` is the newest start in the whole sync log; a run that could not
    trust what it read is blind and has one all the same.
    """

    run_id: uuid.UUID  # of `check_run_id`
    check: str
    window_from: datetime
    window_to: datetime
    mode: RunMode
    filters: Mapping[str, str] = field(default_factory=dict)
    status: Literal["seen", "blind"]
    rows_read: int = 0
    source_ms: float = 0.0  # of which the source took so many milliseconds
    total_ms: float = 0.0
    verdicts: Mapping[str, int] = field(default_factory=dict)  # "rule.verdict" or verdict to count
    anomalies: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    open_sync_ids: tuple[str, ...] | None = None
    newest_started_at: datetime | None = None  # aware
    error_cause: str | None = None
    error: str | None = None
    computed_at: datetime  # the wall clock

    @classmethod
    def of(
        cls,
        *,
        check: str,
        window_from: datetime,
        window_to: datetime,
        mode: str,
        filters: Mapping[str, str],
        **rest: Any,
    ) -> Self:
        """
        Return the record of an evaluation under its `check_run_id`; ``rest`` are the other fields.

        Raises:
            ValueError: a naive datetime, or a mode that is no `RunMode`.
        """
        run_id = check_run_id(check, window_from=window_from, window_to=window_to, mode=mode, filters=filters)
        return cls(
            run_id=run_id,
            check=check,
            window_from=window_from,
            window_to=window_to,
            mode=RunMode(mode),
            filters=filters,
            **rest,
        )


def check_run_id(
    check: str,
    *,
    window_from: datetime,
    window_to: datetime,
    mode: str,
    filters: Mapping[str, str],
) -> uuid.UUID:
    """
    Return the id of this evaluation; a retry of the same task gets the same one.

    Raises:
        ValueError: a naive datetime.
    """
    name = [check, aware(window_from).isoformat(), aware(window_to).isoformat(), str(mode), sorted(filters.items())]
    return uuid.uuid5(RUN_NAMESPACE, json.dumps(name, ensure_ascii=True))


@storage_errors()
def record_check_run(conn: psycopg.Connection[Any], run: CheckRun) -> None:
    """
    Write the run, in the place of an earlier record with its id; nothing is committed.

    A blind retry never replaces what was seen: the memory of open rows would be lost with it.

    Raises:
        ValueError: a naive datetime.
        StorageError: the schema is missing or the database unreachable.
    """
    row = {each.name: getattr(run, each.name) for each in fields(run)}
    row["check_name"] = row.pop("check")
    conn.execute(_RECORD, {"row": storable_json(row)})


@storage_errors()
def last_seen_run(conn: psycopg.Connection[Any], *, check: str) -> CheckRun | None:
    """
    Return the live run of ``check`` with the newest window that saw the source and had no filters, or None.

    Raises:
        StorageError: the schema is missing or the database unreachable.
    """
    with conn.cursor(row_factory=dict_row) as cursor:
        cursor.execute(_LAST_SEEN, {"check": check})
        row = cursor.fetchone()
    if row is None:
        return None
    row["check"] = row.pop("check_name")
    open_ids = row["open_sync_ids"]
    return CheckRun(
        **{
            **row,
            **{name: aware(row[name]) for name in ("window_from", "window_to", "computed_at")},
            "newest_started_at": stored_moment(row["newest_started_at"]),
            "mode": RunMode(row["mode"]),
            "notes": tuple(row["notes"]),
            "open_sync_ids": tuple(open_ids) if open_ids is not None else None,
        }
    )


@storage_errors()
def newest_start_seen(conn: psycopg.Connection[Any], *, check: str, before: datetime) -> EarlierSight | None:
    """
    Return the newest start that ``check`` knew of before this window, and as of when; None when it never knew one.

    That of its newest live run without filters that recorded one, seen or blind, with ``window_to`` earlier than
    ``before``: a run that could not even connect says nothing, and the one before it still does.

    Raises:
        ValueError: ``before`` is naive.
        StorageError: the schema is missing or the database unreachable.
    """
    row = conn.execute(_NEWEST_START_SEEN, {"check": check, "before": aware(before)}).fetchone()
    return EarlierSight(as_of=aware(row[0]), newest_started_at=aware(row[1])) if row else None

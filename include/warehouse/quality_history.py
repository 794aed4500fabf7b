"""
What is stored of the daily quality, read back: whole frames at once, or a view's rows as a stream.

Frames arrive as one array for each column (`include.warehouse.binary_arrays`): no loop goes over their rows.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
import psycopg
from psycopg import sql

from include.sync_health.daily_quality import DAILY_COLUMNS, DAILY_KEY
from include.sync_health.errors import RequestError
from include.sync_health.field_quality import FIELD_COLUMNS
from include.sync_health.quality_revisions import REVISION_COLUMNS
from include.warehouse.binary_arrays import decode_array, decode_counts, decode_texts, decode_times, raw_row
from include.warehouse.monitoring_session import storage_errors

DAILY_STORED_COLUMNS = (*DAILY_COLUMNS, "is_vanished", "computed_at")
"""`DAILY_COLUMNS`, whether the syncs are gone from the source (bool), and when the row was written (UTC)."""

REVISION_STORED_COLUMNS = ("revision_id", "revised_at", *REVISION_COLUMNS)

LEDGER_COLUMNS = (
    "day",  # datetime.date
    "read_at",  # datetime64[us, UTC]: when the source began to be read for it
    "rows",  # int64: of quality_daily that this reading gave
    "is_final",  # bool
    "timezone",  # str or None: not recorded
    "calc_version",  # int64
)

VIEWS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "daily": ("bi_quality_daily", "day"),
        "weekly": ("bi_quality_weekly", "last_day"),
        "28-days": ("bi_quality_28_days", "last_day"),
        "fields": ("bi_field_quality_daily", "day"),
        "revisions": ("bi_quality_revisions", "day"),
    }
)
"""The views of migration 0004 by what a command calls them, with the column that says which day a row is of."""

_KEYS: Mapping[str, tuple[str, ...]] = MappingProxyType({"fields": ("field",), "revisions": ("revised_at",)})
"""What tells two rows of one day, credential and data type apart."""

_SQL_TYPES = MappingProxyType(
    {16: "bool", 20: "int64", 21: "int64", 23: "int64", 25: "text", 701: "float64", 1082: "date", 1184: "timestamp"}
)
"""Kinds of a view's columns by type oid (pg_type.dat)."""

_LINES, _TEXT, _DAY, _FLAG, _WHOLE, _MAYBE4, _MAYBE8, _FLOAT, _TIME = range(9)

# Never NULL: int2 to int8 are one kind. Those that may be NULL are told by the smallest number of their type.
_AS_ARRAY: Mapping[int, str] = MappingProxyType(
    {
        _LINES: r"string_agg({0}, E'\n')",
        _TEXT: "json_agg({0})",
        _DAY: "array_agg({0} - DATE '1970-01-01')",
        _FLAG: "array_agg({0}::int)",
        _WHOLE: "array_agg({0})",
        _MAYBE4: "array_agg(coalesce({0}, -2147483648))",
        _MAYBE8: "array_agg(coalesce({0}, -9223372036854775808))",
        _FLOAT: "array_agg(coalesce({0}, 'NaN'))",
        _TIME: "array_agg({0})",
    }
)

_DAILY_KINDS = {
    **dict.fromkeys(DAILY_STORED_COLUMNS, _WHOLE),
    "day": _DAY,
    "credential_id": _LINES,
    "data_type": _LINES,
    **dict.fromkeys(("company_id", "company_name", "environment"), _TEXT),
    **dict.fromkeys(("quality_score", "score_low", "score_high", "completeness"), _FLOAT),
    **dict.fromkeys(("duration_avg_seconds", "duration_p95_seconds"), _FLOAT),
    **dict.fromkeys(("syncs_empty", "syncs_timed", "syncs_with_detail"), _MAYBE4),
    **{name: _MAYBE4 for name in DAILY_COLUMNS if name.startswith("failed_")},
    **dict.fromkeys(("records_with_detail", "missing_required"), _MAYBE8),
    **dict.fromkeys(("is_final", "is_vanished"), _FLAG),
    "computed_at": _TIME,
}

_FIELD_KINDS = {
    **dict.fromkeys(FIELD_COLUMNS, _WHOLE),
    "day": _DAY,
    "credential_id": _LINES,
    "data_type": _LINES,
    "field": _TEXT,
    "is_required": _FLAG,
    "share": _FLOAT,
    "sample": _TEXT,
}

_REVISION_KINDS = {
    **dict.fromkeys(REVISION_STORED_COLUMNS, _WHOLE),
    "revised_at": _TIME,
    "day": _DAY,
    **dict.fromkeys(("credential_id", "data_type", "verdict_before", "verdict_after"), _LINES),
    **dict.fromkeys(("score_before", "score_after"), _FLOAT),
    **dict.fromkeys(("processed_before", "failed_before"), _MAYBE8),
    **dict.fromkeys(("syncs_before", "version_before"), _MAYBE4),
}

_LEDGER_KINDS = {
    "day": _DAY,
    "read_at": _TIME,
    "rows": _WHOLE,
    "is_final": _FLAG,
    "timezone": _TEXT,
    "calc_version": _WHOLE,
}


@storage_errors()
def read_daily(
    conn: psycopg.Connection[Any],
    *,
    days: Collection[date] | None = None,
    first: date | None = None,
    last: date | None = None,
    credential_ids: Collection[str] | None = None,
    columns: Sequence[str] | None = None,
) -> pd.DataFrame:
    """
    Return the stored aggregates, in one statement.

    Args:
        conn: any session; nothing is written or committed.
        days: of these days only; None for any.
        first, last: of the days between them only, both included; None for no bound.
        credential_ids: of these only; None for all.
        columns: some of `DAILY_STORED_COLUMNS`; None for all. The key is always there. Few columns of many rows come
            several times as fast.

    Returns:
        `DAILY_STORED_COLUMNS`, or the key and those asked for, ordered by `DAILY_KEY` as text. The columns that rows of
        the first definition do not have (``syncs_empty``, ``syncs_timed``, ``failed_...``, ``..._with_detail``,
        ``missing_required``) are float64 with NaN there.

    Raises:
        RequestError: a column that there is not.
        StorageError: the schema is missing or older than this code, or the database unreachable.
    """
    kinds = _chosen(_DAILY_KINDS, columns)
    found = _read(conn, "quality_daily", kinds, days=days, first=first, last=last, credentials=credential_ids)
    return _sorted(found, DAILY_KEY)


@storage_errors()
def read_fields(
    conn: psycopg.Connection[Any],
    *,
    days: Collection[date] | None = None,
    first: date | None = None,
    last: date | None = None,
    credential_ids: Collection[str] | None = None,
) -> pd.DataFrame:
    """
    Return the stored fields that failed: `FIELD_COLUMNS`, ordered by key and field; arguments as of `read_daily`.

    Raises:
        StorageError: the schema is missing or older than this code, or the database unreachable.
    """
    found = _read(
        conn, "field_quality_daily", _FIELD_KINDS, days=days, first=first, last=last, credentials=credential_ids
    )
    return _sorted(found, (*DAILY_KEY, "field"))


@storage_errors()
def read_revisions(
    conn: psycopg.Connection[Any],
    *,
    days: Collection[date] | None = None,
    first: date | None = None,
    last: date | None = None,
    credential_ids: Collection[str] | None = None,
) -> pd.DataFrame:
    """
    Return the revisions of final days: `REVISION_STORED_COLUMNS`, in the order they were written; else as `read_daily`.

    Raises:
        StorageError: the schema is missing or older than this code, or the database unreachable.
    """
    found = _read(
        conn, "quality_revision", _REVISION_KINDS, days=days, first=first, last=last, credentials=credential_ids
    )
    return _sorted(found, ("revision_id",))


@storage_errors()
def computed_days(
    conn: psycopg.Connection[Any], *, first: date | None = None, last: date | None = None
) -> pd.DataFrame:
    """
    Return the ledger of the days that were ever computed: `LEDGER_COLUMNS`, oldest first; the bounds are included.

    Raises:
        StorageError: the schema is missing or older than this code, or the database unreachable.
    """
    return _sorted(_read(conn, "quality_day", _LEDGER_KINDS, first=first, last=last), ("day",))


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewRows:
    """
    A view's rows on their way.

    Args:
        columns: the kind of each column by its name, in order: ``date``, ``text``, ``int64``, ``float64``, ``bool`` or
            ``timestamp`` (aware).
        chunks: lists of rows, each as many as were asked for at most; to be gone through once.
    """

    columns: Mapping[str, str]
    chunks: Iterator[list[tuple[Any, ...]]]


@contextmanager
def stream_view(
    conn: psycopg.Connection[Any],
    view: str,
    *,
    first: date | None = None,
    last: date | None = None,
    credential_ids: Collection[str] | None = None,
    data_types: Collection[str] | None = None,
    chunk_rows: int = 5_000,
) -> Iterator[ViewRows]:
    """
    Yield a view's rows, ordered by day and key, in bounded memory: a cursor on the server, read in chunks.

    All rows are of one moment. Of weeks and of 28 days the last day is compared with the bounds.

    Args:
        conn: not in a transaction of another isolation.
        view: one of `VIEWS`.
        first, last: both included; None for no bound.
        credential_ids, data_types: of these only; None for all.
        chunk_rows: how many rows are held at once.

    Raises:
        RequestError: another view.
        StorageError: the schema is missing or older than this code, or the database unreachable.
    """
    if view not in VIEWS:
        raise RequestError(f"view: {view!r} is unknown; use one of {', '.join(VIEWS)}")
    name, day = VIEWS[view]
    query = sql.SQL(
        "SELECT * FROM monitoring.{view} WHERE (%(first)s::date IS NULL OR {day} >= %(first)s)"
        " AND (%(last)s::date IS NULL OR {day} <= %(last)s)"
        " AND (%(credentials)s::text[] IS NULL OR credential_id = ANY (%(credentials)s))"
        " AND (%(types)s::text[] IS NULL OR data_type = ANY (%(types)s)) ORDER BY {order}"
    ).format(
        view=sql.Identifier(name),
        day=sql.Identifier(day),
        order=sql.SQL(", ").join(map(sql.Identifier, (day, "credential_id", "data_type", *_KEYS.get(view, ())))),
    )
    parameters = {
        "first": first,
        "last": last,
        "credentials": None if credential_ids is None else sorted(credential_ids),
        "types": None if data_types is None else sorted(data_types),
    }
    with storage_errors(), conn.cursor(name="quality_export") as cursor:
        cursor.execute(query, parameters)
        described = cursor.description or ()
        columns = {column.name: _SQL_TYPES[column.type_code] for column in described}
        yield ViewRows(columns=MappingProxyType(columns), chunks=_chunks(cursor, size=chunk_rows))


def _chunks(cursor: psycopg.ServerCursor[Any], *, size: int) -> Iterator[list[tuple[Any, ...]]]:
    while rows := cursor.fetchmany(size):
        yield rows


def _chosen(kinds: Mapping[str, int], columns: Sequence[str] | None) -> Mapping[str, int]:
    if columns is None:
        return kinds
    if unknown := sorted(set(columns) - set(kinds)):
        raise RequestError(f"columns: {', '.join(unknown)} are not stored; known are {', '.join(kinds)}")
    return {name: kind for name, kind in kinds.items() if name in columns or name in DAILY_KEY}


def _read(
    conn: psycopg.Connection[Any],
    table: str,
    kinds: Mapping[str, int],
    *,
    days: Collection[date] | None = None,
    first: date | None = None,
    last: date | None = None,
    credentials: Collection[str] | None = None,
) -> pd.DataFrame:
    conditions = [sql.SQL("true")]
    # Only what is asked for, so that a plan can use the index of each.
    if days is not None:
        conditions.append(sql.SQL("day = ANY (%(days)s)"))
    if first is not None:
        conditions.append(sql.SQL("day >= %(first)s"))
    if last is not None:
        conditions.append(sql.SQL("day <= %(last)s"))
    if credentials is not None:
        conditions.append(sql.SQL("credential_id = ANY (%(credentials)s)"))
    # Without an ORDER BY all aggregates of one SELECT see the rows in one and the same order.
    query = sql.SQL("SELECT {} FROM monitoring.{} WHERE {}").format(
        sql.SQL(", ").join(sql.SQL(_AS_ARRAY[kind]).format(sql.Identifier(name)) for name, kind in kinds.items()),
        sql.Identifier(table),
        sql.SQL(" AND ").join(conditions),
    )
    parameters = {
        "days": sorted(set(days or ())),
        "first": first,
        "last": last,
        "credentials": sorted(credentials or ()),
    }
    with conn.cursor(binary=True) as cursor:
        raw = raw_row(cursor.execute(query, parameters))
    return pd.DataFrame(
        {name: _decode(buffer, kind, name=name) for (name, kind), buffer in zip(kinds.items(), raw, strict=True)}
    )


def _decode(buffer: bytes | None, kind: int, *, name: str) -> Any:
    if kind == _LINES:
        return pd.Series([] if buffer is None else bytes(buffer).decode().split("\n"), dtype=object)
    if kind == _TEXT:
        return pd.Series(decode_texts(buffer), dtype=object)
    if kind == _TIME:
        return pd.Series(decode_times(buffer, name=name)).dt.tz_localize("UTC")
    return _NUMBERS[kind](buffer, name)


def _days(buffer: bytes | None, name: str) -> Any:
    numbers, at = np.unique(decode_array(buffer, name=name).astype(np.int64), return_inverse=True)
    # One object for each different day.
    different = numbers.astype("datetime64[D]").astype(object)
    return pd.Series(different[at.ravel()], dtype=object)


_NUMBERS: Mapping[int, Callable[[bytes | None, str], Any]] = MappingProxyType(
    {
        _DAY: _days,
        _FLAG: lambda buffer, name: decode_array(buffer, name=name).astype(bool),
        _WHOLE: lambda buffer, name: decode_array(buffer, name=name).astype(np.int64),
        _MAYBE4: lambda buffer, name: decode_counts(buffer, name=name),
        _MAYBE8: lambda buffer, name: decode_counts(buffer, name=name),
        _FLOAT: lambda buffer, name: decode_array(buffer, name=name).astype(np.float64),
    }
)


def _sorted(frame: pd.DataFrame, key: Sequence[str]) -> pd.DataFrame:
    # Texts by code point, as Python does, and not as the database's locale does: ranks of the few different ones.
    ranks = [pd.factorize(frame[name], sort=True)[0] for name in reversed(key)]
    return frame.take(np.lexsort(ranks)).reset_index(drop=True)

"""
API calls in ``monitoring``: ``api_call_hourly`` by UTC hour, ``api_counter`` since counting began.

A log and the probe add what they have newly read (`add_calls`); the application's table is read by whole hours, which are
replaced (`replace_hours`). Either way the counters rise by what is new, and never fall. Both return what was newly counted,
so that it can be told as metrics, once: what is written twice counts nothing the second time only where the caller writes
its position in the same transaction (log), or where hours are replaced (table).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from itertools import chain
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import psycopg
from numpy.typing import NDArray
from psycopg import errors as pg_errors

from include.sync_health.api_calls import COUNTS, NO_HISTOGRAM, summed
from include.sync_health.errors import StorageError
from include.sync_health.frames import require_columns
from include.warehouse.api_sources import Source
from include.warehouse.binary_rows import BinaryRows
from include.warehouse.monitoring_session import storage_errors
from include.warehouse.stored_values import aware

if TYPE_CHECKING:
    import pandas as pd

Names = Mapping[str, tuple[str, str]]
"""(environment, company id) by credential id; a credential that is not in it is of ``UNKNOWN_NAME``."""

UNKNOWN_NAME = ("unknown", "")

COUNTER_KEY = ("credential_id", "environment", "company_id", "endpoint", "status_code")

INCREMENT_COLUMNS = (
    *COUNTER_KEY,
    *COUNTS,
    "response_count",
    "response_ms_sum",
    "buckets",  # dict[int, int]
    "histogram",  # list[int]
)
"""What was newly counted: one row per `COUNTER_KEY`; types are those of `HOURLY_COLUMNS`, all above or equal to 0."""

_KEY = ("hour", "source", *COUNTER_KEY)
_SUMS = (*COUNTS, "response_count", "response_ms_sum")
_COUNTER_SUMS = ("requests", "errors", "rate_limited", "circuit_opened", "response_count", "response_ms_sum")

_TYPES = {
    "credential_id": "text",
    "environment": "text",
    "company_id": "text",
    "endpoint": "text",
    "buckets": "text",
    "histogram": "text",
    "hour": "timestamptz",
    "status_code": "int4",
    **dict.fromkeys((*COUNTS, "response_count"), "int8"),
    "response_ms_sum": "float8",
    "response_ms_max": "float8",
}

_COLUMNS = ", ".join(f"{name} {'double precision' if kind == 'float8' else kind}" for name, kind in _TYPES.items())

_MAKE_FRESH = f"CREATE TEMPORARY TABLE IF NOT EXISTS fresh_calls ({_COLUMNS}) ON COMMIT DELETE ROWS"
_EMPTY_FRESH = "TRUNCATE pg_temp.fresh_calls"

# A pair of arrays side by side; the shorter one's missing elements are NULL.
_ADDED_HISTOGRAM = """
    CASE WHEN excluded.response_count = 0 THEN old.histogram
         ELSE ARRAY(SELECT coalesce(a, 0) + coalesce(b, 0)
                    FROM unnest(old.histogram, excluded.histogram) WITH ORDINALITY AS pair (a, b, place) ORDER BY place)
    END
"""

_ADDED_BUCKETS = """
    CASE WHEN excluded.response_count = 0 THEN old.response_buckets
         WHEN old.response_count = 0 THEN excluded.response_buckets
         ELSE (SELECT jsonb_object_agg(key, number)
               FROM (SELECT key, sum(value::bigint) AS number
                     FROM (SELECT * FROM jsonb_each_text(old.response_buckets)
                           UNION ALL SELECT * FROM jsonb_each_text(excluded.response_buckets)) AS both_of
                     GROUP BY key) AS summed)
    END
"""

# In the order of the key: two writers of one source take their rows in one order, and neither waits for the other for ever.
_ADD_HOURS = f"""
    INSERT INTO monitoring.api_call_hourly AS old
        ({", ".join(_KEY)}, {", ".join(_SUMS)}, response_ms_max, response_buckets, histogram, updated_at)
    SELECT hour, %(source)s, {", ".join(COUNTER_KEY)}, {", ".join(_SUMS)}, response_ms_max, buckets::jsonb,
           histogram::bigint[], %(now)s
    FROM pg_temp.fresh_calls ORDER BY hour, {", ".join(COUNTER_KEY)}
    ON CONFLICT ({", ".join(_KEY)}) DO UPDATE SET
        {", ".join(f"{name} = old.{name} + excluded.{name}" for name in _SUMS)},
        response_ms_max = greatest(old.response_ms_max, excluded.response_ms_max),
        response_buckets = {_ADDED_BUCKETS}, histogram = {_ADDED_HISTOGRAM}, updated_at = excluded.updated_at
"""  # noqa: S608 -- only constants of this module

_ADD_COUNTERS = f"""
    INSERT INTO monitoring.api_counter AS old
        (source, {", ".join(COUNTER_KEY)}, {", ".join(_COUNTER_SUMS)}, histogram, updated_at)
    SELECT %(source)s, {", ".join(COUNTER_KEY)}, {", ".join(_COUNTER_SUMS)}, histogram::bigint[], %(now)s
    FROM pg_temp.fresh_calls ORDER BY {", ".join(COUNTER_KEY)}
    ON CONFLICT (source, {", ".join(COUNTER_KEY)}) DO UPDATE SET
        {", ".join(f"{name} = old.{name} + excluded.{name}" for name in _COUNTER_SUMS)},
        histogram = {_ADDED_HISTOGRAM}, updated_at = excluded.updated_at
"""  # noqa: S608 -- only constants of this module

_HOURS = f"""
    SELECT hour, {", ".join(COUNTER_KEY)}, {", ".join(_SUMS)}, response_ms_max, response_buckets, histogram
    FROM monitoring.api_call_hourly WHERE source = %(source)s AND hour = ANY (%(hours)s)
"""  # noqa: S608 -- only constants of this module

_DELETE = "DELETE FROM monitoring.api_call_hourly WHERE source = %(source)s AND hour = ANY (%(hours)s)"


@storage_errors()
def add_calls(
    conn: psycopg.Connection[Any], calls: pd.DataFrame, *, source: Source, names: Names, now: datetime
) -> pd.DataFrame:
    """
    Add increments to the hours and to the counters; return `INCREMENT_COLUMNS`, what was counted.

    Nothing is committed: the caller's transaction also moves what it has read up to, so that no call counts twice.

    Args:
        conn: in a transaction, or about to begin one.
        calls: `HOURLY_COLUMNS`; several rows of one key are added up.
        source: whose.
        names: of the credentials.
        now: the wall clock; aware.

    Raises:
        FrameError: a column is missing.
        ValueError: ``now`` is naive.
        StorageError: the schema is missing, the database unreachable, the role may not make temporary tables, or a value
            cannot be stored.
    """
    moment = aware(now)
    fresh = _named(summed(calls), names)
    increments = _increments(fresh)
    if len(fresh):
        values = {"source": source, "now": moment}
        _stage(conn, fresh)
        with storage_errors(table="api_call_hourly"):
            conn.execute(_ADD_HOURS, values)
        _count(conn, increments, values)
    return increments


@storage_errors()
def replace_hours(
    conn: psycopg.Connection[Any],
    calls: pd.DataFrame,
    *,
    source: Source,
    hours: Collection[datetime],
    names: Names,
    now: datetime,
) -> pd.DataFrame:
    """
    Replace whole hours of a source, and raise the counters by what is new in them; return it as `INCREMENT_COLUMNS`.

    Doing it again changes nothing. Where an hour has fewer calls than before, its row says so and the counter stays. A
    credential keeps, for an hour, the environment and company under which it was counted first: under another name all of
    it would count again. Nothing is committed; of two readings the caller must not let the earlier come last
    (`lock_source`).

    Args:
        conn: in a transaction, or about to begin one.
        calls: `HOURLY_COLUMNS`: all calls of ``hours``.
        source: whose.
        hours: when each began; aware. One without calls is emptied.
        names: of the credentials.
        now: the wall clock; aware.

    Raises:
        As `add_calls`; and ValueError: a call lies outside ``hours``.
    """
    moment = aware(now)
    wanted = sorted({aware(hour) for hour in hours})
    fresh = summed(calls)
    if stray := set(fresh["hour"]) - set(wanted):
        raise ValueError(f"{len(stray)} hours have calls but are not among the hours to replace")
    values = {"source": source, "now": moment, "hours": wanted}
    before = _stored(conn, values)
    fresh = _named(fresh, names, before=before)
    increments = _increments(_difference(fresh, before))
    conn.execute(_DELETE, values)
    if len(fresh):
        _stage(conn, fresh)
        with storage_errors(table="api_call_hourly"):
            conn.execute(_ADD_HOURS, values)
    _count(conn, increments, values)
    return increments


def _stage(conn: psycopg.Connection[Any], frame: pd.DataFrame) -> None:
    """Copy rows to where the statements find them."""
    try:
        conn.execute(_MAKE_FRESH)
    except pg_errors.InsufficientPrivilege as error:
        raise StorageError(
            "the monitoring database's role may not make temporary tables; as the database's owner run: "
            f'GRANT TEMPORARY ON DATABASE "{conn.info.dbname}" TO "{conn.info.user}"'
        ) from error
    conn.execute(_EMPTY_FRESH)
    rows = BinaryRows(_TYPES)
    told = frame.assign(
        buckets=[_json(each) for each in frame["buckets"]],
        histogram=["{" + _json(each)[1:-1] + "}" if any(each) else "{}" for each in frame["histogram"]],
    )
    for name in ("hour", "response_ms_max"):
        if name not in told:
            told[name] = None
    statement = f"COPY pg_temp.fresh_calls ({', '.join(rows.columns)}) FROM STDIN (FORMAT BINARY)"
    with conn.cursor() as cursor, cursor.copy(statement) as copy:
        copy.write(rows.encode(told))


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _count(conn: psycopg.Connection[Any], increments: pd.DataFrame, values: Mapping[str, Any]) -> None:
    if len(increments):
        _stage(conn, increments)
        with storage_errors(table="api_counter"):
            conn.execute(_ADD_COUNTERS, values)


def _stored(conn: psycopg.Connection[Any], values: Mapping[str, Any]) -> pd.DataFrame:
    """Return `HOURLY_COLUMNS` with environment and company, as they are stored."""
    import pandas as pd

    columns = ("hour", *COUNTER_KEY, *_SUMS, "response_ms_max", "buckets", "histogram")
    rows = conn.execute(_HOURS, values).fetchall()
    frame = pd.DataFrame(
        {name: pd.Series([row[place] for row in rows], dtype=object) for place, name in enumerate(columns)}
    )
    frame["hour"] = pd.to_datetime(frame["hour"], utc=True).astype("datetime64[us, UTC]")
    frame["buckets"] = pd.Series(
        [{int(bucket): number for bucket, number in each.items()} for each in frame["buckets"]], dtype=object
    )
    for name in ("status_code", *_SUMS):
        frame[name] = frame[name].astype(np.float64 if name == "response_ms_sum" else np.int64)
    return frame


def _named(calls: pd.DataFrame, names: Names, *, before: pd.DataFrame | None = None) -> pd.DataFrame:
    """Return calls with the environment and company of their credentials; those that they had ``before``, if they had."""
    found = calls.copy(deep=False)
    for place, name in enumerate(("environment", "company_id")):
        told = {each: names.get(each, UNKNOWN_NAME)[place] for each in calls["credential_id"].unique()}
        found[name] = calls["credential_id"].map(told).astype(object)
    if before is None or before.empty or found.empty:
        return found
    key = ["hour", "credential_id"]
    # Of several, always the same one.
    kept = found[key].merge(before.sort_values(["environment", "company_id"]).drop_duplicates(key), on=key, how="left")
    for name in ("environment", "company_id"):
        found[name] = kept[name].set_axis(found.index).fillna(found[name])
    return found


def _difference(fresh: pd.DataFrame, before: pd.DataFrame) -> pd.DataFrame:
    """Return ``fresh`` with what each row has more than the one ``before`` of its hour and key, 0 where it has less."""
    import pandas as pd

    both = fresh.merge(before, on=["hour", *COUNTER_KEY], how="left", suffixes=("", "_before"))
    more = {
        name: (both[name] - both[f"{name}_before"].fillna(0)).clip(lower=0).astype(both[name].dtype) for name in _SUMS
    }
    was_there = both["requests_before"].notna()
    buckets = [
        {key: number - old.get(key, 0) for key, number in new.items() if number > old.get(key, 0)} if known else new
        for new, old, known in zip(both["buckets"], both["buckets_before"], was_there, strict=True)
    ]
    histogram = [
        [max(number - was, 0) for number, was in zip(new, old or NO_HISTOGRAM, strict=True)] if known and new else new
        for new, old, known in zip(both["histogram"], both["histogram_before"], was_there, strict=True)
    ]
    return both[["hour", *COUNTER_KEY]].assign(
        **more, buckets=pd.Series(buckets, dtype=object), histogram=pd.Series(histogram, dtype=object)
    )


def _increments(fresh: pd.DataFrame) -> pd.DataFrame:
    """Return `INCREMENT_COLUMNS` of named hours: rows of several hours together, those that add nothing left out."""
    import pandas as pd

    require_columns(fresh, (*COUNTER_KEY, *_SUMS, "buckets", "histogram"), name="hours")
    fresh = fresh[fresh[list(_SUMS)].gt(0).any(axis=1)] if len(fresh) else fresh
    groups = fresh.groupby(list(COUNTER_KEY), sort=True, observed=True)
    found = groups[list(_SUMS)].sum().reset_index()
    code = groups.ngroup().to_numpy().astype(np.int64)
    buckets = _added_buckets(code, fresh["buckets"], groups=len(found))
    histogram = np.zeros((len(found), len(NO_HISTOGRAM)), dtype=np.int64)
    if len(fresh):
        np.add.at(histogram, code, np.array([each or NO_HISTOGRAM for each in fresh["histogram"]], dtype=np.int64))
    found["buckets"] = pd.Series(buckets, dtype=object)
    found["histogram"] = pd.Series(histogram.tolist(), dtype=object)
    return found[list(INCREMENT_COLUMNS)]


def _added_buckets(code: NDArray[np.int64], buckets: pd.Series, *, groups: int) -> list[dict[int, int]]:
    """Return the buckets of each group, given the group of each row: of all rows at once, each has ten or so."""
    found: list[dict[int, int]] = [{} for _ in range(groups)]
    row = np.repeat(code, [len(each) for each in buckets])
    if len(row):
        bucket = np.fromiter(chain.from_iterable(buckets), np.int64, len(row))
        number = np.fromiter(chain.from_iterable(each.values() for each in buckets), np.int64, len(row))
        width = int(bucket.max()) + 1
        different, place = np.unique(row * width + bucket, return_inverse=True)
        at, name = np.divmod(different, width)
        numbers = np.zeros(len(different), np.int64)
        np.add.at(numbers, place, number)
        for group, key, total in zip(at.tolist(), name.tolist(), numbers.tolist(), strict=True):
            found[group][key] = total
    return found

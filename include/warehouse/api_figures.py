"""
The figures of API calls: how fast they are answered, how many fail at which endpoint, rate limits and circuit breakers.

All are of ``monitoring.api_call_hourly``, of the one source that is believed (`include.sync_health.api_availability`); each says
which. Where none tells it, the number is None and ``unavailable`` is a sentence that says how to switch a source on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd
import psycopg
from psycopg import sql

from include.sync_health.api_availability import SWITCH_ON, ApiMeasure, source_of, told_status
from include.sync_health.response_times import quantile
from include.warehouse.api_sources import read_sources
from include.warehouse.figures import conditions, percent, ratio, require_hours
from include.warehouse.monitoring_session import storage_errors
from include.warehouse.stored_values import stored_moment

P95 = 0.95

RESPONSE_HOUR_COLUMNS = (
    "hour",  # datetime64[us, UTC]: its beginning
    "timed",  # int64: calls whose time is known; never 0
    "average_ms",  # float64
    "p95_ms",  # float64: within 2 %
)
"""One row per UTC hour that has a timed call."""

ENDPOINT_COLUMNS = (
    "endpoint",  # str: ids masked; "other": beyond those that are told apart; "": not known
    "requests",  # int64
    "errors",  # int64: answered with 400 and above, or not at all
    "error_rate",  # float64, percent; NaN: no request
)
"""One row per endpoint that was called, the most errors first, then the most requests, then by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """
    Who tells a figure.

    Args:
        source: ``table``, ``log`` or ``probe``; None: nobody does, and the figure is None.
        unavailable: None, or the sentence that says so, and how to switch a source on.
        doubt: None, or a sentence: the source cannot be read at present.
        read_until: up to when the source was read (aware); None: not known. What is later is missing.
    """

    source: str | None
    unavailable: str | None = None
    doubt: str | None = None
    read_until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseTimes:
    """
    Response times of a range.

    Args:
        told: who tells them.
        timed: calls whose time is known; None: unavailable.
        average_ms: their mean, in milliseconds; None: unavailable, or there was none.
        p95_ms: the nearest-rank 95th percentile in milliseconds, within 2 %; None likewise.
        longest_ms: None likewise.
    """

    told: Told
    timed: int | None = None
    average_ms: float | None = None
    p95_ms: float | None = None
    longest_ms: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointErrors:
    """
    Calls and errors of a range.

    Args:
        told: who tells them.
        endpoints: `ENDPOINT_COLUMNS`; empty where they are unavailable, too.
        requests, errors: of all endpoints; None: unavailable.
    """

    told: Told
    endpoints: pd.DataFrame
    requests: int | None = None
    errors: int | None = None

    @property
    def error_rate(self) -> float | None:
        """Percent of all requests that failed; None: unavailable, or there was none."""
        return percent(self.errors, self.requests)


@dataclass(frozen=True, slots=True, kw_only=True)
class Incidents:
    """
    Rate-limit incidents, or openings of a circuit breaker, of a range.

    Args:
        told: who tells them.
        total: how many; None: unavailable; 0: a source was read, and there was none.
        by_credential: those that had any, the most first; "": nobody knows whose it was.
        last_hour: the beginning of the newest hour with one (UTC); None: there was none.
    """

    told: Told
    total: int | None = None
    by_credential: Mapping[str, int]
    last_hour: datetime | None = None


_WITHIN = sql.SQL(
    "monitoring.api_call_hourly WHERE hour >= %(start)s AND hour < %(end)s AND source = %(source)s {asked}"
)
_TIMES = sql.SQL(
    """
    SELECT sum(response_count)::bigint, sum(response_ms_sum), max(response_ms_max) FROM {within}
    """
)
_BUCKETS = sql.SQL(
    """
    SELECT each.bucket::int, sum(each.number::bigint)::bigint
    FROM (SELECT response_buckets FROM {within} AND response_count > 0) AS timed,
         jsonb_each_text(timed.response_buckets) AS each (bucket, number)
    GROUP BY each.bucket
    """
)
_TIMES_BY_HOUR = sql.SQL(
    """
    SELECT hour, sum(response_count)::bigint, sum(response_ms_sum) FROM {within} AND response_count > 0
    GROUP BY hour ORDER BY hour
    """
)
_BUCKETS_BY_HOUR = sql.SQL(
    """
    SELECT timed.hour, each.bucket::int, sum(each.number::bigint)::bigint
    FROM (SELECT hour, response_buckets FROM {within} AND response_count > 0) AS timed,
         jsonb_each_text(timed.response_buckets) AS each (bucket, number)
    GROUP BY timed.hour, each.bucket
    """
)
_ENDPOINTS = sql.SQL(
    """
    SELECT endpoint, sum(requests)::bigint AS requests, sum(errors)::bigint AS errors FROM {within}
    GROUP BY endpoint HAVING sum(requests) > 0 OR sum(errors) > 0
    ORDER BY errors DESC, requests DESC, endpoint COLLATE "C"
    """
)
_INCIDENTS = sql.SQL(
    """
    SELECT credential_id, sum({number})::bigint AS incidents, max(hour) FROM {within} AND {number} > 0
    GROUP BY credential_id ORDER BY incidents DESC, credential_id COLLATE "C"
    """
)


@storage_errors()
def who_tells(conn: psycopg.Connection[Any], measure: ApiMeasure) -> Told:
    """
    Return which source tells a measure; one statement over three rows at most.

    Raises:
        StorageError: the schema is missing or older than this code, or the database unreachable.
    """
    sources = {str(name): each for name, each in read_sources(conn).items()}
    found = source_of(
        measure,
        statuses={
            name: told_status(name, each.status, was_read=each.read_until is not None) for name, each in sources.items()
        },
        timed={name: each.has_timings for name, each in sources.items()},
    )
    if found is None:
        failing = [
            f" The {name} cannot be read: {each.detail}"
            for name, each in sorted(sources.items())
            if each.status == "failing" and source_of(measure, statuses={name: "available"}, timed={name: True}) == name
        ]
        return Told(source=None, unavailable=SWITCH_ON[measure] + "".join(failing))
    chosen = sources[found]
    is_failing = chosen.status == "failing"
    return Told(
        source=found,
        doubt=f"The source {found} cannot be read at present: {chosen.detail}" if is_failing else None,
        read_until=chosen.read_until,
    )


@storage_errors()
def response_times(
    conn: psycopg.Connection[Any],
    *,
    start: datetime,
    end: datetime,
    environment: str | None = None,
    credential_id: str | None = None,
    endpoint: str | None = None,
) -> ResponseTimes:
    """
    Return the response times of the hours that begin in [start, end): average, p95 and longest.

    The average is of sums; the percentile is of the hours' buckets together, never a mean of percentiles. Three
    statements; the cost follows the rows of the range.

    Args:
        conn: any session; nothing is written or committed.
        start, end: aware.
        environment, credential_id, endpoint: of this one only, an endpoint with ids masked; None for all.

    Raises:
        RequestError: an instant is naive, or the range is none.
        StorageError: the schema is missing or older than this code, or the database unreachable.
    """
    require_hours(start, end)
    told = who_tells(conn, ApiMeasure.RESPONSE_TIMES)
    if told.source is None:
        return ResponseTimes(told=told)
    asked = {"environment": environment, "credential_id": credential_id, "endpoint": endpoint}
    within, parameters = _within(start, end, source=told.source, asked=asked)
    timed, milliseconds, longest = conn.execute(_TIMES.format(within=within), parameters).fetchone() or (0, 0, None)
    buckets = dict(conn.execute(_BUCKETS.format(within=within), parameters).fetchall())
    return ResponseTimes(
        told=told,
        timed=timed or 0,
        average_ms=ratio(milliseconds, timed),
        p95_ms=quantile(buckets, P95),
        longest_ms=longest,
    )


@storage_errors()
def response_times_by_hour(
    conn: psycopg.Connection[Any],
    *,
    start: datetime,
    end: datetime,
    environment: str | None = None,
    credential_id: str | None = None,
    endpoint: str | None = None,
) -> tuple[Told, pd.DataFrame]:
    """
    Return who tells response times, and `RESPONSE_HOUR_COLUMNS`, oldest first; else as `response_times`.

    The frame is empty where they are unavailable.

    Raises:
        RequestError: an instant is naive, or the range is none.
        StorageError: the schema is missing or older than this code, or the database unreachable.
    """
    require_hours(start, end)
    told = who_tells(conn, ApiMeasure.RESPONSE_TIMES)
    rows: list[tuple[Any, ...]] = []
    buckets: dict[datetime, dict[int, int]] = {}
    if told.source is not None:
        asked = {"environment": environment, "credential_id": credential_id, "endpoint": endpoint}
        within, parameters = _within(start, end, source=told.source, asked=asked)
        rows = conn.execute(_TIMES_BY_HOUR.format(within=within), parameters).fetchall()
        for hour, bucket, number in conn.execute(_BUCKETS_BY_HOUR.format(within=within), parameters):
            buckets.setdefault(hour, {})[bucket] = number
    hours = [hour for hour, *_ in rows]
    frame = pd.DataFrame(
        {
            "hour": pd.to_datetime(pd.Series(hours, dtype=object), utc=True).astype("datetime64[us, UTC]"),
            "timed": np.array([timed for _, timed, _ in rows], dtype=np.int64),
            "average_ms": np.array([milliseconds / timed for _, timed, milliseconds in rows], dtype=np.float64),
            "p95_ms": np.array([quantile(buckets.get(hour, {}), P95) for hour in hours], dtype=np.float64),
        },
        columns=list(RESPONSE_HOUR_COLUMNS),
    )
    return told, frame


@storage_errors()
def errors_by_endpoint(
    conn: psycopg.Connection[Any],
    *,
    start: datetime,
    end: datetime,
    environment: str | None = None,
    credential_id: str | None = None,
) -> EndpointErrors:
    """
    Return the calls and errors of the hours that begin in [start, end), by endpoint.

    Two statements; the cost follows the rows of the range. Arguments are those of `response_times`.

    Raises:
        RequestError: an instant is naive, or the range is none.
        StorageError: the schema is missing or older than this code, or the database unreachable.
    """
    require_hours(start, end)
    told = who_tells(conn, ApiMeasure.CALLS)
    rows: list[tuple[Any, ...]] = []
    if told.source is not None:
        asked = {"environment": environment, "credential_id": credential_id}
        within, parameters = _within(start, end, source=told.source, asked=asked)
        rows = conn.execute(_ENDPOINTS.format(within=within), parameters).fetchall()
    found = pd.DataFrame(rows, columns=list(ENDPOINT_COLUMNS[:-1]), dtype=object)
    requests, errors = (found[name].astype(np.int64) for name in ("requests", "errors"))
    rate = 100 * errors.to_numpy(np.float64) / requests.where(requests > 0).to_numpy(np.float64)
    is_known = told.source is not None
    return EndpointErrors(
        told=told,
        endpoints=found.assign(requests=requests, errors=errors, error_rate=rate)[list(ENDPOINT_COLUMNS)],
        requests=int(requests.sum()) if is_known else None,
        errors=int(errors.sum()) if is_known else None,
    )


@storage_errors()
def rate_limit_incidents(
    conn: psycopg.Connection[Any],
    *,
    start: datetime,
    end: datetime,
    environment: str | None = None,
    credential_id: str | None = None,
) -> Incidents:
    """
    Return the times that ServiceTitan refused for the rate in the hours that begin in [start, end).

    Of the table each call answered with 429; of the log by the counting rules of docs/api-calls.md, which leave out what
    is logged twice. Two statements; arguments are those of `response_times`.

    Raises:
        RequestError: an instant is naive, or the range is none.
        StorageError: the schema is missing or older than this code, or the database unreachable.
    """
    asked = {"environment": environment, "credential_id": credential_id}
    return _incidents(conn, ApiMeasure.RATE_LIMITS, number="rate_limited", start=start, end=end, asked=asked)


@storage_errors()
def circuit_openings(
    conn: psycopg.Connection[Any],
    *,
    start: datetime,
    end: datetime,
    environment: str | None = None,
    credential_id: str | None = None,
) -> Incidents:
    """
    Return the times that the application's circuit breaker opened in the hours that begin in [start, end).

    The log alone tells of it, and leaves out those that open again after a try: the number is a lower bound. Two
    statements; arguments are those of `response_times`.

    Raises:
        RequestError: an instant is naive, or the range is none.
        StorageError: the schema is missing or older than this code, or the database unreachable.
    """
    asked = {"environment": environment, "credential_id": credential_id}
    return _incidents(conn, ApiMeasure.CIRCUIT_OPENINGS, number="circuit_opened", start=start, end=end, asked=asked)


def _incidents(
    conn: psycopg.Connection[Any],
    measure: ApiMeasure,
    *,
    number: str,
    start: datetime,
    end: datetime,
    asked: Mapping[str, str | None],
) -> Incidents:
    require_hours(start, end)
    told = who_tells(conn, measure)
    if told.source is None:
        return Incidents(told=told, by_credential={})
    within, parameters = _within(start, end, source=told.source, asked=asked)
    query = _INCIDENTS.format(within=within, number=sql.Identifier(number))
    rows = conn.execute(query, parameters).fetchall()
    return Incidents(
        told=told,
        total=sum(count for _, count, _ in rows),
        by_credential={credential: count for credential, count, _ in rows},
        last_hour=stored_moment(max((hour for _, _, hour in rows), default=None)),
    )


def _within(
    start: datetime, end: datetime, *, source: str, asked: Mapping[str, str | None]
) -> tuple[sql.Composable, dict[str, Any]]:
    conditioned, parameters = conditions(asked)
    return _WITHIN.format(asked=conditioned), {"start": start, "end": end, "source": source, **parameters}

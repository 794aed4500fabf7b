"""The events that service levels count, by day: from the daily quality and from the API calls by hour."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

import numpy as np
import pandas as pd
import psycopg
from psycopg import sql

from include.sync_health.api_availability import ApiMeasure
from include.sync_health.company_names import UNKNOWN_ENVIRONMENT
from include.sync_health.daily_quality import day_bounds, local_day
from include.sync_health.measuring_policies import ServiceLevelsPolicy
from include.sync_health.response_times import HISTOGRAM_MS, buckets_of, milliseconds_of
from include.sync_health.service_levels import OBJECTIVE_DAY_COLUMNS, Budget, Objective, budgets, window_of
from include.warehouse.api_figures import who_tells
from include.warehouse.figures import require_days
from include.warehouse.monitoring_session import storage_errors

# Records of days whose counts contradict themselves have no score, and are no events either.
_DAYS = """
    SELECT day, coalesce(environment, %(unknown)s),
           sum(syncs_completed)::bigint, sum(syncs_completed + syncs_failed)::bigint,
           coalesce(sum(records_successful) FILTER (WHERE quality_score IS NOT NULL), 0)::bigint,
           coalesce(sum(records_processed) FILTER (WHERE quality_score IS NOT NULL), 0)::bigint
    FROM monitoring.quality_daily
    WHERE day BETWEEN %(first)s AND %(last)s
    GROUP BY 1, 2
"""

# First by hour: a zone is looked up for each hour, and not for each row.
_CALLS = sql.SQL(
    """
    SELECT (hour AT TIME ZONE %(timezone)s)::date, environment, coalesce(sum(good), 0)::bigint, sum(total)::bigint
    FROM (
        SELECT hour, environment, sum({good}) {counted} AS good, sum({total}) AS total
        FROM monitoring.api_call_hourly {exploded}
        WHERE hour >= %(start)s AND hour < %(end)s AND source = %(source)s AND response_count > 0
        GROUP BY hour, environment
    ) AS hours
    GROUP BY 1, 2
    """
)
_BY_BUCKETS = _CALLS.format(
    good=sql.SQL("each.number::bigint"),
    counted=sql.SQL("FILTER (WHERE each.bucket::int <= %(bucket)s)"),
    total=sql.SQL("each.number::bigint"),
    exploded=sql.SQL(", jsonb_each_text(response_buckets) AS each (bucket, number)"),
)


def _by_histogram(bounds: int) -> sql.Composed:
    """Return the statement for the first bounds of the histogram: exact, and in a quarter of the time of buckets."""
    good = sql.SQL(" + ").join(sql.SQL("histogram[{}]").format(sql.Literal(place)) for place in range(1, bounds + 1))
    return _CALLS.format(good=good, counted=sql.SQL(""), total=sql.SQL("response_count"), exploded=sql.SQL(""))


@storage_errors()
def read_objective_days(
    conn: psycopg.Connection[Any], *, first: date, last: date, timezone: str, within_ms: float
) -> pd.DataFrame:
    """
    Return the events of each day, environment and objective, in at most three statements.

    Syncs and records are those of ``quality_daily``, as it is stored, whatever zone it was computed in. Calls are of the one
    source that is believed for response times (`include.sync_health.api_availability`), none where there is none. A UTC hour of
    calls belongs to the day in which it begins. The cost follows the rows of the days.

    Args:
        conn: any session; nothing is written or committed.
        first, last: days of the reporting time zone, both included.
        timezone: the reporting time zone, an IANA name.
        within_ms: a call that takes at most so many milliseconds is good; exact at a bound of `HISTOGRAM_MS`, else within
            2 %, as buckets are wide.

    Returns:
        `OBJECTIVE_DAY_COLUMNS`, ordered by day, environment as text and objective as `Objective` has them; no row without an
        event.

    Raises:
        RequestError: the range is none.
        StorageError: the schema is missing or older than this code, or the database unreachable.
    """
    require_days(first, last)
    rows: list[tuple[date, str, Objective, int, int]] = []
    asked = {"first": first, "last": last, "unknown": UNKNOWN_ENVIRONMENT}
    for day, environment, completed, ended, successful, processed in conn.execute(_DAYS, asked):
        rows.append((day, environment, Objective.SYNC_COMPLETION, completed, ended))
        rows.append((day, environment, Objective.QUALITY, successful, processed))
    told = who_tells(conn, ApiMeasure.RESPONSE_TIMES)
    if told.source is not None:
        wanted = {
            "start": day_bounds(first, timezone=timezone)[0],
            "end": day_bounds(last, timezone=timezone)[1],
            "timezone": timezone,
            "source": told.source,
            "bucket": last_bucket_within(within_ms),
        }
        is_bound = within_ms in HISTOGRAM_MS
        query = _by_histogram(HISTOGRAM_MS.index(within_ms) + 1) if is_bound else _BY_BUCKETS
        for day, environment, good, total in conn.execute(query, wanted):
            rows.append((day, environment, Objective.API_LATENCY, good, total))
    order = list(Objective)
    rows.sort(key=lambda row: (row[0], row[1], order.index(row[2])))
    frame = pd.DataFrame(
        [(*row[:2], str(row[2]), *row[3:]) for row in rows if row[-1]],
        columns=list(OBJECTIVE_DAY_COLUMNS),
        dtype=object,
    )
    return frame.astype({"good": np.int64, "total": np.int64})


@storage_errors()
def read_budgets(
    conn: psycopg.Connection[Any], *, levels: ServiceLevelsPolicy, timezone: str, now: datetime
) -> tuple[Budget, ...]:
    """
    Return the budget of each objective and environment at an instant: `include.sync_health.service_levels.budgets`.

    Args:
        conn: any session; nothing is written or committed.
        levels: the objectives and their window.
        timezone: the reporting time zone, an IANA name.
        now: the instant; aware: its day is not over, and not in it.

    Raises:
        StorageError: the schema is missing or older than this code, or the database unreachable.
    """
    today = local_day(now, timezone=timezone)
    first, last = window_of(levels, today=today)
    within_ms = levels.api_latency_within.total_seconds() * 1_000
    days = read_objective_days(conn, first=first, last=last, timezone=timezone, within_ms=within_ms)
    return budgets(days, levels=levels, today=today)


def last_bucket_within(milliseconds: float) -> int:
    """Return the last bucket that `share_within` counts as within so long; -1 where none is."""
    bucket = int(buckets_of(np.array([milliseconds], dtype=np.float64))[0])
    return bucket if milliseconds_of(bucket) <= milliseconds else bucket - 1

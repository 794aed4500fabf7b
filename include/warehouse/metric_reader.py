"""
What ``/metrics`` tells, as our schema has it: bare rows, of one moment, in one transaction.

Nothing is computed here that a database would not do better: no sum over labels, no ratio, no age. A year of history makes
none of the statements slower: each reads one row for each series, or goes along an index to the newest ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import psycopg

from include.sync_health.api_availability import ApiMeasure, source_of, told_status
from include.sync_health.health import StoredHealth
from include.sync_health.metric_contract import CREDENTIAL_STATUSES, SYNC_FAILURES, UNKNOWN, metrics_kept
from include.sync_health.policy import MonitoringLevel
from include.warehouse.health_snapshots import newest_health
from include.warehouse.metric_emissions import newest_counts
from include.warehouse.monitoring_session import storage_errors
from include.warehouse.snapshots import KNOWN_CREDENTIALS
from include.warehouse.stored_values import aware

STATEMENT_TIMEOUT = "30s"
"""Of each statement: who scrapes has given up by then."""

STATUS_KEPT = timedelta(days=1)
"""For so long the connection status that a credential had before is told as 0."""

DEAD_WITHIN = timedelta(days=1)
"""Messages given up that were made so long ago, at most, are counted."""

Row = tuple[Any, ...]

_SYNCS = """
    SELECT environment, data_type, status, coalesce(nullif(company_id, ''), %(unknown)s), credential_id,
           syncs, duration_count, duration_seconds_sum,
           records_processed, records_successful, records_failed, last_at, last_sync_id
    FROM monitoring.sync_counter
"""

_FAILURES = """
    SELECT environment, data_type, error_class, coalesce(nullif(company_id, ''), %(unknown)s), credential_id,
           failures::bigint
    FROM monitoring.sync_counter CROSS JOIN LATERAL jsonb_each_text(failed_by_class) AS each (error_class, failures)
    WHERE status = 'failed'
"""

_NEWEST = f"""
    WITH RECURSIVE {KNOWN_CREDENTIALS}, newest AS MATERIALIZED (
        SELECT known.credential_id, each.as_of, each.environment, each.connection_status, each.company_id,
               each.token_expires_at, each.is_deleted
        FROM known CROSS JOIN LATERAL (
            SELECT * FROM monitoring.credential_snapshot AS snapshot
            WHERE snapshot.credential_id = known.credential_id ORDER BY snapshot.as_of DESC LIMIT 1
        ) AS each
        WHERE known.credential_id IS NOT NULL
    )
"""  # noqa: S608 - constants of our own

_LABELS = """
    coalesce(nullif({0}.environment, ''), %(unknown)s),
    CASE WHEN {0}.connection_status = ANY (%(statuses)s) THEN {0}.connection_status ELSE %(unknown)s END,
    coalesce(nullif({0}.company_id, ''), %(unknown)s), {0}.credential_id
"""

# A snapshot is written when something changes: what was there a day ago stands in the newest row before that.
_CREDENTIALS = f"""
    {_NEWEST}
    SELECT {_LABELS.format("newest")}, true, newest.token_expires_at FROM newest WHERE NOT newest.is_deleted
    UNION ALL
    SELECT DISTINCT {_LABELS.format("each")}, false, NULL::timestamptz
    FROM newest CROSS JOIN LATERAL (
        SELECT * FROM monitoring.credential_snapshot AS recent
        WHERE recent.credential_id = newest.credential_id AND recent.as_of > %(since)s
        UNION ALL
        (SELECT * FROM monitoring.credential_snapshot AS before
         WHERE before.credential_id = newest.credential_id AND before.as_of <= %(since)s
         ORDER BY before.as_of DESC LIMIT 1)
    ) AS each
    WHERE newest.as_of > %(since)s AND NOT each.is_deleted
      AND (newest.is_deleted
           OR (each.environment, each.connection_status, each.company_id)
              IS DISTINCT FROM (newest.environment, newest.connection_status, newest.company_id))
"""  # noqa: S608 - constants of this module

_QUALITY = """
    SELECT environment, data_type, coalesce(nullif(company_id, ''), %(unknown)s), credential_id, total, valid, invalid
    FROM monitoring.quality_gauge
"""

_API_SOURCES = """
    SELECT source, status, has_timings, read_until IS NOT NULL FROM monitoring.api_source ORDER BY source
"""

_API_CALLS = """
    SELECT coalesce(nullif(environment, ''), %(unknown)s), coalesce(nullif(endpoint, ''), %(unknown)s),
           status_code::text, coalesce(nullif(company_id, ''), %(unknown)s),
           coalesce(nullif(credential_id, ''), %(unknown)s),
           requests, errors, response_count, response_ms_sum, histogram
    FROM monitoring.api_counter WHERE source = %(source)s
"""

_CHECKS = """
    SELECT name, newest.window_to, newest.computed_at, newest.status = 'blind', newest.rows_read, newest.source_ms,
           newest.total_ms
    FROM unnest(%(checks)s::text[]) AS name CROSS JOIN LATERAL (
        SELECT * FROM monitoring.check_run
        WHERE check_name = name AND mode = 'live' AND filters = '{}'
        ORDER BY window_to DESC, computed_at DESC LIMIT 1
    ) AS newest
    ORDER BY name
"""

_ALERTS = """
    SELECT rule, severity, count(*) FROM monitoring.alert
    WHERE is_followed AND state IN ('firing', 'recovering') GROUP BY rule, severity ORDER BY rule, severity
"""

_DELIVERIES = """
    WITH waiting AS (
        SELECT split_part(channel, ':', 1) AS kind, count(*) AS messages, min(created_at) AS oldest
        FROM monitoring.delivery WHERE status IN ('pending', 'leased') GROUP BY 1
    ), dead AS (
        SELECT split_part(channel, ':', 1) AS kind, count(*) AS messages
        FROM monitoring.delivery WHERE status = 'dead' AND created_at > %(dead_since)s GROUP BY 1
    )
    SELECT kind, coalesce(waiting.messages, 0), waiting.oldest, coalesce(dead.messages, 0)
    FROM waiting FULL JOIN dead USING (kind) ORDER BY kind
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricRows:
    """
    The rows, in no particular order; a label that nobody knows is ``unknown``.

    Args:
        syncs: environment, data_type, status (``started``, or how a sync ended), company_id, credential_id; syncs,
            duration_count, duration_seconds_sum; records_processed, records_successful and records_failed of the newest
            sync, each None where it has none; last_at and last_sync_id of it.
        failures: environment, data_type, error_class, company_id, credential_id; how many syncs. Empty below the level
            ``detailed``, where nobody tells them.
        credentials: environment, status, company_id, credential_id; True for what a credential is now, False for what
            it was within `STATUS_KEPT`; when its token expires, or None.
        quality: environment, data_type, company_id, credential_id; records total, valid, invalid, each None where the
            source's counts could not be read.
        api_sources: source, status (available, unavailable, failing), whether it has response times, whether it was read.
        api_calls: of the one source that is believed for calls: environment, endpoint, status_code as text, company_id,
            credential_id; requests, errors, timed calls, their milliseconds, and how many lie in each bucket of the
            histogram, not cumulated. None where there is no source.
        api_timings: the same of the one that is believed for response times.
        checks: of the newest live run over everybody: check, end of its window, when it ran, whether it was blind, rows
            read, milliseconds that the source took, milliseconds in all. A check that never ran has no row.
        alerts: rule, severity, how many are open.
        deliveries: kind of channel, messages that wait, when the oldest of them was made or None, messages given up that
            were made within `DEAD_WITHIN`.
        health: the newest health check; None without any.
        counts: those of `RECORDS` that the newest run could read; None: nobody wrote it down.
    """

    syncs: Sequence[Row]
    failures: Sequence[Row]
    credentials: Sequence[Row]
    quality: Sequence[Row]
    api_sources: Sequence[Row]
    api_calls: Sequence[Row] | None
    api_timings: Sequence[Row] | None
    checks: Sequence[Row]
    alerts: Sequence[Row]
    deliveries: Sequence[Row]
    health: StoredHealth | None
    counts: Sequence[str] | None = None


@storage_errors()
def read_metric_rows(
    conn: psycopg.Connection[Any], *, checks: Sequence[str], level: MonitoringLevel, now: datetime
) -> MetricRows:
    """
    Return everything that ``/metrics`` tells, as it was at one moment.

    Args:
        conn: a session without an open transaction; nothing is written.
        checks: names of the checks to tell of.
        level: what is not told at it is not read.
        now: the wall clock, aware.

    Raises:
        ValueError: ``now`` is naive.
        StorageError: the schema is missing or older than this code, or the database unreachable.
    """
    moment = aware(now)
    values: dict[str, Any] = {
        "unknown": UNKNOWN,
        "statuses": list(CREDENTIAL_STATUSES),
        "since": moment - STATUS_KEPT,
        "dead_since": moment - DEAD_WITHIN,
        "checks": list(checks),
    }
    with conn.transaction(), conn.cursor(binary=True) as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        cursor.execute("SELECT set_config('statement_timeout', %s, true)", (STATEMENT_TIMEOUT,))

        def rows(statement: str) -> list[Row]:
            return cursor.execute(statement, values).fetchall()

        api_sources = rows(_API_SOURCES)
        counted, timed = told_sources(api_sources)
        calls = {
            source: cursor.execute(_API_CALLS, {**values, "source": source}).fetchall()
            for source in {counted, timed} - {None}
        }
        return MetricRows(
            syncs=rows(_SYNCS),
            failures=rows(_FAILURES) if SYNC_FAILURES in metrics_kept(level) else (),
            credentials=rows(_CREDENTIALS),
            quality=rows(_QUALITY),
            api_sources=api_sources,
            api_calls=calls.get(counted),
            api_timings=calls.get(timed),
            checks=rows(_CHECKS),
            alerts=rows(_ALERTS),
            deliveries=rows(_DELIVERIES),
            health=newest_health(conn),
            counts=None if (newest := newest_counts(conn)) is None else newest.known,
        )


def told_sources(sources: Sequence[Row]) -> tuple[str | None, str | None]:
    """
    Return whose calls are told, and whose response times, as `source_of` has it; None where there is no source.

    One that fails stays the one that is told, once it was read: a counter that stands still is right, and that of another
    source in its place would look as if calls had been made.

    Args:
        sources: as `MetricRows.api_sources` has them.
    """
    statuses = {source: told_status(source, status, was_read=was_read) for source, status, _, was_read in sources}
    timed = {source: has_timings for source, _, has_timings, _ in sources}
    return (
        source_of(ApiMeasure.CALLS, statuses=statuses, timed=timed),
        source_of(ApiMeasure.RESPONSE_TIMES, statuses=statuses, timed=timed),
    )

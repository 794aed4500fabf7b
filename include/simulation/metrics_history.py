"""
A year of what the monitor stores, for any number of credentials: made inside the database, for the bench of ``/metrics``.

Everything follows from numbers, so that two loads of the same arguments hold the same rows; nothing is random. A tenth of
the credentials have failed, and one in fifty has changed its status within the last day.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import psycopg

DATA_TYPES = ("customers", "invoices")
ENDPOINTS = 50
API_CREDENTIALS = 100
"""The hourly calls of so many credentials are kept: an application writes its calls down for a few, or for none."""

CHECKS = ("sync_failures", "credential_health", "data_quality", "api_metrics")

_STATEMENTS = (
    # What is kept of a token that changes all day: one snapshot a day, and four of each of the last seven.
    """
    INSERT INTO monitoring.credential_snapshot
    SELECT n::text, at, (100000 + n / 2)::text, 'Company ' || n / 2, environment,
           CASE WHEN n %% 50 = 0 AND at > %(now)s - interval '12 hours' THEN 'error' ELSE 'active' END,
           at + interval '15 minutes', true, true, false, at
    FROM (SELECT n, CASE n %% 2 WHEN 0 THEN 'production' ELSE 'integration' END AS environment
          FROM generate_series(1, %(credentials)s) AS n) AS each
    CROSS JOIN (
        SELECT generate_series(%(now)s - make_interval(days => %(days)s), %(now)s - interval '7 days', '1 day') AS at
        UNION
        SELECT generate_series(%(now)s - interval '7 days' + interval '6 hours', %(now)s, '6 hours')
    ) AS moments
    """,
    """
    INSERT INTO monitoring.sync_counter
    SELECT environment, (100000 + n / 2)::text, n::text, data_type, status, 1 + n * 7 %% 9000,
           CASE status WHEN 'started' THEN 0 ELSE 1 + n * 7 %% 9000 END,
           CASE status WHEN 'started' THEN 0 ELSE n * 61.37 END,
           CASE status WHEN 'started' THEN NULL ELSE %(now)s - make_interval(mins => n %% 600) END,
           CASE status WHEN 'started' THEN NULL ELSE (n * 1000)::text END,
           CASE status WHEN 'started' THEN NULL ELSE n %% 1000 END,
           CASE status WHEN 'started' THEN NULL ELSE n %% 1000 - n %% 1000 / 50 END,
           CASE status WHEN 'started' THEN NULL ELSE n %% 1000 / 50 END,
           CASE status WHEN 'failed' THEN jsonb_build_object('auth', 1 + n * 7 %% 9000) ELSE '{}' END,
           %(now)s
    FROM (SELECT n, CASE n %% 2 WHEN 0 THEN 'production' ELSE 'integration' END AS environment
          FROM generate_series(1, %(credentials)s) AS n) AS each
    CROSS JOIN unnest(%(data_types)s::text[]) AS data_type
    CROSS JOIN unnest(ARRAY['started', 'completed', 'failed']) AS status
    WHERE status <> 'failed' OR n %% 10 = 0
    """,
    """
    INSERT INTO monitoring.quality_gauge (environment, company_id, credential_id, data_type, as_of, total, valid, invalid)
    SELECT CASE n %% 2 WHEN 0 THEN 'production' ELSE 'integration' END, (100000 + n / 2)::text, n::text, data_type,
           %(now)s, n %% 5000, n %% 5000 - n %% 5000 / 50, n %% 5000 / 50
    FROM generate_series(1, %(credentials)s) AS n CROSS JOIN unnest(%(data_types)s::text[]) AS data_type
    """,
    """
    INSERT INTO monitoring.quality_daily
        (day, credential_id, data_type, company_id, company_name, environment, syncs_total, syncs_completed, syncs_clean,
         syncs_partial, syncs_failed, syncs_cancelled, syncs_open, records_processed, records_successful, records_failed,
         quality_score, inconsistent, score_low, score_high, duration_avg_seconds, duration_p95_seconds, is_final,
         computed_at, calc_version)
    SELECT (%(now)s AT TIME ZONE 'UTC')::date - back, n::text, data_type, (100000 + n / 2)::text, 'Company ' || n / 2,
           CASE n %% 2 WHEN 0 THEN 'production' ELSE 'integration' END, 24, 24 - n %% 3, 23 - n %% 3, 1, n %% 3, 0, 0,
           1000, 990, 10, 99, 0, 98, 99.5, 60, 120, true, %(now)s, 1
    FROM generate_series(1, %(days)s) AS back CROSS JOIN generate_series(1, %(credentials)s) AS n
    CROSS JOIN unnest(%(data_types)s::text[]) AS data_type
    """,
    """
    INSERT INTO monitoring.sync_hour
    SELECT hour, environment, data_type, 5000, 4900, 4850, 50, 100, 0, 4900, 300000, 1000000, 990000, 10000,
           '{"auth": 100}', %(now)s
    FROM generate_series(
        date_trunc('hour', %(now)s - make_interval(days => %(days)s)), date_trunc('hour', %(now)s), '1 hour'
    ) AS hour
    CROSS JOIN unnest(ARRAY['production', 'integration']) AS environment
    CROSS JOIN unnest(%(data_types)s::text[]) AS data_type
    """,
    """
    INSERT INTO monitoring.api_counter
        (source, credential_id, environment, company_id, endpoint, status_code, requests, errors, response_count,
         response_ms_sum, histogram, updated_at)
    SELECT 'table', n::text, CASE n %% 2 WHEN 0 THEN 'production' ELSE 'integration' END, (100000 + n / 2)::text,
           '/crm/v2/tenant/{id}/things' || endpoint, status, 1000 + n, CASE WHEN status >= 400 THEN 1000 + n ELSE 0 END,
           1000 + n, (1000 + n) * 230.5, ARRAY[n, 100, 200, 300, 200, 100, 50, 20, 20, 5, 5]::bigint[], %(now)s
    FROM generate_series(1, least(%(credentials)s, %(api_credentials)s)) AS n
    CROSS JOIN generate_series(1, %(endpoints)s) AS endpoint CROSS JOIN unnest(ARRAY[200, 500]) AS status
    WHERE status = 200 OR endpoint %% 5 = 0
    """,
    """
    INSERT INTO monitoring.api_source VALUES
        ('table', 'available', true, 'servicetitan_api_calls', %(now)s, '{}', %(now)s),
        ('log', 'unavailable', false, 'no log is configured', NULL, '{}', %(now)s),
        ('probe', 'unavailable', false, 'no connection servicetitan_<id>', NULL, '{}', %(now)s)
    """,
    """
    INSERT INTO monitoring.check_run
        (run_id, check_name, window_from, window_to, mode, filters, status, rows_read, source_ms, total_ms, verdicts,
         anomalies, notes, computed_at)
    SELECT md5(check_name || at)::uuid, check_name, at - interval '15 minutes', at, 'live', '{}', 'seen', 5000, 412.5,
           900, '{}', '{}', '{}', at
    FROM unnest(%(checks)s::text[]) AS check_name
    CROSS JOIN generate_series(%(now)s - make_interval(days => least(%(days)s, 90)), %(now)s, '15 minutes') AS at
    """,
    # As far back as claims are kept.
    """
    INSERT INTO monitoring.metric_emission (task, window_to, remembered_from, emitted_at, counts_known)
    SELECT 'measure_syncs', at, at - interval '2 days', at,
           ARRAY['records_processed', 'records_successful', 'records_failed']
    FROM generate_series(%(now)s - interval '7 days', %(now)s, '15 minutes') AS at
    """,
    """
    INSERT INTO monitoring.health_snapshot
    SELECT at, 'healthy', '{"status": "healthy"}', 900, at
    FROM generate_series(%(now)s - make_interval(days => least(%(days)s, 90)), %(now)s, '15 minutes') AS at
    """,
    """
    INSERT INTO monitoring.alert
        (fingerprint, rule, identity, state, severity, peak_severity, state_since, last_as_of, flaps, title, message, reason,
         metadata, evidence, told, updated_at)
    SELECT n::text, 'connection_error', jsonb_build_object('credential', n), CASE n %% 10 WHEN 0 THEN 'firing' ELSE
           'inactive' END, 'high', 'high', %(now)s, %(now)s, 0, 'Connection', 'in error', 'status', '{}', '{}', '{}', %(now)s
    FROM generate_series(1, %(credentials)s / 5) AS n
    """,
    """
    INSERT INTO monitoring.delivery
        (key, channel, reason, members, fingerprints, as_of, status, next_attempt_at, sent_at, created_at, updated_at)
    SELECT n::text, 'slack:#ops', 'first', '[]', ARRAY[n::text], at, 'sent', at, at, at, at
    FROM (SELECT n, %(now)s - n * make_interval(days => %(days)s) / (2 * %(credentials)s) AS at
          FROM generate_series(1, 2 * %(credentials)s) AS n) AS each
    """,
)


def fill_history(dsn: str, *, credentials: int, days: int, now: datetime) -> None:
    """
    Fill a migrated, empty database as it would be after so many days.

    Args:
        dsn: of the monitoring database.
        credentials: how many; each syncs both of `DATA_TYPES` every hour, two of them in one company.
        days: of history; at least 8.
        now: when it ends, aware; the newest figures are of this moment.

    Raises:
        ValueError: fewer days.
    """
    if days < timedelta(days=8).days:
        raise ValueError(f"a history of {days} days has no rows that are kept one a day; give 8 or more")
    values = {
        "credentials": credentials,
        "days": days,
        "now": now,
        "data_types": list(DATA_TYPES),
        "checks": list(CHECKS),
        "endpoints": ENDPOINTS,
        "api_credentials": API_CREDENTIALS,
    }
    with psycopg.connect(dsn, autocommit=True) as conn:
        for statement in _STATEMENTS:
            conn.execute(statement.encode(), values)
        # As autovacuum leaves a database that lives: statistics, and pages known to be visible to everybody.
        conn.execute("VACUUM (ANALYZE)")

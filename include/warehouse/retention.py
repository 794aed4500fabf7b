"""
What is deleted from the monitoring schema in the end, and what never is.

Everything goes in batches with a commit each, so that nobody waits for a lock and a run that is killed has done part of
the work; doing it again finds less to do. The daily aggregates are kept for ever.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import psycopg

from include.sync_health.alerts import HOLDING
from include.sync_health.muting import LONGEST_SILENCE
from include.warehouse.monitoring_session import storage_errors
from include.warehouse.outbox_statements import listed
from include.warehouse.stored_values import aware

BATCH = 5_000
"""Rows that one transaction deletes, at most."""

CREDENTIALS_AT_A_TIME = 200
"""Credentials whose snapshots one transaction looks at."""

# The newest live run of a check is the memory of the next one: see `include.warehouse.check_runs`.
_CHECK_RUNS = """
    DELETE FROM monitoring.check_run
    WHERE run_id IN (
        SELECT old.run_id FROM monitoring.check_run AS old
        WHERE old.computed_at < %(before)s
          AND old.run_id NOT IN (
              SELECT DISTINCT ON (check_name) run_id FROM monitoring.check_run
              WHERE mode = 'live' AND filters = '{}' AND status = 'seen'
              ORDER BY check_name, window_to DESC, computed_at DESC
          )
          AND old.run_id NOT IN (
              SELECT DISTINCT ON (check_name) run_id FROM monitoring.check_run
              WHERE mode = 'live' AND filters = '{}' AND newest_started_at IS NOT NULL
              ORDER BY check_name, window_to DESC, computed_at DESC
          )
        LIMIT %(batch)s
    )
"""

# What was told of an alert that is still followed is where its close is threaded, however long it has been open. What is kept
# back is told of once the silence is over, and none lasts longer than `LONGEST_SILENCE`.
_DELIVERIES = f"""
    DELETE FROM monitoring.delivery
    WHERE id IN (
        SELECT old.id FROM monitoring.delivery AS old
        WHERE old.status IN ('sent', 'dead', 'not_sent') AND old.created_at < %(before)s AND old.updated_at < %(before)s
          AND NOT EXISTS (
              SELECT FROM monitoring.alert WHERE alert.is_followed AND alert.fingerprint = ANY (old.fingerprints)
          )
          AND NOT (
              old.silent IS NOT NULL AND old.silent IN {listed(HOLDING)} AND old.accounted_by IS NULL
              AND old.created_at >= %(before)s - interval '{LONGEST_SILENCE.days} days'
          )
        LIMIT %(batch)s
    )
"""  # noqa: S608 -- only constants of the code

_SILENCES = """
    DELETE FROM monitoring.silence
    WHERE id IN (SELECT id FROM monitoring.silence WHERE ends_at < %(before)s AND starts_at < %(before)s LIMIT %(batch)s)
"""

_ALERT_EVENTS = """
    DELETE FROM monitoring.alert_event
    WHERE (fingerprint, as_of, kind) IN (
        SELECT old.fingerprint, old.as_of, old.kind FROM monitoring.alert_event AS old
        WHERE old.as_of < %(before)s AND old.recorded_at < %(before)s
          AND NOT EXISTS (
              SELECT FROM monitoring.alert
              WHERE alert.is_followed AND alert.fingerprint = old.fingerprint AND alert.episode_id = old.episode_id
          )
        LIMIT %(batch)s
    )
"""

_API_CALLS = """
    DELETE FROM monitoring.api_call_hourly
    WHERE ctid = ANY (ARRAY(SELECT ctid FROM monitoring.api_call_hourly WHERE hour < %(before)s LIMIT %(batch)s))
"""

_PROBE_RESULTS = """
    DELETE FROM monitoring.probe_result
    WHERE ctid = ANY (ARRAY(SELECT ctid FROM monitoring.probe_result WHERE at < %(before)s LIMIT %(batch)s))
"""

_SYNC_HOURS = """
    DELETE FROM monitoring.sync_hour
    WHERE ctid = ANY (ARRAY(SELECT ctid FROM monitoring.sync_hour WHERE hour < %(before)s LIMIT %(batch)s))
"""

# The newest is the health that is in force, however old.
_HEALTH_SNAPSHOTS = """
    DELETE FROM monitoring.health_snapshot
    WHERE as_of IN (
        SELECT as_of FROM monitoring.health_snapshot
        WHERE as_of < %(before)s AND as_of < (SELECT max(as_of) FROM monitoring.health_snapshot)
        LIMIT %(batch)s
    )
"""

_NEXT_CREDENTIALS = """
    SELECT DISTINCT credential_id FROM monitoring.credential_snapshot
    WHERE credential_id > %s ORDER BY credential_id LIMIT %s
"""

# `held` is the state at the cutoff: its row holds until the next one, and everything later is kept. What the memory of
# a credential (`include.warehouse.snapshots`) then still needs of older rows: the first row of the errors that last at the
# cutoff, the calm row before it (without which they would seem to have lasted from the start), and the longest lifetime.
# Days that are computed anew ask what a company was called on them: the first row and each change of the name stay.
_SNAPSHOTS = """
    WITH old AS (
        SELECT credential_id, as_of, token_expires_at - as_of AS lifetime,
               connection_status = 'error' AND NOT is_deleted AS in_error,
               max(as_of) OVER mine AS held_at,
               max(as_of) FILTER (WHERE connection_status IS DISTINCT FROM 'error' OR is_deleted) OVER mine AS calm_at,
               lag(as_of) OVER past IS NULL
               OR (company_id, company_name, environment)
                  IS DISTINCT FROM
                  (lag(company_id) OVER past, lag(company_name) OVER past, lag(environment) OVER past) AS is_named_anew
        FROM monitoring.credential_snapshot
        WHERE as_of <= %(before)s AND credential_id = ANY (%(ids)s)
        WINDOW mine AS (PARTITION BY credential_id), past AS (PARTITION BY credential_id ORDER BY as_of)
    ), longest AS (
        SELECT DISTINCT ON (credential_id) credential_id, as_of FROM old
        WHERE lifetime IS NOT NULL ORDER BY credential_id, lifetime DESC, as_of
    ), first_error AS (
        SELECT credential_id, min(as_of) AS as_of FROM old
        WHERE in_error AND as_of > coalesce(calm_at, '-infinity') GROUP BY credential_id
    )
    DELETE FROM monitoring.credential_snapshot AS gone
    USING old
    WHERE gone.credential_id = old.credential_id AND gone.as_of = old.as_of
      AND old.as_of < old.held_at
      AND NOT old.is_named_anew
      AND old.as_of IS DISTINCT FROM old.calm_at
      AND NOT EXISTS (SELECT FROM longest WHERE (longest.credential_id, longest.as_of) = (old.credential_id, old.as_of))
      AND NOT EXISTS (
          SELECT FROM first_error WHERE (first_error.credential_id, first_error.as_of) = (old.credential_id, old.as_of)
      )
"""

# A row that differs from the one before it in nothing but the token is detail; the first of a day (UTC) stays.
_THIN = """
    WITH seen AS (
        SELECT credential_id, as_of, token_expires_at - as_of AS lifetime,
               lag(as_of) OVER mine IS NOT NULL
               AND (company_id, company_name, environment, connection_status, has_client_id, has_client_secret, is_deleted)
                   IS NOT DISTINCT FROM
                   (lag(company_id) OVER mine, lag(company_name) OVER mine, lag(environment) OVER mine,
                    lag(connection_status) OVER mine, lag(has_client_id) OVER mine, lag(has_client_secret) OVER mine,
                    lag(is_deleted) OVER mine) AS is_detail,
               lead(as_of) OVER mine IS NULL AS is_newest
        FROM monitoring.credential_snapshot
        WHERE credential_id = ANY (%(ids)s)
        WINDOW mine AS (PARTITION BY credential_id ORDER BY as_of)
    ), longest AS (
        SELECT DISTINCT ON (credential_id) credential_id, as_of FROM seen
        WHERE lifetime IS NOT NULL ORDER BY credential_id, lifetime DESC, as_of
    ), detail AS (
        SELECT credential_id, as_of, is_newest,
               row_number() OVER (
                   PARTITION BY credential_id, date_trunc('day', as_of AT TIME ZONE 'UTC') ORDER BY as_of
               ) AS rank
        FROM seen
        WHERE is_detail AND as_of < %(before)s AND lifetime < interval '24 hours'
    )
    DELETE FROM monitoring.credential_snapshot AS gone
    USING detail
    WHERE gone.credential_id = detail.credential_id AND gone.as_of = detail.as_of
      AND detail.rank > 1 AND NOT detail.is_newest
      AND NOT EXISTS (
          SELECT FROM longest WHERE (longest.credential_id, longest.as_of) = (detail.credential_id, detail.as_of)
      )
"""


@storage_errors()
def delete_check_runs(conn: psycopg.Connection[Any], *, before: datetime) -> int:
    """
    Delete records of evaluations computed before an instant; return how many.

    Never those that the next run of their check remembers by: the newest live one without filters that saw the
    source, and the newest that knew a newest start.

    Raises:
        ValueError: ``before`` is naive.
        StorageError: the schema is missing or the database unreachable; what was deleted stays deleted.
    """
    return _in_batches(conn, _CHECK_RUNS, before=before)


@storage_errors()
def delete_deliveries(conn: psycopg.Connection[Any], *, before: datetime) -> int:
    """
    Delete finished deliveries (sent, dead, not sent) last touched before an instant, and silences over by then; how many.

    Never one of an alert that is still followed, nor, for another `LONGEST_SILENCE`, one that is kept back and that no
    summary has told of. Errors are those of `delete_check_runs`.
    """
    return _in_batches(conn, _DELIVERIES, before=before) + _in_batches(conn, _SILENCES, before=before)


@storage_errors()
def delete_alert_events(conn: psycopg.Connection[Any], *, before: datetime) -> int:
    """
    Delete events from before an instant; return how many.

    Never one of an episode that is still followed. Errors are those of `delete_check_runs`.
    """
    return _in_batches(conn, _ALERT_EVENTS, before=before)


@storage_errors()
def delete_snapshots(conn: psycopg.Connection[Any], *, before: datetime) -> int:
    """
    Delete credential snapshots that said nothing any more at an instant; return how many.

    Kept are, of each credential: the one that held at that instant and all later ones, so never less than its newest;
    where the error that holds then began, and the calm before it; the longest lifetime of a token; the first of all,
    and each that changed the company or the environment. The memory of a credential at any later instant is the same as
    before, and so are its names at any instant at all (`include.warehouse.snapshots`). Errors are those of
    `delete_check_runs`.
    """
    return _by_credential(conn, _SNAPSHOTS, before=before)


@storage_errors()
def thin_token_detail(conn: psycopg.Connection[Any], *, before: datetime) -> int:
    """
    Thin the snapshots of short-lived tokens from before an instant to one a day (UTC, the first); return how many went.

    Thinned are those with less than 24 hours of the token left when seen that differ from the one before them in
    nothing but ``token_expires_at``. Never a credential's newest, nor that of its longest lifetime. What else a
    credential's memory and its names rest on differs in more than the token, or says the same as the row that stays.
    Errors are those of `delete_check_runs`.
    """
    return _by_credential(conn, _THIN, before=before)


@storage_errors()
def delete_api_calls(conn: psycopg.Connection[Any], *, before: datetime) -> int:
    """
    Delete API calls by hour, and the results of probes, from before an instant; return how many rows.

    What has been counted in all (``api_counter``) stays. Errors are those of `delete_check_runs`.
    """
    return _in_batches(conn, _API_CALLS, before=before) + _in_batches(conn, _PROBE_RESULTS, before=before)


@storage_errors()
def delete_sync_hours(conn: psycopg.Connection[Any], *, before: datetime) -> int:
    """
    Delete syncs by hour from before an instant; return how many rows.

    What has been counted in all (``sync_counter``) stays. Errors are those of `delete_check_runs`.
    """
    return _in_batches(conn, _SYNC_HOURS, before=before)


@storage_errors()
def delete_health_snapshots(conn: psycopg.Connection[Any], *, before: datetime) -> int:
    """
    Delete what the health check found before an instant, never its newest; return how many rows.

    Errors are those of `delete_check_runs`.
    """
    return _in_batches(conn, _HEALTH_SNAPSHOTS, before=before)


def _in_batches(conn: psycopg.Connection[Any], statement: str, *, before: datetime) -> int:
    values = {"before": aware(before), "batch": BATCH}
    deleted = 0
    while True:
        with conn.transaction():
            count = conn.execute(statement.encode(), values).rowcount
        deleted += count
        if count < BATCH:
            return deleted


def _by_credential(conn: psycopg.Connection[Any], statement: str, *, before: datetime) -> int:
    values = {"before": aware(before)}
    deleted = 0
    for ids in _credentials(conn):
        with conn.transaction():
            deleted += conn.execute(statement.encode(), {**values, "ids": ids}).rowcount
    return deleted


def _credentials(conn: psycopg.Connection[Any]) -> Iterator[list[str]]:
    last = ""
    while True:
        with conn.transaction():
            ids = [each for (each,) in conn.execute(_NEXT_CREDENTIALS, (last, CREDENTIALS_AT_A_TIME))]
        if not ids:
            return
        yield ids
        last = ids[-1]

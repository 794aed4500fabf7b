"""
What credentials looked like, as changes: the past of columns that the source overwrites.

A row of ``monitoring.credential_snapshot`` holds from its ``as_of`` until the credential's next row.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import psycopg

from include.sync_health.frames import CREDENTIAL_MEMORY_COLUMNS, id_text, require_columns
from include.warehouse.monitoring_session import storage_errors
from include.warehouse.stored_values import aware, storable_json

if TYPE_CHECKING:
    import pandas as pd

SNAPSHOT_COLUMNS = (
    "credential_id",
    "company_id",
    "company_name",
    "environment",
    "connection_status",
    "token_expires_at",
    "has_client_id",
    "has_client_secret",
)
"""The columns of `CREDENTIAL_COLUMNS` that are kept; a difference in any of them is a change."""

KNOWN_CREDENTIALS = """known (credential_id) AS (
        SELECT min(credential_id) FROM monitoring.credential_snapshot
        UNION ALL
        SELECT (SELECT min(next.credential_id) FROM monitoring.credential_snapshot AS next
                WHERE next.credential_id > known.credential_id)
        FROM known WHERE known.credential_id IS NOT NULL
    )"""
"""SQL of a recursive CTE: the ids that have a snapshot, and a NULL. It hops from id to id over the primary key, so that with
one look-up for each the cost follows the number of credentials, not the length of their history (a token that is refreshed
every 15 minutes is a change every time)."""

# A credential whose newest row is not older than as_of is left alone: the source has no past to read, so what it shows
# now says nothing of an earlier moment.
_RECORD = f"""
    WITH RECURSIVE {KNOWN_CREDENTIALS}, latest AS (
        SELECT newest.*
        FROM known CROSS JOIN LATERAL (
            SELECT * FROM monitoring.credential_snapshot AS snapshot
            WHERE snapshot.credential_id = known.credential_id ORDER BY snapshot.as_of DESC LIMIT 1
        ) AS newest
    ), seen AS (
        SELECT DISTINCT ON (credential_id) *
        FROM jsonb_populate_recordset(NULL::monitoring.credential_snapshot, %(rows)s)
        ORDER BY credential_id
    )
    INSERT INTO monitoring.credential_snapshot
        (credential_id, as_of, company_id, company_name, environment, connection_status, token_expires_at,
         has_client_id, has_client_secret, is_deleted)
    SELECT seen.credential_id, %(as_of)s, seen.company_id, seen.company_name, seen.environment, seen.connection_status,
           seen.token_expires_at, seen.has_client_id, seen.has_client_secret, false
    FROM seen LEFT JOIN latest USING (credential_id)
    WHERE latest.credential_id IS NULL
       OR latest.as_of < %(as_of)s
          AND (seen.company_id, seen.company_name, seen.environment, seen.connection_status, seen.token_expires_at,
               seen.has_client_id, seen.has_client_secret, false)
              IS DISTINCT FROM
              (latest.company_id, latest.company_name, latest.environment, latest.connection_status,
               latest.token_expires_at, latest.has_client_id, latest.has_client_secret, latest.is_deleted)
    UNION ALL
    SELECT latest.credential_id, %(as_of)s, latest.company_id, latest.company_name, latest.environment,
           latest.connection_status, latest.token_expires_at, latest.has_client_id, latest.has_client_secret, true
    FROM latest LEFT JOIN seen USING (credential_id)
    WHERE seen.credential_id IS NULL AND NOT latest.is_deleted AND latest.as_of < %(as_of)s
    ON CONFLICT DO NOTHING
"""  # noqa: S608 -- only constants of this module

# The last series of errors begins with the first row after the last one that shows none. A row that marks a
# disappearance keeps the last known values, but nobody saw the credential in error then: it ends a series.
_MEMORY = """
    WITH past AS (
        SELECT credential_id,
               max(as_of) AS newest_at,
               max(as_of) FILTER (WHERE is_deleted OR connection_status IS DISTINCT FROM 'error') AS last_calm_at,
               max(token_expires_at - as_of) AS token_lifetime
        FROM monitoring.credential_snapshot
        WHERE as_of <= %(as_of)s
        GROUP BY credential_id
    )
    SELECT past.credential_id, newest.connection_status, newest.token_expires_at, newest.has_client_id,
           newest.has_client_secret, newest.is_deleted,
           (SELECT min(each.as_of) FROM monitoring.credential_snapshot AS each
            WHERE each.credential_id = past.credential_id AND each.as_of <= %(as_of)s
              AND each.as_of > coalesce(past.last_calm_at, '-infinity')) AS error_since,
           past.last_calm_at IS NULL AS is_error_from_start,
           past.token_lifetime
    FROM past JOIN monitoring.credential_snapshot AS newest
      ON newest.credential_id = past.credential_id AND newest.as_of = past.newest_at
    ORDER BY past.credential_id
"""

# One pass over the table without sorting it finds how many names each credential has had: one, as a rule, and then its
# first snapshot is all there is to know. Only those with several are put in order.
_NAMES = """
    WITH named AS MATERIALIZED (
        SELECT credential_id, company_id, company_name, environment, count(*) OVER (PARTITION BY credential_id) AS names
        FROM monitoring.credential_snapshot GROUP BY credential_id, company_id, company_name, environment
    ), several AS (
        SELECT DISTINCT credential_id FROM named WHERE names > 1
    ), in_order AS (
        SELECT each.credential_id, each.as_of, each.company_id, each.company_name, each.environment,
               (each.company_id, each.company_name, each.environment) IS DISTINCT FROM
                   (lag(each.company_id) OVER past, lag(each.company_name) OVER past, lag(each.environment) OVER past)
                   AS is_change,
               lag(each.as_of) OVER past IS NULL AS is_first
        FROM monitoring.credential_snapshot AS each JOIN several USING (credential_id)
        WINDOW past AS (PARTITION BY each.credential_id ORDER BY each.as_of)
    )
    SELECT credential_id, NULL::timestamptz AS since, company_id, company_name, environment FROM named WHERE names = 1
    UNION ALL
    SELECT credential_id, CASE WHEN NOT is_first THEN as_of END, company_id, company_name, environment
    FROM in_order WHERE is_change OR is_first
    ORDER BY credential_id, since NULLS FIRST
"""


@storage_errors()
def record_credential_changes(conn: psycopg.Connection[Any], credentials: pd.DataFrame, *, as_of: datetime) -> int:
    """
    Write one row for each credential that changed since its newest snapshot; return how many.

    The first sight of a credential is a change, and so is its disappearance: one row more, with the last known
    values and ``is_deleted``. Saving the same ``as_of`` again, or an older one than a credential's newest row, writes
    nothing for it. An empty frame writes nothing at all: a source without any credential is one that we cannot see.

    Args:
        conn: any session; one statement, nothing is committed.
        credentials: ALL credentials of the source, in any order; at least `SNAPSHOT_COLUMNS`.
        as_of: aware; the moment at which the source was like this.

    Raises:
        FrameError: a column is missing.
        ValueError: ``as_of`` is naive.
        StorageError: the schema is missing or the database unreachable.
    """
    require_columns(credentials, SNAPSHOT_COLUMNS, name="credentials")
    moment = aware(as_of)
    if credentials.empty:
        return 0
    frame = credentials[list(SNAPSHOT_COLUMNS)].astype(object)
    for column in ("credential_id", "company_id"):
        # Integers beside a missing one come as floats, and 3.0 would be another id than 3.
        frame[column] = id_text(credentials[column].convert_dtypes()).astype(object)
    # Missing values are null in JSON, whichever of NaN, NaT, NA and None stands for them.
    rows = frame.where(credentials[list(SNAPSHOT_COLUMNS)].notna(), None).to_dict("records")
    return conn.execute(_RECORD.encode(), {"rows": storable_json(rows), "as_of": moment}).rowcount


@storage_errors()
def credential_memory(conn: psycopg.Connection[Any], *, as_of: datetime) -> pd.DataFrame:
    """
    Return `CREDENTIAL_MEMORY_COLUMNS`: one row per credential that has a snapshot no later than ``as_of``, by id.

    Of a credential that was gone at ``as_of`` (``is_deleted``) the other columns are the last known values, and it is
    not in error. A disappearance ends a series of errors: ``error_since`` of one that came back in error is its return.
    One statement.

    Args:
        conn: any session; nothing is committed.
        as_of: aware; later snapshots are left out.

    Raises:
        ValueError: ``as_of`` is naive.
        StorageError: the schema is missing or the database unreachable.
    """
    import pandas as pd

    rows = conn.execute(_MEMORY, {"as_of": aware(as_of)}).fetchall()
    # As objects, or pandas 3 would turn None into NaN.
    memory = pd.DataFrame(
        {
            column: pd.Series([row[place] for row in rows], dtype=object)
            for place, column in enumerate(CREDENTIAL_MEMORY_COLUMNS)
        }
    )
    for column in ("token_expires_at", "error_since"):
        memory[column] = pd.to_datetime(memory[column], utc=True).astype("datetime64[us, UTC]")
    for column in ("has_client_id", "has_client_secret", "is_deleted", "is_error_from_start"):
        memory[column] = memory[column].astype(bool)
    memory["token_lifetime"] = pd.to_timedelta(memory["token_lifetime"]).astype("timedelta64[us]")
    return memory


@storage_errors()
def names_as_they_were(conn: psycopg.Connection[Any]) -> pd.DataFrame:
    """
    Return `NAME_COLUMNS`: one row per credential and change of its company or environment, by credential and time.

    ``since`` of a credential's first row is NaT: nobody knows of anything before it. A disappearance is no change: its row
    has the last known values. The table is read once: a million snapshots of 30 credentials took 0.3 seconds, and 2.4 where
    each of them had changed its name.

    Args:
        conn: any session; one statement, nothing is committed.

    Raises:
        StorageError: the schema is missing or the database unreachable.
    """
    import pandas as pd

    from include.sync_health.company_names import NAME_COLUMNS

    rows = conn.execute(_NAMES).fetchall()
    names = pd.DataFrame(
        {column: pd.Series([row[place] for row in rows], dtype=object) for place, column in enumerate(NAME_COLUMNS)}
    )
    names["since"] = pd.to_datetime(names["since"], utc=True).astype("datetime64[us, UTC]")
    return names

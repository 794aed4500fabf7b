"""
What credentials looked like, as changes: the past of columns that the source overwrites.

A row of ``monitoring.credential_snapshot`` holds from its ``as_of`` until the credential's next row.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import psycopg

from include.sync_health.frames import id_text, require_columns
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

# `known` hops from id to id over the primary key, and `latest` looks up one row for each: the cost follows the number of
# credentials, not the length of their history (a token that is refreshed every 15 minutes is a change every time).
# A credential whose newest row is not older than as_of is left alone: the source has no past to read, so what it shows
# now says nothing of an earlier moment.
_RECORD = """
    WITH RECURSIVE known (credential_id) AS (
        SELECT min(credential_id) FROM monitoring.credential_snapshot
        UNION ALL
        SELECT (SELECT min(next.credential_id) FROM monitoring.credential_snapshot AS next
                WHERE next.credential_id > known.credential_id)
        FROM known WHERE known.credential_id IS NOT NULL
    ), latest AS (
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
    return conn.execute(_RECORD, {"rows": storable_json(rows), "as_of": moment}).rowcount

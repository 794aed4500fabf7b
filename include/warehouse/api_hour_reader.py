"""What ``monitoring`` knows of API calls: hours of a window, and the sources that they come from."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import TYPE_CHECKING, Any

import psycopg

from include.sync_health.api_calls import COUNTS, STORED_HOUR_COLUMNS
from include.sync_health.endpoints import OTHER
from include.sync_health.frames import CREDENTIAL_COLUMNS, ENVIRONMENTS
from include.warehouse.api_hours import Names
from include.warehouse.api_sources import Source
from include.warehouse.monitoring_session import storage_errors
from include.warehouse.snapshots import KNOWN_CREDENTIALS
from include.warehouse.stored_values import aware

if TYPE_CHECKING:
    import pandas as pd

_SUMS = (*COUNTS, "response_count", "response_ms_sum", "response_ms_max")

_HOURS = f"""
    SELECT source, environment, company_id, hour, credential_id, endpoint, status_code, {", ".join(_SUMS)},
           response_buckets, histogram
    FROM monitoring.api_call_hourly
    WHERE hour >= %(first)s AND hour < %(before)s AND (%(sources)s::text[] IS NULL OR source = ANY (%(sources)s))
    ORDER BY source, hour, credential_id, endpoint, status_code, environment, company_id
"""  # noqa: S608 -- only constants of this module

_NEWEST = f"""
    WITH RECURSIVE {KNOWN_CREDENTIALS}
    SELECT newest.credential_id, newest.company_id, newest.company_name, newest.environment, newest.connection_status,
           newest.token_expires_at, newest.has_client_id, newest.has_client_secret, newest.is_deleted
    FROM known CROSS JOIN LATERAL (
        SELECT * FROM monitoring.credential_snapshot AS snapshot
        WHERE snapshot.credential_id = known.credential_id ORDER BY snapshot.as_of DESC LIMIT 1
    ) AS newest
    ORDER BY newest.credential_id
"""  # noqa: S608 -- only constants of our own


@storage_errors()
def read_hours(
    conn: psycopg.Connection[Any], *, first: datetime, before: datetime, sources: Collection[Source] | None = None
) -> pd.DataFrame:
    """
    Return `STORED_HOUR_COLUMNS` of the hours that began in ``[first, before)``, by source, hour and key.

    One statement; nothing is written or committed.

    Args:
        conn: any session.
        first, before: aware.
        sources: of these only; None for all.

    Raises:
        ValueError: a time is naive.
        StorageError: the schema is missing or the database unreachable.
    """
    import pandas as pd

    values = {"first": aware(first), "before": aware(before), "sources": None if sources is None else sorted(sources)}
    rows = conn.execute(_HOURS, values).fetchall()
    columns = ("source", "environment", "company_id", "hour", "credential_id", "endpoint", "status_code", *_SUMS)
    frame = pd.DataFrame(
        {
            name: pd.Series([row[place] for row in rows], dtype=object)
            for place, name in enumerate((*columns, "buckets", "histogram"))
        }
    )
    frame["hour"] = pd.to_datetime(frame["hour"], utc=True).astype("datetime64[us, UTC]")
    for name in ("status_code", *COUNTS, "response_count"):
        frame[name] = frame[name].astype("int64")
    for name in ("response_ms_sum", "response_ms_max"):
        frame[name] = frame[name].astype("float64")
    frame["buckets"] = pd.Series(
        [{int(bucket): number for bucket, number in row[-2].items()} for row in rows], dtype=object
    )
    return frame[list(STORED_HOUR_COLUMNS)]


@storage_errors()
def read_names(conn: psycopg.Connection[Any]) -> Names:
    """
    Return (environment, company id) by credential id, as the newest snapshot of each has them, also of those now gone.

    Raises:
        StorageError: the schema is missing or the database unreachable.
    """
    return {
        credential: (environment or "unknown", company or "")
        for credential, company, _, environment, *_ in conn.execute(_NEWEST.encode())
    }


@storage_errors()
def read_known_credentials(conn: psycopg.Connection[Any]) -> pd.DataFrame:
    """
    Return `CREDENTIAL_COLUMNS` as the newest snapshot of each has them, by id; ids are text. Those now gone are left out.

    What snapshots do not keep (``created_at``, ``updated_at``, ``last_connection_attempt``) is NaT.

    Raises:
        StorageError: the schema is missing or the database unreachable.
    """
    import pandas as pd

    rows = [row for row in conn.execute(_NEWEST.encode()) if not row[-1]]
    columns = (
        "credential_id",
        "company_id",
        "company_name",
        "environment",
        "connection_status",
        "token_expires_at",
        "has_client_id",
        "has_client_secret",
    )
    frame = pd.DataFrame(
        {name: pd.Series([row[place] for row in rows], dtype=object) for place, name in enumerate(columns)}
    )
    known = frame["environment"].where(frame["environment"].isin(ENVIRONMENTS), "unknown")
    frame["environment"] = pd.Categorical(known, categories=list(ENVIRONMENTS))
    for name in ("token_expires_at", "last_connection_attempt", "created_at", "updated_at"):
        values = frame[name] if name in frame else pd.Series([None] * len(frame), dtype=object)
        frame[name] = pd.to_datetime(values, utc=True).astype("datetime64[us, UTC]")
    for name in ("has_client_id", "has_client_secret"):
        frame[name] = frame[name].astype(bool)
    return frame[list(CREDENTIAL_COLUMNS)]


@storage_errors()
def read_endpoints(conn: psycopg.Connection[Any], *, source: Source) -> list[str]:
    """
    Return the endpoints that a source was counted by, in order.

    Raises:
        StorageError: the schema is missing or the database unreachable.
    """
    statement = "SELECT DISTINCT endpoint FROM monitoring.api_counter WHERE source = %s AND endpoint <> %s ORDER BY 1"
    return [endpoint for (endpoint,) in conn.execute(statement, (source, OTHER))]

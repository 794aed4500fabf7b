"""What our own calls of ServiceTitan came to, in ``monitoring.probe_result`` and among the API calls."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import psycopg

from include.sync_health.api_calls import CALL_COLUMNS, FIRST_ERROR, collapse
from include.sync_health.api_probes import ProbeResult
from include.sync_health.redaction import clean
from include.sync_health.verdicts import ErrorClass
from include.warehouse.api_hours import add_calls
from include.warehouse.api_sources import ApiSource, record_source
from include.warehouse.monitoring_session import storage_errors
from include.warehouse.stored_values import aware, storable_text

if TYPE_CHECKING:
    import pandas as pd

ERROR_LIMIT = 500
"""Characters of an error that are kept."""

_STORE = """
    INSERT INTO monitoring.probe_result
        (credential_id, at, environment, status, status_code, response_ms, error_class, error)
    VALUES (%(credential_id)s, %(at)s, %(environment)s, %(status)s, %(status_code)s, %(response_ms)s, %(error_class)s,
            %(error)s)
    ON CONFLICT (credential_id, at) DO NOTHING
    RETURNING credential_id
"""

_NEWEST = """
    SELECT DISTINCT ON (credential_id)
        credential_id, at, environment, status, status_code, response_ms, error_class, error
    FROM monitoring.probe_result WHERE at >= %(since)s ORDER BY credential_id, at DESC
"""


@storage_errors(table="probe_result")
def store_probes(conn: psycopg.Connection[Any], results: Sequence[ProbeResult], now: datetime) -> pd.DataFrame:
    """
    Store results, and count the calls that were made as API calls of source ``probe``; nothing is committed.

    A result that is stored already counts nothing. A call counts under the endpoint that was called last, so a probe
    whose signing in failed is a call of the token server. Without any result nothing is written.

    Args:
        conn: in a transaction, or about to begin one.
        results: of one run or several.
        now: the wall clock; aware.

    Returns:
        What was newly counted: `INCREMENT_COLUMNS` of `include.warehouse.api_hours`.

    Raises:
        ValueError: a time is naive.
        StorageError: the schema is missing or older, the database unreachable, or a value cannot be stored.
    """
    fresh = [result for result in results if conn.execute(_STORE, _row(result)).fetchone() is not None]
    made = [result for result in fresh if result.endpoint is not None]
    names = {result.credential_id: (result.environment, result.company_id) for result in made}
    increments = add_calls(conn, collapse(_calls(made)), source="probe", names=names, now=now)
    if results:
        record_source(conn, _source(results, now=now))
    return increments


@storage_errors(table="probe_result")
def newest_probes(conn: psycopg.Connection[Any], since: datetime) -> list[ProbeResult]:
    """
    Return each credential's newest result from ``since`` on, by credential id; without endpoint and company.

    Raises:
        ValueError: ``since`` is naive.
        StorageError: the schema is missing or older, or the database unreachable.
    """
    rows = conn.execute(_NEWEST, {"since": aware(since)}).fetchall()
    return [
        ProbeResult(
            credential_id=credential_id,
            at=aware(at),
            environment=environment,
            status_code=status_code,
            response_ms=response_ms,
            error_class=None if status == "success" else _error_class(error_class),
            error=error,
        )
        for credential_id, at, environment, status, status_code, response_ms, error_class, error in rows
    ]


def _row(result: ProbeResult) -> dict[str, Any]:
    error = None if result.error is None else storable_text(clean(result.error, limit=ERROR_LIMIT))
    return {
        "credential_id": storable_text(result.credential_id),
        "at": aware(result.at),
        "environment": storable_text(result.environment),
        "status": result.status,
        "status_code": result.status_code,
        "response_ms": result.response_ms,
        "error_class": None if result.error_class is None else str(result.error_class),
        "error": error,
    }


def _calls(results: Sequence[ProbeResult]) -> pd.DataFrame:
    """Return `CALL_COLUMNS`, with the calls that nobody answered as errors."""
    import pandas as pd

    rows = [
        (
            aware(each.at),
            each.credential_id,
            each.endpoint,
            each.status_code or 0,
            float("nan") if each.response_ms is None else each.response_ms,
            int(each.status_code is None or each.status_code >= FIRST_ERROR),
        )
        for each in results
    ]
    return pd.DataFrame(rows, columns=[*CALL_COLUMNS, "errors"])


def _source(results: Sequence[ProbeResult], *, now: datetime) -> ApiSource:
    answered = sum(result.status_code is not None for result in results)
    failed = sum(result.status == "error" for result in results)
    return ApiSource(
        source="probe",
        status="available" if answered else "failing",
        has_timings=any(result.response_ms is not None for result in results),
        detail=f"{answered} of {len(results)} probes were answered, {failed} failed",
        counts={"probes": len(results), "answered": answered, "failed": failed},
        updated_at=now,
    )


def _error_class(text: str | None) -> ErrorClass:
    """Return a stored class; one that a newer version has written is unknown here."""
    return ErrorClass(text) if text in set(ErrorClass) else ErrorClass.UNKNOWN

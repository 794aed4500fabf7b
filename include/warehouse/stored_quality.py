"""What is stored of the daily quality, in a few numbers."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date
from typing import Any

import psycopg

from include.warehouse.monitoring_session import storage_errors

# The ledger is small: a row per day. What the large table holds, the ledger's rows say.
_SUMMARY = """
    SELECT min(day), max(day), count(*), count(*) FILTER (WHERE is_final),
           coalesce(max(day) - min(day) + 1 - count(*), 0), coalesce(sum(rows), 0),
           count(*) FILTER (WHERE calc_version < %s OR timezone IS DISTINCT FROM %s),
           (SELECT count(*) FROM monitoring.quality_revision), (SELECT max(revised_at) FROM monitoring.quality_revision)
    FROM monitoring.quality_day
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredQuality:
    """
    Args:
        first, last: of the days computed; None: there is none.
        days: computed.
        final: of these, so many are final.
        missing: days between the first and the last that were never computed.
        outdated: days computed by an older definition, or in another reporting time zone.
        rows: of ``quality_daily`` that the days' readings gave.
        revisions: changed verdicts of final days.
        last_revised_at: ISO 8601, UTC; None: never.
    """

    first: date | None
    last: date | None
    days: int
    final: int
    missing: int
    outdated: int
    rows: int
    revisions: int
    last_revised_at: str | None


@storage_errors()
def stored_quality(conn: psycopg.Connection[Any], *, calc_version: int, timezone: str) -> StoredQuality:
    """
    Return what is stored.

    Args:
        conn: of the monitoring database.
        calc_version: of the definitions in force.
        timezone: the reporting time zone in force, an IANA name.

    Raises:
        StorageError: the schema is missing or the database unreachable.
    """
    row = conn.execute(_SUMMARY, (calc_version, timezone)).fetchone()
    first, last, days, final, missing, rows, outdated, revisions, revised_at = row or (None,) * 9
    return StoredQuality(
        first=first,
        last=last,
        days=days or 0,
        final=final or 0,
        missing=missing or 0,
        outdated=outdated or 0,
        rows=int(rows or 0),
        revisions=revisions or 0,
        last_revised_at=revised_at.astimezone(UTC).isoformat() if revised_at else None,
    )

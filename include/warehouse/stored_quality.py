"""What is stored of the daily quality, in a few numbers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date
from typing import Any

import psycopg

from include.sync_health.daily_quality import day_bounds
from include.warehouse.monitoring_session import storage_errors
from include.warehouse.quality_daily import days_between

# The ledger is small: a row per day. What the large table holds, the ledger's rows say.
_LEDGER = """
    SELECT day, is_final, rows, calc_version < %s OR timezone IS DISTINCT FROM %s FROM monitoring.quality_day ORDER BY day
"""
_REVISIONS = "SELECT count(*), max(revised_at) FROM monitoring.quality_revision"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredQuality:
    """
    Args:
        first, last: of the days computed; None: there is none.
        days: computed.
        final: of these, so many are final.
        missing: days between the first and the last that were never computed; one that the zone's calendar skips is none.
        outdated: days computed by an older definition, or in another reporting time zone; likewise.
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
    ledger = conn.execute(_LEDGER, (calc_version, timezone)).fetchall()
    revisions, revised_at = conn.execute(_REVISIONS).fetchone() or (0, None)
    days = [day for day, *_ in ledger]
    between = set(days_between(days[0], days[-1])) if days else set()
    outdated = [day for day, _, _, is_outdated in ledger if is_outdated]
    return StoredQuality(
        first=days[0] if days else None,
        last=days[-1] if days else None,
        days=len(days),
        final=sum(is_final for _, is_final, _, _ in ledger),
        missing=_real(between - set(days), timezone=timezone),
        outdated=_real(outdated, timezone=timezone),
        rows=sum(rows for _, _, rows, _ in ledger),
        revisions=revisions,
        last_revised_at=revised_at.astimezone(UTC).isoformat() if revised_at else None,
    )


def _real(days: Iterable[date], *, timezone: str) -> int:
    """Return how many of some days the zone's calendar has: one that it skips can never be computed."""
    return sum(start < end for start, end in (day_bounds(day, timezone=timezone) for day in days))

"""
An independent oracle: the rules in plain Python over plain rows, written from the rules' text and not from the code.

Slow, obvious, and without pandas. A row is a `Row`; every function returns verdicts by identity. This module has the rules
over one credential's runs; `oracle_quality`, `oracle_credentials` and `oracle_platform` have the others, and
`oracle_verdicts` has them all at once. The numbers are the design's defaults, written out: no policy is read.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True, kw_only=True)
class Row:
    """A sync log row as the source has it, times aware."""

    id: int
    credential: int
    data_type: str
    status: str
    started_at: datetime
    completed_at: datetime | None
    updated_at: datetime
    error_message: str | None = None
    records_processed: int | None = None
    records_successful: int | None = None
    records_failed: int | None = None


def cancelled(row: Row) -> bool:
    return row.status == "cancelled" or (row.status == "failed" and row.error_message == "Sync cancelled by user")


def ended(row: Row) -> datetime | None:
    """When it ended; a failed or cancelled row without completed_at counts by updated_at."""
    if row.completed_at is not None:
        return row.completed_at
    return row.updated_at if row.status in ("failed", "cancelled") else None


def outcomes(rows: Iterable[Row], *, after: datetime, until: datetime) -> list[tuple[datetime, int, str, Row]]:
    """The completed and failed runs of (after, until], oldest first, cancelled ones left out."""
    found = []
    for row in rows:
        end = ended(row)
        if end is not None and after < end <= until and row.status in ("completed", "failed") and not cancelled(row):
            found.append((end, row.id, row.status, row))
    return sorted(found, key=lambda each: each[:2])


def sync_failures(rows: list[Row], *, as_of: datetime) -> dict[tuple[str, ...], tuple[str, int]]:
    """Verdict and number of failures of each credential with a finished run in 24 hours."""
    verdicts = {}
    for credential in {row.credential for row in rows}:
        mine = [row for row in rows if row.credential == credential]
        day = outcomes(mine, after=as_of - timedelta(hours=24), until=as_of)
        if not day:
            continue
        failures = sum(1 for end, _, status, _ in day if status == "failed" and end > as_of - timedelta(hours=1))
        latest = day[-1][2]
        if failures >= 3:
            verdict = "breach"
        elif latest == "completed":
            verdict = "clear"
        else:
            verdict = "band"
        verdicts[(str(credential),)] = (verdict, failures)
    return verdicts


def consecutive_failures(rows: list[Row], *, as_of: datetime) -> dict[tuple[str, ...], tuple[str, int]]:
    """Verdict and length of the present run of failures of each (credential, data type) seen in 7 days."""
    verdicts = {}
    by_key = defaultdict(list)
    for row in rows:
        by_key[(str(row.credential), row.data_type)].append(row)
    for key, mine in by_key.items():
        week = outcomes(mine, after=as_of - timedelta(days=7), until=as_of)
        if not week:
            continue
        length = 0
        for _, _, status, _ in reversed(week):
            if status != "failed":
                break
            length += 1
        verdicts[key] = ("breach" if length >= 3 else "clear" if length == 0 else "band", length)
    return verdicts


def stuck_syncs(rows: list[Row], *, as_of: datetime) -> dict[tuple[str, ...], tuple[str, str]]:
    """Verdict and severity of each run that has been open for more than an hour, and at most 30 days."""
    verdicts = {}
    for row in rows:
        end = ended(row)
        open_then = row.started_at <= as_of and (
            (end is None and row.status in ("pending", "running")) or (end is not None and end > as_of)
        )
        age = as_of - row.started_at
        if open_then and timedelta(hours=1) < age <= timedelta(days=30):
            verdicts[(str(row.credential), str(row.id))] = (
                "breach",
                "high" if age > timedelta(hours=2) else "medium",
            )
    return verdicts

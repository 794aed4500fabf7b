"""The oracle's data quality: which syncs of a day lost too many of their records."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime, timedelta

from tests.sync_health.oracle import Row, cancelled

Identity = tuple[str, ...]


def lost(row: Row) -> tuple[int, int] | None:
    """(failed, processed) of a sync whose counts can be true and that has more than 10 records; else None."""
    if row.records_processed is None or row.records_failed is None:
        return None
    if row.records_processed <= 10 or not 0 <= row.records_failed <= row.records_processed:
        return None
    if row.records_processed > 2_147_483_647:  # more than an integer of four bytes holds: nobody has so many
        return None
    return row.records_failed, row.records_processed


def data_quality(rows: list[Row], *, as_of: datetime) -> dict[Identity, tuple[str, str]]:
    """Verdict and severity of each (credential, data type) with a judged sync in 24 hours; the sandbox is not capped."""
    judged = defaultdict(list)
    for row in rows:
        if row.status != "completed" or cancelled(row) or row.completed_at is None:
            continue
        if not as_of - timedelta(hours=24) < row.completed_at <= as_of:
            continue
        counts = lost(row)
        if counts is not None:
            judged[(str(row.credential), row.data_type)].append((row.completed_at, row.id, *counts))
    verdicts = {}
    for key, syncs in judged.items():
        syncs.sort()
        _, _, newest_failed, newest_processed = syncs[-1]
        too_bad = any(failed * 100 > 20 * processed for _, _, failed, processed in syncs)
        more_than_half = any(failed * 100 > 50 * processed for _, _, failed, processed in syncs)
        if too_bad:
            verdict = "breach"
        elif newest_failed * 100 < 10 * newest_processed:
            verdict = "clear"
        else:
            verdict = "band"
        verdicts[key] = (verdict, "high" if more_than_half else "medium")
    return verdicts


def worst_sync(rows: list[Row], *, as_of: datetime, key: Identity) -> Row | None:
    """The sync that a breach of ``key`` names: the highest share of failed records, of equals the newest."""
    worst: Row | None = None
    for row in sorted(
        (row for row in rows if row.completed_at is not None), key=lambda row: (row.completed_at or as_of, row.id)
    ):
        mine = (str(row.credential), row.data_type) == key and row.status == "completed"
        ended = row.completed_at
        if not mine or ended is None or not as_of - timedelta(hours=24) < ended <= as_of:
            continue
        counts = lost(row)
        if counts is None:
            continue
        best = lost(worst) if worst is not None else None
        if best is None or counts[0] * best[1] >= best[0] * counts[1]:
            worst = row
    return worst

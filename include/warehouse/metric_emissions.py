"""
Which windows have been counted and told as metrics: each once, whatever is retried, late, or runs twice at a time.

A window is claimed in the transaction that counts it, under one lock. What is told to StatsD or OpenTelemetry is told
after its commit: a kill between the two loses one telling, and nothing is ever told twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import psycopg

from include.sync_health.record_counts import CountsRead
from include.warehouse.monitoring_session import storage_errors
from include.warehouse.stored_values import aware, storable_text, stored_moment

MEASURE_SYNCS = "measure_syncs"
"""The task that counts syncs."""

METRICS_LOCK = 7_305_551_002_119_003
"""Key of the advisory lock; arbitrary, but the same in every version of this code."""

KEPT = timedelta(days=7)
"""How long claims are kept; the newest of a task always is."""

_NEWEST = """
    SELECT window_to, remembered_from, counts_known, counts_unread FROM monitoring.metric_emission
    WHERE task = %s ORDER BY window_to DESC LIMIT 1
"""

_CLAIM = """
    INSERT INTO monitoring.metric_emission (task, window_to, remembered_from, emitted_at, counts_known, counts_unread)
    VALUES (%(task)s, %(window_to)s, %(remembered_from)s, %(now)s, %(known)s, %(unread)s)
"""

_PRUNE = "DELETE FROM monitoring.metric_emission WHERE task = %(task)s AND window_to < %(before)s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Emission:
    """
    A claimed window.

    ``remembered_from`` is None for a task that counts no syncs; both times are in UTC. ``counts`` is None where nobody wrote
    down which record counts could be read.
    """

    window_to: datetime
    remembered_from: datetime | None
    counts: CountsRead | None = None


@storage_errors()
def newest_emission(conn: psycopg.Connection[Any], *, task: str) -> Emission | None:
    """
    Return the newest window that a task claimed, or None.

    Raises:
        StorageError: the schema is missing or the database unreachable.
    """
    row = conn.execute(_NEWEST, (task,)).fetchone()
    if row is None:
        return None
    window_to, remembered_from, known, unread = row
    counts = None if known is None else CountsRead(known=tuple(known), unread=unread)
    return Emission(window_to=aware(window_to), remembered_from=stored_moment(remembered_from), counts=counts)


@storage_errors()
def newest_counts(conn: psycopg.Connection[Any]) -> CountsRead | None:
    """
    Return which record counts the newest run that counted syncs could read; None where nobody wrote it down.

    Raises:
        StorageError: the schema is missing or the database unreachable.
    """
    newest = newest_emission(conn, task=MEASURE_SYNCS)
    return newest.counts if newest else None


@storage_errors()
def lock_metrics(conn: psycopg.Connection[Any]) -> None:
    """
    Wait until no other transaction claims a window; the lock is held to the end of this one.

    Raises:
        StorageError: another transaction held it for too long.
    """
    conn.execute("SELECT pg_advisory_xact_lock(%s)", (METRICS_LOCK,))


@storage_errors()
def claim_window(
    conn: psycopg.Connection[Any],
    *,
    task: str,
    window_to: datetime,
    now: datetime,
    remembered_from: datetime | None = None,
    counts: CountsRead | None = None,
) -> bool:
    """
    Claim a window; False where it, or a newer one, is claimed already: then there is nothing to count or to tell.

    1. `lock_metrics`, so that of two runs at a time the second sees what the first has claimed;
    2. compare with the newest window;
    3. write the claim, and forget those older than `KEPT`.

    Args:
        conn: in a transaction; nothing is committed.
        task: who tells.
        window_to: the end of the window; aware.
        now: the wall clock; aware.
        remembered_from: see the column; aware.
        counts: which record counts could be read; None: nobody says.

    Raises:
        ValueError: a naive datetime.
        StorageError: the schema is missing or the database unreachable, or the lock was held for too long.
    """
    moment = aware(window_to)
    lock_metrics(conn)
    newest = newest_emission(conn, task=task)
    if newest is not None and newest.window_to >= moment:
        return False
    values = {
        "task": task,
        "window_to": moment,
        "remembered_from": None if remembered_from is None else aware(remembered_from),
        "now": aware(now),
        "known": None if counts is None else list(counts.known),
        "unread": None if counts is None or counts.unread is None else storable_text(counts.unread),
        "before": moment - KEPT,
    }
    conn.execute(_CLAIM, values)
    conn.execute(_PRUNE, values)
    return True

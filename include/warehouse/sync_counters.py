"""
The counting of syncs: each start and each end once, however late it shows up, in ``sync_counter``.

``counted_sync`` has the ids of what was counted. It forgets what is too old to show up any more, and what it has
forgotten is never counted: `Emission.remembered_from` says since when it remembers.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import psycopg

from include.sync_health.frames import require_columns
from include.sync_health.record_counts import ALL_READ, RECORDS, CountsRead
from include.sync_health.sync_events import SYNC_EVENT_COLUMNS
from include.sync_health.sync_metrics import STATUS_COLUMNS, counter_increments
from include.warehouse.metric_emissions import MEASURE_SYNCS, claim_window, lock_metrics, newest_emission
from include.warehouse.monitoring_session import storage_errors
from include.warehouse.snapshots import KNOWN_CREDENTIALS
from include.warehouse.stored_values import aware
from include.warehouse.whole_counts import rows_with_counts

SPARE = timedelta(days=1)
"""For how much longer than a sync may show up its id is remembered."""

EPOCH = np.datetime64("1970-01-01", "us")

_ADD = """
    WITH candidate AS (
        SELECT * FROM unnest(%(kinds)s::text[], %(ids)s::text[], %(micros)s::bigint[])
                      WITH ORDINALITY AS c (kind, sync_id, micros, place)
    ), added AS (
        INSERT INTO monitoring.counted_sync (kind, sync_id, at)
        SELECT kind, sync_id, TIMESTAMPTZ 'epoch' + micros * INTERVAL '1 microsecond' FROM candidate
        ON CONFLICT DO NOTHING
        RETURNING kind, sync_id
    )
    SELECT coalesce(array_agg(place - 1), '{}') FROM candidate JOIN added USING (kind, sync_id)
"""

# Ids are whole numbers, of which the longer is the larger, or UUIDs, which are all of one length.
_IS_NEWER = """
    counter.last_at IS NULL
    OR (excluded.last_at, length(excluded.last_sync_id), excluded.last_sync_id COLLATE "C")
       > (counter.last_at, length(counter.last_sync_id), counter.last_sync_id COLLATE "C")
"""

_LAST = ("last_at", "last_sync_id", *RECORDS)

_RAISE = f"""
    INSERT INTO monitoring.sync_counter AS counter
        (environment, company_id, credential_id, data_type, status, syncs, duration_count, duration_seconds_sum,
         {", ".join(_LAST)}, failed_by_class, updated_at)
    SELECT environment, company_id, credential_id, data_type, status, syncs, duration_count, duration_seconds_sum,
           {", ".join(_LAST)}, failed_by_class, %(now)s
    FROM jsonb_populate_recordset(NULL::monitoring.sync_counter, %(rows)s)
    ON CONFLICT (credential_id, environment, company_id, data_type, status) DO UPDATE SET
        syncs = counter.syncs + excluded.syncs,
        duration_count = counter.duration_count + excluded.duration_count,
        duration_seconds_sum = counter.duration_seconds_sum + excluded.duration_seconds_sum,
        {", ".join(f"{name} = CASE WHEN {_IS_NEWER} THEN excluded.{name} ELSE counter.{name} END" for name in _LAST)},
        failed_by_class = (
            SELECT coalesce(jsonb_object_agg(error_class, syncs), '{{}}')
            FROM (
                SELECT key AS error_class, sum(value::bigint) AS syncs
                FROM (
                    SELECT * FROM jsonb_each_text(counter.failed_by_class)
                    UNION ALL SELECT * FROM jsonb_each_text(excluded.failed_by_class)
                ) AS each GROUP BY key
            ) AS summed
        ),
        updated_at = excluded.updated_at
    RETURNING last_sync_id
"""  # noqa: S608 -- only constants of this module

_FORGET = "DELETE FROM monitoring.counted_sync WHERE at < %s"

_OPEN_AT = """
    SELECT window_to, open_sync_ids FROM monitoring.check_run
    WHERE check_name = %(check)s AND mode = 'live' AND status = 'seen' AND filters = '{}' AND window_to <= %(at)s
    ORDER BY window_to DESC, computed_at DESC LIMIT 1
"""

_STATUSES = f"""
    WITH RECURSIVE {KNOWN_CREDENTIALS}
    SELECT held.credential_id, coalesce(held.environment, 'unknown'), coalesce(held.company_id, ''),
           held.connection_status, held.token_expires_at
    FROM known CROSS JOIN LATERAL (
        SELECT * FROM monitoring.credential_snapshot AS snapshot
        WHERE snapshot.credential_id = known.credential_id AND snapshot.as_of <= %(at)s
        ORDER BY snapshot.as_of DESC LIMIT 1
    ) AS held
    WHERE NOT held.is_deleted
    ORDER BY held.credential_id
"""  # noqa: S608 -- only constants of our own


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """
    What was counted.

    Args:
        events: `SYNC_EVENT_COLUMNS`, in their order: those that had not been counted before.
        last_sync_ids: the syncs among them that are now the newest of their counter.
        before: the end of the window claimed before; None: this is the first.
    """

    events: pd.DataFrame
    last_sync_ids: Collection[str]
    before: datetime | None


@storage_errors()
def count_syncs(
    conn: psycopg.Connection[Any],
    events: pd.DataFrame,
    *,
    window_from: datetime,
    as_of: datetime,
    late_syncs: timedelta,
    now: datetime,
    counts: CountsRead = ALL_READ,
) -> Counted | None:
    """
    Count what has not been counted and claim the window; None where it, or a newer one, was claimed: nothing is done.

    1. lock, and compare with the newest window claimed;
    2. leave out what is older than we remember: in the very first run, all before its own window;
    3. add the ids to ``counted_sync``: what is there already is not counted again;
    4. raise the counters by the rest;
    5. claim, and forget ids older than ``late_syncs`` and a day.

    Args:
        conn: in a transaction, which the caller commits; it also replaces the hours in it.
        events: `SYNC_EVENT_COLUMNS`, in their order: all that was read up to ``as_of``.
        window_from, as_of: the run's own window, open at its beginning; aware.
        late_syncs: how late a sync may show up.
        now: the wall clock; aware.
        counts: which record counts could be read; the claim keeps it. What could not is NaN in ``events``: the last sync's
            records are unknown then, and the counters rise all the same.

    Raises:
        FrameError: a column is missing.
        ValueError: a naive datetime.
        StorageError: the schema is missing or the database unreachable, or the lock was held for too long.
    """
    require_columns(events, SYNC_EVENT_COLUMNS, name="events")
    lock_metrics(conn)
    newest = newest_emission(conn, task=MEASURE_SYNCS)
    remembered = (newest and newest.remembered_from) or aware(window_from)
    forgotten = max(remembered, aware(as_of) - late_syncs - SPARE)
    if not claim_window(conn, task=MEASURE_SYNCS, window_to=as_of, now=now, remembered_from=forgotten, counts=counts):
        return None
    candidates = events[events["at"] > pd.Timestamp(remembered)].drop_duplicates(["kind", "sync_id"], keep="last")
    added = candidates.iloc[_added(conn, candidates)].reset_index(drop=True)
    increments = counter_increments(added)
    found: set[str] = set()
    if len(increments):
        rows = rows_with_counts(increments, counts=RECORDS)
        found = {each for (each,) in conn.execute(_RAISE.encode(), {"rows": rows, "now": aware(now)})}
    conn.execute(_FORGET, (forgotten,))
    return Counted(
        events=added,
        last_sync_ids=frozenset(found & set(increments["last_sync_id"].dropna())),
        before=newest.window_to if newest else None,
    )


@storage_errors()
def open_syncs_at(
    conn: psycopg.Connection[Any], *, check: str, at: datetime, within: timedelta
) -> Sequence[str] | None:
    """
    Return the ids of the syncs that a check saw open at an instant; None where nobody knows.

    Those of its newest live run without filters that saw the source and whose window ended at ``at``, or at most ``within``
    before.

    Raises:
        ValueError: ``at`` is naive.
        StorageError: the schema is missing or the database unreachable.
    """
    row = conn.execute(_OPEN_AT, {"check": check, "at": aware(at)}).fetchone()
    if row is None or row[1] is None or aware(at) - aware(row[0]) > within:
        return None
    return [str(each) for each in row[1]]


@storage_errors()
def statuses_at(conn: psycopg.Connection[Any], *, at: datetime) -> pd.DataFrame:
    """
    Return `STATUS_COLUMNS`: the credentials as the snapshots have them at an instant, without those that were gone, by id.

    Raises:
        ValueError: ``at`` is naive.
        StorageError: the schema is missing or the database unreachable.
    """
    rows = conn.execute(_STATUSES.encode(), {"at": aware(at)}).fetchall()
    # As objects, or pandas 3 would turn None into NaN.
    found = pd.DataFrame(
        {name: pd.Series([row[place] for row in rows], dtype=object) for place, name in enumerate(STATUS_COLUMNS)}
    )
    found["token_expires_at"] = pd.to_datetime(found["token_expires_at"], utc=True).astype("datetime64[us, UTC]")
    return found


def _added(conn: psycopg.Connection[Any], candidates: pd.DataFrame) -> list[int]:
    """Remember the candidates; return the places of those that nobody had remembered, in their order."""
    if candidates.empty:
        return []
    micros = (candidates["at"].to_numpy(dtype="datetime64[us]") - EPOCH).astype(np.int64)
    row = conn.execute(
        _ADD,
        {"kinds": candidates["kind"].tolist(), "ids": candidates["sync_id"].tolist(), "micros": micros.tolist()},
    ).fetchone()
    return sorted(row[0]) if row else []

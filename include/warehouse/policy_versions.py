"""The policies that were in use: so that a file that has become invalid still leaves the last good one to go by."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import psycopg

from include.warehouse.monitoring_session import storage_errors
from include.warehouse.stored_values import aware, storable_text


@storage_errors()
def remember_policy(conn: psycopg.Connection[Any], *, version: str, text: str, now: datetime) -> None:
    """
    Record that this valid policy is in use at ``now`` (aware); nothing is committed.

    Args:
        conn: any session.
        version: the policy's hash; one that is known keeps its text and first sight.
        text: the effective policy, all files merged.
        now: the wall clock.

    Raises:
        ValueError: ``now`` is naive.
        StorageError: the schema is missing or the database unreachable.
    """
    conn.execute(
        "INSERT INTO monitoring.policy_version (version, effective, first_seen_at, last_seen_at)"
        " VALUES (%(version)s, %(text)s, %(now)s, %(now)s)"
        " ON CONFLICT (version) DO UPDATE"
        " SET last_seen_at = greatest(policy_version.last_seen_at, excluded.last_seen_at)",
        {"version": version, "text": storable_text(text), "now": aware(now)},
    )


@storage_errors()
def last_good_policy(conn: psycopg.Connection[Any]) -> str | None:
    """
    Return the effective text of the policy that was used last, or None when there was none.

    Raises:
        StorageError: the schema is missing or the database unreachable.
    """
    row = conn.execute(
        "SELECT effective FROM monitoring.policy_version ORDER BY last_seen_at DESC, first_seen_at DESC LIMIT 1"
    ).fetchone()
    text: str | None = row[0] if row else None
    return text

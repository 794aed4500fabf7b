"""
Whether each channel takes our messages: since when it refuses us, and when it last took one.

As in `include.warehouse.outbox`, what is noted is committed at once, and with it whatever the caller left open.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import psycopg
from psycopg.rows import class_row

from include.warehouse.kept_errors import kept_error
from include.warehouse.monitoring_session import storage_errors
from include.warehouse.own_transaction import own_transaction
from include.warehouse.stored_values import aware, storable_text, stored_moment

# The first refusal of a row is since when; the last is what is wrong now.
_NOTE_REFUSAL = """
    INSERT INTO monitoring.channel_state AS stored (channel, refused_since, refusal, updated_at)
    VALUES (%(channel)s, %(now)s, %(error)s, %(now)s)
    ON CONFLICT (channel) DO UPDATE
    SET refused_since = coalesce(stored.refused_since, excluded.refused_since), refusal = excluded.refusal,
        updated_at = excluded.updated_at
"""

_NOTE_SENT = """
    INSERT INTO monitoring.channel_state AS stored (channel, last_sent_at, updated_at)
    VALUES (%(channel)s, %(now)s, %(now)s)
    ON CONFLICT (channel) DO UPDATE
    SET refused_since = NULL, refusal = NULL, last_sent_at = greatest(stored.last_sent_at, excluded.last_sent_at),
        updated_at = excluded.updated_at
"""

_STATES = (
    "SELECT channel, refused_since, refusal, last_sent_at, updated_at FROM monitoring.channel_state ORDER BY channel"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelState:
    """
    How one channel takes our messages.

    Args:
        channel: such as ``slack:#servicetitan-alerts``.
        refused_since: aware; from when on it has refused every message; None: the last one that it answered was taken.
        refusal: what it said last, redacted and short; None as ``refused_since``.
        last_sent_at: aware; None: it never took one.
        updated_at: aware.
    """

    channel: str
    refused_since: datetime | None
    refusal: str | None
    last_sent_at: datetime | None
    updated_at: datetime

    @property
    def refuses(self) -> bool:
        """True while it refuses our messages."""
        return self.refused_since is not None


def note_refusal(conn: psycopg.Connection[Any], channel: str, *, now: datetime, error: str) -> None:
    """
    Note that a channel refuses us, whatever we send; committed.

    Args:
        conn: a session of this worker's own.
        channel: such as ``slack:#servicetitan-alerts``.
        now: aware.
        error: short and already redacted; cut to `ERROR_LIMIT`.

    Raises:
        ValueError: ``now`` is naive.
        StorageError: the schema is missing or the database unreachable.
    """
    values = {"channel": storable_text(channel), "now": aware(now), "error": kept_error(error)}
    with own_transaction(conn):
        conn.execute(_NOTE_REFUSAL, values)


def note_sent(conn: psycopg.Connection[Any], channel: str, *, now: datetime) -> None:
    """
    Note that a channel has just taken a message: it refuses us no more; committed.

    Errors are those of `note_refusal`.
    """
    values = {"channel": storable_text(channel), "now": aware(now)}
    with own_transaction(conn):
        conn.execute(_NOTE_SENT, values)


@storage_errors()
def channel_states(conn: psycopg.Connection[Any]) -> dict[str, ChannelState]:
    """
    Return how each channel that was ever spoken to takes our messages, by its key; nothing is committed.

    Raises:
        StorageError: the schema is missing or the database unreachable.
    """
    with conn.cursor(row_factory=class_row(ChannelState)) as cursor:
        found = cursor.execute(_STATES).fetchall()
    return {
        state.channel: replace(
            state,
            refused_since=stored_moment(state.refused_since),
            last_sent_at=stored_moment(state.last_sent_at),
            updated_at=aware(state.updated_at),
        )
        for state in found
    }

"""When each channel was last sent a heartbeat."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import psycopg

from include.warehouse.monitoring_session import storage_errors
from include.warehouse.stored_values import aware

_LAST = "SELECT channel, max(as_of) FROM monitoring.delivery WHERE reason = 'heartbeat' GROUP BY channel"


@storage_errors()
def last_heartbeats(conn: psycopg.Connection[Any]) -> dict[str, datetime]:
    """
    Return the tick that decided each channel's latest heartbeat, sent or not, by channel key; nothing is committed.

    Raises:
        StorageError: the schema is missing or the database unreachable.
    """
    return {channel: aware(as_of) for channel, as_of in conn.execute(_LAST)}

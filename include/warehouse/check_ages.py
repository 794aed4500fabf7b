"""When each check ran last, for who asks whether it still does."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import psycopg

from include.sync_health.checks import Check
from include.sync_health.health_resources import CheckState
from include.warehouse.monitoring_session import storage_errors
from include.warehouse.stored_values import aware

# One look into the index for each check, however many runs are kept.
_NEWEST = """
    SELECT wanted.name, newest.window_to, newest.status, newest.error_cause
    FROM unnest(%(checks)s::text[]) AS wanted (name)
    CROSS JOIN LATERAL (
        SELECT window_to, status, error_cause FROM monitoring.check_run
        WHERE check_name = wanted.name AND mode = 'live' AND filters = '{}'
        ORDER BY window_to DESC, computed_at DESC LIMIT 1
    ) AS newest
"""


@storage_errors()
def check_states(conn: psycopg.Connection[Any], checks: Iterable[Check]) -> dict[str, CheckState]:
    """
    Return the newest live run without filters of each check, by its name; a check that never ran has no ``window_to``.

    Raises:
        StorageError: the schema is missing or the database unreachable.
    """
    every = {check.name: check.every for check in checks}
    rows = conn.execute(_NEWEST, {"checks": list(every)}).fetchall()
    found = {
        name: CheckState(
            every=every[name], window_to=aware(window_to), blind=None if status == "seen" else cause or "blind"
        )
        for name, window_to, status, cause in rows
    }
    return {name: found.get(name) or CheckState(every=each) for name, each in every.items()}

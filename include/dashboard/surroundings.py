"""Where the web edge gets its database and its policy from, at each request that needs them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from include.orchestration.policy_file import load_policy_or_last_good, storage_connection
from include.orchestration.settings import postgres_conninfo

if TYPE_CHECKING:
    import psycopg

    from include.sync_health.errors import PolicyError
    from include.sync_health.policy import Policy


def monitoring_session() -> psycopg.Connection[Any]:
    """
    Return a new session with the monitoring database; close it, or use it as a context manager.

    Raises:
        ConnectionMissing: nobody configured the connection.
        MonitorError: it cannot be used.
        StorageError: the database cannot be reached.
    """
    from include.warehouse.monitoring_session import connect

    return connect(postgres_conninfo(storage_connection()))


def policy_in_force(conn: psycopg.Connection[Any]) -> tuple[Policy, PolicyError | None]:
    """
    Return the policy on disk and None, or the last good one and what is wrong; nothing is written.

    Raises:
        PolicyError: the file is wrong and no good one is remembered.
        StorageError: the schema is missing.
    """
    from include.warehouse.policy_versions import last_good_policy

    loaded, error = load_policy_or_last_good(remembered=last_good_policy(conn))
    conn.rollback()  # the figures are of one moment, in a transaction of their own
    return loaded.policy, error

"""How the commands about alerts reach our tables: a session with a schema that is up to date, and the alert that is meant."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from include.orchestration.settings import postgres_conninfo
from include.sync_health.alerts import Alert
from include.sync_health.errors import RequestError
from include.sync_health.policy import Policy
from include.sync_health.time_lines import SHOWN_DIGITS, headline
from include.warehouse.alert_ledger import find_alerts
from include.warehouse.migration import require_current
from include.warehouse.monitoring_session import connect

MOST_LISTED = 20
"""Alerts that an ambiguous fingerprint lists."""


@contextmanager
def monitoring(policy: Policy) -> Iterator[psycopg.Connection[Any]]:
    """
    Give a session with our database; it is committed at the end, or rolled back where an error leaves it.

    Raises:
        MonitorError: the storage connection or the schema is wrong.
    """
    with connect(postgres_conninfo(policy.storage_connection)) as conn:
        require_current(conn)
        yield conn


def the_alert(conn: psycopg.Connection[Any], prefix: str) -> Alert:
    """
    Return the one alert whose fingerprint begins so.

    Args:
        conn: a session with our database.
        prefix: as `include.commands.alert_arguments.fingerprint_of` returns it.

    Raises:
        RequestError: there is none, or there are several, which are listed.
        StorageError: the database is unreachable.
    """
    found = find_alerts(conn, prefix)
    if len(found) == 1:
        return found[0]
    if not found:
        raise RequestError(
            f"FINGERPRINT: {prefix!r} is the beginning of no alert that is kept; take the digits that the message ends "
            "with, or ask by credential: why --credential ID"
        )
    digits = next(
        count for count in range(len(prefix), 65) if len({alert.fingerprint[:count] for alert in found}) == len(found)
    )
    listed = [headline(alert, digits=max(digits, SHOWN_DIGITS)) for alert in found[:MOST_LISTED]]
    left_out = [f"and {len(found) - MOST_LISTED} more"] if len(found) > MOST_LISTED else []
    raise RequestError(
        "\n".join(
            [f"FINGERPRINT: {prefix!r} is the beginning of {len(found)} alerts; give more of it:", *listed, *left_out]
        )
    )

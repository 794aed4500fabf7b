"""
What the commands about alerts go by: the policy, a session with our tables, whose schema is up to date, and the alert meant.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from include.orchestration.policy_file import load_policy, load_policy_or_last_good, storage_connection
from include.orchestration.policy_mistakes import lines_of
from include.orchestration.settings import postgres_conninfo
from include.sync_health.alerts import Alert
from include.sync_health.errors import MonitorError, PolicyError, RequestError
from include.sync_health.message_parts import SHOWN_DIGITS
from include.sync_health.policy import Policy
from include.sync_health.time_lines import headline
from include.warehouse.alert_ledger import find_alerts
from include.warehouse.migration import require_current
from include.warehouse.monitoring_session import connect
from include.warehouse.policy_versions import last_good_policy

MOST_LISTED = 20
"""Alerts that an ambiguous fingerprint lists."""


def policy_of_alerts() -> Policy:
    """
    Return the policy on disk; where that is wrong, the last good one, with a note on stderr.

    The monitor goes on by it as well: who is woken by a wrong policy file can ask why, and take it in hand.

    Raises:
        PolicyError: the file is wrong, and no good one can be had.
    """
    try:
        return load_policy().policy
    except PolicyError as error:
        wrong = error
    try:
        with connect(postgres_conninfo(storage_connection())) as conn:
            require_current(conn)
            remembered = last_good_policy(conn)
    except MonitorError:
        raise wrong from None
    loaded, _ = load_policy_or_last_good(remembered=remembered)
    print(
        f"note: the policy file is wrong, this goes by the last good one ({loaded.version}): {lines_of(wrong)[0]}",
        file=sys.stderr,
    )
    return loaded.policy


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

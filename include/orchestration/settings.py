"""What a task needs to know of its surroundings: the policy in force, connections, channels that are configured."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from include.orchestration.connections import find_connection
from include.orchestration.policy_file import LoadedPolicy, dump_policy, load_policy, load_policy_or_last_good
from include.orchestration.structured_logs import DecisionLog
from include.sync_health.errors import ConnectionMissing, MonitorError, PolicyError
from include.sync_health.routing import CHANNEL_KINDS

log = DecisionLog("servicetitan.settings")

FAILURE_CHANNEL_VARIABLE = "SERVICETITAN_MONITOR_FAILURE_CHANNEL"
"""Names the one channel, such as ``slack:#ops`` or ``email:ops@example.com``, told when the monitor itself fails."""

SLACK_BOT = "slack_alerts"
SLACK_WEBHOOK = "slack_alerts_webhook"
MAIL = "alert_email"
CONNECTIONS_OF = {"slack": (SLACK_BOT, SLACK_WEBHOOK), "email": (MAIL,)}
"""The connections that make a kind of channel usable: any one of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyInForce:
    """The policy a run goes by, and why it is not the one on disk, if it is not."""

    loaded: LoadedPolicy
    error: PolicyError | None


def policy_in_force(*, storage_conninfo: str | None = None, now: datetime | None = None) -> PolicyInForce:
    """
    Return the policy on disk, or the last good one where that is wrong; remember a good one.

    Args:
        storage_conninfo: of our schema, where the last good policy is kept; None keeps none and has none.
        now: the wall clock, aware; needed with ``storage_conninfo``.

    Raises:
        PolicyError: the file is wrong and no good one is remembered.
    """
    if storage_conninfo is None or now is None:
        return PolicyInForce(loaded=load_policy(), error=None)
    from include.warehouse.migration import require_current
    from include.warehouse.monitoring_session import connect
    from include.warehouse.policy_versions import last_good_policy, remember_policy

    with connect(storage_conninfo) as conn:
        require_current(conn)
        loaded, error = load_policy_or_last_good(remembered=last_good_policy(conn))
        if error is None:
            remember_policy(conn, version=loaded.version, text=dump_policy(loaded.policy), now=now)
        conn.commit()
    if error is not None:
        log.error(
            "policy_refused",
            "the policy file is wrong, the last good one (%(policy_version)s) stays in force: %(error)s",
            policy_version=loaded.version,
            error=str(error),
        )
    return PolicyInForce(loaded=loaded, error=error)


def postgres_conninfo(conn_id: str) -> str:
    """Return libpq conninfo for an Airflow connection; `ConnectionMissing` when there is none."""
    return find_connection(conn_id).postgres_conninfo()


def is_configured(conn_id: str) -> bool:
    """Return whether a usable connection exists anywhere that this process can see; a garbled one is told in the log."""
    try:
        find_connection(conn_id)
    except ConnectionMissing:
        return False
    except MonitorError as error:
        log.error(
            "connection_refused",
            "the connection %(connection)s cannot be used: %(error)s",
            connection=conn_id,
            error=str(error),
        )
        return False
    return True


def configured_kinds(kinds: Iterable[str] = CHANNEL_KINDS) -> frozenset[str]:
    """Return the kinds of channel that have a connection, and say in the log which have none."""
    found = frozenset(kind for kind in kinds if any(is_configured(conn_id) for conn_id in CONNECTIONS_OF[kind]))
    for kind in kinds:
        if kind not in found:
            wanted = " or ".join(CONNECTIONS_OF[kind])
            log.warning(
                "channel_not_configured",
                "%(kind)s is not configured: add the connection %(connection)s; alerts routed there are not sent",
                kind=kind,
                connection=wanted,
            )
    return found

"""Messages that prove that messages arrive: one to each channel of a receiver, as often as the policy says."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime

from include.sync_health.alerting_policies import HeartbeatPolicy
from include.sync_health.alerts import Delivery, NotifyReason
from include.sync_health.policy import Policy
from include.sync_health.routing import kind_of


def heartbeats(
    policy: Policy,
    *,
    last: Mapping[str, datetime],
    as_of: datetime,
    configured: Collection[str],
    ran: Mapping[str, datetime] = {},
    open_alerts: int = 0,
) -> tuple[Delivery, ...]:
    """
    Return the heartbeats that are due.

    Args:
        policy: how often, and to which receiver.
        last: when each channel's latest was decided; aware.
        as_of: the tick; aware.
        configured: the kinds of channel that have a connection.
        ran: the end of each check's newest window; aware.
        open_alerts: how many are open.
    """
    beat: HeartbeatPolicy = policy.alerting.heartbeat
    if beat.every is None or beat.to is None:
        return ()
    return tuple(
        Delivery(
            key=f"{channel}|{NotifyReason.HEARTBEAT}|{as_of.timestamp():.6f}",
            channel=channel,
            reason=NotifyReason.HEARTBEAT,
            members=(),
            as_of=as_of,
            details={"checks": {check: ended.isoformat() for check, ended in sorted(ran.items())}, "open": open_alerts},
        )
        for channel in policy.receivers[beat.to].channels()
        if kind_of(channel) in configured and (channel not in last or as_of - last[channel] >= beat.every)
    )

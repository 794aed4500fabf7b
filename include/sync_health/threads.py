"""
Which alerts share a message, and which conversation a message belongs to.

The openings of one tick that have the same group (`group_of`) are one message, and later ones of that group join its
thread while any of it is open: one cause, one conversation.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from include.sync_health.alerts import Alert, NotifyReason
from include.sync_health.policy import Policy

THREAD_NAMESPACE = uuid.UUID("0e6a6f5d-0d0c-5b7e-9f0e-3b1f6c2d8a44")
"""Namespace of the deterministic thread ids; changing it is a migration."""


def group_of(alert: Alert, *, policy: Policy) -> str:
    """
    Return the key of the group that an alert belongs to: 64 hex digits; its own fingerprint where it stands alone.

    See `GroupingPolicy`.
    """
    by = policy.alerting.grouping.by
    if not by or ("cause" in by and not alert.cause):
        return alert.fingerprint
    values = {"rule": alert.rule, "environment": alert.environment, "cause": alert.cause}
    return hashlib.sha256("|".join(f"{name}={values[name]}" for name in sorted(by)).encode()).hexdigest()


def new_thread(channel: str, *, group: str, as_of: datetime) -> str:
    """Return the id of the thread that a group opens in a channel at ``as_of`` (aware): a retry gets the same."""
    return str(uuid.uuid5(THREAD_NAMESPACE, f"{channel}|{group}|{as_of.timestamp():.6f}"))


def shown_of(alert: Alert, *, as_of: datetime) -> str:
    """
    Return what of an alert the first message of its thread shows, as one word; when it changes, that message is edited.

    Numbers are not among it: they change with every tick, and are told with the next message.
    """
    acknowledged = alert.acknowledged is not None and alert.acknowledged.holds_at(as_of)
    return "-".join(
        [
            alert.state.value,
            alert.severity.value,
            *(["stale"] if alert.stale_since is not None else []),
            *(["flapping"] if alert.flapping_since is not None else []),
            *(["acknowledged"] if acknowledged else []),
        ]
    )


_LONG_AGO = datetime.min.replace(tzinfo=UTC)


class OpenGroups:
    """
    The groups that each channel was told of and that are still open, with the thread that newcomers join.

    Args:
        alerts: all that are known, as they are after this tick.
        policy: see `group_of`.
    """

    def __init__(self, alerts: Iterable[Alert], *, policy: Policy) -> None:
        self._threads: dict[tuple[str, str], tuple[datetime, str | None]] = {}
        for alert in alerts:
            if not alert.state.is_open:
                continue
            group = group_of(alert, policy=policy)
            for channel, told in alert.told.items():
                if told.reason is not NotifyReason.CLOSED:
                    newest = self._threads.get((channel, group))
                    if newest is None or (told.at, told.thread or "") > (newest[0], newest[1] or ""):
                        self._threads[channel, group] = told.at, told.thread

    def told_of(self, channel: str, group: str) -> bool:
        """Return whether a channel was told of an open alert of a group."""
        return (channel, group) in self._threads

    def join(self, channel: str, group: str, *, thread: str | None) -> None:
        """Note that a channel is about to be told of a group in a thread, unless it was told of it already."""
        self._threads.setdefault((channel, group), (_LONG_AGO, thread))

    def thread(self, channel: str, group: str) -> str | None:
        """Return the thread that the channel was last told of the group in; None where there is none."""
        found = self._threads.get((channel, group))
        return found[1] if found else None


def threads_by_channel(alert: Alert) -> Mapping[str, str]:
    """Return the thread that each channel was last told of an alert in, in this episode or one shortly before."""
    return {
        **alert.threads,
        **{channel: told.thread for channel, told in alert.told.items() if told.thread is not None},
    }

"""Where an alert goes: the policy's routes, first match unless it says to continue."""

from __future__ import annotations

from collections.abc import Sequence

from include.sync_health.alerting_policies import Route
from include.sync_health.alerts import Alert
from include.sync_health.matchers import Labels, labels_of
from include.sync_health.policy import Policy

CHANNEL_KINDS = ("slack", "email")


def routes_for(policy: Policy, labels: Labels) -> Sequence[Route]:
    """Return the routes that an alert with these labels takes, in the policy's order."""
    taken = []
    for route in policy.routes:
        if route.match.matches(labels):
            taken.append(route)
            if not route.continue_:
                break
    return taken


def channels_for(policy: Policy, labels: Labels) -> tuple[str, ...]:
    """Return the channel keys that an alert goes to, such as ``slack:#ops``, each once, in the routes' order."""
    found = (channel for route in routes_for(policy, labels) for channel in policy.receivers[route.to].channels())
    return tuple(dict.fromkeys(found))


def channels_of(alert: Alert, *, policy: Policy) -> tuple[str, ...]:
    """Return the channel keys that an alert goes to as it is now; see `channels_for`."""
    return channels_for(policy, labels_of(alert, tags=policy.tags))


def kind_of(channel: str) -> str:
    """Return ``slack`` or ``email``: the part of a channel key before the colon."""
    return channel.partition(":")[0]


def address_of(channel: str) -> str:
    """Return the Slack channel or mail address: the part of a channel key after the colon."""
    return channel.partition(":")[2]

"""Where an alert goes: the policy's routes, first match unless it says to continue."""

from __future__ import annotations

from collections.abc import Sequence

from include.sync_health.policy import Policy, Route
from include.sync_health.verdicts import Severity

CHANNEL_KINDS = ("slack", "email")


def routes_for(policy: Policy, *, severity: Severity, rule: str, environment: str | None) -> Sequence[Route]:
    """Return the routes that an alert takes, in the policy's order."""
    taken = []
    for route in policy.routes:
        match = route.match
        if (
            (not match.severity or severity in match.severity)
            and (not match.rule or rule in match.rule)
            and (not match.environment or environment in match.environment)
        ):
            taken.append(route)
            if not route.continue_:
                break
    return taken


def channels_for(policy: Policy, *, severity: Severity, rule: str, environment: str | None) -> tuple[str, ...]:
    """Return the channel keys that an alert goes to, such as ``slack:#ops``, each once, in the routes' order."""
    routes = routes_for(policy, severity=severity, rule=rule, environment=environment)
    found = (channel for route in routes for channel in policy.receivers[route.to].channels())
    return tuple(dict.fromkeys(found))


def kind_of(channel: str) -> str:
    """Return ``slack`` or ``email``: the part of a channel key before the colon."""
    return channel.partition(":")[0]


def address_of(channel: str) -> str:
    """Return the Slack channel or mail address: the part of a channel key after the colon."""
    return channel.partition(":")[2]

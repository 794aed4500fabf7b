"""
Which alert explains which: a cause that a channel was told of keeps its symptoms from that channel.

Inhibition never loses anything: a hidden symptom is told as soon as nothing hides it any more and it still fires, and
whatever a channel was told of is closed there. A cause hides only where it was told itself, so it is decided before
its symptoms, and none explains itself: `DECIDED_IN_ORDER` has every cause before what it explains.

How long after it opened a cause still hides is ``alerting.inhibits_for``. By then somebody should have dealt with it; if
nobody did, what it hides is told once for itself, lest a cause that nobody minds keep everything of a credential quiet
for ever.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from include.sync_health.alerts import Alert
from include.sync_health.checks import CHECKS, RULES
from include.sync_health.own_health import WHOLE_SOURCE
from include.sync_health.policy import Policy
from include.sync_health.routing import channels_of
from include.sync_health.rule_policies import RuleMode

SYMPTOMS: Mapping[str, tuple[str, ...]] = {
    "no_syncs": ("monitor_health",),
    "sync_failures": ("platform_outage", "token_expiry", "connection_error"),
    "consecutive_failures": ("platform_outage", "token_expiry", "connection_error", "sync_failures"),
    "stale_sync": ("monitor_health", "no_syncs", "token_expiry", "connection_error"),
    # One bad sync makes its day bad. Nothing hides empty syncs: they complete, whatever else fails.
    "quality_drop": ("data_quality",),
    # Many credentials whose syncs fail with one class of error: their calls do too, one by one.
    "api_errors": ("platform_outage",),
    "api_incidents": ("platform_outage",),
}
"""The rules whose alerts may be hidden, and the rules of the causes that hide them."""

SHARED: Mapping[str, tuple[str, ...]] = {
    "monitor_health": (),
    "platform_outage": ("environment", "error_class"),
    "no_syncs": ("environment",),
    "token_expiry": ("credential",),
    "connection_error": ("credential",),
    "sync_failures": ("credential",),
    "data_quality": ("credential", "data_type"),
}
"""What of a cause's identity its symptoms must have in common with it."""

DECIDED_IN_ORDER = ("monitor_health", *RULES)
"""Every rule, causes before symptoms."""

Reach = tuple[str | None, ...]
"""A cause's rule and the values of what it shares with its symptoms."""


@dataclass(slots=True)
class ToldCauses:
    """
    The causes that hide something in this tick, by channel; fill it in the order of `DECIDED_IN_ORDER`.

    Args:
        policy: modes and routes; with ``inhibition`` off nothing is ever hidden.
        as_of: the tick; aware.
    """

    policy: Policy
    as_of: datetime
    _by_channel: dict[str, dict[Reach, str]] = field(default_factory=dict)

    def remember(self, cause: Alert, *, told_now: Collection[str] = ()) -> None:
        """
        Note the channels in which this alert hides its symptoms: none, unless it is an open cause that still counts.

        Args:
            cause: any alert, as it is after this tick.
            told_now: channels that are told of it for the first time in this tick.
        """
        reach = _reach_of(cause, as_of=self.as_of)
        told = {*cause.told, *told_now}
        if not self.policy.inhibition or reach is None or not told or not cause.state.is_open:
            return
        if self.policy.rules.named(cause.rule).mode is not RuleMode.LIVE:
            return
        if cause.opened_at is None or self.as_of - cause.opened_at > self.policy.alerting.inhibits_for:
            return
        for channel in told.intersection(channels_of(cause, policy=self.policy)):
            self._by_channel.setdefault(channel, {}).setdefault(reach, cause.fingerprint)

    def hiding(self, symptom: Alert, *, channel: str) -> str | None:
        """Return the fingerprint of what explains the alert and was told to this channel; None when nothing does."""
        told = self._by_channel.get(channel, {})
        return next((told[reach] for reach in _reaches_to(symptom) if reach in told), None)


def _reach_of(cause: Alert, *, as_of: datetime) -> Reach | None:
    """Return what a cause reaches; None for an alert that explains no other."""
    shared = SHARED.get(cause.rule)
    if shared is None or (cause.rule == "monitor_health" and not _is_whole_source(cause)):
        return None
    if cause.rule == "token_expiry" and _still_lasts(cause, as_of=as_of):
        return None  # it is told days ahead: what fails meanwhile fails for another reason
    return cause.rule, *(cause.identity.get(name) for name in shared)


def _is_whole_source(cause: Alert) -> bool:
    """
    Return whether nothing of the source was seen.

    A check that cannot read what it alone needs explains nothing of what another found, nor does a wrong policy file.
    """
    return cause.identity.get("check") in CHECKS and cause.identity.get("cause") in WHOLE_SOURCE


def _still_lasts(cause: Alert, *, as_of: datetime) -> bool:
    """Return whether a token is known to expire only later."""
    expires_at = cause.evidence.get("expires_at")
    return isinstance(expires_at, str) and datetime.fromisoformat(expires_at) > as_of


def _reaches_to(symptom: Alert) -> Iterable[Reach]:
    """Yield the reach of every cause that would explain an alert."""
    known = {
        "credential": symptom.identity.get("credential"),
        "data_type": symptom.identity.get("data_type"),
        "environment": symptom.environment,
        "error_class": symptom.error_class,
    }
    for rule in SYMPTOMS.get(symptom.rule, ()):
        yield rule, *(known[name] for name in SHARED[rule])

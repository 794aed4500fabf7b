"""
Alerts that come and go: how often one came back, and what that changes.

The first recovery of a day is believed at once. An alert that came back after one must stay clear for
`LifecyclePolicy.settle_after` before it closes again, so that one that flips with every tick is told to be open twice and
then stays open. One that came back `LifecyclePolicy.flap_returns` times within `LifecyclePolicy.flap_window` is flapping:
its message is kept up to date, and repeated once a day and no more often, until it closes or keeps still.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from include.sync_health.alerting_policies import LifecyclePolicy
from include.sync_health.alerts import Alert

FLAPPING_REPEATS = timedelta(days=1)
"""How often a flapping alert is told again, whatever its severity."""


def came_back(alert: Alert, *, as_of: datetime, policy: LifecyclePolicy) -> Alert:
    """Return the alert with one more return at ``as_of``, and flapping where that is one too many."""
    return settled(replace(alert, returns=(*alert.returns, as_of)), as_of=as_of, policy=policy)


def settled(alert: Alert, *, as_of: datetime, policy: LifecyclePolicy) -> Alert:
    """Return the alert without the returns that are longer ago than the window, and flapping only while enough are left."""
    returns = tuple(each for each in alert.returns if as_of - each < policy.flap_window)
    flaps = policy.flap_returns is not None and len(returns) >= policy.flap_returns
    since = (alert.flapping_since or as_of) if flaps else None
    return replace(alert, returns=returns, flapping_since=since)


def held_for(alert: Alert, *, keep_firing_for: timedelta, policy: LifecyclePolicy) -> timedelta:
    """
    Return how long an open alert must stay clear before it closes.

    Args:
        alert: after `settled`.
        keep_firing_for: of its rule.
        policy: ``settle_after`` counts where the alert reopened within the window, or is flapping.
    """
    reopened = alert.reopened_at is not None and alert.reopened_at in alert.returns
    if reopened or alert.flapping_since is not None:
        return max(keep_firing_for, policy.settle_after)
    return keep_firing_for

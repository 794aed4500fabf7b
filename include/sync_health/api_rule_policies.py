"""
The policies of the rules that judge what is measured beside the syncs: API calls, and the error budgets.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from include.sync_health.rule_policy import RulePolicy
from include.sync_health.verdicts import Severity

HOUR = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiErrorsPolicy(RulePolicy):
    """Breach when, of an endpoint's calls in the last whole hours of ``window``, more than ``breach_share`` percent failed."""

    window: timedelta = HOUR  # whole hours
    breach_share: float = 1.0  # percent of the calls; more than this
    clear_share: float = 0.5  # percent; less than this
    high_share: float | None = 10.0  # percent; this and more is high; None: never
    min_calls: int = 100  # fewer prove nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiLatencyPolicy(RulePolicy):
    """Breach when one in twenty of an endpoint's calls in the last whole hours of ``window`` took more than ``slower_than``."""

    window: timedelta = HOUR  # whole hours
    slower_than: timedelta = timedelta(seconds=5)  # the 95th percentile; more than this
    clear_below: timedelta = timedelta(seconds=4)  # less than this
    min_calls: int = 100  # timed; fewer prove nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiIncidentsPolicy(RulePolicy):
    """Breach when a credential was refused for its rate, or its circuit breaker opened, so often within ``window``."""

    window: timedelta = HOUR  # whole hours
    rate_limits: int = 10  # incidents; this and more
    circuit_openings: int = 1  # this and more
    clear_share: float = 50.0  # percent of either; less than this is clear
    circuit_severity: Severity = Severity.HIGH  # of an open circuit breaker: nothing is called meanwhile


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorBudgetPolicy(RulePolicy):
    """Breach when an error budget burns faster than it lasts, over the last ``long_days`` and the last ``short_days``."""

    burn_factor: float = 1.0  # times as fast as the budget lasts; more than this
    long_days: int = 3  # whole days of the reporting time zone, up to yesterday
    short_days: int = 1  # likewise; fewer than long_days
    min_events: int = 500  # in the long window; fewer prove nothing

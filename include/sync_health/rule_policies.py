"""
The policies of the rules: every number that one of them decides by, as frozen values that refuse to be wrong.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum

from include.sync_health.api_rule_policies import (
    ApiErrorsPolicy,
    ApiIncidentsPolicy,
    ApiLatencyPolicy,
    ErrorBudgetPolicy,
)
from include.sync_health.rule_policy import RuleMode, RulePolicy
from include.sync_health.verdicts import Severity

__all__ = [
    "ApiErrorsPolicy",
    "ApiIncidentsPolicy",
    "ApiLatencyPolicy",
    "ConnectionErrorPolicy",
    "ConsecutiveFailuresPolicy",
    "DataQualityPolicy",
    "EmptySyncsPolicy",
    "ErrorBudgetPolicy",
    "MonitorHealthPolicy",
    "NoSyncsPolicy",
    "PlatformOutagePolicy",
    "QualityDropPolicy",
    "QualityIdentity",
    "RuleMode",
    "RulePolicies",
    "RulePolicy",
    "StaleSyncPolicy",
    "StuckSyncPolicy",
    "SyncFailuresPolicy",
    "TokenExpiryPolicy",
    "TokenJudgement",
]

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncFailuresPolicy(RulePolicy):
    """Breach at ``threshold`` failed runs of one credential within ``window``."""

    severity: Severity = Severity.HIGH
    keep_firing_for: timedelta = timedelta(minutes=30)
    threshold: int = 3
    window: timedelta = HOUR
    evidence_window: timedelta = DAY  # in which the latest finished run is sought
    count_cancelled: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsecutiveFailuresPolicy(RulePolicy):
    """Breach when the last ``threshold`` finished runs of a credential's data type all failed."""

    threshold: int = 3
    window: timedelta = 7 * DAY
    high_from: int | None = 10  # failures in a row from which it is high; None: never
    count_cancelled: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StuckSyncPolicy(RulePolicy):
    """Breach when a run has been open for more than ``open_for``."""

    open_for: timedelta = HOUR
    high_after: timedelta | None = 2 * HOUR  # None: never high


@dataclass(frozen=True, slots=True, kw_only=True)
class PlatformOutagePolicy(RulePolicy):
    """
    Breach when, of an environment's credentials that ran within ``window``, at least ``breach_share`` percent, and at
    least ``min_credentials``, failed with one error class.
    """

    severity: Severity = Severity.CRITICAL
    keep_firing_for: timedelta = timedelta(minutes=30)
    window: timedelta = HOUR
    breach_share: float = 50.0  # percent; this and more
    clear_share: float = 25.0  # percent; less than this
    min_credentials: int = 3
    environments: tuple[str, ...] = ("production",)


@dataclass(frozen=True, slots=True, kw_only=True)
class NoSyncsPolicy(RulePolicy):
    """Breach when no run of an environment started for ``silent_for``, after a day with ``busy_hours`` busy hours."""

    severity: Severity = Severity.HIGH
    silent_for: timedelta = 2 * HOUR
    busy_hours: int = 20  # of the 24 hours before the silence window
    environments: tuple[str, ...] = ("production",)


class TokenJudgement(StrEnum):
    """How a token's expiry is judged."""

    LIFETIME_AWARE = "lifetime_aware"  # short-lived tokens, which are refreshed by use, only when long expired
    LITERAL = "literal"  # every token that expires within ``within``, or has expired


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenExpiryPolicy(RulePolicy):
    """Breach when a token is about to expire, or expired and nobody refreshed it."""

    judge_by: TokenJudgement = TokenJudgement.LIFETIME_AWARE
    within: timedelta = 7 * DAY
    high_within: timedelta | None = DAY  # or expired; None: never high
    long_lived_from: timedelta = DAY  # a token with this lifetime or more is long-lived
    short_lived_expired_for: timedelta = 2 * DAY  # a short-lived one may be expired for so long


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionErrorPolicy(RulePolicy):
    """Breach when a credential is in status error and no run has completed since."""

    severity: Severity = Severity.HIGH
    status_alone: bool = False  # True: whatever has completed since


@dataclass(frozen=True, slots=True, kw_only=True)
class StaleSyncPolicy(RulePolicy):
    """Breach when a monitored credential completed no run for more than ``stale_after``."""

    stale_after: timedelta = 2 * DAY
    high_after: timedelta | None = 4 * DAY  # None: never high


class QualityIdentity(StrEnum):
    """What one data-quality alert speaks of."""

    DATA_TYPE = "data_type"  # a credential's data type: one alert, whose message names the worst sync
    SYNC = "sync"  # each sync


@dataclass(frozen=True, slots=True, kw_only=True)
class DataQualityPolicy(RulePolicy):
    """Breach when, of a sync with more than ``min_records`` records, more than ``breach_share`` percent failed."""

    window: timedelta = DAY
    breach_share: float = 20.0  # percent of records failed; more than this
    clear_share: float = 10.0  # percent; less than this
    high_share: float | None = 50.0  # percent; more than this is high; None: never
    min_records: int = 10  # more than this
    identity: QualityIdentity = QualityIdentity.DATA_TYPE
    active_only: bool = False  # True: only credentials whose status is one of ACTIVE_STATUSES


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityDropPolicy(RulePolicy):
    """
    Breach when a whole day's score lies further below its usual than chance explains: the usual is the median of the
    same weekday's last ``weeks`` final days.
    """

    weeks: int = 8  # same weekdays looked back at
    min_days: int = 4  # of those, with a score and enough records; fewer prove nothing
    min_records: int = 100  # processed on a day; a day with fewer is not judged, and is no example either
    min_drop: float = 5.0  # points below the usual; less is never a drop
    spread: float = 3.0  # and more than so many robust standard deviations (1.4826 * MAD) below it
    clear_share: float = 50.0  # percent of what would be a drop; less than this is clear again
    high_drop: float | None = 25.0  # points; this and more is high; None: never


@dataclass(frozen=True, slots=True, kw_only=True)
class EmptySyncsPolicy(RulePolicy):
    """Breach when every completed sync of ``window`` processed no record, where there used to be some on such a day."""

    window: timedelta = DAY
    min_syncs: int = 3  # completed within the window; fewer prove nothing
    weeks: int = 8  # same weekdays looked back at
    min_days: int = 4  # of those, with a completed sync
    usual_share: float = 75.0  # percent of those that had records; this and more: they used to come


@dataclass(frozen=True, slots=True, kw_only=True)
class MonitorHealthPolicy(RulePolicy):
    """We cannot see."""

    severity: Severity = Severity.HIGH


@dataclass(frozen=True, slots=True, kw_only=True)
class RulePolicies:
    """One policy for each rule; the field names are the rules' names."""

    sync_failures: SyncFailuresPolicy = field(default_factory=SyncFailuresPolicy)
    consecutive_failures: ConsecutiveFailuresPolicy = field(default_factory=ConsecutiveFailuresPolicy)
    stuck_sync: StuckSyncPolicy = field(default_factory=StuckSyncPolicy)
    platform_outage: PlatformOutagePolicy = field(default_factory=PlatformOutagePolicy)
    no_syncs: NoSyncsPolicy = field(default_factory=NoSyncsPolicy)
    token_expiry: TokenExpiryPolicy = field(default_factory=TokenExpiryPolicy)
    connection_error: ConnectionErrorPolicy = field(default_factory=ConnectionErrorPolicy)
    stale_sync: StaleSyncPolicy = field(default_factory=StaleSyncPolicy)
    data_quality: DataQualityPolicy = field(default_factory=DataQualityPolicy)
    quality_drop: QualityDropPolicy = field(default_factory=QualityDropPolicy)
    empty_syncs: EmptySyncsPolicy = field(default_factory=EmptySyncsPolicy)
    api_errors: ApiErrorsPolicy = field(default_factory=ApiErrorsPolicy)
    api_latency: ApiLatencyPolicy = field(default_factory=ApiLatencyPolicy)
    api_incidents: ApiIncidentsPolicy = field(default_factory=ApiIncidentsPolicy)
    error_budget: ErrorBudgetPolicy = field(default_factory=ErrorBudgetPolicy)
    monitor_health: MonitorHealthPolicy = field(default_factory=MonitorHealthPolicy)

    def named(self, rule: str) -> RulePolicy:
        """Return the policy of one rule; KeyError for a name that is no rule."""
        if rule not in self.__slots__:
            raise KeyError(rule)
        policy: RulePolicy = getattr(self, rule)
        return policy

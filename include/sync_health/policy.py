"""
The policy: every number a decision uses, as frozen values that refuse to be wrong.

The file `include/monitor.yaml` (and the overlay named by ``SERVICETITAN_MONITOR_CONFIG``) is parsed by
`include.orchestration.policy_file`; the core sees only these. Durations are `timedelta`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum

from include.sync_health.errors import PolicyError
from include.sync_health.verdicts import Severity

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)

ACTIVE_STATUSES = ("active", "connected")
"""What upstream calls a credential in use, by the shape of its tables."""


class RuleMode(StrEnum):
    """What becomes of a rule's verdicts."""

    LIVE = "live"  # recorded and sent
    SHADOW = "shadow"  # recorded, not sent
    OFF = "off"  # not evaluated


class MonitoringLevel(StrEnum):
    """How much detail metrics keep."""

    MINIMAL = "minimal"
    STANDARD = "standard"
    DETAILED = "detailed"


@dataclass(frozen=True, slots=True, kw_only=True)
class SourcePolicy:
    """How the Hub Plus database is read."""

    connection: str = "hub_plus_db"
    schema: str = "public"
    sync_log_table: str | None = None  # names the one to read when both exist
    timezone: str = "UTC"  # of naive columns: PHP's date.timezone, an IANA name
    id_slack: timedelta = DAY  # how late a row may commit, and how long a sync may take
    open_lookback: timedelta = 30 * DAY  # an older open row is abandoned
    statement_timeout: timedelta = timedelta(seconds=60)


@dataclass(frozen=True, slots=True, kw_only=True)
class RulePolicy:
    """What every rule has."""

    mode: RuleMode = RuleMode.LIVE
    severity: Severity = Severity.MEDIUM
    for_: timedelta = timedelta(0)  # how long a breach must last before it opens (`for` in the file)
    keep_firing_for: timedelta = timedelta(0)  # how long it must stay clear before it closes

    def __post_init__(self) -> None:
        """Refuse negative durations."""
        for name in ("for_", "keep_firing_for"):
            if getattr(self, name) < timedelta(0):
                raise PolicyError(path=name.rstrip("_"), value=getattr(self, name), allowed="use 0 or more")


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
    monitor_health: MonitorHealthPolicy = field(default_factory=MonitorHealthPolicy)

    def named(self, rule: str) -> RulePolicy:
        """Return the policy of one rule; KeyError for a name that is no rule."""
        if rule not in self.__slots__:
            raise KeyError(rule)
        policy: RulePolicy = getattr(self, rule)
        return policy


@dataclass(frozen=True, slots=True, kw_only=True)
class Receiver:
    """Where a route's alerts go: Slack channels (``#name`` or id) and mail addresses."""

    slack: tuple[str, ...] = ()
    email: tuple[str, ...] = ()

    def channels(self) -> tuple[str, ...]:
        """Return the channel keys, such as ``slack:#servicetitan-alerts`` and ``email:ops@example.com``."""
        return tuple(f"slack:{name}" for name in self.slack) + tuple(f"email:{name}" for name in self.email)


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteMatch:
    """Empty sets match everything; several keys must all match."""

    severity: frozenset[Severity] = frozenset()
    rule: frozenset[str] = frozenset()
    environment: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Alerts that match go to the receiver; later routes are tried only with ``continue_``."""

    match: RouteMatch = field(default_factory=RouteMatch)
    to: str
    continue_: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionPolicy:
    """How long our own tables keep what nobody needs any more; the daily aggregates are kept for ever."""

    check_runs: timedelta = 90 * DAY
    deliveries: timedelta = 365 * DAY
    alert_events: timedelta = 730 * DAY
    credential_snapshots: timedelta = 400 * DAY
    token_detail: timedelta = 7 * DAY  # after which one snapshot a day is kept of a short-lived token


@dataclass(frozen=True, slots=True, kw_only=True)
class BackfillPolicy:
    """How history is read in bulk."""

    connection: str | None = None  # of a replica; None: source.connection
    statement_timeout: timedelta = timedelta(minutes=5)
    pause: timedelta = timedelta(0)  # between two reads
    rows_per_read: int = 100_000  # about as many; at least a day


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The whole policy. See `include/monitor.yaml` for what each key means."""

    source: SourcePolicy = field(default_factory=SourcePolicy)
    storage_connection: str = "monitoring_db"
    reporting_timezone: str = "UTC"
    late_data_days: int = 3
    live_horizon: Mapping[str, timedelta] = field(
        default_factory=lambda: {"sync_failures": 6 * HOUR, "credential_health": DAY, "data_quality": DAY}
    )
    severity_caps: Mapping[str, Severity] = field(default_factory=lambda: {"integration": Severity.LOW})
    rules: RulePolicies = field(default_factory=RulePolicies)
    receivers: Mapping[str, Receiver] = field(default_factory=dict)
    routes: tuple[Route, ...] = ()
    repeat: Mapping[Severity, timedelta | None] = field(  # None: never; 0: every run that judges it
        default_factory=lambda: {
            Severity.CRITICAL: 4 * HOUR,
            Severity.HIGH: 12 * HOUR,
            Severity.MEDIUM: DAY,
            Severity.LOW: None,
        }
    )
    duration_fallback: bool = True  # a run without a stored duration counts as completed_at - started_at
    monitored_statuses: tuple[str, ...] = ("active", "connected", "error")  # of connection_status
    recheck_open: bool = True  # the 15-minute check judges the open alerts of the 6-hour rules too
    inhibition: bool = True  # an alert whose cause was told to a channel is not told there
    retention: RetentionPolicy = field(default_factory=RetentionPolicy)
    backfill: BackfillPolicy = field(default_factory=BackfillPolicy)
    summary_above: int = 20  # openings (or closings) per channel and tick above which they share one message
    monitoring_level: MonitoringLevel = MonitoringLevel.STANDARD

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

from include.sync_health.alerting_policies import AlertingPolicy, Receiver, Route
from include.sync_health.matchers import Tagged
from include.sync_health.measuring_policies import ApiCallsPolicy, HealthPolicy, MetricsPolicy, ServiceLevelsPolicy
from include.sync_health.rule_policies import RulePolicies
from include.sync_health.verdicts import Severity

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)

ACTIVE_STATUSES = ("active", "connected")
"""What upstream calls a credential in use, by the shape of its tables."""


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
class RetentionPolicy:
    """How long our own tables keep what nobody needs any more; the daily aggregates are kept for ever."""

    check_runs: timedelta = 90 * DAY
    deliveries: timedelta = 365 * DAY
    alert_events: timedelta = 730 * DAY
    credential_snapshots: timedelta = 400 * DAY
    token_detail: timedelta = 7 * DAY  # after which one snapshot a day is kept of a short-lived token
    api_calls: timedelta = 400 * DAY  # by hour
    sync_hours: timedelta = 400 * DAY
    health_snapshots: timedelta = 90 * DAY


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
        default_factory=lambda: {
            "sync_failures": 6 * HOUR,
            "credential_health": DAY,
            "data_quality": DAY,
            "api_metrics": DAY,
        }
    )
    severity_caps: Mapping[str, Severity] = field(default_factory=lambda: {"integration": Severity.LOW})
    rules: RulePolicies = field(default_factory=RulePolicies)
    receivers: Mapping[str, Receiver] = field(default_factory=dict)
    routes: tuple[Route, ...] = ()
    tags: Mapping[str, Tagged] = field(default_factory=dict)  # by name: companies and credentials, for matchers
    alerting: AlertingPolicy = field(default_factory=AlertingPolicy)
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
    metrics: MetricsPolicy = field(default_factory=MetricsPolicy)
    api_calls: ApiCallsPolicy = field(default_factory=ApiCallsPolicy)
    health: HealthPolicy = field(default_factory=HealthPolicy)
    service_levels: ServiceLevelsPolicy = field(default_factory=ServiceLevelsPolicy)

"""
The policies of what is measured beside the rules: metrics, API calls, the health check and the service levels.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsPolicy:
    """How much is told as metrics; which of them, ``monitoring_level`` says."""

    series_cap: int = 250_000  # of /metrics; what is beyond is dropped, and counted
    late_syncs: timedelta = DAY  # a sync that shows up so late after it started or ended is still counted
    timings_cap: int = 10_000  # response times that one run emits one by one; beyond, an average for each label set
    cache: timedelta = timedelta(seconds=15)  # for so long /metrics answers what it has computed


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiCallsPolicy:
    """Where calls of the ServiceTitan API are known from; without any, their metrics are unavailable, not 0."""

    table: bool = True  # read servicetitan_api_calls, where the source has it
    logs: tuple[str, ...] = ()  # files of Monolog's JSON lines: paths, globs, or URLs such as s3://bucket/logs/*.log
    logs_connection: str | None = None  # Airflow connection id for URLs; None: the deployment's own credentials
    late_calls: timedelta = 3 * HOUR  # a call that shows up so late in the table is still counted


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthPolicy:
    """When the health check is worse than healthy."""

    failed_share: float = 10.0  # percent of the last hour's finished syncs that failed; more than this is a warning
    unhealthy_share: float = 20.0  # percent; more than this is unhealthy
    min_syncs: int = 5  # finished in that hour; the shares of fewer prove nothing
    probe_sample: int = 3  # active credentials with a probe that are tried
    probe_timeout: timedelta = timedelta(seconds=10)
    disk_free_share: float = 10.0  # percent of the worker's disk; less than this is a warning
    memory_free_share: float = 5.0  # percent of the worker's memory; less than this is a warning
    max_lag: timedelta = timedelta(minutes=5)  # of a source that is a standby; more than this is a warning


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceLevel:
    """One objective: so many percent of what counts must be good."""

    objective: float  # percent; below 100


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceLevelsPolicy:
    """The service levels, over a window of whole days of the reporting time zone that ends with yesterday."""

    days: int = 28
    sync_completion: ServiceLevel = field(
        default_factory=lambda: ServiceLevel(objective=99.0)
    )  # of completed and failed
    quality: ServiceLevel = field(default_factory=lambda: ServiceLevel(objective=98.0))  # of the records processed
    api_latency: ServiceLevel = field(
        default_factory=lambda: ServiceLevel(objective=95.0)
    )  # of the calls that are timed
    api_latency_within: timedelta = timedelta(seconds=5)

"""
The metrics: their names, kinds, units and labels, and which of them each monitoring level keeps.

The names, units and labels of `CONTRACT` are those of the story and never change; StatsD, OpenTelemetry and ``/metrics``
all tell them by this list. What a label may say:

    environment    production, integration, unknown
    data_type      invoices, customers, both, unknown
    status         of a sync: how it ended (`FINISHED_STATUSES`); of a credential: see `credential_status`
    company_id     the company's key; `UNKNOWN` where the source has lost it
    credential_id  the credential's key
    endpoint       of ServiceTitan's API, with ids masked
    status_code    of HTTP; 0 where nobody knows it
    error_class    one of `include.sync_health.verdicts.ErrorClass`
    check          one of the checks' names
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from include.sync_health.policy import MonitoringLevel

Kind = Literal["counter", "gauge", "timing"]

UNKNOWN = "unknown"
"""What a label says that nobody could tell: no label is ever empty."""

FINISHED_STATUSES = ("completed", "failed", "cancelled")
"""How a sync ends; one that the user cancelled is ``cancelled``, though upstream writes ``failed``."""


CREDENTIAL_STATUSES = ("active", "connected", "error", "inactive", "pending")
"""The connection statuses that the source knows; any other is `UNKNOWN`: it may hold anything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """
    One metric.

    Args:
        name: with dots, as StatsD and OpenTelemetry have it.
        kind: a counter only rises; a gauge says how it is; a timing is one observation of a duration.
        unit: ``seconds``, ``milliseconds``, ``percent``, ``records``, ``rows``, or empty: a number of what the name says.
        labels: in order, as `MonitoringLevel.STANDARD` keeps them.
        help: one sentence.
        total: how the values of a gauge become one where labels are dropped; ``none``: it is left out then.
    """

    name: str
    kind: Kind
    unit: str
    labels: tuple[str, ...]
    help: str
    total: Literal["sum", "least", "recomputed", "none"] = "sum"


_SYNC = ("environment", "data_type", "company_id")
_FINISHED = ("environment", "data_type", "status", "company_id")
_API = ("environment", "endpoint", "status_code", "company_id")
_CREDENTIAL = ("environment", "status", "company_id")

SYNC_STARTED = Metric(
    name="servicetitan.sync.started", kind="counter", unit="", labels=_SYNC, help="Syncs that started."
)
SYNC_COMPLETED = Metric(
    name="servicetitan.sync.completed",
    kind="counter",
    unit="",
    labels=_FINISHED,
    help="Syncs that ended, by how they ended.",
)
SYNC_DURATION = Metric(
    name="servicetitan.sync.duration",
    kind="timing",
    unit="seconds",
    labels=_FINISHED,
    help="How long syncs took; without those of which nobody knows, or that took no time.",
)
SYNC_RECORDS_PROCESSED = Metric(
    name="servicetitan.sync.records_processed",
    kind="gauge",
    unit="records",
    labels=_FINISHED,
    help="Records that the last sync processed.",
    total="none",
)
SYNC_RECORDS_SUCCESSFUL = Metric(
    name="servicetitan.sync.records_successful",
    kind="gauge",
    unit="records",
    labels=_FINISHED,
    help="Records of the last sync that succeeded.",
    total="none",
)
SYNC_RECORDS_FAILED = Metric(
    name="servicetitan.sync.records_failed",
    kind="gauge",
    unit="records",
    labels=_FINISHED,
    help="Records of the last sync that failed.",
    total="none",
)
SYNC_SUCCESS_RATE = Metric(
    name="servicetitan.sync.success_rate",
    kind="gauge",
    unit="percent",
    labels=_FINISHED,
    help="Records of the last sync that succeeded, of those it processed; absent when it processed none.",
    total="none",
)
API_REQUESTS = Metric(
    name="servicetitan.api.requests",
    kind="counter",
    unit="",
    labels=_API,
    help="Calls of the ServiceTitan API.",
)
API_ERRORS = Metric(
    name="servicetitan.api.errors",
    kind="counter",
    unit="",
    labels=_API,
    help="Calls of the ServiceTitan API that failed: answered with a status of 400 or more.",
)
API_RESPONSE_TIME = Metric(
    name="servicetitan.api.response_time",
    kind="timing",
    unit="milliseconds",
    labels=_API,
    help="How long the ServiceTitan API took to answer.",
)
CREDENTIAL_STATUS = Metric(
    name="servicetitan.credentials.status",
    kind="gauge",
    unit="",
    labels=_CREDENTIAL,
    help="1 for the connection status that a credential has, 0 for the one it had before.",
)
TOKEN_EXPIRY = Metric(
    name="servicetitan.credentials.token_expiry_seconds",
    kind="gauge",
    unit="seconds",
    labels=_CREDENTIAL,
    help="Time until a credential's token expires; negative once it has, absent without one.",
    total="least",
)
QUALITY_TOTAL = Metric(
    name="servicetitan.data_quality.total_records",
    kind="gauge",
    unit="records",
    labels=_SYNC,
    help="Records that the syncs of the last 24 hours processed.",
)
QUALITY_VALID = Metric(
    name="servicetitan.data_quality.valid_records",
    kind="gauge",
    unit="records",
    labels=_SYNC,
    help="Records of the syncs of the last 24 hours that succeeded.",
)
QUALITY_INVALID = Metric(
    name="servicetitan.data_quality.invalid_records",
    kind="gauge",
    unit="records",
    labels=_SYNC,
    help="Records of the syncs of the last 24 hours that failed.",
)
QUALITY_SCORE = Metric(
    name="servicetitan.data_quality.score",
    kind="gauge",
    unit="percent",
    labels=_SYNC,
    help="Records of the syncs of the last 24 hours that succeeded, of those processed; absent when none was.",
    total="recomputed",
)

CONTRACT = (
    SYNC_STARTED,
    SYNC_COMPLETED,
    SYNC_DURATION,
    SYNC_RECORDS_PROCESSED,
    SYNC_RECORDS_SUCCESSFUL,
    SYNC_RECORDS_FAILED,
    SYNC_SUCCESS_RATE,
    API_REQUESTS,
    API_ERRORS,
    API_RESPONSE_TIME,
    CREDENTIAL_STATUS,
    TOKEN_EXPIRY,
    QUALITY_TOTAL,
    QUALITY_VALID,
    QUALITY_INVALID,
    QUALITY_SCORE,
)
"""The story's metrics."""

SYNC_FAILURES = Metric(
    name="servicetitan.sync.failures",
    kind="counter",
    unit="",
    labels=("environment", "data_type", "error_class", "company_id"),
    help="Syncs that failed, by the class of their error.",
)
"""What `MonitoringLevel.DETAILED` adds."""

CHECK_ROWS = Metric(
    name="servicetitan.monitor.check_rows",
    kind="gauge",
    unit="rows",
    labels=("check",),
    help="Rows that the last run of a check read from the source.",
)
CHECK_MILLISECONDS = Metric(
    name="servicetitan.monitor.check_milliseconds",
    kind="gauge",
    unit="milliseconds",
    labels=("check",),
    help="How long the source took to answer the last run of a check.",
)

OWN = (CHECK_ROWS, CHECK_MILLISECONDS)
"""What the monitor costs the source; kept at every level."""

_MINIMAL_LABELS = ("environment", "data_type", "status", "status_code", "check")

_STANDARD_LABELS = ("environment", "data_type", "endpoint", "status", "status_code", "company_id", "check")


def labels_kept(level: MonitoringLevel) -> tuple[str, ...]:
    """Return the labels that a level keeps, of whichever metric has them; ``credential_id`` is on each of `CONTRACT`."""
    if level is MonitoringLevel.MINIMAL:
        return _MINIMAL_LABELS
    if level is MonitoringLevel.STANDARD:
        return _STANDARD_LABELS
    return (*_STANDARD_LABELS, "error_class", "credential_id")


def metrics_kept(level: MonitoringLevel) -> tuple[Metric, ...]:
    """Return the metrics that a level keeps, in the order of the contract."""
    if level is MonitoringLevel.MINIMAL:
        return (*(metric for metric in CONTRACT if metric.total != "none"), *OWN)
    if level is MonitoringLevel.STANDARD:
        return (*CONTRACT, *OWN)
    return (*CONTRACT, SYNC_FAILURES, *OWN)


def labels_of(metric: Metric, *, level: MonitoringLevel) -> tuple[str, ...]:
    """Return the labels that a metric has at a level, in order."""
    named = metric.labels if metric in OWN else (*metric.labels, "credential_id")
    kept = labels_kept(level)
    return tuple(label for label in named if label in kept)


def prometheus_name(metric: Metric) -> str:
    """
    Return a metric's name in Prometheus' format: with underscores, its unit at the end, ``_total`` for a counter.

    Durations are in seconds there, see `prometheus_scale`. A metric whose name says its unit already keeps it.
    Conventions: https://prometheus.io/docs/practices/naming/
    """
    name = metric.name.replace(".", "_").removesuffix("_milliseconds")
    unit = {"milliseconds": "seconds", "seconds": "seconds", "percent": "percent"}.get(metric.unit, "")
    if unit and not name.endswith(f"_{unit}"):
        name = f"{name}_{unit}"
    return f"{name}_total" if metric.kind == "counter" else name


def prometheus_scale(metric: Metric) -> float:
    """Return by what a value in the metric's unit is multiplied to be that of `prometheus_name`."""
    return 0.001 if metric.unit == "milliseconds" else 1.0


def credential_status(connection_status: str | None) -> str:
    """Return what the label ``status`` of a credential says."""
    return connection_status if connection_status in CREDENTIAL_STATUSES else UNKNOWN


def success_percent(successful: float | None, processed: float | None) -> float | None:
    """
    Return how many percent of the records succeeded; None where nothing was processed or the counts cannot be true.

    Both counts as the source has them, None or NaN where it has none. They cannot be true when more succeeded than were
    processed, or one of them is negative.
    """
    if processed is None or successful is None or not 0 <= successful <= processed or processed == 0:
        return None
    return 100 * successful / processed

"""The names, units and labels of the metrics are a contract with whoever draws and alerts on them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from include.sync_health.metric_contract import (
    CONTRACT,
    OWN,
    SYNC_FAILURES,
    Metric,
    labels_kept,
    labels_of,
    metrics_kept,
    prometheus_name,
    prometheus_scale,
)
from include.sync_health.policy import MonitoringLevel

MINIMAL, STANDARD, DETAILED = MonitoringLevel

DOCUMENTED = Path(__file__).parents[2] / "docs" / "metrics.md"

SYNC = "environment data_type company_id"
FINISHED = "environment data_type status company_id"
API = "environment endpoint status_code company_id"
CREDENTIAL = "environment status company_id"

TABLE = [
    ("servicetitan.sync.started", "counter", "", SYNC, "servicetitan_sync_started_total"),
    ("servicetitan.sync.completed", "counter", "", FINISHED, "servicetitan_sync_completed_total"),
    ("servicetitan.sync.duration", "timing", "seconds", FINISHED, "servicetitan_sync_duration_seconds"),
    ("servicetitan.sync.records_processed", "gauge", "records", FINISHED, "servicetitan_sync_records_processed"),
    ("servicetitan.sync.records_successful", "gauge", "records", FINISHED, "servicetitan_sync_records_successful"),
    ("servicetitan.sync.records_failed", "gauge", "records", FINISHED, "servicetitan_sync_records_failed"),
    ("servicetitan.sync.success_rate", "gauge", "percent", FINISHED, "servicetitan_sync_success_rate_percent"),
    ("servicetitan.api.requests", "counter", "", API, "servicetitan_api_requests_total"),
    ("servicetitan.api.errors", "counter", "", API, "servicetitan_api_errors_total"),
    ("servicetitan.api.response_time", "timing", "milliseconds", API, "servicetitan_api_response_time_seconds"),
    ("servicetitan.credentials.status", "gauge", "", CREDENTIAL, "servicetitan_credentials_status"),
    (
        "servicetitan.credentials.token_expiry_seconds",
        "gauge",
        "seconds",
        CREDENTIAL,
        "servicetitan_credentials_token_expiry_seconds",
    ),
    ("servicetitan.data_quality.total_records", "gauge", "records", SYNC, "servicetitan_data_quality_total_records"),
    ("servicetitan.data_quality.valid_records", "gauge", "records", SYNC, "servicetitan_data_quality_valid_records"),
    (
        "servicetitan.data_quality.invalid_records",
        "gauge",
        "records",
        SYNC,
        "servicetitan_data_quality_invalid_records",
    ),
    ("servicetitan.data_quality.score", "gauge", "percent", SYNC, "servicetitan_data_quality_score_percent"),
]


@pytest.mark.parametrize(("name", "kind", "unit", "labels", "in_prometheus"), TABLE, ids=[row[0] for row in TABLE])
def test_a_metric_of_the_story_is_as_it_was_promised(
    name: str, kind: str, unit: str, labels: str, in_prometheus: str
) -> None:
    """One row of the design's table."""
    (metric,) = [each for each in CONTRACT if each.name == name]

    assert (metric.kind, metric.unit, metric.labels) == (kind, unit, tuple(labels.split()))
    assert labels_of(metric, level=STANDARD) == tuple(labels.split())
    assert prometheus_name(metric) == in_prometheus


def test_the_contract_has_no_other_metric() -> None:
    """What is not in the story's table is no part of it."""
    assert [metric.name for metric in CONTRACT] == [row[0] for row in TABLE]


@pytest.mark.parametrize("metric", [*CONTRACT, SYNC_FAILURES, *OWN], ids=lambda metric: metric.name)
def test_a_metric_has_a_name_that_every_backend_takes(metric: Metric) -> None:
    """StatsD, OpenTelemetry and Prometheus each have their characters, and each help is a sentence."""
    assert re.fullmatch(r"servicetitan(\.[a-z_]+){2}", metric.name)
    assert re.fullmatch(r"[a-z_]+", prometheus_name(metric))
    assert all(re.fullmatch(r"[a-z_]+", label) for label in metric.labels)
    assert metric.help.endswith(".")


def test_prometheus_is_told_seconds_where_others_are_told_milliseconds() -> None:
    """A duration of 250 ms is 0.25 s; what is in seconds stays."""
    scales = {prometheus_name(metric): prometheus_scale(metric) for metric in (*CONTRACT, *OWN)}

    assert {name for name, scale in scales.items() if scale == 0.001} == {
        "servicetitan_api_response_time_seconds",
        "servicetitan_monitor_check_seconds",
    }
    assert set(scales.values()) == {0.001, 1.0}


def test_each_level_keeps_what_the_one_below_keeps() -> None:
    """Labels and metrics only come in addition."""
    for lower, higher in ((MINIMAL, STANDARD), (STANDARD, DETAILED)):
        assert set(labels_kept(lower)) < set(labels_kept(higher))
        assert set(metrics_kept(lower)) < set(metrics_kept(higher))


def test_minimal_keeps_no_label_with_many_values_and_no_gauge_of_single_syncs() -> None:
    """Neither companies nor endpoints; the last sync of an environment says nothing."""
    labels = {label for metric in metrics_kept(MINIMAL) for label in labels_of(metric, level=MINIMAL)}

    assert labels == {"environment", "data_type", "status", "status_code", "check"}
    assert not [metric.name for metric in metrics_kept(MINIMAL) if "sync.records" in metric.name]
    assert "servicetitan.sync.success_rate" not in {metric.name for metric in metrics_kept(MINIMAL)}


def test_detailed_adds_the_credential_and_the_failures_by_class() -> None:
    """To the story's metrics and to its own, but not to what the monitor says of itself."""
    added = set(metrics_kept(DETAILED)) - set(metrics_kept(STANDARD))

    assert added == {SYNC_FAILURES}
    assert labels_of(SYNC_FAILURES, level=DETAILED)[-2:] == ("company_id", "credential_id")
    assert all(labels_of(metric, level=DETAILED) == (*metric.labels, "credential_id") for metric in CONTRACT)
    assert all(labels_of(metric, level=DETAILED) == ("check",) for metric in OWN)


def test_the_documentation_lists_every_metric_as_it_is() -> None:
    """Name, kind, unit and labels, in the order of the contract."""
    rows = [
        tuple(cell.strip() for cell in line.split("|")[1:5])
        for line in DOCUMENTED.read_text(encoding="utf-8").partition("\n## Prometheus")[0].splitlines()
        if line.startswith("| `servicetitan.")
    ]

    assert rows == [
        (f"`{metric.name}`", metric.kind, metric.unit, ", ".join(metric.labels))
        for metric in (*CONTRACT, SYNC_FAILURES, *OWN)
    ]

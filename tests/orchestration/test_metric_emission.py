"""Each metric of the contract reaches a real StatsD and a real OpenTelemetry collector, with its labels and its unit."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from include.orchestration.metric_emission import LONGEST_NAME, emit, tags_of
from include.simulation.otlp_server import OtlpServer
from include.simulation.statsd_server import StatsdServer
from include.sync_health.metric_contract import CONTRACT, OWN, SYNC_FAILURES, Metric, labels_of
from include.sync_health.policy import MonitoringLevel
from include.sync_health.sync_metrics import Sample
from tests.orchestration.metric_backends import (
    EXAMPLE_LABELS,
    TOLD_ENDPOINT,
    emit_elsewhere,
    statsd_backend,
)

ROWS = (*CONTRACT, SYNC_FAILURES, *OWN)
LEVELS = [(metric, level) for metric in CONTRACT for level in (MonitoringLevel.STANDARD, MonitoringLevel.DETAILED)]
LEVELS += [(SYNC_FAILURES, MonitoringLevel.DETAILED)]
LEVELS += [(metric, MonitoringLevel.STANDARD) for metric in OWN]

row = pytest.mark.parametrize(
    ("metric", "level"), LEVELS, ids=[f"{metric.name} at {level}" for metric, level in LEVELS]
)

VALUES = {"counter": (2.0, 3.0), "gauge": (12.5, -86_400.0), "timing": (0.25, 1.5)}
"""Two values of each kind: what a counter rises by, the old and the new value of a gauge, two observations."""


def samples_of(metric: Metric, level: MonitoringLevel) -> list[Sample]:
    """Return two samples of a metric with example labels."""
    labels = tuple((name, EXAMPLE_LABELS[name]) for name in labels_of(metric, level=level))
    return [Sample(metric, labels, value) for value in VALUES[metric.kind]]


def told_labels(metric: Metric, level: MonitoringLevel) -> tuple[tuple[str, str], ...]:
    """Return the labels as a backend has them, by name."""
    told = {**EXAMPLE_LABELS, "endpoint": TOLD_ENDPOINT}
    return tuple(sorted((name, told[name]) for name in labels_of(metric, level=level)))


def milliseconds(metric: Metric) -> list[float]:
    """Return the observations as StatsD's protocol has them."""
    return [value * (1000 if metric.unit == "seconds" else 1) for value in VALUES["timing"]]


@pytest.fixture(scope="module")
def statsd() -> Iterator[StatsdServer]:
    """A StatsD that was told every metric once, at two levels."""
    with pytest.MonkeyPatch.context() as environment, statsd_backend(environment) as server:
        assert emit(sample for metric, level in LEVELS for sample in samples_of(metric, level)) == 2 * len(LEVELS)
        yield server


@pytest.fixture(scope="module")
def otlp() -> Iterator[OtlpServer]:
    """A collector that was told the same."""
    with OtlpServer() as server:
        emit_elsewhere(
            [sample for metric, level in LEVELS for sample in samples_of(metric, level)],
            settings={
                "AIRFLOW__METRICS__OTEL_ON": "True",
                "AIRFLOW__METRICS__LEGACY_NAMES_ON": "False",
                "OTEL_EXPORTER_OTLP_ENDPOINT": server.endpoint,
                "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            },
        )
        yield server


@row
def test_statsd_gets_it(statsd: StatsdServer, metric: Metric, level: MonitoringLevel) -> None:
    """Under its name and labels, and of its kind alone; a duration in milliseconds."""
    series = (f"airflow.{metric.name}", told_labels(metric, level))

    assert statsd.counters().get(series) == (5 if metric.kind == "counter" else None)
    assert statsd.gauges().get(series) == (-86_400 if metric.kind == "gauge" else None)
    assert statsd.timings().get(series) == (milliseconds(metric) if metric.kind == "timing" else None)


@row
def test_opentelemetry_gets_it(otlp: OtlpServer, metric: Metric, level: MonitoringLevel) -> None:
    """Likewise; a duration as a histogram in milliseconds."""
    point = otlp.points()[f"airflow.{metric.name}", told_labels(metric, level)]

    assert point.kind == {"timing": "histogram"}.get(metric.kind, metric.kind)
    if metric.kind == "timing":
        assert (point.count, point.value, point.unit) == (2, sum(milliseconds(metric)), "ms")
    else:
        assert point.value == (5 if metric.kind == "counter" else -86_400)


def test_statsd_gets_nothing_else(statsd: StatsdServer) -> None:
    """No line was malformed, and no name came twice, as Airflow's legacy names do."""
    names = {line.name for line in statsd.lines("airflow.servicetitan")}

    assert names == {f"airflow.{metric.name}" for metric in ROWS}
    assert statsd.refused() == []


def test_opentelemetry_gets_nothing_else(otlp: OtlpServer) -> None:
    """Nor was any request refused."""
    assert {point.name for point in otlp.points("airflow.servicetitan").values()} == {
        f"airflow.{metric.name}" for metric in ROWS
    }
    assert otlp.refused() == []


def test_without_a_backend_nothing_happens() -> None:
    """A deployment need not have one."""
    assert emit(samples_of(CONTRACT[0], MonitoringLevel.STANDARD)) == 2


@pytest.mark.parametrize(
    ("label", "told"),
    [
        pytest.param("/crm/v2/tenant/{id}/customers", "/crm/v2/tenant/id/customers", id="braces are left out"),
        pytest.param("a,b=c:d|e f", "a_b_c_d_e_f", id="what would break a line is an underscore"),
        pytest.param("Zürich\n", "Z_rich_", id="so is what is not ASCII"),
        pytest.param("", "unknown", id="an empty label would be malformed"),
        pytest.param("{}", "unknown", id="so would one that becomes empty"),
    ],
)
def test_a_label_is_told_in_characters_that_every_backend_takes(label: str, told: str) -> None:
    """Airflow drops a tag that holds others, and StatsD's whole line with it."""
    assert tags_of("name", {"endpoint": label}) == {"endpoint": told}


@pytest.mark.parametrize("length", [1, 100, 150, 151, 5_000])
def test_a_long_endpoint_is_cut_rather_than_dropped(statsd: StatsdServer, length: int) -> None:
    """Airflow drops a name that is longer than 250 characters with its tags."""
    metric = CONTRACT[7]
    labels = EXAMPLE_LABELS | {"endpoint": "/" + "x" * (length - 1)}
    sample = Sample(metric, tuple((name, labels[name]) for name in metric.labels), 1)
    tags = tags_of(metric.name, dict(sample.labels))
    name = ",".join([metric.name, *(f"{label}={value}" for label, value in tags.items())])
    before = statsd.counters().get((f"airflow.{metric.name}", tuple(sorted(tags.items()))), 0)

    emit([sample])

    assert len(name) <= LONGEST_NAME
    assert labels["endpoint"].startswith(tags["endpoint"])
    assert statsd.counters()[f"airflow.{metric.name}", tuple(sorted(tags.items()))] == before + 1
    assert tags.keys() == set(metric.labels)

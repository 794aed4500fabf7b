"""The collector of the tests takes what a real exporter sends, and refuses what a real one would."""

from __future__ import annotations

import gzip
from collections.abc import Iterator

import httpx
import pytest
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

from include.simulation.otlp_server import CONTENT_TYPE, PATH, OtlpServer


@pytest.fixture
def server() -> Iterator[OtlpServer]:
    """A listener."""
    with OtlpServer() as server:
        yield server


@pytest.mark.parametrize("compression", [Compression.NoCompression, Compression.Gzip])
def test_a_real_exporter_is_understood(server: OtlpServer, compression: Compression) -> None:
    """Counters add up, gauges keep the last value, histograms have sum and count."""
    exporter = OTLPMetricExporter(endpoint=f"{server.endpoint}{PATH}", compression=compression)
    provider = MeterProvider([PeriodicExportingMetricReader(exporter)], shutdown_on_exit=False)
    meter = provider.get_meter("test")
    counter, gauge = meter.create_counter("hits"), meter.create_gauge("left")
    counter.add(3, {"at": "home"})
    counter.add(4, {"at": "home"})
    counter.add(1, {"at": "sea"})
    gauge.set(9)
    gauge.set(-5)
    histogram = meter.create_histogram("took", unit="ms")
    histogram.record(1.5)
    histogram.record(2)
    provider.shutdown()

    points = server.points()
    assert points["hits", (("at", "home"),)].value == 7
    assert points["hits", (("at", "sea"),)].value == 1
    assert points["left", ()].value == -5
    took = points["took", ()]
    assert (took.kind, took.unit, took.value, took.count) == ("histogram", "ms", 3.5, 2)
    assert [point.kind for point in points.values()].count("counter") == 2
    assert server.points("hi").keys() == {("hits", (("at", "home"),)), ("hits", (("at", "sea"),))}
    assert server.refused() == []


@pytest.mark.parametrize(
    ("path", "headers", "body", "status"),
    [
        pytest.param("/v1/traces", {"Content-Type": CONTENT_TYPE}, b"", 404, id="another path"),
        pytest.param(PATH, {"Content-Type": "application/json"}, b"{}", 415, id="another format"),
        pytest.param(PATH, {"Content-Type": CONTENT_TYPE}, b"\xff\xff\xff", 400, id="no protobuf"),
        pytest.param(
            PATH, {"Content-Type": CONTENT_TYPE, "Content-Encoding": "gzip"}, b"plain", 400, id="gzip that is none"
        ),
        pytest.param(
            PATH,
            {"Content-Type": CONTENT_TYPE, "Content-Encoding": "gzip"},
            gzip.compress(b"\x0a" * 9)[:-9],
            400,
            id="gzip that is cut off",
        ),
    ],
)
def test_what_is_malformed_is_refused(
    server: OtlpServer, path: str, headers: dict[str, str], body: bytes, status: int
) -> None:
    """With the status of a collector."""
    answer = httpx.post(f"{server.endpoint}{path}", headers=headers, content=body)

    assert answer.status_code == status
    assert len(server.refused()) == 1
    assert server.points() == {}


def test_a_sum_that_may_fall_is_no_metric_of_ours(server: OtlpServer) -> None:
    """An up-down counter taken for a counter would be wrong."""
    exporter = OTLPMetricExporter(endpoint=f"{server.endpoint}{PATH}")
    provider = MeterProvider([PeriodicExportingMetricReader(exporter)], shutdown_on_exit=False)
    provider.get_meter("test").create_up_down_counter("open").add(-1)
    provider.shutdown()

    assert server.refused() == ["open: sum is none of counter, gauge and histogram"]

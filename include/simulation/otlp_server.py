"""
An OpenTelemetry collector that runs on this machine: metrics over HTTP, as protobuf, and nothing else.

It takes ``POST /v1/metrics`` (https://opentelemetry.io/docs/specs/otlp/#otlphttp), plain or gzip, answers as a collector
does, and keeps the last point of every series. It listens on 127.0.0.1 only.
"""

from __future__ import annotations

import gzip
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self, cast

from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # it comes without types
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)

HOST = "127.0.0.1"
PATH = "/v1/metrics"
CONTENT_TYPE = "application/x-protobuf"

Series = tuple[str, tuple[tuple[str, str], ...]]
"""A name, and its attributes by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """
    The newest point of a series.

    Args:
        kind: ``counter`` (a sum that only rises), ``gauge`` or ``histogram``.
        unit: as it was sent; empty without one.
        value: of a counter or gauge; of a histogram the sum of its observations.
        count: of a histogram's observations; 0 otherwise.
    """

    name: str
    attributes: Mapping[str, str]
    kind: str
    unit: str
    value: float
    count: int = 0

    @property
    def series(self) -> Series:
        """What it speaks of."""
        return self.name, tuple(sorted(self.attributes.items()))


def points_of(body: bytes) -> list[Point]:
    """
    Return the points of a request.

    Raises:
        ValueError: it is no such message, or holds a kind of data that no metric of ours is.
    """
    request = ExportMetricsServiceRequest()
    try:
        request.ParseFromString(body)
    except DecodeError as error:
        raise ValueError(f"no ExportMetricsServiceRequest: {error}") from error
    metrics = [
        metric for resource in request.resource_metrics for scope in resource.scope_metrics for metric in scope.metrics
    ]
    return [point for metric in metrics for point in _points(metric)]


def _points(metric: Any) -> list[Point]:
    data = metric.WhichOneof("data")
    if data == "sum" and metric.sum.is_monotonic:
        kind = "counter"
    elif data == "gauge":
        kind = "gauge"
    elif data in ("histogram", "exponential_histogram"):
        kind = "histogram"
    else:
        raise ValueError(f"{metric.name}: {data} is none of counter, gauge and histogram")
    found = []
    for point in getattr(metric, data).data_points:
        is_histogram = kind == "histogram"
        found.append(
            Point(
                name=metric.name,
                attributes={
                    each.key: str(getattr(each.value, each.value.WhichOneof("value"))) for each in point.attributes
                },
                kind=kind,
                unit=metric.unit,
                value=point.sum if is_histogram else float(getattr(point, point.WhichOneof("value"))),
                count=point.count if is_histogram else 0,
            )
        )
    return found


class OtlpServer:
    """
    A simulated collector; also a context manager.

    Args:
        port: 0 for a free one.
    """

    def __init__(self, port: int = 0) -> None:
        self._server = _HttpServer((HOST, port), _Handler, otlp=self)
        self.port: int = self._server.server_address[1]
        self.endpoint = f"http://{HOST}:{self.port}"
        self._lock = threading.Lock()
        self._points: dict[Series, Point] = {}
        self._refused: list[str] = []
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True, name="otlp")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Listen no more."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def points(self, prefix: str = "") -> dict[Series, Point]:
        """Return the last point of each series whose name has the prefix."""
        with self._lock:
            return {series: point for series, point in self._points.items() if point.name.startswith(prefix)}

    def refused(self) -> list[str]:
        """Return why requests were refused."""
        with self._lock:
            return list(self._refused)

    def take(self, path: str, headers: Message, body: bytes) -> tuple[int, bytes]:
        """Return status and body of the answer to one request."""
        try:
            if path != PATH:
                return self._refuse(404, f"{path} is not {PATH}")
            if headers.get("Content-Type") != CONTENT_TYPE:
                return self._refuse(415, f"{headers.get('Content-Type')} is not {CONTENT_TYPE}")
            if headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            points = points_of(body)
        except (ValueError, OSError, EOFError) as error:
            return self._refuse(400, str(error))
        with self._lock:
            self._points |= {point.series: point for point in points}
        return 200, ExportMetricsServiceResponse().SerializeToString()

    def _refuse(self, status: int, why: str) -> tuple[int, bytes]:
        with self._lock:
            self._refused.append(why)
        return status, b""


class _HttpServer(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler], *, otlp: OtlpServer) -> None:
        self.otlp = otlp
        super().__init__(address, handler)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 60

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the base class names it so
        """Stay silent."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        status, answer = cast(_HttpServer, self.server).otlp.take(self.path, self.headers, body)
        self.send_response(status)
        self.send_header("Content-Type", CONTENT_TYPE)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

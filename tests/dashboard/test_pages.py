"""The pages' answers, without a web server: what is told of health and figures, and what is not."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from starlette.requests import Request

from include.dashboard.cached_page import CachedPage
from include.dashboard.metrics_page import MetricsPage, MetricsSource
from include.dashboard.pages import accepts_gzip, health_page, metrics_route
from include.warehouse.monitoring_session import connect
from tests.dashboard.planted_metrics import HOUR, MINUTE, parsed, plant_health

PASSWORD = "pa55-of-nobody"


@pytest.fixture
def storage(dsn: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The monitoring database, as the connection that the pages find."""
    monkeypatch.setenv("AIRFLOW_CONN_MONITORING_DB", dsn)
    return dsn


@pytest.fixture
def gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection to a database where nothing listens."""
    monkeypatch.setenv("AIRFLOW_CONN_MONITORING_DB", f"postgresql://nobody:{PASSWORD}@127.0.0.1:1/none")


def request(*, accepts: str = "") -> Request:
    """Return a request."""
    return Request({"type": "http", "headers": [(b"accept-encoding", accepts.encode())]})


@pytest.mark.parametrize(
    ("status", "age", "code", "told"),
    [
        pytest.param("healthy", MINUTE, 200, "healthy", id="healthy"),
        pytest.param("warning", MINUTE, 200, "warning", id="a warning is no reason to stop"),
        pytest.param("degraded", MINUTE, 503, "degraded", id="degraded"),
        pytest.param("unhealthy", MINUTE, 503, "unhealthy", id="unhealthy"),
        pytest.param("unknown", MINUTE, 503, "unknown", id="unknown"),
        pytest.param("healthy", 29 * MINUTE, 200, "healthy", id="two intervals are not over yet"),
        pytest.param("healthy", HOUR, 503, "unknown", id="healthy an hour ago says nothing"),
    ],
)
def test_health_is_that_of_the_moment(storage: str, status: str, age: timedelta, code: int, told: str) -> None:
    """Its age is counted when it is asked for."""
    with connect(storage) as conn:
        plant_health(conn, as_of=datetime.now(UTC) - age, status=status)

    answer = health_page()

    body = json.loads(bytes(answer.body))
    assert (answer.status_code, body["status"]) == (code, told)
    assert body["age_seconds"] >= age.total_seconds() - 1
    assert body["name"] == "servicetitan_integration"


def test_no_health_check_yet_is_unknown(storage: str) -> None:
    """And says which DAG makes one."""
    answer = health_page()

    body = json.loads(bytes(answer.body))
    assert (answer.status_code, body["status"]) == (503, "unknown")
    assert "servicetitan_sync_failures" in body["reason"]


@pytest.mark.usefixtures("gone")
def test_storage_that_is_gone_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    """With the fix; neither the answer nor the log has the password."""
    health, metrics = health_page(), metrics_route()(request())

    assert (health.status_code, metrics.status_code) == (503, 503)
    body = json.loads(bytes(health.body))
    assert body["status"] == "unknown"
    assert body["reason"].startswith("the monitoring database cannot be reached")
    assert bytes(metrics.body).decode() == body["reason"] + "\n"
    for text in (str(health.body), str(metrics.body), caplog.text):
        assert PASSWORD not in text
        assert "Traceback" not in text


def test_a_missing_connection_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """By its name."""
    monkeypatch.delenv("AIRFLOW_CONN_MONITORING_DB", raising=False)

    answer = metrics_route()(request())

    assert answer.status_code == 503
    assert b"'monitoring_db' is not configured" in bytes(answer.body)


@pytest.mark.parametrize("page", ["health", "metrics"])
def test_a_missing_schema_is_told(storage: str, page: str) -> None:
    """With the command that makes it."""
    with psycopg.connect(storage) as conn:
        conn.execute("DROP SCHEMA monitoring CASCADE")

    answer = health_page() if page == "health" else metrics_route()(request())

    assert answer.status_code == 503
    assert b"run python -m include.cli migrate" in bytes(answer.body)


def test_a_wrong_policy_without_a_good_one_is_told(
    storage: str, monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    """Its line says what is wrong."""
    overlay = f"{tmp_path}/monitor.yaml"
    with open(overlay, "w") as file:  # noqa: PTH123 - a text is a path here
        file.write("monitoring_level: enormous\n")
    monkeypatch.setenv("SERVICETITAN_MONITOR_CONFIG", overlay)

    answer = metrics_route()(request())

    assert answer.status_code == 503
    assert b"monitoring_level" in bytes(answer.body)
    assert bytes(answer.body).count(b"\n") == 1


def test_figures_come_compressed_to_who_asks(storage: str) -> None:
    """The same text; whoever asks without gets it plain."""
    route = metrics_route(CachedPage(MetricsSource().page))

    plain, packed = route(request()), route(request(accepts="gzip"))

    assert "content-encoding" not in plain.headers
    assert packed.headers["content-encoding"] == "gzip"
    assert gzip.decompress(bytes(packed.body)) == bytes(plain.body)
    assert packed.headers["vary"] == plain.headers["vary"] == "Accept-Encoding"
    assert packed.headers["content-type"] == plain.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert ("servicetitan_monitor_series_dropped", frozenset()) in parsed(bytes(plain.body).decode())


def test_a_page_is_told_again_for_as_long_as_the_policy_says(
    storage: str, monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    """``metrics.cache`` counts from when the page began to be computed; here the clock stands still until told."""
    seconds = 0.0
    route = metrics_route(CachedPage(MetricsSource().page, clock=lambda: seconds))
    before = bytes(route(request()).body)
    with connect(storage) as conn:
        plant_health(conn, as_of=datetime.now(UTC))

    seconds = 14.9
    assert bytes(route(request()).body) == before
    seconds = 15.0
    fresh = parsed(bytes(route(request()).body).decode())

    assert fresh["servicetitan_monitor_health_ok", frozenset()] == 1
    assert parsed(before.decode())["servicetitan_monitor_health_ok", frozenset()] == 0


@pytest.mark.parametrize(
    ("header", "is_accepted"),
    [
        pytest.param("gzip", True, id="by its name"),
        pytest.param("deflate, GZIP;q=0.5", True, id="among others, in any case"),
        pytest.param("gzip; q=0", False, id="refused"),
        pytest.param("gzip;q=0.000", False, id="refused with all its digits"),
        pytest.param("br", False, id="another"),
        pytest.param("", False, id="none"),
        pytest.param("*", False, id="any is not asked for by name"),
    ],
)
def test_gzip_is_for_who_accepts_it(header: str, is_accepted: bool) -> None:
    """As RFC 9110 has it."""
    assert accepts_gzip(header) is is_accepted


def test_a_page_is_compressed_once() -> None:
    """However often it is told."""
    page = MetricsPage(b"text" * 100)

    assert page.compressed is page.compressed

"""Airflow's scheduler, as a real HTTP server in the place of its API server tells it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from include.orchestration.scheduler_state import ANSWER_BYTES, base_url, scheduler_state
from include.sync_health.health import Unseen
from include.sync_health.health_resources import NotAsked, SchedulerState

BEAT = "2026-03-10T12:00:57.123456+00:00"
SAID = {
    "metadatabase": {"status": "healthy"},
    "scheduler": {"status": "healthy", "latest_scheduler_heartbeat": BEAT},
    "triggerer": {"status": None, "latest_triggerer_heartbeat": None},
    "dag_processor": {"status": "healthy", "latest_dag_processor_heartbeat": BEAT},
}
"""What Airflow 3.3 answers."""

Serve = Callable[..., str]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Return a function ``(body, status=200) -> base URL`` that answers so at Airflow's path, and 404 elsewhere."""
    servers: list[ThreadingHTTPServer] = []

    def start(body: Any, *, status: int = 200, headers: tuple[tuple[str, str], ...] = ()) -> str:
        text = body if isinstance(body, bytes) else json.dumps(body).encode()

        class Answers(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                is_there = self.path == "/base/api/v2/monitor/health"
                self.send_response(status if is_there else 404)
                for name, value in headers:
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}/base"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("slash", ["", "/"])
def test_a_scheduler_that_lives(serve: Serve, slash: str) -> None:
    """With its heartbeat, and what is said of the others."""
    assert scheduler_state(serve(SAID) + slash) == SchedulerState(
        is_healthy=True,
        heartbeat_at=datetime(2026, 3, 10, 12, 0, 57, 123456, tzinfo=UTC),
        others={"metadatabase": "healthy", "dag_processor": "healthy", "triggerer": None},
    )


@pytest.mark.parametrize(
    ("changes", "is_healthy", "others"),
    [
        pytest.param({"scheduler": {"status": "unhealthy", "latest_scheduler_heartbeat": BEAT}}, False, {}, id="dead"),
        pytest.param({"scheduler": {"status": "unhealthy"}}, False, {}, id="never began"),
        pytest.param({"scheduler": {"status": None}}, False, {}, id="nothing is said of it"),
        pytest.param({"dag_processor": {"status": "odd"}}, True, {"dag_processor": "unhealthy"}, id="an odd word"),
        pytest.param({"dag_processor": None}, True, {"dag_processor": None}, id="no DAG processor"),
        pytest.param({"metadatabase": {"status": "unhealthy"}}, True, {"metadatabase": "unhealthy"}, id="no database"),
    ],
)
def test_what_is_said(serve: Serve, changes: dict[str, Any], is_healthy: bool, others: dict[str, str | None]) -> None:
    """Only the word healthy is healthy."""
    found = scheduler_state(serve(SAID | changes))

    assert isinstance(found, SchedulerState)
    assert found.is_healthy is is_healthy
    assert dict(found.others) == {"metadatabase": "healthy", "dag_processor": "healthy", "triggerer": None} | others


@pytest.mark.parametrize(
    ("answer", "status", "reason"),
    [
        pytest.param(SAID, 401, "the API server answered 401, not 200", id="a login is asked for"),
        pytest.param(SAID, 500, "the API server answered 500, not 200", id="it broke"),
        pytest.param(SAID, 302, "the API server answered 302, not 200", id="it sends us elsewhere: nobody follows"),
        pytest.param(b"<html>", 200, "is not Airflow's API server", id="a page"),
        pytest.param([], 200, "is not Airflow's API server", id="a list"),
        pytest.param({"status": "ok"}, 200, "is not Airflow's API server", id="another health check"),
        pytest.param({"scheduler": "fine"}, 200, "is not Airflow's API server", id="a text where an object belongs"),
        pytest.param(
            {"scheduler": {"status": "healthy", "latest_scheduler_heartbeat": "now"}},
            200,
            "is not Airflow's API server",
            id="a time that is none",
        ),
        pytest.param(b" " * (ANSWER_BYTES + 1) + b"{}", 200, "is not Airflow's API server", id="a flood"),
    ],
)
def test_an_answer_that_says_nothing(serve: Serve, answer: Any, status: int, reason: str) -> None:
    """It is not known, and never an error of the health check."""
    found = scheduler_state(serve(answer, status=status, headers=(("Location", "/elsewhere"),)))

    assert isinstance(found, Unseen)
    assert reason in found.reason


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        pytest.param("http://user:hunter2@127.0.0.1:9", "cannot be asked (ConnectError)", id="nobody listens"),
        pytest.param("http://[bad", "", id="an address that is none"),
        pytest.param("ftp://127.0.0.1", "no http or https address", id="another protocol"),
        pytest.param("airflow.example.com", "no http or https address", id="no protocol"),
    ],
)
def test_an_address_where_nobody_answers(url: str, reason: str) -> None:
    """Told without the address, which may hold a login."""
    found = scheduler_state(url, timeout=timedelta(seconds=5))

    assert isinstance(found, Unseen)
    assert reason in found.reason
    assert "hunter2" not in found.reason


def test_nobody_said_where_to_ask() -> None:
    """Then nobody is asked, and the fix is told."""
    found = scheduler_state(None)

    assert isinstance(found, NotAsked)
    assert "AIRFLOW__API__BASE_URL" in found.reason


@pytest.mark.parametrize(
    ("variable", "file", "found"),
    [
        pytest.param("http://a:1", "[api]\nbase_url = http://b:2\n", "http://a:1", id="the environment wins"),
        pytest.param(" ", "[api]\nbase_url = http://b:2\n", "http://b:2", id="else airflow.cfg"),
        pytest.param(None, "[api]\nbase_url =\n", None, id="an empty one is none"),
        pytest.param(None, "[api]\nport = 8080\n", None, id="none is named"),
        pytest.param(None, "odd\n", None, id="a file that cannot be read"),
        pytest.param(None, None, None, id="no file"),
        pytest.param(None, "[api]\nbase_url = http://b/%s\n", "http://b/%s", id="a percent sign is no reference"),
    ],
)
def test_where_the_api_server_is(tmp_path: Path, variable: str | None, file: str | None, found: str | None) -> None:
    """As Airflow reads it, without importing Airflow."""
    if file is not None:
        (tmp_path / "airflow.cfg").write_text(file)
    environ = {"AIRFLOW_HOME": str(tmp_path)} | ({} if variable is None else {"AIRFLOW__API__BASE_URL": variable})

    assert base_url(environ) == found

"""
Airflow's own API server with the plugin, in password mode: who may see which page, and what they see when storage is gone.

The connection ``monitoring_db`` is kept in Airflow's database, where people put it in Airflow's UI.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import httpx
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from include.dashboard.access import TOKEN_FILE_VARIABLE
from include.dashboard.app import PREFIX, create_app
from include.simulation.local_airflow import LocalAirflow
from include.simulation.ports import free_port
from include.simulation.postgres import EmbeddedPostgres
from include.warehouse.migration import upgrade
from tests.dashboard.planted_metrics import parsed, plant_health

SESAME = "sesame-open-now"
START_SECONDS = 200

ROUTES = ["/", "/health", "/metrics"]
TOKEN_ROUTES = ["/health", "/metrics"]


class Server:
    """Airflow's API server, and whoever asks it."""

    def __init__(self, airflow: LocalAirflow, *, monitoring: str, empty: str) -> None:
        self.airflow, self.monitoring, self.empty = airflow, monitoring, empty
        self.anonymous = httpx.Client(base_url=airflow.url, timeout=60.0, trust_env=False)

    def token_of(self, user: str) -> str:
        """Return a user's token of Airflow's."""
        passwords = json.loads((self.airflow.state_dir / "passwords.json").read_text())
        answer = self.anonymous.post("/auth/token", json={"username": user, "password": passwords[user]})
        return str(answer.raise_for_status().json()["access_token"])

    def get(self, path: str, *, bearer: str | None = None, cookie: str | None = None) -> httpx.Response:
        """Ask for one of our pages."""
        headers = {"Authorization": f"Bearer {bearer}"} if bearer else {}
        headers |= {"Cookie": f"_token={cookie}"} if cookie else {}
        return self.anonymous.get(PREFIX + path, headers=headers)

    def point_to(self, dsn: str, *, port: int | None = None) -> None:
        """Have the connection ``monitoring_db`` point to a database."""
        parts = conninfo_to_dict(dsn)
        body = {
            "connection_id": "monitoring_db",
            "conn_type": "postgres",
            "host": parts["host"],
            "port": port or int(str(parts["port"])),
            "login": parts["user"],
            "password": parts["password"],
            "schema": parts["dbname"],
        }
        answer = self.airflow.request("PATCH", "/api/v2/connections/monitoring_db", json=body)
        if answer.status_code == 404:
            answer = self.airflow.request("POST", "/api/v2/connections", json=body)
        assert answer.is_success, answer.text


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, postgres_server: EmbeddedPostgres) -> Iterator[Server]:
    """An API server over databases of its own; one health check is stored."""
    home = tmp_path_factory.mktemp("api-server")
    names = ("login_airflow", "login_monitoring", "login_empty")
    metadata, monitoring, empty = (postgres_server.create_database(name) for name in names)
    upgrade(monitoring)
    token_file = home / "token"
    token_file.write_text(SESAME + "\n")
    overlay = home / "monitor.yaml"
    overlay.write_text("metrics: {cache: 0s}\n")
    airflow = LocalAirflow(
        home / "airflow",
        metadata_dsn=metadata,
        environment={
            TOKEN_FILE_VARIABLE: str(token_file),
            "SERVICETITAN_MONITOR_CONFIG": str(overlay),
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "admin:admin,viewer:viewer,guest:",
        },
    )
    airflow._migrate()
    with (home / "api-server.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "airflow", "api-server"],
            env=airflow.environment(),
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        made = Server(airflow, monitoring=monitoring, empty=empty)
        deadline = time.monotonic() + START_SECONDS
        while not answers(made.anonymous):
            assert process.poll() is None, (home / "api-server.log").read_text()[-3000:]
            assert time.monotonic() < deadline
            time.sleep(0.2)
        made.point_to(monitoring)
        with psycopg.connect(monitoring) as conn:
            plant_health(conn, as_of=datetime.now(UTC))
        yield made
        made.anonymous.close()
    finally:
        airflow._http.close()
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=60)
    for name in names:
        postgres_server.drop_database(name)


def answers(client: httpx.Client) -> bool:
    """Return whether the server is there."""
    try:
        return client.get("/api/v2/monitor/health").is_success
    except httpx.TransportError:
        return False


@pytest.mark.filterwarnings("ignore")  # Airflow's own, of what it imports
def test_there_are_no_other_routes() -> None:
    """The tests below walk over all there are."""
    assert sorted(getattr(route, "path", "") for route in create_app().routes) == ROUTES


@pytest.mark.parametrize("route", ROUTES)
def test_no_page_is_for_everybody(server: Server, route: str) -> None:
    """Neither without a login, nor with one that Airflow did not give, nor for a user who may see nothing."""
    assert server.get(route).status_code == 401
    assert server.get(route, bearer="sesame-close").status_code == 403
    assert server.get(route, cookie="no-cookie-of-airflows").status_code == 403
    assert server.get(route, bearer=server.token_of("guest")).status_code == 403


@pytest.mark.parametrize("route", ROUTES)
def test_whoever_may_see_plugins_sees_the_pages(server: Server, route: str) -> None:
    """By Airflow's token, and by the cookie that the browser has."""
    viewer = server.token_of("viewer")

    assert server.get(route, bearer=viewer).status_code == 200
    assert server.get(route, cookie=viewer).status_code == 200


@pytest.mark.parametrize("route", ROUTES)
def test_the_token_opens_two_pages(server: Server, route: str) -> None:
    """Those that machines ask for, and no other."""
    assert server.get(route, bearer=SESAME).status_code == (200 if route in TOKEN_ROUTES else 403)


@pytest.mark.parametrize("route", ROUTES)
def test_the_token_is_no_cookie(server: Server, route: str) -> None:
    """Nor is it accepted in the address, which logs keep."""
    assert server.get(route, cookie=SESAME).status_code == 403
    assert server.get(f"{route}?token={SESAME}&access_token={SESAME}").status_code == 401


@pytest.mark.parametrize("path", ["/openapi.json", "/docs", "/redoc", "/docs/oauth2-redirect", "/no-such-page"])
def test_nothing_else_is_there(server: Server, path: str) -> None:
    """Airflow would show FastAPI's own pages to everybody."""
    for bearer in (None, SESAME, server.token_of("viewer")):
        assert server.get(path, bearer=bearer).status_code == 404


@pytest.mark.parametrize("route", ROUTES)
def test_the_status_alone_can_be_asked_for(server: Server, route: str) -> None:
    """As uptime monitors do: what a GET would answer, without its body, and nothing for those whom no GET lets in."""
    viewer = {"Authorization": f"Bearer {server.token_of('viewer')}"}

    asked, told = (server.anonymous.request(method, PREFIX + route, headers=viewer) for method in ("HEAD", "GET"))

    assert (asked.status_code, asked.headers["content-type"]) == (told.status_code, told.headers["content-type"])
    assert (asked.content, bool(told.content)) == (b"", True)
    assert server.anonymous.head(PREFIX + route).status_code == 401


@pytest.mark.parametrize("route", ROUTES)
def test_nothing_is_changed_by_asking(server: Server, route: str) -> None:
    """There is no other method than GET and HEAD."""
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        answer = server.anonymous.request(method, PREFIX + route, headers={"Authorization": f"Bearer {SESAME}"})
        assert answer.status_code == 405


def test_pages_are_what_they_say(server: Server) -> None:
    """HTML, JSON and Prometheus' text; nobody keeps a copy."""
    viewer = server.token_of("viewer")
    front, health, metrics = (server.get(path, bearer=viewer) for path in ROUTES)

    assert front.headers["content-type"].startswith("text/html")
    assert 'href="health"' in front.text
    assert health.json()["status"] == "healthy"
    assert metrics.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert ("servicetitan_monitor_health_ok", frozenset()) in parsed(metrics.text)
    for answer in (front, health, metrics):
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_the_plugin_is_listed_by_its_name(server: Server) -> None:
    """Airflow lists it without having built the app."""
    found: list[dict[str, Any]] = server.airflow.request("GET", "/api/v2/plugins").json()["plugins"]

    apps = [app for plugin in found if plugin["name"] == "servicetitan_monitor" for app in plugin["fastapi_apps"]]
    assert [(app["name"], app["url_prefix"]) for app in apps] == [("ServiceTitan Monitor", PREFIX)]


@pytest.mark.parametrize(
    ("database", "reason"),
    [
        pytest.param("unreachable", "the monitoring database cannot be reached", id="nothing listens there"),
        pytest.param("empty", "python -m include.cli migrate", id="it has no schema"),
    ],
)
def test_storage_that_is_gone_is_told_in_one_line(server: Server, database: str, reason: str) -> None:
    """503, without a traceback and without the password; and all is well again once it is there."""
    if database == "empty":
        server.point_to(server.empty)
    else:
        server.point_to(server.monitoring, port=free_port())
    password = str(conninfo_to_dict(server.monitoring)["password"])
    try:
        health, metrics = (server.get(path, bearer=SESAME) for path in TOKEN_ROUTES)
    finally:
        server.point_to(server.monitoring)

    assert (health.status_code, metrics.status_code) == (503, 503)
    assert health.json()["status"] == "unknown"
    assert reason in health.json()["reason"]
    assert reason in metrics.text
    assert metrics.text.count("\n") == 1
    for answer in (health, metrics):
        assert "Traceback" not in answer.text
        assert password not in answer.text
        assert SESAME not in answer.text
    assert [server.get(path, bearer=SESAME).status_code for path in TOKEN_ROUTES] == [200, 200]

"""The dead man's switch, against a real HTTP server."""

from __future__ import annotations

import json
import logging

import pytest
from pytest_httpserver import HTTPServer

from include.orchestration.connections import ConnectionValues
from include.orchestration.dead_man import address_of, ping_dead_man
from include.sync_health.errors import MonitorError

SECRET = "0f3a9c1e-secret-uuid"


@pytest.fixture
def switch(httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch) -> HTTPServer:
    """A server whose address the connection ``dead_man`` holds."""
    connection = {"conn_type": "http", "host": httpserver.url_for(f"/{SECRET}")}
    monkeypatch.setenv("AIRFLOW_CONN_DEAD_MAN", json.dumps(connection))
    return httpserver


def test_it_is_pinged_once(switch: HTTPServer) -> None:
    """With one GET, and nothing in it."""
    switch.expect_oneshot_request(f"/{SECRET}", method="GET").respond_with_data("OK")

    assert ping_dead_man("dead_man", check="sync_failures")
    assert len(switch.log) == 1


@pytest.mark.parametrize(("status", "location"), [(500, None), (404, None), (302, "/elsewhere")])
def test_an_answer_that_is_none_is_logged_without_the_address(
    switch: HTTPServer, caplog: pytest.LogCaptureFixture, status: int, location: str | None
) -> None:
    """A redirect is not followed: the secret would go with it."""
    headers = {"Location": location} if location else {}
    switch.expect_request(f"/{SECRET}").respond_with_data("", status=status, headers=headers)

    with caplog.at_level(logging.INFO):
        assert not ping_dead_man("dead_man", check="sync_failures")
    assert f"it answered {status}" in caplog.text
    ours = [record.getMessage() for record in caplog.records if not record.name.startswith("werkzeug")]
    assert not [line for line in ours if SECRET in line]
    assert len(switch.log) == 1


def test_nobody_there_is_logged_without_the_address(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """And nothing raises: a check is not made to fail by its alarm clock."""
    monkeypatch.setenv(
        "AIRFLOW_CONN_DEAD_MAN", json.dumps({"conn_type": "http", "host": f"http://127.0.0.1:1/{SECRET}"})
    )

    assert not ping_dead_man("dead_man", check="sync_failures")
    assert "ConnectError" in caplog.text
    assert SECRET not in caplog.text


def test_without_a_switch_nothing_happens() -> None:
    """The policy ships without one."""
    assert not ping_dead_man(None, check="sync_failures")


def test_a_connection_that_is_not_there_is_named(caplog: pytest.LogCaptureFixture) -> None:
    """By its id."""
    assert not ping_dead_man("no_such_switch", check="sync_failures")
    assert "no_such_switch" in caplog.text


@pytest.mark.parametrize(
    ("connection", "address"),
    [
        ({"host": "https://hc-ping.com/uuid"}, "https://hc-ping.com/uuid"),
        ({"host": "hc-ping.com/uuid"}, "https://hc-ping.com/uuid"),
        ({"host": "pings.example", "schema": "http", "port": 8080}, "http://pings.example:8080"),
        ({"host": "http://pings.example:81/a?b=c#d", "port": 8080}, "http://pings.example:81/a?b=c"),
    ],
)
def test_the_address_is_what_the_connection_says(connection: dict[str, object], address: str) -> None:
    """The host may be a whole address, as services print it."""
    assert address_of(ConnectionValues(conn_id="dead_man", conn_type="http", **connection)) == address  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("connection", "message"),
    [
        ({"conn_type": "slack", "host": "x"}, "'dead_man' is of type 'slack'; give it conn_type http"),
        ({"conn_type": "http"}, "names no address to ping"),
        ({"conn_type": "http", "host": "ftp://x"}, "names no address to ping"),
        ({"conn_type": "http", "host": "http://[broken"}, "names no address to ping"),
    ],
)
def test_a_connection_that_is_no_address_is_refused(connection: dict[str, str], message: str) -> None:
    """In one line."""
    with pytest.raises(MonitorError, match=message):
        address_of(ConnectionValues(conn_id="dead_man", **connection))  # type: ignore[arg-type]


@pytest.mark.parametrize("proxy", ["http://{}", "{}"], ids=["with its scheme", "without"])
def test_it_is_pinged_by_the_proxy_of_the_environment(
    httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    """Where nothing else leads out, the alarm would ring for ever."""
    monkeypatch.setenv("http_proxy", proxy.format(f"{httpserver.host}:{httpserver.port}"))
    monkeypatch.setenv(
        "AIRFLOW_CONN_DEAD_MAN", json.dumps({"conn_type": "http", "host": "http://outside.invalid/ping"})
    )
    httpserver.expect_oneshot_request("/ping", method="GET").respond_with_data("OK")

    assert ping_dead_man("dead_man", check="sync_failures")


def test_a_proxy_that_is_none_is_logged(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """And nothing raises."""
    monkeypatch.setenv("http_proxy", "gopher://somewhere")
    monkeypatch.setenv(
        "AIRFLOW_CONN_DEAD_MAN", json.dumps({"conn_type": "http", "host": "http://outside.invalid/ping"})
    )

    assert not ping_dead_man("dead_man", check="sync_failures")
    assert "ValueError" in caplog.text

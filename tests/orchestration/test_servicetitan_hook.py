"""The hook over a connection that Airflow keeps, against a real HTTP server."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from include.orchestration.servicetitan_hook import ServiceTitanHook
from include.simulation.servicetitan_server import ServiceTitanServer
from include.sync_health.api_problems import RateLimited
from include.sync_health.errors import ConnectionMissing, MonitorError
from include.sync_health.verdicts import ErrorClass

CONN_ID = "servicetitan_7"


@pytest.fixture
def server() -> Iterator[ServiceTitanServer]:
    with ServiceTitanServer() as server:
        yield server


@pytest.fixture
def configure(server: ServiceTitanServer, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that gives Airflow a connection to the server; named arguments change its fields."""

    def give(**changes: Any) -> None:
        values = {
            "conn_type": "servicetitan",
            "login": server.client.client_id,
            "password": server.client.client_secret,
            "extra": server.extra(),
        }
        monkeypatch.setenv(f"AIRFLOW_CONN_{CONN_ID.upper()}", json.dumps(values | changes))

    return give


def test_the_hook_probes_by_its_connection(configure: Callable[..., None]) -> None:
    configure()
    result = ServiceTitanHook(CONN_ID).probe()

    assert (result.status, result.status_code) == ("success", 200)


def test_the_hook_takes_the_connection_by_the_name_that_airflow_uses(configure: Callable[..., None]) -> None:
    configure()
    hook = ServiceTitanHook(**{ServiceTitanHook.conn_name_attr: CONN_ID})

    assert hook.get("settings", "business-units", params={"pageSize": 2})["pageSize"] == 2
    assert hook.get_conn() is hook.get_conn()


def test_a_failure_raises_its_own_class(configure: Callable[..., None], server: ServiceTitanServer) -> None:
    configure()
    server.fail_next(status=429, title="Rate limit is exceeded. Try again in 9 seconds.")

    with pytest.raises(RateLimited) as caught:
        ServiceTitanHook(CONN_ID).get("settings", "business-units")
    assert (caught.value.retry_after, caught.value.error_class) == (9.0, ErrorClass.RATE_LIMIT)


def test_the_test_button_says_that_it_works(configure: Callable[..., None], server: ServiceTitanServer) -> None:
    configure()
    is_well, message = ServiceTitanHook(CONN_ID).test_connection()

    assert is_well is True
    assert message.startswith("127.0.0.1 answered for tenant 1234567890 in ")
    assert server.called("api") == [200]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param(
            {"password": "cs1.wrong"}, "ServiceTitan's token server answered 400: invalid_client", id="secret"
        ),
        pytest.param({"extra": {"app_key": "x"}}, "needs the tenant's number as extra tenant_id", id="no tenant"),
        pytest.param({"conn_type": "http"}, "give it conn_type servicetitan", id="another type"),
    ],
)
def test_the_test_button_says_what_is_wrong(
    configure: Callable[..., None], changes: dict[str, Any], message: str
) -> None:
    configure(**changes)
    is_well, told = ServiceTitanHook(CONN_ID).test_connection()

    assert is_well is False
    assert message in told
    assert "cs1." not in told


def test_a_connection_that_is_not_there_is_told() -> None:
    with pytest.raises(ConnectionMissing, match="connection 'servicetitan_404' is not configured"):
        ServiceTitanHook("servicetitan_404").probe()
    is_well, message = ServiceTitanHook("servicetitan_404").test_connection()

    assert (is_well, "is not configured" in message) == (False, True)


def test_an_extra_that_is_no_json_is_told_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        f"AIRFLOW_CONN_{CONN_ID.upper()}", json.dumps({"conn_type": "servicetitan", "extra": "{'app_key': 'hush'}"})
    )

    with pytest.raises(MonitorError, match="extra is not valid JSON") as caught:
        ServiceTitanHook(CONN_ID).probe()
    assert "hush" not in str(caught.value)


def test_the_application_key_and_the_token_are_masked_in_airflows_logs(
    configure: Callable[..., None], server: ServiceTitanServer
) -> None:
    from airflow.sdk.log import redact

    configure()
    hook = ServiceTitanHook(CONN_ID)
    hook.probe()
    token = server.calls[-1].headers["authorization"].removeprefix("Bearer ")

    assert redact(f"key {server.client.app_key}, token {token}") == "key ***, token ***"


def test_the_hook_shows_no_secret(
    configure: Callable[..., None], server: ServiceTitanServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    configure()
    hook = ServiceTitanHook(CONN_ID)
    hook.test_connection()
    client = server.client

    shown = [repr(hook), str(hook), repr(hook.get_conn()), repr(hook.get_conn().connection), caplog.text]
    secrets = (client.client_id, client.client_secret, client.app_key)
    assert [secret for secret in secrets for text in shown if secret in text] == []

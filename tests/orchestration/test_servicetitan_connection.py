"""A connection of type servicetitan: what it must have, where it may lead, and that its mistakes show no value."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.orchestration.connections import ConnectionValues
from include.orchestration.servicetitan_connection import LONGEST_TIMEOUT_SECONDS, ServiceTitanConnection
from include.sync_health.errors import MonitorError

EXTRA: dict[str, Any] = {"app_key": "ak1.thekey", "tenant_id": "1234567890"}


def values(*, conn_type: str = "servicetitan", extra: dict[str, Any] | None = None, **fields: Any) -> ConnectionValues:
    given = {"login": "cid.client", "password": "cs1.secret"} | fields
    return ConnectionValues(
        conn_id="servicetitan_7", conn_type=conn_type, extra=EXTRA if extra is None else extra, **given
    )


def test_the_least_that_a_connection_needs_leads_to_production() -> None:
    connection = ServiceTitanConnection.of(values())

    assert connection == ServiceTitanConnection(
        conn_id="servicetitan_7",
        client_id="cid.client",
        client_secret="cs1.secret",
        app_key="ak1.thekey",
        tenant_id="1234567890",
        environment="production",
        auth_url="https://auth.servicetitan.io",
        api_url="https://api.servicetitan.io",
        timeout=10.0,
    )


def test_the_integration_environment_has_hosts_of_its_own() -> None:
    connection = ServiceTitanConnection.of(values(extra=EXTRA | {"environment": "Integration"}))

    assert connection.environment == "integration"
    assert connection.auth_url == "https://auth-integration.servicetitan.io"
    assert connection.api_url == "https://api-integration.servicetitan.io"


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        pytest.param({"tenant_id": 42}, {"tenant_id": "42"}, id="a tenant id as a number"),
        pytest.param({"tenant_id": " 42 "}, {"tenant_id": "42"}, id="a tenant id with spaces around it"),
        pytest.param({"app_key": " ak1.x\n"}, {"app_key": "ak1.x"}, id="a key that was copied with its line end"),
        pytest.param({"timeout": "2.5"}, {"timeout": 2.5}, id="a time-out as a text, as a URI has it"),
        pytest.param({"timeout": ""}, {"timeout": 10.0}, id="an empty time-out is none"),
        pytest.param({"environment": None}, {"environment": "production"}, id="an empty environment is production"),
        pytest.param(
            {"api_url": "http://127.0.0.1:8080/"}, {"api_url": "http://127.0.0.1:8080"}, id="a host of this machine"
        ),
        pytest.param({"api_url": "http://[::1]:8080"}, {"api_url": "http://[::1]:8080"}, id="the same by IPv6"),
        pytest.param({"auth_url": "https://LOCALHOST"}, {"auth_url": "https://localhost"}, id="TLS on this machine"),
        pytest.param(
            {"auth_url": "https://auth.next.servicetitan.io"},
            {"auth_url": "https://auth.next.servicetitan.io"},
            id="another host of ServiceTitan's",
        ),
    ],
)
def test_what_else_a_connection_may_say(extra: dict[str, Any], expected: dict[str, Any]) -> None:
    connection = ServiceTitanConnection.of(values(extra=EXTRA | extra))

    assert {name: getattr(connection, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        pytest.param({"conn_type": "http"}, "is of type 'http'; give it conn_type servicetitan", id="another type"),
        pytest.param({"login": None}, "has no client id (login)", id="no client id"),
        pytest.param({"login": " "}, "has no client id (login)", id="a blank client id"),
        pytest.param({"password": ""}, "has no client secret (password)", id="no client secret"),
        pytest.param({"extra": {"tenant_id": "1"}}, "needs the application key as extra app_key", id="no key"),
        pytest.param({"extra": EXTRA | {"app_key": "two words"}}, "extra app_key", id="a key with a space in it"),
        pytest.param({"extra": EXTRA | {"app_key": "a\r\nEvil: b"}}, "extra app_key", id="a key that adds a header"),
        pytest.param({"extra": EXTRA | {"app_key": "clé"}}, "extra app_key", id="a key that no header can carry"),
        pytest.param({"extra": EXTRA | {"app_key": 7}}, "extra app_key", id="a key that is a number"),
        pytest.param({"extra": {"app_key": "x"}}, "needs the tenant's number as extra tenant_id", id="no tenant"),
        pytest.param({"extra": EXTRA | {"tenant_id": "1/../2"}}, "extra tenant_id", id="a tenant that is a path"),
        pytest.param({"extra": EXTRA | {"tenant_id": "１２"}}, "extra tenant_id", id="digits of another script"),
        pytest.param({"extra": EXTRA | {"tenant_id": True}}, "extra tenant_id", id="a tenant that is true"),
        pytest.param(
            {"extra": EXTRA | {"environment": "sandbox"}}, "use production or integration", id="another environment"
        ),
        pytest.param({"extra": EXTRA | {"timeout": 0}}, "its extra timeout in seconds", id="no time at all"),
        pytest.param({"extra": EXTRA | {"timeout": 101}}, "at most 100", id="longer than ServiceTitan itself waits"),
        pytest.param({"extra": EXTRA | {"timeout": "soon"}}, "its extra timeout in seconds", id="a time in words"),
        pytest.param({"extra": EXTRA | {"timeout": "nan"}}, "its extra timeout in seconds", id="a time that is none"),
        pytest.param(
            {"extra": EXTRA | {"appkey": "x"}},
            "has the unknown extra 'appkey'; use app_key, tenant_id, environment, timeout, auth_url, api_url",
            id="a misspelt key",
        ),
    ],
)
def test_a_mistake_is_told_in_one_line(fields: dict[str, Any], complaint: str) -> None:
    with pytest.raises(MonitorError) as caught:
        ServiceTitanConnection.of(values(**fields))

    assert str(caught.value).startswith("connection 'servicetitan_7' ")
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("https://example.com", id="a host of somebody else's"),
        pytest.param("https://evilservicetitan.io", id="a name that only ends alike"),
        pytest.param("https://servicetitan.io.example.com", id="a name that only begins alike"),
        pytest.param("http://api.servicetitan.io", id="without TLS"),
        pytest.param("https://api.servicetitan.io@example.com", id="a login that looks like the host"),
        pytest.param("https://example.com#.servicetitan.io", id="the domain as a fragment"),
        pytest.param("https://example.com\\.servicetitan.io", id="a backslash, which some read as a slash"),
        pytest.param("http://127.0.0.1.example.com", id="a name that begins like this machine"),
        pytest.param("http://127.0.0.1:8080/path", id="a path"),
        pytest.param("http://127.0.0.1:99999", id="a port that is none"),
        pytest.param("ftp://localhost", id="another protocol"),
        pytest.param("localhost:8080", id="no protocol"),
        pytest.param("http://[::1", id="no URL"),
        pytest.param(7, id="a number"),
    ],
)
@pytest.mark.parametrize("name", ["auth_url", "api_url"])
def test_secrets_are_sent_nowhere_else(name: str, url: object) -> None:
    with pytest.raises(MonitorError, match=f"needs its extra {name} as https"):
        ServiceTitanConnection.of(values(extra=EXTRA | {name: url}))


def test_no_secret_is_shown() -> None:
    connection = ServiceTitanConnection.of(values())

    for shown in (repr(connection), str(connection)):
        assert not [secret for secret in connection.secrets if secret in shown]
    assert set(connection.secrets) == {"cid.client", "cs1.secret", "ak1.thekey"}


anything = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.just(["x"])
extras = st.fixed_dictionaries(
    {"app_key": st.just("ak1.x") | anything, "tenant_id": st.just("7") | st.integers(0, 10**25) | anything},
    optional={
        "environment": st.sampled_from(["production", "integration"]) | anything,
        "timeout": st.floats(-1, 200) | anything,
        "api_url": st.just("http://localhost:8080") | anything,
        "more": anything,
    },
)


@given(extra=extras)
def test_whatever_stands_there_is_taken_or_refused_in_one_line(extra: dict[str, Any]) -> None:
    secret, complaint, connection = "Q7-the-secret", "", None
    try:
        connection = ServiceTitanConnection.of(values(extra=extra, password=secret))
    except MonitorError as error:
        complaint = str(error)

    assert (connection is None) == bool(complaint)
    assert secret not in complaint
    assert "\n" not in complaint
    if connection is not None:
        assert 0 < connection.timeout <= LONGEST_TIMEOUT_SECONDS
        assert connection.tenant_id.isdecimal()
        assert connection.app_key.isascii()

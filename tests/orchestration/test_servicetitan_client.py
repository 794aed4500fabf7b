"""The client against a real HTTP server: what works, and every failure with its class."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from include.orchestration.servicetitan_client import MAX_BODY_BYTES, ServiceTitanClient
from include.orchestration.servicetitan_tokens import TokenCache
from include.simulation.servicetitan_api import Client, rate_limit_title
from include.simulation.servicetitan_server import ServiceTitanServer
from include.sync_health.api_problems import NoAnswer, RateLimited
from include.sync_health.verdicts import ErrorClass
from tests.orchestration.servicetitan_clients import LATE, Clock, MakeClient, clients_of, connection_to

UNITS = "/settings/v2/tenant/{id}/business-units"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def server(clock: Clock) -> Iterator[ServiceTitanServer]:
    with ServiceTitanServer(clock=clock.wall) as server:
        yield server


@pytest.fixture
def tokens(clock: Clock) -> TokenCache:
    return TokenCache(clock)


@pytest.fixture
def make_client(server: ServiceTitanServer, tokens: TokenCache) -> Iterator[MakeClient]:
    with clients_of(server, tokens) as make:
        yield make


def test_a_probe_signs_in_and_asks_for_one_business_unit(server: ServiceTitanServer, make_client: MakeClient) -> None:
    result = make_client().probe()

    assert (result.status, result.status_code, result.error, result.error_class) == ("success", 200, None, None)
    assert result.endpoint == UNITS
    assert result.response_ms is not None
    assert result.response_ms > 0
    assert [(call.method, call.target) for call in server.calls] == [
        ("POST", "/connect/token"),
        ("GET", "/settings/v2/tenant/1234567890/business-units?pageSize=1"),
    ]


def test_get_returns_what_the_api_answers(make_client: MakeClient) -> None:
    page = make_client().get("settings", "business-units", params={"page": 2, "pageSize": 1})

    assert page["data"] == [{"id": 1002, "active": True, "name": "Business unit 2"}]


@pytest.mark.parametrize(
    ("module", "resource"),
    [
        pytest.param("settings/../crm", "customers", id="a module that is a path"),
        pytest.param("settings", "../../1/customers", id="a resource that leaves the tenant"),
        pytest.param("settings", "business-units?page=1", id="a query in the resource"),
        pytest.param("settings", "", id="nothing"),
    ],
)
def test_a_path_that_is_none_is_not_asked_for(
    server: ServiceTitanServer, make_client: MakeClient, module: str, resource: str
) -> None:
    with pytest.raises(ValueError, match="must be words"):
        make_client().get(module, resource)
    assert server.calls == []


@pytest.mark.parametrize(
    ("fault", "error_class", "status_code", "words"),
    [
        pytest.param({"status": 401, "title": "Unauthorized"}, "auth", 401, "Unauthorized", id="a refused token"),
        pytest.param({"status": 403, "title": "No"}, "permission", 403, "tn.stt.businessunits:r", id="a missing scope"),
        pytest.param({"status": 404, "title": "No"}, "validation", 404, "check tenant_id", id="an unknown tenant"),
        pytest.param({"status": 429, "title": "Slow"}, "rate_limit", 429, "answered 429: Slow", id="too many calls"),
        pytest.param({"status": 500, "title": "Oops"}, "server", 500, "answered 500: Oops", id="a server's failure"),
        pytest.param({"status": 503, "body": b"<html>"}, "server", 503, "answered 503", id="a failure as a page"),
        pytest.param(
            {"status": 302, "headers": {"Location": "https://example.com/"}},
            "unknown",
            302,
            "answered 302",
            id="a redirect, which is not followed",
        ),
        pytest.param({"status": 200, "body": b"<html>"}, "decode", 200, "not with a JSON object", id="a page"),
        pytest.param({"status": 200, "body": b'{"a": 1}'}, "decode", 200, "not with a list", id="another document"),
        pytest.param({"status": 200, "body": b"[]"}, "decode", 200, "not with a JSON object", id="a bare list"),
        pytest.param({"mode": "close"}, "timeout", None, "the connection failed", id="a connection that is closed"),
        pytest.param({"mode": "reset"}, "timeout", None, "reset the connection", id="a connection that is reset"),
        pytest.param({"mode": "cut"}, "timeout", None, "the connection failed", id="half an answer"),
    ],
)
def test_a_failure_of_the_api_has_its_class(
    server: ServiceTitanServer,
    make_client: MakeClient,
    fault: dict[str, Any],
    error_class: str,
    status_code: int | None,
    words: str,
) -> None:
    server.fail_next("api", **fault)
    result = make_client().probe()

    assert (result.status, result.error_class, result.status_code) == ("error", error_class, status_code)
    assert result.endpoint == UNITS
    assert (result.response_ms is None) == (status_code is None)
    assert words in (result.error or "")
    assert len(server.called("api")) == 1


@pytest.mark.parametrize(
    ("fault", "error_class", "status_code"),
    [
        pytest.param({"status": 400, "title": "invalid_client"}, "auth", 400, id="a refused client"),
        pytest.param({"status": 400, "title": "invalid_scope"}, "permission", 400, id="a refused scope"),
        pytest.param({"status": 429, "title": "slow_down"}, "rate_limit", 429, id="too many calls"),
        pytest.param({"status": 502, "body": b""}, "server", 502, id="a server's failure"),
        pytest.param({"status": 200, "body": b"{}"}, "decode", 200, id="no token in it"),
        pytest.param({"mode": "reset"}, "timeout", None, id="a connection that is reset"),
    ],
)
def test_a_failure_of_signing_in_has_its_class_and_nothing_is_asked(
    server: ServiceTitanServer,
    make_client: MakeClient,
    fault: dict[str, Any],
    error_class: str,
    status_code: int | None,
) -> None:
    server.fail_next("token", **fault)
    result = make_client().probe()

    assert (result.status, result.error_class, result.status_code) == ("error", error_class, status_code)
    assert result.endpoint == "/connect/token"
    assert server.called("api") == []


@pytest.mark.parametrize(
    ("changes", "error_class", "words"),
    [
        pytest.param({"app_key": "ak1.another"}, "auth", "check app_key of the connection", id="a wrong key"),
        pytest.param({"client_id": "cid.unknown"}, "auth", "invalid_client", id="an unknown client"),
        pytest.param({"client_secret": "cs1.wrong"}, "auth", "invalid_client", id="a wrong secret"),
        pytest.param({"tenant_id": "7"}, "validation", "check tenant_id", id="a wrong tenant"),
    ],
)
def test_a_wrong_connection_is_told(
    make_client: MakeClient, changes: dict[str, Any], error_class: str, words: str
) -> None:
    result = make_client(**changes).probe()

    assert result.error_class == error_class
    assert words in (result.error or "")


def test_a_client_without_the_scope_is_told_which() -> None:
    with ServiceTitanServer(Client(scopes=frozenset())) as server:
        client = ServiceTitanClient(connection_to(server), tokens=TokenCache())
        result = client.probe()
        client.close()

    assert (result.error_class, result.status_code) == (ErrorClass.PERMISSION, 403)
    assert "tn.stt.businessunits:r" in (result.error or "")


def test_the_rate_limit_of_the_real_one_is_understood(clock: Clock, tokens: TokenCache) -> None:
    with (
        ServiceTitanServer(clock=clock.wall, calls_per_second=2) as server,
        ServiceTitanClient(connection_to(server), tokens=tokens) as client,
    ):
        assert [client.probe().status_code for _ in range(3)] == [200, 200, 429]


@pytest.mark.parametrize(
    ("headers", "title", "seconds"),
    [
        pytest.param({"Retry-After": "12"}, "Rate limit is exceeded.", 12.0, id="by the header"),
        pytest.param({}, rate_limit_title(17), 17.0, id="by the title"),
        pytest.param({}, "Rate limit is exceeded.", None, id="without a time"),
    ],
)
def test_how_long_to_wait_is_told(
    server: ServiceTitanServer, make_client: MakeClient, headers: dict[str, str], title: str, seconds: float | None
) -> None:
    server.fail_next(status=429, title=title, headers=headers)

    with pytest.raises(RateLimited) as caught:
        make_client().get("settings", "business-units")
    assert caught.value.retry_after == seconds


@pytest.mark.parametrize("kind", ["token", "api"])
@pytest.mark.parametrize(
    "mode",
    [
        pytest.param("hang", id="no answer"),
        pytest.param("drip", id="a body that drips without end"),
        pytest.param("drip_head", id="a head that drips without end"),
    ],
)
def test_a_call_ends_when_its_time_is_over(
    server: ServiceTitanServer, make_client: MakeClient, kind: Any, mode: Any
) -> None:
    server.fail_next(kind, mode=mode)
    result = make_client(timeout=LATE).probe()

    assert result.error_class is ErrorClass.TIMEOUT
    assert result.error == f"127.0.0.1: no answer within {LATE:g} s"
    assert result.response_ms is None


def test_signing_in_takes_from_the_time_of_the_call(server: ServiceTitanServer, make_client: MakeClient) -> None:
    client = make_client(timeout=0)

    assert client.probe().error == "no time was left to ask 127.0.0.1: 0 s for the whole call"
    assert server.calls == []


def test_an_answer_that_is_too_large_is_not_read_to_its_end(
    server: ServiceTitanServer, make_client: MakeClient
) -> None:
    server.fail_next(status=200, body=b'{"data": "' + b"x" * (8 * MAX_BODY_BYTES) + b'"}')
    result = make_client().probe()

    assert (result.error_class, result.status_code) == (ErrorClass.DECODE, 200)
    assert result.error == "127.0.0.1 answered 200 with more than 1024 KB"


def test_an_answer_of_the_largest_size_is_read(server: ServiceTitanServer, make_client: MakeClient) -> None:
    frame = len(b'{"data": [""]}')
    server.fail_next(status=200, body=b'{"data": ["' + b"x" * (MAX_BODY_BYTES - frame) + b'"]}')

    assert make_client().probe().status == "success"


def test_a_host_that_does_not_listen_is_a_failure_of_transport(server: ServiceTitanServer) -> None:
    connection = connection_to(server)
    server.stop()
    with ServiceTitanClient(connection, tokens=TokenCache()) as client, pytest.raises(NoAnswer) as caught:
        client.get("settings", "business-units")

    assert str(caught.value) == "127.0.0.1: it refuses the connection"


def test_a_host_without_an_address_is_a_failure_of_transport(make_client: MakeClient) -> None:
    client = make_client(auth_url="https://no-such-host.invalid")

    # A resolver that never answers ends it all the same.
    assert client.probe().error_class is ErrorClass.TIMEOUT

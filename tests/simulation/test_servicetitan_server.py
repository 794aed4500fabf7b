"""The simulated ServiceTitan refuses what the real one refuses, and fails as it is told to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from include.simulation.servicetitan_api import Client
from include.simulation.servicetitan_server import ServiceTitanServer

UNITS = "/settings/v2/tenant/1234567890/business-units"
NO_SCOPE = Client(client_id="cid.withoutscope", scopes=frozenset())


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = datetime(2026, 7, 1, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def server(clock: Clock) -> Iterator[ServiceTitanServer]:
    with ServiceTitanServer(Client(), NO_SCOPE, clock=clock) as server:
        yield server


@pytest.fixture
def http(server: ServiceTitanServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, trust_env=False, timeout=10) as http:
        yield http


def form(client: Client, **changes: str) -> dict[str, str]:
    values = {"client_id": client.client_id, "client_secret": client.client_secret}
    return {"grant_type": "client_credentials"} | values | changes


def token_of(http: httpx.Client, client: Client) -> str:
    answer = http.post("/connect/token", data=form(client))
    assert answer.status_code == 200
    return str(answer.json()["access_token"])


def headers(token: str, **changes: str | None) -> dict[str, str]:
    values: dict[str, str | None] = {"Authorization": f"Bearer {token}", "ST-App-Key": Client().app_key}
    return {name: value for name, value in (values | changes).items() if value is not None}


def test_a_client_that_signs_in_gets_a_token_for_fifteen_minutes(
    http: httpx.Client, server: ServiceTitanServer
) -> None:
    answer = http.post("/connect/token", data=form(server.client)).json()

    assert answer["token_type"] == "Bearer"
    assert answer["expires_in"] == 900
    assert server.tenancy.client_of(answer["access_token"]) == server.client


@pytest.mark.parametrize(
    ("sent", "error"),
    [
        pytest.param({"data": form(Client(), client_secret="wrong")}, "invalid_client", id="a wrong secret"),
        pytest.param({"data": form(Client(), client_id="cid.unknown")}, "invalid_client", id="an unknown client"),
        pytest.param(
            {"data": form(Client(), grant_type="refresh_token")},
            "unsupported_grant_type",
            id="a refresh, which ServiceTitan does not have",
        ),
        pytest.param({"json": form(Client())}, "invalid_request", id="JSON instead of a form"),
        pytest.param(
            {"content": b"client_id=a&client_id=b", "headers": {"Content-Type": "application/x-www-form-urlencoded"}},
            "invalid_request",
            id="a field given twice",
        ),
    ],
)
def test_the_token_server_refuses_in_oauths_words(http: httpx.Client, sent: dict[str, Any], error: str) -> None:
    answer = http.post("/connect/token", **sent)

    assert (answer.status_code, answer.json()) == (400, {"error": error})


def test_the_token_server_takes_only_posts(http: httpx.Client) -> None:
    assert http.get("/connect/token").status_code == 405


def test_a_page_of_business_units_is_shaped_like_every_list(http: httpx.Client, server: ServiceTitanServer) -> None:
    answer = http.get(UNITS, params={"pageSize": 1}, headers=headers(token_of(http, server.client)))

    assert answer.status_code == 200
    assert answer.json() == {
        "page": 1,
        "pageSize": 1,
        "hasMore": True,
        "totalCount": None,
        "data": [{"id": 1001, "active": True, "name": "Business unit 1"}],
    }


def test_the_last_page_says_that_it_is_the_last(http: httpx.Client, server: ServiceTitanServer) -> None:
    arguments = {"page": 2, "pageSize": 2, "includeTotal": "true"}
    answer = http.get(UNITS, params=arguments, headers=headers(token_of(http, server.client))).json()

    assert (answer["hasMore"], answer["totalCount"], len(answer["data"])) == (False, 3, 1)


@pytest.mark.parametrize(
    ("changes", "path", "status", "title"),
    [
        pytest.param(
            {"ST-App-Key": None},
            UNITS,
            401,
            "Application key not present, check ST-App-Key header value.",
            id="without the application key",
        ),
        pytest.param(
            {"ST-App-Key": "ak1.another"},
            UNITS,
            401,
            "Application key is not valid, check ST-App-Key header value.",
            id="with another application's key",
        ),
        pytest.param({"Authorization": None}, UNITS, 401, "Unauthorized", id="without a token"),
        pytest.param({"Authorization": "Bearer eyJunknown"}, UNITS, 401, "Unauthorized", id="with an unknown token"),
        pytest.param({}, "/settings/v2/tenant/7/business-units", 404, "Tenant 7 is not found", id="another tenant"),
        pytest.param({}, "/settings/v2/business-units", 404, "Not Found", id="a path without the tenant"),
        pytest.param({}, "/crm/v2/tenant/1234567890/nothing", 404, "Not Found", id="an unknown resource"),
        pytest.param({}, f"{UNITS}?pageSize=5001", 400, "One or more validation errors occurred.", id="a page too big"),
    ],
)
def test_the_api_refuses_with_a_problem_document(
    http: httpx.Client,
    server: ServiceTitanServer,
    changes: Mapping[str, str | None],
    path: str,
    status: int,
    title: str,
) -> None:
    answer = http.get(path, headers=headers(token_of(http, server.client), **changes))

    assert answer.headers["content-type"].startswith("application/problem+json")
    assert (answer.status_code, answer.json()["status"], answer.json()["title"]) == (status, status, title)
    assert answer.json()["traceId"]


def test_a_client_without_the_scope_gets_403(http: httpx.Client) -> None:
    assert http.get(UNITS, headers=headers(token_of(http, NO_SCOPE))).status_code == 403


def test_a_token_lapses(http: httpx.Client, server: ServiceTitanServer, clock: Clock) -> None:
    token = token_of(http, server.client)
    clock.now += timedelta(seconds=899)
    assert http.get(UNITS, headers=headers(token)).status_code == 200
    clock.now += timedelta(seconds=1)
    assert http.get(UNITS, headers=headers(token)).status_code == 401


def test_the_sixty_first_call_within_a_second_is_refused(
    http: httpx.Client, server: ServiceTitanServer, clock: Clock
) -> None:
    token = token_of(http, server.client)
    statuses = [http.get(UNITS, headers=headers(token)).status_code for _ in range(61)]
    clock.now += timedelta(seconds=1)

    assert statuses == [200] * 60 + [429]
    assert http.get(UNITS, headers=headers(token)).status_code == 200


def test_faults_are_used_up_in_order_and_calls_are_remembered(http: httpx.Client, server: ServiceTitanServer) -> None:
    server.fail_next(status=503, title="Service Unavailable", times=2)
    server.fail_next(status=429, title="Rate limit", headers={"Retry-After": "7"}, body=b"not json")
    token = token_of(http, server.client)
    answers = [http.get(UNITS, headers=headers(token)) for _ in range(4)]

    assert [answer.status_code for answer in answers] == [503, 503, 429, 200]
    assert (answers[2].headers["retry-after"], answers[2].content) == ("7", b"not json")
    assert server.called("token") == [200]
    assert server.called("api") == [503, 503, 429, 200]
    assert server.calls[1].target == UNITS
    assert server.calls[1].headers["st-app-key"] == Client().app_key
    assert Client().client_secret not in repr(server.calls)


@pytest.mark.parametrize(
    ("mode", "error"),
    [
        pytest.param("close", httpx.RemoteProtocolError, id="closed before any answer"),
        pytest.param("reset", httpx.ReadError, id="reset"),
        pytest.param("cut", httpx.RemoteProtocolError, id="cut in the middle"),
        pytest.param("hang", httpx.ReadTimeout, id="never answered"),
    ],
)
def test_connections_can_fail(
    http: httpx.Client, server: ServiceTitanServer, mode: Any, error: type[Exception]
) -> None:
    token = token_of(http, server.client)
    server.fail_next(mode=mode)

    with pytest.raises(error):
        http.get(UNITS, headers=headers(token), timeout=0.5 if mode == "hang" else 10)
    assert server.called("api") == [0]

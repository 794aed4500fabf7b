"""Access tokens: kept while they are good, shared, and minted again when they are refused."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from include.orchestration.servicetitan_client import ServiceTitanClient
from include.orchestration.servicetitan_tokens import TOKEN_MARGIN_SECONDS, TokenCache
from include.simulation.servicetitan_server import ServiceTitanServer
from include.sync_health.verdicts import ErrorClass
from tests.orchestration.servicetitan_clients import Clock, MakeClient, clients_of, connection_to


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


def test_a_token_serves_until_shortly_before_it_lapses(
    server: ServiceTitanServer, make_client: MakeClient, clock: Clock
) -> None:
    client = make_client()
    client.probe()
    clock.seconds += 900 - TOKEN_MARGIN_SECONDS - 1
    client.probe()
    assert server.called("token") == [200]

    clock.seconds += 1
    assert client.probe().status == "success"
    assert server.called("token") == [200, 200]


def test_a_short_token_keeps_nine_tenths_of_its_life(
    server: ServiceTitanServer, make_client: MakeClient, clock: Clock
) -> None:
    server.tenancy.token_lifetime = timedelta(seconds=100)
    client = make_client()
    client.probe()
    clock.seconds += 89
    client.probe()
    assert server.called("token") == [200]

    clock.seconds += 1
    client.probe()
    assert server.called("token") == [200, 200]


def test_clients_of_one_process_share_a_token(server: ServiceTitanServer, make_client: MakeClient) -> None:
    make_client().probe()
    make_client().probe()

    assert server.called("token") == [200]


def test_another_secret_does_not_get_the_token_of_the_old_one(
    server: ServiceTitanServer, make_client: MakeClient
) -> None:
    make_client().probe()

    assert make_client(client_secret="cs1.changed").probe().error_class is ErrorClass.AUTH
    assert server.called("token") == [200, 400]


def test_threads_that_need_a_token_at_once_mint_one(server: ServiceTitanServer, make_client: MakeClient) -> None:
    clients = [make_client() for _ in range(8)]
    barrier = threading.Barrier(len(clients), timeout=30)

    def probe(client: ServiceTitanClient) -> str:
        barrier.wait()
        return client.probe().status

    with ThreadPoolExecutor(len(clients)) as pool:
        assert list(pool.map(probe, clients)) == ["success"] * len(clients)
    assert server.called("token") == [200]


def test_a_kept_token_that_is_refused_is_minted_again_once(server: ServiceTitanServer, make_client: MakeClient) -> None:
    client = make_client()
    client.probe()
    server.tenancy.revoke_tokens()

    assert client.probe().status == "success"
    assert server.called("token") == [200, 200]
    assert server.called("api") == [200, 401, 200]


def test_a_token_that_was_just_minted_is_not_minted_again(server: ServiceTitanServer, make_client: MakeClient) -> None:
    server.fail_next(status=401, title="Unauthorized", times=5)
    client = make_client()

    assert client.probe().error_class is ErrorClass.AUTH
    assert (server.called("token"), server.called("api")) == ([200], [401])
    # And it is not kept either.
    assert client.probe().error_class is ErrorClass.AUTH
    assert (server.called("token"), server.called("api")) == ([200, 200], [401, 401])


def test_a_token_without_a_lifetime_is_used_once(server: ServiceTitanServer, make_client: MakeClient) -> None:
    token = server.tenancy.give_token(server.client)
    for _ in range(2):
        server.fail_next("token", status=200, body=b'{"access_token": "%s"}' % token.encode())
    client = make_client()

    assert [client.probe().status, client.probe().status] == ["success", "success"]
    assert server.called("token") == [200, 200]


def test_forgetting_an_old_token_spares_the_one_that_replaced_it(
    tokens: TokenCache, server: ServiceTitanServer
) -> None:
    client = ServiceTitanClient(connection_to(server), tokens=tokens)
    client.probe()
    tokens.forget(client._key, "an older token")
    client.probe()
    client.close()

    assert server.called("token") == [200]


def test_every_minted_token_is_told_so_that_logs_can_mask_it(server: ServiceTitanServer, tokens: TokenCache) -> None:
    told: list[str] = []
    with ServiceTitanClient(connection_to(server), tokens=tokens, on_token=told.append) as client:
        client.probe()
        client.probe()

    assert len(told) == 1
    assert server.tenancy.client_of(told[0]) == server.client

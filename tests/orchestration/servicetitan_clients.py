"""Clients of the simulated ServiceTitan, with a clock that stands."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from include.orchestration.connections import ConnectionValues
from include.orchestration.servicetitan_client import ServiceTitanClient
from include.orchestration.servicetitan_connection import ServiceTitanConnection
from include.orchestration.servicetitan_tokens import TokenCache
from include.simulation.servicetitan_server import ServiceTitanServer

MakeClient = Callable[..., ServiceTitanClient]

LATE = 0.4
"""Seconds that a call may take where the test waits for its end."""


class Clock:
    """Seconds, and a wall clock beside them, that stand until they are moved."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds

    def wall(self) -> datetime:
        return datetime(2026, 7, 1, 12, tzinfo=UTC) + timedelta(seconds=self.seconds)


def connection_to(server: ServiceTitanServer, **changes: Any) -> ServiceTitanConnection:
    client = server.client
    values = ConnectionValues(
        conn_id="servicetitan_7",
        conn_type="servicetitan",
        login=client.client_id,
        password=client.client_secret,
        extra=server.extra(),
    )
    return replace(ServiceTitanConnection.of(values), **changes)


@contextmanager
def clients_of(server: ServiceTitanServer, tokens: TokenCache) -> Iterator[MakeClient]:
    """Give a function that makes a client of the server; named arguments change its connection."""
    made: list[ServiceTitanClient] = []

    def make(*, timeout: float = 10, **changes: Any) -> ServiceTitanClient:
        made.append(ServiceTitanClient(connection_to(server, **changes), timeout=timeout, tokens=tokens))
        return made[-1]

    yield make
    for client in made:
        client.close()

"""
Logs in S3 and in Google Cloud Storage: servers that speak their protocols, read through Airflow's own connections,
storage paths and providers.

The providers bring some sixty packages, and older ones than the project's: these tests have an environment of their own,
and are skipped in the project's. ``make test`` runs them there after the others, ``make test-stores`` alone.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from include.warehouse.migration import upgrade
from tests.orchestration.stores.gcs_store import GcsStore
from tests.orchestration.stores.s3_store import S3Store
from tests.orchestration.stores.store import Store, new_name, told_connection, variable

KINDS = {"s3": S3Store, "gs": GcsStore}


@pytest.fixture(scope="session", autouse=True)
def own_environment() -> None:
    """Skip what runs elsewhere. There nothing is skipped: what is missing fails."""
    if Path(sys.prefix).name != ".venv-stores":
        pytest.skip("in an environment of its own: make test-stores")


@pytest.fixture(scope="module", params=KINDS)
def server(own_environment: None, request: pytest.FixtureRequest) -> Iterator[S3Store | GcsStore]:
    """Yield a store, one after the other."""
    running = KINDS[request.param]()
    yield running
    running.stop()


@pytest.fixture
def store(server: S3Store | GcsStore) -> Store:
    """Return it with an empty bucket."""
    server.new_bucket()
    return server


@pytest.fixture
def connect(store: Store, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Return a function that makes a connection to the store, and returns its id."""

    def made(*, is_wrong: bool = False, endpoint: str | None = None, **extra: object) -> str:
        name = new_name("servicetitan_logs_")
        connection = store.connection(is_wrong=is_wrong, endpoint=endpoint)
        connection["extra"] |= extra
        monkeypatch.setenv(variable(name), told_connection(connection))
        return name

    return made


@pytest.fixture
def connection(connect: Callable[..., str]) -> str:
    """Return the id of a connection that the store accepts."""
    return connect()


@pytest.fixture
def dsn(own_environment: None, make_database: Callable[..., str]) -> str:
    """Return a migrated database."""
    dsn = make_database("stores")
    upgrade(dsn)
    return dsn


@pytest.fixture
def waits_are_over_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the clients' pauses between two tries take no time; they try as often as they do."""
    sleep = asyncio.sleep

    async def at_once(_: float, result: object = None) -> object:
        return await sleep(0, result)

    monkeypatch.setattr(asyncio, "sleep", at_once)

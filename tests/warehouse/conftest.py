"""What these tests share: a small source to read, and a migrated database to write to."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from include.simulation.postgres import EmbeddedPostgres
from include.warehouse.migration import upgrade
from include.warehouse.monitoring_session import connect
from tests.warehouse.read_world import MakeWorld, World, build_world


@pytest.fixture
def dsn(make_database: Callable[..., str]) -> str:
    """A migrated database."""
    dsn = make_database("monitoring")
    upgrade(dsn)
    return dsn


@pytest.fixture
def conn(dsn: str) -> Iterator[psycopg.Connection[Any]]:
    """A session with it."""
    with connect(dsn) as conn:
        yield conn


@pytest.fixture(scope="module")
def shared_dsn(postgres_server: EmbeddedPostgres) -> Iterator[str]:
    """A migrated database for all tests of a module: making one takes longer than most of them."""
    name = f"shared_{next(_SHARED_NUMBERS)}"
    dsn = postgres_server.create_database(name)
    upgrade(dsn)
    yield dsn
    postgres_server.drop_database(name)


_SHARED_NUMBERS = itertools.count(1)


@pytest.fixture
def emptied_dsn(shared_dsn: str) -> str:
    """The module's database with every table of ours empty; ids start anew."""
    with connect(shared_dsn) as conn:
        tables = conn.execute(
            "SELECT string_agg(format('monitoring.%I', tablename), ', ') FROM pg_tables"
            " WHERE schemaname = 'monitoring' AND tablename <> 'schema_version'"
        ).fetchone()
        assert tables is not None
        conn.execute(f"TRUNCATE {tables[0]} RESTART IDENTITY".encode())
    return shared_dsn


@pytest.fixture
def emptied(emptied_dsn: str) -> Iterator[psycopg.Connection[Any]]:
    """A session with it."""
    with connect(emptied_dsn) as conn:
        yield conn


@pytest.fixture
def make_world(make_database: Callable[..., str]) -> MakeWorld:
    """Return a function ``(shape="migrations", zone="UTC")`` that builds an empty source."""

    def make(shape: str = "migrations", zone: str = "UTC") -> World:
        return build_world(make_database("reader"), shape=shape, zone=zone)

    return make


@pytest.fixture
def world(make_world: MakeWorld) -> World:
    """An empty source of the migrations' shape in UTC."""
    return make_world()

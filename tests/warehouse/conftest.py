"""What these tests share: a small source to read, and a migrated database to write to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

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

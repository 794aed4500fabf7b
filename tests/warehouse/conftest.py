"""What the reader's tests share: a small source to read."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.warehouse.read_world import MakeWorld, World, build_world


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

"""What these tests share: a migrated monitoring database."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from include.warehouse.migration import upgrade
from include.warehouse.monitoring_session import connect


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

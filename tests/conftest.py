"""What tests of every part share: one real PostgreSQL, and fresh databases in it."""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest

import tests.airflow_home  # noqa: F401 - first, before anything imports Airflow
from include.simulation.postgres import EmbeddedPostgres

# A busy machine is no failure: how long an example takes is not what these tests are about.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

FAST_SETTINGS = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "max_wal_size": "2GB"}
"""A test's data may be lost with the machine."""


@pytest.fixture(scope="session")
def server_home() -> Iterator[Path]:
    """A folder that the server's account may enter, unlike pytest's own temporary ones, which are closed to others."""
    home = Path(tempfile.mkdtemp(prefix="monitor-postgres-"))
    home.chmod(0o755)
    yield home
    shutil.rmtree(home)


@pytest.fixture(scope="session")
def postgres_server(server_home: Path) -> Iterator[EmbeddedPostgres]:
    """The session's PostgreSQL server."""
    with EmbeddedPostgres(server_home / "session", settings=FAST_SETTINGS) as server:
        yield server


@pytest.fixture
def make_database(postgres_server: EmbeddedPostgres) -> Iterator[Callable[..., str]]:
    """Return a function ``(name_hint="db") -> DSN`` that makes an empty database, dropped after the test."""
    made: list[str] = []

    def make(name_hint: str = "db") -> str:
        name = f"{name_hint}_{next(_DATABASE_NUMBERS)}"
        dsn = postgres_server.create_database(name)
        made.append(name)
        return dsn

    yield make
    for name in made:
        postgres_server.drop_database(name)


_DATABASE_NUMBERS = itertools.count(1)

"""
One deployment for all end-to-end tests, but those on Celery workers, which have their own.

Their files run in the order of their names, the tests in that of the file.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from include.simulation.postgres import EmbeddedPostgres
from tests.e2e.deployment import Deployment, deployed


@pytest.fixture(scope="package")
def deployment(tmp_path_factory: pytest.TempPathFactory, postgres_server: EmbeddedPostgres) -> Iterator[Deployment]:
    """The deployment; it is stopped before the tests of other folders begin."""
    with deployed(tmp_path_factory.mktemp("deployment"), postgres_server) as made:
        yield made

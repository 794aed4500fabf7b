"""The table of docs/reliability.md: every fault against real servers, and the messages that came through it counted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from include.simulation.delivery_faults import FAULTS, DeliveryFault
from include.simulation.postgres import EmbeddedPostgres
from include.simulation.reliability import database_server, measured


@pytest.fixture(scope="module")
def database(server_home: Path) -> Iterator[EmbeddedPostgres]:
    """A server of these tests' own: some of them stop it."""
    with database_server(server_home / "reliability") as server:
        yield server


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_nothing_is_lost_or_doubled_but_what_the_table_says(fault: DeliveryFault, database: EmbeddedPostgres) -> None:
    tally = measured(fault, database=database)

    assert tally == fault.expected
    assert tally.doubled <= tally.marked

"""
From rows in a real source to verdicts: exact agreement with the independent oracle.

In each shape of the source that has integer keys, and in several of PHP's time zones, on randomised rows at and around
every boundary. The rows are written as upstream writes them, read by the reader, and judged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from include.orchestration.tick_source import RunFilters, read_source
from include.simulation.hub_plus import HubPlus, create_source
from include.sync_health.judgement import TickInput, judge_tick
from include.sync_health.observations import Observation
from include.sync_health.policy import Policy, SourcePolicy
from tests.sync_health import oracle
from tests.sync_health.frames_of import sync_rows
from tests.sync_health.oracle import Row

AS_OF = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
WORLDS = [
    ("migrations", "UTC"),
    ("migrations", "America/New_York"),  # changed its clocks two days before AS_OF
    ("entities", "UTC"),
    ("entities", "Asia/Kolkata"),
    ("entities", "America/New_York"),
]


@dataclass
class Source:
    """One simulated Hub Plus with three credentials, emptied of runs between examples."""

    dsn: str
    world: HubPlus
    policy: Policy
    credentials: list[int]

    def fill(self, rows: list[Row]) -> list[Row]:
        """Replace all runs by these; returns them with the ids that the source gave them."""
        with psycopg.connect(self.dsn) as conn:
            conn.execute(f"TRUNCATE {self.world.shape.log_table}")
        written = []
        for row in rows:
            run = self.world.add_run(
                self.credentials[row.credential - 1],
                data_type=row.data_type,
                status=row.status,
                started_at=row.started_at,
                completed_at=row.completed_at,
                updated_at=row.updated_at,
                error_message=row.error_message,
            )
            written.append(replace(row, id=int(run), credential=self.credentials[row.credential - 1]))
        return written

    def judged(self, as_of: datetime) -> list[Observation]:
        """Read and judge, as `check` does."""
        read, credentials = read_source(self.dsn, policy=self.policy, as_of=as_of, filters=RunFilters())
        judgement = judge_tick(TickInput(runs=read.runs, credentials=credentials, as_of=as_of), policy=self.policy)
        return list(judgement.observations)


@pytest.fixture(params=WORLDS, ids=lambda world: f"{world[0]} in {world[1]}")
def source(request: pytest.FixtureRequest, make_database: Callable[..., str]) -> Iterator[Source]:
    """A source of each shape and zone."""
    shape, zone = request.param
    dsn = make_database("agreement")
    create_source(dsn, shape=shape)
    with HubPlus(dsn, shape=shape, timezone=zone) as world:
        company = world.add_company("Acme Heating")
        other = world.add_company("Best Plumbing")
        credentials = [
            world.add_credential(company),
            world.add_credential(company, environment="integration"),
            world.add_credential(other),
        ]
        yield Source(
            dsn=dsn,
            world=world,
            policy=Policy(source=SourcePolicy(timezone=zone)),
            credentials=[int(each) for each in credentials],
        )


def verdicts(observations: list[Observation], rule: str, number: str) -> dict[tuple[str, ...], tuple[str, object]]:
    """One rule's verdicts by identity, each with one number of its evidence."""
    return {
        tuple(each.identity.values()): (str(each.verdict), each.evidence[number])
        for each in observations
        if each.rule == rule
    }


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=sync_rows(as_of=AS_OF, max_size=25), late=st.sampled_from([timedelta(0), timedelta(minutes=15)]))
def test_the_monitor_and_the_oracle_agree(source: Source, rows: list[Row], late: timedelta) -> None:
    """The same verdicts, counts and severities, for a timely run and for one that looks back a quarter of an hour."""
    written = source.fill(rows)
    as_of = AS_OF - late

    observations = source.judged(as_of)

    assert verdicts(observations, "sync_failures", "failures") == oracle.sync_failures(written, as_of=as_of)
    assert verdicts(observations, "consecutive_failures", "in_a_row") == oracle.consecutive_failures(
        written, as_of=as_of
    )
    sandbox = str(source.credentials[1])
    assert {
        (each.identity["credential"], each.identity["sync"]): (str(each.verdict), str(each.severity))
        for each in observations
        if each.rule == "stuck_sync"
    } == {
        key: (verdict, "low" if key[0] == sandbox else severity)
        for key, (verdict, severity) in oracle.stuck_syncs(written, as_of=as_of).items()
    }

"""
From rows in a real source to verdicts: exact agreement with the independent oracle.

In each shape of the source that has integer keys, and in several of PHP's time zones, on randomised rows and credentials
at and around every boundary of every rule. They are written as upstream writes them, read by the reader, and judged; the
oracle reads the same tables by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from include.orchestration.check_reading import Memory, RunFilters, read_for
from include.simulation.hub_plus import GENERATED, HubPlus, Run, create_source
from include.sync_health.checks import EVERYTHING, RULES
from include.sync_health.judgement import Judgement, TickInput, judge_tick
from include.sync_health.observations import Observation
from include.sync_health.policy import Policy, SourcePolicy
from tests.agreement.boundary_worlds import AS_OF, MINUTE, TEXTS, World, whole_worlds
from tests.agreement.plain_frames import memory_of
from tests.agreement.source_rows_of import source_rows_of
from tests.agreement.verdicts_of import of_observations, of_oracle, without_no_data
from tests.sync_health import oracle
from tests.sync_health.frames_of import sync_rows
from tests.sync_health.oracle import Row
from tests.sync_health.oracle_credentials import Credential, Snapshot
from tests.sync_health.oracle_verdicts import every_rule

WORLDS = [
    ("migrations", "UTC"),
    ("migrations", "America/New_York"),  # changed its clocks two days before AS_OF
    ("entities", "UTC"),
    ("entities", "Asia/Kolkata"),
    ("entities", "America/New_York"),
]
LISTED_OR_NOT = ("data_quality",)
"""Rules that may leave out, or list, an identity of which nothing can be said."""


@dataclass
class Source:
    """One simulated Hub Plus, emptied between examples."""

    dsn: str
    world: HubPlus
    policy: Policy

    def fill(self, world: World) -> tuple[list[Row], list[Credential]]:
        """Replace all that the source holds by this, with the same ids; return what a plain SELECT then finds."""
        with psycopg.connect(self.dsn) as conn:
            conn.execute(f"TRUNCATE company, servicetitan_credentials, {self.world.shape.log_table} RESTART IDENTITY")
        for credential in world.credentials:
            company = self.world.add_company(credential.company_name or "")
            added = self.world.add_credential(
                company,
                environment=credential.environment,
                connection_status=credential.status,
                client_id=GENERATED if credential.has_client_id else "  ",
                client_secret=GENERATED if credential.has_client_secret else None,
                token_expires_at=credential.token_expires_at,
                last_connection_attempt=credential.last_connection_attempt,
                **({"created_at": credential.created_at} if credential.created_at else {}),
                updated_at=credential.updated_at,
            )
            assert added == credential.id
        self.world.copy_runs(map(as_upstream_writes, world.rows))
        rows, credentials = source_rows_of(self.dsn, timezone=self.policy.source.timezone)
        assert rows == [with_counts(row) for row in world.rows]
        assert [each.token_expires_at for each in credentials] == [each.token_expires_at for each in world.credentials]
        return rows, credentials

    def judged(self, as_of: datetime, *, snapshots: list[Snapshot], credentials: list[Credential]) -> Judgement:
        """Read and judge everything, as the shell's ``check all`` does, remembering only the snapshots."""
        found = read_for(
            EVERYTHING,
            self.dsn,
            policy=self.policy,
            as_of=as_of,
            now=AS_OF,
            filters=RunFilters(),
            memory=Memory(credentials=memory_of(credentials, snapshots, as_of=as_of)),
        )
        tick = TickInput(runs=found.read.runs, credentials=found.facts, as_of=as_of, check=EVERYTHING)
        return judge_tick(tick, policy=self.policy)


def as_upstream_writes(row: Row) -> Run:
    """A row of the oracle's as the simulated Hub Plus takes it."""
    counts = with_counts(row)
    return Run(
        credential=row.credential,
        data_type=row.data_type,
        status=row.status,
        started_at=row.started_at,
        completed_at=row.completed_at,
        updated_at=row.updated_at,
        error_message=row.error_message,
        records=(counts.records_processed or 0, counts.records_successful or 0, counts.records_failed or 0),
    )


def with_counts(row: Row) -> Row:
    """The row with zeros for counts it does not tell: both shapes forbid NULL."""
    return replace(
        row,
        records_processed=row.records_processed or 0,
        records_successful=row.records_successful or 0,
        records_failed=row.records_failed or 0,
    )


@pytest.fixture(params=WORLDS, ids=lambda world: f"{world[0]} in {world[1]}")
def source(request: pytest.FixtureRequest, make_database: Callable[..., str]) -> Iterator[Source]:
    """A source of each shape and zone."""
    shape, zone = request.param
    dsn = make_database("agreement")
    create_source(dsn, shape=shape)
    with HubPlus(dsn, shape=shape, timezone=zone) as world:
        yield Source(dsn=dsn, world=world, policy=Policy(source=SourcePolicy(timezone=zone)))


LATENESS = st.sampled_from((timedelta(0), 15 * MINUTE))
"""How long before now the instant judged lies: a timely run, and one that looks back a quarter of an hour."""


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(world=whole_worlds(), late=LATENESS)
def test_every_rule_agrees_with_the_oracle(source: Source, world: World, late: timedelta) -> None:
    """The same verdicts of the same identities, and the same severities of breaches, the sandbox capped."""
    rows, credentials = source.fill(world)
    as_of = AS_OF - late

    judgement = source.judged(as_of, snapshots=world.snapshots, credentials=credentials)

    assert not judgement.blindness
    expected = every_rule(rows, credentials, as_of=as_of, class_of=lambda text: TEXTS[text], snapshots=world.snapshots)
    for rule in RULES:
        found, told = of_observations(judgement.observations, rule=rule), of_oracle(expected[rule])
        assert (without_no_data(found) if rule in LISTED_OR_NOT else found) == told, rule


def numbers(observations: list[Observation], rule: str, number: str) -> dict[tuple[str, ...], tuple[str, object]]:
    """One rule's verdicts by identity, each with one number of its evidence."""
    return {
        tuple(each.identity.values()): (str(each.verdict), each.evidence[number])
        for each in observations
        if each.rule == rule
    }


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=sync_rows(as_of=AS_OF, max_size=25), late=LATENESS)
def test_failures_are_counted_as_the_oracle_counts_them(source: Source, rows: list[Row], late: timedelta) -> None:
    """How many failed within the hour and in a row, and which syncs are stuck, on rows denser around those windows."""
    credentials = [
        Credential(id=number, environment=environment)
        for number, environment in enumerate(("production", "integration", "production"), start=1)
    ]
    written, _ = source.fill(World(credentials=credentials, rows=rows))
    as_of = AS_OF - late

    observations = list(source.judged(as_of, snapshots=[], credentials=credentials).observations)

    assert numbers(observations, "sync_failures", "failures") == oracle.sync_failures(written, as_of=as_of)
    assert numbers(observations, "consecutive_failures", "in_a_row") == oracle.consecutive_failures(
        written, as_of=as_of
    )
    stuck = {
        key: (verdict, "low" if key[0] == "2" else severity)
        for key, (verdict, severity) in oracle.stuck_syncs(written, as_of=as_of).items()
    }
    assert of_observations(observations, rule="stuck_sync") == of_oracle(stuck)

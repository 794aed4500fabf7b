"""
Two hundred random windows over generated worlds: every breach is confirmed by the oracle, and none is missing.

A world with every fault planted, and with all the oddness that real rows have, is carried on from instant to instant, as a
source under a running monitor is. At each the monitor reads and judges everything, remembering what it recorded at the
instants before; the oracle gets the rows as a plain SELECT has them at that moment, and its own list of what the
credentials looked like.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import psycopg
import pytest

from include.orchestration.check_reading import Memory, RunFilters, read_for
from include.simulation.generated_timeline import Generated, WorldPlan, generate
from include.simulation.generated_world import GeneratedWorld
from include.simulation.hub_plus import create_source
from include.sync_health.causes import classify
from include.sync_health.checks import EVERYTHING, RULES
from include.sync_health.frames import ERROR_TEXT_LIMIT
from include.sync_health.judgement import Judgement, TickInput, judge_tick
from include.sync_health.policy import Policy, SourcePolicy
from include.sync_health.visibility import EarlierSight
from include.warehouse.migration import upgrade
from include.warehouse.monitoring_session import connect
from include.warehouse.snapshots import credential_memory, record_credential_changes
from tests.agreement.source_rows_of import source_rows_of
from tests.agreement.verdicts_of import Compared, breaches, of_observations, of_oracle
from tests.sync_health.oracle import Row
from tests.sync_health.oracle_credentials import Credential, Snapshot
from tests.sync_health.oracle_verdicts import every_rule

WINDOWS = 20
"""Of each world; there are ten worlds."""

WINDOWS_PER_CHANGE = 4
"""Of these, how many lie around each change of the clock."""

SPRING, WINTER, AUTUMN = (datetime(2026, month, day, tzinfo=UTC) for month, day in ((3, 6), (1, 12), (10, 29)))
PLANS = [
    pytest.param(
        WorldPlan(begin=begin, seed=seed, shape=shape, timezone=zone, credentials=30), id=f"{what}, seed {seed}"
    )
    for seed, (begin, shape, zone, what) in enumerate(
        [
            (WINTER, "migrations", "UTC", "migrations in UTC"),
            (WINTER, "entities", "UTC", "entities in UTC"),
            (SPRING, "migrations", "America/New_York", "migrations over a change to summer time"),
            (SPRING, "entities", "America/New_York", "entities over a change to summer time"),
            (AUTUMN, "migrations", "America/New_York", "migrations over a change to winter time"),
            (AUTUMN, "entities", "America/New_York", "entities over a change to winter time"),
            (WINTER, "migrations", "Asia/Kolkata", "migrations in half an hour's zone"),
            (WINTER, "entities", "Asia/Kolkata", "entities in half an hour's zone"),
            (AUTUMN, "migrations", "Australia/Lord_Howe", "migrations where summer time is half an hour"),
            (WINTER, "entities", "Pacific/Auckland", "entities far in the east"),
        ],
        start=1,
    )
]
TICK = timedelta(minutes=15)
SECOND = timedelta(seconds=1)


@dataclass
class Watched:
    """A generated world in a source, a monitoring schema beside it, and the oracle's own notes."""

    source_dsn: str
    world: GeneratedWorld
    policy: Policy
    storage: psycopg.Connection
    snapshots: list[Snapshot] = field(default_factory=list)

    def judged(self, as_of: datetime, *, before: EarlierSight | None) -> Judgement:
        """What the monitor says at ``as_of``; then it records what it saw."""
        found = read_for(
            EVERYTHING,
            self.source_dsn,
            policy=self.policy,
            as_of=as_of,
            now=as_of,
            filters=RunFilters(),
            memory=Memory(credentials=credential_memory(self.storage, as_of=as_of)),
        )
        tick = TickInput(
            runs=found.read.runs,
            credentials=found.facts,
            as_of=as_of,
            check=EVERYTHING,
            before=before,
        )
        judgement = judge_tick(tick, policy=self.policy)
        record_credential_changes(self.storage, found.credentials, as_of=as_of)
        self.storage.commit()
        return judgement

    def note(self, credentials: list[Credential], *, at: datetime) -> None:
        """Let the oracle remember what the credentials look like."""
        self.snapshots += [
            Snapshot(
                credential=each.id,
                at=at,
                status=each.status,
                token_expires_at=each.token_expires_at,
                has_client_id=each.has_client_id,
                has_client_secret=each.has_client_secret,
            )
            for each in credentials
        ]


@pytest.fixture(params=PLANS)
def watched(request: pytest.FixtureRequest, make_database: Callable[..., str]) -> Iterator[Watched]:
    """Each of the worlds, still empty."""
    plan: WorldPlan = request.param
    source_dsn, storage_dsn = make_database("windows"), make_database("windows_monitoring")
    create_source(source_dsn, shape=plan.shape)
    upgrade(storage_dsn)
    policy = Policy(source=SourcePolicy(timezone=plan.timezone))
    with GeneratedWorld(source_dsn, generate(plan)) as world, connect(storage_dsn) as storage:
        yield Watched(source_dsn=source_dsn, world=world, policy=policy, storage=storage)


def test_every_breach_is_confirmed_and_none_is_missing(watched: Watched) -> None:
    """The oracle's breaches are the monitor's, with their severities, in each of a world's windows."""
    generated = watched.world.generated
    seen: Counter[str] = Counter()
    for as_of in instants(generated):
        watched.world.advance(as_of)
        rows, credentials = source_rows_of(watched.source_dsn, timezone=generated.plan.timezone)
        expected = every_rule(rows, credentials, as_of=as_of, class_of=class_of, snapshots=watched.snapshots)

        judgement = watched.judged(as_of, before=earlier_sight(rows, at=as_of - TICK))
        watched.note(credentials, at=as_of)

        found = {rule: of_observations(judgement.observations, rule=rule) for rule in RULES}
        told = {rule: of_oracle(expected[rule]) for rule in RULES}
        assert {rule: breaches(found[rule]) for rule in RULES} == {rule: breaches(told[rule]) for rule in RULES}
        # In doubt of the source, and of a platform that fell silent, the monitor takes nothing for a recovery.
        in_doubt = bool(judgement.blindness) or bool(breaches(told["no_syncs"]))
        assert sayings(found, in_doubt=in_doubt) == sayings(told, in_doubt=in_doubt)
        seen.update(rule for rule in RULES for _ in breaches(told[rule]))
    assert set(seen) == {truth.rule for truth in generated.truths if truth.due_at <= as_of}


def instants(generated: Generated) -> list[datetime]:
    """
    Random instants: half anywhere, half within the second, the minute or the hour of a moment that counts.

    Moments that count are those from and to which something must breach. One window lies at the beginning of a breach of
    each rule, and some lie in the hours around a change of the clock, so that none of these goes unseen.
    """
    source = random.Random(f"windows:{generated.plan.seed}")  # noqa: S311  no secrets: the same windows every time
    begin = generated.plan.begin
    span = int((generated.until - begin).total_seconds())
    counting = [at for truth in generated.truths for at in (truth.due_at, truth.over_at) if at is not None]
    chosen: set[datetime] = set()
    for change in clock_changes(ZoneInfo(generated.plan.timezone), begin, generated.until):
        chosen |= {change + source.randrange(-3_600, 3 * 3_600) * SECOND for _ in range(WINDOWS_PER_CHANGE)}
    for rule in sorted({truth.rule for truth in generated.truths}):
        chosen.add(source.choice([truth.due_at for truth in generated.truths if truth.rule == rule]))
    while len(chosen) < WINDOWS:
        if len(chosen) % 2:
            at = begin + source.randrange(span) * SECOND
        else:
            at = source.choice(counting) + source.choice((1, 60, 3_600)) * source.randint(-1, 1) * SECOND
        if begin < at <= generated.until:
            chosen.add(at)
    return sorted(chosen)


def clock_changes(zone: ZoneInfo, begin: datetime, until: datetime) -> list[datetime]:
    """The whole hours in which the zone's offset changes."""
    hours = [begin + timedelta(hours=number) for number in range(int((until - begin) / timedelta(hours=1)))]
    return [
        at for at, after in pairwise(hours) if at.astimezone(zone).utcoffset() != after.astimezone(zone).utcoffset()
    ]


def class_of(text: str | None) -> str:
    """The class of a text as far as it leaves the source; how texts are read is tested on its own."""
    return classify(text[:ERROR_TEXT_LIMIT] if text else None).value


def earlier_sight(rows: list[Row], *, at: datetime) -> EarlierSight | None:
    """What a tick at that instant saw of the newest start."""
    newest = max((row.started_at for row in rows if row.started_at <= at), default=None)
    return None if newest is None else EarlierSight(newest_started_at=newest, as_of=at)


def sayings(verdicts: Mapping[str, Compared], *, in_doubt: bool) -> dict[str, Compared]:
    """All that is said, without what cannot be judged; in doubt also without what is clear."""
    unsaid = {"no_data", "clear"} if in_doubt else {"no_data"}
    return {rule: {key: told for key, told in mine.items() if told[0] not in unsaid} for rule, mine in verdicts.items()}

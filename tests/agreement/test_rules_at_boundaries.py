"""
Each rule against the oracle, in memory, on thousands of small worlds that lie at and around its every boundary.

Verdicts and the severities of breaches agree exactly, identity by identity.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from include.sync_health.connection_errors import judge_connection_errors
from include.sync_health.credential_facts import credential_facts
from include.sync_health.freshness import judge_stale_syncs
from include.sync_health.platform_outage import judge_platform_outage
from include.sync_health.quality import judge_data_quality
from include.sync_health.rule_policies import (
    ConnectionErrorPolicy,
    DataQualityPolicy,
    NoSyncsPolicy,
    PlatformOutagePolicy,
    StaleSyncPolicy,
    TokenExpiryPolicy,
)
from include.sync_health.silence import judge_no_syncs
from include.sync_health.subjects import subjects_of
from include.sync_health.tokens import judge_token_expiry
from tests.agreement.boundary_worlds import (
    AS_OF,
    TEXTS,
    World,
    credential_worlds,
    outage_worlds,
    quality_rows,
    silence_worlds,
)
from tests.agreement.plain_frames import counted_runs, credentials_of, memory_of
from tests.agreement.verdicts_of import of_frame, of_oracle, without_no_data
from tests.sync_health import oracle_credentials, oracle_platform, oracle_quality
from tests.sync_health.oracle import Row
from tests.sync_health.oracle_credentials import MONITORED, Credential, as_it_was

EARLIER = st.sampled_from((timedelta(0), timedelta(seconds=1), timedelta(hours=1), timedelta(days=1)))
"""How long before the worlds' own instant they are judged as the past."""


def facts_of(world: World, *, as_of: datetime, is_present: bool) -> pd.DataFrame:
    """What the credential rules get to see."""
    return credential_facts(
        credentials_of(world.credentials),
        runs=counted_runs(world.rows),
        as_of=as_of,
        is_present=is_present,
        memory=memory_of(world.credentials, world.snapshots, as_of=as_of),
    )


def as_recorded(world: World, *, as_of: datetime) -> tuple[list[Credential], set[tuple[str, ...]]]:
    """The credentials as our snapshots have them, and the identities of those that nobody had recorded by then."""
    then = {each.id: as_it_was(each, world.snapshots, as_of=as_of) for each in world.credentials}
    return [each for each in then.values() if each], {(str(number),) for number, each in then.items() if each is None}


@settings(max_examples=400, deadline=None)
@given(world=credential_worlds())
def test_token_expiry_agrees(world: World) -> None:
    """Lifetimes of exactly a day, and a day, two and seven days before or after the expiry."""
    found = judge_token_expiry(
        facts_of(world, as_of=AS_OF, is_present=True), policy=TokenExpiryPolicy(), monitored=MONITORED, as_of=AS_OF
    )

    expected = oracle_credentials.token_expiry(world.credentials, world.rows, as_of=AS_OF, snapshots=world.snapshots)
    assert of_frame(found, rule="token_expiry") == of_oracle(expected)


@settings(max_examples=200, deadline=None)
@given(world=credential_worlds(), ago=EARLIER)
def test_token_expiry_agrees_on_the_past(world: World, ago: timedelta) -> None:
    """What snapshots recorded is judged; what nobody recorded is not, whatever the source says now."""
    as_of = AS_OF - ago
    facts = facts_of(world, as_of=as_of, is_present=False)
    found = of_frame(
        judge_token_expiry(facts, policy=TokenExpiryPolicy(), monitored=MONITORED, as_of=as_of), rule="token_expiry"
    )

    then, unrecorded = as_recorded(world, as_of=as_of)
    expected = oracle_credentials.token_expiry(
        then, world.rows, as_of=as_of, snapshots=world.snapshots, is_present=False
    )
    assert without_no_data(found) == without_no_data(of_oracle(expected))
    assert {found[key][0] for key in unrecorded & set(found)} <= {"no_data"}


@settings(max_examples=400, deadline=None)
@given(world=credential_worlds())
def test_connection_errors_agree(world: World) -> None:
    """Runs that completed just before, at and just after the moment of the first sight of the error."""
    found = judge_connection_errors(
        facts_of(world, as_of=AS_OF, is_present=True), policy=ConnectionErrorPolicy(), monitored=MONITORED, as_of=AS_OF
    )

    expected = oracle_credentials.connection_errors(
        world.credentials, world.rows, as_of=AS_OF, snapshots=world.snapshots
    )
    assert of_frame(found, rule="connection_error") == of_oracle(expected)


@settings(max_examples=200, deadline=None)
@given(world=credential_worlds(), ago=EARLIER)
def test_connection_errors_agree_on_the_past(world: World, ago: timedelta) -> None:
    """The status is the recorded one; without a record nobody is said to be in error or out of it."""
    as_of = AS_OF - ago
    facts = facts_of(world, as_of=as_of, is_present=False)
    found = of_frame(
        judge_connection_errors(facts, policy=ConnectionErrorPolicy(), monitored=MONITORED, as_of=as_of),
        rule="connection_error",
    )

    then, unrecorded = as_recorded(world, as_of=as_of)
    expected = oracle_credentials.connection_errors(then, world.rows, as_of=as_of, snapshots=world.snapshots)
    assert without_no_data(found) == without_no_data(of_oracle(expected))
    assert {found[key][0] for key in unrecorded & set(found)} <= {"no_data"}


@settings(max_examples=400, deadline=None)
@given(world=credential_worlds())
def test_stale_syncs_agree(world: World) -> None:
    """Two and four days since the last success, and since the creation of those that never had one."""
    found = judge_stale_syncs(
        facts_of(world, as_of=AS_OF, is_present=True), policy=StaleSyncPolicy(), monitored=MONITORED, as_of=AS_OF
    )

    expected = oracle_credentials.stale_syncs(world.credentials, world.rows, as_of=AS_OF)
    assert of_frame(found, rule="stale_sync") == of_oracle(expected)


@settings(max_examples=400, deadline=None)
@given(world=outage_worlds())
def test_platform_outage_agrees(world: World) -> None:
    """A half and a quarter of the credentials that ran, and three of them, for every class of error."""
    found = judge_platform_outage(
        counted_runs(world.rows),
        subjects=subjects_of(credentials_of(world.credentials)),
        policy=PlatformOutagePolicy(),
        as_of=AS_OF,
    )

    expected = oracle_platform.platform_outage(
        world.rows, world.credentials, as_of=AS_OF, class_of=lambda text: TEXTS[text]
    )
    assert of_frame(found, rule="platform_outage") == of_oracle(expected)


@settings(max_examples=400, deadline=None)
@given(world=silence_worlds())
def test_silence_agrees(world: World) -> None:
    """Two hours without a start, after a day in which 18 to 22 hours had one."""
    found = judge_no_syncs(
        counted_runs(world.rows),
        subjects=subjects_of(credentials_of(world.credentials)),
        policy=NoSyncsPolicy(),
        as_of=AS_OF,
    )

    expected = oracle_platform.no_syncs(world.rows, world.credentials, as_of=AS_OF)
    assert of_frame(found, rule="no_syncs") == of_oracle(expected)


@settings(max_examples=600, deadline=None)
@given(rows=quality_rows())
def test_data_quality_agrees(rows: list[Row]) -> None:
    """10 and 11 records, 10, 20 and 50 percent of them failed, counts that cannot be, and the worst sync by name."""
    credentials = [Credential(id=1), Credential(id=2, company=2)]
    found = judge_data_quality(
        counted_runs(rows), subjects=subjects_of(credentials_of(credentials)), policy=DataQualityPolicy(), as_of=AS_OF
    )

    expected = oracle_quality.data_quality(rows, as_of=AS_OF)
    assert without_no_data(of_frame(found, rule="data_quality")) == of_oracle(expected)
    named = {
        tuple(row["identity"].values()): str(row["metadata"]["sync_id"])
        for row in found.to_dict("records")
        if row["verdict"] == "breach"
    }
    assert named == {
        key: str(worst.id)
        for key, (verdict, _) in expected.items()
        if verdict == "breach" and (worst := oracle_quality.worst_sync(rows, as_of=AS_OF, key=key))
    }

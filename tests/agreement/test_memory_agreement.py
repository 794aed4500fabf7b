"""
What the snapshots in a real database remember of credentials agrees with a plain list of what they looked like.

The database keeps changes alone; the list keeps everything, at every instant.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pandas as pd
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from include.warehouse.migration import upgrade
from include.warehouse.monitoring_session import connect
from include.warehouse.snapshots import credential_memory, record_credential_changes
from tests.agreement.boundary_worlds import AS_OF, DAY, HOUR
from tests.agreement.plain_frames import credentials_of, memory_of
from tests.sync_health.oracle_credentials import Credential, Snapshot

TICKS = 6
EVER = [Credential(id=1), Credential(id=2, company=2)]


@dataclass(frozen=True)
class Seen:
    """One tick: the credentials that were there."""

    at: Any
    credentials: list[Credential]


@st.composite
def histories(draw: st.DrawFn) -> list[Seen]:
    """Two credentials over some ticks: their status, token and secrets come and go, and so do they."""
    at, history = AS_OF - 10 * DAY, []
    for _ in range(draw(st.integers(1, TICKS))):
        at += draw(st.sampled_from((HOUR, DAY)))
        expiries = st.one_of(st.none(), st.just(AS_OF), st.just(at + DAY), st.just(at + timedelta(minutes=15)))
        there = [
            replace(
                each,
                status=draw(st.sampled_from(("error", "error", "active"))),
                token_expires_at=draw(expiries),
                has_client_id=draw(st.integers(0, 3)) > 0,
                has_client_secret=draw(st.integers(0, 3)) > 0,
            )
            for each in EVER
            if draw(st.integers(0, 4))
        ]
        history.append(Seen(at, there))
    return history


def as_list(history: list[Seen]) -> list[Snapshot]:
    """A snapshot of each credential at each tick from its first on; a tick at which nobody was there saw nothing."""
    snapshots: list[Snapshot] = []
    last: dict[int, Snapshot] = {}
    for seen in history:
        if not seen.credentials:
            continue
        there = {
            each.id: Snapshot(
                credential=each.id,
                at=seen.at,
                status=each.status,
                token_expires_at=each.token_expires_at,
                has_client_id=each.has_client_id,
                has_client_secret=each.has_client_secret,
            )
            for each in seen.credentials
        }
        gone = {number: replace(each, at=seen.at, is_deleted=True) for number, each in last.items()}
        last = {**gone, **there}
        snapshots += last.values()
    return snapshots


@pytest.fixture
def conn(make_database: Callable[..., str]) -> Iterator[psycopg.Connection[Any]]:
    """A session on a migrated database."""
    dsn = make_database("memory")
    upgrade(dsn)
    with connect(dsn) as conn:
        yield conn


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(history=histories(), ago=st.sampled_from((timedelta(0), HOUR, DAY, 2 * DAY)))
def test_what_is_remembered_agrees(conn: psycopg.Connection[Any], history: list[Seen], ago: timedelta) -> None:
    """Status, token, its longest lifetime and the beginning of the error, now and at an earlier instant."""
    conn.execute("TRUNCATE monitoring.credential_snapshot")
    for seen in history:
        record_credential_changes(conn, credentials_of(seen.credentials), as_of=seen.at)
    as_of = history[-1].at - ago

    found = credential_memory(conn, as_of=as_of)

    expected = memory_of(EVER, as_list(history), as_of=as_of)
    assert plain(found) == plain(expected)


def plain(memory: pd.DataFrame) -> list[dict[str, Any]]:
    """The frame's rows with None for what is missing."""
    return [
        {key: None if pd.isna(value) else value for key, value in record.items()}
        for record in memory.to_dict("records")
    ]

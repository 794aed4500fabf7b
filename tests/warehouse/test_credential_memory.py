"""What the snapshots remember of each credential, against the same told by plain Python."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from itertools import takewhile
from typing import Any

import pandas as pd
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from include.sync_health.frames import CREDENTIAL_MEMORY_COLUMNS
from include.warehouse.migration import upgrade
from include.warehouse.monitoring_session import connect
from include.warehouse.snapshots import credential_memory
from tests.warehouse.monitoring_records import NOW

TICK = timedelta(hours=6)
Snapshot = tuple[int, str | None, datetime | None, bool]
"""Which tick, the status, the token's end, and whether the credential had vanished."""


@pytest.fixture
def conn(make_database: Callable[..., str]) -> Iterator[psycopg.Connection[Any]]:
    """A session with a migrated database."""
    dsn = make_database("memory")
    upgrade(dsn)
    with connect(dsn) as conn:
        yield conn


def at(tick: int) -> datetime:
    return NOW + tick * TICK


def store(conn: psycopg.Connection[Any], credential_id: str, *snapshots: Snapshot) -> None:
    for tick, status, expires_at, is_deleted in snapshots:
        conn.execute(
            "INSERT INTO monitoring.credential_snapshot (credential_id, as_of, connection_status, token_expires_at,"
            " has_client_id, has_client_secret, is_deleted) VALUES (%s, %s, %s, %s, true, %s, %s)",
            (credential_id, at(tick), status, expires_at, tick % 2 == 0, is_deleted),
        )


def remembered(conn: psycopg.Connection[Any], *, tick: int) -> dict[str, dict[str, Any]]:
    memory = credential_memory(conn, as_of=at(tick))
    return {row["credential_id"]: row for row in memory.to_dict("records")}


def plainly(snapshots: list[Snapshot], *, tick: int) -> tuple[Any, ...] | None:
    """Return status, token, id, secret, deleted, error_since, is_error_from_start, lifetime, by walking the history."""
    known = [snapshot for snapshot in sorted(snapshots) if snapshot[0] <= tick]
    if not known:
        return None
    newest, status, expires_at, is_deleted = known[-1]
    series = list(takewhile(lambda each: each[1] == "error" and not each[3], reversed(known)))
    lifetimes = [each[2] - at(each[0]) for each in known if each[2] is not None]
    return (
        status,
        expires_at,
        True,
        newest % 2 == 0,
        is_deleted,
        at(series[-1][0]) if series else None,
        len(series) == len(known),
        max(lifetimes, default=None),
    )


SNAPSHOTS = st.lists(
    st.tuples(
        st.integers(0, 8),
        st.sampled_from(["connected", "error", "error", None]),
        st.none() | st.integers(-100, 10_000).map(lambda minutes: NOW + timedelta(minutes=minutes, microseconds=7)),
        st.sampled_from([False, False, True]),
    ),
    unique_by=lambda snapshot: snapshot[0],
    max_size=7,
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(histories=st.dictionaries(st.sampled_from(["7", "12", "a-uuid"]), SNAPSHOTS), tick=st.integers(0, 9))
def test_the_memory_is_what_walking_the_history_tells(
    conn: psycopg.Connection[Any], histories: dict[str, list[Snapshot]], tick: int
) -> None:
    for credential_id, snapshots in histories.items():
        store(conn, credential_id, *snapshots)
    found = remembered(conn, tick=tick)
    conn.rollback()

    told = {
        key: tuple(None if value is None or pd.isna(value) else value for value in list(row.values())[1:])
        for key, row in found.items()
    }
    expected = {key: plainly(snapshots, tick=tick) for key, snapshots in histories.items()}
    assert told == {key: memory for key, memory in expected.items() if memory is not None}


@pytest.mark.parametrize(
    ("snapshots", "since", "is_from_start"),
    [
        pytest.param([(0, "error", None, False)], 0, True, id="in error from its first sight"),
        pytest.param([(0, "connected", None, False), (2, "error", None, False)], 2, False, id="in error since tick 2"),
        pytest.param(
            [(0, "connected", None, False), (2, "error", None, False), (3, "error", NOW, False)],
            2,
            False,
            id="another change in between is no new error",
        ),
        pytest.param(
            [(0, "error", None, False), (1, "error", None, True), (3, "error", None, False)],
            3,
            False,
            id="gone in between, though with the error's last word: in error since its return",
        ),
        pytest.param(
            [(0, "error", None, False), (1, "connected", None, False), (2, "error", None, False)],
            2,
            False,
            id="an earlier error that is over does not count",
        ),
        pytest.param([(0, "error", None, False), (1, "connected", None, False)], None, False, id="no longer in error"),
        pytest.param([(0, "error", None, False), (1, "error", None, True)], None, False, id="gone while in error"),
        pytest.param([(0, None, None, False)], None, False, id="no status is no error"),
    ],
)
def test_error_since_is_the_start_of_the_unbroken_series(
    conn: psycopg.Connection[Any], snapshots: list[Snapshot], since: int | None, is_from_start: bool
) -> None:
    store(conn, "7", *snapshots)
    row = remembered(conn, tick=5)["7"]
    assert (None if pd.isna(row["error_since"]) else row["error_since"]) == (None if since is None else at(since))
    assert row["is_error_from_start"] is is_from_start


@pytest.mark.parametrize("has_rows", [True, False], ids=["with rows", "without rows"])
def test_the_frame_keeps_its_contract(conn: psycopg.Connection[Any], has_rows: bool) -> None:
    """Columns and types do not depend on whether there are rows, or on the session's time zone."""
    conn.execute("SET TIME ZONE 'America/New_York'")
    if has_rows:
        store(conn, "7", (0, "error", None, False), (1, "error", None, False))
    memory = credential_memory(conn, as_of=at(1))
    assert tuple(memory.columns) == CREDENTIAL_MEMORY_COLUMNS
    assert len(memory) == has_rows
    assert memory["credential_id"].dtype == object
    assert [str(memory[column].dtype) for column in ("token_expires_at", "error_since")] == ["datetime64[us, UTC]"] * 2
    assert str(memory["token_lifetime"].dtype) == "timedelta64[us]"
    for column in ("has_client_id", "has_client_secret", "is_deleted", "is_error_from_start"):
        assert memory[column].dtype == bool
    if has_rows:
        assert memory["error_since"].tolist() == [NOW]


def test_a_naive_time_is_refused(conn: psycopg.Connection[Any]) -> None:
    with pytest.raises(ValueError, match="naive"):
        credential_memory(conn, as_of=NOW.replace(tzinfo=None))

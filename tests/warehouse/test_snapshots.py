"""Snapshots hold changes and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

import pandas as pd
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from include.sync_health.errors import FrameError
from include.sync_health.frames import CREDENTIAL_COLUMNS, ENVIRONMENTS
from include.warehouse.migration import upgrade
from include.warehouse.monitoring_session import connect
from include.warehouse.snapshots import names_as_they_were, record_credential_changes
from tests.warehouse.monitoring_records import NOW

TICK = timedelta(hours=6)
TOKEN_ENDS = NOW + timedelta(days=30)


@pytest.fixture
def conn(make_database: Callable[..., str]) -> Iterator[psycopg.Connection[Any]]:
    """A session with a migrated database."""
    dsn = make_database("snapshots")
    upgrade(dsn)
    with connect(dsn) as conn:
        yield conn


def credential(credential_id: int | str = 7, **changes: Any) -> dict[str, Any]:
    """Return one row of a credentials frame."""
    return {
        "credential_id": credential_id,
        "company_id": 3,
        "company_name": "Acme",
        "environment": "production",
        "connection_status": "connected",
        "token_expires_at": TOKEN_ENDS,
        "last_connection_attempt": NOW,
        "created_at": NOW - timedelta(days=90),
        "updated_at": NOW,
        "has_client_id": True,
        "has_client_secret": True,
        **changes,
    }


def frame(*rows: dict[str, Any]) -> pd.DataFrame:
    """Return a credentials frame with the types of its contract."""
    made = pd.DataFrame(rows, columns=list(CREDENTIAL_COLUMNS))
    made["environment"] = pd.Categorical(made["environment"], categories=ENVIRONMENTS)
    for column in ("token_expires_at", "last_connection_attempt", "created_at", "updated_at"):
        made[column] = pd.to_datetime(made[column], utc=True).astype("datetime64[us, UTC]")
    return made


def history(conn: psycopg.Connection[Any], columns: str) -> list[tuple[Any, ...]]:
    return conn.execute(
        f"SELECT credential_id, {columns} FROM monitoring.credential_snapshot ORDER BY as_of, credential_id"
    ).fetchall()


def test_the_first_sight_is_a_change_and_keeps_every_value(conn: psycopg.Connection[Any]) -> None:
    assert record_credential_changes(conn, frame(credential()), as_of=NOW) == 1

    assert history(
        conn,
        "as_of, company_id, company_name, environment, connection_status, token_expires_at, has_client_id,"
        " has_client_secret, is_deleted",
    ) == [("7", NOW, "3", "Acme", "production", "connected", TOKEN_ENDS, True, True, False)]


def test_missing_values_are_null(conn: psycopg.Connection[Any]) -> None:
    gone = credential("a1b2", company_id=None, company_name=None, token_expires_at=None)
    record_credential_changes(conn, frame(gone, credential()), as_of=NOW)

    assert history(conn, "company_id, company_name, token_expires_at") == [
        ("7", "3", "Acme", TOKEN_ENDS),
        ("a1b2", None, None, None),
    ]


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"connection_status": "error"}, id="its status"),
        pytest.param({"token_expires_at": TOKEN_ENDS + timedelta(microseconds=1)}, id="its token by a microsecond"),
        pytest.param({"token_expires_at": None}, id="its token gone"),
        pytest.param({"company_id": 4}, id="its company"),
        pytest.param({"company_name": "Acme, Inc."}, id="its company's name"),
        pytest.param({"company_name": None}, id="its company gone"),
        pytest.param({"environment": "integration"}, id="its environment"),
        pytest.param({"has_client_id": False}, id="its client id"),
        pytest.param({"has_client_secret": False}, id="its client secret"),
    ],
)
def test_a_change_is_a_row(conn: psycopg.Connection[Any], changes: dict[str, Any]) -> None:
    record_credential_changes(conn, frame(credential(), credential(8)), as_of=NOW)

    assert record_credential_changes(conn, frame(credential(**changes), credential(8)), as_of=NOW + TICK) == 1
    assert history(conn, "as_of") == [("7", NOW), ("8", NOW), ("7", NOW + TICK)]


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="nothing"),
        pytest.param({"updated_at": NOW + TICK}, id="when it was touched"),
        pytest.param({"last_connection_attempt": NOW + TICK}, id="when it was tried"),
    ],
)
def test_no_change_is_no_row(conn: psycopg.Connection[Any], changes: dict[str, Any]) -> None:
    record_credential_changes(conn, frame(credential()), as_of=NOW)

    assert record_credential_changes(conn, frame(credential(**changes)), as_of=NOW + TICK) == 0


@pytest.mark.parametrize(
    "offset",
    [
        pytest.param(timedelta(0), id="the same moment again"),
        pytest.param(-TICK, id="an earlier moment, of which the source shows nothing any more"),
    ],
)
def test_what_is_no_later_than_the_newest_row_changes_nothing(conn: psycopg.Connection[Any], offset: timedelta) -> None:
    record_credential_changes(conn, frame(credential(), credential(8)), as_of=NOW)
    before = history(conn, "as_of, connection_status, is_deleted")

    changed = frame(credential(connection_status="error"))
    assert record_credential_changes(conn, changed, as_of=NOW + offset) == 0
    assert history(conn, "as_of, connection_status, is_deleted") == before


def test_a_credential_that_vanished_gets_one_row_and_another_when_it_returns(conn: psycopg.Connection[Any]) -> None:
    both, one = frame(credential(), credential(8)), frame(credential(8))
    written = [
        record_credential_changes(conn, given, as_of=NOW + place * TICK)
        for place, given in enumerate([both, one, one, both])
    ]

    assert written == [2, 1, 0, 1]
    seven = [row for row in history(conn, "as_of, is_deleted, connection_status") if row[0] == "7"]
    assert seven == [
        ("7", NOW, False, "connected"),
        ("7", NOW + TICK, True, "connected"),
        ("7", NOW + 3 * TICK, False, "connected"),
    ]


def test_a_source_without_any_credential_deletes_none(conn: psycopg.Connection[Any]) -> None:
    record_credential_changes(conn, frame(credential()), as_of=NOW)

    assert record_credential_changes(conn, frame(), as_of=NOW + TICK) == 0


def test_thousands_are_one_statement(conn: psycopg.Connection[Any]) -> None:
    many = frame(*(credential(number) for number in range(5_000)))
    sent: list[str] = []

    class Counting(psycopg.Cursor[Any]):
        def execute(self, query: Any, *args: Any, **kwargs: Any) -> Any:
            sent.append(str(query))
            return super().execute(query, *args, **kwargs)

    conn.cursor_factory = Counting
    assert record_credential_changes(conn, many, as_of=NOW) == 5_000
    assert len(sent) == 1


STATUSES = st.sampled_from(["connected", "error", "inactive"])
STATES = st.dictionaries(st.integers(1, 4), st.tuples(STATUSES, st.booleans()), min_size=1)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(ticks=st.lists(STATES, min_size=1, max_size=6))
def test_the_rows_tell_what_every_tick_saw(
    conn: psycopg.Connection[Any], ticks: list[dict[int, tuple[str, bool]]]
) -> None:
    """Reading the newest row at or before any tick gives that tick's state, and no row repeats the one before it."""

    def state_at(moment: datetime) -> dict[int, tuple[str, bool]]:
        rows = conn.execute(
            "SELECT DISTINCT ON (credential_id) credential_id, connection_status, has_client_secret, is_deleted"
            " FROM monitoring.credential_snapshot WHERE as_of <= %s ORDER BY credential_id, as_of DESC",
            (moment,),
        ).fetchall()
        return {int(key): (status, secret) for key, status, secret, is_deleted in rows if not is_deleted}

    for place, tick in enumerate(ticks):
        rows = [
            credential(key, connection_status=status, has_client_secret=secret)
            for key, (status, secret) in tick.items()
        ]
        record_credential_changes(conn, frame(*rows), as_of=NOW + place * TICK)
    seen = [state_at(NOW + place * TICK) for place in range(len(ticks))]
    repeats = conn.execute(
        "SELECT count(*) FROM (SELECT (connection_status, has_client_secret, is_deleted) IS NOT DISTINCT FROM"
        " lag((connection_status, has_client_secret, is_deleted)) OVER (PARTITION BY credential_id ORDER BY as_of)"
        " AS is_repeat FROM monitoring.credential_snapshot) AS rows WHERE is_repeat"
    ).fetchone()
    conn.rollback()

    assert seen == ticks
    assert repeats == (0,)


def test_a_frame_without_its_columns_is_refused(conn: psycopg.Connection[Any]) -> None:
    with pytest.raises(FrameError, match="has_client_secret"):
        record_credential_changes(conn, frame(credential()).drop(columns="has_client_secret"), as_of=NOW)


def test_a_naive_time_is_refused(conn: psycopg.Connection[Any]) -> None:
    with pytest.raises(ValueError, match="naive"):
        record_credential_changes(conn, frame(credential()), as_of=NOW.replace(tzinfo=None))


def names(conn: psycopg.Connection[Any]) -> list[tuple[Any, ...]]:
    """Return the names as they were."""
    found = names_as_they_were(conn)
    assert str(found["since"].dtype) == "datetime64[us, UTC]"
    rows = found.itertuples(index=False, name=None)
    return [(each[0], None if pd.isna(each[1]) else each[1].to_pydatetime(), *each[2:]) for each in rows]


def test_names_are_told_by_their_changes_alone(conn: psycopg.Connection[Any]) -> None:
    """A new token is none, a disappearance is none, and a name that comes back is one."""
    for number, changes in enumerate(
        (
            {},
            {"token_expires_at": TOKEN_ENDS + TICK},
            {"company_name": "Bcme"},
            {"company_name": "Bcme", "connection_status": "error"},
            {"company_name": None},
            {},
        )
    ):
        rows = [credential(7, **changes), credential(8, company_id=None, environment=None)]
        record_credential_changes(conn, frame(*rows), as_of=NOW + number * TICK)
    record_credential_changes(conn, frame(credential(8, company_id=None, environment=None)), as_of=NOW + 9 * TICK)

    assert names(conn) == [
        ("7", None, "3", "Acme", "production"),
        ("7", NOW + 2 * TICK, "3", "Bcme", "production"),
        ("7", NOW + 4 * TICK, "3", None, "production"),
        ("7", NOW + 5 * TICK, "3", "Acme", "production"),
        ("8", None, None, "Acme", None),
    ]


def test_without_a_snapshot_there_is_no_name(conn: psycopg.Connection[Any]) -> None:
    """An empty frame with its columns."""
    assert names(conn) == []


@given(
    history=st.lists(st.tuples(st.sampled_from("78"), st.sampled_from([None, "A", "B"]), st.booleans()), max_size=12)
)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_names_hold_from_one_change_to_the_next(
    conn: psycopg.Connection[Any], history: list[tuple[str, str | None, bool]]
) -> None:
    """As a walk through the rows in order would find them."""
    conn.execute("TRUNCATE monitoring.credential_snapshot")
    expected: dict[str, list[tuple[Any, ...]]] = {"7": [], "8": []}
    for number, (credential_id, name, is_deleted) in enumerate(history):
        at = NOW + number * TICK
        conn.execute(
            "INSERT INTO monitoring.credential_snapshot (credential_id, as_of, company_name, has_client_id,"
            " has_client_secret, is_deleted) VALUES (%s, %s, %s, true, true, %s)",
            (credential_id, at, name, is_deleted),
        )
        of_it = expected[credential_id]
        if not of_it or of_it[-1][3] != name:
            of_it.append((credential_id, at if of_it else None, None, name, None))
    assert names(conn) == expected["7"] + expected["8"]

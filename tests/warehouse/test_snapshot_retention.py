"""What may go of the credentials' past, and what must stay for what is remembered of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

import pandas as pd
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from include.warehouse import retention
from include.warehouse.migration import upgrade
from include.warehouse.monitoring_session import connect
from include.warehouse.snapshots import credential_memory, names_as_they_were
from tests.warehouse.monitoring_records import MINUTE, NOW

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
CUTOFF = NOW - 90 * DAY
MIDNIGHT = CUTOFF.replace(hour=0) - 10 * DAY


@pytest.fixture
def conn(make_database: Callable[..., str]) -> Iterator[psycopg.Connection[Any]]:
    """A session with a migrated database."""
    dsn = make_database("retention")
    upgrade(dsn)
    with connect(dsn) as conn:
        yield conn


def snapshot(as_of: datetime, **changes: Any) -> dict[str, Any]:
    """Return one snapshot of credential 7, whose token lasts 15 minutes."""
    values = {
        "credential_id": "7",
        "as_of": as_of,
        "company_id": "3",
        "company_name": "Acme",
        "environment": "production",
        "connection_status": "active",
        "token_expires_at": as_of + 15 * MINUTE,
        "has_client_id": True,
        "has_client_secret": True,
        "is_deleted": False,
    }
    return values | changes


def keep(conn: psycopg.Connection[Any], *rows: dict[str, Any]) -> None:
    """Store these snapshots and no others."""
    conn.execute("TRUNCATE monitoring.credential_snapshot")
    columns = list(snapshot(NOW))
    with conn.cursor() as cursor:
        cursor.executemany(
            f"INSERT INTO monitoring.credential_snapshot ({', '.join(columns)})"
            f" VALUES ({', '.join(f'%({name})s' for name in columns)})",
            rows,
        )
    conn.commit()


def times(conn: psycopg.Connection[Any]) -> list[datetime]:
    """Return when the snapshots that are left were made."""
    rows = conn.execute("SELECT as_of FROM monitoring.credential_snapshot ORDER BY credential_id, as_of").fetchall()
    conn.commit()
    return [as_of for (as_of,) in rows]


def memory(conn: psycopg.Connection[Any], as_of: datetime) -> pd.DataFrame:
    """Return what is remembered of the credentials at an instant."""
    found = credential_memory(conn, as_of=as_of)
    conn.commit()
    return found


def names(conn: psycopg.Connection[Any]) -> pd.DataFrame:
    """Return what the credentials' companies were called, and since when."""
    found = names_as_they_were(conn)
    conn.commit()
    return found


def test_the_snapshot_that_holds_at_the_cutoff_stays_with_all_later_ones(conn: psycopg.Connection[Any]) -> None:
    """A row holds until the next one; the first of all stays too."""
    first, kept = CUTOFF - 4 * DAY, [CUTOFF - DAY, CUTOFF + DAY, NOW]
    keep(conn, *(snapshot(at, token_expires_at=None) for at in (first, CUTOFF - 3 * DAY, CUTOFF - 2 * DAY, *kept)))

    assert retention.delete_snapshots(conn, before=CUTOFF) == 2
    assert times(conn) == [first, *kept]


def test_a_credential_that_has_not_changed_for_years_stays_known(conn: psycopg.Connection[Any]) -> None:
    """Its newest snapshot is its present."""
    keep(conn, snapshot(CUTOFF - 900 * DAY), snapshot(CUTOFF - 800 * DAY, credential_id="8", is_deleted=True))

    assert retention.delete_snapshots(conn, before=CUTOFF) == 0


def test_where_an_error_began_and_the_longest_lifetime_stay(conn: psycopg.Connection[Any]) -> None:
    """What the memory of a credential rests on."""
    first, longest, calm, began, later, held = (CUTOFF - days * DAY for days in (60, 50, 40, 30, 20, 10))
    keep(
        conn,
        snapshot(first),
        snapshot(CUTOFF - 55 * DAY),
        snapshot(longest, token_expires_at=longest + 400 * DAY),
        snapshot(CUTOFF - 45 * DAY),
        snapshot(calm),
        snapshot(began, connection_status="error"),
        snapshot(later, connection_status="error"),
        snapshot(held, connection_status="error"),
    )
    before = memory(conn, NOW)

    assert retention.delete_snapshots(conn, before=CUTOFF) == 3
    assert times(conn) == [first, longest, calm, began, held]
    pd.testing.assert_frame_equal(memory(conn, NOW), before)
    assert before["error_since"].tolist() == [pd.Timestamp(began)]
    assert before["is_error_from_start"].tolist() == [False]


def test_an_error_begins_with_the_return_of_a_credential_that_was_gone(conn: psycopg.Connection[Any]) -> None:
    """The row of its disappearance has the last known status, and yet it ends the series."""
    gone, returned, held = (CUTOFF - days * DAY for days in (30, 20, 10))
    keep(
        conn,
        snapshot(CUTOFF - 60 * DAY),
        snapshot(CUTOFF - 40 * DAY, connection_status="error"),
        snapshot(gone, connection_status="error", is_deleted=True),
        snapshot(returned, connection_status="error", token_expires_at=None),
        snapshot(held, connection_status="error"),
    )
    before = memory(conn, NOW)

    retention.delete_snapshots(conn, before=CUTOFF)

    assert times(conn)[-3:] == [gone, returned, held]
    pd.testing.assert_frame_equal(memory(conn, NOW), before)


@pytest.mark.parametrize(
    ("changes", "kept"),
    [
        pytest.param([{}, {}, {}, {}], [0, 3], id="no change: the first, and the one that holds"),
        pytest.param([{}, {"company_name": "Bcme"}, {}, {}], [0, 1, 3], id="a company with a new name"),
        pytest.param([{}, {}, {"company_id": "4"}, {}], [0, 2, 3], id="a credential that went to another company"),
        pytest.param([{}, {"environment": "integration"}, {}, {}], [0, 1, 3], id="a credential of another environment"),
        pytest.param(
            [{}, {"company_name": None}, {"company_name": "Acme"}, {}], [0, 1, 2, 3], id="a name that came back"
        ),
        pytest.param([{"company_name": None}, {"company_name": "Acme"}, {}, {}], [0, 1, 3], id="no name at first"),
        pytest.param([{}, {"connection_status": "inactive"}, {}, {}], [0, 3], id="a change of something else"),
    ],
)
def test_where_a_name_changed_stays(
    conn: psycopg.Connection[Any], changes: list[dict[str, Any]], kept: list[int]
) -> None:
    """Each change lasts until the next; days of long ago are computed anew with the name that they had."""
    state: dict[str, Any] = {"token_expires_at": None}
    rows = []
    for place, change in enumerate(changes):
        state |= change
        rows.append(snapshot(CUTOFF - (40 - place) * DAY, **state))
    keep(conn, *rows)
    before = names(conn)

    retention.delete_snapshots(conn, before=CUTOFF)

    assert times(conn) == [rows[place]["as_of"] for place in kept]
    pd.testing.assert_frame_equal(names(conn), before)


STEPS_BETWEEN = st.sampled_from((MINUTE, 20 * MINUTE, 9 * HOUR, 15 * HOUR, 3 * DAY))
CHANGES = st.fixed_dictionaries(
    {},
    optional={
        "connection_status": st.sampled_from(("active", "error", "inactive")),
        "is_deleted": st.sampled_from((False, False, False, True)),
        "lifetime": st.sampled_from((None, 15 * MINUTE, 23 * HOUR, 24 * HOUR, 90 * DAY)),
        "company_id": st.sampled_from(("3", None)),
        "company_name": st.sampled_from(("Acme", "Bcme", None)),
        "environment": st.sampled_from(("production", "integration", None)),
    },
)


@st.composite
def histories(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Snapshots of two credentials, around the cutoff."""
    rows = []
    for credential in ("7", "8"):
        at = CUTOFF - draw(st.integers(0, 12)) * DAY - draw(st.integers(0, 20)) * HOUR
        state: dict[str, Any] = {}
        lifetime: timedelta | None = 15 * MINUTE
        for changes in draw(st.lists(CHANGES, max_size=14)):
            lifetime = changes.pop("lifetime", lifetime)
            state = {**state, **changes}
            expires_at = None if lifetime is None else at + lifetime
            rows.append(snapshot(at, credential_id=credential, token_expires_at=expires_at, **state))
            at += draw(STEPS_BETWEEN)
    return rows


ON_ONE_DATABASE = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@ON_ONE_DATABASE
@given(rows=histories())
def test_deleting_old_snapshots_changes_no_memory_from_the_cutoff_on(
    conn: psycopg.Connection[Any], rows: list[dict[str, Any]]
) -> None:
    """At the cutoff, and at every later change."""
    keep(conn, *rows)
    moments = {CUTOFF, NOW, *(row["as_of"] for row in rows if row["as_of"] > CUTOFF)}
    before = {moment: memory(conn, moment) for moment in moments}

    deleted = retention.delete_snapshots(conn, before=CUTOFF)

    for moment in moments:
        pd.testing.assert_frame_equal(memory(conn, moment), before[moment])
    older: dict[str, int] = {}
    for (credential,) in conn.execute(
        "SELECT credential_id FROM monitoring.credential_snapshot WHERE as_of <= %s", (CUTOFF,)
    ).fetchall():
        older[credential] = older.get(credential, 0) + 1
    conn.commit()
    # The one that holds, the error's first, the calm before it, the longest lifetime, the first, and where the
    # name changed: no more of a credential's past.
    renamed = names(conn)["credential_id"].value_counts()
    assert all(number <= 4 + renamed[credential] for credential, number in older.items())
    assert deleted == len(rows) - len(times(conn))
    assert retention.delete_snapshots(conn, before=CUTOFF) == 0


@ON_ONE_DATABASE
@given(rows=histories(), step=st.sampled_from((retention.delete_snapshots, retention.thin_token_detail)))
def test_no_name_of_any_day_changes_with_what_goes(
    conn: psycopg.Connection[Any],
    rows: list[dict[str, Any]],
    step: Callable[..., int],
) -> None:
    """However often each of the two goes through: the past of names is kept whole."""
    keep(conn, *rows)
    before = names(conn)

    for cutoff in (CUTOFF - 5 * DAY, CUTOFF, NOW):
        step(conn, before=cutoff)
        pd.testing.assert_frame_equal(names(conn), before)


@ON_ONE_DATABASE
@given(rows=histories())
def test_thinning_the_detail_of_tokens_changes_nothing_but_the_detail(
    conn: psycopg.Connection[Any], rows: list[dict[str, Any]]
) -> None:
    """Of every instant the memory but for the token's expiry, and of the present all of it."""
    keep(conn, *rows)
    moments = {NOW, *(row["as_of"] for row in rows)}
    before = {moment: memory(conn, moment) for moment in moments}

    retention.thin_token_detail(conn, before=CUTOFF)

    pd.testing.assert_frame_equal(memory(conn, NOW), before[NOW])
    coarse = ["token_expires_at", "token_lifetime"]
    for moment in moments:
        pd.testing.assert_frame_equal(memory(conn, moment).drop(columns=coarse), before[moment].drop(columns=coarse))
    assert retention.thin_token_detail(conn, before=CUTOFF) == 0


def test_a_token_refreshed_every_quarter_of_an_hour_leaves_one_snapshot_a_day(conn: psycopg.Connection[Any]) -> None:
    """The first of each day, of UTC."""
    refreshed = [MIDNIGHT + number * 15 * MINUTE for number in range(3 * 96)]
    keep(conn, *(snapshot(at) for at in refreshed), snapshot(NOW))

    retention.thin_token_detail(conn, before=CUTOFF)

    # The very first differs from nothing, and has the longest lifetime of those that are alike.
    assert times(conn) == [MIDNIGHT, MIDNIGHT + 15 * MINUTE, MIDNIGHT + DAY, MIDNIGHT + 2 * DAY, NOW]


@pytest.mark.parametrize(
    ("second", "is_kept"),
    [
        pytest.param({}, False, id="a short-lived token that was refreshed"),
        pytest.param({"token_expires_at": MIDNIGHT + 2 * HOUR + DAY}, True, id="exactly 24 hours left is long-lived"),
        pytest.param({"token_expires_at": MIDNIGHT + 26 * HOUR - MINUTE}, False, id="a minute less is not"),
        pytest.param({"token_expires_at": None}, True, id="a token that went"),
        pytest.param({"connection_status": "error"}, True, id="a change of more than the token"),
        pytest.param({"company_name": None}, True, id="a name that went"),
    ],
)
def test_what_counts_as_detail(conn: psycopg.Connection[Any], second: dict[str, Any], is_kept: bool) -> None:
    """Two snapshots of a day that differ from the one before; the longest lifetime lies on another day."""
    first, then = MIDNIGHT + HOUR, MIDNIGHT + 2 * HOUR
    longest = snapshot(MIDNIGHT - DAY, token_expires_at=MIDNIGHT + 90 * DAY)
    keep(conn, longest, snapshot(first), snapshot(then, **second), snapshot(NOW))

    retention.thin_token_detail(conn, before=CUTOFF)

    assert (then in times(conn)) == is_kept


def test_recent_detail_stays(conn: psycopg.Connection[Any]) -> None:
    """Exactly at the cutoff is recent."""
    detail = [CUTOFF + number * MINUTE for number in range(3)]
    keep(conn, *(snapshot(at) for at in detail), snapshot(NOW))

    assert retention.thin_token_detail(conn, before=CUTOFF) == 0


def test_all_credentials_are_reached(conn: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """More than are looked at in one transaction."""
    monkeypatch.setattr(retention, "CREDENTIALS_AT_A_TIME", 2)
    keep(
        conn,
        *(
            snapshot(at, credential_id=str(number), token_expires_at=None)
            for number in range(5)
            for at in (CUTOFF - 3 * DAY, CUTOFF - 2 * DAY, CUTOFF - DAY)
        ),
    )

    assert retention.delete_snapshots(conn, before=CUTOFF) == 5

"""What is old goes, and what something still rests on stays."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pandas as pd
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from include.sync_health.alerts import Alert, AlertState, SilentReason
from include.warehouse import retention
from include.warehouse.alert_store import save_step
from include.warehouse.check_runs import CheckRun, last_seen_run, newest_start_seen, record_check_run
from include.warehouse.migration import upgrade
from include.warehouse.monitoring_session import connect
from include.warehouse.outbox import lease_next, mark_dead, mark_sent
from include.warehouse.snapshots import credential_memory
from tests.warehouse.monitoring_records import MINUTE, NOW, OPS, alert, delivery, event

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


def check_run(computed_at: datetime, **changes: Any) -> CheckRun:
    """Return a live run that saw the source."""
    values: dict[str, Any] = {
        "check": "sync_failures",
        "window_from": computed_at - 15 * MINUTE,
        "window_to": computed_at,
        "mode": "live",
        "filters": {},
        "status": "seen",
        "computed_at": computed_at,
        **changes,
    }
    return CheckRun.of(**values)


def record(conn: psycopg.Connection[Any], *runs: CheckRun) -> None:
    """Record runs."""
    for run in runs:
        record_check_run(conn, run)
    conn.commit()


def count(conn: psycopg.Connection[Any], table: str) -> int:
    """Return how many rows a table has."""
    (number,) = conn.execute(f"SELECT count(*) FROM monitoring.{table}").fetchone() or (0,)
    conn.commit()
    return int(number)


def test_old_check_runs_go_and_recent_ones_stay(conn: psycopg.Connection[Any]) -> None:
    """By when they were computed: a backfill of long ago that was made yesterday is recent."""
    record(
        conn,
        check_run(CUTOFF - MINUTE),
        check_run(CUTOFF),
        check_run(NOW),
        check_run(NOW, window_from=CUTOFF - 400 * DAY, window_to=CUTOFF - 399 * DAY, mode="historical"),
    )

    assert retention.delete_check_runs(conn, before=CUTOFF) == 1
    assert (count(conn, "check_run"), retention.delete_check_runs(conn, before=CUTOFF)) == (3, 0)


def test_what_the_next_run_remembers_by_stays_however_old(conn: psycopg.Connection[Any]) -> None:
    """The newest live run that saw the source, and the newest that knew a newest start, of each check."""
    seen = check_run(CUTOFF - 3 * DAY, open_sync_ids=("5",))
    knew = check_run(CUTOFF - 2 * DAY, status="blind", error_cause="x", newest_started_at=CUTOFF - 4 * DAY)
    other = check_run(CUTOFF - 9 * DAY, check="data_quality")
    gone = [
        check_run(CUTOFF - 4 * DAY),
        check_run(CUTOFF - DAY, status="blind", error_cause="x"),
        check_run(CUTOFF - DAY, mode="historical"),
        check_run(CUTOFF - DAY, filters={"credentials": "7"}),
    ]
    record(conn, seen, knew, other, *gone)

    assert retention.delete_check_runs(conn, before=CUTOFF) == len(gone)
    assert last_seen_run(conn, check="sync_failures") == seen
    assert last_seen_run(conn, check="data_quality") == other
    sight = newest_start_seen(conn, check="sync_failures", before=NOW)
    assert sight is not None
    assert sight.newest_started_at == knew.newest_started_at


def test_batches_commit_as_they_go(conn: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """More than one batch, and exactly two of them."""
    monkeypatch.setattr(retention, "BATCH", 2)
    record(conn, check_run(NOW), *(check_run(CUTOFF - number * MINUTE) for number in range(1, 5)))

    assert retention.delete_check_runs(conn, before=CUTOFF) == 4
    conn.rollback()
    assert count(conn, "check_run") == 1


OVER = alert("1", state=AlertState.INACTIVE, episode_id=None, opened_at=None, closed_at=CUTOFF)
FOLLOWED = alert("2")


def told(conn: psycopg.Connection[Any], key: str, of: Alert, *, at: datetime, end: str) -> None:
    """Put a delivery into the outbox, and bring it to its end at an instant."""
    silent = {"reason": None, "silent": SilentReason.SHADOW} if end == "not_sent" else {}
    put = delivery(key, of, as_of=at, **silent)
    save_step(conn, alerts=[OVER, FOLLOWED], events=[], deliveries=[put], now=at)
    conn.commit()
    if end in ("sent", "dead", "leased"):
        leased = lease_next(conn, channel=OPS, owner="worker", now=at, lease_for=MINUTE)
        assert leased is not None
        if end == "sent":
            mark_sent(conn, leased.id, owner="worker", now=at, receipt={"ts": "1"})
        elif end == "dead":
            mark_dead(conn, leased.id, owner="worker", now=at, error="channel_not_found")
        conn.commit()


@pytest.mark.parametrize(
    ("of", "age", "end", "is_kept"),
    [
        pytest.param(OVER, DAY, "sent", False, id="sent long ago goes"),
        pytest.param(OVER, DAY, "dead", False, id="given up long ago goes"),
        pytest.param(OVER, DAY, "not_sent", False, id="never sent goes"),
        pytest.param(OVER, DAY, "pending", True, id="still to be sent stays"),
        pytest.param(OVER, DAY, "leased", True, id="being sent stays"),
        pytest.param(OVER, timedelta(0), "sent", True, id="sent recently stays"),
        pytest.param(
            FOLLOWED, DAY, "sent", True, id="of an alert that is still open stays: its close is threaded there"
        ),
    ],
)
def test_deliveries(conn: psycopg.Connection[Any], of: Alert, age: timedelta, end: str, is_kept: bool) -> None:
    """Only what is finished and over."""
    told(conn, "key", of, at=CUTOFF - age, end=end)

    assert retention.delete_deliveries(conn, before=CUTOFF) == (0 if is_kept else 1)
    assert count(conn, "delivery") == (1 if is_kept else 0)


def test_events_go_but_those_of_an_episode_that_lasts(conn: psycopg.Connection[Any]) -> None:
    """The history of an open alert is whole."""
    earlier = replace(FOLLOWED, episode_id=alert("3").episode_id)
    long_ago = CUTOFF - DAY
    events = [
        event(alert("1"), as_of=long_ago),
        event(FOLLOWED, as_of=long_ago),
        event(earlier, as_of=long_ago - DAY),
        event(alert("1"), as_of=CUTOFF),
    ]
    save_step(conn, alerts=[OVER, FOLLOWED], events=events, deliveries=[], now=long_ago)
    conn.commit()

    assert retention.delete_alert_events(conn, before=CUTOFF) == 2
    kept = conn.execute("SELECT fingerprint, as_of FROM monitoring.alert_event").fetchall()
    assert set(kept) == {(OVER.fingerprint, CUTOFF), (FOLLOWED.fingerprint, long_ago)}


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


def test_the_snapshot_that_holds_at_the_cutoff_stays_with_all_later_ones(conn: psycopg.Connection[Any]) -> None:
    """A row holds until the next one."""
    kept = [CUTOFF - DAY, CUTOFF + DAY, NOW]
    keep(conn, *(snapshot(at, token_expires_at=None) for at in (CUTOFF - 3 * DAY, CUTOFF - 2 * DAY, *kept)))

    assert retention.delete_snapshots(conn, before=CUTOFF) == 2
    assert times(conn) == kept


def test_a_credential_that_has_not_changed_for_years_stays_known(conn: psycopg.Connection[Any]) -> None:
    """Its newest snapshot is its present."""
    keep(conn, snapshot(CUTOFF - 900 * DAY), snapshot(CUTOFF - 800 * DAY, credential_id="8", is_deleted=True))

    assert retention.delete_snapshots(conn, before=CUTOFF) == 0


def test_where_an_error_began_and_the_longest_lifetime_stay(conn: psycopg.Connection[Any]) -> None:
    """What the memory of a credential rests on."""
    longest, calm, began, later, held = (CUTOFF - days * DAY for days in (50, 40, 30, 20, 10))
    keep(
        conn,
        snapshot(CUTOFF - 60 * DAY),
        snapshot(longest, token_expires_at=longest + 400 * DAY),
        snapshot(CUTOFF - 45 * DAY),
        snapshot(calm),
        snapshot(began, connection_status="error"),
        snapshot(later, connection_status="error"),
        snapshot(held, connection_status="error"),
    )
    before = memory(conn, NOW)

    assert retention.delete_snapshots(conn, before=CUTOFF) == 3
    assert times(conn) == [longest, calm, began, held]
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


STEPS_BETWEEN = st.sampled_from((MINUTE, 20 * MINUTE, 9 * HOUR, 15 * HOUR, 3 * DAY))
CHANGES = st.fixed_dictionaries(
    {},
    optional={
        "connection_status": st.sampled_from(("active", "error", "inactive")),
        "is_deleted": st.sampled_from((False, False, False, True)),
        "lifetime": st.sampled_from((None, 15 * MINUTE, 23 * HOUR, 24 * HOUR, 90 * DAY)),
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
    # The one that holds, the error's first, the calm before it, the longest lifetime: no more of a credential's past.
    assert all(number <= 4 for number in older.values())
    assert deleted == len(rows) - len(times(conn))
    assert retention.delete_snapshots(conn, before=CUTOFF) == 0


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
            for at in (CUTOFF - 2 * DAY, CUTOFF - DAY)
        ),
    )

    assert retention.delete_snapshots(conn, before=CUTOFF) == 5


@pytest.mark.parametrize(
    "delete",
    [
        retention.delete_check_runs,
        retention.delete_deliveries,
        retention.delete_alert_events,
        retention.delete_snapshots,
        retention.thin_token_detail,
    ],
    ids=lambda delete: delete.__name__,
)
def test_a_naive_time_is_refused(conn: psycopg.Connection[Any], delete: Callable[..., int]) -> None:
    """It would be read in the session's zone."""
    with pytest.raises(ValueError, match="naive"):
        delete(conn, before=CUTOFF.replace(tzinfo=None))

"""The figures of credentials: as the newest snapshots show them, against plain Python."""

from __future__ import annotations

import random
from collections import Counter
from datetime import date, datetime, timedelta
from typing import Any

import pandas as pd
import psycopg
import pytest

from include.sync_health.rule_policies import TokenExpiryPolicy
from include.warehouse.credential_figures import (
    LAST_SUCCESS_COLUMNS,
    CredentialCounts,
    credential_counts,
    last_successes,
)
from tests.sync_health.stored_quality_days import day_row, days_frame
from tests.warehouse.figure_rows import (
    DAY,
    HOUR,
    NOW,
    START,
    analyze,
    rows_touched,
    store_counter,
    store_snapshot,
)
from tests.warehouse.stored_history import store_days

MINUTE, INSTANT = timedelta(minutes=1), timedelta(microseconds=1)
LONG = NOW - 40 * DAY
"""When a token that lives for weeks was first seen."""


def counts(conn: psycopg.Connection[Any], **options: Any) -> CredentialCounts:
    return credential_counts(conn, **{"as_of": NOW, **options})


def test_credentials_count_by_their_newest_status(conn: psycopg.Connection[Any]) -> None:
    """Upstream has two words for active; one that is gone counts nowhere, one that came back does."""
    for credential, status in enumerate(["active", "connected", "error", "inactive", "pending", None]):
        store_snapshot(conn, str(credential), START, connection_status="error")
        store_snapshot(conn, str(credential), START + DAY, connection_status=status)
    store_snapshot(conn, "8", START)
    store_snapshot(conn, "8", START + DAY, is_deleted=True)
    store_snapshot(conn, "9", START, is_deleted=True)
    store_snapshot(conn, "9", START + 2 * DAY, environment="integration")
    store_snapshot(conn, "10", NOW + MINUTE, connection_status="error")

    found = counts(conn)

    assert (found.total, found.active, found.connection_errors) == (7, 3, 1)
    assert found.by_status == {"active": 2, "connected": 1, "error": 1, "inactive": 1, "pending": 1, "unknown": 1}
    assert found.seen_at == START + 2 * DAY
    assert counts(conn, environment="integration").by_status == {"active": 1}
    assert counts(conn, as_of=START).by_status == {"active": 1, "error": 6}


@pytest.mark.parametrize(
    ("left", "expiring", "expired"),
    [
        pytest.param(7 * DAY, 1, 0, id="exactly seven days are within seven days"),
        pytest.param(7 * DAY + INSTANT, 0, 0, id="more are not"),
        pytest.param(INSTANT, 1, 0, id="an instant before its end it is expiring"),
        pytest.param(timedelta(0), 0, 1, id="at its end it has expired"),
        pytest.param(-30 * DAY, 0, 1, id="and long after it, too"),
        pytest.param(None, 0, 0, id="no token is neither"),
    ],
)
def test_a_token_counts_by_what_is_left_of_it(
    conn: psycopg.Connection[Any], left: timedelta | None, expiring: int, expired: int
) -> None:
    """Literally, and as one that is long-lived: it was seen with more than a day left."""
    store_snapshot(conn, "1", LONG, token_expires_at=None if left is None else NOW + left)
    found = counts(conn)
    assert (found.expiring, found.expired) == (expiring, expired)
    assert (found.expiring_long_lived, found.expired_long_lived) == (expiring, expired)


@pytest.mark.parametrize(
    ("past", "now", "is_long_lived"),
    [
        pytest.param([], {}, False, id="a token of fifteen minutes is not"),
        pytest.param([(9 * DAY, DAY)], {}, True, id="one that was once seen with a day left is"),
        pytest.param([(9 * DAY, DAY - INSTANT)], {}, False, id="with less it is not"),
        pytest.param([(-HOUR, 9 * DAY)], {}, False, id="what a later snapshot shows is not known yet"),
        pytest.param([(9 * DAY, DAY)], {"connection_status": "error"}, True, id="one in error is watched"),
        pytest.param([(9 * DAY, DAY)], {"connection_status": "inactive"}, False, id="one that is not in use is not"),
        pytest.param([(9 * DAY, DAY)], {"has_client_id": False}, False, id="nor one without a client id"),
        pytest.param([(9 * DAY, DAY)], {"has_client_secret": False}, False, id="nor one without a secret"),
        pytest.param([(-HOUR, 9 * DAY), (9 * DAY, DAY)], {}, True, id="the longest of several proves it"),
    ],
)
def test_a_token_is_long_lived_when_a_snapshot_proves_it(
    conn: psycopg.Connection[Any], past: list[tuple[timedelta, timedelta]], now: dict[str, Any], is_long_lived: bool
) -> None:
    """Each past snapshot: how long ago, and what was left then. The literal count has it in any case."""
    for ago, left in past:
        store_snapshot(conn, "1", NOW - ago, token_expires_at=NOW - ago + left)
    store_snapshot(conn, "1", NOW - MINUTE, token_expires_at=NOW + 15 * MINUTE, **now)
    found = counts(conn)
    assert (found.expiring, found.expiring_long_lived) == (1, int(is_long_lived))


def test_the_limits_are_the_policys(conn: psycopg.Connection[Any]) -> None:
    store_snapshot(conn, "1", NOW - HOUR, token_expires_at=NOW + 9 * DAY, connection_status="pending")
    assert counts(conn).expiring == 0
    wide = TokenExpiryPolicy(within=10 * DAY)
    assert counts(conn, policy=wide).expiring == 1
    assert counts(conn, policy=wide).expiring_long_lived == 0
    assert counts(conn, policy=wide, monitored=["pending"]).expiring_long_lived == 1
    longer = TokenExpiryPolicy(within=10 * DAY, long_lived_from=30 * DAY)
    assert counts(conn, policy=longer, monitored=["pending"]).expiring_long_lived == 0


@pytest.mark.parametrize("seed", range(4))
def test_counts_are_what_plain_python_says(conn: psycopg.Connection[Any], seed: int) -> None:
    """Over random histories."""
    chance = random.Random(seed)  # noqa: S311 -- made-up data
    history: dict[str, list[dict[str, Any]]] = {}
    for credential in map(str, range(30)):
        for at in sorted({NOW - chance.uniform(-1, 30) * DAY for _ in range(chance.randint(1, 5))}):
            row = {
                "as_of": at,
                "environment": chance.choice(["production", "integration"]),
                "connection_status": chance.choice(["active", "error", "inactive", None]),
                "token_expires_at": chance.choice(
                    [None, at + 15 * MINUTE, at + 3 * DAY, NOW + 5 * DAY, NOW + 30 * DAY]
                ),
                "has_client_secret": chance.random() < 0.8,
                "is_deleted": chance.random() < 0.1,
            }
            history.setdefault(credential, []).append(row)
            store_snapshot(conn, credential, **row)

    seen = {credential: [row for row in rows if row["as_of"] <= NOW] for credential, rows in history.items()}
    newest = {credential: rows[-1] for credential, rows in seen.items() if rows and not rows[-1]["is_deleted"]}
    for environment in (None, "production"):
        mine = {name: row for name, row in newest.items() if environment in (None, row["environment"])}
        long_lived = {
            name
            for name, row in mine.items()
            if row["has_client_secret"]
            and row["connection_status"] in ("active", "error")
            and any(each["token_expires_at"] and each["token_expires_at"] - each["as_of"] >= DAY for each in seen[name])
        }
        expiring = {
            n for n, r in mine.items() if r["token_expires_at"] and NOW < r["token_expires_at"] <= NOW + 7 * DAY
        }
        expired = {n for n, r in mine.items() if r["token_expires_at"] and r["token_expires_at"] <= NOW}
        statuses = Counter(row["connection_status"] or "unknown" for row in mine.values())
        found = counts(conn, environment=environment)
        assert found == CredentialCounts(
            total=len(mine),
            active=statuses["active"],
            connection_errors=statuses["error"],
            by_status=dict(statuses),
            expiring=len(expiring),
            expiring_long_lived=len(expiring & long_lived),
            expired=len(expired),
            expired_long_lived=len(expired & long_lived),
            seen_at=max(row["as_of"] for row in mine.values()),
        )
        assert len(mine) > 5
        assert expired


def test_without_a_credential_there_is_none(conn: psycopg.Connection[Any]) -> None:
    assert counts(conn) == CredentialCounts()
    assert counts(conn).seen_at is None
    found = last_successes(conn, as_of=NOW, timezone="UTC")
    assert found.empty
    assert tuple(found) == LAST_SUCCESS_COLUMNS
    with pytest.raises(ValueError, match="aware"):
        counts(conn, as_of=NOW.replace(tzinfo=None))


def success(conn: psycopg.Connection[Any], credential: str = "1", **options: Any) -> tuple[Any, Any, str]:
    """Return instant, day and source of a credential's last success."""
    found = (
        last_successes(conn, **{"as_of": NOW, "timezone": "UTC", **options}).set_index("credential_id").loc[credential]
    )
    at = None if pd.isna(found["last_success_at"]) else found["last_success_at"].to_pydatetime()
    return at, found["last_success_day"], found["source"]


LATE = datetime.fromisoformat("2026-03-20T23:30:00.123456+00:00")


def test_a_last_success_is_exact_where_it_was_counted(conn: psycopg.Connection[Any]) -> None:
    """The newest of all data types; started and failed syncs are none. Its day is that of the reporting zone."""
    store_snapshot(conn, "1", START)
    assert success(conn) == (None, None, "none")
    store_counter(conn, "1", LATE, data_type="customers")
    store_counter(conn, "1", LATE - HOUR)
    store_counter(conn, "1", LATE + HOUR, status="failed")
    store_counter(conn, "1", LATE + HOUR, status="started")
    assert success(conn) == (LATE, date(2026, 3, 20), "sync_counter")
    assert success(conn, timezone="Europe/Berlin") == (LATE, date(2026, 3, 21), "sync_counter")


def test_what_was_never_counted_is_known_by_its_day(conn: psycopg.Connection[Any]) -> None:
    """And so is a later day than the counters know of; a day without a completed sync tells nothing."""
    store_snapshot(conn, "1", START)
    idle = {"syncs_completed": 0, "syncs_clean": 0, "syncs_partial": 0, "timed": 0}
    daily = [day_row(date(2026, 3, 20), credential="1"), day_row(date(2026, 3, 22), credential="1", **idle)]
    store_days(conn, days_frame(*daily, day_row(date(2026, 3, 23), credential="2")))
    assert success(conn) == (None, date(2026, 3, 20), "quality_daily")
    store_counter(conn, "1", LATE - 7 * DAY)
    assert success(conn) == (None, date(2026, 3, 20), "quality_daily")
    store_counter(conn, "1", LATE, data_type="both")
    assert success(conn) == (LATE, date(2026, 3, 20), "sync_counter")


def test_those_without_success_come_first_and_then_the_longest_ago(conn: psycopg.Connection[Any]) -> None:
    for credential, environment in (("1", "production"), ("2", "integration"), ("3", "production"), ("4", None)):
        store_snapshot(conn, credential, START, environment=environment)
    store_snapshot(conn, "5", START, is_deleted=True)
    store_counter(conn, "1", LATE)
    store_counter(conn, "2", LATE - HOUR)
    store_days(conn, days_frame(day_row(date(2026, 3, 19), credential="4")))

    found = last_successes(conn, as_of=NOW, timezone="UTC")

    assert found["credential_id"].tolist() == ["3", "4", "2", "1"]
    assert found["environment"].tolist() == ["production", "unknown", "integration", "production"]
    assert found["company_name"].tolist() == ["Company 3", "Company 4", "Company 2", "Company 1"]
    alone = last_successes(conn, as_of=NOW, timezone="UTC", environment="unknown")
    assert alone["credential_id"].tolist() == ["4"]


def test_the_cost_follows_the_credentials_and_not_their_history(conn: psycopg.Connection[Any]) -> None:
    """Ten credentials with 2000 snapshots each: one row is read of each, and one more that proves a long life."""
    snapshots_every_hour(conn, lifetime=timedelta(days=60))
    assert counts(conn).expiring_long_lived == 10
    assert rows_touched(conn, counts)["credential_snapshot"] <= 2 * (10 + 1) + 10
    touched = rows_touched(conn, lambda watched: last_successes(watched, as_of=NOW, timezone="UTC"))
    assert touched["credential_snapshot"] <= 2 * (10 + 1)


def test_of_tokens_that_never_lived_long_the_past_is_not_looked_at(conn: psycopg.Connection[Any]) -> None:
    """As ServiceTitan's own are, of which there is a snapshot every quarter of an hour."""
    snapshots_every_hour(conn, lifetime=timedelta(minutes=15))
    found = counts(conn)
    assert (found.expired, found.expired_long_lived) == (10, 0)
    assert rows_touched(conn, counts)["credential_snapshot"] <= 2 * (10 + 1)


def snapshots_every_hour(conn: psycopg.Connection[Any], *, lifetime: timedelta) -> None:
    """Store 2000 snapshots of each of ten credentials, whose token always has so long left."""
    conn.execute(
        "INSERT INTO monitoring.credential_snapshot (credential_id, as_of, environment, connection_status, token_expires_at,"
        " has_client_id, has_client_secret, is_deleted)"
        " SELECT credential::text, at, 'production', 'active', at + %s, true, true, false"
        " FROM generate_series(1, 10) AS credential,"
        " generate_series(%s::timestamptz - interval '1999 hours', %s, interval '1 hour') AS at",
        (lifetime, NOW - 55 * DAY, NOW - 55 * DAY),
    )
    analyze(conn, "credential_snapshot")

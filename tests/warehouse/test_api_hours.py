"""Hours and counters of API calls in a real database: what is added, what is replaced, what is new."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Any

import pandas as pd
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from include.sync_health.api_calls import collapse, no_hours
from include.warehouse.api_hour_reader import read_hours
from include.warehouse.api_hours import add_calls, replace_hours
from include.warehouse.api_sources import ApiSource, lock_source, read_sources, record_source
from tests.sync_health.call_rows import CALLS, T0, Call, calls_frame, plain_histogram

NOW = T0 + timedelta(hours=4)
HOURS = [T0 + timedelta(hours=number) for number in range(3)]
NAMES = {"1": ("production", "10"), "2": ("integration", "20")}


def hours_of(calls: list[Call]) -> pd.DataFrame:
    """The calls by hour."""
    return collapse(calls_frame(calls))


def counters(conn: psycopg.Connection[Any], *, source: str) -> dict[tuple[Any, ...], tuple[Any, ...]]:
    """(requests, errors, rate limited, timed, histogram) by key."""
    rows = conn.execute(
        "SELECT credential_id, environment, company_id, endpoint, status_code, requests, errors, rate_limited,"
        " response_count, histogram FROM monitoring.api_counter WHERE source = %s",
        (source,),
    ).fetchall()
    return {row[:5]: (*row[5:9], row[9] or plain_histogram([])) for row in rows}


def plain_counters(calls: list[Call]) -> dict[tuple[Any, ...], tuple[Any, ...]]:
    """The same, counted one by one."""
    keys = {(each.credential, each.endpoint, each.status) for each in calls}
    found = {}
    for credential, endpoint, status in keys:
        mine = [
            each for each in calls if (each.credential, each.endpoint, each.status) == (credential, endpoint, status)
        ]
        times = [each.ms for each in mine if each.ms is not None]
        environment, company = NAMES.get(credential, ("unknown", ""))
        found[credential, environment, company, endpoint, status] = (
            len(mine),
            len(mine) * (status >= 400),
            len(mine) * (status == 429),
            len(times),
            plain_histogram(times),
        )
    return found


def buckets_of(*frames: pd.DataFrame) -> Counter[tuple[Any, ...]]:
    """How many calls are in each bucket of each key, whatever their hour."""
    found: Counter[tuple[Any, ...]] = Counter()
    for frame in frames:
        for *key, buckets in frame[["credential_id", "endpoint", "status_code", "buckets"]].to_numpy().tolist():
            found.update({(*key, bucket): number for bucket, number in buckets.items()})
    return found


def stored(conn: psycopg.Connection[Any], *, source: str) -> pd.DataFrame:
    """The stored hours without what the calls do not have."""
    found = read_hours(conn, first=T0, before=NOW, sources=[source])  # type: ignore[list-item]
    return found.drop(columns=["source", "environment", "company_id", "response_ms_sum"])


def same_hours(conn: psycopg.Connection[Any], calls: list[Call], *, source: str) -> None:
    """Assert that the stored hours are those of the calls."""
    wanted = hours_of(calls).drop(columns=["response_ms_sum"])
    found = stored(conn, source=source)
    found["histogram"] = pd.Series([each or plain_histogram([]) for each in found["histogram"]], dtype=object)
    pd.testing.assert_frame_equal(found, wanted, check_dtype=False)


@pytest.fixture
def emptied(conn: psycopg.Connection[Any]) -> psycopg.Connection[Any]:
    """A session whose examples begin with `empty`."""
    return conn


def empty(conn: psycopg.Connection[Any]) -> None:
    """Forget the example before."""
    conn.execute("TRUNCATE monitoring.api_call_hourly, monitoring.api_counter")


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(calls=st.lists(CALLS, max_size=30), cut=st.integers(0, 30))
def test_what_is_added_is_the_sum_of_all_reads(emptied: psycopg.Connection[Any], calls: list[Call], cut: int) -> None:
    """Hours and counters, wherever one read ends; and each read tells what it added."""
    empty(emptied)
    told = [
        add_calls(emptied, hours_of(part), source="log", names=NAMES, now=NOW) for part in (calls[:cut], calls[cut:])
    ]

    same_hours(emptied, calls, source="log")
    assert counters(emptied, source="log") == plain_counters(calls)
    assert sum(part["requests"].sum() for part in told) == len(calls)
    assert buckets_of(*told) == buckets_of(hours_of(calls))
    emptied.commit()


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(calls=st.lists(CALLS, max_size=30), seen=st.integers(0, 30))
def test_replaced_hours_count_each_call_once(emptied: psycopg.Connection[Any], calls: list[Call], seen: int) -> None:
    """The first read sees some of the calls, the second all of them: late ones count, the others not again."""
    empty(emptied)
    some = calls[:seen]
    first = replace_hours(emptied, hours_of(some), source="table", hours=HOURS, names=NAMES, now=NOW)
    second = replace_hours(emptied, hours_of(calls), source="table", hours=HOURS, names=NAMES, now=NOW)
    again = replace_hours(emptied, hours_of(calls), source="table", hours=HOURS, names=NAMES, now=NOW)

    same_hours(emptied, calls, source="table")
    assert counters(emptied, source="table") == plain_counters(calls)
    assert (first["requests"].sum(), second["requests"].sum()) == (len(some), len(calls) - len(some))
    assert again.empty
    emptied.commit()


def test_only_the_hours_that_were_read_are_replaced(conn: psycopg.Connection[Any]) -> None:
    """One read without calls is emptied, another is left alone; the counter stays, whatever goes."""
    calls = [Call(at=hour) for hour in HOURS]
    replace_hours(conn, hours_of(calls), source="table", hours=HOURS, names=NAMES, now=NOW)

    told = replace_hours(conn, no_hours(), source="table", hours=HOURS[:1], names=NAMES, now=NOW)

    same_hours(conn, calls[1:], source="table")
    assert counters(conn, source="table") == plain_counters(calls)
    assert told.empty


def test_a_call_outside_the_hours_that_were_read_is_refused(conn: psycopg.Connection[Any]) -> None:
    """It would be added to an hour that nobody read whole."""
    with pytest.raises(ValueError, match="not among the hours"):
        replace_hours(conn, hours_of([Call()]), source="table", hours=HOURS[1:], names=NAMES, now=NOW)


def test_a_credential_that_changed_its_company_counts_nothing_again(conn: psycopg.Connection[Any]) -> None:
    """The hours in which it was counted keep the name it had; the next ones have the new one."""
    before = [Call(at=HOURS[0])]
    replace_hours(conn, hours_of(before), source="table", hours=HOURS[:1], names=NAMES, now=NOW)

    both = [*before, Call(at=HOURS[1])]
    moved = {"1": ("production", "11")}
    told = replace_hours(conn, hours_of(both), source="table", hours=HOURS[:2], names=moved, now=NOW)

    assert list(told["company_id"]) == ["11"]
    assert {key[2]: value[0] for key, value in counters(conn, source="table").items()} == {"10": 1, "11": 1}
    found = read_hours(conn, first=T0, before=NOW)
    assert list(found["company_id"]) == ["10", "11"]


def test_sources_do_not_touch_each_other(conn: psycopg.Connection[Any]) -> None:
    """The same calls, told by two of them, stand beside each other."""
    calls = [Call(), Call(status=500)]
    add_calls(conn, hours_of(calls), source="log", names=NAMES, now=NOW)
    add_calls(conn, hours_of(calls), source="probe", names=NAMES, now=NOW)
    replace_hours(conn, no_hours(), source="table", hours=HOURS, names=NAMES, now=NOW)

    same_hours(conn, calls, source="log")
    same_hours(conn, calls, source="probe")
    assert counters(conn, source="log") == counters(conn, source="probe") == plain_counters(calls)


def test_nothing_is_kept_of_a_transaction_that_fails(conn: psycopg.Connection[Any]) -> None:
    """The caller commits, with the position that it has read up to."""
    add_calls(conn, hours_of([Call()]), source="log", names=NAMES, now=NOW)
    conn.rollback()

    assert counters(conn, source="log") == {}


def test_rows_of_one_key_are_added_up(conn: psycopg.Connection[Any]) -> None:
    """As a reader in chunks brings them."""
    parts = pd.concat([hours_of([Call(ms=10.0)]), hours_of([Call(ms=20.0)])], ignore_index=True)

    add_calls(conn, parts, source="log", names=NAMES, now=NOW)

    same_hours(conn, [Call(ms=10.0), Call(ms=20.0)], source="log")


def test_a_hundred_thousand_keys_at_once(conn: psycopg.Connection[Any]) -> None:
    """None is lost, and the second time doubles each."""
    calls = [Call(credential=str(number), ms=float(number % 9_000)) for number in range(100_000)]
    hours = hours_of(calls)
    for _ in range(2):
        add_calls(conn, hours, source="log", names={}, now=NOW)

    row = conn.execute(
        "SELECT count(*), sum(requests), min(requests), sum((SELECT sum(value::int) FROM jsonb_each_text(response_buckets)))"
        " FROM monitoring.api_call_hourly"
    ).fetchone()
    assert row == (100_000, 200_000, 2, 200_000)


def test_what_is_known_of_a_source(conn: psycopg.Connection[Any]) -> None:
    """The newest state replaces the one before; how far it was read is kept where a run could not read."""
    there = ApiSource(
        source="table",
        status="available",
        has_timings=True,
        detail="servicetitan_api_calls",
        read_until=NOW,
        counts={"calls": 3},
        updated_at=NOW,
    )
    record_source(conn, there)
    failing = ApiSource(
        source="table", status="failing", has_timings=True, detail="no answer", updated_at=NOW + timedelta(hours=1)
    )
    record_source(conn, failing)

    found = read_sources(conn)["table"]
    assert (found.status, found.read_until, found.counts) == ("failing", NOW, {})
    assert lock_source(conn, "table") == found
    assert lock_source(conn, "log") is None


def test_two_runs_of_one_source_wait_for_each_other(dsn: str, conn: psycopg.Connection[Any]) -> None:
    """The second gets the lock when the first is done; another source does not wait."""
    lock_source(conn, "table")
    with psycopg.connect(dsn) as other:
        lock_source(other, "log")
        other.execute("SET lock_timeout = '50ms'")
        from include.sync_health.errors import StorageError

        with pytest.raises(StorageError, match="held a lock"):
            lock_source(other, "table")
        other.rollback()
        conn.commit()
        lock_source(other, "table")

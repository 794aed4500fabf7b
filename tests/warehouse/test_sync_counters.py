"""Syncs are counted once each: however late, however often, and by however many runs at a time."""

from __future__ import annotations

import threading
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from include.sync_health.record_counts import ALL_READ, CountsRead
from include.sync_health.sync_events import SYNC_EVENT_COLUMNS, sync_events
from include.sync_health.sync_metrics import counter_increments
from include.warehouse.check_runs import CheckRun, record_check_run
from include.warehouse.metric_emissions import MEASURE_SYNCS, newest_counts, newest_emission
from include.warehouse.monitoring_session import connect
from include.warehouse.snapshots import record_credential_changes
from include.warehouse.sync_counters import Counted, count_syncs, open_syncs_at, statuses_at
from tests.sync_health.frames_of import AS_OF, credentials_frame
from tests.sync_health.oracle_metrics import Sync, frame_of, syncs

TICK = timedelta(minutes=15)
DAY = timedelta(days=1)
LATE = DAY
MINUTE = timedelta(minutes=1)

Connection = psycopg.Connection[Any]


def sync(number: int, *, at: datetime, status: str = "completed", processed: int | None = None, **values: Any) -> Sync:
    """Return a sync of a minute that ended at an instant."""
    return Sync(
        id=number,
        **{"credential": 1, "data_type": "both", "started_at": at - MINUTE, "completed_at": at, "updated_at": at}
        | values,
        status=status,
        records_processed=processed,
        records_successful=processed,
        records_failed=None if processed is None else 0,
    )


def count(
    conn: Connection,
    rows: list[Sync],
    *,
    as_of: datetime = AS_OF,
    late: timedelta = LATE,
    counts: CountsRead = ALL_READ,
) -> Counted | None:
    """Count what a run reads, and commit."""
    visible = sync_events(frame_of(rows), credentials_frame([1, 2]), since=as_of - late, as_of=as_of)
    with conn.transaction():
        return count_syncs(
            conn,
            visible,
            window_from=as_of - TICK,
            as_of=as_of,
            late_syncs=late,
            now=as_of + MINUTE,
            counts=counts,
        )


def counted_ids(counted: Counted | None) -> list[tuple[str, str]]:
    """Return what was counted, in its order."""
    return [] if counted is None else list(counted.events[["kind", "sync_id"]].itertuples(index=False, name=None))


def counters(conn: Connection, *columns: str) -> dict[tuple[str, ...], Any]:
    """Return columns of the counters, by credential and status."""
    query = f"SELECT credential_id, status, {', '.join(columns or ('syncs',))} FROM monitoring.sync_counter"
    return {row[:2]: row[2] if len(row) == 3 else row[2:] for row in conn.execute(query).fetchall()}


def test_the_first_run_counts_its_own_window_alone(conn: Connection) -> None:
    """Counting begins with it; what was before is never counted."""
    rows = [sync(1, at=AS_OF - timedelta(hours=3)), sync(2, at=AS_OF - TICK + MINUTE), sync(3, at=AS_OF)]

    counted = count(conn, rows)

    assert counted_ids(counted) == [("finished", "2"), ("started", "3"), ("finished", "3")]
    assert counted is not None
    assert counted.before is None
    assert counters(conn) == {("1", "completed"): 2, ("1", "started"): 1}
    assert counted_ids(count(conn, rows, as_of=AS_OF + TICK)) == []


def test_a_retry_counts_nothing(conn: Connection) -> None:
    """The window is claimed in the transaction that counts it."""
    rows = [sync(1, at=AS_OF)]
    count(conn, rows)

    assert count(conn, [*rows, sync(2, at=AS_OF)]) is None
    assert counters(conn) == {("1", "completed"): 1, ("1", "started"): 1}


def test_a_run_that_comes_after_a_newer_one_counts_nothing(conn: Connection) -> None:
    """The newer one has counted all that there was, and gauges never go back."""
    count(conn, [], as_of=AS_OF + TICK)

    assert count(conn, [sync(1, at=AS_OF)], as_of=AS_OF) is None
    assert counters(conn) == {}


def test_what_was_undone_is_counted_by_the_next_try(conn: Connection) -> None:
    """Ids, counters and claim stand or fall together."""
    rows = [sync(1, at=AS_OF)]
    events = sync_events(frame_of(rows), credentials_frame([1]), since=AS_OF - DAY, as_of=AS_OF)
    with conn.transaction() as killed:
        count_syncs(conn, events, window_from=AS_OF - TICK, as_of=AS_OF, late_syncs=LATE, now=AS_OF)
        raise psycopg.Rollback(killed)

    assert counted_ids(count(conn, rows)) == [("started", "1"), ("finished", "1")]


def test_a_sync_that_is_committed_late_counts_once(conn: Connection) -> None:
    """It started and ended before the last run, which could not see it."""
    seen, late = sync(1, at=AS_OF - MINUTE), sync(2, at=AS_OF - 5 * MINUTE)
    count(conn, [seen])

    assert counted_ids(count(conn, [seen, late], as_of=AS_OF + TICK)) == [("started", "2"), ("finished", "2")]
    assert counted_ids(count(conn, [seen, late], as_of=AS_OF + 2 * TICK)) == []
    assert counters(conn) == {("1", "completed"): 2, ("1", "started"): 2}


def test_a_sync_that_changes_after_it_was_counted_is_not_counted_again(conn: Connection) -> None:
    """Upstream's recovery moves records, and may even turn a failed sync into a completed one."""
    failed = sync(1, at=AS_OF - MINUTE, status="failed")
    count(conn, [failed])
    repaired = sync(1, at=AS_OF + MINUTE)

    assert counted_ids(count(conn, [repaired], as_of=AS_OF + TICK)) == []
    assert counters(conn) == {("1", "failed"): 1, ("1", "started"): 1}


def test_a_long_sync_counts_as_started_and_later_as_ended(conn: Connection) -> None:
    """Each when it is seen."""
    begun = AS_OF - MINUTE
    running = sync(1, at=begun, started_at=begun, completed_at=None, status="running")
    ended = sync(1, at=AS_OF + 2 * DAY, started_at=begun)

    assert counted_ids(count(conn, [running])) == [("started", "1")]
    assert counted_ids(count(conn, [ended], as_of=AS_OF + 2 * DAY)) == [("finished", "1")]


HIDDEN = CountsRead(known=(), unread="we may not read them; GRANT SELECT\0")


def test_counters_rise_whatever_counts_can_be_read_and_the_claim_says_which(conn: Connection) -> None:
    """By what is new alone, also once the counts can be read; the newest claim is the one that is believed."""
    first, second = sync(1, at=AS_OF - MINUTE), sync(2, at=AS_OF + MINUTE, processed=7)
    assert newest_counts(conn) is None

    count(conn, [first], counts=HIDDEN)
    assert newest_counts(conn) == CountsRead(
        known=(), unread="we may not read them; GRANT SELECT\N{REPLACEMENT CHARACTER}"
    )
    assert counters(conn, "syncs", "records_processed")["1", "completed"] == (1, None)

    count(conn, [sync(1, at=AS_OF - MINUTE, processed=5)], as_of=AS_OF + TICK - 5 * MINUTE)
    assert newest_counts(conn) == ALL_READ
    assert counters(conn, "syncs", "records_processed")["1", "completed"] == (1, None)

    assert counted_ids(count(conn, [first, second], as_of=AS_OF + TICK)) == [("started", "2"), ("finished", "2")]
    assert counters(conn, "syncs", "records_processed")["1", "completed"] == (2, 7)


@pytest.mark.parametrize(
    ("earlier", "later", "last"),
    [
        pytest.param((1, 0, 5), (2, 3, 9), ("2", 9), id="one that ended later is the last"),
        pytest.param((9, 0, 5), (10, 0, 9), ("10", 9), id="of two that ended at once, the one of the higher number"),
        pytest.param((2, 0, 5), (1, -3, 9), ("2", 5), id="one that shows up late and ended before is not"),
        pytest.param((1, 0, 5), (2, 3, None), ("2", None), id="unknown counts are those of the last, too"),
    ],
)
def test_the_records_are_those_of_the_sync_that_ended_last(
    conn: Connection, earlier: tuple[int, int, int], later: tuple[int, int, int | None], last: tuple[str, int | None]
) -> None:
    """By its end, and then its id; and the caller hears which syncs are the last."""
    first = sync(earlier[0], at=AS_OF + earlier[1] * MINUTE - 5 * MINUTE, processed=earlier[2])
    second = sync(later[0], at=AS_OF + later[1] * MINUTE - 5 * MINUTE, processed=later[2])
    count(conn, [first])
    counted = count(conn, [first, second], as_of=AS_OF + TICK)

    assert counters(conn, "last_sync_id", "records_processed")["1", "completed"] == last
    assert counted is not None
    assert counted.last_sync_ids == ({str(later[0])} if last[0] == str(later[0]) else set())


def test_uuids_are_ordered_as_texts(conn: Connection) -> None:
    """Where the source's key is a UUID."""
    ids = ["b0000000-0000-0000-0000-000000000000", "0a000000-0000-0000-0000-000000000000"]
    events = sync_events(
        frame_of([sync(1, at=AS_OF), sync(2, at=AS_OF)]).assign(sync_id=pd.Series(ids, dtype=object)),
        credentials_frame([1]),
        since=AS_OF - DAY,
        as_of=AS_OF,
    )
    with conn.transaction():
        count_syncs(conn, events, window_from=AS_OF - TICK, as_of=AS_OF, late_syncs=LATE, now=AS_OF)

    assert counters(conn, "last_sync_id")["1", "completed"] == ids[0]


def test_failures_add_up_by_class(conn: Connection) -> None:
    """Old and new classes."""
    odd, auth = "odd", "HTTP 401 invalid_client"
    first = [sync(1, at=AS_OF, status="failed", error_message=odd)]
    more = [
        sync(2, at=AS_OF + MINUTE, status="failed", error_message=odd),
        sync(3, at=AS_OF + MINUTE, status="failed", error_message=auth),
    ]
    count(conn, first)
    count(conn, first + more, as_of=AS_OF + TICK)

    assert counters(conn, "failed_by_class")["1", "failed"] == {"unknown": 2, "auth": 1}
    assert counters(conn, "failed_by_class")["1", "started"] == {}


def test_what_is_too_old_to_show_up_is_forgotten_and_never_counted_again(conn: Connection) -> None:
    """Also when the policy looks further back from now on: then only what is still remembered may be new."""
    old = [sync(1, at=AS_OF - MINUTE)]
    count(conn, old)
    much_later = AS_OF + 3 * DAY
    count(conn, old, as_of=much_later)
    assert conn.execute("SELECT count(*) FROM monitoring.counted_sync").fetchone() == (0,)

    assert counted_ids(count(conn, old, as_of=much_later + TICK, late=7 * DAY)) == []
    assert counters(conn)["1", "completed"] == 1


def test_a_pause_is_made_up_for_as_far_as_the_run_reads(conn: Connection) -> None:
    """The claim before does not bound it: what is remembered does."""
    count(conn, [sync(1, at=AS_OF)])
    missed = [sync(2, at=AS_OF + DAY), sync(3, at=AS_OF + 2 * DAY)]

    found = counted_ids(count(conn, missed, as_of=AS_OF + 3 * DAY, late=3 * DAY))

    assert [number for kind, number in found if kind == "finished"] == ["2", "3"]


def test_old_claims_are_forgotten(conn: Connection) -> None:
    """The newest is what the next run goes by."""
    for number in range(10):
        count(conn, [], as_of=AS_OF + number * DAY)

    windows = [at.astimezone(UTC) for (at,) in conn.execute("SELECT window_to FROM monitoring.metric_emission")]
    assert min(windows) == AS_OF + 2 * DAY
    newest = newest_emission(conn, task=MEASURE_SYNCS)
    assert newest is not None
    assert newest.window_to == AS_OF + 9 * DAY
    assert newest.remembered_from == AS_OF + 7 * DAY


def test_two_runs_at_once_count_each_sync_once(dsn: str) -> None:
    """The second waits for the first, and sees what it counted."""
    rows = [sync(number, at=AS_OF - MINUTE) for number in range(1, 200)]
    found: list[list[tuple[str, str]]] = []
    barrier = threading.Barrier(4)

    def run(as_of: datetime) -> None:
        with connect(dsn) as conn:
            barrier.wait()
            found.append(counted_ids(count(conn, rows, as_of=as_of)))

    # Two tries of one window, and two runs of the next.
    threads = [threading.Thread(target=run, args=(AS_OF + number // 2 * MINUTE,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert Counter(each for counted in found for each in counted) == {
        (kind, str(number)): 1 for number in range(1, 200) for kind in ("started", "finished")
    }
    with connect(dsn) as conn:
        assert counters(conn) == {("1", "completed"): 199, ("1", "started"): 199}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(
    rows=syncs(window=2 * TICK, max_size=15),
    shows_up=st.lists(st.integers(0, 3), min_size=15, max_size=15),
    retried=st.lists(st.booleans(), min_size=4, max_size=4),
)
def test_runs_together_count_what_one_look_at_everything_counts(
    conn: Connection, rows: list[Sync], shows_up: list[int], retried: list[bool]
) -> None:
    """Whichever run a row shows up for, and whichever runs are tried twice."""
    for table in ("sync_counter", "counted_sync", "metric_emission"):
        conn.execute(f"DELETE FROM monitoring.{table}")
    began = AS_OF - 3 * TICK
    ticks = [began + number * TICK for number in range(5)]
    count(conn, [], as_of=began)
    total: list[tuple[str, str]] = []
    for number, as_of in enumerate(ticks[1:]):
        there = [row for row, appears in zip(rows, shows_up, strict=False) if appears <= number]
        for _ in range(1 + retried[number]):
            total += counted_ids(count(conn, there, as_of=as_of))

    everything = sync_events(frame_of(rows), credentials_frame([1, 2]), since=began - TICK, as_of=ticks[-1])
    assert sorted(total) == sorted(everything[["kind", "sync_id"]].itertuples(index=False, name=None))
    expected = counter_increments(everything)
    key = ["credential_id", "environment", "company_id", "data_type", "status"]
    stored = conn.execute(
        f"SELECT {', '.join(key)}, syncs, duration_count, last_sync_id, records_processed FROM monitoring.sync_counter "
    ).fetchall()
    assert {row[:5]: row[5:] for row in stored} == {
        tuple(row[name] for name in key): (
            row["syncs"],
            row["duration_count"],
            row["last_sync_id"],
            None if pd.isna(row["records_processed"]) else int(row["records_processed"]),
        )
        for row in expected.to_dict("records")
    }


def test_a_frame_without_its_columns_is_refused(conn: Connection) -> None:
    """Before anything is written."""
    from include.sync_health.errors import FrameError

    with pytest.raises(FrameError, match="sync_id"):
        count_syncs(
            conn,
            pd.DataFrame(columns=[name for name in SYNC_EVENT_COLUMNS if name != "sync_id"]),
            window_from=AS_OF - TICK,
            as_of=AS_OF,
            late_syncs=LATE,
            now=AS_OF,
        )


def test_statuses_are_those_that_the_snapshots_had_at_an_instant(conn: Connection) -> None:
    """As of then: neither what came later nor what was gone."""
    record_credential_changes(conn, credentials_frame([1, 2]), as_of=AS_OF)
    changed = credentials_frame([1]).assign(connection_status=["error"])
    record_credential_changes(conn, changed, as_of=AS_OF + TICK)

    def at(moment: datetime) -> list[tuple[Any, ...]]:
        found = statuses_at(conn, at=moment)
        assert found["token_expires_at"].isna().all()
        return list(found.drop(columns="token_expires_at").itertuples(index=False, name=None))

    assert at(AS_OF - MINUTE) == []
    assert at(AS_OF) == [("1", "production", "1001", "active"), ("2", "production", "1002", "active")]
    assert at(AS_OF + TICK) == [("1", "production", "1001", "error")]


def test_statuses_have_the_tokens_of_that_instant(conn: Connection) -> None:
    """In UTC."""
    expires = pd.to_datetime(pd.Series([AS_OF + DAY, None]), utc=True).astype("datetime64[us, UTC]")
    record_credential_changes(conn, credentials_frame([1, 2]).assign(token_expires_at=expires), as_of=AS_OF)

    found = statuses_at(conn, at=AS_OF)["token_expires_at"]

    assert found[0] == AS_OF + DAY
    assert pd.isna(found[1])
    assert str(found.dtype) == "datetime64[us, UTC]"


@pytest.mark.parametrize(
    ("at", "found"),
    [
        pytest.param(AS_OF, ["7", "8"], id="those of the run that ended then"),
        pytest.param(AS_OF + TICK, ["7", "8"], id="or of the one before"),
        pytest.param(AS_OF + DAY + MINUTE, None, id="not of one that is too old"),
        pytest.param(AS_OF - MINUTE, None, id="nor of a later one"),
    ],
)
def test_open_syncs_are_those_that_a_run_remembered(conn: Connection, at: datetime, found: list[str] | None) -> None:
    """None where nobody knows: then the reader looks back."""
    run = CheckRun.of(
        check="sync_failures",
        window_from=AS_OF - TICK,
        window_to=AS_OF,
        mode="live",
        filters={},
        status="seen",
        open_sync_ids=("7", "8"),
        computed_at=AS_OF,
    )
    record_check_run(conn, run)

    assert open_syncs_at(conn, check="sync_failures", at=at, within=DAY) == found

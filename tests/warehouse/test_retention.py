"""What is old goes, and what something still rests on stays."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import psycopg
import pytest

from include.sync_health.alerts import Alert, AlertState, SilentReason
from include.sync_health.muting import LONGEST_SILENCE
from include.warehouse import retention
from include.warehouse.alert_store import save_step
from include.warehouse.check_runs import CheckRun, last_seen_run, newest_start_seen, record_check_run
from include.warehouse.migration import upgrade
from include.warehouse.monitoring_session import connect
from include.warehouse.outbox import lease_next, mark_dead, mark_sent
from include.warehouse.silences import add_silence, end_silence
from tests.warehouse.monitoring_records import DAY, MINUTE, NOW, OPS, alert, delivery, event, silence

CUTOFF = NOW - 90 * DAY


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


@pytest.mark.parametrize(
    ("silent", "accounted_by", "age", "is_kept"),
    [
        pytest.param(SilentReason.SILENCED, None, DAY, True, id="kept back, and no summary has told of it: stays"),
        pytest.param(SilentReason.BUDGET, None, DAY, True, id="so does what waits for a digest"),
        pytest.param(SilentReason.SILENCED, "a summary", DAY, False, id="told of: goes"),
        pytest.param(SilentReason.SHADOW, None, DAY, False, id="kept back for good: goes"),
        pytest.param(SilentReason.SILENCED, None, LONGEST_SILENCE, True, id="as long as a silence may last: stays"),
        pytest.param(SilentReason.SILENCED, None, LONGEST_SILENCE + MINUTE, False, id="longer than any silence: goes"),
    ],
)
def test_what_a_summary_has_yet_to_tell_of_stays(
    conn: psycopg.Connection[Any], silent: SilentReason, accounted_by: str | None, age: timedelta, is_kept: bool
) -> None:
    """Though its alert closed long ago."""
    put = delivery("key", OVER, reason=None, silent=silent)
    save_step(conn, alerts=[OVER], events=[], deliveries=[put], now=CUTOFF - age)
    conn.execute("UPDATE monitoring.delivery SET accounted_by = %s", (accounted_by,))
    conn.commit()

    assert retention.delete_deliveries(conn, before=CUTOFF) == (0 if is_kept else 1)


@pytest.mark.parametrize(
    ("ends_at", "is_kept"),
    [
        pytest.param(CUTOFF - MINUTE, False, id="over by then goes"),
        pytest.param(CUTOFF, True, id="ending just then stays"),
        pytest.param(NOW + DAY, True, id="one that holds stays, however long ago it began"),
    ],
)
def test_silences_go_with_the_ledger_that_names_them(
    conn: psycopg.Connection[Any], ends_at: datetime, is_kept: bool
) -> None:
    add_silence(conn, silence(starts_at=ends_at - 60 * DAY, ends_at=ends_at))
    conn.commit()

    assert retention.delete_deliveries(conn, before=CUTOFF) == (0 if is_kept else 1)
    assert count(conn, "silence") == int(is_kept)


def test_a_silence_that_was_ended_before_it_began_goes_too(conn: psycopg.Connection[Any]) -> None:
    planned = silence(starts_at=CUTOFF - 2 * DAY, ends_at=CUTOFF - DAY)
    add_silence(conn, planned)
    end_silence(conn, str(planned.id), by="ada", now=CUTOFF - 3 * DAY)
    conn.commit()

    assert retention.delete_deliveries(conn, before=CUTOFF) == 1


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


def test_hours_and_health_are_deleted_up_to_the_cutoff_and_the_newest_health_stays(
    conn: psycopg.Connection[Any],
) -> None:
    """What lies at the cutoff itself is kept; a second time there is nothing left to do."""
    at = [CUTOFF - timedelta(days=2), CUTOFF - timedelta(hours=1), CUTOFF]
    for when in at:
        conn.execute(
            "INSERT INTO monitoring.sync_hour VALUES (%s, 'production', 'invoices', 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, '{}', %s)",
            (when, when),
        )
        conn.execute(
            "INSERT INTO monitoring.api_call_hourly (hour, source, credential_id, environment, company_id, endpoint,"
            " status_code, requests, errors, updated_at) VALUES (%s, 'log', '1', 'production', '1', '/x', 200, 1, 0, %s)",
            (when, when),
        )
        conn.execute(
            "INSERT INTO monitoring.probe_result (credential_id, at, environment, status) VALUES ('1', %s, 'production', 'success')",
            (when,),
        )
    for when in at[:2]:
        conn.execute("INSERT INTO monitoring.health_snapshot VALUES (%s, 'healthy', '{}', 900, %s)", (when, when))

    deletions = (retention.delete_sync_hours, retention.delete_api_calls, retention.delete_health_snapshots)
    assert [delete(conn, before=CUTOFF) for delete in deletions] == [2, 4, 1]
    assert [delete(conn, before=CUTOFF) for delete in deletions] == [0, 0, 0]
    assert (count(conn, "sync_hour"), count(conn, "api_call_hourly"), count(conn, "probe_result")) == (1, 1, 1)
    assert conn.execute("SELECT as_of FROM monitoring.health_snapshot").fetchall() == [(at[1],)]

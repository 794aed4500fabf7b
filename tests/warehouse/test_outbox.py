"""A message is handed to one worker at a time, in order, and comes back marked when that worker vanished."""

from __future__ import annotations

import threading
import uuid
from collections import Counter
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import psycopg
import pytest

from include.sync_health.alerts import Alert, AlertState, Delivery, Member, NotifyReason, SilentReason
from include.sync_health.errors import StorageError
from include.warehouse.alert_store import save_step
from include.warehouse.kept_errors import ERROR_LIMIT
from include.warehouse.monitoring_session import connect
from include.warehouse.outbox import (
    LeasedDelivery,
    due_channels,
    lease_next,
    mark_dead,
    mark_retry,
    mark_sent,
)
from tests.warehouse.monitoring_records import MINUTE, NOW, OPS, alert, delivery

LEASE = 5 * MINUTE
ONE, TWO = alert("1"), alert("2")


def put(conn: psycopg.Connection[Any], *deliveries: Delivery, alerts: tuple[Alert, ...] = (ONE, TWO)) -> None:
    save_step(conn, alerts=alerts, events=[], deliveries=deliveries, now=NOW)
    conn.commit()


def lease(
    conn: psycopg.Connection[Any], *, owner: str = "worker", now: datetime = NOW, channel: str = OPS
) -> LeasedDelivery | None:
    return lease_next(conn, channel=channel, owner=owner, now=now, lease_for=LEASE)


def leased(conn: psycopg.Connection[Any], **changes: Any) -> LeasedDelivery:
    found = lease(conn, **changes)
    assert found is not None
    return found


def retry(conn: psycopg.Connection[Any], given: LeasedDelivery, *, at: datetime, ambiguous: bool = False) -> bool:
    return mark_retry(
        conn, given.id, owner="worker", now=NOW, next_attempt_at=at, error="ratelimited", ambiguous=ambiguous
    )


def stored(conn: psycopg.Connection[Any], key: str, columns: str) -> tuple[Any, ...]:
    row = conn.execute(f"SELECT {columns} FROM monitoring.delivery WHERE key = %s", (key,)).fetchone()
    assert row is not None
    return row


def test_a_leased_delivery_carries_what_was_decided_and_the_alerts_as_they_are_now(
    conn: psycopg.Connection[Any],
) -> None:
    put(conn, delivery("a", TWO, ONE))
    closed = replace(ONE, state=AlertState.INACTIVE, last_as_of=NOW + MINUTE, closed_at=NOW + MINUTE)
    put(conn, alerts=(closed,))

    found = leased(conn, now=NOW + MINUTE)

    assert found == LeasedDelivery(
        id=found.id,
        key="a",
        channel=OPS,
        reason=NotifyReason.FIRST,
        members=delivery("a", TWO, ONE).members,
        as_of=NOW,
        attempts=1,
        possible_repeat=False,
        created_at=NOW,
        alerts=(TWO, closed),
        neighbours=(TWO, closed),
    )


def test_a_member_whose_alert_was_never_stored_has_no_alert(conn: psycopg.Connection[Any]) -> None:
    unknown = Member(fingerprint="unknown", episode_id=uuid.UUID(int=1))
    put(conn, replace(delivery("a", ONE), members=(unknown, *delivery("a", ONE).members)))

    found = leased(conn)

    assert found.members[0] == unknown
    assert found.alerts == (ONE,)


@pytest.mark.parametrize(
    ("due_in", "found"),
    [
        pytest.param(MINUTE, False, id="not before its time"),
        pytest.param(timedelta(0), True, id="exactly at its time"),
        pytest.param(-MINUTE, True, id="after its time"),
    ],
)
def test_a_retry_waits_for_its_time(conn: psycopg.Connection[Any], due_in: timedelta, found: bool) -> None:
    put(conn, delivery("a", ONE))
    assert retry(conn, leased(conn), at=NOW + due_in)

    assert due_channels(conn, now=NOW) == ([OPS] if found else [])
    assert (lease(conn) is not None) is found


@pytest.mark.parametrize(
    ("waited", "found"),
    [
        pytest.param(LEASE - timedelta(microseconds=1), False, id="a lease holds to its last moment"),
        pytest.param(LEASE, True, id="at its end it is over"),
    ],
)
def test_a_vanished_worker_leaves_exactly_its_own_delivery_in_doubt(
    dsn: str, conn: psycopg.Connection[Any], waited: timedelta, found: bool
) -> None:
    """The worker's connection is cut between the lease and the mark, as by a kill."""
    put(conn, delivery("a", ONE), delivery("b", TWO))
    with connect(dsn) as doomed:
        assert leased(doomed, owner="killed").key == "a"
        killed = conn.execute("SELECT pg_terminate_backend(%s)", (doomed.info.backend_pid,)).fetchone()
        conn.commit()
        assert killed == (True,)
        with pytest.raises(StorageError):
            mark_sent(doomed, 1, owner="killed", now=NOW, receipt={})

    drained = []
    while (given := lease(conn, now=NOW + waited)) is not None:
        assert mark_sent(conn, given.id, owner="worker", now=NOW + waited, receipt={})
        drained.append((given.key, given.attempts, given.possible_repeat))

    assert drained == ([("a", 2, True), ("b", 1, False)] if found else [("b", 1, False)])


def test_a_worker_that_lost_its_lease_marks_nothing(conn: psycopg.Connection[Any]) -> None:
    put(conn, delivery("a", ONE))
    late = leased(conn, owner="late")
    leased(conn, owner="new", now=NOW + LEASE)
    before = stored(conn, "a", "*")

    assert not mark_sent(conn, late.id, owner="late", now=NOW + LEASE, receipt={"ts": "1"})
    assert not mark_dead(conn, late.id, owner="late", now=NOW + LEASE, error="x")
    assert not mark_retry(
        conn, late.id, owner="late", now=NOW + LEASE, next_attempt_at=NOW + LEASE, error="x", ambiguous=False
    )
    assert stored(conn, "a", "*") == before
    assert mark_sent(conn, late.id, owner="new", now=NOW + LEASE, receipt={"ts": "2"})
    assert not mark_sent(conn, late.id, owner="new", now=NOW + LEASE, receipt={"ts": "3"})
    assert stored(conn, "a", "status, receipt") == ("sent", {"ts": "2"})


def test_a_lease_that_ran_out_but_was_not_taken_over_still_counts(conn: psycopg.Connection[Any]) -> None:
    put(conn, delivery("a", ONE))
    given = leased(conn)

    assert mark_sent(conn, given.id, owner="worker", now=NOW + 2 * LEASE, receipt={"ts": "1"})
    assert lease(conn, now=NOW + 3 * LEASE) is None


@pytest.mark.parametrize(
    ("ambiguous", "repeat"),
    [
        pytest.param(True, True, id="one that may have been accepted is a possible repeat"),
        pytest.param(False, False, id="one that was refused is not"),
    ],
)
def test_a_retry_says_whether_the_message_may_have_arrived(
    conn: psycopg.Connection[Any], ambiguous: bool, repeat: bool
) -> None:
    put(conn, delivery("a", ONE))
    retry(conn, leased(conn), at=NOW, ambiguous=ambiguous)
    assert leased(conn).possible_repeat is repeat

    # Doubt, once there, stays: a clean refusal later does not unsend the earlier message.
    retry(conn, replace(leased(conn, now=NOW + LEASE), attempts=2), at=NOW + LEASE)
    assert leased(conn, now=NOW + LEASE).possible_repeat is True


FIRST = NotifyReason.FIRST
CLOSED = NotifyReason.CLOSED


@pytest.mark.parametrize(
    ("deliveries", "free"),
    [
        pytest.param([("a", ONE), ("b", ONE)], None, id="a close waits for its first"),
        pytest.param([("a", ONE), ("b", TWO)], "b", id="another alert's message passes"),
        pytest.param([("a", ONE, TWO), ("b", TWO)], None, id="a summary holds back each of its members"),
        pytest.param([("a", ONE), ("b", ONE, TWO), ("c", TWO)], None, id="what waits holds back what follows it"),
        pytest.param([("a", ONE), ("b",)], "b", id="a test message waits for nobody"),
    ],
)
@pytest.mark.parametrize("why", ["leased", "waiting"])
def test_a_message_holds_back_only_later_ones_about_its_alerts(
    conn: psycopg.Connection[Any], deliveries: list[tuple[Any, ...]], free: str | None, why: str
) -> None:
    put(conn, *(delivery(key, *of) for key, *of in deliveries))
    given = leased(conn)
    assert given.key == "a"
    if why == "waiting":
        retry(conn, given, at=NOW + MINUTE)

    assert due_channels(conn, now=NOW) == ([OPS] if free else [])
    found = lease(conn)
    assert (found.key if found else None) == free


@pytest.mark.parametrize("end", ["sent", "dead"])
def test_once_finished_it_holds_back_nothing(conn: psycopg.Connection[Any], end: str) -> None:
    put(conn, delivery("a", ONE), delivery("b", ONE, reason=CLOSED))
    given = leased(conn)
    if end == "sent":
        mark_sent(conn, given.id, owner="worker", now=NOW, receipt={})
    else:
        mark_dead(conn, given.id, owner="worker", now=NOW, error="channel_not_found")

    assert leased(conn).key == "b"


def test_channels_do_not_wait_for_each_other(conn: psycopg.Connection[Any]) -> None:
    put(conn, delivery("a", ONE), delivery("b", ONE, channel="email:ops@example.com"))

    assert due_channels(conn, now=NOW) == [OPS, "email:ops@example.com"]
    assert leased(conn).key == "a"
    assert due_channels(conn, now=NOW) == ["email:ops@example.com"]
    assert leased(conn, channel="email:ops@example.com").key == "b"
    assert due_channels(conn, now=NOW) == []


def test_what_is_not_to_be_sent_is_never_handed_out(conn: psycopg.Connection[Any]) -> None:
    put(conn, delivery("a", ONE, reason=None, silent=SilentReason.SHADOW))

    assert due_channels(conn, now=NOW) == []
    assert lease(conn) is None


def test_the_ledger_keeps_how_it_ended(conn: psycopg.Connection[Any]) -> None:
    put(conn, delivery("a", ONE), delivery("b", TWO))
    mark_sent(conn, leased(conn).id, owner="worker", now=NOW + MINUTE, receipt={"channel": "C1", "ts": "1.2"})
    mark_dead(conn, leased(conn).id, owner="worker", now=NOW + MINUTE, error="x" * (ERROR_LIMIT + 1) + "\x00")

    assert stored(conn, "a", "status, sent_at, receipt, lease_owner, last_error") == (
        "sent",
        NOW + MINUTE,
        {"channel": "C1", "ts": "1.2"},
        None,
        None,
    )
    assert stored(conn, "b", "status, sent_at, lease_owner, last_error") == (
        "dead",
        None,
        None,
        "x" * (ERROR_LIMIT - 1) + "…",
    )


def test_every_step_is_committed(dsn: str, conn: psycopg.Connection[Any]) -> None:
    """Whoever looks from outside sees it at once, and the session is left with no open transaction."""
    put(conn, delivery("a", ONE))
    with connect(dsn) as outside:
        given = leased(conn)
        assert stored(outside, "a", "status") == ("leased",)
        outside.rollback()
        retry(conn, given, at=NOW)
        assert stored(outside, "a", "status") == ("pending",)
    due_channels(conn, now=NOW)
    assert conn.info.transaction_status is psycopg.pq.TransactionStatus.IDLE


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"now": NOW.replace(tzinfo=None), "lease_for": LEASE}, id="a naive now"),
        pytest.param({"now": NOW, "lease_for": timedelta(0)}, id="a lease of no length"),
    ],
)
def test_a_lease_that_makes_no_sense_is_refused(conn: psycopg.Connection[Any], changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"naive|positive"):
        lease_next(conn, channel=OPS, owner="worker", **changes)


def test_workers_that_drain_one_channel_never_share_a_message(dsn: str, conn: psycopg.Connection[Any]) -> None:
    """Each message is handed out once, and those about one alert in order, however many workers ask."""
    people = [alert(str(number)) for number in range(6)]
    messages = [delivery(f"{round_}-{place}", each) for place, each in enumerate(people) for round_ in range(10)]
    put(conn, *messages, alerts=tuple(people))
    together = threading.Barrier(4)
    order: list[str] = []  # appended between lease and mark, so it is the order of sending
    crashes: list[BaseException] = []

    def drain(owner: str) -> None:
        try:
            with connect(dsn) as own:
                together.wait(timeout=30)
                while due_channels(own, now=NOW):
                    if (given := lease(own, owner=owner)) is not None:
                        order.append(given.key)
                        assert mark_sent(own, given.id, owner=owner, now=NOW, receipt={})
        except BaseException as crash:
            crashes.append(crash)
            raise

    workers = [threading.Thread(target=drain, args=(f"worker-{number}",)) for number in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()

    assert crashes == []
    assert lease(conn) is None
    assert Counter(order) == Counter(message.key for message in messages)
    for place in range(len(people)):
        assert [key for key in order if key.endswith(f"-{place}")] == [f"{round_}-{place}" for round_ in range(10)]

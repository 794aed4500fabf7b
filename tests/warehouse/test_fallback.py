"""What a channel refuses goes to its fallback: all of it or nothing, and nothing twice."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

import psycopg
import pytest

from include.sync_health.alerts import Delivery, NotifyReason, SilentReason
from include.sync_health.errors import StorageError
from include.sync_health.verdicts import Severity
from include.warehouse.alert_store import lock_alerts
from include.warehouse.kept_errors import ERROR_LIMIT
from include.warehouse.monitoring_session import connect
from include.warehouse.outbox import due_channels, hand_to_fallback, mark_dead, mark_retry, mark_sent
from tests.warehouse.monitoring_records import (
    HOSTILE,
    HOUR,
    MINUTE,
    NOW,
    OPS,
    STORED_HOSTILE,
    alert,
    delivery,
    kept_back,
)
from tests.warehouse.outbox_steps import LEASE, ONE, TWO, lease, leased, ledger, put, sent, stored

MAIL = "email:ops@example.com"
LATER = NOW + HOUR


def hand(
    conn: psycopg.Connection[Any], *, owner: str = "worker", now: datetime = LATER, error: str = "account_inactive"
) -> int:
    """Hand what waits for the Slack channel to the mail address."""
    return hand_to_fallback(conn, channel=OPS, fallback=MAIL, owner=owner, now=now, error=error)


def test_a_copy_says_what_the_original_would_have(emptied: psycopg.Connection[Any]) -> None:
    made = delivery("a", TWO, ONE, severity=Severity.LOW, thread="t", details={"since": "x"})
    put(emptied, made)

    assert hand(emptied) == 1

    assert stored(emptied, "a", "status, silent, last_error, updated_at") == ("dead", None, "account_inactive", LATER)
    assert due_channels(emptied, now=LATER) == [MAIL]
    copy = leased(emptied, channel=MAIL, now=LATER)
    assert (copy.key, copy.fallback_of, copy.thread, copy.parent) == ("a|fallback", OPS, None, None)
    assert (copy.reason, copy.members, copy.as_of) == (made.reason, made.members, made.as_of)
    assert (copy.severity, copy.details, copy.alerts) == (Severity.LOW, {"since": "x"}, (TWO, ONE))
    assert (copy.created_at, copy.possible_repeat, copy.attempts) == (LATER, False, 1)


@pytest.mark.parametrize(
    ("state", "original", "is_copied"),
    [
        pytest.param("due", "dead", True, id="what is due"),
        pytest.param("waiting", "dead", True, id="what waits for its next attempt"),
        pytest.param("leased", "dead", True, id="what a worker holds"),
        pytest.param("sent", "sent", False, id="not what was sent"),
        pytest.param("dead", "dead", False, id="nor what was given up"),
        pytest.param("silent", "silenced", False, id="nor what was kept back"),
    ],
)
def test_what_is_handed_over(emptied: psycopg.Connection[Any], state: str, original: str, is_copied: bool) -> None:
    put(emptied, kept_back("a", ONE) if state == "silent" else delivery("a", ONE))
    if state not in ("due", "silent"):
        given = leased(emptied)
        if state == "waiting":
            mark_retry(emptied, given.id, owner="worker", now=NOW, next_attempt_at=LATER, error="x", ambiguous=True)
        elif state == "sent":
            sent(emptied, given)
        elif state == "dead":
            mark_dead(emptied, given.id, owner="worker", now=NOW, error="x")

    assert hand(emptied) == int(is_copied)
    assert ledger(emptied) == {"a": original, **({"a|fallback": "pending"} if is_copied else {})}


@pytest.mark.parametrize("reason", NotifyReason)
def test_everything_but_an_edit_goes_to_the_fallback(emptied: psycopg.Connection[Any], reason: NotifyReason) -> None:
    """An edit of a message in the channel can be made nowhere else."""
    put(emptied, delivery("a", ONE, reason=reason, thread="t"))

    if reason is NotifyReason.UPDATED:
        assert hand(emptied) == 0
        assert ledger(emptied) == {"a": "cannot_edit"}
    else:
        assert hand(emptied) == 1
        assert ledger(emptied) == {"a": "dead", "a|fallback": "pending"}


OWN = delivery("own", ONE, TWO, channel=MAIL)


@pytest.mark.parametrize(
    ("own", "copies"),
    [
        pytest.param(OWN, 0, id="the same is not said twice"),
        pytest.param(replace(OWN, members=OWN.members[::-1]), 0, id="in whatever order its members stand"),
        pytest.param(replace(OWN, reason=None, silent=SilentReason.SILENCED), 1, id="what it is not told is no reason"),
        pytest.param(replace(OWN, reason=NotifyReason.REPEAT), 1, id="nor another reason"),
        pytest.param(replace(OWN, as_of=NOW + MINUTE), 1, id="nor another tick"),
        pytest.param(replace(OWN, members=OWN.members[:1]), 1, id="nor fewer alerts"),
        pytest.param(
            replace(OWN, members=(*OWN.members, *delivery("x", alert("3")).members)), 1, id="nor more of them"
        ),
        pytest.param(replace(OWN, channel="email:other@example.com"), 1, id="nor another channel"),
    ],
)
@pytest.mark.parametrize("is_sent", [False, True], ids=["it waits", "it was sent"])
def test_what_the_fallback_is_told_by_itself(
    emptied: psycopg.Connection[Any], own: Delivery, copies: int, is_sent: bool
) -> None:
    put(emptied, delivery("a", ONE, TWO), own)
    if is_sent and own.silent is None:
        sent(emptied, leased(emptied, channel=own.channel))

    assert hand(emptied) == copies
    assert ledger(emptied)["a"] == "dead"


def test_copies_keep_the_order_and_the_others_are_left_alone(emptied: psycopg.Connection[Any]) -> None:
    put(emptied, *(delivery(key, ONE) for key in "cab"), delivery("other", ONE, channel="slack:#other"))

    assert hand(emptied) == 3
    order = []
    while (given := lease(emptied, channel=MAIL, now=LATER)) is not None:
        order.append(given.key)
        mark_sent(emptied, given.id, owner="worker", now=LATER, receipt={})
    assert order == ["c|fallback", "a|fallback", "b|fallback"]
    assert ledger(emptied)["other"] == "pending"


def test_handing_over_again_finds_only_what_is_new(emptied: psycopg.Connection[Any]) -> None:
    put(emptied, delivery("a", ONE))
    assert hand(emptied) == 1
    assert hand(emptied) == 0
    put(emptied, delivery("b", ONE, reason=NotifyReason.CLOSED))
    assert hand(emptied) == 1
    assert ledger(emptied) == {"a": "dead", "a|fallback": "pending", "b": "dead", "b|fallback": "pending"}


def test_a_worker_that_held_one_of_them_marks_nothing(emptied: psycopg.Connection[Any]) -> None:
    put(emptied, delivery("a", ONE))
    given = leased(emptied)
    hand(emptied)

    assert not mark_sent(emptied, given.id, owner="worker", now=LATER, receipt={})
    assert ledger(emptied) == {"a": "dead", "a|fallback": "pending"}


def test_what_another_worker_is_sending_is_left_to_it_and_nothing_overtakes_it(
    emptied: psycopg.Connection[Any],
) -> None:
    """It may arrive: then it is told already, and only what comes after it is handed over."""
    put(
        emptied,
        delivery("first", ONE, thread="t"),
        delivery("close", ONE, reason=NotifyReason.CLOSED, thread="t"),
        delivery("joins", TWO, reason=NotifyReason.NEW_IN_GROUP, thread="t"),
        delivery("apart", alert("3")),
    )
    in_flight = leased(emptied, owner="another")

    assert hand(emptied, now=NOW) == 1
    assert ledger(emptied) == {
        "first": "leased",
        "close": "pending",
        "joins": "pending",
        "apart": "dead",
        "apart|fallback": "pending",
    }
    sent(emptied, in_flight, owner="another")
    assert hand(emptied, now=NOW) == 2
    assert ledger(emptied)["first"] == "sent"


@pytest.mark.parametrize(
    ("held_by", "ambiguous", "may_be_a_repeat"),
    [
        pytest.param("worker", False, False, id="what was just refused has not arrived"),
        pytest.param("worker", True, True, id="an earlier attempt may have"),
        pytest.param("another", False, True, id="so may what a worker held that has ended"),
    ],
)
def test_a_copy_of_what_may_have_arrived_says_so(
    emptied: psycopg.Connection[Any], held_by: str, ambiguous: bool, may_be_a_repeat: bool
) -> None:
    put(emptied, delivery("a", ONE))
    if ambiguous:
        given = leased(emptied)
        mark_retry(emptied, given.id, owner="worker", now=NOW, next_attempt_at=NOW, error="x", ambiguous=True)
    leased(emptied, owner=held_by)

    assert hand(emptied, now=NOW + LEASE) == 1
    assert stored(emptied, "a|fallback", "possible_repeat") == (may_be_a_repeat,)


def test_a_worker_killed_in_the_middle_has_changed_nothing(emptied_dsn: str, emptied: psycopg.Connection[Any]) -> None:
    """Originals are given up and the first copies made when its connection is cut: none of it stays."""
    put(emptied, delivery("a", ONE), delivery("b", TWO), delivery("edit", ONE, reason=NotifyReason.UPDATED))
    ends: list[object] = []
    with connect(emptied_dsn) as doomed, connect(emptied_dsn) as holder:
        # Whoever makes the copy of the second waits for this transaction.
        holder.execute(
            "INSERT INTO monitoring.delivery (key, channel, reason, members, fingerprints, as_of, status, next_attempt_at,"
            " created_at, updated_at) VALUES ('b|fallback', 'x', 'first', '[]', '{}', now(), 'pending', now(), now(), now())"
        )

        def work() -> None:
            try:
                ends.append(hand(doomed))
            except StorageError as error:
                ends.append(error)

        worker = threading.Thread(target=work)
        worker.start()
        waiting = "SELECT FROM pg_stat_activity WHERE pid = %s AND wait_event_type = 'Lock'"
        while emptied.execute(waiting, (doomed.info.backend_pid,)).fetchone() is None:
            emptied.commit()
            assert worker.is_alive()
        emptied.execute("SELECT pg_terminate_backend(%s)", (doomed.info.backend_pid,))
        emptied.commit()
        worker.join()
        holder.rollback()

    assert [type(end) for end in ends] == [StorageError]
    assert ledger(emptied) == {"a": "pending", "b": "pending", "edit": "pending"}
    assert hand(emptied) == 2


def test_two_workers_that_hand_over_at_once_make_each_copy_once(
    emptied_dsn: str, emptied: psycopg.Connection[Any]
) -> None:
    put(emptied, *(delivery(str(number), ONE) for number in range(20)))
    together = threading.Barrier(2)
    made: list[int] = []

    def work() -> None:
        with connect(emptied_dsn) as own:
            together.wait(timeout=30)
            made.append(hand(own))

    workers = [threading.Thread(target=work) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()

    assert sorted(made) == [0, 20]
    assert sorted(ledger(emptied).values()) == ["dead"] * 20 + ["pending"] * 20


def test_it_waits_for_whoever_decides(emptied_dsn: str, emptied: psycopg.Connection[Any]) -> None:
    """Ids follow the commits, here too."""
    put(emptied, delivery("a", ONE))
    with connect(emptied_dsn) as evaluation:
        lock_alerts(evaluation)
        emptied.execute("SET lock_timeout = '50ms'")
        emptied.commit()
        with pytest.raises(StorageError, match="safe to try again"):
            hand(emptied)
    assert ledger(emptied) == {"a": "pending"}


def test_it_is_committed(emptied_dsn: str, emptied: psycopg.Connection[Any]) -> None:
    put(emptied, delivery("a", ONE))
    with connect(emptied_dsn) as other:
        hand(other)
        assert ledger(emptied) == {"a": "dead", "a|fallback": "pending"}


def test_a_long_or_hostile_error_is_kept_as_far_as_it_can_be(emptied: psycopg.Connection[Any]) -> None:
    put(emptied, delivery("a", ONE), delivery("b", ONE, channel="slack:#two"))
    hand(emptied, error=HOSTILE)
    hand_to_fallback(
        emptied, channel="slack:#two", fallback=MAIL, owner="worker", now=LATER, error="x" * 2 * ERROR_LIMIT
    )

    assert stored(emptied, "a", "last_error") == (STORED_HOSTILE,)
    assert stored(emptied, "b", "last_error") == ("x" * (ERROR_LIMIT - 1) + "…",)


@pytest.mark.parametrize(
    ("call", "named"),
    [
        pytest.param(lambda conn: hand(conn, now=LATER.replace(tzinfo=None)), "naive", id="a naive time"),
        pytest.param(
            lambda conn: hand_to_fallback(conn, channel=OPS, fallback=OPS, owner="worker", now=LATER, error="x"),
            "itself",
            id="a circle",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(
    emptied: psycopg.Connection[Any], call: Callable[[psycopg.Connection[Any]], int], named: str
) -> None:
    put(emptied, delivery("a", ONE))
    with pytest.raises(ValueError, match=named):
        call(emptied)
    assert ledger(emptied) == {"a": "pending"}
    assert leased(emptied, now=NOW + LEASE).key == "a"

"""Somebody takes an open alert in hand: it is remembered, told in its history, and lost by nobody."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from include.sync_health.alerts import Acknowledgement, AlertState, EventKind
from include.sync_health.errors import RequestError, StorageError
from include.warehouse.acknowledgements import acknowledge, unacknowledge
from include.warehouse.alert_ledger import time_line
from include.warehouse.alert_store import load_alerts, lock_alerts, save_step
from include.warehouse.monitoring_session import connect
from tests.warehouse.monitoring_records import HOSTILE, HOUR, MINUTE, NOW, STORED_HOSTILE, alert, event

ADA = Acknowledgement(by="ada@example.com", at=NOW, reason="rotating the secret")
ONE = alert("1")
LATER = NOW + MINUTE


def store(conn: psycopg.Connection[Any], **changes: Any) -> str:
    """Store an alert, and return its fingerprint."""
    save_step(conn, alerts=[replace(ONE, **changes)], events=[event(ONE)], deliveries=[], now=NOW)
    conn.commit()
    return ONE.fingerprint


def history(conn: psycopg.Connection[Any]) -> list[tuple[EventKind, str]]:
    """Return what happened after it opened."""
    return [(each.kind, each.reason) for each in time_line(conn, ONE.fingerprint).events[1:]]


@pytest.mark.parametrize("state", [AlertState.FIRING, AlertState.RECOVERING])
def test_an_open_alert_is_taken_in_hand_and_given_back(emptied: psycopg.Connection[Any], state: AlertState) -> None:
    """Nothing else of it changes: neither its state nor what it was last judged by."""
    named = store(emptied, state=state)

    taken = acknowledge(emptied, named, ADA, now=LATER)
    assert taken == replace(ONE, state=state, acknowledged=ADA)
    assert load_alerts(emptied)[named] == taken

    given_back = unacknowledge(emptied, named, by="ben", now=LATER + MINUTE)
    assert given_back == replace(ONE, state=state)
    assert load_alerts(emptied)[named] == given_back
    assert history(emptied) == [
        (EventKind.ACKNOWLEDGED, "by ada@example.com: rotating the secret"),
        (EventKind.UNACKNOWLEDGED, "by ben"),
    ]
    assert [each.as_of for each in time_line(emptied, named).events] == [NOW, LATER, LATER + MINUTE]


def test_one_with_an_end_says_so_and_another_takes_its_place(emptied: psycopg.Connection[Any]) -> None:
    named = store(emptied)
    until = replace(ADA, until=NOW + HOUR)
    acknowledge(emptied, named, until, now=LATER)
    ben = Acknowledgement(by=" ben ", at=LATER, reason=" mine ")

    taken = acknowledge(emptied, named, ben, now=LATER + MINUTE)

    assert taken.acknowledged == replace(ben, by="ben", reason="mine")
    assert history(emptied) == [
        (EventKind.ACKNOWLEDGED, "by ada@example.com until 2026-03-02 13:00 UTC: rotating the secret"),
        (EventKind.ACKNOWLEDGED, "by ben: mine"),
    ]


def test_the_same_again_is_one_line_of_history(emptied: psycopg.Connection[Any]) -> None:
    """A shell's retry."""
    named = store(emptied)
    acknowledge(emptied, named, ADA, now=LATER)
    acknowledge(emptied, named, ADA, now=LATER)

    assert len(history(emptied)) == 1


@pytest.mark.parametrize(
    ("state", "changes", "named"),
    [
        pytest.param(AlertState.INACTIVE, {}, "is inactive; only one that is open", id="an alert that is over"),
        pytest.param(AlertState.PENDING, {}, "is pending; only one that is open", id="one that has not opened"),
        pytest.param(AlertState.FIRING, {"by": " "}, "by: it is empty", id="by nobody"),
        pytest.param(AlertState.FIRING, {"reason": ""}, "reason: it is empty", id="for no reason"),
        pytest.param(AlertState.FIRING, {"until": LATER}, "until: .* is over", id="until now"),
    ],
)
def test_what_makes_no_sense_is_one_line(
    emptied: psycopg.Connection[Any], state: AlertState, changes: dict[str, Any], named: str
) -> None:
    fingerprint = store(emptied, state=state)

    with pytest.raises(RequestError, match=named) as caught:
        acknowledge(emptied, fingerprint, replace(ADA, **changes), now=LATER)
    assert "\n" not in str(caught.value)
    assert history(emptied) == []


@pytest.mark.parametrize(
    ("state", "by", "named"),
    [
        pytest.param(AlertState.INACTIVE, "ben", "is inactive", id="an alert that is over"),
        pytest.param(AlertState.FIRING, "ben", "nobody has acknowledged", id="one that nobody has in hand"),
        pytest.param(AlertState.FIRING, "", "by: it is empty", id="by nobody"),
    ],
)
def test_what_cannot_be_given_back_is_one_line(
    emptied: psycopg.Connection[Any], state: AlertState, by: str, named: str
) -> None:
    with pytest.raises(RequestError, match=named):
        unacknowledge(emptied, store(emptied, state=state), by=by, now=LATER)


@pytest.mark.parametrize("named", ["0" * 64, ONE.fingerprint[:12], HOSTILE])
def test_an_alert_that_is_not_there_is_one_line(emptied: psycopg.Connection[Any], named: str) -> None:
    """The whole fingerprint, or nothing: which alert a beginning means is for who asks to decide."""
    store(emptied)
    for ask in (
        lambda: acknowledge(emptied, named, ADA, now=LATER),
        lambda: unacknowledge(emptied, named, by="ben", now=LATER),
    ):
        with pytest.raises(RequestError, match="there is no alert"):
            ask()
        emptied.rollback()


def test_hostile_text_is_stored_as_text(emptied: psycopg.Connection[Any]) -> None:
    named = store(emptied)
    taken = acknowledge(emptied, named, replace(ADA, by=HOSTILE, reason=HOSTILE), now=LATER)

    assert taken.acknowledged == replace(ADA, by=STORED_HOSTILE, reason=STORED_HOSTILE)
    assert history(emptied) == [(EventKind.ACKNOWLEDGED, f"by {STORED_HOSTILE}: {STORED_HOSTILE}")]


def test_the_caller_commits(emptied: psycopg.Connection[Any]) -> None:
    named = store(emptied)
    acknowledge(emptied, named, ADA, now=LATER)
    emptied.rollback()

    assert load_alerts(emptied)[named] == ONE
    assert history(emptied) == []


def test_it_is_not_lost_to_an_evaluation_at_the_same_time(emptied_dsn: str, emptied: psycopg.Connection[Any]) -> None:
    """Both read, change and write the whole alert: they take turns."""
    named = store(emptied)
    together = threading.Barrier(2)
    crashes: list[BaseException] = []

    def evaluate() -> None:
        try:
            with connect(emptied_dsn) as own:
                together.wait(timeout=30)
                for _ in range(20):
                    with own.transaction():
                        lock_alerts(own)
                        known = load_alerts(own)[named]
                        save_step(
                            own, alerts=[replace(known, flaps=known.flaps + 1)], events=[], deliveries=[], now=NOW
                        )
        except BaseException as crash:
            crashes.append(crash)
            raise

    worker = threading.Thread(target=evaluate)
    worker.start()
    together.wait(timeout=30)
    for number in range(20):
        acknowledge(emptied, named, replace(ADA, reason=str(number)), now=NOW + number * MINUTE)
        emptied.commit()
    worker.join()

    found = load_alerts(emptied)[named]
    assert crashes == []
    assert found.flaps == 20
    assert found.acknowledged == replace(ADA, reason="19")


@pytest.mark.parametrize(
    "ask",
    [
        pytest.param(lambda conn, at: acknowledge(conn, ONE.fingerprint, ADA, now=at), id="taking it"),
        pytest.param(lambda conn, at: unacknowledge(conn, ONE.fingerprint, by="ben", now=at), id="giving it back"),
    ],
)
def test_a_naive_time_is_refused_and_a_missing_schema_is_one_line(
    emptied: psycopg.Connection[Any], make_database: Callable[..., str], ask: Callable[..., object]
) -> None:
    store(emptied, acknowledged=ADA)
    with pytest.raises(ValueError, match="naive"):
        ask(emptied, NOW.replace(tzinfo=None))
    with connect(make_database("empty")) as conn, pytest.raises(StorageError, match=r"include\.cli migrate"):
        ask(conn, NOW)

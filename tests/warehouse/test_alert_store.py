"""What is saved is what is loaded, and a step saved twice is saved once."""

from __future__ import annotations

import math
import threading
import uuid
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from include.sync_health.alerts import (
    Acknowledgement,
    Alert,
    AlertState,
    CloseReason,
    EventKind,
    NotifyReason,
    SilentReason,
    Suppression,
    Told,
)
from include.sync_health.errors import StorageError
from include.sync_health.verdicts import ErrorClass, Severity
from include.warehouse.alert_store import load_alerts, load_named_alerts, lock_alerts, save_step
from include.warehouse.monitoring_session import connect
from include.warehouse.stored_values import REPLACEMENT
from tests.warehouse.monitoring_records import (
    HOSTILE,
    MINUTE,
    NOW,
    OPS,
    STORED_HOSTILE,
    alert,
    delivery,
    event,
    kept_back,
)


def count(conn: psycopg.Connection[Any], table: str) -> int:
    row = conn.execute(f"SELECT count(*) FROM monitoring.{table}").fetchone()
    assert row is not None
    return int(row[0])


EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MOMENTS = st.builds(
    lambda seconds, microseconds, zone: (EPOCH + timedelta(seconds=seconds, microseconds=microseconds)).astimezone(
        zone
    ),
    st.integers(0, 7_000_000_000),
    st.integers(0, 999_999),
    st.sampled_from([UTC, timezone(timedelta(hours=-7))]),
)
STORABLE = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=40)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(-1e15, 1e15) | STORABLE,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(STORABLE, inner, max_size=3),
    max_leaves=8,
)
DOCUMENTS = st.dictionaries(STORABLE, JSON_VALUES, max_size=4)
TOLD = st.builds(
    Told,
    reason=st.sampled_from(NotifyReason),
    at=MOMENTS,
    severity=st.sampled_from(Severity),
    thread=st.none() | STORABLE,
    shown=st.none() | STORABLE,
)
SUPPRESSIONS = st.builds(Suppression, why=st.sampled_from(SilentReason), by=st.none() | STORABLE, since=MOMENTS)
ACKNOWLEDGEMENTS = st.builds(Acknowledgement, by=STORABLE, at=MOMENTS, reason=STORABLE, until=st.none() | MOMENTS)
ALERTS = st.builds(
    Alert,
    fingerprint=st.text("0123456789abcdef", min_size=64, max_size=64),
    rule=STORABLE,
    identity=st.dictionaries(STORABLE, STORABLE, max_size=3),
    state=st.sampled_from(AlertState),
    severity=st.sampled_from(Severity),
    peak_severity=st.sampled_from(Severity),
    state_since=MOMENTS,
    last_as_of=MOMENTS,
    last_breach_at=st.none() | MOMENTS,
    episode_id=st.none() | st.uuids(),
    opened_at=st.none() | MOMENTS,
    closed_at=st.none() | MOMENTS,
    close_reason=st.none() | st.sampled_from(CloseReason),
    stale_since=st.none() | MOMENTS,
    flaps=st.integers(0, 10_000),
    returns=st.lists(MOMENTS, max_size=3).map(tuple),
    reopened_at=st.none() | MOMENTS,
    flapping_since=st.none() | MOMENTS,
    title=STORABLE,
    message=STORABLE,
    reason=STORABLE,
    credential_id=st.none() | STORABLE,
    company_id=st.none() | STORABLE,
    company_name=st.none() | STORABLE,
    environment=st.none() | STORABLE,
    data_type=st.none() | STORABLE,
    metadata=DOCUMENTS,
    error_class=st.none() | st.sampled_from(ErrorClass),
    cause=st.none() | STORABLE,
    evidence=DOCUMENTS,
    told=st.dictionaries(STORABLE, TOLD, max_size=3),
    threads=st.dictionaries(STORABLE, STORABLE, max_size=3),
    suppressed=st.dictionaries(STORABLE, SUPPRESSIONS, max_size=3),
    acknowledged=st.none() | ACKNOWLEDGEMENTS,
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(made=st.lists(ALERTS, max_size=3, unique_by=lambda each: each.fingerprint))
def test_an_alert_comes_back_as_it_was_saved(conn: psycopg.Connection[Any], made: list[Alert]) -> None:
    """Whatever Unicode it holds, as long as PostgreSQL can store it at all."""
    save_step(conn, alerts=made, events=[], deliveries=[], now=NOW)
    loaded = load_alerts(conn, fingerprints=[each.fingerprint for each in made])
    conn.rollback()

    assert loaded == {each.fingerprint: each for each in made}
    assert all(each.last_as_of.tzinfo is UTC for each in loaded.values())


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        pytest.param("a\x00b", f"a{REPLACEMENT}b", id="a NUL becomes the replacement character"),
        pytest.param("a\ud83db", f"a{REPLACEMENT}b", id="so does a lone surrogate"),
        pytest.param("\x00\x00", REPLACEMENT * 2, id="one for one"),
        pytest.param("a\\u0000b", "a\\u0000b", id="the letters of an escape are only letters"),
        pytest.param(
            "\u202e\x07\U0001f525 <!channel>'; --", "\u202e\x07\U0001f525 <!channel>'; --", id="all else stays"
        ),
    ],
)
def test_text_that_cannot_be_stored_is_replaced_wherever_it_stands(
    conn: psycopg.Connection[Any], given: str, stored: str
) -> None:
    made = alert(message=given, metadata={given: [given]}, evidence={"in": {given: given}}, company_name=given)
    save_step(conn, alerts=[made], events=[event(made, reason=given)], deliveries=[], now=NOW)

    loaded = load_alerts(conn)[made.fingerprint]
    assert (loaded.message, loaded.company_name) == (stored, stored)
    assert loaded.metadata == {stored: [stored]}
    assert loaded.evidence == {"in": {stored: stored}}
    assert conn.execute("SELECT reason FROM monitoring.alert_event").fetchone() == (stored,)


def test_texts_of_people_and_channels_are_replaced_too(conn: psycopg.Connection[Any]) -> None:
    """Who acknowledged it, what a policy calls its mutes: none of it can stop a tick from being stored."""
    made = alert(
        told={HOSTILE: Told(reason=NotifyReason.FIRST, at=NOW, severity=Severity.HIGH, thread=HOSTILE, shown=HOSTILE)},
        threads={HOSTILE: HOSTILE},
        suppressed={HOSTILE: Suppression(why=SilentReason.MUTED, by=HOSTILE, since=NOW)},
        acknowledged=Acknowledgement(by=HOSTILE, at=NOW, reason=HOSTILE),
    )
    spoken = delivery(HOSTILE, made, channel=HOSTILE, thread=HOSTILE, details={HOSTILE: [HOSTILE]})
    held = kept_back(HOSTILE + "1", made, by=HOSTILE)
    save_step(conn, alerts=[made], events=[], deliveries=[spoken, held], now=NOW)
    telling = delivery("summary", made, accounts_for=(held.key,))
    assert save_step(conn, alerts=[], events=[], deliveries=[telling], now=NOW).accounted == 1

    loaded = load_alerts(conn)[made.fingerprint]
    assert (loaded.told[STORED_HOSTILE].thread, loaded.told[STORED_HOSTILE].shown) == (STORED_HOSTILE,) * 2
    assert loaded.threads == {STORED_HOSTILE: STORED_HOSTILE}
    assert loaded.suppressed[STORED_HOSTILE].by == STORED_HOSTILE
    assert loaded.acknowledged is not None
    assert (loaded.acknowledged.by, loaded.acknowledged.reason) == (STORED_HOSTILE,) * 2
    rows = conn.execute('SELECT channel, thread, details, "by" FROM monitoring.delivery ORDER BY id LIMIT 2').fetchall()
    assert rows == [
        (STORED_HOSTILE, STORED_HOSTILE, {STORED_HOSTILE: [STORED_HOSTILE]}, None),
        (OPS, None, {}, STORED_HOSTILE),
    ]


def test_values_that_json_does_not_know_are_stored_as_the_nearest_it_does(conn: psycopg.Connection[Any]) -> None:
    import numpy as np
    import pandas as pd

    made = alert(
        evidence={
            "nan": math.nan,
            "infinite": -math.inf,
            "nat": pd.NaT,
            "count": np.int64(3),
            "rate": np.float64(0.5),
            "flag": np.bool_(True),
            "pair": (1, 2),
            "names": {"b", "a"},
            "at": datetime(2026, 3, 2, 5, 0, tzinfo=timezone(timedelta(hours=-7))),
            "id": uuid.UUID(int=1),
        }
    )
    save_step(conn, alerts=[made], events=[], deliveries=[], now=NOW)

    assert load_alerts(conn)[made.fingerprint].evidence == {
        "nan": None,
        "infinite": None,
        "nat": None,
        "count": 3,
        "rate": 0.5,
        "flag": True,
        "pair": [1, 2],
        "names": ["a", "b"],
        "at": "2026-03-02T12:00:00+00:00",
        "id": "00000000-0000-0000-0000-000000000001",
    }


@pytest.mark.parametrize(
    ("offset", "message"),
    [
        pytest.param(-MINUTE, "stored", id="an older as_of changes nothing"),
        pytest.param(timedelta(0), "given", id="an equal one replaces"),
        pytest.param(MINUTE, "given", id="a newer one replaces"),
    ],
)
def test_an_alert_is_compared_by_as_of_before_it_is_set(
    conn: psycopg.Connection[Any], offset: timedelta, message: str
) -> None:
    save_step(conn, alerts=[alert(message="stored")], events=[], deliveries=[], now=NOW)
    given = alert(message="given", last_as_of=NOW + offset)

    saved = save_step(conn, alerts=[given, alert("8")], events=[], deliveries=[], now=NOW)

    assert load_alerts(conn)[given.fingerprint].message == message
    assert (saved.alerts, saved.newer_alerts) == ((1, 1) if message == "stored" else (2, 0))


def test_a_step_saved_again_changes_nothing(conn: psycopg.Connection[Any]) -> None:
    made = alert()
    step: dict[str, Any] = {"alerts": [made], "events": [event(made)], "deliveries": [delivery("a", made)]}

    first = save_step(conn, **step, now=NOW)
    before = load_alerts(conn)
    again = save_step(conn, **step, now=NOW + MINUTE)

    assert (first.events, first.deliveries) == (1, 1)
    assert (again.events, again.deliveries) == (0, 0)
    assert (count(conn, "alert"), count(conn, "alert_event"), count(conn, "delivery")) == (1, 1, 1)
    assert load_alerts(conn) == before


def test_a_delivery_keeps_what_its_renderer_needs(conn: psycopg.Connection[Any]) -> None:
    made = delivery(
        "a", alert(), severity=Severity.CRITICAL, thread="t", details={"since": NOW, "rules": {"stale_sync": 2}}
    )
    save_step(conn, alerts=[], events=[], deliveries=[made, kept_back("b", alert())], now=NOW)

    rows = conn.execute('SELECT key, "by", severity, thread, details FROM monitoring.delivery ORDER BY id').fetchall()
    assert rows == [
        ("a", None, "critical", "t", {"since": "2026-03-02T12:00:00+00:00", "rules": {"stale_sync": 2}}),
        ("b", "a-silence", "high", None, {}),
    ]


def test_the_first_delivery_of_a_key_stays(conn: psycopg.Connection[Any]) -> None:
    made = alert()
    save_step(conn, alerts=[], events=[], deliveries=[delivery("a", made)], now=NOW)
    save_step(conn, alerts=[], events=[], deliveries=[delivery("a", made, channel="slack:#other")], now=NOW)

    assert conn.execute("SELECT key, channel FROM monitoring.delivery").fetchall() == [("a", OPS)]


def test_deliveries_are_numbered_in_the_order_given(conn: psycopg.Connection[Any]) -> None:
    keys = [f"{(number * 37) % 100:02d}" for number in range(100)]
    save_step(conn, alerts=[], events=[], deliveries=[delivery(key, alert()) for key in keys], now=NOW)

    stored = conn.execute("SELECT key FROM monitoring.delivery ORDER BY id").fetchall()
    assert [key for (key,) in stored] == keys


def test_nothing_is_committed(dsn: str) -> None:
    made = alert()
    with connect(dsn) as conn:
        save_step(conn, alerts=[made], events=[event(made)], deliveries=[delivery("a", made)], now=NOW)
        conn.rollback()
    with connect(dsn) as conn:
        assert [count(conn, table) for table in ("alert", "alert_event", "delivery")] == [0, 0, 0]


@pytest.mark.parametrize(
    ("changes", "followed"),
    [
        pytest.param({"state": AlertState.FIRING}, True, id="firing"),
        pytest.param({"state": AlertState.RECOVERING}, True, id="recovering"),
        pytest.param({"state": AlertState.PENDING}, True, id="pending"),
        pytest.param({"state": AlertState.INACTIVE}, False, id="inactive and nobody was told"),
        pytest.param(
            {
                "state": AlertState.INACTIVE,
                "told": {
                    OPS: Told(reason=NotifyReason.CLOSED, at=NOW, severity=Severity.LOW),
                    "email:a@example.com": Told(reason=NotifyReason.REPEAT, at=NOW, severity=Severity.LOW),
                },
            },
            True,
            id="inactive and one of two channels has yet to hear that it closed",
        ),
        pytest.param(
            {
                "state": AlertState.INACTIVE,
                "told": {OPS: Told(reason=NotifyReason.CLOSED, at=NOW, severity=Severity.LOW)},
            },
            False,
            id="inactive and everybody knows",
        ),
    ],
)
def test_alerts_to_follow_are_loaded_without_being_named(
    conn: psycopg.Connection[Any], changes: dict[str, Any], followed: bool
) -> None:
    made = alert(**changes)
    save_step(conn, alerts=[made], events=[], deliveries=[], now=NOW)

    assert (made.fingerprint in load_alerts(conn)) is followed
    assert load_alerts(conn, fingerprints=[made.fingerprint, "unknown"]) == {made.fingerprint: made}


def test_named_alerts_come_in_the_order_of_their_names(conn: psycopg.Connection[Any]) -> None:
    one, two = alert("1"), alert("2", state=AlertState.INACTIVE)
    save_step(conn, alerts=[one, two], events=[], deliveries=[], now=NOW)

    for order in ([one, two], [two, one]):
        names = [each.fingerprint for each in order]
        assert load_named_alerts(conn, fingerprints=["unknown", *names, names[0]]) == order


@pytest.mark.parametrize("kind", EventKind)
def test_every_kind_of_event_can_be_stored(conn: psycopg.Connection[Any], kind: EventKind) -> None:
    made = event(alert(), kind=kind, close_reason=CloseReason.EXPIRED)
    assert save_step(conn, alerts=[], events=[made], deliveries=[], now=NOW).events == 1


@pytest.mark.parametrize("silent", SilentReason)
def test_every_reason_for_silence_is_recorded_as_not_sent(conn: psycopg.Connection[Any], silent: SilentReason) -> None:
    save_step(conn, alerts=[], events=[], deliveries=[delivery("a", alert(), reason=None, silent=silent)], now=NOW)

    row = conn.execute("SELECT status, silent, reason FROM monitoring.delivery").fetchone()
    assert row == ("not_sent", str(silent), None)


@pytest.mark.parametrize("reason", NotifyReason)
def test_every_reason_to_notify_is_due_at_once(conn: psycopg.Connection[Any], reason: NotifyReason) -> None:
    save_step(conn, alerts=[], events=[], deliveries=[delivery("a", alert(), reason=reason)], now=NOW)

    row = conn.execute("SELECT status, reason, next_attempt_at FROM monitoring.delivery").fetchone()
    assert row == ("pending", str(reason), NOW)


def test_a_naive_time_is_refused(conn: psycopg.Connection[Any]) -> None:
    with pytest.raises(ValueError, match="naive"):
        save_step(conn, alerts=[alert(closed_at=NOW.replace(tzinfo=None))], events=[], deliveries=[], now=NOW)


def test_two_evaluations_take_turns(dsn: str) -> None:
    """Without the lock both would read the same state and one count would be lost."""
    with connect(dsn) as conn:
        save_step(conn, alerts=[alert(flaps=0)], events=[], deliveries=[], now=NOW)
    together = threading.Barrier(4)

    def evaluate() -> None:
        with connect(dsn) as conn:
            together.wait(timeout=30)
            for _ in range(10):
                with conn.transaction():
                    lock_alerts(conn)
                    known = load_alerts(conn)[alert().fingerprint]
                    save_step(conn, alerts=[replace(known, flaps=known.flaps + 1)], events=[], deliveries=[], now=NOW)

    workers = [threading.Thread(target=evaluate) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()

    with connect(dsn) as conn:
        assert load_alerts(conn)[alert().fingerprint].flaps == 40


def test_a_lock_that_is_not_given_back_is_one_line(dsn: str) -> None:
    with connect(dsn) as holder, connect(dsn) as waiter:
        lock_alerts(holder)
        waiter.execute("SET lock_timeout = '50ms'")
        with pytest.raises(StorageError, match=r"held a lock .* safe to try again"):
            lock_alerts(waiter)
        waiter.rollback()


def test_a_schema_that_is_missing_is_one_line(make_database: Callable[..., str]) -> None:
    with connect(make_database("empty")) as conn, pytest.raises(StorageError, match=r"include\.cli migrate"):
        load_alerts(conn)

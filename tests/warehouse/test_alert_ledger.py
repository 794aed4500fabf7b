"""The story of one alert, and the alerts that a person asks for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC
from typing import Any

import psycopg
import pytest

from include.sync_health.alerts import (
    AlertState,
    CloseReason,
    DeliveryStatus,
    EventKind,
    NotifyReason,
    SilentReason,
)
from include.sync_health.errors import RequestError, StorageError
from include.sync_health.verdicts import Severity
from include.warehouse import alert_ledger
from include.warehouse.alert_ledger import LedgerLine, TimeLine, alerts_of_credential, find_alerts, time_line
from include.warehouse.alert_store import save_step
from include.warehouse.monitoring_session import connect
from include.warehouse.outbox import hand_to_fallback, mark_dead
from tests.warehouse.monitoring_records import HOSTILE, HOUR, MINUTE, NOW, OPS, alert, delivery, event, kept_back
from tests.warehouse.outbox_steps import ONE, TWO, leased, put, sent

MAIL = "email:ops@example.com"


def test_the_story_of_an_alert_is_told_from_the_start(emptied: psycopg.Connection[Any]) -> None:
    """Its events and its messages; not those of others."""
    events = [
        event(ONE),
        event(ONE, kind=EventKind.CLOSED, as_of=NOW + HOUR, close_reason=CloseReason.RECOVERED),
        event(TWO, as_of=NOW + MINUTE),
        event(ONE, kind=EventKind.ESCALATED, as_of=NOW + MINUTE, severity=Severity.CRITICAL),
    ]
    save_step(emptied, alerts=[ONE, TWO], events=events, deliveries=[], now=NOW)
    put(emptied, delivery("a", ONE, severity=Severity.HIGH, thread="t"), kept_back("b", ONE), delivery("c", TWO))
    put(emptied, delivery("d", ONE, TWO, reason=NotifyReason.DIGEST, accounts_for=("b",)), now=NOW + HOUR)
    sent(emptied, leased(emptied), now=NOW + MINUTE)

    found = time_line(emptied, ONE.fingerprint)

    a = LedgerLine(
        id=1,
        key="a",
        channel=OPS,
        reason=NotifyReason.FIRST,
        silent=None,
        by=None,
        status=DeliveryStatus.SENT,
        as_of=NOW,
        created_at=NOW,
        severity=Severity.HIGH,
        thread="t",
        fallback_of=None,
        accounted_by=None,
        alerts=1,
        attempts=1,
        possible_repeat=False,
        last_error=None,
        sent_at=NOW + MINUTE,
        next_attempt_at=NOW,
    )
    b = replace(
        a,
        id=2,
        key="b",
        reason=None,
        silent=SilentReason.SILENCED,
        by="a-silence",
        status=DeliveryStatus.NOT_SENT,
        thread=None,
        accounted_by="d",
        attempts=0,
        sent_at=None,
    )
    d = replace(
        a,
        id=4,
        key="d",
        reason=NotifyReason.DIGEST,
        status=DeliveryStatus.PENDING,
        created_at=NOW + HOUR,
        next_attempt_at=NOW + HOUR,
        severity=None,
        thread=None,
        alerts=2,
        attempts=0,
        sent_at=None,
    )
    assert found == TimeLine(alert=ONE, events=(events[0], events[3], events[1]), deliveries=(a, b, d))
    assert all(each.as_of.tzinfo is UTC for each in (*found.events, *found.deliveries))


def test_the_story_says_what_went_wrong_and_where_it_went_instead(emptied: psycopg.Connection[Any]) -> None:
    put(emptied, delivery("a", ONE), delivery("b", ONE, reason=NotifyReason.CLOSED))
    mark_dead(emptied, leased(emptied).id, owner="worker", now=NOW, error="msg_too_long")
    hand_to_fallback(emptied, channel=OPS, fallback=MAIL, owner="worker", now=NOW, error="account_inactive")

    lines = time_line(emptied, ONE.fingerprint).deliveries
    assert [(each.key, str(each.status), each.last_error, each.fallback_of) for each in lines] == [
        ("a", "dead", "msg_too_long", None),
        ("b", "dead", "account_inactive", None),
        ("b|fallback", "pending", None, OPS),
    ]


def test_of_a_long_story_the_newest_is_told(emptied: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alert_ledger, "LONGEST_TIME_LINE", 2)
    events = [event(ONE, as_of=NOW + n * MINUTE) for n in range(3)]
    save_step(emptied, alerts=[ONE], events=events, deliveries=[delivery(str(n), ONE) for n in range(3)], now=NOW)

    found = time_line(emptied, ONE.fingerprint)
    assert found.events == tuple(events[1:])
    assert [each.key for each in found.deliveries] == ["1", "2"]


@pytest.mark.parametrize("named", ["0" * 64, "", ONE.fingerprint[:12], HOSTILE])
def test_an_alert_that_is_not_there_is_one_line(emptied: psycopg.Connection[Any], named: str) -> None:
    put(emptied)
    with pytest.raises(RequestError, match="there is no alert") as caught:
        time_line(emptied, named)
    assert "\n" not in str(caught.value)


def test_the_open_alerts_of_a_credential_come_first_and_the_newest_of_each(emptied: psycopg.Connection[Any]) -> None:
    def of_rule(rule: str, state: AlertState, *, opened: int | None, since: int = 0) -> Any:
        opened_at = None if opened is None else NOW + opened * MINUTE
        return alert(
            "7", rule=rule, fingerprint=rule, state=state, opened_at=opened_at, state_since=NOW + since * MINUTE
        )

    ordered = [
        of_rule("recovering", AlertState.RECOVERING, opened=2, since=9),
        of_rule("firing", AlertState.FIRING, opened=1),
        of_rule("over", AlertState.INACTIVE, opened=5),
        of_rule("pending", AlertState.PENDING, opened=None, since=4),
        of_rule("older", AlertState.INACTIVE, opened=3),
    ]
    put(emptied, alerts=[*ordered[::-1], alert("8")])

    assert alerts_of_credential(emptied, "7") == ordered
    assert alerts_of_credential(emptied, HOSTILE) == []


A, B = (alert(name, fingerprint=digits.ljust(64, "0")) for name, digits in (("a", "3f9a2c1"), ("b", "3f9a2c2")))


@pytest.mark.parametrize(
    ("prefix", "found"),
    [
        pytest.param("3f9a2c", [A, B], id="two that begin alike, sorted"),
        pytest.param("3f9a2c2", [B], id="one more digit tells them apart"),
        pytest.param(" 3F9A2C1 ", [A], id="in capitals, and with blanks around"),
        pytest.param(A.fingerprint, [A], id="the whole of it"),
        pytest.param("3f9a2d", [], id="one that nobody has"),
        pytest.param("f9a2c1", [], id="not in the middle"),
    ],
)
def test_alerts_are_found_by_how_their_fingerprint_begins(
    emptied: psycopg.Connection[Any], prefix: str, found: list[Any]
) -> None:
    put(emptied, alerts=[B, A, ONE])
    assert find_alerts(emptied, prefix) == found


@pytest.mark.parametrize("prefix", ["3f9a2", "", "3f9a2%", "3f9a2_c", "a" * 65, HOSTILE])
def test_what_is_no_beginning_of_a_fingerprint_is_one_line(emptied: psycopg.Connection[Any], prefix: str) -> None:
    with pytest.raises(RequestError, match="give 6 to 64 of its hex digits") as caught:
        find_alerts(emptied, prefix)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize(
    "ask",
    [
        pytest.param(lambda conn: time_line(conn, ONE.fingerprint), id="a story"),
        pytest.param(lambda conn: alerts_of_credential(conn, "7"), id="a credential's"),
        pytest.param(lambda conn: find_alerts(conn, "3f9a2c"), id="by fingerprint"),
    ],
)
def test_a_schema_that_is_missing_is_one_line(
    make_database: Callable[..., str], ask: Callable[[psycopg.Connection[Any]], object]
) -> None:
    with connect(make_database("empty")) as conn, pytest.raises(StorageError, match=r"include\.cli migrate"):
        ask(conn)

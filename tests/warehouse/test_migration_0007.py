"""Raising a monitoring schema that is in use from revision 0006: alerts and messages go on, and the new words are stored."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from include.sync_health.alerts import AlertState, EventKind, NotifyReason, SilentReason, Told
from include.sync_health.verdicts import Severity
from include.warehouse.alert_store import load_alerts, save_step
from include.warehouse.migration import HEAD_REVISION, upgrade
from include.warehouse.monitoring_session import connect
from include.warehouse.outbox import lease_next
from tests.warehouse.monitoring_records import HOUR, MINUTE, NOW, OPS, alert, delivery, event
from tests.warehouse.rows_of_0001 import store_alert, store_delivery, store_event
from tests.warehouse.test_migration_0002 import columns_of, rows_of, upgrade_to

TOLD = {OPS: Told(reason=NotifyReason.FIRST, at=NOW, severity=Severity.HIGH)}
TABLES = ("alert", "alert_event", "delivery")


def test_a_schema_in_use_is_raised_and_nothing_in_it_changes(make_database: Callable[..., str]) -> None:
    """Every column of every row is there as it was; an alert that was told is closed in the next tick."""
    dsn = make_database("revision_0007")
    upgrade_to(dsn, "0006")
    firing = alert("7", told=TOLD)
    over = alert("8", state=AlertState.INACTIVE, closed_at=NOW, told=TOLD)
    with connect(dsn) as conn:
        for each in (firing, over):
            store_alert(conn, each)
            store_event(conn, event(each))
        store_delivery(conn, delivery("late", over))
        store_delivery(conn, delivery("close", over, reason=NotifyReason.CLOSED))
        store_delivery(conn, delivery("first", firing))
        store_delivery(conn, delivery("not", firing, reason=None, silent=SilentReason.SHADOW))
        # As the release before sent it: it told of the close.
        conn.execute(
            "UPDATE monitoring.delivery SET status = 'sent', sent_at = %s, receipt = '{\"told_of_close\": true}'"
            " WHERE key = 'late'",
            (NOW,),
        )
        conn.commit()
        columns = {table: names for table, names in columns_of(conn).items() if table in TABLES}
        before = {table: rows_of(conn, table, names) for table, names in columns.items()}

    assert upgrade(dsn) == ("0006", HEAD_REVISION)

    with connect(dsn) as conn:
        assert {table: rows_of(conn, table, names) for table, names in columns.items()} == before
        assert load_alerts(conn) == {each.fingerprint: each for each in (firing, over)}
        leased = lease_next(conn, channel=OPS, owner="w", now=NOW, lease_for=MINUTE)
        assert leased is not None
        assert (leased.key, leased.thread, leased.details, leased.severity, leased.parent) == (
            "first",
            None,
            {},
            None,
            None,
        )
        assert leased.neighbours == (firing,)
        found = conn.execute("SELECT silent FROM monitoring.delivery WHERE key = 'close'").fetchone()
        assert found == ("already_told",)


def test_what_0006_refuses_is_stored_after_it(make_database: Callable[..., str]) -> None:
    """Every word of the code, and no other."""
    dsn = make_database("revision_0007")
    upgrade_to(dsn, "0006")
    with connect(dsn) as conn, pytest.raises(psycopg.errors.CheckViolation):
        store_delivery(conn, delivery("a", alert(), reason=NotifyReason.DIGEST))
    upgrade(dsn)
    with connect(dsn) as conn:
        saved = save_step(
            conn,
            alerts=[],
            events=[event(alert(), kind=kind) for kind in EventKind],
            deliveries=[
                *(delivery(str(reason), alert(), reason=reason) for reason in NotifyReason),
                *(delivery(f"not {why}", alert(), reason=None, silent=why) for why in SilentReason),
            ],
            now=NOW,
        )
    assert (saved.events, saved.deliveries) == (len(EventKind), len(NotifyReason) + len(SilentReason))


INSERT_EVENT = (
    "INSERT INTO monitoring.alert_event VALUES ('f', '2026-03-02', '{}', NULL, 'high', 'why', NULL, '2026-03-02')"
)


@pytest.mark.parametrize(
    ("statement", "error"),
    [
        pytest.param(INSERT_EVENT.format("exploded"), psycopg.errors.CheckViolation, id="an event that nobody knows"),
        pytest.param(
            "UPDATE monitoring.delivery SET reason = 'shouted'", psycopg.errors.CheckViolation, id="an unknown reason"
        ),
        pytest.param(
            "UPDATE monitoring.delivery SET severity = 'huge'", psycopg.errors.CheckViolation, id="an unknown severity"
        ),
        pytest.param(
            "UPDATE monitoring.delivery SET status = 'not_sent', silent = 'shy'",
            psycopg.errors.CheckViolation,
            id="an unknown silence",
        ),
        pytest.param(
            "INSERT INTO monitoring.silence VALUES (gen_random_uuid(), '{}', now(), now(), 'a', 'b', now(), NULL)",
            psycopg.errors.CheckViolation,
            id="a silence of no length that nobody ended",
        ),
        pytest.param(
            "INSERT INTO monitoring.channel_state (channel, refusal, updated_at) VALUES ('c', 'x', now())",
            psycopg.errors.CheckViolation,
            id="a refusal since never",
        ),
    ],
)
def test_what_contradicts_itself_is_refused(
    emptied: psycopg.Connection[Any], statement: str, error: type[psycopg.Error]
) -> None:
    save_step(emptied, alerts=[], events=[], deliveries=[delivery("a", alert())], now=NOW)
    with pytest.raises(error):
        emptied.execute(statement.encode())


def test_history_is_only_ever_added_to(emptied: psycopg.Connection[Any]) -> None:
    """Changing a line is refused, whoever tries; deleting old ones is not."""
    made = event(alert())
    save_step(emptied, alerts=[], events=[made, replace(made, as_of=NOW + HOUR)], deliveries=[], now=NOW)
    emptied.commit()

    with pytest.raises(psycopg.errors.RaiseException, match=r"rows of monitoring\.alert_event are only ever added"):
        emptied.execute("UPDATE monitoring.alert_event SET reason = 'another'")
    emptied.rollback()
    assert emptied.execute("SELECT DISTINCT reason FROM monitoring.alert_event").fetchall() == [(made.reason,)]
    assert emptied.execute("DELETE FROM monitoring.alert_event WHERE as_of = %s", (NOW,)).rowcount == 1

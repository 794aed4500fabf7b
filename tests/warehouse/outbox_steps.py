"""What tests of the outbox do over and over: put messages in, take one out, mark it, and look at what the ledger says."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from typing import Any

import psycopg

from include.sync_health.alerts import Alert, AlertState, CloseReason, Delivery
from include.warehouse.alert_store import save_step
from include.warehouse.outbox import DroppedDelivery, LeasedDelivery, lease_next, mark_sent
from tests.warehouse.monitoring_records import MINUTE, NOW, OPS, alert

LEASE = 5 * MINUTE
ONE, TWO = alert("1"), alert("2")


def over(of: Alert) -> Alert:
    """Return an alert whose episode has ended."""
    at = of.last_as_of + MINUTE
    return replace(
        of, state=AlertState.INACTIVE, state_since=at, last_as_of=at, closed_at=at, close_reason=CloseReason.RECOVERED
    )


def put(
    conn: psycopg.Connection[Any], *deliveries: Delivery, alerts: Iterable[Alert] = (ONE, TWO), now: datetime = NOW
) -> None:
    """Store deliveries in one tick, and commit."""
    save_step(conn, alerts=alerts, events=[], deliveries=deliveries, now=now)
    conn.commit()


def lease(
    conn: psycopg.Connection[Any],
    *,
    owner: str = "worker",
    now: datetime = NOW,
    channel: str = OPS,
    dropped: list[DroppedDelivery] | None = None,
) -> LeasedDelivery | None:
    """Take the next message of a channel; those that are passed over are added to ``dropped``."""
    log = dropped.append if dropped is not None else None
    return lease_next(conn, channel=channel, owner=owner, now=now, lease_for=LEASE, on_drop=log)


def leased(conn: psycopg.Connection[Any], **changes: Any) -> LeasedDelivery:
    """Take the next message of a channel; there is one."""
    found = lease(conn, **changes)
    assert found is not None
    return found


def sent(
    conn: psycopg.Connection[Any],
    given: LeasedDelivery,
    *shown: Alert,
    parent: bool = False,
    now: datetime = NOW,
    owner: str = "worker",
) -> None:
    """Mark a leased message as sent, with what it showed, and as the first one of its thread."""
    receipt: dict[str, Any] = {"ts": given.key, **({"parent": True} if parent else {})}
    assert mark_sent(conn, given.id, owner=owner, now=now, receipt=receipt, rendered=shown)


def ledger(conn: psycopg.Connection[Any]) -> dict[str, str]:
    """Return how each message stands, by key: its status, or why it is not sent."""
    rows = conn.execute("SELECT key, coalesce(silent, status) FROM monitoring.delivery ORDER BY id").fetchall()
    conn.commit()
    return dict(rows)


def stored(conn: psycopg.Connection[Any], key: str, columns: str) -> tuple[Any, ...]:
    """Return columns of one message."""
    row = conn.execute(f"SELECT {columns} FROM monitoring.delivery WHERE key = %s".encode(), (key,)).fetchone()
    assert row is not None
    conn.commit()
    return row

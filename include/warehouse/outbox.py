"""
The outbox: deliveries that wait, are leased, sent, or given up.

    lease_next ──> send ──> mark_sent | mark_retry | mark_dead | drop         one commit each
    hand_to_fallback: all that wait, when the channel refuses us

A worker that dies between the lease and the mark leaves exactly that one delivery in doubt: when its lease has run
out it is handed out again as a possible repeat.

Order: a channel's deliveries are handed out in the order in which they were decided. One that waits for its next
attempt, or is leased, holds back only later ones of the channel that speak of the same alert (so "closed" never
overtakes "first") or belong to the same conversation (so that it begins once); the others pass, so that one message that
the channel refuses does not silence it. An edit (`NotifyReason.UPDATED`) holds back nobody, but while it is leased a later
edit of the same message. The order is that of the ids, and those follow the commits because
`include.warehouse.alert_store.lock_alerts` serialises who decides.

Coalescing: a message shows what is true when it goes out. What a channel that was out for hours has heard by that is
dropped when its turn comes, and recorded as not sent; see `lease_next`.

Every function here ends the transaction that the connection is in, and with it whatever the caller left open there:
use a session of its own (`include.warehouse.monitoring_session.connect`). ``now`` is aware; leases and attempts are
compared with it alone, so all workers must take it from clocks that agree to well within a lease.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

import psycopg

from include.sync_health.alerts import Alert, DeliveryStatus, SilentReason
from include.warehouse import outbox_statements as statements
from include.warehouse.alert_store import lock_alerts
from include.warehouse.kept_errors import kept_error
from include.warehouse.leased_deliveries import DroppedDelivery, LeasedDelivery, dropped_of, leased_of, leased_row
from include.warehouse.own_transaction import own_transaction
from include.warehouse.stored_values import aware, storable_json, storable_text

__all__ = [
    "DroppedDelivery",
    "LeasedDelivery",
    "abandon",
    "drop",
    "drop_superseded",
    "due_channels",
    "hand_to_fallback",
    "lease_next",
    "mark_dead",
    "mark_retry",
    "mark_sent",
    "status_of",
]


def due_channels(conn: psycopg.Connection[Any], *, now: datetime) -> list[str]:
    """
    Return the channels for which `lease_next` would now find something, the longest waiting first.

    Raises:
        StorageError: the schema is missing or the database unreachable.
    """
    with own_transaction(conn):
        return [row[0] for row in conn.execute(statements.DUE_CHANNELS, {"now": aware(now)})]


def lease_next(
    conn: psycopg.Connection[Any],
    *,
    channel: str,
    owner: str,
    now: datetime,
    lease_for: timedelta,
    on_drop: Callable[[DroppedDelivery], None] | None = None,
) -> LeasedDelivery | None:
    """
    Hand out the channel's next delivery to ``owner`` until ``now + lease_for``, or None when nothing is due.

    No delivery is handed out twice while leased, however many workers ask; see the module for the order. Passed over,
    and recorded as not sent, is what a message that was rendered after it was decided has said as well:

    - an opening, a repeat or an escalation of which that message showed every episode, and a close where it showed each
      of them as over (`SilentReason.ALREADY_TOLD`);
    - an edit, where the thread's first message went out or was edited since and showed its alerts, or where a newer edit
      of the thread waits (`SilentReason.SUPERSEDED`). An edit tells nobody anything: it is no message for the others.

    Args:
        conn: a session of this worker's own; committed.
        channel: such as ``slack:#servicetitan-alerts``.
        owner: unique to this worker and try, such as the task instance's id with its try number.
        now: aware.
        lease_for: longer than one send can take; positive.
        on_drop: called with each delivery that is passed over, once that is committed; for the log.

    Raises:
        ValueError: ``now`` is naive, or ``lease_for`` not positive.
        StorageError: the schema is missing or the database unreachable.
    """
    if lease_for <= timedelta(0):
        raise ValueError(f"lease_for must be positive, got {lease_for}")
    moment = aware(now)
    values = {
        "channel": storable_text(channel),
        "owner": storable_text(owner),
        "now": moment,
        "until": moment + lease_for,
    }
    dropped: list[DroppedDelivery] = []
    with own_transaction(conn):
        while (row := leased_row(conn, values)) is not None:
            compared = {name: row[name] for name in ("id", "channel", "created_at", "fingerprints", "thread")}
            why = conn.execute(statements.COALESCE, {"now": moment, **compared}).fetchone()
            if why is None:
                break
            dropped.append(dropped_of(row, why=SilentReason(why[0])))
        found = None if row is None else leased_of(conn, row)
    if on_drop is not None:
        for each in dropped:
            on_drop(each)
    return found


def mark_sent(
    conn: psycopg.Connection[Any],
    delivery_id: int,
    *,
    owner: str,
    now: datetime,
    receipt: Mapping[str, Any],
    rendered: Iterable[Alert] = (),
) -> bool:
    """
    Record that the channel accepted it, what it answered (Slack's channel and ts, a mail's Message-ID), and what it showed.

    Args:
        conn: as in `lease_next`; committed.
        delivery_id: from the `LeasedDelivery`.
        owner: as it was leased.
        now: aware.
        receipt: JSON values; ``"parent": true`` where the message is now the first one of its thread.
        rendered: the alerts that the message showed, as it was given them: what it makes `lease_next` pass over. Without
            any it says nothing of others.

    Returns:
        False when ``owner`` no longer holds the lease, and nothing is changed: another worker has been given the
        delivery as a possible repeat, or has finished it. A lease that ran out but was not taken over still counts.

    Raises:
        StorageError: the schema is missing or the database unreachable.
    """
    shown = [
        {"fingerprint": alert.fingerprint, "episode_id": alert.episode_id, "is_over": alert.closed_at is not None}
        for alert in rendered
    ]
    return _mark(
        conn,
        statements.MARK_SENT,
        delivery_id,
        owner=owner,
        now=now,
        receipt=storable_json(receipt),
        rendered=storable_json(shown),
    )


def mark_retry(
    conn: psycopg.Connection[Any],
    delivery_id: int,
    *,
    owner: str,
    now: datetime,
    next_attempt_at: datetime,
    error: str,
    ambiguous: bool,
) -> bool:
    """
    Give the delivery back until ``next_attempt_at``; with ``ambiguous``, as a possible repeat.

    Args:
        conn: as in `lease_next`; committed.
        delivery_id: from the `LeasedDelivery`.
        owner: as it was leased.
        now: aware.
        next_attempt_at: aware; when it is due again.
        error: short and already redacted; cut to `ERROR_LIMIT`.
        ambiguous: the message may have been accepted all the same.

    Returns:
        False as in `mark_sent`.

    Raises:
        StorageError: the schema is missing or the database unreachable.
    """
    return _mark(
        conn,
        statements.MARK_RETRY,
        delivery_id,
        owner=owner,
        now=now,
        next_attempt_at=aware(next_attempt_at),
        error=kept_error(error),
        ambiguous=ambiguous,
    )


def mark_dead(conn: psycopg.Connection[Any], delivery_id: int, *, owner: str, now: datetime, error: str) -> bool:
    """
    Give the delivery up; later ones about the same alert are then free to go.

    ``error`` is as in `mark_retry`, the result as in `mark_sent`.

    Raises:
        StorageError: the schema is missing or the database unreachable.
    """
    return _mark(conn, statements.MARK_DEAD, delivery_id, owner=owner, now=now, error=kept_error(error))


def drop(conn: psycopg.Connection[Any], delivery_id: int, *, owner: str, now: datetime, why: SilentReason) -> bool:
    """
    Record that a leased delivery is not sent, and why, such as `SilentReason.CANNOT_EDIT`.

    Returns:
        False as in `mark_sent`.

    Raises:
        StorageError: the schema is missing or the database unreachable.
    """
    return _mark(conn, statements.DROP, delivery_id, owner=owner, now=now, why=str(why))


def drop_superseded(conn: psycopg.Connection[Any], delivery_id: int, *, owner: str, now: datetime) -> bool:
    """
    Drop a leased delivery whose episodes are all over and followed by new ones, if the channel never heard of them.

    The new episodes have deliveries of their own.

    Returns:
        True when it is recorded as not sent (`SilentReason.SUPERSEDED`); False when it is still to be sent.

    Raises:
        StorageError: the schema is missing or the database unreachable.
    """
    return _mark(conn, statements.DROP_SUPERSEDED, delivery_id, owner=owner, now=now)


def hand_to_fallback(
    conn: psycopg.Connection[Any],
    *,
    channel: str,
    fallback: str,
    owner: str,
    now: datetime,
    error: str,
    only: int | None = None,
) -> int:
    """
    Give up all that waits for a channel that refuses us, and put a copy of each into its fallback's queue, at once.

    A copy keeps reason, members, ``as_of``, severity and details, and that an earlier attempt may have arrived; it has the
    key with ``|fallback`` behind it, belongs to no thread, and is due at ``now``; in the order of the originals. There is
    none of what the fallback has a delivery of its own for: of the same reason, members and ``as_of``. An edit has none
    either, and ends as `SilentReason.CANNOT_EDIT`.

    Left alone is what another worker holds: it may just arrive; and what comes after it of the same alert or conversation.
    That worker hands it over, or the next drain does. Where its lease is over, the copy may be a repeat.

    Args:
        conn: a session of this worker's own; committed.
        channel: the channel that refuses us.
        fallback: the channel that takes its place.
        owner: as `lease_next` was told.
        now: aware.
        error: what the channel said, short and already redacted; cut to `ERROR_LIMIT`.
        only: the id of the one delivery that is handed over; None: all that waits.

    Returns:
        How many copies there are now that were not there before.

    Raises:
        ValueError: ``now`` is naive, or the fallback is the channel.
        StorageError: the schema is missing or the database unreachable, or another transaction holds the alerts.
    """
    if channel == fallback:
        raise ValueError(f"the fallback of {channel} is itself")
    values = {
        "channel": storable_text(channel),
        "fallback": storable_text(fallback),
        "owner": storable_text(owner),
        "now": aware(now),
        "error": kept_error(error),
        "only": only,
    }
    with own_transaction(conn):
        lock_alerts(conn)  # ids follow the commits
        return conn.execute(statements.HAND_TO_FALLBACK, values).rowcount


def abandon(conn: psycopg.Connection[Any], *, key: str, now: datetime, error: str) -> bool:
    """
    Give up a delivery that waits, by its key; one that is leased, sent or over is left as it is.

    Raises:
        StorageError: the schema is missing or the database unreachable.
    """
    with own_transaction(conn):
        values = {"key": storable_text(key), "now": aware(now), "error": kept_error(error)}
        return conn.execute(statements.ABANDON, values).rowcount == 1


def status_of(conn: psycopg.Connection[Any], *, key: str) -> DeliveryStatus | None:
    """
    Return where the delivery with this key stands, or None when there is none.

    Raises:
        StorageError: the schema is missing or the database unreachable.
    """
    with own_transaction(conn):
        row = conn.execute("SELECT status FROM monitoring.delivery WHERE key = %s", (storable_text(key),)).fetchone()
    return None if row is None else DeliveryStatus(row[0])


def _mark(
    conn: psycopg.Connection[Any], statement: str, delivery_id: int, *, owner: str, now: datetime, **values: Any
) -> bool:
    with own_transaction(conn):
        parameters = {**values, "id": delivery_id, "owner": storable_text(owner), "now": aware(now)}
        return conn.execute(statement, parameters).rowcount == 1

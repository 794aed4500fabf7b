"""
The outbox: deliveries that wait, are leased, sent, or given up.

    lease_next ──> send ──> mark_sent | mark_retry | mark_dead         one commit each

A worker that dies between the lease and the mark leaves exactly that one delivery in doubt: when its lease has run
out it is handed out again as a possible repeat.

Order: a channel's deliveries are handed out in the order in which they were decided. One that waits for its next
attempt, or is leased, holds back only later ones of the channel that speak of the same alert (so "closed" never
overtakes "first"); the others pass, so that one message that the channel refuses does not silence it. The order is that
of the ids, and those follow the commits because `include.warehouse.alert_store.lock_alerts` serialises who decides.

Every function here ends the transaction that the connection is in, and with it whatever the caller left open there:
use a session of its own (`include.warehouse.monitoring_session.connect`). ``now`` is aware; leases and attempts are
compared with it alone, so all workers must take it from clocks that agree to well within a lease.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import psycopg
from psycopg.rows import dict_row

from include.sync_health.alerts import Alert, DeliveryStatus, Member, NotifyReason
from include.warehouse.alert_store import load_named_alerts
from include.warehouse.monitoring_session import storage_errors
from include.warehouse.stored_values import aware, storable_json, storable_text

ERROR_LIMIT = 500
"""Characters of an error that are kept; the caller has redacted it."""

# One that may be handed out now: due, or leased by a worker whose time is over; and none before it about its alerts.
_DUE = """
    (candidate.status = 'pending' AND candidate.next_attempt_at <= %(now)s
     OR candidate.status = 'leased' AND candidate.lease_until <= %(now)s)
    AND NOT EXISTS (
        SELECT FROM monitoring.delivery AS earlier
        WHERE earlier.channel = candidate.channel AND earlier.id < candidate.id
          AND earlier.status IN ('pending', 'leased') AND earlier.fingerprints && candidate.fingerprints
    )
"""

# One look per channel that stops at its first find: comparing all that waits with all that waits would be quadratic.
_DUE_CHANNELS = f"""
    SELECT unfinished.channel
    FROM (SELECT DISTINCT channel FROM monitoring.delivery WHERE status IN ('pending', 'leased')) AS unfinished
    CROSS JOIN LATERAL (
        SELECT candidate.id FROM monitoring.delivery AS candidate
        WHERE candidate.channel = unfinished.channel AND {_DUE}
        ORDER BY candidate.id LIMIT 1
    ) AS first
    ORDER BY first.id
"""  # noqa: S608 -- only constants of this module

_LEASE_NEXT = f"""
    WITH next AS MATERIALIZED (
        SELECT candidate.id, candidate.status = 'leased' AS is_in_doubt
        FROM monitoring.delivery AS candidate
        WHERE candidate.channel = %(channel)s AND {_DUE}
        ORDER BY candidate.id LIMIT 1
        FOR UPDATE SKIP LOCKED
    )
    UPDATE monitoring.delivery AS delivery
    SET status = 'leased', lease_owner = %(owner)s, lease_until = %(until)s, attempts = delivery.attempts + 1,
        possible_repeat = delivery.possible_repeat OR next.is_in_doubt, updated_at = %(now)s
    FROM next WHERE delivery.id = next.id
    RETURNING delivery.id, delivery.key, delivery.channel, delivery.reason, delivery.members, delivery.as_of,
              delivery.attempts, delivery.possible_repeat, delivery.created_at
"""  # noqa: S608 -- only constants of this module

_MARK_SENT = """
    UPDATE monitoring.delivery
    SET status = 'sent', sent_at = %(now)s, receipt = %(receipt)s, last_error = NULL,
        lease_owner = NULL, lease_until = NULL, updated_at = %(now)s
    WHERE id = %(id)s AND status = 'leased' AND lease_owner = %(owner)s
"""

_MARK_RETRY = """
    UPDATE monitoring.delivery
    SET status = 'pending', next_attempt_at = %(next_attempt_at)s, last_error = %(error)s,
        possible_repeat = possible_repeat OR %(ambiguous)s,
        lease_owner = NULL, lease_until = NULL, updated_at = %(now)s
    WHERE id = %(id)s AND status = 'leased' AND lease_owner = %(owner)s
"""

_MARK_DEAD = """
    UPDATE monitoring.delivery
    SET status = 'dead', last_error = %(error)s, lease_owner = NULL, lease_until = NULL, updated_at = %(now)s
    WHERE id = %(id)s AND status = 'leased' AND lease_owner = %(owner)s
"""

# What was sent to the channel since the close was decided and already spoke of it; every member must be among them.
_DROP_IF_TOLD = """
    WITH late AS MATERIALIZED (
        SELECT sent.members
        FROM monitoring.delivery AS closing JOIN monitoring.delivery AS sent USING (channel)
        WHERE closing.id = %(id)s AND sent.status = 'sent' AND sent.sent_at >= closing.created_at
          AND sent.receipt @> '{"told_of_close": true}'
    )
    UPDATE monitoring.delivery AS closing
    SET status = 'not_sent', silent = 'already_told', lease_owner = NULL, lease_until = NULL, updated_at = %(now)s
    WHERE id = %(id)s AND status = 'leased' AND lease_owner = %(owner)s AND reason = 'closed'
      AND NOT EXISTS (
          SELECT jsonb_array_elements(closing.members) EXCEPT SELECT jsonb_array_elements(late.members) FROM late
      )
"""


# Dropped as superseded, unless the channel has heard of one of its episodes: then it is owed the rest.
_DROP_SUPERSEDED = """
    UPDATE monitoring.delivery AS over
    SET status = 'not_sent', silent = 'superseded', lease_owner = NULL, lease_until = NULL, updated_at = %(now)s
    WHERE id = %(id)s AND status = 'leased' AND lease_owner = %(owner)s
      AND NOT EXISTS (
          SELECT FROM monitoring.delivery AS sent
          WHERE sent.channel = over.channel AND sent.status = 'sent' AND sent.fingerprints && over.fingerprints
            AND EXISTS (
                SELECT jsonb_array_elements(over.members) INTERSECT SELECT jsonb_array_elements(sent.members)
            )
      )
"""

_ABANDON = """
    UPDATE monitoring.delivery SET status = 'dead', last_error = %(error)s, updated_at = %(now)s
    WHERE key = %(key)s AND status = 'pending'
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeasedDelivery:
    """
    One message that this worker alone may send until its lease ends.

    ``alerts`` are the members' alerts as they are NOW, in the members' order: an episode may have closed since, or
    another one opened (then ``alert.episode_id`` differs from the member's).
    """

    id: int
    key: str
    channel: str
    reason: NotifyReason
    members: tuple[Member, ...]
    as_of: datetime  # of the tick that decided it
    attempts: int  # this one included
    possible_repeat: bool  # an earlier attempt may have arrived
    created_at: datetime
    alerts: tuple[Alert, ...]


def due_channels(conn: psycopg.Connection[Any], *, now: datetime) -> list[str]:
    """
    Return the channels for which `lease_next` would now find something, the longest waiting first.

    Raises:
        StorageError: the schema is missing or the database unreachable.
    """
    with _own_transaction(conn):
        return [row[0] for row in conn.execute(_DUE_CHANNELS, {"now": aware(now)})]


def lease_next(
    conn: psycopg.Connection[Any], *, channel: str, owner: str, now: datetime, lease_for: timedelta
) -> LeasedDelivery | None:
    """
    Hand out the channel's next delivery to ``owner`` until ``now + lease_for``, or None when nothing is due.

    No delivery is handed out twice while leased, however many workers ask; see the module for the order.

    Args:
        conn: a session of this worker's own; committed.
        channel: such as ``slack:#servicetitan-alerts``.
        owner: unique to this worker and try, such as the task instance's id with its try number.
        now: aware.
        lease_for: longer than one send can take; positive.

    Raises:
        ValueError: ``now`` is naive, or ``lease_for`` not positive.
        StorageError: the schema is missing or the database unreachable.
    """
    if lease_for <= timedelta(0):
        raise ValueError(f"lease_for must be positive, got {lease_for}")
    moment = aware(now)
    with _own_transaction(conn), conn.cursor(row_factory=dict_row) as cursor:
        cursor.execute(
            _LEASE_NEXT,
            {
                "channel": storable_text(channel),
                "owner": storable_text(owner),
                "now": moment,
                "until": moment + lease_for,
            },
        )
        row = cursor.fetchone()
        if row is None:
            return None
        members = tuple(
            Member(fingerprint=each["fingerprint"], episode_id=uuid.UUID(each["episode_id"])) for each in row["members"]
        )
        alerts = load_named_alerts(conn, fingerprints=[member.fingerprint for member in members])
    return LeasedDelivery(
        **{
            **row,
            "reason": NotifyReason(row["reason"]),
            "members": members,
            "as_of": aware(row["as_of"]),
            "created_at": aware(row["created_at"]),
            "alerts": tuple(alerts),
        }
    )


def mark_sent(
    conn: psycopg.Connection[Any], delivery_id: int, *, owner: str, now: datetime, receipt: Mapping[str, Any]
) -> bool:
    """
    Record that the channel accepted it, and what it answered (Slack's channel and ts, a mail's Message-ID).

    Returns:
        False when ``owner`` no longer holds the lease, and nothing is changed: another worker has been given the
        delivery as a possible repeat, or has finished it. A lease that ran out but was not taken over still counts.

    Raises:
        StorageError: the schema is missing or the database unreachable.
    """
    return _mark(conn, _MARK_SENT, delivery_id, owner=owner, now=now, receipt=storable_json(receipt))


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
        _MARK_RETRY,
        delivery_id,
        owner=owner,
        now=now,
        next_attempt_at=aware(next_attempt_at),
        error=_error(error),
        ambiguous=ambiguous,
    )


def mark_dead(conn: psycopg.Connection[Any], delivery_id: int, *, owner: str, now: datetime, error: str) -> bool:
    """
    Give the delivery up; later ones about the same alert are then free to go.

    ``error`` is as in `mark_retry`, the result as in `mark_sent`.

    Raises:
        StorageError: the schema is missing or the database unreachable.
    """
    return _mark(conn, _MARK_DEAD, delivery_id, owner=owner, now=now, error=_error(error))


def drop_if_told(conn: psycopg.Connection[Any], delivery_id: int, *, owner: str, now: datetime) -> bool:
    """
    Drop a leased close whose opening went out so late that it told of the close as well.

    An opening that waited is rendered with the state that holds when it goes out: "recovered" already. Its receipt
    then says ``told_of_close``, and the close has nothing to add.

    Returns:
        True when the delivery is recorded as not sent (`SilentReason.ALREADY_TOLD`); False when it is still to be sent.

    Raises:
        StorageError: the schema is missing or the database unreachable.
    """
    return _mark(conn, _DROP_IF_TOLD, delivery_id, owner=owner, now=now)


def drop_superseded(conn: psycopg.Connection[Any], delivery_id: int, *, owner: str, now: datetime) -> bool:
    """
    Drop a leased delivery whose episodes are all over and followed by new ones, if the channel never heard of them.

    The new episodes have deliveries of their own.

    Returns:
        True when it is recorded as not sent (`SilentReason.SUPERSEDED`); False when it is still to be sent.

    Raises:
        StorageError: the schema is missing or the database unreachable.
    """
    return _mark(conn, _DROP_SUPERSEDED, delivery_id, owner=owner, now=now)


def abandon(conn: psycopg.Connection[Any], *, key: str, now: datetime, error: str) -> bool:
    """
    Give up a delivery that waits, by its key; one that is leased, sent or over is left as it is.

    Raises:
        StorageError: the schema is missing or the database unreachable.
    """
    with _own_transaction(conn):
        values = {"key": storable_text(key), "now": aware(now), "error": _error(error)}
        return conn.execute(_ABANDON, values).rowcount == 1


def status_of(conn: psycopg.Connection[Any], *, key: str) -> DeliveryStatus | None:
    """
    Return where the delivery with this key stands, or None when there is none.

    Raises:
        StorageError: the schema is missing or the database unreachable.
    """
    with _own_transaction(conn):
        row = conn.execute("SELECT status FROM monitoring.delivery WHERE key = %s", (storable_text(key),)).fetchone()
    return None if row is None else DeliveryStatus(row[0])


def _mark(
    conn: psycopg.Connection[Any], statement: str, delivery_id: int, *, owner: str, now: datetime, **values: Any
) -> bool:
    with _own_transaction(conn):
        parameters = {**values, "id": delivery_id, "owner": storable_text(owner), "now": aware(now)}
        return conn.execute(statement, parameters).rowcount == 1


def _error(text: str) -> str:
    clean = storable_text(text)
    return clean if len(clean) <= ERROR_LIMIT else clean[: ERROR_LIMIT - 1] + "…"


@contextmanager
def _own_transaction(conn: psycopg.Connection[Any]) -> Iterator[None]:
    """Commit at the end, or roll back and pass the error on."""
    with storage_errors():
        try:
            yield
            conn.commit()
        except BaseException:
            if not conn.closed:
                conn.rollback()
            raise

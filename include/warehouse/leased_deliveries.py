"""A delivery as a worker is given it: what was decided, the alerts as they are now, and the conversation it belongs to."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import psycopg
from psycopg.rows import dict_row

from include.sync_health.alerts import Alert, Member, NotifyReason, SilentReason
from include.sync_health.verdicts import Severity
from include.warehouse import outbox_statements as statements
from include.warehouse.alert_store import load_named_alerts
from include.warehouse.stored_values import aware


@dataclass(frozen=True, slots=True, kw_only=True)
class LeasedDelivery:
    """
    One message that this worker alone may send until its lease ends.

    ``alerts`` are the members' alerts as they are NOW, in the members' order: an episode may have closed since, or
    another one opened (then ``alert.episode_id`` differs from the member's).

    Args:
        thread: the conversation; None for a summary, and for what another channel refused.
        details: what only the renderer of its reason reads.
        severity: the worst of its members when it was decided.
        fallback_of: the channel that refused us, where this is the copy for another.
        parent: the receipt of the first message of the thread in this channel, the newest sent one whose receipt says
            ``"parent": true``; None where there is none.
        neighbours: all alerts of the thread in this channel, as they are NOW: the members', and those of what was sent
            there before, longest ago first.
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
    thread: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    severity: Severity | None = None
    fallback_of: str | None = None
    parent: Mapping[str, Any] | None = None
    neighbours: tuple[Alert, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DroppedDelivery:
    """One message that was due and has nothing left to say; the ledger says why."""

    id: int
    key: str
    channel: str
    reason: NotifyReason
    members: tuple[Member, ...]
    attempts: int  # this one included
    why: SilentReason


def leased_row(conn: psycopg.Connection[Any], values: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the row that `outbox_statements.LEASE_NEXT` hands out with these values; None when nothing is due."""
    with conn.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(statements.LEASE_NEXT, values).fetchone()


def leased_of(conn: psycopg.Connection[Any], row: Mapping[str, Any]) -> LeasedDelivery:
    """Return a leased row with its alerts and its thread, read after it was leased."""
    members = _members(row)
    if row["reason"] == NotifyReason.CLOSED and len(members) > 1:
        members = _not_yet_told(conn, row, members)
    named = [member.fingerprint for member in members]
    parent = None
    others: Sequence[str] = ()
    if row["thread"] is not None:
        of_thread = {"channel": row["channel"], "thread": row["thread"]}
        receipt = conn.execute(statements.PARENT, of_thread).fetchone()
        parent = receipt[0] if receipt else None
        others = [fingerprint for (fingerprint,) in conn.execute(statements.IN_THREAD, of_thread)]
    of_members = set(named)
    neighbours = tuple(
        alert
        for alert in load_named_alerts(conn, fingerprints=[*named, *others])
        # One that opened again much later is told elsewhere: the old conversation says nothing of it.
        if alert.fingerprint in of_members
        or not _is_told_elsewhere(alert, channel=row["channel"], thread=row["thread"])
    )
    details = row["details"]
    if row["reason"] == NotifyReason.REOPENED:
        closed = conn.execute(statements.CLOSED_BEFORE, {"fingerprints": named, "as_of": row["as_of"]})
        details = {**details, "closed_before": {name: aware(at).isoformat() for name, at in closed}}
    return LeasedDelivery(
        **{
            **{name: value for name, value in row.items() if name != "fingerprints"},
            "reason": NotifyReason(row["reason"]),
            "members": members,
            "as_of": aware(row["as_of"]),
            "created_at": aware(row["created_at"]),
            "severity": Severity(row["severity"]) if row["severity"] else None,
            "alerts": tuple(alert for alert in neighbours if alert.fingerprint in of_members),
            "parent": parent,
            "neighbours": neighbours,
            "details": details,
        }
    )


def _not_yet_told(
    conn: psycopg.Connection[Any], row: Mapping[str, Any], members: tuple[Member, ...]
) -> tuple[Member, ...]:
    """Return the members of a close that no late message has told to be over; all of them where it has told of all."""
    told = {tuple(each) for each in conn.execute(statements.TOLD_AS_OVER, {"channel": row["channel"], "id": row["id"]})}
    news = tuple(each for each in members if (each.fingerprint, str(each.episode_id)) not in told)
    return news or members


def _is_told_elsewhere(alert: Alert, *, channel: str, thread: str | None) -> bool:
    told = alert.told.get(channel)
    return told is not None and told.thread not in (None, thread)


def dropped_of(row: Mapping[str, Any], *, why: SilentReason) -> DroppedDelivery:
    """Return a leased row that is not sent."""
    return DroppedDelivery(
        id=row["id"],
        key=row["key"],
        channel=row["channel"],
        reason=NotifyReason(row["reason"]),
        members=_members(row),
        attempts=row["attempts"],
        why=why,
    )


def _members(row: Mapping[str, Any]) -> tuple[Member, ...]:
    return tuple(
        Member(fingerprint=each["fingerprint"], episode_id=uuid.UUID(each["episode_id"])) for each in row["members"]
    )

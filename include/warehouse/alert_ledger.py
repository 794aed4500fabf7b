"""
What the ledger knows of alerts: what is kept back, what was spent of the budget, and the whole story of one of them.

Every function reads in the caller's transaction and commits nothing.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg
from psycopg.rows import dict_row

from include.sync_health.alerts import (
    HOLDING,
    Alert,
    AlertEvent,
    CloseReason,
    DeliveryStatus,
    EventKind,
    Held,
    Member,
    NotifyReason,
    SilentReason,
)
from include.sync_health.errors import RequestError
from include.sync_health.speeches import BUDGETED, FREE_FROM
from include.sync_health.verdicts import Severity
from include.warehouse.alert_store import SELECT_ALERTS, alert_of, load_named_alerts
from include.warehouse.monitoring_session import storage_errors
from include.warehouse.outbox_statements import listed
from include.warehouse.stored_values import aware, storable_text, stored_moment

FEWEST_DIGITS = 6
"""Of a fingerprint, to find alerts by how it begins."""

LONGEST_TIME_LINE = 5_000
"""Lines of each kind that a time line has at most: the newest."""

_PREFIX = re.compile(rf"[0-9a-f]{{{FEWEST_DIGITS},64}}")

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

_HELD = f"""
    SELECT held.key, held.channel, held.silent, held.by, held.as_of, member ->> 'fingerprint' AS fingerprint,
           member ->> 'episode_id' AS episode_id, coalesce(alert.rule, '') AS rule
    FROM monitoring.delivery AS held
    CROSS JOIN jsonb_array_elements(held.members) AS member
    LEFT JOIN monitoring.alert ON alert.fingerprint = member ->> 'fingerprint'
    WHERE held.silent IN {listed(HOLDING)} AND held.accounted_by IS NULL
    ORDER BY held.id
"""  # noqa: S608 -- only constants of the code

_SPENT = f"""
    SELECT channel, count(*) FROM monitoring.delivery
    WHERE as_of >= %(since)s AND reason IN {listed(BUDGETED)} AND status <> 'not_sent'
      AND severity IN {listed(each for each in Severity if each.rank < FREE_FROM.rank)}
    GROUP BY channel
"""  # noqa: S608 -- only constants of the code

_SPENT_BY_RULE = f"""
    SELECT delivery.channel, coalesce(alert.rule, ''), count(*) FROM monitoring.delivery
    LEFT JOIN monitoring.alert ON alert.fingerprint = delivery.fingerprints[1]
    WHERE delivery.as_of >= %(since)s AND delivery.as_of < %(before)s
      AND delivery.reason IN {listed(BUDGETED)} AND delivery.status <> 'not_sent'
      AND delivery.severity IN {listed(each for each in Severity if each.rank < FREE_FROM.rank)}
    GROUP BY 1, 2
"""  # noqa: S608 -- only constants of the code

_EVENTS = """
    SELECT fingerprint, as_of, kind, episode_id, severity, reason, close_reason FROM monitoring.alert_event
    WHERE fingerprint = %(fingerprint)s ORDER BY as_of DESC, recorded_at DESC, kind DESC LIMIT %(limit)s
"""

_DELIVERIES = """
    SELECT id, key, channel, reason, silent, by, status, as_of, created_at, severity, thread, fallback_of, accounted_by,
           cardinality(fingerprints) AS alerts, attempts, possible_repeat, last_error, sent_at, next_attempt_at
    FROM monitoring.delivery WHERE fingerprints && ARRAY[%(fingerprint)s::text] ORDER BY id DESC LIMIT %(limit)s
"""

_OF_CREDENTIAL = """
    WHERE credential_id = %(credential)s
    ORDER BY state IN ('firing', 'recovering') DESC, coalesce(opened_at, state_since) DESC, fingerprint
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerLine:
    """
    One message about an alert, or the decision to send none.

    Args:
        id, key: the ledger's; ids follow the order of decision.
        channel: such as ``slack:#servicetitan-alerts``, or ``none`` where no route leads anywhere.
        reason: why it is sent; None where nothing was to be.
        silent: why it is not; None where it is.
        by: what suppressed it, as in `Suppression.by`.
        status: where it stands.
        as_of: of the tick that decided it; aware.
        created_at: when that was; aware.
        severity: the worst of its alerts then; None in rows of before it was kept.
        thread: its conversation.
        fallback_of: the channel that refused it, where this is the copy for another.
        accounted_by: key of the summary that told of it after it had been kept back.
        alerts: how many it speaks of.
        attempts: how often it was handed out.
        possible_repeat: an earlier attempt may have arrived.
        last_error: redacted; None after it was sent.
        sent_at: aware; None unless it was sent.
        next_attempt_at: aware; from when on it is handed out again while it waits.
    """

    id: int
    key: str
    channel: str
    reason: NotifyReason | None
    silent: SilentReason | None
    by: str | None
    status: DeliveryStatus
    as_of: datetime
    created_at: datetime
    severity: Severity | None
    thread: str | None
    fallback_of: str | None
    accounted_by: str | None
    alerts: int
    attempts: int
    possible_repeat: bool
    last_error: str | None
    sent_at: datetime | None
    next_attempt_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeLine:
    """The story of one alert: as it is now, what happened to it, and who was told; oldest first."""

    alert: Alert
    events: tuple[AlertEvent, ...]
    deliveries: tuple[LedgerLine, ...]


@storage_errors()
def held_back(conn: psycopg.Connection[Any]) -> list[Held]:
    """
    Return what silences, mutes and the budget keep back, and no summary has told of yet; in the order it was decided.

    Raises:
        StorageError: the schema is missing or the database unreachable.
    """
    with conn.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(_HELD).fetchall()
    asked_by = _asked_by(conn, {row["by"] for row in rows if row["silent"] == SilentReason.SILENCED})
    return [
        Held(
            key=row["key"],
            channel=row["channel"],
            why=SilentReason(row["silent"]),
            by=row["by"],
            member=Member(fingerprint=row["fingerprint"], episode_id=uuid.UUID(row["episode_id"])),
            as_of=aware(row["as_of"]),
            rule=row["rule"],
            author=author,
            purpose=purpose,
        )
        for row in rows
        for author, purpose in (asked_by.get(row["by"], (None, None)),)
    ]


def _asked_by(conn: psycopg.Connection[Any], ids: Iterable[str | None]) -> dict[str, tuple[str, str]]:
    """Return author and reason of silences, by id; one that retention has deleted is absent."""
    wanted = [uuid.UUID(each) for each in ids if each and _UUID.fullmatch(each)]
    found = conn.execute("SELECT id, author, reason FROM monitoring.silence WHERE id = ANY(%s)", (wanted,))
    return {str(each): (author, reason) for each, author, reason in found}


@storage_errors()
def spent_since(conn: psycopg.Connection[Any], since: datetime) -> dict[str, int]:
    """
    Return how many messages to each channel cost budget (`speeches.BUDGETED`, less severe than `speeches.FREE_FROM`).

    Args:
        conn: any session.
        since: aware; the first tick that counts, such as the start of the day.

    Raises:
        ValueError: ``since`` is naive.
        StorageError: the schema is missing or the database unreachable.
    """
    return dict(conn.execute(_SPENT, {"since": aware(since)}).fetchall())


@storage_errors()
def spent_by_rule(conn: psycopg.Connection[Any], since: datetime, *, before: datetime) -> dict[str, dict[str, int]]:
    """
    Return the messages that `spent_since` counts, of ticks in ``[since, before)``, by channel and by rule.

    A message of several alerts counts for the rule of its first.

    Raises:
        ValueError: an instant is naive.
        StorageError: the schema is missing or the database unreachable.
    """
    found: dict[str, dict[str, int]] = {}
    for channel, rule, count in conn.execute(_SPENT_BY_RULE, {"since": aware(since), "before": aware(before)}):
        found.setdefault(channel, {})[rule] = count
    return found


@storage_errors()
def time_line(conn: psycopg.Connection[Any], fingerprint: str) -> TimeLine:
    """
    Return the story of the alert with this fingerprint, of each kind of line the newest `LONGEST_TIME_LINE`.

    Raises:
        RequestError: there is none.
        StorageError: the schema is missing or the database unreachable.
    """
    named = storable_text(fingerprint)
    alerts = load_named_alerts(conn, fingerprints=[named])
    if not alerts:
        raise RequestError(f"fingerprint: there is no alert {named[:64]!r}")
    values = {"fingerprint": named, "limit": LONGEST_TIME_LINE}
    with conn.cursor(row_factory=dict_row) as cursor:
        events = [_event(row) for row in cursor.execute(_EVENTS, values)]
        deliveries = [_line(row) for row in cursor.execute(_DELIVERIES, values)]
    return TimeLine(alert=alerts[0], events=tuple(reversed(events)), deliveries=tuple(reversed(deliveries)))


@storage_errors()
def alerts_of_credential(conn: psycopg.Connection[Any], credential_id: str) -> list[Alert]:
    """
    Return every alert of a credential: the open ones first, and the newest first among them and among the others.

    Raises:
        StorageError: the schema is missing or the database unreachable.
    """
    with conn.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(SELECT_ALERTS + _OF_CREDENTIAL, {"credential": storable_text(credential_id)})
        return [alert_of(row) for row in rows]


@storage_errors()
def find_alerts(conn: psycopg.Connection[Any], prefix: str) -> list[Alert]:
    """
    Return the alerts whose fingerprint begins so, sorted by it.

    Args:
        conn: any session.
        prefix: at least `FEWEST_DIGITS` hex digits, in either case.

    Raises:
        RequestError: ``prefix`` is something else.
        StorageError: the schema is missing or the database unreachable.
    """
    digits = prefix.strip().lower()
    if not _PREFIX.fullmatch(digits):
        raise RequestError(
            f"fingerprint: {prefix[:70]!r} is none; give {FEWEST_DIGITS} to 64 of its hex digits, such as 3f9a2c"
        )
    with conn.cursor(row_factory=dict_row) as cursor:
        # Only hex digits: nothing in it means anything to LIKE.
        rows = cursor.execute(SELECT_ALERTS + "WHERE fingerprint LIKE %s ORDER BY fingerprint", (f"{digits}%",))
        return [alert_of(row) for row in rows]


def _event(row: dict[str, Any]) -> AlertEvent:
    return AlertEvent(
        fingerprint=row["fingerprint"],
        episode_id=row["episode_id"],
        as_of=aware(row["as_of"]),
        kind=EventKind(row["kind"]),
        severity=Severity(row["severity"]),
        reason=row["reason"],
        close_reason=CloseReason(row["close_reason"]) if row["close_reason"] else None,
    )


def _line(row: dict[str, Any]) -> LedgerLine:
    return LedgerLine(
        **{
            **row,
            "reason": NotifyReason(row["reason"]) if row["reason"] else None,
            "silent": SilentReason(row["silent"]) if row["silent"] else None,
            "status": DeliveryStatus(row["status"]),
            "severity": Severity(row["severity"]) if row["severity"] else None,
            "as_of": aware(row["as_of"]),
            "created_at": aware(row["created_at"]),
            "sent_at": stored_moment(row["sent_at"]),
            "next_attempt_at": stored_moment(row["next_attempt_at"]),
        }
    )

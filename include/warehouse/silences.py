"""
Silences as they are stored: asked for, ended, found, and tried out on what the ledger has.

Every function works in the caller's transaction and commits nothing.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

import psycopg
from psycopg.rows import dict_row

from include.sync_health.alerts import OF_WHAT_IS_OPEN, NotifyReason
from include.sync_health.errors import RequestError
from include.sync_health.matchers import Labels, Matcher, Tagged, tags_of
from include.sync_health.muting import Silence
from include.sync_health.verdicts import Severity
from include.warehouse.monitoring_session import storage_errors
from include.warehouse.outbox_statements import listed
from include.warehouse.stored_values import aware, storable_json, storable_text

FEWEST_DIGITS = 6
"""Of a silence's id, to name it by how it begins."""

MOST_EXAMPLES = 20
"""Messages that a preview shows."""

_PREFIX = re.compile(rf"[0-9a-f-]{{{FEWEST_DIGITS},36}}")

_COLUMNS = "id, match, starts_at, ends_at, author, reason, created_at"

_READ = f"{_COLUMNS}, ended_early_by"

_ADD = f"""
    INSERT INTO monitoring.silence ({_COLUMNS})
    VALUES (%(id)s, %(match)s, %(starts_at)s, %(ends_at)s, %(author)s, %(reason)s, %(created_at)s)
    ON CONFLICT (id) DO NOTHING
"""  # noqa: S608 -- only constants of this module

_BEGINNING_SO = f"""
    SELECT {_READ} FROM monitoring.silence
    WHERE starts_with(id::text, %(prefix)s) AND ends_at > %(now)s AND ended_early_by IS NULL
    ORDER BY id FOR UPDATE
"""  # noqa: S608 -- only constants of this module

_END = """
    UPDATE monitoring.silence SET ends_at = %(now)s, ended_early_by = %(by)s WHERE id = %(id)s
"""

_AT = f"""
    SELECT {_READ} FROM monitoring.silence
    WHERE ends_at > %(instant)s AND starts_at <= %(instant)s ORDER BY created_at, id
"""  # noqa: S608 -- only constants of this module

# One that was ended before it began never held.
_SINCE = f"""
    SELECT {_READ} FROM monitoring.silence
    WHERE ends_at > %(since)s AND starts_at < ends_at ORDER BY created_at DESC, id
"""  # noqa: S608 -- only constants of this module

_SPOKEN = f"""
    spoken.created_at >= %(since)s AND spoken.status <> 'not_sent' AND spoken.reason IN {listed(OF_WHAT_IS_OPEN)}
"""

_SPOKEN_OF = f"""
    SELECT fingerprint, rule, severity, environment, company_id, credential_id, data_type FROM monitoring.alert
    WHERE fingerprint IN (
        SELECT fingerprint FROM monitoring.delivery AS spoken CROSS JOIN unnest(spoken.fingerprints) AS fingerprint
        WHERE {_SPOKEN}
    )
"""  # noqa: S608 -- only constants of this module

_MATCHING = f"""
    WITH hit AS MATERIALIZED (
        SELECT spoken.id, spoken.as_of, spoken.channel, spoken.reason, alert.fingerprint, alert.rule, alert.title,
               alert.company_name, alert.credential_id, spoken.fingerprints <@ %(matching)s AS is_whole
        FROM monitoring.delivery AS spoken
        CROSS JOIN unnest(spoken.fingerprints) AS fingerprint
        JOIN monitoring.alert USING (fingerprint)
        WHERE {_SPOKEN} AND fingerprint = ANY (%(matching)s)
    )
"""  # noqa: S608 -- only constants of this module

_BY_RULE = f"""{_MATCHING}
    SELECT rule, count(DISTINCT id), count(DISTINCT id) FILTER (WHERE NOT is_whole)
    FROM hit GROUP BY GROUPING SETS ((rule), ()) ORDER BY rule
"""  # noqa: S608 -- only constants of this module

_EXAMPLES = f"""{_MATCHING}
    SELECT * FROM (
        SELECT DISTINCT ON (id) id, as_of, channel, reason, fingerprint, rule, title, company_name, credential_id
        FROM hit ORDER BY id DESC, fingerprint
    ) AS newest LIMIT %(limit)s
"""  # noqa: S608 -- only constants of this module


@dataclass(frozen=True, slots=True, kw_only=True)
class HiddenMessage:
    """One message that a silence would have hidden, with the first of the alerts in it that it matches."""

    as_of: datetime  # aware; of the tick that decided it
    channel: str
    reason: NotifyReason
    fingerprint: str
    rule: str
    title: str
    company_name: str | None
    credential_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """
    What a silence would have hidden.

    Args:
        messages: how many messages speak of an alert that it matches.
        in_part: how many of those speak of others as well, and would have gone with those alone.
        by_rule: of the alerts that it matches, in how many messages each rule is.
        examples: the newest `MOST_EXAMPLES` of them, newest first.
    """

    messages: int
    in_part: int
    by_rule: Mapping[str, int]
    examples: tuple[HiddenMessage, ...]


@storage_errors()
def add_silence(conn: psycopg.Connection[Any], silence: Silence) -> None:
    """
    Store a silence; one whose id is there already is left as it is.

    Raises:
        ValueError: a naive datetime.
        StorageError: the schema is missing or the database unreachable.
    """
    match = {each.name: getattr(silence.match, each.name) for each in fields(Matcher)}
    conn.execute(
        _ADD,
        {
            "id": silence.id,
            "match": storable_json({name: chosen for name, chosen in match.items() if chosen}),
            "starts_at": aware(silence.starts_at),
            "ends_at": aware(silence.ends_at),
            "author": storable_text(silence.author),
            "reason": storable_text(silence.reason),
            "created_at": aware(silence.created_at),
        },
    )


@storage_errors()
def end_silence(conn: psycopg.Connection[Any], id_prefix: str, *, by: str, now: datetime) -> Silence | None:
    """
    End a silence before its time; what it kept back is told in the next tick.

    Args:
        conn: the session whose transaction this joins.
        id_prefix: how its id begins, at least `FEWEST_DIGITS` characters, in either case.
        by: who ends it.
        now: aware.

    Returns:
        The silence with its new end; one that had not begun as it was planned: it never holds now. None when none that is
        not over has such an id.

    Raises:
        RequestError: ``id_prefix`` is no beginning of an id, or that of several; or nobody ends it.
        ValueError: ``now`` is naive.
        StorageError: the schema is missing or the database unreachable.
    """
    prefix, moment, who = id_prefix.strip().lower(), aware(now), storable_text(by).strip()
    if not _PREFIX.fullmatch(prefix):
        raise RequestError(f"silence: {id_prefix[:40]!r} is no id; give at least {FEWEST_DIGITS} characters of it")
    if not who:
        raise RequestError("by: it is empty; say who ends the silence")
    with conn.cursor(row_factory=dict_row) as cursor:
        found = cursor.execute(_BEGINNING_SO, {"prefix": prefix, "now": moment}).fetchall()
    if len(found) > 1:
        some = ", ".join(str(row["id"]) for row in found[:3])
        raise RequestError(f"silence: {prefix} is the beginning of {len(found)} ids ({some}); give more of it")
    if not found:
        return None
    (row,) = found
    conn.execute(_END, {"id": row["id"], "now": moment, "by": who})
    return _silence({**row, "ends_at": moment, "ended_early_by": who} if row["starts_at"] < moment else row)


@storage_errors()
def silences_at(conn: psycopg.Connection[Any], instant: datetime) -> list[Silence]:
    """
    Return the silences that hold at an aware instant, the oldest first.

    Raises:
        ValueError: ``instant`` is naive.
        StorageError: the schema is missing or the database unreachable.
    """
    with conn.cursor(row_factory=dict_row) as cursor:
        return [_silence(row) for row in cursor.execute(_AT, {"instant": aware(instant)})]


@storage_errors()
def silences_since(conn: psycopg.Connection[Any], since: datetime) -> list[Silence]:
    """
    Return the silences that were not over at an aware instant, those to come included; the newest first.

    One that was ended before it began is left out: it never held.

    Raises:
        ValueError: ``since`` is naive.
        StorageError: the schema is missing or the database unreachable.
    """
    with conn.cursor(row_factory=dict_row) as cursor:
        return [_silence(row) for row in cursor.execute(_SINCE, {"since": aware(since)})]


@storage_errors()
def messages_matching(
    conn: psycopg.Connection[Any], match: Matcher, *, since: datetime, tags: Mapping[str, Tagged]
) -> Preview:
    """
    Return what a silence would have hidden: the messages of a period that say that something is open.

    Of those that were sent, are to be sent, or were given up; not of those that something else kept back. Alerts are matched
    by what they are now: a severity may have been another one then.

    Args:
        conn: any session.
        match: of which alerts.
        since: aware; messages that were decided then or later count.
        tags: the policy's.

    Raises:
        ValueError: ``since`` is naive.
        StorageError: the schema is missing or the database unreachable.
    """
    period = {"since": aware(since)}
    with conn.cursor(row_factory=dict_row) as cursor:
        matching = [
            row["fingerprint"] for row in cursor.execute(_SPOKEN_OF, period) if match.matches(_labels(row, tags=tags))
        ]
        values = {**period, "matching": matching, "limit": MOST_EXAMPLES}
        examples = [
            HiddenMessage(
                **{
                    **{each.name: row[each.name] for each in fields(HiddenMessage)},
                    "as_of": aware(row["as_of"]),
                    "reason": NotifyReason(row["reason"]),
                }
            )
            for row in cursor.execute(_EXAMPLES, values)
        ]
    counts = {rule: (messages, in_part) for rule, messages, in_part in conn.execute(_BY_RULE, values)}
    messages, in_part = counts.pop(None)  # of all rules together
    return Preview(
        messages=messages,
        in_part=in_part,
        by_rule={rule: of_rule for rule, (of_rule, _) in counts.items()},
        examples=tuple(examples),
    )


def _labels(row: Mapping[str, Any], *, tags: Mapping[str, Tagged]) -> Labels:
    return Labels(
        rule=row["rule"],
        severity=Severity(row["severity"]),
        environment=row["environment"],
        company=row["company_id"],
        credential=row["credential_id"],
        data_type=row["data_type"],
        tags=tags_of(tags, company=row["company_id"], credential=row["credential_id"]),
        fingerprint=row["fingerprint"],
    )


def _silence(row: Mapping[str, Any]) -> Silence:
    match: dict[str, frozenset[Any]] = {key: frozenset(chosen) for key, chosen in row["match"].items()}
    if "severity" in match:
        match["severity"] = frozenset(map(Severity, match["severity"]))
    return Silence(
        id=uuid.UUID(str(row["id"])),
        match=Matcher(**match),
        starts_at=aware(row["starts_at"]),
        ends_at=aware(row["ends_at"]),
        author=row["author"],
        reason=row["reason"],
        created_at=aware(row["created_at"]),
        ended_early_by=row["ended_early_by"],
    )

"""What ticks and drains ask of a ledger of a hundred thousand rows costs what they find, not what there is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest

from include.sync_health.alerts import Held
from include.sync_health.matchers import Matcher
from include.warehouse import alert_ledger, alert_store, heartbeat_times, outbox_statements, silences
from include.warehouse.alert_ledger import FEWEST_DIGITS, held_back, spent_since
from include.warehouse.monitoring_session import connect
from include.warehouse.silences import messages_matching
from include.warehouse.stored_values import storable_json
from tests.warehouse.monitoring_records import HOUR, MINUTE, NOW, OPS

ROWS, ALERTS, THREADS, A_DAY = 100_000, 2_000, 5_000, 300

_FILL = (
    """
    INSERT INTO monitoring.alert
        (fingerprint, rule, identity, state, severity, peak_severity, state_since, last_as_of, flaps, title, message, reason,
         credential_id, episode_id, metadata, evidence, told, updated_at)
    SELECT encode(sha256(n::text::bytea), 'hex'), 'stale_sync', jsonb_build_object('credential', n), 'firing', 'medium',
           'medium', %(now)s, %(now)s, 0, 'Stale', 'old', 'old', n::text, md5(n::text)::uuid, '{}', '{}', '{}', %(now)s
    FROM generate_series(1, %(alerts)s) AS n
    """,
    # Of a year: every tenth was kept back and told of since; of all others one is a message of a thread.
    """
    INSERT INTO monitoring.delivery
        (key, channel, reason, silent, by, members, fingerprints, as_of, severity, thread, status, next_attempt_at, sent_at,
         receipt, rendered, rendered_after, accounted_by, created_at, updated_at)
    SELECT n::text, 'slack:#ops',
           CASE WHEN n %% 10 > 0 THEN (ARRAY['first', 'repeat', 'closed', 'updated'])[1 + n %% 4] END,
           CASE WHEN n %% 10 = 0 THEN 'silenced' END, CASE WHEN n %% 10 = 0 THEN 'a silence' END,
           jsonb_build_array(member), ARRAY[member ->> 'fingerprint'], at, 'medium',
           CASE WHEN n %% 10 > 0 THEN 't' || n %% %(threads)s END,
           CASE WHEN n %% 10 = 0 THEN 'not_sent' ELSE 'sent' END, at, CASE WHEN n %% 10 > 0 THEN at END,
           CASE WHEN n %% 10 > 0 THEN '{"parent": true}'::jsonb END, jsonb_build_array(member), n,
           CASE WHEN n %% 10 = 0 THEN 'a summary' END, at, at
    FROM (
        SELECT n, %(now)s - make_interval(mins => 60 * 24) * (%(rows)s - n) / %(a_day)s AS at,
               jsonb_build_object('fingerprint', encode(sha256((1 + n %% %(alerts)s)::text::bytea), 'hex'),
                                  'episode_id', md5((1 + n %% %(alerts)s)::text)::uuid) AS member
        FROM generate_series(1, %(rows)s) AS n
    ) AS each
    """,
    # What stands today: three kept back, one that waits, and one whose lease is over.
    """
    UPDATE monitoring.delivery SET accounted_by = NULL WHERE id IN (99970, 99980, 99990)
    """,
    """
    UPDATE monitoring.delivery
    SET status = 'pending', sent_at = NULL, receipt = NULL, rendered = NULL, rendered_after = NULL, next_attempt_at = %(now)s
    WHERE id IN (99991, 99992)
    """,
    """
    UPDATE monitoring.delivery SET status = 'leased', lease_owner = 'w', lease_until = %(now)s WHERE id = 99991
    """,
)


@pytest.fixture
def ledger(emptied_dsn: str) -> Iterator[psycopg.Connection[Any]]:
    """A session with a full ledger, with the statistics of a database that lives."""
    values = {"now": NOW, "alerts": ALERTS, "rows": ROWS, "threads": THREADS, "a_day": A_DAY}
    with psycopg.connect(emptied_dsn, autocommit=True) as conn:
        for statement in _FILL:
            conn.execute(statement.encode(), values)
        conn.execute("VACUUM (ANALYZE) monitoring.delivery, monitoring.alert")
    with connect(emptied_dsn) as conn:
        yield conn


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One statement, with what it is asked for and how many rows of each kind it may look at."""

    what: str
    statement: str
    values: dict[str, Any]
    at_most: int


def looked_at(conn: psycopg.Connection[Any], asked: Asked) -> int:
    """Return how many rows of the ledger and of alerts a statement looks at, those thrown away included; change nothing."""
    explained = conn.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {asked.statement}".encode(), asked.values).fetchone()
    conn.rollback()
    assert explained is not None

    def rows(node: dict[str, Any]) -> float:
        is_read = node.get("Relation Name") in ("delivery", "alert") and node["Node Type"] != "ModifyTable"
        thrown_away = node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)
        own = (node["Actual Rows"] + thrown_away) * node["Actual Loops"]
        return own * is_read + sum(map(rows, node.get("Plans", ())))

    plan = explained[0] if isinstance(explained[0], list) else json.loads(explained[0])
    return round(rows(plan[0]["Plan"]))


def test_no_question_reads_the_whole_ledger(ledger: psycopg.Connection[Any]) -> None:
    """Each is asked as the code asks it; a scan of everything would look at a hundred thousand rows."""
    (fingerprint,) = ledger.execute("SELECT fingerprints[1] FROM monitoring.delivery WHERE id = 99991").fetchone() or (
        "",
    )
    worker = {"owner": "w", "now": NOW, "until": NOW + HOUR}
    thread = {"channel": OPS, "thread": "t4991"}
    questions = [
        Asked(what="what is held", statement=alert_ledger._HELD, values={}, at_most=10),
        Asked(
            what="a day's budget", statement=alert_ledger._SPENT, values={"since": NOW - 24 * HOUR}, at_most=2 * A_DAY
        ),
        Asked(
            what="an alert's story",
            statement=alert_ledger._DELIVERIES,
            values={"fingerprint": fingerprint, "limit": 5_000},
            at_most=3 * ROWS // ALERTS,
        ),
        Asked(
            what="a thread's first message",
            statement=outbox_statements.PARENT,
            values=thread,
            at_most=3 * ROWS // THREADS,
        ),
        Asked(
            what="a thread's alerts", statement=outbox_statements.IN_THREAD, values=thread, at_most=3 * ROWS // THREADS
        ),
        Asked(
            what="the next message",
            statement=outbox_statements.LEASE_NEXT,
            values={"channel": OPS, **worker},
            at_most=20,
        ),
        Asked(what="the last heartbeats", statement=heartbeat_times._LAST, values={}, at_most=10),
        Asked(what="channels that wait", statement=outbox_statements.DUE_CHANNELS, values={"now": NOW}, at_most=20),
        Asked(
            what="what is told already",
            statement=outbox_statements.COALESCE,
            values={
                "id": 99_991,
                "channel": OPS,
                "created_at": NOW - HOUR,
                "fingerprints": [fingerprint],
                "thread": "t4991",
                "now": NOW,
            },
            at_most=50,
        ),
        Asked(
            what="the fallback",
            statement=outbox_statements.HAND_TO_FALLBACK,
            values={"channel": OPS, "fallback": "email:a@b", "owner": "w", "now": NOW, "error": "x", "only": None},
            at_most=100,
        ),
        Asked(
            what="what a summary accounts for",
            statement=alert_store._ACCOUNT_FOR,
            values={"rows": storable_json([{"key": "99970", "by": "s"}, {"key": "99980", "by": "s"}]), "now": NOW},
            at_most=10,
        ),
        Asked(
            what="alerts by fingerprint",
            statement=alert_store.SELECT_ALERTS + "WHERE fingerprint LIKE %(prefix)s ORDER BY fingerprint",
            values={"prefix": fingerprint[:FEWEST_DIGITS] + "%"},
            at_most=10,
        ),
        Asked(
            what="an hour's preview",
            statement=silences._SPOKEN_OF,
            values={"since": NOW - HOUR},
            at_most=A_DAY // 2,
        ),
    ]
    too_many = {each.what: found for each in questions if (found := looked_at(ledger, each)) > each.at_most}
    assert too_many == {}


def test_the_answers_are_those_of_the_rows(ledger: psycopg.Connection[Any]) -> None:
    """The indexes hide nothing."""
    held = held_back(ledger)
    assert [(type(each), each.key) for each in held] == [(Held, "99970"), (Held, "99980"), (Held, "99990")]
    (counted,) = ledger.execute(
        "SELECT count(*) FROM monitoring.delivery WHERE as_of >= %s AND reason IN ('first', 'repeat')", (NOW - HOUR,)
    ).fetchone() or (0,)
    assert counted > 0
    assert spent_since(ledger, NOW - HOUR) == {OPS: counted}
    found = messages_matching(ledger, Matcher(rule=frozenset({"stale_sync"})), since=NOW - HOUR + MINUTE, tags={})
    assert 0 < found.messages <= counted

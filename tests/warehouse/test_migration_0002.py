"""Raising a monitoring schema that is in use from revision 0001: nothing is lost, and the new words are stored."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from alembic import command
from alembic.config import Config
from psycopg import sql
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from include.sync_health.alerts import NotifyReason, SilentReason
from include.sync_health.errors import StorageError
from include.warehouse import migration
from include.warehouse.alert_store import load_alerts, save_step
from include.warehouse.check_runs import CheckRun, last_seen_run, newest_start_seen, record_check_run
from include.warehouse.migration import HEAD_REVISION, require_current, upgrade
from include.warehouse.monitoring_session import connect
from include.warehouse.outbox import lease_next
from tests.warehouse.monitoring_records import MINUTE, NOW, OPS, alert, delivery, event
from tests.warehouse.rows_of_0001 import store_alert, store_delivery, store_event

CHECK = "sync_failures"

WINDOW_OF_0001 = """
    INSERT INTO monitoring.check_run (run_id, check_name, window_from, window_to, mode, filters, status, rows_read,
        source_ms, total_ms, verdicts, anomalies, notes, open_sync_ids, computed_at)
    VALUES (gen_random_uuid(), %(check)s, %(from)s, %(to)s, 'live', '{}', 'seen', 12, 1.5, 2.5, '{"clear": 3}', '{}',
        '{"a note"}', '{"11"}', %(to)s)
"""

SNAPSHOT_OF_0001 = """
    INSERT INTO monitoring.credential_snapshot (credential_id, as_of, connection_status, has_client_id,
        has_client_secret, is_deleted)
    VALUES ('7', %(to)s, 'error', true, true, false)
"""

QUALITY: dict[str, Any] = {
    "day": NOW.date(),
    "credential_id": "7",
    "data_type": "invoices",
    "company_id": "3",
    "company_name": "Acme",
    "environment": "production",
    "syncs_total": 4,
    "syncs_completed": 2,
    "syncs_clean": 1,
    "syncs_partial": 1,
    "syncs_failed": 1,
    "syncs_cancelled": 0,
    "syncs_open": 1,
    "records_processed": 3_000_000_000,
    "records_successful": 2_999_999_900,
    "records_failed": 100,
    "quality_score": 99.9,
    "inconsistent": 0,
    "score_low": 99.8,
    "score_high": 100.0,
    "duration_avg_seconds": 61.5,
    "duration_p95_seconds": 80.0,
    "is_final": False,
    "computed_at": NOW,
    "calc_version": 1,
}


@pytest.fixture
def dsn(make_database: Callable[..., str]) -> str:
    """An empty database."""
    return make_database("revision_0002")


def upgrade_to(dsn: str, revision: str) -> None:
    """Raise a database to an older revision, as an older release of the project did."""
    config = Config()
    config.set_main_option("script_location", str(migration._SCRIPTS))
    config.set_main_option("path_separator", "os")
    engine = create_engine("postgresql+psycopg://", creator=lambda: connect(dsn), poolclass=NullPool)
    with engine.connect() as connection, connection.begin():
        connection.exec_driver_sql("CREATE SCHEMA monitoring")
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


def rows_of(conn: psycopg.Connection[Any], table: str, columns: list[str]) -> list[tuple[Any, ...]]:
    names = sql.SQL(", ").join(map(sql.Identifier, columns))
    table_name = sql.Identifier("monitoring", table)
    return conn.execute(sql.SQL("SELECT {} FROM {} ORDER BY 1, 2, 3").format(names, table_name)).fetchall()


def columns_of(conn: psycopg.Connection[Any]) -> dict[str, list[str]]:
    rows = conn.execute(
        "SELECT table_name, column_name FROM information_schema.columns"
        " WHERE table_schema = 'monitoring' AND table_name <> 'schema_version' ORDER BY table_name, ordinal_position"
    ).fetchall()
    found: dict[str, list[str]] = {}
    for table, column in rows:
        found.setdefault(table, []).append(column)
    return found


def test_a_schema_in_use_is_raised_and_nothing_in_it_changes(dsn: str) -> None:
    """Every column of every row of 0001 is there after it as it was, and the next tick goes on with them."""
    upgrade_to(dsn, "0001")
    open_alert = alert("7")
    with connect(dsn) as conn:
        silent = delivery("b", open_alert, channel="email:a@example.com", reason=None, silent=SilentReason.NO_ROUTE)
        store_alert(conn, open_alert)
        store_event(conn, event(open_alert))
        for each in (delivery("a", open_alert), silent):
            store_delivery(conn, each)
        conn.execute(WINDOW_OF_0001, {"check": CHECK, "from": NOW - 15 * MINUTE, "to": NOW})
        conn.execute(SNAPSHOT_OF_0001, {"to": NOW})
        conn.execute("INSERT INTO monitoring.policy_version VALUES ('v', 'text', %(to)s, %(to)s)", {"to": NOW})
        conn.commit()
        columns = columns_of(conn)
        before = {table: rows_of(conn, table, names) for table, names in columns.items()}
        with pytest.raises(StorageError, match="at revision 0001, older than"):
            require_current(conn)

    assert upgrade(dsn) == ("0001", HEAD_REVISION)

    with connect(dsn) as conn:
        require_current(conn)
        assert {table: rows_of(conn, table, names) for table, names in columns.items()} == before
        assert all(len(rows) >= 1 for rows in before.values())
        assert load_alerts(conn) == {open_alert.fingerprint: open_alert}
        last = last_seen_run(conn, check=CHECK)
        assert last is not None
        assert (last.open_sync_ids, last.newest_started_at) == (("11",), None)
        assert newest_start_seen(conn, check=CHECK, before=NOW + MINUTE) is None
        leased = lease_next(conn, channel=OPS, owner="w", now=NOW, lease_for=MINUTE)
        assert leased is not None
        assert leased.key == "a"
        following = CheckRun.of(
            check=CHECK,
            window_from=NOW,
            window_to=NOW + 15 * MINUTE,
            mode="live",
            filters={},
            status="seen",
            newest_started_at=NOW,
            computed_at=NOW,
        )
        record_check_run(conn, following)
        assert last_seen_run(conn, check=CHECK) == following


def test_every_reason_to_send_or_not_can_be_stored(dsn: str) -> None:
    """The words of the code and the CHECKs of the table are the same."""
    upgrade(dsn)
    told = alert("7")
    sent = [delivery(f"sent {reason}", told, reason=reason) for reason in NotifyReason]
    silent = [delivery(f"silent {reason}", told, reason=None, silent=reason) for reason in SilentReason]
    with connect(dsn) as conn:
        save_step(conn, alerts=[told], events=[], deliveries=[*sent, *silent], now=NOW)
        rows = conn.execute("SELECT reason, silent FROM monitoring.delivery").fetchall()
    assert {reason for reason, _ in rows} == {None, *map(str, NotifyReason)}
    assert {silent for _, silent in rows} == {None, *map(str, SilentReason)}


@pytest.mark.parametrize(
    "statement",
    [
        pytest.param("UPDATE monitoring.delivery SET reason = 'gossip'", id="a reason that nobody knows"),
        pytest.param("UPDATE monitoring.delivery SET status = 'not_sent', silent = 'shy'", id="a silence likewise"),
    ],
)
def test_other_words_are_still_refused(dsn: str, statement: str) -> None:
    upgrade(dsn)
    told = alert("7")
    with connect(dsn) as conn:
        save_step(conn, alerts=[told], events=[], deliveries=[delivery("a", told)], now=NOW)
        with pytest.raises(psycopg.errors.CheckViolation):
            conn.execute(statement.encode())


def insert_quality(conn: psycopg.Connection[Any], **changes: Any) -> None:
    row = {**QUALITY, **changes}
    conn.execute(
        sql.SQL("INSERT INTO monitoring.quality_daily ({}) VALUES ({})").format(
            sql.SQL(", ").join(map(sql.Identifier, row)), sql.SQL(", ").join(map(sql.Placeholder, row))
        ),
        row,
    )


def test_a_day_of_quality_is_kept_by_day_credential_and_data_type(dsn: str) -> None:
    upgrade(dsn)
    nothing = {"quality_score": None, "score_low": None, "score_high": None}
    with connect(dsn) as conn:
        insert_quality(conn)
        insert_quality(conn, data_type="customers", **nothing)
        of_customers = {**QUALITY, "data_type": "customers", **nothing}
        assert rows_of(conn, "quality_daily", [*QUALITY, "is_vanished"]) == [
            (*of_customers.values(), False),
            (*QUALITY.values(), False),
        ]
        with pytest.raises(psycopg.errors.UniqueViolation):
            insert_quality(conn)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"quality_score": 100.1}, id="a score above 100"),
        pytest.param({"quality_score": None}, id="an interval without its score"),
        pytest.param({"syncs_open": 2}, id="more syncs than there are"),
        pytest.param({"syncs_partial": 2}, id="more clean and partial than completed"),
        pytest.param({"syncs_total": -1}, id="fewer than none"),
        pytest.param({"duration_avg_seconds": None}, id="one duration without the other"),
        pytest.param({"day": None}, id="no day"),
    ],
)
def test_a_day_cannot_contradict_itself(dsn: str, changes: dict[str, Any]) -> None:
    upgrade(dsn)
    with connect(dsn) as conn, pytest.raises(psycopg.errors.IntegrityError):
        insert_quality(conn, **changes)


@pytest.mark.parametrize(
    "query",
    [
        pytest.param("SELECT 1 FROM monitoring.quality_daily WHERE day >= '2026-01-01' ORDER BY day", id="days"),
        pytest.param(
            "SELECT 1 FROM monitoring.quality_daily WHERE credential_id = '7' AND day > '2026-01-01' ORDER BY day",
            id="a credential's days",
        ),
    ],
)
def test_quality_is_found_by_an_index(dsn: str, query: str) -> None:
    upgrade(dsn)
    with connect(dsn) as conn:
        conn.execute("SET enable_seqscan = off")  # the table is empty: make the planner take what there is
        conn.execute("SET enable_sort = off")
        plan = "\n".join(line for (line,) in conn.execute(sql.SQL("EXPLAIN ") + sql.SQL(query)))
    assert "Index" in plan
    assert "Sort" not in plan

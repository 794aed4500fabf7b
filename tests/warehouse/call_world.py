"""A source with a table of API calls, as `docs/php/servicetitan_api_calls.sql` makes it, and rows in it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import psycopg

from include.sync_health.policy import SourcePolicy
from include.warehouse.api_call_reader import CallsRead, read_calls
from include.warehouse.api_call_schema import describe_calls
from include.warehouse.source_session import open_session
from tests.sync_health.call_rows import T0, Call

DDL = Path(__file__).parents[2] / "docs" / "php" / "servicetitan_api_calls.sql"
NO_INDEX = "DROP INDEX idx_servicetitan_api_calls_called_at"
NO_INDEXES = f"{NO_INDEX}; ALTER TABLE servicetitan_api_calls DROP CONSTRAINT servicetitan_api_calls_pkey"
NO_ZONE = "ALTER TABLE servicetitan_api_calls ALTER called_at TYPE timestamp(3)"
LATE = timedelta(hours=3)


def create_calls(dsn: str, *changes: str) -> None:
    """Make the table, then change it."""
    with psycopg.connect(dsn) as conn:
        for statement in (DDL.read_text(encoding="utf-8"), *changes):
            conn.execute(statement.encode())


def write_calls(dsn: str, calls: Iterable[Call], *, zone: str = "UTC") -> None:
    """Insert calls in the order given, as the recorder does."""
    with (
        psycopg.connect(dsn) as conn,
        conn.cursor().copy(
            "COPY servicetitan_api_calls (service_titan_credential_id, endpoint, response_time, status_code, called_at)"
            " FROM STDIN"
        ) as copy,
    ):
        for each in calls:
            local = each.at.astimezone(ZoneInfo(zone))  # a column without a zone drops the offset
            ms = None if each.ms is None else round(each.ms)
            copy.write_row((int(each.credential), each.endpoint, ms, each.status, local))


def read(dsn: str, *, hours: int = 3, zone: str = "UTC", **options: object) -> CallsRead:
    """Read the hours from `T0` on."""
    policy = SourcePolicy(timezone=zone)
    with open_session(dsn, policy) as session:
        table = describe_calls(session, policy)
        assert table is not None
        return read_calls(
            session,
            policy,
            table=table,
            since=T0,
            until=T0 + timedelta(hours=hours),
            late=LATE,
            **options,  # type: ignore[arg-type]
        )

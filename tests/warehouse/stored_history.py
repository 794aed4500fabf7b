"""Daily quality written straight into the tables, for what reads it."""

from __future__ import annotations

from typing import Any

import pandas as pd
import psycopg
from psycopg import sql

from include.sync_health.daily_quality import DAILY_COLUMNS
from tests.warehouse.monitoring_records import NOW


def store_days(conn: psycopg.Connection[Any], daily: pd.DataFrame, *, vanished: bool = False) -> None:
    """Store rows and their days' ledger, whatever they say."""
    columns = [*DAILY_COLUMNS, "is_vanished", "computed_at"]
    statement = sql.SQL("COPY monitoring.quality_daily ({}) FROM STDIN").format(
        sql.SQL(", ").join(map(sql.Identifier, columns))
    )
    with conn.cursor() as cursor, cursor.copy(statement) as copy:
        for row in daily.astype(object).where(daily.notna(), None).to_dict("records"):
            values = [row[name] for name in DAILY_COLUMNS]
            copy.write_row([*(_whole(value) for value in values), vanished, NOW])
    conn.execute(
        "INSERT INTO monitoring.quality_day SELECT day, %s, count(*), bool_and(is_final), 'UTC', min(calc_version)"
        " FROM monitoring.quality_daily GROUP BY day ON CONFLICT DO NOTHING",
        (NOW,),
    )
    conn.commit()


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def store_field(
    conn: psycopg.Connection[Any], day: Any, *, field: str, sample: str | None, share: float | None
) -> None:
    """Store a field of credential 7's invoices that failed."""
    conn.execute(
        "INSERT INTO monitoring.field_quality_daily VALUES (%s, '7', 'invoices', %s, true, 2, 5, 3, %s, %s)",
        (day, field, share, sample),
    )
    conn.commit()


def store_revision(conn: psycopg.Connection[Any], day: Any) -> None:
    """Store a revision of credential 7's invoices that were absent."""
    conn.execute(
        "INSERT INTO monitoring.quality_revision (day, credential_id, data_type, revised_at, verdict_before,"
        " verdict_after, score_after, processed_after, failed_after, syncs_after, version_after)"
        " VALUES (%s, '7', 'invoices', %s, 'absent', 'poor', 50, 100, 50, 3, 2)",
        (day, NOW),
    )
    conn.commit()


def store_name(conn: psycopg.Connection[Any], name: str, *, credential: str = "7", at: Any = NOW) -> None:
    """Store what a credential's company is called from an instant on."""
    conn.execute(
        "INSERT INTO monitoring.credential_snapshot (credential_id, as_of, company_name, has_client_id,"
        " has_client_secret, is_deleted) VALUES (%s, %s, %s, true, true, false)",
        (credential, at, name),
    )
    conn.commit()

"""Made-up rows of what the figures read, and how they are stored."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import psycopg
from psycopg import sql

from include.sync_health.api_calls import CALL_COLUMNS, collapse
from include.warehouse.api_hours import add_calls
from include.warehouse.api_sources import ApiSource, record_source
from tests.sync_health.stored_quality_days import random_days

START = datetime(2026, 3, 2, 0, 0, tzinfo=UTC)
NOW = datetime(2026, 3, 30, 12, 0, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
ENVIRONMENTS = ("production", "integration", "unknown")

HOUR_NUMBERS = (
    "syncs_started",
    "syncs_completed",
    "syncs_clean",
    "syncs_partial",
    "syncs_failed",
    "syncs_cancelled",
    "syncs_timed",
    "duration_seconds_sum",
    "records_processed",
    "records_successful",
    "records_failed",
)

OUTCOME_NUMBERS = ["syncs_clean", "syncs_partial", "records_successful", "records_failed"]


def sync_hour(hour: datetime, **changes: Any) -> dict[str, Any]:
    """Return a row of ``sync_hour``."""
    return {
        "hour": hour,
        "environment": "production",
        "data_type": "invoices",
        **dict.fromkeys(HOUR_NUMBERS, 0),
        "failed_by_class": {},
        **changes,
    }


def random_hours(seed: int, *, hours: int = 72, unread: bool = False) -> list[dict[str, Any]]:
    """
    Return hours with gaps, some of them without an end, some of failures alone.

    With ``unread``, in some of them what was processed could not be read, in others what became of it, or neither.
    """
    chance = random.Random(seed)  # noqa: S311 -- made-up data
    rows = []
    for number in range(hours):
        unknown: list[str] = []
        if unread and chance.random() < 0.3:
            unknown = chance.choice([OUTCOME_NUMBERS, ["records_processed", *OUTCOME_NUMBERS]])
        for environment in ENVIRONMENTS:
            for data_type in ("invoices", "customers"):
                if chance.random() < 0.6:
                    continue
                clean, partial = chance.choice([(0, 0), (3, 0), (2, 5)])
                failed = chance.choice([0, 0, 1, 4])
                server = chance.randint(0, failed)
                by_class = {"server": server, "auth": failed - server}
                timed = chance.randint(0, clean + partial)
                processed = chance.choice([0, 7, 5_000_000_000]) if clean + partial + failed else 0
                rows.append(
                    sync_hour(
                        START + number * HOUR,
                        environment=environment,
                        data_type=data_type,
                        syncs_started=chance.randint(0, 9),
                        syncs_completed=clean + partial,
                        syncs_clean=clean,
                        syncs_partial=partial,
                        syncs_failed=failed,
                        syncs_cancelled=chance.randint(0, 2),
                        syncs_timed=timed,
                        duration_seconds_sum=timed * chance.uniform(0.1, 400),
                        records_processed=processed,
                        records_successful=processed // 2,
                        records_failed=processed - processed // 2,
                        failed_by_class={name: each for name, each in by_class.items() if each},
                    )
                )
                if clean + partial + failed:
                    rows[-1] |= dict.fromkeys(unknown)
    return rows


def store_hours(conn: psycopg.Connection[Any], rows: Iterable[Mapping[str, Any]]) -> None:
    """Store rows of ``sync_hour``."""
    columns = ("hour", "environment", "data_type", *HOUR_NUMBERS, "failed_by_class")
    with conn.cursor() as cursor:
        cursor.executemany(
            f"INSERT INTO monitoring.sync_hour ({', '.join(columns)}, computed_at)"
            f" VALUES ({', '.join(['%s'] * len(columns))}, now())".encode(),
            [[json.dumps(row[name]) if name == "failed_by_class" else row[name] for name in columns] for row in rows],
        )
    conn.commit()


def random_environment_days(seed: int, **options: Any) -> pd.DataFrame:
    """Return `random_days` of which some are of another environment, or of none, and whose counts differ."""
    chance = random.Random(seed)  # noqa: S311 -- made-up data
    daily = random_days(seed, **options)
    daily["environment"] = pd.Series(
        [chance.choice(["production", "integration", None]) for _ in daily.index], dtype=object
    )
    more = np.array([chance.randint(0, 9) for _ in daily.index])
    for name in ("syncs_total", "syncs_cancelled"):
        daily[name] += more
    more = np.array([chance.randint(0, 9) for _ in daily.index])
    for name in ("syncs_total", "syncs_failed"):
        daily[name] += more
    daily["failed_auth"] += np.where(daily["failed_auth"].isna(), np.nan, more)
    return daily


def call(at: datetime, **changes: Any) -> dict[str, Any]:
    """Return one API call of production's credential 7, answered well within 100 milliseconds."""
    return {
        "source": "table",
        "environment": "production",
        "at": at,
        "credential_id": "7",
        "endpoint": "/crm/v2/tenant/{id}/customers",
        "status_code": 200,
        "response_ms": 100.0,
        "rate_limited": 0,
        "circuit_opened": 0,
        **changes,
    }


def random_calls(seed: int, *, number: int = 400, hours: int = 60) -> list[dict[str, Any]]:
    """Return calls of several sources, credentials and endpoints; some failed, some are not timed."""
    chance = random.Random(seed)  # noqa: S311 -- made-up data
    whose = {"1": "production", "2": "production", "3": "integration", "": "unknown"}
    calls = []
    for _ in range(number):
        credential = chance.choice(list(whose))
        source = chance.choice(["table", "table", "log", "probe"])
        status = chance.choice([200, 200, 200, 200, 404, 429, 503, 0])
        calls.append(
            call(
                START + chance.uniform(0, hours) * HOUR,
                source=source,
                credential_id=credential,
                environment=whose[credential],
                endpoint=chance.choice(["/crm/v2/tenant/{id}/customers", "/accounting/v2/tenant/{id}/invoices", "/x"]),
                status_code=status,
                response_ms=None if source == "log" or chance.random() < 0.1 else chance.lognormvariate(6, 1.5),
                rate_limited=int(status == 429),
                circuit_opened=int(source == "log" and chance.random() < 0.1),
            )
        )
    return calls


def store_calls(conn: psycopg.Connection[Any], calls: Iterable[Mapping[str, Any]]) -> None:
    """Store calls as their sources would."""
    given = list(calls)
    for source in sorted({each["source"] for each in given}):
        mine = [each for each in given if each["source"] == source]
        frame = pd.DataFrame(
            [{name: each[name] for name in (*CALL_COLUMNS, "rate_limited", "circuit_opened")} for each in mine]
        )
        frame["response_ms"] = frame["response_ms"].astype(np.float64)
        names = {each["credential_id"]: (each["environment"], "3") for each in mine}
        add_calls(conn, collapse(frame), source=source, names=names, now=NOW)  # type: ignore[arg-type]
    conn.commit()


def store_source(conn: psycopg.Connection[Any], source: Any, status: str = "available", **changes: Any) -> None:
    """Store what is known of a source of API calls; the log knows no response times, the others do."""
    known = {
        "status": status,
        "has_timings": source != "log",
        "detail": "",
        "read_until": NOW,
        "counts": {},
        "updated_at": NOW,
        **changes,
    }
    record_source(conn, ApiSource(source=source, **known))
    conn.commit()


def store_snapshot(conn: psycopg.Connection[Any], credential: str, as_of: datetime, **changes: Any) -> None:
    """Store what a credential looked like from an instant on."""
    row = {
        "credential_id": credential,
        "as_of": as_of,
        "company_id": "3",
        "company_name": f"Company {credential}",
        "environment": "production",
        "connection_status": "active",
        "token_expires_at": None,
        "has_client_id": True,
        "has_client_secret": True,
        "is_deleted": False,
        **changes,
    }
    conn.execute(
        f"INSERT INTO monitoring.credential_snapshot ({', '.join(row)}) VALUES ({', '.join(['%s'] * len(row))})".encode(),
        list(row.values()),
    )
    conn.commit()


def store_counter(conn: psycopg.Connection[Any], credential: str, last_at: datetime | None, **changes: Any) -> None:
    """Store what was counted of a credential's syncs."""
    row = {
        "environment": "production",
        "company_id": "3",
        "credential_id": credential,
        "data_type": "invoices",
        "status": "completed",
        "syncs": 1,
        "last_at": last_at,
        "updated_at": NOW,
        **changes,
    }
    conn.execute(
        f"INSERT INTO monitoring.sync_counter ({', '.join(row)}) VALUES ({', '.join(['%s'] * len(row))})".encode(),
        list(row.values()),
    )
    conn.commit()


def day_of(number: int) -> date:
    """Return a day after START's."""
    return START.date() + number * DAY


class Watched:
    """A session whose statements are remembered, to be explained afterwards."""

    def __init__(self, conn: psycopg.Connection[Any]) -> None:
        self._conn = conn
        self.statements: list[tuple[Any, Any]] = []

    def execute(self, query: Any, parameters: Any = None) -> Any:
        self.statements.append((query, parameters))
        return self._conn.execute(query, parameters)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._conn, name)


def rows_touched(conn: psycopg.Connection[Any], run: Callable[[Any], object]) -> Counter[str]:
    """Return how many rows of each table the statements of ``run`` touch, those thrown away included."""
    watched = Watched(conn)
    run(watched)
    touched: Counter[str] = Counter()

    def count(node: Mapping[str, Any]) -> None:
        own = node["Actual Rows"] + node.get("Rows Removed by Filter", 0)
        if "Relation Name" in node:
            touched[node["Relation Name"]] += round(own * node["Actual Loops"])
        for each in node.get("Plans", ()):
            count(each)

    for query, parameters in watched.statements:
        composed = query if isinstance(query, sql.Composable) else sql.SQL(query)
        explain = sql.SQL("EXPLAIN (ANALYZE, FORMAT JSON) ") + composed
        (plan,) = conn.execute(explain, parameters).fetchone() or ([],)
        count((json.loads(plan) if isinstance(plan, str) else plan)[0]["Plan"])
    return touched


def analyze(conn: psycopg.Connection[Any], table: str) -> None:
    """Let the planner know of what was stored."""
    conn.commit()
    conn.autocommit = True
    conn.execute(f"VACUUM ANALYZE monitoring.{table}".encode())
    conn.autocommit = False

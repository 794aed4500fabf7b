"""
The daily aggregates by other ways than ours: what the bench compares with.

    insert_select   one INSERT ... SELECT ... ON CONFLICT DO UPDATE inside PostgreSQL
    read_and_upsert pandas.read_sql, groupby, and executemany of upserts
    copy_out        the bare binary COPY of the columns that are needed, thrown away

The first two write all `DAILY_COLUMNS` and agree with ours on the rows of `include.simulation.bulk_history`: error classes
are told by its four messages, and its details tell of no field, so neither reads them (ours and the COPY do).
Naive times of the source are UTC.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import psycopg
import sqlalchemy

from include.sync_health.daily_quality import (
    CALC_VERSION,
    DAILY_COLUMNS,
    DAILY_KEY,
    ERROR_CLASSES,
    day_bounds,
    local_day,
)
from include.sync_health.proportions import WILSON_Z

LOG = "servicetitan_sync_logs"

MESSAGES = {
    "auth": "HTTP 401",
    "rate_limit": "ServiceTitan API rate",
    "timeout": "Idle timeout",
    "server": "ServiceTitan API server",
}
"""How the messages of `bulk_history` begin, by the class of their error."""

STORED = (*DAILY_COLUMNS, "computed_at")

_RECORDS = ("records_processed", "records_successful", "records_failed")
_UPDATES = ", ".join(f"{column} = excluded.{column}" for column in STORED if column not in DAILY_KEY)
_CONFLICT = f"ON CONFLICT ({', '.join(DAILY_KEY)}) DO UPDATE SET {_UPDATES}"

_CLASS = " ".join(f"WHEN starts_with(error_message, '{begin}') THEN '{each}'" for each, begin in MESSAGES.items())

_BELONGS = "coalesce(completed_at, started_at)"

# Every name is a constant of this module, every value a parameter.
_INSERT_SELECT = f"""
INSERT INTO {{table}} ({", ".join(STORED)})
SELECT day, sums.credential::text, data_type, company.id::text, company.company_name, credential.environment,
       syncs_total, syncs_completed, syncs_clean, syncs_partial, syncs_failed, syncs_cancelled, syncs_open,
       records_processed, records_successful, records_failed, 100 * share, inconsistent,
       CASE WHEN n IS NOT NULL THEN CASE WHEN records_successful = 0 THEN 0 ELSE greatest(100 * (middle - reach), 0) END END,
       CASE WHEN n IS NOT NULL THEN CASE WHEN records_successful = n THEN 100 ELSE least(100 * (middle + reach), 100) END END,
       duration_avg, duration_p95, syncs_empty, syncs_timed, {", ".join(f"failed_{each}" for each in ERROR_CLASSES)},
       0, 0, 0, NULL, day <= %(last_final)s, %(calc_version)s, %(computed_at)s
FROM (
    SELECT *, records_successful / n::float8 AS share, 1 + {WILSON_Z**2!r} / n AS shrink,
           (records_successful / n::float8 + {WILSON_Z**2 / 2!r} / n) / (1 + {WILSON_Z**2!r} / n) AS middle,
           {WILSON_Z!r} / (1 + {WILSON_Z**2!r} / n)
               * sqrt(records_successful / n::float8 * (1 - records_successful / n::float8) / n
                      + {WILSON_Z**2 / 4!r} / n / n) AS reach
    FROM (
        SELECT *, CASE WHEN records_processed > 0 AND records_successful + records_failed = records_processed
                            AND negatives = 0 THEN records_processed END::float8 AS n
        FROM (
            SELECT day, credential, data_type,
                   count(*) AS syncs_total,
                   count(*) FILTER (WHERE completed) AS syncs_completed,
                   count(*) FILTER (WHERE completed AND (failed = 0 OR failed IS NULL AND NOT off)) AS syncs_clean,
                   count(*) FILTER (WHERE completed AND failed > 0) AS syncs_partial,
                   count(*) FILTER (WHERE broke) AS syncs_failed,
                   count(*) FILTER (WHERE stopped) AS syncs_cancelled,
                   count(*) FILTER (WHERE is_open) AS syncs_open,
                   count(*) FILTER (WHERE completed AND processed = 0) AS syncs_empty,
                   coalesce(sum(processed) FILTER (WHERE completed OR broke), 0) AS records_processed,
                   coalesce(sum(successful) FILTER (WHERE completed OR broke), 0) AS records_successful,
                   coalesce(sum(failed) FILTER (WHERE completed OR broke), 0) AS records_failed,
                   count(*) FILTER (WHERE (completed OR broke) AND off OR completed AND unended) AS inconsistent,
                   count(*) FILTER (WHERE (completed OR broke) AND least(processed, successful, failed) < 0) AS negatives,
                   count(seconds) AS syncs_timed, avg(seconds) AS duration_avg,
                   percentile_disc(0.95) WITHIN GROUP (ORDER BY seconds) AS duration_p95,
                   {", ".join(f"count(*) FILTER (WHERE broke AND class = '{each}') AS failed_{each}" for each in ERROR_CLASSES)}
            FROM (
                SELECT ({_BELONGS} AT TIME ZONE 'UTC' AT TIME ZONE %(zone)s)::date AS day,
                       service_titan_credential_id AS credential, data_type,
                       status = 'completed' AS completed,
                       status = 'failed' AND error_message IS DISTINCT FROM 'Sync cancelled by user' AS broke,
                       status = 'cancelled' OR status = 'failed' AND error_message = 'Sync cancelled by user' AS stopped,
                       status IN ('pending', 'running') AS is_open,
                       completed_at IS NULL AS unended,
                       records_processed AS processed, records_successful AS successful, records_failed AS failed,
                       least(records_processed, records_successful, records_failed) < 0
                           OR coalesce(records_successful, 0) + coalesce(records_failed, 0) <> coalesce(records_processed, 0)
                           AS off,
                       CASE WHEN status = 'completed' THEN nullif(greatest(coalesce(processing_time_seconds,
                           extract(epoch FROM completed_at - started_at)::float8), 0), 0) END AS seconds,
                       CASE WHEN status = 'failed' THEN CASE {_CLASS} ELSE 'unknown' END END AS class
                FROM {LOG}
                WHERE {_BELONGS} >= %(begin)s AND {_BELONGS} < %(end)s
            ) AS run
            GROUP BY day, credential, data_type
        ) AS counted
    ) AS summed
) AS sums
LEFT JOIN servicetitan_credentials AS credential ON credential.id = sums.credential
LEFT JOIN company ON company.id = credential.company_id
{_CONFLICT}
"""  # noqa: S608 - constants of this module

_READ = f"""
SELECT service_titan_credential_id AS credential_id, data_type, status, started_at, completed_at, error_message,
       records_processed, records_successful, records_failed, processing_time_seconds
FROM {LOG} WHERE {_BELONGS} >= %(begin)s AND {_BELONGS} < %(end)s
"""  # noqa: S608 - constants of this module

_NAMES = """
SELECT credential.id AS credential_id, company.id::text AS company_id, company_name, environment
FROM servicetitan_credentials AS credential LEFT JOIN company ON company.id = credential.company_id
"""

_UPSERT = f"INSERT INTO {{table}} ({', '.join(STORED)}) VALUES ({', '.join(['%s'] * len(STORED))}) {_CONFLICT}"  # noqa: S608 - constants

_COPY = f"""
COPY (
    SELECT id, service_titan_credential_id, data_type, status, started_at, completed_at, error_message, records_processed,
           records_successful, records_failed, processing_time_seconds, error_details
    FROM {LOG} WHERE {_BELONGS} >= %(begin)s AND {_BELONGS} < %(end)s
) TO STDOUT (FORMAT BINARY)
"""  # noqa: S608 - constants of this module


@dataclass(frozen=True, slots=True, kw_only=True)
class Days:
    """Days from ``first`` to ``last``, both included, of the zone; final ones by ``as_of`` and ``late_data_days``."""

    first: date
    last: date
    zone: str
    as_of: datetime
    late_data_days: int

    @property
    def parameters(self) -> dict[str, Any]:
        """The values of the statements."""
        begin, _ = day_bounds(self.first, timezone=self.zone)
        _, end = day_bounds(self.last, timezone=self.zone)
        return {
            "begin": begin.astimezone(UTC).replace(tzinfo=None),
            "end": end.astimezone(UTC).replace(tzinfo=None),
            "zone": self.zone,
            "last_final": local_day(self.as_of, timezone=self.zone) - timedelta(days=self.late_data_days + 1),
            "calc_version": CALC_VERSION,
            "computed_at": self.as_of,
        }


def insert_select(conn: psycopg.Connection[Any], days: Days, *, table: str) -> None:
    """Aggregate into ``table`` inside PostgreSQL, in one transaction."""
    with conn.transaction():
        conn.execute(_INSERT_SELECT.format(table=table).encode(), days.parameters)


def copy_out(conn: psycopg.Connection[Any], days: Days) -> int:
    """Send the needed columns to the client, throw them away, and return their bytes."""
    with conn.cursor() as cursor, cursor.copy(_COPY.encode(), days.parameters) as copy:
        return sum(len(block) for block in copy)


def read_and_upsert(alchemy: sqlalchemy.Connection, conn: psycopg.Connection[Any], days: Days, *, table: str) -> None:
    """Aggregate into ``table`` as is usual in Python, in one transaction."""
    parameters = days.parameters
    runs = pd.read_sql(
        sqlalchemy.text(_READ.replace("%(begin)s", ":begin").replace("%(end)s", ":end")), alchemy, params=parameters
    )
    names = pd.read_sql(sqlalchemy.text(_NAMES), alchemy)
    daily = _grouped(runs, zone=days.zone).merge(names, on="credential_id", how="left")
    daily = daily.assign(
        credential_id=daily["credential_id"].astype(str),
        is_final=daily["day"] <= parameters["last_final"],
        calc_version=CALC_VERSION,
        computed_at=days.as_of,
    )[list(STORED)]
    rows = daily.astype(object).where(daily.notna(), None).itertuples(index=False, name=None)
    with conn.transaction(), conn.cursor() as cursor:
        cursor.executemany(_UPSERT.format(table=table).encode(), rows)


def _grouped(runs: pd.DataFrame, *, zone: str) -> pd.DataFrame:
    belongs = runs["completed_at"].fillna(runs["started_at"]).dt.tz_localize("UTC").dt.tz_convert(zone)
    stopped = (runs["status"] == "cancelled") | (runs["error_message"] == "Sync cancelled by user")
    completed, failed = (runs["status"] == "completed") & ~stopped, (runs["status"] == "failed") & ~stopped
    counts = runs[list(_RECORDS)].fillna(0)
    off = (counts < 0).any(axis=1) | (
        counts["records_successful"] + counts["records_failed"] != counts["records_processed"]
    )
    seconds = runs["processing_time_seconds"].astype("float64")
    seconds = seconds.fillna((runs["completed_at"] - runs["started_at"]).dt.total_seconds()).where(completed)
    seconds = seconds.where(seconds > 0)
    text = runs["error_message"].astype(object).where(failed, "")
    error = np.select(
        [text.str.startswith(begin).to_numpy(bool) for begin in MESSAGES.values()], list(MESSAGES), "unknown"
    )
    flags: Mapping[str, pd.Series] = {
        "syncs_completed": completed,
        "syncs_clean": completed & ((runs["records_failed"] == 0) | (runs["records_failed"].isna() & ~off)),
        "syncs_partial": completed & (runs["records_failed"] > 0),
        "syncs_failed": failed,
        "syncs_cancelled": stopped,
        "syncs_open": runs["status"].isin(["pending", "running"]),
        "syncs_empty": completed & (runs["records_processed"] == 0),
        "inconsistent": ((completed | failed) & off) | (completed & runs["completed_at"].isna()),
        "negatives": (completed | failed) & (counts < 0).any(axis=1),
        **{f"failed_{each}": failed & (error == each) for each in ERROR_CLASSES},
    }
    key = list(DAILY_KEY)
    rows = pd.DataFrame(
        {
            "day": belongs.dt.date,
            "credential_id": runs["credential_id"],
            "data_type": runs["data_type"],
            "syncs_total": 1,
            **{name: flag.astype("int64") for name, flag in flags.items()},
            **{name: counts[name].where(completed | failed, 0).astype("int64") for name in _RECORDS},
            "seconds": seconds,
        }
    )
    grouped = rows.groupby(key, sort=False)
    daily = grouped[[name for name in rows if name not in (*key, "seconds")]].sum()
    daily["syncs_timed"] = grouped["seconds"].count()
    daily["duration_avg_seconds"] = grouped["seconds"].mean()
    timed = rows.loc[rows["seconds"].notna(), [*key, "seconds"]].sort_values("seconds")
    place, size = timed.groupby(key).cumcount() + 1, timed.groupby(key)["seconds"].transform("size")
    daily["duration_p95_seconds"] = timed[place == (95 * size + 99) // 100].set_index(key)["seconds"]
    is_told = (daily["records_processed"] > 0) & (daily["negatives"] == 0)
    is_told &= daily["records_successful"] + daily["records_failed"] == daily["records_processed"]
    n = daily["records_processed"].where(is_told).astype("float64")
    share = daily["records_successful"] / n
    middle = (share + WILSON_Z**2 / (2 * n)) / (1 + WILSON_Z**2 / n)
    reach = WILSON_Z / (1 + WILSON_Z**2 / n) * np.sqrt(share * (1 - share) / n + WILSON_Z**2 / (4 * n * n))
    daily["quality_score"] = 100 * share
    daily["score_low"] = (100 * (middle - reach)).clip(0, 100).mask(share == 0, 0.0)
    daily["score_high"] = (100 * (middle + reach)).clip(0, 100).mask(share == 1, 100.0)
    daily[["syncs_with_detail", "records_with_detail", "missing_required"]] = 0
    daily["completeness"] = np.nan
    return daily.reset_index()


def differing(
    conn: psycopg.Connection[Any],
    *,
    one: str,
    other: str,
    key: Sequence[str] = DAILY_KEY,
    exact: Sequence[str],
    floats: Sequence[str],
) -> int:
    """Return how many rows of two tables differ or stand in one alone; floats differ by more than 1e-9 of themselves."""
    differ = ["one.is_there IS NULL OR other.is_there IS NULL"]
    differ += [f"one.{each} IS DISTINCT FROM other.{each}" for each in exact]
    differ += [
        f"(one.{each} IS NULL) <> (other.{each} IS NULL)"
        f" OR abs(one.{each} - other.{each}) > 1e-9 * greatest(abs(one.{each}), abs(other.{each}))"
        for each in floats
    ]
    statement = (
        f"SELECT count(*) FROM (SELECT true AS is_there, * FROM {one}) AS one"  # noqa: S608 - the bench's own names
        f" FULL JOIN (SELECT true AS is_there, * FROM {other}) AS other USING ({', '.join(key)})"
        f" WHERE {' OR '.join(f'({each})' for each in differ)}"
    )
    row = conn.execute(statement.encode()).fetchone()
    return int(row[0]) if row else 0

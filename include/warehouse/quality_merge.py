"""
One day's replacement in ``monitoring.quality_daily`` and the tables that go with it: a transaction under the day's lock.

A day without rows is copied in. One that has rows is compared as a set, in temporary tables, so that only what differs is
written and nobody ever sees half of it. What becomes of a key that is gone from the day is in `replace_days`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import pandas as pd
import psycopg
from psycopg import errors as pg_errors
from psycopg import sql

from include.sync_health.daily_quality import CALC_VERSION, DAILY_COLUMNS, DAILY_KEY
from include.sync_health.errors import RequestError, StorageError
from include.sync_health.field_quality import FIELD_COLUMNS
from include.sync_health.log_start import other_ends
from include.sync_health.quality_revisions import JUDGED_NUMBERS, REVISION_COLUMNS, REVISION_KEY, revisions
from include.sync_health.rule_policies import DataQualityPolicy
from include.warehouse.binary_rows import BinaryRows
from include.warehouse.monitoring_session import storage_errors
from include.warehouse.stored_values import storable_json

QUALITY_LOCK = 1_947_204_611
"""First key of the advisory lock of a day, the second being the day's ordinal; arbitrary, but never to change."""

_TEXTS = ("credential_id", "data_type", "company_id", "company_name", "environment")
_FLOATS = ("quality_score", "score_low", "score_high", "duration_avg_seconds", "duration_p95_seconds", "completeness")
_LARGE = ("records_processed", "records_successful", "records_failed", "records_with_detail", "missing_required")
DAILY_TYPES = {
    **dict.fromkeys(DAILY_COLUMNS, "int4"),
    **dict.fromkeys(_TEXTS, "text"),
    **dict.fromkeys(_FLOATS, "float8"),
    **dict.fromkeys(_LARGE, "int8"),
    "day": "date",
    "is_final": "bool",
    "computed_at": "timestamptz",
}
FIELD_TYPES = {
    "day": "date",
    "credential_id": "text",
    "data_type": "text",
    "field": "text",
    "is_required": "bool",
    "syncs": "int4",
    "failures": "int8",
    "missing": "int8",
    "share": "float8",
    "sample": "text",
}
"""The types of the columns, in PostgreSQL's short words."""


def _list(columns: Iterable[str], of: str = "") -> str:
    return ", ".join(f"{of}.{column}" if of else column for column in columns)


_VALUES = tuple(column for column in DAILY_COLUMNS if column not in (*DAILY_KEY, "is_final"))
_JUDGED = ("quality_score", "records_processed", "records_failed")
_DETAIL = ("syncs_with_detail", "records_with_detail", "missing_required", "completeness")
_FIELD_KEY = (*DAILY_KEY, "field")
_FIELD_VALUES = tuple(column for column in FIELD_COLUMNS if column not in _FIELD_KEY)

_STATE = """
    SELECT ledger.read_at, ledger.timezone, coalesce(ledger.is_final, false),
           EXISTS (SELECT FROM monitoring.quality_daily WHERE day = %(day)s),
           EXISTS (SELECT FROM monitoring.field_quality_daily WHERE day = %(day)s)
    FROM (VALUES (1)) AS always LEFT JOIN monitoring.quality_day AS ledger ON ledger.day = %(day)s
"""

# Planned without knowing how many rows there are: a day beyond the table's statistics looks empty, and a nested loop over
# two days' rows is their product.
_PLAN = "SELECT set_config('enable_nestloop', 'off', true)"

# Not LIKE, which would take NOT NULL along and not the defaults. Made where it is needed and left to the session: a pooler
# may give the next transaction another one.
_MAKE_FRESH = f"""
    CREATE TEMPORARY TABLE IF NOT EXISTS fresh_quality ON COMMIT DELETE ROWS
        AS SELECT {_list(DAILY_TYPES)} FROM monitoring.quality_daily WITH NO DATA;
    CREATE TEMPORARY TABLE IF NOT EXISTS fresh_fields ON COMMIT DELETE ROWS
        AS SELECT {_list(FIELD_COLUMNS)} FROM monitoring.field_quality_daily WITH NO DATA
"""  # noqa: S608 -- only constants of this module

_SAME_KEY = "kept.day = %(day)s AND kept.credential_id = fresh.credential_id AND kept.data_type = fresh.data_type"
# Of an open sync nothing is lost when it is no longer there: it has ended, maybe on another day.
_ACCEPTED = "(NOT %(only_growing)s OR fresh.syncs_total - fresh.syncs_open >= kept.syncs_total - kept.syncs_open)"
_KEEPS_DETAIL = "(NOT %(has_details)s AND coalesce(kept.syncs_with_detail, 0) > 0)"
_NEW_VALUES = ", ".join(
    f"CASE WHEN {_KEEPS_DETAIL} THEN kept.{column} ELSE fresh.{column} END" if column in _DETAIL else f"fresh.{column}"
    for column in _VALUES
)
_IS_GONE = f"kept.day = %(day)s AND NOT EXISTS (SELECT FROM pg_temp.fresh_quality AS fresh WHERE {_SAME_KEY})"
# No fresh row is one without a finished sync.
_HAS_MOVED = """
    kept.credential_id = ANY (%(movable)s::text[]) AND (NOT %(only_growing)s OR kept.syncs_total = kept.syncs_open)
"""

_GONE_CREDENTIALS = f"""
    SELECT DISTINCT kept.credential_id FROM monitoring.quality_daily AS kept WHERE {_IS_GONE}
"""  # noqa: S608 -- only constants of this module

_REVISED = f"""
    SELECT fresh.credential_id, fresh.data_type, kept.day IS NULL, {_list(JUDGED_NUMBERS, "kept")}, {_list(JUDGED_NUMBERS, "fresh")}
    FROM pg_temp.fresh_quality AS fresh LEFT JOIN monitoring.quality_daily AS kept ON {_SAME_KEY}
    WHERE kept.day IS NULL
       OR {_ACCEPTED} AND ({_list(_JUDGED, "kept")}) IS DISTINCT FROM ({_list(_JUDGED, "fresh")})
    UNION ALL
    SELECT kept.credential_id, kept.data_type, false, {_list(JUDGED_NUMBERS, "kept")}, NULL, 0, 0, 0, %(calc_version)s
    FROM monitoring.quality_daily AS kept WHERE {_IS_GONE} AND {_HAS_MOVED}
"""  # noqa: S608 -- only constants of this module

# One statement, so that all of it is decided by what was there before. Rows that are as they were are not written.
_MERGE = f"""
    WITH moved AS (
        DELETE FROM monitoring.quality_daily AS kept WHERE {_IS_GONE} AND {_HAS_MOVED}
        RETURNING kept.credential_id, kept.data_type
    ), moved_fields AS (
        DELETE FROM monitoring.field_quality_daily AS kept USING moved
        WHERE kept.day = %(day)s AND kept.credential_id = moved.credential_id AND kept.data_type = moved.data_type
    ), gone AS (
        UPDATE monitoring.quality_daily AS kept
        SET is_vanished = true, is_final = kept.is_final OR %(is_over)s
        WHERE {_IS_GONE} AND NOT ({_HAS_MOVED})
          AND NOT (kept.is_vanished AND (kept.is_final OR NOT %(is_over)s))
        RETURNING 1
    ), fewer AS (
        SELECT fresh.credential_id, fresh.data_type, fresh.is_final AND NOT kept.is_final AS ends
        FROM pg_temp.fresh_quality AS fresh JOIN monitoring.quality_daily AS kept ON {_SAME_KEY} AND NOT {_ACCEPTED}
    ), ended AS (
        UPDATE monitoring.quality_daily AS kept SET is_final = true FROM fewer AS fresh WHERE {_SAME_KEY} AND fresh.ends
    ), changed AS (
        UPDATE monitoring.quality_daily AS kept
        SET ({_list(_VALUES)}) = ROW({_NEW_VALUES}),
            is_final = kept.is_final OR fresh.is_final, is_vanished = false, computed_at = fresh.computed_at
        FROM pg_temp.fresh_quality AS fresh
        WHERE {_SAME_KEY} AND {_ACCEPTED}
          AND (kept.is_vanished OR fresh.is_final AND NOT kept.is_final
               OR ({_list(_VALUES, "kept")}) IS DISTINCT FROM ({_NEW_VALUES}))
        RETURNING 1
    ), added AS (
        INSERT INTO monitoring.quality_daily ({_list(DAILY_TYPES)})
        SELECT {_list(DAILY_TYPES)} FROM pg_temp.fresh_quality AS fresh
        WHERE NOT EXISTS (SELECT FROM monitoring.quality_daily AS kept WHERE {_SAME_KEY})
        RETURNING 1
    )
    SELECT (SELECT count(*) FROM changed) + (SELECT count(*) FROM added), (SELECT count(*) FROM fewer),
           (SELECT count(*) FROM gone), (SELECT count(*) FROM moved)
"""  # noqa: S608 -- only constants of this module

# Before the rows themselves: what was there of them decides.
_MERGE_FIELDS = f"""
    WITH parent AS (
        SELECT fresh.credential_id, fresh.data_type
        FROM pg_temp.fresh_quality AS fresh LEFT JOIN monitoring.quality_daily AS kept ON {_SAME_KEY}
        WHERE kept.day IS NULL OR {_ACCEPTED} AND NOT {_KEEPS_DETAIL}
    ), given AS (
        SELECT fresh.* FROM pg_temp.fresh_fields AS fresh JOIN parent USING (credential_id, data_type)
    ), gone AS (
        DELETE FROM monitoring.field_quality_daily AS kept USING parent
        WHERE kept.day = %(day)s
          AND kept.credential_id = parent.credential_id AND kept.data_type = parent.data_type
          AND NOT EXISTS (SELECT FROM given AS fresh WHERE {_SAME_KEY} AND kept.field = fresh.field)
    ), changed AS (
        UPDATE monitoring.field_quality_daily AS kept
        SET ({_list(_FIELD_VALUES)}) = ROW({_list(_FIELD_VALUES, "fresh")})
        FROM given AS fresh
        WHERE {_SAME_KEY} AND kept.field = fresh.field
          AND ({_list(_FIELD_VALUES, "kept")}) IS DISTINCT FROM ({_list(_FIELD_VALUES, "fresh")})
    )
    INSERT INTO monitoring.field_quality_daily ({_list(FIELD_COLUMNS)})
    SELECT {_list(FIELD_COLUMNS)} FROM given AS fresh
    WHERE NOT EXISTS (SELECT FROM monitoring.field_quality_daily AS kept WHERE {_SAME_KEY} AND kept.field = fresh.field)
"""  # noqa: S608 -- only constants of this module

_REVISE = f"""
    INSERT INTO monitoring.quality_revision ({_list(REVISION_COLUMNS)}, revised_at)
    SELECT {_list(REVISION_COLUMNS)}, %(read_at)s
    FROM jsonb_populate_recordset(NULL::monitoring.quality_revision, %(rows)s)
    ON CONFLICT (day, credential_id, data_type, revised_at) DO NOTHING
"""  # noqa: S608 -- only constants of this module

_LEDGER = """
    INSERT INTO monitoring.quality_day AS ledger (day, read_at, rows, is_final, timezone, calc_version, tells_outcomes)
    VALUES (%(day)s, %(read_at)s, %(rows)s, %(is_final)s, %(timezone)s, %(calc_version)s, %(tells_outcomes)s)
    ON CONFLICT (day) DO UPDATE SET
        read_at = excluded.read_at, rows = excluded.rows, is_final = ledger.is_final OR excluded.is_final,
        timezone = excluded.timezone, calc_version = excluded.calc_version, tells_outcomes = excluded.tells_outcomes
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class DayOutcome:
    """
    What became of a day's rows.

    Args:
        rows: written, new ones and those that changed.
        kept: fresh rows of fewer finished syncs than are stored, of a day that may only grow.
        vanished: rows that were marked (or became final since), whose syncs are gone from the source.
        removed: rows that were deleted, whose syncs are now of another key or day.
        revised: keys of a final day whose verdict changed.
    """

    rows: int
    kept: int = 0
    vanished: int = 0
    removed: int = 0
    revised: int = 0


class DayWriter:
    """Replaces days one by one, all of one reading of the source."""

    def __init__(
        self,
        conn: psycopg.Connection[Any],
        *,
        read_at: datetime,
        timezone: str,
        quality: DataQualityPolicy,
        credential_ids: Collection[str] | None,
        has_details: bool,
        tells_outcomes: bool | None,
    ) -> None:
        """Take a session that is not in a transaction, and what all days have in common; ``read_at`` is aware."""
        self._conn = conn
        self._read_at = read_at
        self._timezone = timezone
        self._quality = quality
        self._credential_ids = None if credential_ids is None else frozenset(credential_ids)
        self._has_details = has_details
        self._tells_outcomes = tells_outcomes
        self._daily = BinaryRows(DAILY_TYPES)
        self._fields = BinaryRows(FIELD_TYPES)

    def replace(
        self, day: date, daily: pd.DataFrame, fields: pd.DataFrame, *, is_over: bool, only_growing: bool
    ) -> DayOutcome | None:
        """
        Replace a day and commit it; None where a later reading has replaced it already.

        Args:
            day: the day.
            daily: `DAILY_COLUMNS`: all of its rows.
            fields: `FIELD_COLUMNS`: all of its fields.
            is_over: what is gone from the source becomes final too.
            only_growing: a row is replaced only by one of at least as many finished syncs; no matter where the day was
                computed in another zone.

        Raises:
            RequestError: a field of a key that has no row.
            StorageError: a value cannot be stored, or the role may not make temporary tables.
            psycopg.Error: see `storage_errors`.
        """
        _refuse_orphans(daily, fields)
        # Before the lock: others wait for it.
        fresh = self._daily.encode(daily.assign(computed_at=pd.Timestamp(self._read_at)))
        fresh_fields = self._fields.encode(fields)
        values = {
            "read_at": self._read_at,
            "timezone": self._timezone,
            "day": day,
            "rows": len(daily),
            "is_final": bool(daily["is_final"].all()) if len(daily) else is_over,
            "calc_version": int(daily["calc_version"].min()) if len(daily) else CALC_VERSION,
            "is_over": is_over,
            "has_details": self._has_details,
            "tells_outcomes": self._tells_outcomes,
        }
        with self._conn.transaction():
            self._conn.execute("SELECT pg_advisory_xact_lock(%s, %s)", (QUALITY_LOCK, day.toordinal()))
            state = self._conn.execute(_STATE, values).fetchone()
            last_read, zone, was_final, has_rows, has_fields = state or (None, None, False, False, False)
            if last_read is not None and last_read > self._read_at:
                return None
            # Other midnights: syncs that the day has lost are on the days beside it.
            values["only_growing"] = only_growing and not other_ends({day: zone}, timezone=self._timezone)
            if has_rows or (was_final and len(daily)):
                outcome = self._merge(
                    values, fresh, fresh_fields if has_fields or len(fields) else None, was_final=was_final
                )
            else:
                self._copy("monitoring.quality_daily", self._daily, fresh, count=len(daily))
                self._copy("monitoring.field_quality_daily", self._fields, fresh_fields, count=len(fields))
                outcome = DayOutcome(rows=len(daily))
            self._conn.execute(_LEDGER, values)
        return outcome

    def _merge(self, values: dict[str, Any], fresh: bytes, fields: bytes | None, *, was_final: bool) -> DayOutcome:
        """Write what differs from the rows that are there; ``fields`` is None where there are none and were none."""
        try:
            self._conn.execute(_MAKE_FRESH)
        except pg_errors.InsufficientPrivilege as error:
            info = self._conn.info
            raise StorageError(
                f"the monitoring database's role may not make temporary tables; as the database's owner run: "
                f'GRANT TEMPORARY ON DATABASE "{info.dbname}" TO "{info.user}"'
            ) from error
        self._conn.execute(_PLAN)
        self._copy("pg_temp.fresh_quality", self._daily, fresh, count=values["rows"])
        values = {**values, "movable": self._still_there(values)}
        revised = self._revise(values) if was_final else 0
        if fields is not None:
            self._copy("pg_temp.fresh_fields", self._fields, fields)
            with storage_errors(table="field_quality_daily"):
                self._conn.execute(_MERGE_FIELDS, values)
        with storage_errors(table="quality_daily"):
            row = self._conn.execute(_MERGE, values).fetchone()
        written, kept, vanished, removed = row or (0, 0, 0, 0)
        return DayOutcome(rows=written, kept=kept, vanished=vanished, removed=removed, revised=revised)

    def _still_there(self, values: dict[str, Any]) -> list[str]:
        """Return the credentials with keys that are gone from the day, and that the source still has."""
        if self._credential_ids is None:
            return []
        # Few: all that the source has would be sent with every statement of every day.
        gone = self._conn.execute(_GONE_CREDENTIALS, values).fetchall()
        return [credential for (credential,) in gone if credential in self._credential_ids]

    def _copy(self, table: str, rows: BinaryRows, encoded: bytes, *, count: int | None = None) -> None:
        if count == 0:
            return
        statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(
            sql.Identifier(*table.split(".")), sql.SQL(", ").join(map(sql.Identifier, rows.columns))
        )
        with self._conn.cursor() as cursor, cursor.copy(statement) as copy:
            copy.write(encoded)

    def _revise(self, values: dict[str, Any]) -> int:
        """Write down the keys whose verdict will change; return how many."""
        rows = self._conn.execute(_REVISED, values).fetchall()
        if not rows:
            return 0
        names = ("credential_id", "data_type", "is_new")
        found = pd.DataFrame(
            rows, columns=[*names, *(f"before {each}" for each in JUDGED_NUMBERS), *JUDGED_NUMBERS], dtype=object
        ).assign(day=values["day"])
        after = found[[*REVISION_KEY, *JUDGED_NUMBERS]]
        old = found[~found["is_new"].astype(bool)]
        before = old[[*REVISION_KEY, *(f"before {each}" for each in JUDGED_NUMBERS)]]
        changed = revisions(
            before.rename(columns=lambda name: name.removeprefix("before ")), after, policy=self._quality
        )
        given = changed.astype(object).where(changed.notna(), None).assign(day=values["day"].isoformat())
        return self._conn.execute(_REVISE, {**values, "rows": storable_json(given.to_dict("records"))}).rowcount


def _refuse_orphans(daily: pd.DataFrame, fields: pd.DataFrame) -> None:
    if fields.empty:
        return
    known = set(zip(daily["credential_id"], daily["data_type"], strict=True))
    for key in zip(fields["credential_id"], fields["data_type"], strict=True):
        if key not in known:
            raise RequestError(f"fields: {key[0]}, {key[1]} has fields but no row of its day")

"""
Rows of the simulated source: inserts, updates and deletes in the upstream's own form, whatever the shape.

Callers give every column any shape could have; those that the present one lacks are left out.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
from psycopg import sql

from include.simulation.source_shapes import CREDENTIALS, SourceShape

RowId = int | str
"""An id of the source: int, or a UUID as text."""


class SourceRows:
    """
    Writes rows of one shape over one connection; every call commits, unless `transaction` holds several together.

    Args:
        dsn: the source's database.
        shape: its shape.
        zone: PHP's zone, for naive columns.
        make_uuid: gives the ids where keys are UUIDs.
    """

    def __init__(self, dsn: str, *, shape: SourceShape, zone: ZoneInfo, make_uuid: Callable[[], uuid.UUID]) -> None:
        self._shape, self._zone, self._make_uuid = shape, zone, make_uuid
        self._conn = psycopg.connect(dsn, autocommit=True)

    def close(self) -> None:
        """Close the connection."""
        self._conn.close()

    def insert(self, table: str, values: Mapping[str, Any]) -> RowId:
        """Insert one row and return its id."""
        written = self._with_id(self._written(table, values))
        statement = sql.SQL("INSERT INTO {} ({}) VALUES ({}) RETURNING id").format(
            sql.Identifier(table),
            sql.SQL(", ").join(map(sql.Identifier, written)),
            sql.SQL(", ").join(sql.Placeholder() * len(written)),
        )
        return _row_id(self._one(statement, list(written.values()))[0])

    def copy(self, table: str, rows: Iterable[Mapping[str, Any]]) -> int:
        """Insert many rows fast, ids in their order, and return how many."""
        columns = (*(("id",) if self._shape.has_uuid_keys else ()), *self._shape.columns_of(table))
        statement = sql.SQL("COPY {} ({}) FROM STDIN").format(
            sql.Identifier(table), sql.SQL(", ").join(map(sql.Identifier, columns))
        )
        count = 0
        with self._conn.cursor() as cursor, cursor.copy(statement) as copy:
            for row in rows:
                written = self._with_id(self._written(table, row))
                copy.write_row([written[column] for column in columns])
                count += 1
        return count

    def copy_as(self, table: str, rows: Iterable[tuple[RowId, Mapping[str, Any]]]) -> int:
        """Insert many rows fast, each under the id given with it, columns not given NULL, and return how many."""
        columns = self._shape.columns_of(table)
        statement = sql.SQL("COPY {} (id, {}) FROM STDIN").format(
            sql.Identifier(table), sql.SQL(", ").join(map(sql.Identifier, columns))
        )
        count = 0
        with self._conn.cursor() as cursor, cursor.copy(statement) as copy:
            for row_id, row in rows:
                written = self._written(table, row)
                copy.write_row([row_id, *map(written.get, columns)])
                count += 1
        return count

    def follow_ids(self, table: str) -> None:
        """Let the table's sequence go on after its largest id; with UUIDs as keys there is nothing to do."""
        if self._shape.has_uuid_keys:
            return
        statement = sql.SQL("SELECT setval(pg_get_serial_sequence({}, 'id'), max(id)) FROM {} HAVING max(id) > 0")
        self._conn.execute(statement.format(sql.Literal(table), sql.Identifier(table)))

    def note(self, text: str) -> None:
        """Leave a note at the log table: its comment, which no reader of the source sees."""
        statement = sql.SQL("COMMENT ON TABLE {} IS {}")
        self._conn.execute(statement.format(sql.Identifier(self._shape.log_table), sql.Literal(text)))

    def noted(self) -> str | None:
        """Return the note left at the log table, if any."""
        noted: str | None = self._one(
            sql.SQL("SELECT obj_description({}::regclass, 'pg_class')").format(sql.Literal(self._shape.log_table)), []
        )[0]
        return noted

    def transaction(self) -> AbstractContextManager[Any]:
        """Return a context within which the calls commit together, or not at all."""
        return self._conn.transaction()

    def update(self, table: str, row_id: RowId, values: Mapping[str, Any]) -> None:
        """Update one row; LookupError where there is none of that id."""
        written = self._written(table, values)
        assignments = [sql.SQL("{} = %s").format(sql.Identifier(column)) for column in written]
        statement = sql.SQL("UPDATE {} SET {} WHERE id = %s").format(
            sql.Identifier(table), sql.SQL(", ").join(assignments)
        )
        self._demand_one(table, row_id, self._conn.execute(statement, [*written.values(), row_id]).rowcount)

    def delete(self, table: str, row_id: RowId) -> None:
        """Delete one row; LookupError where there is none of that id."""
        statement = sql.SQL("DELETE FROM {} WHERE id = %s").format(sql.Identifier(table))
        self._demand_one(table, row_id, self._conn.execute(statement, [row_id]).rowcount)

    def delete_runs_before(self, cutoff: datetime) -> int:
        """Delete the runs started before ``cutoff`` and return how many."""
        table = self._shape.log_table
        written = self._written(table, {"started_at": cutoff})
        statement = sql.SQL("DELETE FROM {} WHERE started_at < %s").format(sql.Identifier(table))
        return self._conn.execute(statement, [written["started_at"]]).rowcount

    def runs_in(self, status: str, *, credential: RowId) -> list[RowId]:
        """Return the ids of a credential's runs in that status, oldest first."""
        statement = sql.SQL("SELECT id FROM {} WHERE {} = %s AND status = %s ORDER BY started_at, id").format(
            sql.Identifier(self._shape.log_table), sql.Identifier(self._shape.credential_key)
        )
        return [_row_id(row[0]) for row in self._conn.execute(statement, [credential, status])]

    def open_runs(self) -> list[tuple[RowId, datetime]]:
        """Return ``(id, started_at)`` of every running run, the oldest first; the times are aware."""
        statement = sql.SQL("SELECT id, started_at FROM {} WHERE status = 'running' ORDER BY started_at, id").format(
            sql.Identifier(self._shape.log_table)
        )
        return [
            (_row_id(row_id), started_at if started_at.tzinfo else started_at.replace(tzinfo=self._zone))
            for row_id, started_at in self._conn.execute(statement)
        ]

    def credentials(self) -> list[tuple[RowId, str, str]]:
        """Return ``(id, company name, environment)`` of every credential, by id."""
        statement = sql.SQL(
            "SELECT credential.id, company.{}, credential.environment FROM {} AS credential"
            " JOIN {} AS company ON company.id = credential.company_id ORDER BY credential.id"
        ).format(
            sql.Identifier(self._shape.company_name),
            sql.Identifier(CREDENTIALS),
            sql.Identifier(self._shape.company_table),
        )
        return [(_row_id(row_id), name, environment) for row_id, name, environment in self._conn.execute(statement)]

    def measure(self) -> tuple[int, ...]:
        """Return a number per table that grows with its rows; cheap where ids are integers."""
        measure = sql.SQL("count(*)" if self._shape.has_uuid_keys else "coalesce(max(id), 0)")
        tables = (self._shape.company_table, CREDENTIALS, self._shape.log_table)
        counts = [sql.SQL("(SELECT {} FROM {})").format(measure, sql.Identifier(table)) for table in tables]
        return self._one(sql.SQL("SELECT {}").format(sql.SQL(", ").join(counts)), [])

    def _written(self, table: str, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values of the columns that exist in this shape, times as upstream writes them."""
        columns = self._shape.columns_of(table)
        return {
            column: self._shape.written_time(value, table=table, column=column, zone=self._zone)
            if isinstance(value, datetime)
            else value
            for column, value in values.items()
            if column in columns
        }

    def _with_id(self, written: dict[str, Any]) -> dict[str, Any]:
        return {"id": self._make_uuid(), **written} if self._shape.has_uuid_keys else written

    def _one(self, statement: sql.Composed, values: list[Any]) -> tuple[Any, ...]:
        row = self._conn.execute(statement, values).fetchone()
        if row is None:
            raise LookupError("the statement returned no row")
        return tuple(row)

    @staticmethod
    def _demand_one(table: str, row_id: RowId, rowcount: int) -> None:
        if rowcount != 1:
            raise LookupError(f"{table} has no row {row_id}")


def _row_id(value: Any) -> RowId:
    return value if isinstance(value, int) else str(value)

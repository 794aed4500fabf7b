"""What the roles of our two connections may do, and what time their servers think it is; for `doctor`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import psycopg

WRITES = ("INSERT", "UPDATE", "DELETE", "TRUNCATE")
NEEDED_IN_STORAGE = ("SELECT", "INSERT", "UPDATE", "DELETE")

_PRIVILEGES = """
SELECT c.relname::text, p.privilege
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN unnest(%(privileges)s::text[]) AS p (privilege)
WHERE n.nspname = %(schema)s
  AND c.relkind IN ('r', 'p')
  AND (%(tables)s::text[] IS NULL OR c.relname = ANY (%(tables)s::text[]))
  AND has_table_privilege(c.oid, p.privilege) = %(held)s
ORDER BY c.relname, p.privilege
"""


def writable_tables(conn: psycopg.Connection[Any], *, schema: str, tables: Sequence[str]) -> tuple[str, ...]:
    """
    Return those of the tables in which this role could change something; sorted, empty when none.

    Raises:
        psycopg.Error: the session is broken.
    """
    rights = _rights(conn, schema=schema, tables=list(tables), privileges=WRITES, held=True)
    return tuple(dict.fromkeys(table for table, _ in rights))


def rights_missing(conn: psycopg.Connection[Any], *, schema: str) -> tuple[str, ...]:
    """
    Return what this role lacks in the tables of our schema, such as ``"INSERT on alert"``; sorted, empty when nothing.

    Raises:
        psycopg.Error: the session is broken.
    """
    rights = _rights(conn, schema=schema, tables=None, privileges=NEEDED_IN_STORAGE, held=False)
    return tuple(f"{privilege} on {table}" for table, privilege in rights)


def server_time(conn: psycopg.Connection[Any]) -> datetime:
    """
    Return the server's wall clock, aware.

    Raises:
        psycopg.Error: the session is broken.
    """
    row = conn.execute("SELECT clock_timestamp()").fetchone()
    if row is None or not isinstance(row[0], datetime):
        raise psycopg.DataError("clock_timestamp() returned nothing")
    return row[0]


def _rights(
    conn: psycopg.Connection[Any], *, schema: str, tables: list[str] | None, privileges: tuple[str, ...], held: bool
) -> list[tuple[str, str]]:
    return conn.execute(
        _PRIVILEGES, {"schema": schema, "tables": tables, "privileges": list(privileges), "held": held}
    ).fetchall()

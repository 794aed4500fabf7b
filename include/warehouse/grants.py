"""What the roles of our two connections may do, and what time their servers think it is; for `doctor`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import psycopg

WRITES = ("INSERT", "UPDATE", "DELETE", "TRUNCATE")
NEEDED_IN_STORAGE = ("SELECT", "INSERT", "UPDATE", "DELETE")

_WRITABLE = """
SELECT DISTINCT c.relname::text
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN unnest(%(privileges)s::text[]) AS p (privilege)
WHERE n.nspname = %(schema)s
  AND c.relkind IN ('r', 'p')
  AND c.relname = ANY (%(tables)s::text[])
  AND CASE
        -- Also true where the right is on the whole table; the other rights exist for whole tables only.
        WHEN p.privilege IN ('INSERT', 'UPDATE') THEN has_any_column_privilege(c.oid, p.privilege)
        ELSE has_table_privilege(c.oid, p.privilege)
      END
ORDER BY 1
"""

_MISSING = """
SELECT c.relname::text, p.privilege
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN unnest(%(privileges)s::text[]) AS p (privilege)
WHERE n.nspname = %(schema)s
  AND c.relkind IN ('r', 'p')
  AND NOT has_table_privilege(c.oid, p.privilege)
ORDER BY c.relname, p.privilege
"""


def writable_tables(conn: psycopg.Connection[Any], *, schema: str, tables: Sequence[str]) -> tuple[str, ...]:
    """
    Return those of the tables in which this role could change something, be it one column; sorted, empty when none.

    Raises:
        psycopg.Error: the session is broken.
    """
    found = conn.execute(_WRITABLE, {"schema": schema, "tables": list(tables), "privileges": list(WRITES)})
    return tuple(table for (table,) in found)


def rights_missing(conn: psycopg.Connection[Any], *, schema: str) -> tuple[str, ...]:
    """
    Return what this role lacks in the tables of our schema, such as ``"INSERT on alert"``; sorted, empty when nothing.

    Raises:
        psycopg.Error: the session is broken.
    """
    found = conn.execute(_MISSING, {"schema": schema, "privileges": list(NEEDED_IN_STORAGE)})
    return tuple(f"{privilege} on {table}" for table, privilege in found)


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

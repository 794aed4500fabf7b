"""What the roles of our two connections may do, and what time their servers think it is; for `doctor`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg

from include.warehouse.monitoring_session import SCHEMA, working_rights

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

_DATABASE = """
SELECT quote_ident(current_user), quote_ident(current_database()),
       has_database_privilege(current_database(), 'TEMPORARY')
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Lacking:
    """
    What a role lacks to work with our schema; both are empty when it is nothing.

    Args:
        rights: such as ``INSERT on alert``; sorted by table, the database's last.
        grants: the SQL that gives them, for the owner of the schema, or of the database, to run.
    """

    rights: tuple[str, ...]
    grants: tuple[str, ...]


def lacking_in_storage(conn: psycopg.Connection[Any]) -> Lacking:
    """
    Return what this role lacks in our schema and its database.

    Days that are stored already are compared in temporary tables (`quality_merge`): everybody may make them, unless
    that was revoked.

    Raises:
        psycopg.Error: the session is broken.
    """
    rights = list(rights_missing(conn, schema=SCHEMA))
    role, database, may_make_temporary = conn.execute(_DATABASE).fetchone() or ("the role", "the database", True)
    grants = [working_rights(role)] if rights else []
    if not may_make_temporary:
        rights.append(f"TEMPORARY on database {database}")
        grants.append(f"GRANT TEMPORARY ON DATABASE {database} TO {role}")
    return Lacking(rights=tuple(rights), grants=tuple(grants))


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

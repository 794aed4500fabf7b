"""
The monitoring schema's version: raising it, and refusing to work with another one.

Migrating is an explicit command (``python -m include.cli migrate``), never a side effect. Alembic is imported only
there: `require_current` runs in every task and costs one query.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import errors as pg_errors

from include.sync_health.errors import StorageError
from include.warehouse.monitoring_session import (
    MIGRATE,
    MIGRATION_LOCK,
    SCHEMA,
    connect,
    one_line,
    storage_errors,
    working_rights,
)

if TYPE_CHECKING:
    from sqlalchemy import Connection as AlchemyConnection

VERSION_TABLE = "schema_version"

REVISIONS = ("0001", "0002", "0003", "0004", "0005", "0006", "0007", "0008")
"""Every revision in order; a test keeps it equal to the scripts, so that no task has to read them."""

HEAD_REVISION = REVISIONS[-1]

LOCK_WAIT = "60s"
"""How long a migration waits for another one, or for a running evaluation; as PostgreSQL writes it."""

_READ_REVISION = f"SELECT max(version_num) FROM {SCHEMA}.{VERSION_TABLE}"  # noqa: S608 -- only constants of our own

_SCRIPTS = Path(__file__).parent / "migrations"


def upgrade(conninfo: str) -> tuple[str | None, str]:
    """
    Bring the monitoring schema to `HEAD_REVISION`; return the revision it had (None: none) and the one it has.

    All of it happens in one transaction under an advisory lock: a failure changes nothing, and of two that run at
    once the second waits and then finds nothing to do. The schema is created when it is missing; one that a DBA
    created beforehand is used as it is, and then the role needs no right on the database. A role that only works
    with another's tables finds nothing to do while they are current; raising them takes their owner.

    Raises:
        StorageError: the database is unreachable, is not UTF-8, holds a newer schema, or the role lacks a right
            (the line names the SQL that an owner must run, or the owner to connect as).
    """
    from sqlalchemy import create_engine
    from sqlalchemy.pool import NullPool

    # A creator instead of a URL: the connection string needs no translation, and no quoting of its password.
    engine = create_engine("postgresql+psycopg://", creator=lambda: connect(conninfo), poolclass=NullPool)
    with _driver_errors(), engine.connect() as connection, connection.begin():
        driver = _driver_connection(connection)
        driver.execute("SELECT set_config('lock_timeout', %s, true)", (LOCK_WAIT,))
        driver.execute("SELECT set_config('statement_timeout', '0', true)")  # a migration takes what it takes
        driver.execute("SELECT pg_advisory_xact_lock(%s)", (MIGRATION_LOCK,))
        _require_utf8(driver)
        owner = _foreign_owner(driver)
        if owner is None:
            _require_schema(driver)
        else:
            _require_readable(driver, owner=owner)
        found = _stored_revision(driver)
        if found is not None and found not in REVISIONS:
            raise _newer(found)
        if found != HEAD_REVISION:
            if owner is not None:
                raise StorageError(
                    f"the tables of schema {SCHEMA} are at revision {found} and belong to role {owner}; "
                    f"migrate with a connection as {owner}"
                )
            _run_scripts(connection)
    return found, HEAD_REVISION


def require_current(conn: psycopg.Connection[Any]) -> None:
    """
    Return when the monitoring schema is exactly what this code expects.

    One query where it is; the transaction that ``conn`` may be in stays usable.

    Raises:
        StorageError: the schema is missing (or cannot be, where the database is not UTF-8), older, newer, not readable
            by this role (the line names the SQL to run), or the database unreachable.
    """
    with storage_errors():
        try:
            # A savepoint, because a missing table would spoil the caller's transaction.
            with conn.transaction():
                row = conn.execute(_READ_REVISION).fetchone()
        except (pg_errors.UndefinedTable, pg_errors.InvalidSchemaName):
            row = None
        except pg_errors.InsufficientPrivilege as error:
            raise _not_readable(conn, found=one_line(error)) from error
        found = row[0] if row else None
        if found is None:
            _require_utf8(conn)  # first, because migrate would only say so
    if found is None:
        raise StorageError(f"the monitoring schema is missing; {MIGRATE}")
    if found == HEAD_REVISION:
        return
    if found in REVISIONS:
        raise StorageError(
            f"the monitoring schema is at revision {found}, older than this code's {HEAD_REVISION}; {MIGRATE}"
        )
    raise _newer(found)


def _newer(found: str) -> StorageError:
    return StorageError(
        f"the monitoring schema is at revision {found}, newer than this code's {HEAD_REVISION}; "
        "update the project; do not downgrade"
    )


def _stored_revision(driver: psycopg.Connection[Any]) -> str | None:
    row = driver.execute("SELECT to_regclass(%s) IS NOT NULL", (f"{SCHEMA}.{VERSION_TABLE}",)).fetchone()
    if not row or not row[0]:
        return None
    stored = driver.execute(_READ_REVISION).fetchone()
    revision: str | None = stored[0] if stored else None
    return revision


def _require_utf8(driver: psycopg.Connection[Any]) -> None:
    # By name: with SQL_ASCII psycopg returns texts as bytes.
    row = driver.execute("SELECT current_setting('server_encoding') = 'UTF8'").fetchone()
    if row and not row[0]:
        encoding = driver.info.parameter_status("server_encoding")
        raise StorageError(
            f"the monitoring database is encoded in {encoding}, and messages need UTF8; "
            "create one with CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0"
        )


def _require_schema(driver: psycopg.Connection[Any]) -> None:
    """Create the schema unless it is there; CREATE SCHEMA IF NOT EXISTS would ask for a right on the database."""
    row = driver.execute(
        "SELECT to_regnamespace(%(schema)s) IS NOT NULL,"
        " has_database_privilege(current_database(), 'CREATE'),"
        " quote_ident(current_user), quote_ident(current_database())",
        {"schema": SCHEMA},
    ).fetchone()
    exists, may_create, role, database = row or (False, False, "", "")
    if not exists:
        if not may_create:
            raise StorageError(
                f"role {role} may not create the schema in database {database}; "
                f"have its owner run: CREATE SCHEMA {SCHEMA} AUTHORIZATION {role}"
            )
        driver.execute(f"CREATE SCHEMA {SCHEMA}")
        return
    rights = driver.execute(
        "SELECT has_schema_privilege(%(schema)s, 'USAGE') AND has_schema_privilege(%(schema)s, 'CREATE')",
        {"schema": SCHEMA},
    ).fetchone()
    if not rights or not rights[0]:
        raise StorageError(
            f"role {role} may not create tables in schema {SCHEMA}; "
            f"have its owner run: GRANT USAGE, CREATE ON SCHEMA {SCHEMA} TO {role}"
        )


def _foreign_owner(driver: psycopg.Connection[Any]) -> str | None:
    """Return the owner of our tables, as SQL writes it, when this role may not act as it; None also without tables."""
    # From the catalog, which needs no right in the schema.
    row = driver.execute(
        "SELECT quote_ident(pg_get_userbyid(c.relowner))"
        " FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname = %(schema)s AND c.relname = %(table)s AND NOT pg_has_role(c.relowner, 'USAGE')",
        {"schema": SCHEMA, "table": VERSION_TABLE},
    ).fetchone()
    owner: str | None = row[0] if row else None
    return owner


def _require_readable(driver: psycopg.Connection[Any], *, owner: str) -> None:
    row = driver.execute(
        "SELECT has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT'),"
        " quote_ident(current_user)"
        " FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname = %(schema)s AND c.relname = %(table)s",
        {"schema": SCHEMA, "table": VERSION_TABLE},
    ).fetchone()
    may_read, role = row or (False, "the role")
    if not may_read:
        raise StorageError(
            f"the tables of schema {SCHEMA} belong to role {owner}, and role {role} may not read them; "
            f"migrate with a connection as {owner}; for {role} only to work with them, "
            f"have {owner} or a superuser run: {working_rights(role)}"
        )


def _not_readable(conn: psycopg.Connection[Any], *, found: str) -> StorageError:
    row = conn.execute("SELECT quote_ident(current_user)").fetchone()
    role = row[0] if row else "the role"
    return StorageError(
        f"the monitoring database's role lacks a right: {found}; connect as the owner of schema {SCHEMA}, "
        f"or have it run: {working_rights(role)}"
    )


def _run_scripts(connection: AlchemyConnection) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _driver_connection(connection: AlchemyConnection) -> psycopg.Connection[Any]:
    driver = connection.connection.driver_connection
    if not isinstance(driver, psycopg.Connection):
        raise TypeError(f"SQLAlchemy connected through {type(driver)!r}, not through psycopg 3")
    return driver


@contextmanager
def _driver_errors() -> Iterator[None]:
    """Unwrap what SQLAlchemy wraps, so that `storage_errors` sees psycopg's error."""
    from sqlalchemy.exc import DBAPIError

    with storage_errors():
        try:
            yield
        except DBAPIError as error:
            if isinstance(error.orig, psycopg.Error):
                raise error.orig from error
            raise

"""
A session with the monitoring database: how it is opened, and what its errors mean to a person.

The schema's name and the keys of its advisory locks stand here, because every store needs them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

import psycopg
from psycopg import errors as pg_errors
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from include.sync_health.errors import StorageError

SCHEMA = "monitoring"

MIGRATE = "run python -m include.cli migrate"
"""The fix that every "missing" and "older" error names."""

CONNECT_TIMEOUT_SECONDS = 10  # unless the connection says another: libpq itself would wait for minutes
APPLICATION_NAME = "servicetitan-monitor"

SESSION_SETTINGS = {
    "lock_timeout": "60s",
    "statement_timeout": "120s",
    # A frozen worker must not keep the alerts locked: the server ends its transaction, and the next tick goes on.
    "idle_in_transaction_session_timeout": "300s",
}
"""Limits of one session, as PostgreSQL writes them. A wait for the alerts' lock counts towards the first two."""

ALERTS_LOCK = 7_305_551_002_119_001
MIGRATION_LOCK = 7_305_551_002_119_002
"""Keys of the advisory locks; arbitrary, but the same in every version of this code."""

_DETAIL_LIMIT = 300

_UNSTORABLE: Mapping[type[psycopg.Error], str] = MappingProxyType(
    {
        pg_errors.NumericValueOutOfRange: "a number is out of range",
        pg_errors.DatetimeFieldOverflow: "a date or time is out of range",
        pg_errors.StringDataRightTruncation: "a text is too long",
        pg_errors.CharacterNotInRepertoire: "a text has a character that the database cannot hold",
        pg_errors.UntranslatableCharacter: "a text has a character that the database cannot hold",
    }
)
"""Values that no column of their type can hold. Others of their class are mistakes of a statement."""

_REFUSALS: tuple[type[psycopg.Error], ...] = (psycopg.IntegrityError, *_UNSTORABLE)

_COPIED = re.compile(r"COPY (\w+), line \d+(?:, column (\w+))?")
"""What the server says of where a COPY failed, without the value."""


def connect(conninfo: str) -> psycopg.Connection[tuple[Any, ...]]:
    """
    Return a new connection to the monitoring database; close it, or use it as a context manager.

    It is not in autocommit: leaving ``with connect(...)`` commits, an exception rolls back. Nothing is prepared
    on the server, so a pooler in transaction mode may stand between.

    Raises:
        StorageError: the database cannot be reached, or ``conninfo`` cannot be read (it is never shown: it holds
            a password).
    """
    try:
        # What the connection says of these wins.
        values: dict[str, Any] = {
            "connect_timeout": CONNECT_TIMEOUT_SECONDS,
            "fallback_application_name": APPLICATION_NAME,
        }
        values |= conninfo_to_dict(conninfo)
        with storage_errors():
            conn = psycopg.connect(make_conninfo(**values), prepare_threshold=None)
    except psycopg.ProgrammingError:
        # libpq quotes the piece that it could not parse, and that may be the password.
        raise StorageError(
            "the monitoring database's connection string cannot be parsed; "
            "write it as postgresql://user:password@host:5432/database"
        ) from None
    try:
        with storage_errors():
            # set_config and not the `options` parameter, which poolers refuse.
            for name, value in SESSION_SETTINGS.items():
                conn.execute("SELECT set_config(%s, %s, false)", (name, value))
            conn.commit()
    except BaseException:
        conn.close()
        raise
    return conn


@contextmanager
def storage_errors(*, table: str | None = None) -> Iterator[None]:
    """
    Turn what a person can act on into one line; let every other error pass.

    Also usable as a decorator. Turned are: the server unreachable, gone, read-only or out of space; a lock or a
    statement that took too long; a missing table or schema; a missing right; a value that a constraint refuses, or that
    no column of its type can hold.

    Args:
        table: which one is written, for the errors that do not say it.

    Raises:
        StorageError: in place of the psycopg error, which stays its cause, unless it quotes a row's values.
    """
    try:
        yield
    except (pg_errors.UndefinedTable, pg_errors.InvalidSchemaName, pg_errors.UndefinedColumn) as error:
        raise StorageError(f"the monitoring schema is missing or older than this code; {MIGRATE}") from error
    except pg_errors.InsufficientPrivilege as error:
        raise StorageError(
            f"the monitoring database's role lacks a right: {one_line(error)}; "
            f"connect as the owner of schema {SCHEMA}, or have it run: {working_rights('the role')}"
        ) from error
    except pg_errors.LockNotAvailable as error:
        raise StorageError(
            "another transaction held a lock of the monitoring schema for too long; it is safe to try again"
        ) from error
    except (pg_errors.DeadlockDetected, pg_errors.SerializationFailure) as error:
        raise StorageError(f"another transaction got in the way; it is safe to try again: {one_line(error)}") from error
    except pg_errors.QueryCanceled as error:
        raise StorageError(f"a statement of the monitoring schema was cancelled: {one_line(error)}") from error
    except pg_errors.ReadOnlySqlTransaction as error:
        raise StorageError(
            f"the monitoring database is read-only; connect to the primary, not to a standby: {one_line(error)}"
        ) from error
    except (pg_errors.DiskFull, pg_errors.OutOfMemory) as error:
        raise StorageError(f"the monitoring database's server has run out of space: {one_line(error)}") from error
    except _REFUSALS as error:
        if isinstance(error, psycopg.IntegrityError) and error.diag.table_name is None:
            raise  # of no constraint
        # Not as its cause: the server quotes the row.
        raise StorageError(_refusal(error, table=table)) from None
    except (psycopg.OperationalError, psycopg.InterfaceError, pg_errors.IdleInTransactionSessionTimeout) as error:
        raise StorageError(
            f"the monitoring database cannot be reached or went away: {one_line(error)}; "
            "check that it runs, and host, port, database, login and password of its connection"
        ) from error


def _refusal(error: psycopg.Error, *, table: str | None) -> str:
    """Return what was refused where, without any value."""
    diag = error.diag
    copied = _COPIED.match(diag.context or "")
    name = diag.table_name or table or (copied and copied[1])
    column = diag.column_name or (copied and copied[2])
    where = f"{SCHEMA}.{name}" if name else f"a table of schema {SCHEMA}"
    if diag.constraint_name:
        why = f"constraint {diag.constraint_name} refuses it"
    elif isinstance(error, pg_errors.NotNullViolation):
        why = f"column {column} must not be NULL"
    else:
        why = _UNSTORABLE.get(type(error), "it is refused") + (f", in column {column}" if column else "")
    return f"a value cannot be stored in {where}: {why}"


def working_rights(role: str) -> str:
    """Return the SQL that lets a role (as SQL writes it) work with the schema, but not migrate it; on one line."""
    return (
        f"GRANT USAGE ON SCHEMA {SCHEMA} TO {role}; "
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {SCHEMA} TO {role}"
    )


def one_line(error: psycopg.Error) -> str:
    """Return the error's text on one line, cut to a readable length; libpq puts no password into it."""
    text = " ".join(str(error).split())
    return text if len(text) <= _DETAIL_LIMIT else text[: _DETAIL_LIMIT - 1] + "…"

"""
A session on the Hub Plus database: read only, bounded in time, and with errors that a person can act on.

`open_session` connects; `source_errors` turns what psycopg raises into one-line `SourceError`s. No text of
either holds a password.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields
from datetime import timedelta
from typing import Any, Self

import psycopg
from psycopg import errors
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import TupleRow

from include.sync_health.errors import SourceError
from include.sync_health.policy import SourcePolicy

APPLICATION_NAME = "servicetitan_monitor"
"""What the database's administrators see in ``pg_stat_activity``."""

CONNECT_TIMEOUT_SECONDS = 10
"""Used where the connection sets none: libpq's own default waits for ever."""

CANCEL_SECONDS = 5.0
"""How long a source may take to be told that a statement is not wanted any more."""

KEEPALIVES = {"keepalives": 1, "keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3}
"""A host that vanishes is noticed within a minute; ``statement_timeout`` runs on the server and cannot see that."""

LOCK_SHARE = 2
"""A lock is waited for at most this fraction of ``statement_timeout``, so that the error can say it was a lock."""

REFUSED_LOGINS = ("password authentication failed", "no pg_hba.conf entry", "no password supplied", "permission denied")
"""How libpq words a refused login; a failed connection attempt carries no SQLSTATE (psycopg 3)."""

UNKNOWN_NAMES = ("does not exist", "is not permitted to log in")

Session = psycopg.Connection[TupleRow]


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceInForce(SourcePolicy):
    """
    `source` with values from elsewhere, as a backfill has them: errors name the keys that they come from.

    Args:
        connection_key: the policy's key that names the connection.
        timeout_key: the policy's key of the statement time-out; None where no key of the policy raises it.
    """

    connection_key: str = "source.connection"
    timeout_key: str | None = "source.statement_timeout"

    @classmethod
    def of(cls, policy: SourcePolicy, **changes: Any) -> Self:
        """Return a policy with some values, and the keys that they come from, in place of its own."""
        return cls(**({each.name: getattr(policy, each.name) for each in fields(policy)} | changes))

    @property
    def named_connection(self) -> str:
        """The connection and its key, as errors tell them."""
        return f"connection {self.connection!r} ({self.connection_key})"


def open_session(conninfo: str, policy: SourcePolicy) -> Session:
    """
    Connect to the source and return an autocommit session: every statement is its own short transaction.

    The session is read only, in UTC, with the policy's ``statement_timeout`` and half of it as ``lock_timeout``;
    JIT and parallel workers are off: they cost the application's database more than our small reads gain.
    It needs a direct connection or a session pool, since it sets session parameters.

    Raises:
        SourceError: ``unreachable`` or ``permission``.
    """
    try:
        given = conninfo_to_dict(conninfo)
    except psycopg.ProgrammingError:
        # The parser's own text quotes the string, password and all.
        raise SourceError(
            f"{SourceInForce.of(policy).named_connection} is no valid PostgreSQL connection string; "
            "use postgresql://user:password@host:5432/database",
            cause="unreachable",
        ) from None
    defaults: dict[str, str | int] = {
        "application_name": APPLICATION_NAME,
        "connect_timeout": CONNECT_TIMEOUT_SECONDS,
        **KEEPALIVES,
    }
    missing = {key: value for key, value in defaults.items() if key not in given}
    try:
        session = psycopg.connect(make_conninfo(conninfo, **missing), autocommit=True)
    except psycopg.Error as error:
        raise _connect_error(error, given, SourceInForce.of(policy)) from None
    settings = _session_settings(policy)
    try:
        with source_errors("preparing the session", policy):
            session.execute(
                "SELECT set_config(name, value, false) FROM unnest(%s::text[], %s::text[]) AS setting (name, value)",
                [list(settings), list(settings.values())],
            )
    except SourceError:
        session.close()
        raise
    return session


def _session_settings(policy: SourcePolicy) -> dict[str, str]:
    return {
        "default_transaction_read_only": "on",
        "statement_timeout": _milliseconds(policy.statement_timeout),
        "lock_timeout": _milliseconds(policy.statement_timeout / LOCK_SHARE),
        "TimeZone": "UTC",
        "client_encoding": "UTF8",
        "jit": "off",
        "max_parallel_workers_per_gather": "0",
    }


def _milliseconds(duration: timedelta) -> str:
    return str(max(1, round(duration / timedelta(milliseconds=1))))


def cancel_statement(session: Session) -> None:
    """
    End the statement that another thread waits for, if there is one. Never raises.

    A source that cannot even be told so ends it by its own time-outs; what is told is why nobody wants its rows.
    """
    with suppress(psycopg.Error):
        session.cancel_safe(timeout=CANCEL_SECONDS)


@contextmanager
def source_errors(doing: str, policy: SourcePolicy) -> Iterator[None]:
    """
    Turn psycopg's errors into `SourceError`.

    Args:
        doing: what was being done, such as ``"reading runs"``; it opens the text.
        policy: names the connection and the time limits; a `SourceInForce` also where they are set.
    """
    try:
        yield
    except psycopg.Error as error:
        raise _statement_error(error, doing, SourceInForce.of(policy)) from None


def _connect_error(error: psycopg.Error, given: Mapping[str, object], policy: SourceInForce) -> SourceError:
    where = f"{given.get('host', 'localhost')}:{given.get('port', 5432)}/{given.get('dbname', '')}"
    said = _one_line(error)
    if password := given.get("password"):
        said = said.replace(str(password), "***")
    lowered = said.lower()
    if any(phrase in lowered for phrase in REFUSED_LOGINS):
        return SourceError(
            f"the source {where} refused the login of {given.get('user', 'the default user')!r} ({said}); "
            f"check user and password of {policy.named_connection}",
            cause="permission",
        )
    is_unknown = any(phrase in lowered for phrase in UNKNOWN_NAMES)
    return SourceError(
        f"the source {where} cannot be reached ({said}); "
        + ("check " if is_unknown else "check that it runs and that we may reach it, and ")
        + policy.named_connection,
        cause="unreachable",
        transient=not is_unknown,
    )


def _statement_error(error: psycopg.Error, doing: str, policy: SourceInForce) -> SourceError:
    said = _one_line(error)
    seconds = policy.statement_timeout.total_seconds()
    match error:
        case errors.LockNotAvailable():
            return SourceError(
                f"{doing}: a table was locked for more than {seconds / LOCK_SHARE:g} s ({said}); "
                "look for a migration or a long ALTER TABLE on the source",
                cause="timeout",
                transient=True,
            )
        case errors.QueryCanceled():
            raising = f", or raise {policy.timeout_key}" if policy.timeout_key else ""
            return SourceError(
                f"{doing}: no answer within {seconds:g} s ({said}); "
                f"look at the load of the source, {policy.named_connection}{raising}",
                cause="timeout",
                transient=True,
            )
        case errors.InsufficientPrivilege():
            return SourceError(f"{doing}: {said}; grant what docs/deployment.md lists to our role", cause="permission")
        case errors.UndefinedTable():
            return SourceError(
                f"{doing}: {said}; the source's schema has changed", cause="missing_table", transient=True
            )
        case errors.UndefinedColumn():
            return SourceError(
                f"{doing}: {said}; the source's schema has changed", cause="missing_column", transient=True
            )
        case (
            errors.SerializationFailure() | errors.AdminShutdown() | errors.CrashShutdown() | errors.CannotConnectNow()
        ):
            return _interrupted(doing, said)
        case psycopg.OperationalError() if error.sqlstate is None or error.sqlstate.startswith("08"):
            return _interrupted(doing, said)
        case _:
            return SourceError(f"{doing}: {said}", cause="invalid")


def _interrupted(doing: str, said: str) -> SourceError:
    return SourceError(
        f"{doing}: the source ended the session ({said}); it restarts or fails over, try again",
        cause="interrupted",
        transient=True,
    )


def _one_line(error: psycopg.Error) -> str:
    """Return the first line of an error: the later ones repeat our statement."""
    message = error.diag.message_primary or str(error)
    return message.strip().splitlines()[0].strip() if message.strip() else type(error).__name__

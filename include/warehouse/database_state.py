"""What a PostgreSQL database says of itself: whether it can be reached, how large it is, and how far a standby lags."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

import psycopg

from include.sync_health.health_resources import DatabaseState
from include.sync_health.policy import SourcePolicy
from include.sync_health.redaction import clean
from include.warehouse.source_session import open_session

STATEMENT_TIMEOUT = "5s"
"""Of each question: a database so large or so busy that it takes longer is told as not known."""

TEXT_CHARS = 300
"""Of an error's text."""

# A standby that has replayed all it received lags by nothing, however long ago the primary wrote something last; but only
# while it still receives. `pg_stat_wal_receiver` shows its row to everybody, and the details to few.
_STANDBY = """
    SELECT pg_is_in_recovery(),
           CASE WHEN NOT pg_is_in_recovery() THEN NULL
                WHEN pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn()
                     AND EXISTS (SELECT FROM pg_stat_wal_receiver) THEN interval '0'
                ELSE greatest(clock_timestamp() - pg_last_xact_replay_timestamp(), interval '0')
           END
"""

_SIZE = "SELECT pg_database_size(current_database())"

Answer = TypeVar("Answer")


def read_source_state(conninfo: str, policy: SourcePolicy) -> DatabaseState:
    """
    Return the state of the Hub Plus database.

    Args:
        conninfo: libpq conninfo.
        policy: how it is read; names the connection in an error.

    Raises:
        SourceError: it cannot be reached; `unreachable` makes a state of it.
    """
    with open_session(conninfo, policy) as session:
        return database_state(session)


def database_state(conn: psycopg.Connection[Any]) -> DatabaseState:
    """
    Return what a session's database says of itself; nothing is written.

    What our role may not ask, or what takes longer than `STATEMENT_TIMEOUT`, is None, and ``untold`` says so.
    """
    untold: list[str] = []

    def asked(what: str, ask: Callable[[], Answer]) -> Answer | None:
        try:
            with conn.transaction():
                conn.execute("SELECT set_config('statement_timeout', %s, true)", (STATEMENT_TIMEOUT,))
                return ask()
        except psycopg.Error as error:
            if conn.broken:
                raise
            untold.append(f"{what} is not known: {_why(error)}")
            return None

    try:
        standby = asked("whether it is a standby, and its lag,", lambda: conn.execute(_STANDBY).fetchone())
        size = asked("its size", lambda: conn.execute(_SIZE).fetchone())
    except psycopg.Error as error:
        return DatabaseState(error=f"it ended the session: {_why(error)}")
    is_standby: bool | None = None
    lag: timedelta | None = None
    if standby is not None:
        is_standby, lag = standby
        if is_standby and lag is None:
            untold.append("its lag is not known: it is a standby that has replayed nothing yet")
    return DatabaseState(
        size_bytes=None if size is None else size[0], is_standby=is_standby, lag=lag, untold=tuple(untold)
    )


def unreachable(error: Exception) -> DatabaseState:
    """Return the state of a database that cannot be reached, in the error's words, redacted and cut."""
    return DatabaseState(error=clean(str(error), limit=TEXT_CHARS))


def _why(error: psycopg.Error) -> str:
    if isinstance(error, psycopg.errors.InsufficientPrivilege):
        return "our role may not ask"
    if isinstance(error, psycopg.errors.QueryCanceled):
        return f"no answer within {STATEMENT_TIMEOUT}"
    lines = str(error.diag.message_primary or error).splitlines()
    return clean(lines[0] if lines else type(error).__name__, limit=TEXT_CHARS)

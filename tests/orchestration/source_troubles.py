"""Troubles with the source, each of which lasts as long as its context, and what must be told of it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from typing import Self

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from include.sync_health.checks import CREDENTIAL_HEALTH, DATA_QUALITY, SYNC_FAILURES, Check
from include.warehouse.source_session import APPLICATION_NAME
from tests.orchestration.monitored_world import OVERLAY, MonitoredWorld, connection_of

READER = "blindness_reader"
LOGS, CREDENTIALS = "servicetitan_sync_logs", "servicetitan_credentials"


@contextmanager
def changed(world: MonitoredWorld, there: str, back: str) -> Iterator[None]:
    """Change the source as its owner, and back."""
    with psycopg.connect(world.source_dsn, autocommit=True) as conn:
        conn.execute(there.encode())
        yield
        conn.execute(back.encode())


def zone(name: str) -> Callable[[MonitoredWorld], AbstractContextManager[None]]:
    """Somebody sets ``source.timezone`` to another zone than that of PHP, which is UTC."""

    @contextmanager
    def wrong(world: MonitoredWorld) -> Iterator[None]:
        world.overlay.write_text(f"source: {{timezone: {name}}}\n" + OVERLAY)
        yield
        world.overlay.write_text(OVERLAY)

    return wrong


def emptied(table: str) -> Callable[[MonitoredWorld], AbstractContextManager[None]]:
    """A table loses its rows, whatever the foreign keys say."""
    unhindered = "SET session_replication_role = replica"
    return lambda world: changed(
        world,
        f"{unhindered}; CREATE TABLE kept AS TABLE {table}; DELETE FROM {table}",
        f"INSERT INTO {table} SELECT * FROM kept; DROP TABLE kept",
    )


def dropped(table: str, column: str) -> Callable[[MonitoredWorld], AbstractContextManager[None]]:
    """A column is no longer there by its name."""
    return lambda world: changed(
        world,
        f"ALTER TABLE {table} RENAME COLUMN {column} TO other",
        f"ALTER TABLE {table} RENAME COLUMN other TO {column}",
    )


def revoked(revoke: str, grant: str) -> Callable[[MonitoredWorld], AbstractContextManager[None]]:
    """A grant of our own role is taken away."""

    @contextmanager
    def without(world: MonitoredWorld) -> Iterator[None]:
        with psycopg.connect(world.source_dsn, autocommit=True) as conn:
            conn.execute(f"CREATE ROLE {READER} LOGIN PASSWORD 'reader'".encode())
            try:
                conn.execute(f"GRANT SELECT ON {LOGS}, {CREDENTIALS}, company TO {READER}".encode())
                conn.execute(revoke.encode())
                world.as_role(READER, "reader")
                yield
                conn.execute(grant.encode())
                world.environment.setenv("AIRFLOW_CONN_HUB_PLUS_DB", connection_of(world.source_dsn))
            finally:
                conn.execute(f"DROP OWNED BY {READER}; DROP ROLE {READER}".encode())

    return without


@contextmanager
def locked(world: MonitoredWorld) -> Iterator[None]:
    """Another session holds the sync log for longer than our statements may take."""
    world.overlay.write_text("source: {statement_timeout: 2s}\n" + OVERLAY)
    with psycopg.connect(world.source_dsn) as conn:
        conn.execute(f"LOCK TABLE {LOGS} IN ACCESS EXCLUSIVE MODE".encode())
        yield
        conn.rollback()


@contextmanager
def terminated(world: MonitoredWorld) -> Iterator[None]:
    """An administrator ends each session of ours while its read waits."""
    done = threading.Event()
    waiting = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
        "AND application_name = %s AND wait_event_type = 'Lock'"
    )

    def end_those_that_wait() -> None:
        with psycopg.connect(world.source_dsn, autocommit=True) as admin:
            while not done.wait(0.01):
                admin.execute(waiting, [APPLICATION_NAME])

    thread = threading.Thread(target=end_those_that_wait)
    with psycopg.connect(world.source_dsn) as conn:
        conn.execute(f"LOCK TABLE {LOGS} IN ACCESS EXCLUSIVE MODE".encode())
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
        conn.rollback()


class CuttingProxy:
    """A way to the source that breaks in its answers, on every connection: right behind the first ``mark`` in them."""

    def __init__(self, dsn: str, *, mark: bytes) -> None:
        self._to = conninfo_to_dict(dsn)
        self._mark = mark
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._accepting = threading.Thread(target=self._accept, daemon=True)

    @property
    def dsn(self) -> str:
        """The source by this way."""
        return make_conninfo(**{**self._to, "port": self._listener.getsockname()[1]})

    def __enter__(self) -> Self:
        self._accepting.start()
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._accepting.join()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client = self._listener.accept()[0]
                server = socket.create_connection((str(self._to["host"]), int(str(self._to["port"]))))
                for source, target, mark in ((client, server, None), (server, client, self._mark)):
                    threading.Thread(target=self._forward, args=(source, target, mark), daemon=True).start()

    @staticmethod
    def _forward(source: socket.socket, target: socket.socket, mark: bytes | None) -> None:
        before = b""
        with suppress(OSError):
            while chunk := source.recv(4096):
                found = -1 if mark is None else (before + chunk).find(mark)
                if mark is not None and found >= 0:
                    target.sendall(chunk[: found + len(mark) - len(before)])
                    break
                target.sendall(chunk)
                before = (before + chunk)[1 - len(mark or b"?") :]
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


def cut(mark: bytes) -> Callable[[MonitoredWorld], AbstractContextManager[None]]:
    """The connection breaks in mid-answer."""

    @contextmanager
    def broken(world: MonitoredWorld) -> Iterator[None]:
        with CuttingProxy(world.source_dsn, mark=mark) as proxy:
            world.environment.setenv("AIRFLOW_CONN_HUB_PLUS_DB", connection_of(proxy.dsn))
            yield
            world.environment.setenv("AIRFLOW_CONN_HUB_PLUS_DB", connection_of(world.source_dsn))

    return broken


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """
    A trouble with the source.

    Args:
        begins: lasts as long as its context.
        cause: of the one alert.
        words: that it must hold: what was found, and the fix.
        rows_come: whether rows can still be read, and must be doubted.
        told_by: the check that finds it; None: whichever comes first.
        blind: the checks that cannot see.
    """

    begins: Callable[[MonitoredWorld], AbstractContextManager[None]]
    cause: str
    words: Sequence[str]
    rows_come: bool = False
    told_by: Check | None = None
    blind: Sequence[Check] = (SYNC_FAILURES, CREDENTIAL_HEALTH, DATA_QUALITY)


LEAD = Trouble(
    begins=zone("America/New_York"),
    cause="wrong_time_zone",
    words=("3 hours", "in the future", "source.timezone is America/New_York", "set it to PHP's date.timezone"),
    rows_come=True,
)
LAG = Trouble(
    begins=zone("Asia/Tokyo"),
    cause="wrong_time_zone",
    words=("9 hours 3 minutes ago", "source.timezone is Asia/Tokyo", "PHP's date.timezone"),
    rows_come=True,
    told_by=SYNC_FAILURES,
)
TROUBLES = {
    "stamps lead by hours": LEAD,
    "stamps lag by hours": LAG,
    "an empty sync log": Trouble(
        begins=emptied(LOGS), cause="no_rows", words=("sync log table has no rows", "hub_plus_db", "right database")
    ),
    "an empty credentials table": Trouble(
        begins=emptied(CREDENTIALS),
        cause="no_rows",
        words=("credentials table has no rows", "hub_plus_db", "right database"),
        rows_come=True,
    ),
    "a column of the sync log dropped": Trouble(
        begins=dropped(LOGS, "error_message"),
        cause="missing_column",
        words=(f"{LOGS} has no column error_message", "schema has changed"),
    ),
    "a column of the credentials dropped": Trouble(
        begins=dropped(CREDENTIALS, "token_expires_at"),
        cause="missing_column",
        words=(f"{CREDENTIALS} has no column token_expires_at", "schema has changed"),
    ),
    "a grant revoked": Trouble(
        begins=revoked(
            f"REVOKE SELECT ON {CREDENTIALS} FROM {READER}",
            f"GRANT SELECT ON {CREDENTIALS} TO {READER}",
        ),
        cause="permission",
        words=("may not read id", f"public.{CREDENTIALS}", "GRANT SELECT (id", "hub_plus_db"),
    ),
    "a lock held for longer than a statement may take": Trouble(
        begins=locked,
        cause="timeout",
        words=(f"searching {LOGS}", "locked for more than 1 s", "look for a migration or a long ALTER TABLE"),
    ),
    "a session ended while it waits": Trouble(
        begins=terminated,
        cause="interrupted",
        words=(f"searching {LOGS}", "the source ended the session", "terminating connection", "try again"),
    ),
    "a connection cut while the tables are looked up": Trouble(
        begins=cut(b"relname"), cause="interrupted", words=("looking up", "the source ended the session", "try again")
    ),
    "a connection cut while the rows come": Trouble(
        begins=cut(b"string_agg"),
        cause="interrupted",
        words=(f"reading {LOGS}", "the source ended the session", "try again"),
    ),
}
COUNTS_TROUBLES = {
    "a counts column dropped": Trouble(
        begins=dropped(LOGS, "records_processed"),
        cause="missing_column",
        words=(f"{LOGS} has no column records_processed",),
        blind=(DATA_QUALITY,),
    ),
    "a counts column not granted": Trouble(
        begins=revoked(
            f"REVOKE SELECT ON {LOGS} FROM {READER}; GRANT SELECT (id, service_titan_credential_id, data_type, status, "
            f"started_at, completed_at, updated_at, error_message, records_successful, records_failed) "
            f"ON {LOGS} TO {READER}",
            f"GRANT SELECT ON {LOGS} TO {READER}",
        ),
        cause="permission",
        words=("may not read records_processed", "GRANT SELECT (records_processed"),
        blind=(DATA_QUALITY,),
    ),
}

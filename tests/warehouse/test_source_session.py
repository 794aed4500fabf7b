"""What goes wrong between us and the source: each failure has its cause, one line, and no password."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from time import monotonic

import psycopg
import pytest

from include.simulation.postgres import EmbeddedPostgres
from include.sync_health.errors import SourceError
from include.sync_health.policy import SourcePolicy
from include.warehouse.source_reader import SourceReader
from include.warehouse.source_session import APPLICATION_NAME, SourceInForce, open_session, source_errors
from tests.warehouse.read_world import AS_OF, WINDOW_START, World, build_world

POLICY = SourcePolicy()
REPLICA = SourceInForce.of(POLICY, connection="hub_plus_replica", connection_key="backfill.connection")
NAMED = "connection 'hub_plus_replica' (backfill.connection)"


@contextmanager
def refused(cause: str, *words: str) -> Iterator[pytest.ExceptionInfo[SourceError]]:
    """Expect a `SourceError` of this cause, on one line, that holds all these words."""
    with pytest.raises(SourceError) as caught:
        yield caught
    assert caught.value.cause == cause
    assert "\n" not in str(caught.value)
    assert [word for word in words if word not in str(caught.value)] == []
    # Nor in what a log would print around it.
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


@contextmanager
def locked(dsn: str, table: str = "servicetitan_sync_logs") -> Iterator[psycopg.Connection]:
    """Hold the lock of an ALTER TABLE."""
    with psycopg.connect(dsn) as holder:
        holder.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE".encode())
        yield holder
        holder.rollback()


def read(reader: SourceReader) -> None:
    """Read the last hour."""
    reader.read_runs(finished_from=WINDOW_START, as_of=AS_OF, remembered_open=[])


def await_waiting_session(dsn: str) -> int:
    """Return the process id of our session once it waits for a lock."""
    with psycopg.connect(dsn, autocommit=True) as watcher:
        deadline = monotonic() + 30
        while monotonic() < deadline:
            row = watcher.execute(
                "SELECT pid FROM pg_stat_activity WHERE application_name = %s AND wait_event_type = 'Lock'"
                " AND datname = current_database()",
                [APPLICATION_NAME],
            ).fetchone()
            if row:
                return int(row[0])
    raise AssertionError("our session never came to wait for the lock")


def test_a_session_is_read_only_bounded_and_in_utc(world: World) -> None:
    """What the session promises, asked of the server."""
    with open_session(world.hub.dsn, replace(POLICY, statement_timeout=timedelta(seconds=7))) as session:
        row = session.execute(
            "SELECT current_setting('statement_timeout'), current_setting('lock_timeout'),"
            " current_setting('TimeZone'), current_setting('application_name')"
        ).fetchone()
        assert row == ("7s", "3500ms", "UTC", APPLICATION_NAME)
        with refused("invalid", "writing", "read-only"), source_errors("writing", POLICY):
            session.execute("DELETE FROM servicetitan_sync_logs")


def test_a_held_lock_is_a_timeout_that_names_the_lock(world: World) -> None:
    """An ALTER TABLE on the source must not hang the check, nor look like load."""
    policy = replace(POLICY, statement_timeout=timedelta(milliseconds=400))
    with SourceReader.connect(world.hub.dsn, policy) as reader:
        with locked(world.hub.dsn), refused("timeout", "locked for more than 0.2 s", "ALTER TABLE") as caught:
            read(reader)
        assert caught.value.transient
        read(reader)  # the session has survived it


@pytest.mark.parametrize(
    ("policy", "ending"),
    [
        pytest.param(
            POLICY,
            "connection 'hub_plus_db' (source.connection), or raise source.statement_timeout",
            id="of the source itself",
        ),
        pytest.param(
            SourceInForce.of(POLICY, timeout_key="backfill.statement_timeout"),
            "connection 'hub_plus_db' (source.connection), or raise backfill.statement_timeout",
            id="of a backfill",
        ),
        pytest.param(
            SourceInForce.of(
                POLICY,
                connection="hub_plus_replica",
                connection_key="backfill.connection",
                timeout_key="backfill.statement_timeout",
            ),
            "connection 'hub_plus_replica' (backfill.connection), or raise backfill.statement_timeout",
            id="of a backfill that reads a replica",
        ),
        pytest.param(
            SourceInForce.of(POLICY, timeout_key=None),
            "connection 'hub_plus_db' (source.connection)",
            id="which no key of the policy raises",
        ),
    ],
)
def test_a_slow_statement_is_a_timeout(world: World, policy: SourcePolicy, ending: str) -> None:
    """The server cancels it; the text names the limit and the keys in force."""
    policy = replace(policy, statement_timeout=timedelta(milliseconds=50))
    with (
        open_session(world.hub.dsn, policy) as session,
        refused("timeout", "no answer within 0.05 s") as caught,
        source_errors("sleeping", policy),
    ):
        session.execute("SELECT pg_sleep(5)")
    assert str(caught.value).endswith(f"look at the load of the source, {ending}")


def test_a_terminated_session_was_interrupted(world: World) -> None:
    """A failover or an administrator ends the session while it reads."""
    with SourceReader.connect(world.hub.dsn, POLICY) as reader, locked(world.hub.dsn) as holder:

        def terminate() -> None:
            pid = await_waiting_session(world.hub.dsn)
            with psycopg.connect(world.hub.dsn, autocommit=True) as administrator:
                administrator.execute("SELECT pg_terminate_backend(%s)", [pid])

        thread = threading.Thread(target=terminate)
        thread.start()
        with refused("interrupted", "terminating connection") as caught:
            read(reader)
        thread.join()
        assert caught.value.transient
        assert not holder.closed


def test_a_server_killed_in_mid_read_was_interrupted(server_home: Path) -> None:
    """kill -9 of every process of the server: no goodbye arrives, only the end of the connection."""
    with EmbeddedPostgres(server_home / "killed") as server:
        world = build_world(server.create_database("killed"))
        with SourceReader.connect(world.hub.dsn, POLICY) as reader, psycopg.connect(world.hub.dsn) as holder:
            holder.execute("LOCK TABLE servicetitan_sync_logs IN ACCESS EXCLUSIVE MODE")

            def kill() -> None:
                backend = await_waiting_session(world.hub.dsn)
                assert server.pid is not None
                os.kill(server.pid, signal.SIGKILL)
                os.kill(backend, signal.SIGKILL)

            thread = threading.Thread(target=kill)
            thread.start()
            with refused("interrupted", "try again"):
                read(reader)
            thread.join()
            with refused("interrupted"):
                read(reader)
            holder.close()


def test_a_table_that_vanishes_after_the_look_up_is_missing(world: World) -> None:
    """A migration between introspection and read."""
    with SourceReader.connect(world.hub.dsn, POLICY) as reader:
        world.sql("ALTER TABLE servicetitan_sync_logs RENAME TO servicetitan_sync_log")
        with refused("missing_table", "servicetitan_sync_logs", "schema has changed"):
            read(reader)


def test_a_column_that_vanishes_after_the_look_up_is_missing(world: World) -> None:
    """As above."""
    with SourceReader.connect(world.hub.dsn, POLICY) as reader:
        world.sql("ALTER TABLE servicetitan_sync_logs RENAME COLUMN error_message TO message")
        with refused("missing_column", "error_message", "schema has changed"):
            read(reader)


@pytest.mark.parametrize(
    ("change", "cause", "words", "is_transient"),
    [
        pytest.param(
            {"port": "1"}, "unreachable", ("127.0.0.1:1", "check that it runs", NAMED), True, id="nobody listens"
        ),
        pytest.param({"dbname": "absent"}, "unreachable", ("absent", f"check {NAMED}"), False, id="no database"),
        pytest.param(
            {"password": "sesame-open"}, "permission", ("refused the login of 'postgres'", NAMED), False, id="password"
        ),
        pytest.param({"user": "nobody_here"}, "permission", ("'nobody_here'",), False, id="unknown user"),
    ],
)
def test_a_failed_connection_says_where_and_why(
    world: World, change: dict[str, str], cause: str, words: tuple[str, ...], is_transient: bool
) -> None:
    """Host, port and database, the connection and the key that names it, never the password."""
    conninfo = psycopg.conninfo.make_conninfo(world.hub.dsn, **change)
    password = psycopg.conninfo.conninfo_to_dict(conninfo)["password"]
    with refused(cause, *words) as caught:
        SourceReader.connect(conninfo, REPLICA)
    assert caught.value.transient == is_transient
    assert str(password) not in str(caught.value)


@pytest.mark.parametrize(
    "conninfo",
    [
        pytest.param("postgresql://me:s3cret pass@host:port/db", id="an unreadable URI"),
        pytest.param("host=localhost password='s3cret", id="an unfinished quote"),
        pytest.param("s3cret", id="no connection string at all"),
    ],
)
def test_an_unreadable_connection_string_is_not_quoted(conninfo: str) -> None:
    """libpq's own text would repeat it, password and all."""
    with refused("unreachable", NAMED, "postgresql://user:password@host") as caught:
        open_session(conninfo, REPLICA)
    assert "s3cret" not in str(caught.value)

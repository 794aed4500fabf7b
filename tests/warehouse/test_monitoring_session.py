"""What goes wrong with our database is said in one line, and never with its password."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from include.sync_health.errors import StorageError
from include.warehouse.monitoring_session import connect, storage_errors


@pytest.fixture
def dsn(make_database: Callable[..., str]) -> str:
    """An empty database."""
    return make_database("session")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        pytest.param("42P01", "missing or older .* run python -m include.cli migrate", id="a missing table"),
        pytest.param("42703", "missing or older .* run python -m include.cli migrate", id="a missing column"),
        pytest.param("42501", "lacks a right", id="a missing right"),
        pytest.param("55P03", "held a lock .* safe to try again", id="a lock not given"),
        pytest.param("40P01", "got in the way; it is safe to try again", id="a deadlock"),
        pytest.param("57014", "was cancelled", id="a statement that took too long"),
        pytest.param("25006", "connect to the primary", id="a standby"),
        pytest.param("53100", "run out of space", id="a full disk"),
        pytest.param("25P03", "cannot be reached or went away", id="idle in a transaction for too long"),
        pytest.param("57P01", "cannot be reached or went away", id="a shutdown"),
    ],
)
def test_what_a_person_can_act_on_is_one_line(dsn: str, code: str, message: str) -> None:
    with connect(dsn) as conn:
        with pytest.raises(StorageError, match=message) as caught, storage_errors():
            raise_in_server(conn, code)
        conn.rollback()
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value.__cause__, psycopg.Error)
    assert caught.value.__cause__.sqlstate == code


@pytest.mark.parametrize(
    ("code", "error"), [("22012", psycopg.errors.DivisionByZero), ("23514", psycopg.IntegrityError)]
)
def test_a_mistake_of_ours_stays_what_it_is(dsn: str, code: str, error: type[psycopg.Error]) -> None:
    with connect(dsn) as conn:
        with pytest.raises(error), storage_errors():
            raise_in_server(conn, code)
        conn.rollback()


def raise_in_server(conn: psycopg.Connection[tuple[object, ...]], code: str) -> None:
    """Let the server itself raise this SQLSTATE, with a text of several lines."""
    conn.execute(
        sql.SQL("DO $$ BEGIN RAISE EXCEPTION E'one\\n two' USING ERRCODE = {}; END $$").format(sql.Literal(code))
    )


@pytest.mark.parametrize(
    ("conninfo", "message"),
    [
        pytest.param("host=127.0.0.1 port=1 user=u password=s3cr3t dbname=d", "cannot be reached", id="nobody listens"),
        pytest.param("host=127.0.0.1 s3cr3t", "cannot be parsed", id="not a connection string"),
        pytest.param("postgresql://u:s3cr3t@[::1/d", "cannot be parsed", id="not a URI"),
    ],
)
def test_what_cannot_be_connected_to_is_one_line_without_the_password(conninfo: str, message: str) -> None:
    with pytest.raises(StorageError, match=message) as caught:
        connect(conninfo)
    assert "\n" not in str(caught.value)
    assert "s3cr3t" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_a_session_that_was_ended_is_one_line(dsn: str) -> None:
    with connect(dsn) as conn, psycopg.connect(dsn, autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s)", (conn.info.backend_pid,))
        for _ in range(2):  # the second time the driver itself knows that it is closed
            with pytest.raises(StorageError, match="cannot be reached or went away"), storage_errors():
                conn.execute("SELECT 1")


def test_a_session_says_whose_it_is_unless_the_connection_does(dsn: str) -> None:
    for conninfo, name in ((dsn, "servicetitan-monitor"), (make_conninfo(dsn, application_name="mine"), "mine")):
        with connect(conninfo) as conn:
            assert conn.execute("SELECT current_setting('application_name')").fetchone() == (name,)


def test_a_session_cannot_hold_the_alerts_for_ever(dsn: str) -> None:
    with connect(dsn) as conn:
        row = conn.execute(
            "SELECT current_setting('lock_timeout'), current_setting('idle_in_transaction_session_timeout')"
        ).fetchone()
    assert row == ("1min", "5min")

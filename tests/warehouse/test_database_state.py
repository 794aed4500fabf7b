"""What a database says of itself: as a primary, to a role that may ask little, as a standby, and when it is gone."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from shutil import copyfile
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from include.simulation.postgres import EmbeddedPostgres
from include.simulation.postgres_binaries import reachable_binaries
from include.simulation.server_account import ServerAccount
from include.sync_health.errors import SourceError, StorageError
from include.sync_health.policy import SourcePolicy
from include.warehouse.database_state import database_state, read_source_state, unreachable
from include.warehouse.monitoring_session import connect
from tests.conftest import FAST_SETTINGS

SOURCE = SourcePolicy()


def test_a_primary(make_database: Callable[..., str]) -> None:
    """Of either database, by the session that each is read with."""
    dsn = make_database("state")
    with connect(dsn) as conn:
        ours = database_state(conn)
    theirs = read_source_state(dsn, SOURCE)

    for found in (ours, theirs):
        assert (found.error, found.is_standby, found.lag, found.untold) == (None, False, None, ())
        assert found.size_bytes is not None
        assert found.size_bytes > 1_000_000


@pytest.fixture
def humble(make_database: Callable[..., str]) -> Iterator[str]:
    """A database whose size and place nobody but its owner may ask for, as a role that is not."""
    dsn = make_database("humble")
    functions = ("pg_database_size(oid)", "pg_database_size(name)", "pg_is_in_recovery()")
    with psycopg.connect(dsn, autocommit=True) as owner:
        owner.execute("CREATE ROLE humble LOGIN PASSWORD 'pw'")
        for function in functions:
            owner.execute(f"REVOKE EXECUTE ON FUNCTION {function} FROM PUBLIC".encode())
    yield make_conninfo(**{**conninfo_to_dict(dsn), "user": "humble", "password": "pw"})
    with psycopg.connect(dsn, autocommit=True) as owner:
        owner.execute("DROP ROLE humble")


@pytest.mark.parametrize("of", ["source", "monitoring"])
def test_a_role_that_may_not_ask(humble: str, of: str) -> None:
    """It can be reached; what nobody tells us is not known, and that is said."""
    if of == "source":
        found = read_source_state(humble, SOURCE)
    else:
        with connect(humble) as conn:
            found = database_state(conn)
            assert conn.execute("SELECT 1").fetchone() == (1,)  # what was refused has not spoilt the session

    assert (found.error, found.size_bytes, found.is_standby, found.lag) == (None, None, None, None)
    assert found.untold == (
        "whether it is a standby, and its lag, is not known: our role may not ask",
        "its size is not known: our role may not ask",
    )


def test_a_session_that_is_cut_is_a_database_that_cannot_be_reached(make_database: Callable[..., str]) -> None:
    """And no error of the health check."""
    dsn = make_database("cut")
    with connect(dsn) as conn:
        with psycopg.connect(dsn, autocommit=True) as other:
            other.execute("SELECT pg_terminate_backend(%s)", (conn.info.backend_pid,))
        found = database_state(conn)

    assert found.error is not None
    assert found.error.startswith("it ended the session")


def test_a_database_that_is_not_there(make_database: Callable[..., str]) -> None:
    """The error's own words, without the password, become its state."""
    dsn = make_conninfo(**{**conninfo_to_dict(make_database("there")), "dbname": "nowhere", "password": "pw-of-mine"})

    with pytest.raises(SourceError) as theirs:
        read_source_state(dsn, SOURCE)
    with pytest.raises(StorageError) as ours:
        connect(dsn)

    for error in (theirs.value, ours.value):
        state = unreachable(error)
        assert state.error
        assert "pw-of-mine" not in state.error
        assert (state.size_bytes, state.is_standby) == (None, None)


def test_an_error_is_redacted_and_cut() -> None:
    """It may quote a connection string."""
    state = unreachable(SourceError("refused: postgresql://app:hunter2hunter2@db/x " + "y" * 900, cause="unreachable"))

    assert state.error is not None
    assert "hunter2" not in state.error
    assert len(state.error) <= 300


@pytest.fixture(scope="module")
def primary(server_home: Path) -> Iterator[EmbeddedPostgres]:
    """A server of its own: it is stopped in a test."""
    with EmbeddedPostgres(server_home / "primary", settings=FAST_SETTINGS) as server:
        yield server


@pytest.fixture(scope="module")
def standby(primary: EmbeddedPostgres, server_home: Path) -> Iterator[EmbeddedPostgres]:
    """A server that follows it."""
    account, folder = ServerAccount.for_this_process(), server_home / "standby"
    folder.mkdir(mode=0o700)
    account.own(folder)
    subprocess.run(
        [
            reachable_binaries(account) / "pg_basebackup",
            *("--dbname", primary.dsn(), "--pgdata", folder, "--write-recovery-conf", "--checkpoint", "fast"),
        ],
        check=True,
        capture_output=True,
        timeout=60,
        **account.subprocess_identity(),
    )
    copyfile(primary._beside("password"), f"{folder}.password")
    with EmbeddedPostgres(folder, settings=FAST_SETTINGS) as server:
        yield server


def await_true(dsn: str, query: str) -> None:
    """Ask until it is so."""
    with psycopg.connect(dsn, autocommit=True) as conn:
        deadline = time.monotonic() + 60
        while conn.execute(query.encode()).fetchone() != (True,):
            assert time.monotonic() < deadline, query


def run(server: EmbeddedPostgres, statement: str) -> Any:
    """Run one statement and return what it answers, if anything."""
    with psycopg.connect(server.dsn(), autocommit=True) as conn:
        cursor = conn.execute(statement.encode())
        return cursor.fetchone() if cursor.description else None


REPLAYED_ALL = (
    "SELECT pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn() AND EXISTS (SELECT FROM pg_stat_wal_receiver)"
)
BEHIND = "SELECT pg_last_wal_receive_lsn() > pg_last_wal_replay_lsn()"


def test_a_standby(primary: EmbeddedPostgres, standby: EmbeddedPostgres) -> None:
    """In step it lags by nothing, however idle the primary; behind, or cut off, by the age of what it replayed last."""
    run(primary, "CREATE TABLE written (at timestamptz)")
    await_true(
        standby.dsn(), "SELECT pg_last_xact_replay_timestamp() IS NOT NULL AND to_regclass('written') IS NOT NULL"
    )
    await_true(standby.dsn(), REPLAYED_ALL)
    in_step = read_source_state(standby.dsn(), SOURCE)

    run(standby, "SELECT pg_wal_replay_pause()")
    await_true(standby.dsn(), "SELECT pg_get_wal_replay_pause_state() = 'paused'")
    run(primary, "INSERT INTO written VALUES (now())")
    await_true(standby.dsn(), BEHIND)
    behind = read_source_state(standby.dsn(), SOURCE)

    run(standby, "SELECT pg_wal_replay_resume()")
    await_true(standby.dsn(), REPLAYED_ALL)
    primary.stop()
    await_true(standby.dsn(), "SELECT NOT EXISTS (SELECT FROM pg_stat_wal_receiver)")
    cut_off = read_source_state(standby.dsn(), SOURCE)

    assert [found.is_standby for found in (in_step, behind, cut_off)] == [True, True, True]
    assert in_step.lag == timedelta(0)
    for found in (behind, cut_off):
        assert found.lag is not None
        assert timedelta(0) < found.lag < timedelta(hours=1)
        assert found.size_bytes

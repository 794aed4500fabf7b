"""The demo's own parts; that all of it runs together is the end-to-end tests' to show."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import LiteralString

import psycopg
import pytest

from include.simulation.airflow_settings import ConnectionSetting
from include.simulation.demo import main, postgres_connection, printable
from include.simulation.demo_state import OURS, forget
from include.simulation.postgres import EmbeddedPostgres
from include.simulation.running_world import RunningWorld
from include.sync_health.errors import MonitorError

SHIPPED = ConnectionSetting(
    conn_id="hub_plus_db",
    conn_type="postgres",
    host="host.docker.internal",
    schema="hub_plus",
    login="reader",
    port=5432,
    extra={"sslmode": "prefer"},
)


def test_a_source_given_replaces_where_to_connect_and_adds_its_options() -> None:
    connection = postgres_connection(
        SHIPPED, "postgresql://me:p%40ss@db.example.com:6432/hub?sslmode=require&application_name=look"
    )

    assert (connection.host, connection.port, connection.schema) == ("db.example.com", 6432, "hub")
    assert (connection.login, connection.password) == ("me", "p@ss")
    assert connection.extra == {"sslmode": "require", "application_name": "look"}
    assert "p@ss" not in repr(connection)


@pytest.fixture
def signals_as_before() -> Iterator[None]:
    """Put the handlers back that the demo replaces in its own process."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("signals_as_before")
def test_a_source_that_cannot_be_reached_is_one_line_and_exit_code_2(
    server_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(
        ["--once", "--state", str(server_home / "unreachable"), "--source", "postgresql://me:secret@127.0.0.1:1/hub"]
    )

    told = capsys.readouterr().err
    assert code == 2
    assert told.startswith("demo: the source given cannot be read: ")
    assert told.count("\n") == 1
    assert "secret" not in told


def test_names_that_steer_a_terminal_are_shown_harmless() -> None:
    assert printable("a\x1b[31mb\u202ec\n\x07é✅") == "a?[31mb?c??é✅"


def test_forgetting_removes_what_a_demo_left(tmp_path: Path) -> None:
    state = tmp_path / "live"
    state.mkdir()
    for name in OURS:
        (state / name).touch()

    forget(state)

    assert not state.exists()
    forget(state)  # nothing left to forget is no mistake


def test_forgetting_refuses_a_folder_that_is_somebody_elses(tmp_path: Path) -> None:
    (tmp_path / "world").touch()
    (tmp_path / "thesis.txt").touch()

    with pytest.raises(MonitorError, match=r"holds 'thesis\.txt', which no demo made"):
        forget(tmp_path)
    assert (tmp_path / "world").exists()


def test_the_world_is_made_once_and_goes_on_from_where_it_stopped(
    postgres_server: EmbeddedPostgres, tmp_path: Path
) -> None:
    reached = tmp_path / "world"
    world = RunningWorld(postgres_server, dbname="demo_world", reached_file=reached, tell=lambda _: None)
    try:
        world.prepare()
        # As if the demo had been stopped for three hours.
        reached.write_text((datetime.now(UTC) - timedelta(hours=3)).isoformat(), encoding="ascii")
        with psycopg.connect(postgres_server.dsn("demo_world"), autocommit=True) as connection:
            count = "SELECT count(*) FROM servicetitan_sync_logs"
            before = _number(connection, count)
            world.prepare()
            assert _number(connection, count) == before

            with world:
                world.require_alive()
            world.require_alive()

            assert _number(connection, count) > before
    finally:
        postgres_server.drop_database("demo_world")


def _number(connection: psycopg.Connection, query: LiteralString) -> int:
    row = connection.execute(query).fetchone()
    assert row is not None
    return int(row[0])

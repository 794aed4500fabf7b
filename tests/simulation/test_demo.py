"""The demo's own parts; that all of it runs together is the end-to-end tests' to show."""

from __future__ import annotations

import os
import signal
import stat
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import LiteralString

import psycopg
import pytest

from include.simulation.airflow_settings import ConnectionSetting
from include.simulation.demo import main
from include.simulation.demo_messages import printable
from include.simulation.demo_source import postgres_connection
from include.simulation.demo_state import LOCK, OURS, claim, forget
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


@pytest.mark.usefixtures("signals_as_before")
@pytest.mark.parametrize("way", ["--source", "DEMO_SOURCE"])
@pytest.mark.parametrize(
    "source",
    [
        pytest.param("mysql://u:sEcRet@h/db", id="another kind of database"),
        pytest.param("postgresql://u:sEcRet%zz@h/db", id="a percent sign that encodes nothing"),
        pytest.param("postgresql://u:sEc sEcRet@h/db", id="a space in the password"),
        pytest.param("postgresql://u:1@sEcRet@h/db", id="an at sign in the password"),
        pytest.param("postgresql://u:1/sEcRet@h/db", id="a slash in the password"),
        pytest.param("postgresql://u:sEcRet/1@h/db", id="a slash that makes a port of the password"),
        pytest.param("host=h password=a sEcRet", id="a password without quotes"),
        pytest.param("postgresql://u:sEcRet@h:70000/db", id="no such port"),
        pytest.param("postgresql://u:sEcRet\udcff@h/db", id="bytes that are no text"),
    ],
)
def test_a_malformed_source_is_refused_before_anything_starts_and_nothing_of_it_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, source: str, way: str
) -> None:
    state = tmp_path / "state"
    given = []
    if way == "--source":
        given = ["--source", source]
    else:
        monkeypatch.setenv("DEMO_SOURCE", source)

    code = main(["--once", "--state", str(state), *given])

    told = capsys.readouterr()
    assert code == 2
    assert told.out == ""
    assert told.err.startswith("demo: the source given is not of the form postgresql://")
    assert told.err.count("\n") == 1
    assert "sEcRet" not in told.err
    assert not state.exists()


@pytest.mark.usefixtures("signals_as_before")
@pytest.mark.parametrize("arguments", [["--once"], ["--fresh"], []], ids=["--once", "--fresh", "a plain start"])
def test_a_second_demo_leaves_a_running_one_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    state = tmp_path / "state"
    with claim(state, fresh=False):
        (state / "world").write_text("of the first", encoding="ascii")

        assert main(["--state", str(state), *arguments]) == 2

        assert (state / "world").read_text(encoding="ascii") == "of the first"
        assert capsys.readouterr().err == (
            f"demo: a demo is running here ({state}); stop it, or choose another folder with --state\n"
        )
    with claim(state, fresh=True):
        assert not (state / "world").exists()


@pytest.mark.usefixtures("signals_as_before")
@pytest.mark.parametrize("arguments", [["--once"], []], ids=["--once", "a plain start"])
def test_a_folder_that_cannot_be_used_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    (tmp_path / "file").touch()
    state = tmp_path / "file" / "state"

    assert main(["--state", str(state), *arguments]) == 2

    assert capsys.readouterr().err == (
        f"demo: nothing can be kept in {state} (Not a directory); choose another folder with --state\n"
    )


def test_other_users_cannot_look_at_the_state(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    (state / "postgres.log").touch()  # of an earlier version, open to all
    (state / "airflow").mkdir()
    state.chmod(0o755)

    for folder in (state, tmp_path / "new"):
        with claim(folder, fresh=False):
            # The server's account passes through root's folder.
            assert _mode(folder) == (0o711 if os.geteuid() == 0 else 0o700)
            assert _mode(folder / "airflow") == 0o700
            assert _mode(folder / "postgres.log") == 0o600
            assert _mode(folder / LOCK) & 0o077 == 0


def test_a_folder_with_other_things_keeps_its_mode(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").touch()
    tmp_path.chmod(0o750)

    with claim(tmp_path, fresh=False):
        assert _mode(tmp_path) == 0o750


def test_names_that_steer_a_terminal_are_shown_harmless() -> None:
    assert printable("a\x1b[31mb\u202ec\n\x07é✅") == "a?[31mb?c??é✅"


def test_forgetting_removes_what_a_demo_left(tmp_path: Path) -> None:
    state = tmp_path / "live"
    state.mkdir()
    for name in OURS:
        (state / name).touch()

    forget(state)

    assert [entry.name for entry in state.iterdir()] == [LOCK]
    forget(state)  # nothing left to forget is no mistake
    forget(tmp_path / "never")


def test_forgetting_refuses_a_folder_that_is_somebody_elses(tmp_path: Path) -> None:
    (tmp_path / "world").touch()
    (tmp_path / "thesis.txt").touch()

    with pytest.raises(MonitorError, match=r"holds 'thesis\.txt', which no demo made"):
        forget(tmp_path)
    with pytest.raises(MonitorError, match="no demo made"), claim(tmp_path, fresh=True):
        pass
    assert {entry.name for entry in tmp_path.iterdir()} == {"world", "thesis.txt"}


def test_the_world_is_made_once_and_goes_on_from_where_it_stopped(
    postgres_server: EmbeddedPostgres, tmp_path: Path
) -> None:
    def world(clock: Callable[[], datetime]) -> RunningWorld:
        since = tmp_path / "since"
        return RunningWorld(postgres_server, dbname="demo_world", since_file=since, tell=lambda _: None, clock=clock)

    now = datetime.now(UTC)
    try:
        world(lambda: now - timedelta(days=4)).prepare()
        with psycopg.connect(postgres_server.dsn("demo_world"), autocommit=True) as connection:
            count = "SELECT count(*) FROM servicetitan_sync_logs"
            before = _number(connection, count)
            later = world(lambda: now)
            later.prepare()
            assert _number(connection, count) == before

            with later:
                later.require_alive()
            later.require_alive()

            # Four days in which the demo stood still, farther than it works out its world at a time.
            assert _number(connection, count) > before + 4_000
    finally:
        postgres_server.drop_database("demo_world")


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def _number(connection: psycopg.Connection, query: LiteralString) -> int:
    row = connection.execute(query).fetchone()
    assert row is not None
    return int(row[0])

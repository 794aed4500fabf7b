"""
A private Redis for the tests of Airflow's CeleryExecutor: the broker between a scheduler and its workers.

It is Debian's ``redis-server`` (the tests' set-up installs it), on 127.0.0.1 and a free port, behind a password, and
keeps nothing: no snapshot, no append-only file. `include.simulation.process_guard` holds it, so that it does not outlive
the process that started it. Redis runs as whoever starts it, root included.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from include.simulation.ports import HOST, free_port

PROJECT_ROOT = Path(__file__).resolve().parents[2]
PROGRAM = "redis-server"
START_SECONDS = 30.0
STOP_SECONDS = 12.0  # the guard kills after 6
POLL_SECONDS = 0.05
STARTS = 3
"""How often a start is tried: somebody quicker may take the port that was found free."""

PORT_TAKEN = "Address already in use"  # what Redis says then


class RedisServerError(RuntimeError):
    """Redis is not there, or did not start; the message says what to do."""


class RedisServer:
    """
    A Redis server; also a context manager. `start` and `stop` may be repeated, and each start finds a port.

    Args:
        home: its folder, created if missing, for its configuration and its log; belongs to this server alone.
        program: the name or path of the server's program.
    """

    host = HOST

    def __init__(self, home: Path, *, program: str = PROGRAM) -> None:
        self.home = home.absolute()
        self.password = secrets.token_urlsafe(24)
        self._program = program
        self._port: int | None = None
        self._guard: subprocess.Popen[bytes] | None = None

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
            raise RedisServerError(f"the Redis server in {self.home} has not been started")
        return self._port

    @property
    def url(self) -> str:
        """The address of its first database, with the password, as Celery takes it."""
        return f"redis://:{self.password}@{self.host}:{self.port}/0"

    @property
    def guard_pid(self) -> int | None:
        """Process id of the guard that holds the server, None when stopped."""
        return self._guard.pid if self._guard else None

    def start(self) -> None:
        """
        Start the server and return once it answers; no-op while it runs.

        Raises:
            RedisServerError: the program is not on the PATH, or it refuses to start (its last words are told).
        """
        if self._guard is not None:
            return
        program = shutil.which(self._program)
        if program is None:
            raise RedisServerError(
                f"there is no {self._program} on the PATH: install Debian's package 'redis-server' (make test does it "
                "where it may)"
            )
        self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        for tries_left in reversed(range(STARTS)):
            try:
                self._launch(program)
            except RedisServerError:
                self.stop()
                if not tries_left or PORT_TAKEN not in self._said():
                    raise
            except BaseException:
                self.stop()
                raise
            else:
                return

    def stop(self) -> None:
        """End the server; returns when it is gone. What it held is lost. Safe to call twice."""
        guard, self._guard = self._guard, None
        if guard is None:
            return
        if guard.stdin:
            guard.stdin.close()
        try:
            guard.wait(timeout=STOP_SECONDS)
        except subprocess.TimeoutExpired:
            guard.kill()  # the server then gets SIGTERM from the kernel
            guard.wait()

    @property
    def _log(self) -> Path:
        return self.home / "redis.log"

    def _launch(self, program: str) -> None:
        self._port = free_port()
        self._log.write_bytes(b"")
        spec = {"name": "redis", "argv": [program, str(self._configuration())], "log": str(self._log)}
        with (self.home / "guard.log").open("wb") as log:
            self._guard = subprocess.Popen(
                [sys.executable, "-m", "include.simulation.process_guard", json.dumps([spec])],
                cwd=PROJECT_ROOT,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C in the terminal is for the parent, which then stops this in order
            )
        self._await_answer(self._guard)

    def _configuration(self) -> Path:
        """Write the configuration; a file of its owner's, since arguments can be read by all users of the machine."""
        settings = {
            "bind": self.host,
            "port": self._port,
            "requirepass": self.password,
            "dir": json.dumps(str(self.home)),  # quoted: a path may hold spaces
            "save": '""',
            "appendonly": "no",
            "daemonize": "no",
            "databases": 1,
        }
        path = self.home / "redis.conf"
        path.unlink(missing_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.writelines(f"{name} {value}\n" for name, value in settings.items())
        return path

    def _await_answer(self, guard: subprocess.Popen[bytes]) -> None:
        """Return once our own server answers: another one, on a port taken since, has another password."""
        deadline = time.monotonic() + START_SECONDS
        at_once = Retry(NoBackoff(), 0)  # the client's own retries wait longer than a start takes
        with redis.Redis(
            host=self.host, port=self.port, password=self.password, socket_timeout=5, retry=at_once
        ) as client:
            while time.monotonic() < deadline:
                if guard.poll() is not None:
                    raise RedisServerError(f"Redis did not start: {self._last_words()} (see {self._log})")
                try:
                    client.ping()
                except redis.RedisError:
                    time.sleep(POLL_SECONDS)
                else:
                    return
        raise RedisServerError(f"Redis does not answer after {START_SECONDS:.0f} s (see {self._log})")

    def _said(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace") if self._log.exists() else ""

    def _last_words(self) -> str:
        lines = [line.strip() for line in self._said().splitlines() if line.strip()]
        return lines[-1] if lines else "it said nothing"

"""The private Redis: it asks for its password, keeps nothing, and does not outlive its starter."""

from __future__ import annotations

import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from include.simulation.ports import free_port
from include.simulation.redis_server import RedisServer, RedisServerError

PROJECT_ROOT = Path(__file__).resolve().parents[2]

STARTER = """
import sys, time
from pathlib import Path
from include.simulation.redis_server import RedisServer
server = RedisServer(Path(sys.argv[1]))
server.start()
print(server.guard_pid, flush=True)
time.sleep(600)
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path / "red is") as running:
        yield running


def family_of(guard_pid: int | None) -> list[psutil.Process]:
    """The guard and the server it holds."""
    assert guard_pid is not None
    guard = psutil.Process(guard_pid)
    return [guard, *guard.children(recursive=True)]


def test_it_answers_at_its_address(server: RedisServer) -> None:
    with redis.Redis.from_url(server.url) as client:
        client.rpush("queue", "work")
        assert client.lpop("queue") == b"work"


@pytest.mark.parametrize(
    "password",
    [
        pytest.param(None, id="nobody enters without a password"),
        pytest.param("wrong", id="nobody enters with a wrong password"),
    ],
)
def test_it_asks_for_its_password(server: RedisServer, password: str | None) -> None:
    with (
        redis.Redis(host=server.host, port=server.port, password=password, retry=Retry(NoBackoff(), 0)) as client,
        pytest.raises(redis.AuthenticationError),
    ):
        client.ping()


def test_the_password_is_in_no_argument_and_in_no_file_for_others(server: RedisServer) -> None:
    arguments = [argument for process in family_of(server.guard_pid) for argument in process.cmdline()]
    holders = [path for path in server.home.iterdir() if server.password in path.read_text()]

    assert not any(server.password in argument for argument in arguments)
    assert [path.name for path in holders] == ["redis.conf"]
    assert stat.S_IMODE(holders[0].stat().st_mode) == 0o600


def test_stopping_ends_it_and_keeps_nothing(server: RedisServer) -> None:
    with redis.Redis.from_url(server.url) as client:
        client.set("key", "value")
    family = family_of(server.guard_pid)
    assert len(family) == 2

    server.stop()
    server.stop()

    _, alive = psutil.wait_procs(family, timeout=1)
    assert alive == []
    server.start()
    with redis.Redis.from_url(server.url) as client:
        assert client.dbsize() == 0
    assert {path.name for path in server.home.iterdir()} == {"redis.conf", "redis.log", "guard.log"}


def test_a_killed_starter_leaves_nothing_behind(tmp_path: Path) -> None:
    command = [sys.executable, "-c", STARTER, str(tmp_path / "redis")]
    with subprocess.Popen(command, cwd=PROJECT_ROOT, stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout is not None
        family = family_of(int(starter.stdout.readline()))
        starter.send_signal(signal.SIGKILL)

        _, alive = psutil.wait_procs(family, timeout=12)
    assert len(family) == 2
    assert alive == []


def test_a_port_that_somebody_took_first_is_left_to_him(
    server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between finding a free port and listening on it there is a moment."""
    ports = iter([server.port, free_port()])
    monkeypatch.setattr("include.simulation.redis_server.free_port", lambda: next(ports))

    with RedisServer(tmp_path / "second") as second:
        assert second.port != server.port
        with redis.Redis.from_url(second.url) as client:
            assert client.ping()
    assert list(ports) == []


@pytest.mark.parametrize(
    ("program", "complaint"),
    [
        pytest.param("no-such-redis", "install Debian's package 'redis-server'", id="a missing Redis is told as such"),
        pytest.param("false", "did not start: it said nothing", id="a Redis that ends at once is told"),
    ],
)
def test_a_redis_that_cannot_start_is_told_in_a_line(tmp_path: Path, program: str, complaint: str) -> None:
    server = RedisServer(tmp_path / "redis", program=program)

    with pytest.raises(RedisServerError, match=complaint) as caught:
        server.start()
    assert "\n" not in str(caught.value)
    assert server.guard_pid is None
    with pytest.raises(RedisServerError, match="has not been started"):
        _ = RedisServer(tmp_path / "other").url

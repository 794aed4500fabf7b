"""A store that refuses, fails, or changes while it is read, ends in one line of reason, and costs no other file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from include.orchestration import log_ingestion
from include.orchestration.log_files import LogFile, see_file
from include.orchestration.log_ingestion import LogIngestion
from include.simulation.monolog_files import LogTruth, write_log
from include.sync_health.log_identity import SeenFile
from tests.orchestration.read_logs import ingest, plan, stored, told
from tests.orchestration.stores.gcs_store import TOKEN
from tests.orchestration.stores.s3_store import KEY
from tests.orchestration.stores.store import SECRET, Store, new_name, url, variable

pytestmark = pytest.mark.usefixtures("waits_are_over_at_once")


def put_log(store: Store, folder: Path, name: str, *, seed: int = 1, lines: int = 2_000) -> LogTruth:
    """Store a log, and return the truth about it."""
    truth = write_log(folder / f"{seed}.log", plan(seed=seed, lines=lines))
    store.put(name, (folder / f"{seed}.log").read_bytes())
    return truth


def the_line(done: LogIngestion) -> str:
    """Return the only complaint, which is one line without anything secret."""
    (line,) = done.missing
    assert "\n" not in line
    assert len(line) < 500
    assert not [secret for secret in (SECRET, TOKEN, KEY, "PRIVATE KEY") if secret in line]
    return line


@pytest.mark.parametrize("name", ["servicetitan-*.log", "servicetitan-1.log"])
def test_credentials_that_the_store_refuses_are_told(
    dsn: str, tmp_path: Path, store: Store, connect: Callable[..., str], name: str
) -> None:
    put_log(store, tmp_path, "servicetitan-1.log")

    done = ingest(dsn, url(store, name), connection=connect(is_wrong=True))

    assert not done.is_available
    line = the_line(done)
    assert line.startswith(f"{url(store, name)}: cannot be looked at: ")
    assert "no such file" not in line


@pytest.mark.parametrize("name", ["servicetitan-*.log", "servicetitan-1.log"])
def test_a_connection_that_is_not_there_is_told(dsn: str, tmp_path: Path, store: Store, name: str) -> None:
    """And no other credentials, which the machine may have, are tried in its place."""
    put_log(store, tmp_path, "servicetitan-1.log")
    store.gate.requests.clear()

    done = ingest(dsn, url(store, name), connection="never_made")

    assert not done.is_available
    assert "never_made" in the_line(done)
    assert store.gate.requests == []


def test_a_connection_of_another_kind_is_told(dsn: str, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    name = new_name("servicetitan_logs_")
    monkeypatch.setenv(variable(name), f"postgres://monitor:{SECRET}@127.0.0.1:9/hub")

    done = ingest(dsn, url(store, "servicetitan-1.log"), connection=name)

    assert not done.is_available
    assert the_line(done)


@pytest.mark.parametrize("name", ["servicetitan-*.log", "servicetitan-1.log"])
def test_a_store_that_does_not_answer_is_told(dsn: str, store: Store, connect: Callable[..., str], name: str) -> None:
    done = ingest(dsn, url(store, name), connection=connect(endpoint="http://127.0.0.1:9"))

    assert not done.is_available
    assert the_line(done).startswith(f"{url(store, name)}: cannot be looked at: ")


@pytest.mark.parametrize("name", ["servicetitan-*.log", "servicetitan-1.log"])
def test_a_bucket_that_may_not_be_looked_at_is_told(
    dsn: str, tmp_path: Path, store: Store, connection: str, name: str
) -> None:
    put_log(store, tmp_path, "servicetitan-1.log")
    store.gate.refuse("", 403)

    done = ingest(dsn, url(store, name), connection=connection)

    assert not done.is_available
    assert the_line(done).startswith(f"{url(store, name)}: cannot be looked at: ")


def test_an_object_that_may_not_be_read_does_not_keep_the_others(
    dsn: str, tmp_path: Path, store: Store, connection: str
) -> None:
    truth = put_log(store, tmp_path, "servicetitan-1.log", seed=1)
    put_log(store, tmp_path, "servicetitan-2.log", seed=2)
    store.gate.refuse(store.reads("servicetitan-2.log"), 403)

    done = ingest(dsn, url(store, "servicetitan-*.log"), connection=connection)

    assert stored(dsn) == told(truth)
    assert done.counts["unreadable"] == 1
    assert the_line(done).startswith(f"{url(store, 'servicetitan-2.log')}: cannot be read: ")


def test_a_store_that_is_too_busy_for_a_moment_is_asked_again(
    dsn: str, tmp_path: Path, store: Store, connection: str
) -> None:
    truth = put_log(store, tmp_path, "servicetitan-1.log")
    store.gate.refuse(store.looks(), 503, times=2)
    store.gate.refuse(store.reads("servicetitan-1.log"), 503, times=2)

    done = ingest(dsn, url(store, "servicetitan-*.log"), connection=connection)

    assert done.missing == []
    assert stored(dsn) == told(truth)


def test_a_store_that_stays_too_busy_is_told_and_read_the_next_time(
    dsn: str, tmp_path: Path, store: Store, connection: str
) -> None:
    truth = put_log(store, tmp_path, "servicetitan-1.log")
    pattern = url(store, "servicetitan-*.log")
    store.gate.refuse(store.looks(), 503)
    looked_at = ingest(dsn, pattern, connection=connection)
    store.gate.open()
    store.gate.refuse(store.reads("servicetitan-1.log"), 503)
    read = ingest(dsn, pattern, connection=connection)
    store.gate.open()

    done = ingest(dsn, pattern, connection=connection)

    assert not looked_at.is_available
    assert the_line(looked_at).startswith(f"{pattern}: cannot be looked at: ")
    assert the_line(read).startswith(f"{url(store, 'servicetitan-1.log')}: cannot be read: ")
    assert read.counts["unreadable"] == 1  # it has not changed
    assert not read.is_available
    assert done.missing == []
    assert stored(dsn) == told(truth)


def test_an_object_that_is_gone_by_the_time_it_is_read_is_told(
    dsn: str, tmp_path: Path, store: Store, connection: str
) -> None:
    truth = put_log(store, tmp_path, "servicetitan-1.log", seed=1)
    put_log(store, tmp_path, "servicetitan-2.log", seed=2)
    store.gate.before_the_next(store.reads("servicetitan-1.log"), lambda: store.delete("servicetitan-2.log"))

    done = ingest(dsn, url(store, "servicetitan-*.log"), connection=connection)

    assert stored(dsn) == told(truth)
    assert the_line(done).startswith(f"{url(store, 'servicetitan-2.log')}: cannot be read: ")


def test_an_object_that_is_replaced_between_look_and_read_is_left_to_the_next_run(
    dsn: str, tmp_path: Path, store: Store, connection: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_log(store, tmp_path, "servicetitan.log", seed=1)
    second: list[LogTruth] = []

    def looked(file: LogFile) -> SeenFile:
        seen = see_file(file)
        if not second:
            second.append(put_log(store, tmp_path, "servicetitan.log", seed=2))
        return seen

    monkeypatch.setattr(log_ingestion, "see_file", looked)
    done = [ingest(dsn, url(store, "servicetitan.log"), connection=connection) for _ in range(2)]

    assert "it has changed while it was read; the next run looks at it again" in the_line(done[0])
    assert done[0].counts["changed"] == 1
    assert done[1].missing == []
    assert stored(dsn) == told(*second)


def test_an_object_that_is_replaced_while_it_is_read_is_left_to_the_next_run(
    dsn: str, tmp_path: Path, store: Store, connection: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No line of the one is taken for a line of the other; what was read before counts."""
    monkeypatch.setattr(file_system(store), "default_block_size", 64 << 10)  # not the whole object in one request
    first, second = (plan(seed=seed, lines=6_000, ids=(str(seed),)) for seed in (31, 32))
    truths = [write_log(tmp_path / f"{each.seed}.log", each) for each in (first, second)]
    store.put("servicetitan.log", (tmp_path / "31.log").read_bytes())

    def looked(file: LogFile) -> SeenFile:
        seen = see_file(file)
        store.gate.before_the_next(
            store.reads("servicetitan.log"),
            lambda: store.put("servicetitan.log", (tmp_path / "32.log").read_bytes()),
            skip=2,
        )
        return seen

    with monkeypatch.context() as patched:
        patched.setattr(log_ingestion, "see_file", looked)
        replaced = ingest(dsn, url(store, "servicetitan.log"), connection=connection)
    done = ingest(dsn, url(store, "servicetitan.log"), connection=connection)

    assert "it has changed while it was read; the next run looks at it again" in the_line(replaced)
    assert requests_of("31", stored(dsn)) < requests_of("31", told(truths[0]))
    assert done.missing == []
    assert requests_of("32", stored(dsn)) == requests_of("32", told(truths[1]))


def test_an_object_that_is_removed_while_it_is_read_is_no_failure(
    dsn: str, tmp_path: Path, store: Store, connection: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by a rotation; what was read before counts, and another file is read all the same."""
    monkeypatch.setattr(file_system(store), "default_block_size", 64 << 10)  # not the whole object in one request
    truth = write_log(tmp_path / "long.log", plan(seed=33, lines=6_000, ids=("33",)))
    store.put("servicetitan-1.log", (tmp_path / "long.log").read_bytes())
    put_log(store, tmp_path, "servicetitan-2.log", seed=2)
    store.gate.before_the_next(store.reads("servicetitan-1.log"), lambda: store.delete("servicetitan-1.log"), skip=4)

    done = ingest(dsn, url(store, "servicetitan-*.log"), connection=connection)

    assert "it has changed while it was read; the next run looks at it again" in the_line(done)
    assert (done.counts["changed"], done.counts.get("unreadable", 0)) == (1, 0)
    assert requests_of("33", stored(dsn)) < requests_of("33", told(truth))
    assert done.is_available


def file_system(store: Store) -> type:
    """Return the class of the store's file system."""
    if store.scheme == "s3":
        from s3fs import S3FileSystem as FileSystem
    else:
        from gcsfs import GCSFileSystem as FileSystem
    return FileSystem


def requests_of(credential: str, found: dict[str, Any]) -> int:
    """Return how many requests a credential made."""
    return sum(number for key, number in found["requests"].items() if key[1] == credential)

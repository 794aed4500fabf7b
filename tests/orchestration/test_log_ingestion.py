"""Log files as they lie on disks: found again under other names, read once, whatever interrupts the reader."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import fsspec
import psycopg
import pytest

from include.orchestration import log_ingestion
from include.simulation.monolog_files import SECRETS, START, TEMPLATES, write_log
from include.sync_health import endpoints
from include.warehouse.migration import upgrade
from tests.orchestration.read_logs import CHUNK, ingest, plan, stored, told


@pytest.fixture
def dsn(make_database: Callable[..., str]) -> str:
    """A migrated database."""
    dsn = make_database("logs")
    upgrade(dsn)
    return dsn


@pytest.fixture(autouse=True)
def _small_commits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two chunks a commit: these files have about ten."""
    monkeypatch.setattr(log_ingestion, "COMMIT_CHUNKS", 2)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="Monolog 3 with answers and processes"),
        pytest.param({"version": 1}, id="dates of Monolog 1"),
        pytest.param({"debug": False}, id="answers dropped by the level: no status, no time"),
        pytest.param({"is_told": True}, id="times told by the line"),
        pytest.param({"batches": False, "odd": 0.0, "lines": 5_000}, id="nothing but calls"),
        pytest.param({"odd": 0.7}, id="mostly other lines"),
    ],
)
def test_what_is_counted_is_the_truth(dsn: str, tmp_path: Path, changes: dict[str, Any]) -> None:
    truth = write_log(tmp_path / "servicetitan.log", plan(**changes))

    done = ingest(dsn, tmp_path / "servicetitan.log")

    assert stored(dsn) == told(truth)
    counts = done.counts
    assert (counts["lines"], counts["blank"], counts["not_json"], counts["broken"], counts["not_utf8"]) == (
        truth.lines,
        truth.blank,
        truth.not_json,
        truth.broken,
        truth.not_utf8,
    )


def test_reading_again_counts_nothing(dsn: str, tmp_path: Path) -> None:
    truth = write_log(tmp_path / "servicetitan.log", plan())
    ingest(dsn, tmp_path / "servicetitan.log")

    again = ingest(dsn, tmp_path / "servicetitan.log")

    assert again.counts["lines"] == 0
    assert stored(dsn) == told(truth)


def test_a_line_that_is_half_written_waits_for_its_end(dsn: str, tmp_path: Path) -> None:
    truth = write_log(tmp_path / "whole", plan(lines=300))
    whole = (tmp_path / "whole").read_bytes()
    log = tmp_path / "servicetitan.log"
    for size in (len(whole) // 3, len(whole) // 2, len(whole) - 5, len(whole)):
        log.write_bytes(whole[:size])
        ingest(dsn, log, now=START)
    ingest(dsn, log)

    assert stored(dsn) == told(truth)


def _renamed(folder: Path) -> None:
    (folder / "servicetitan.log").rename(folder / "servicetitan.log.1")


def _copied_and_cut(folder: Path) -> None:
    shutil.copy(folder / "servicetitan.log", folder / "servicetitan.log.1")
    os.truncate(folder / "servicetitan.log", 0)


def _packed(folder: Path) -> None:
    archive = folder / "servicetitan.log.1.gz"
    archive.write_bytes(gzip.compress((folder / "servicetitan.log").read_bytes()))
    (folder / "servicetitan.log").unlink()


def _packed_beside(folder: Path) -> None:
    (folder / "servicetitan.log.1.gz").write_bytes(gzip.compress((folder / "servicetitan.log").read_bytes()))


@pytest.mark.parametrize(
    "rotate",
    [
        pytest.param(_renamed, id="renamed"),
        pytest.param(_copied_and_cut, id="copied, then emptied"),
        pytest.param(_packed, id="packed"),
        pytest.param(_packed_beside, id="packed beside itself, then written anew"),
        pytest.param(lambda folder: None, id="written anew in place: what nobody read before is gone"),
    ],
)
def test_a_rotated_file_is_neither_lost_nor_read_twice(
    dsn: str, tmp_path: Path, rotate: Callable[[Path], None]
) -> None:
    log, pattern = tmp_path / "servicetitan.log", tmp_path / "servicetitan.log*"
    first = write_log(tmp_path / "first", plan(seed=1))
    second = write_log(tmp_path / "second", plan(seed=2, start=START + timedelta(hours=5)))
    whole = (tmp_path / "first").read_bytes()
    is_lost = rotate.__name__ == "<lambda>"
    log.write_bytes(whole if is_lost else whole[: len(whole) // 2])
    ingest(dsn, pattern, now=START)
    log.write_bytes(whole)
    rotate(tmp_path)
    ingest(dsn, pattern, now=START)
    with log.open("ab" if log.exists() and not log.stat().st_size else "wb") as file:
        file.write((tmp_path / "second").read_bytes())
    ingest(dsn, pattern)
    ingest(dsn, pattern)

    assert stored(dsn) == told(first, second)


def test_a_copy_of_a_file_counts_once_from_the_start(dsn: str, tmp_path: Path) -> None:
    truth = write_log(tmp_path / "servicetitan.log", plan())
    shutil.copy(tmp_path / "servicetitan.log", tmp_path / "servicetitan.log.1")

    done = ingest(dsn, tmp_path / "*")

    assert done.counts["copies"] == 1
    assert stored(dsn) == told(truth)


def test_an_archive_that_was_read_is_not_unpacked_again(dsn: str, tmp_path: Path) -> None:
    truth = write_log(tmp_path / "plain", plan())
    archive = tmp_path / "servicetitan.log.1.gz"
    archive.write_bytes(gzip.compress((tmp_path / "plain").read_bytes().rstrip(b"\n")))
    ingest(dsn, archive)
    was = archive.stat()
    archive.write_bytes(b"\x1f\x8b" + bytes(was.st_size - 2))  # no archive any more: looking into it would fail
    os.utime(archive, ns=(was.st_atime_ns, was.st_mtime_ns))

    assert ingest(dsn, archive).counts.get("unreadable", 0) == 0
    assert stored(dsn) == told(truth)


def test_the_error_file_repeats_and_is_not_read_beside_its_main_file(dsn: str, tmp_path: Path) -> None:
    errors = tmp_path / "servicetitan_errors.log"
    truth = write_log(tmp_path / "servicetitan.log", plan(), errors_to=errors)

    done = ingest(dsn, tmp_path / "*.log")

    assert errors.stat().st_size
    assert done.counts["error_copies"] == 1
    assert stored(dsn) == told(truth)


def test_the_error_file_alone_is_read(dsn: str, tmp_path: Path) -> None:
    truth = write_log(tmp_path / "main", plan(odd=0.0), errors_to=tmp_path / "servicetitan_errors.log")

    ingest(dsn, tmp_path / "servicetitan_errors.log")

    assert sum(stored(dsn)["errors"].values()) == sum(
        number for (*_, status), number in truth.errors.items() if status == 0
    )


def test_a_line_longer_than_a_chunk_is_passed_over_and_counted(dsn: str, tmp_path: Path) -> None:
    truth = write_log(tmp_path / "plain", plan(lines=600))
    head, _, rest = (tmp_path / "plain").read_bytes().partition(b"\n")
    long = b'{"message":"ServiceTitan API GET request","body":"' + b"x" * 5 * CHUNK + b'"}'
    (tmp_path / "servicetitan.log").write_bytes(b"\n".join((head, long, rest)))

    done = ingest(dsn, tmp_path / "servicetitan.log")

    assert done.counts["too_long"] == 1
    assert done.counts["lines"] == truth.lines + 1
    assert stored(dsn) == told(truth)


def test_a_url_is_read_like_a_path(dsn: str, tmp_path: Path) -> None:
    truth = write_log(tmp_path / "servicetitan.log", plan())

    ingest(dsn, f"file://{tmp_path}/*.log")
    ingest(dsn, tmp_path / "servicetitan.log")

    assert stored(dsn) == told(truth)


def test_an_object_store_is_read_like_a_disk(dsn: str, tmp_path: Path) -> None:
    """A file, and an archive, of a store that Airflow's ObjectStoragePath reaches; it has no inodes."""
    from airflow.sdk.io import attach

    store = fsspec.filesystem("memory")
    attach("memory", fs=store)
    folder = f"/logs-{uuid.uuid4()}"
    truths = [write_log(tmp_path / f"{seed}.log", plan(seed=seed)) for seed in (1, 2)]
    store.pipe_file(f"{folder}/servicetitan-1.log", (tmp_path / "1.log").read_bytes())
    store.pipe_file(f"{folder}/servicetitan-2.log.gz", gzip.compress((tmp_path / "2.log").read_bytes()))

    done = [ingest(dsn, f"memory:/{folder}/servicetitan-*") for _ in range(2)]

    assert stored(dsn) == told(*truths)
    assert [each.counts["files"] for each in done] == [2, 2]
    assert (done[0].missing, done[1].counts.get("requests", 0)) == ([], 0)


def test_an_endpoint_keeps_its_name_from_run_to_run(dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is room for three, the three that were told first, whatever the next run reads most of."""
    monkeypatch.setattr(endpoints, "MOST_ENDPOINTS", 3)
    write_log(tmp_path / "a.log", plan(batches=False, odd=0.0))
    ingest(dsn, tmp_path / "*.log")
    before = names_told(dsn)
    assert len(before) == 4  # the rest is one of them
    rare = next(name for name in TEMPLATES if name not in before)
    line = {
        "message": "ServiceTitan API GET request",
        "context": {"endpoint": rare.replace("{id}", "829374"), "credential_id": 1001},
        "level": 200,
        "channel": "app",
        "datetime": START.isoformat(),
        "extra": {},
    }
    (tmp_path / "b.log").write_text((json.dumps(line) + "\n") * 5_000, "utf-8")

    done = ingest(dsn, tmp_path / "*.log")

    assert done.counts["requests"] == 5_000
    assert names_told(dsn) == before


def names_told(dsn: str) -> set[str]:
    """Return the endpoints that have a name."""
    with psycopg.connect(dsn) as conn:
        return {name for (name,) in conn.execute("SELECT DISTINCT endpoint FROM monitoring.api_call_hourly")}


def test_a_missing_file_is_unknown_and_told(dsn: str, tmp_path: Path) -> None:
    done = ingest(dsn, tmp_path / "none.log", f"file://{tmp_path}/none*.log")

    assert not done.is_available
    assert [line.rpartition(": ")[2] for line in done.missing] == ["no such file"] * 2


def test_what_cannot_be_unpacked_is_told_and_keeps_no_other_file_back(dsn: str, tmp_path: Path) -> None:
    truth = write_log(tmp_path / "servicetitan.log", plan())
    (tmp_path / "broken.log.gz").write_bytes(b"\x1f\x8bnot really")

    done = ingest(dsn, tmp_path / "*")

    assert done.counts["unreadable"] == 1
    assert "broken.log.gz" in done.missing[0]
    assert done.is_available
    assert stored(dsn) == told(truth)


def test_where_no_file_can_be_read_the_log_is_not_available(dsn: str, tmp_path: Path) -> None:
    """It is there, and nobody knows what is in it: that is not 0."""
    (tmp_path / "broken.log.gz").write_bytes(b"\x1f\x8bnot really")

    assert not ingest(dsn, tmp_path / "*").is_available


def test_nothing_secret_is_stored(dsn: str, tmp_path: Path) -> None:
    write_log(tmp_path / "servicetitan.log", plan(lines=5_000))
    ingest(dsn, tmp_path / "servicetitan.log")

    with psycopg.connect(dsn) as conn:
        for table in ("api_call_hourly", "api_counter", "log_position", "api_source"):
            kept = str(conn.execute(f"SELECT t::text FROM monitoring.{table} AS t").fetchall())
            assert not [secret for secret in SECRETS if secret in kept], table
    content = (tmp_path / "servicetitan.log").read_text("utf-8", "replace")
    assert all(secret in content for secret in SECRETS)


@pytest.mark.parametrize("stop_after", [1, 2, 4])
def test_stopped_between_two_commits_the_next_run_goes_on(
    dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop_after: int
) -> None:
    truth = write_log(tmp_path / "servicetitan.log", plan())
    commits = iter(range(1_000))
    store = log_ingestion._Run._store

    def stopped(run: Any, position: Any, counted: Any) -> Any:
        if next(commits) == stop_after:
            raise KeyboardInterrupt
        return store(run, position, counted)

    with monkeypatch.context() as patched:
        patched.setattr(log_ingestion._Run, "_store", stopped)
        with pytest.raises(KeyboardInterrupt):
            ingest(dsn, tmp_path / "servicetitan.log")
    assert 0 < sum(stored(dsn)["requests"].values()) < sum(truth.requests.values())

    ingest(dsn, tmp_path / "servicetitan.log")

    assert stored(dsn) == told(truth)


_KILLED_AFTER_SOME_COMMITS = """
import os, signal, sys
from datetime import UTC, datetime, timedelta
from include.orchestration.log_ingestion import ingest_logs
from include.sync_health.measuring_policies import ApiCallsPolicy
import include.warehouse.api_hours as api_hours
from include.orchestration import log_ingestion
log_ingestion.COMMIT_CHUNKS = 2
commits, add = 0, api_hours.add_calls
def killed(*given, **named):
    global commits
    commits += 1
    found = add(*given, **named)
    if commits == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return found
api_hours.add_calls = killed
ingest_logs(sys.argv[1], policy=ApiCallsPolicy(logs=(sys.argv[2],)), names={}, zone=UTC,
            clock=lambda: datetime(2026, 4, 1, tzinfo=UTC), chunk_bytes=65536)
"""


def test_killed_between_counting_and_commit_nothing_is_lost_or_counted_twice(dsn: str, tmp_path: Path) -> None:
    truth = write_log(tmp_path / "servicetitan.log", plan())
    log = tmp_path / "servicetitan.log"

    killed = subprocess.run(
        [sys.executable, "-c", _KILLED_AFTER_SOME_COMMITS, dsn, str(log)], check=False, cwd=Path.cwd()
    )

    assert killed.returncode == -signal.SIGKILL
    assert 0 < sum(stored(dsn)["requests"].values()) < sum(truth.requests.values())
    ingest(dsn, log)
    assert stored(dsn) == told(truth)


def test_of_two_runs_at_once_one_counts_and_the_other_leaves_the_file_to_it(
    dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth = write_log(tmp_path / "servicetitan.log", plan())
    store, others = log_ingestion._Run._store, []

    def overtaken(run: Any, position: Any, counted: Any) -> Any:
        if not others:
            others.append(None)
            ingest(dsn, tmp_path / "servicetitan.log")
        return store(run, position, counted)

    monkeypatch.setattr(log_ingestion._Run, "_store", overtaken)
    done = ingest(dsn, tmp_path / "servicetitan.log")

    assert done.counts["left_to_another"] == 1
    assert stored(dsn) == told(truth)


def test_a_file_emptied_while_it_is_read_is_left_and_found_again(
    dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "servicetitan.log"
    first = write_log(log, plan(seed=1))
    second = write_log(tmp_path / "next", plan(seed=2, start=START + timedelta(hours=5)))
    store, rotated = log_ingestion._Run._store, []

    def rotating(run: Any, position: Any, counted: Any) -> Any:
        found = store(run, position, counted)
        if not rotated:
            rotated.append(shutil.copy(log, tmp_path / "servicetitan.log.1"))
            log.write_bytes((tmp_path / "next").read_bytes())
        return found

    monkeypatch.setattr(log_ingestion._Run, "_store", rotating)
    done = ingest(dsn, tmp_path / "servicetitan.log*", now=START)

    assert "has changed while it was read" in done.missing[0]
    assert (done.counts["changed"], done.counts.get("unreadable", 0)) == (1, 0), "a rotation is no trouble"
    ingest(dsn, tmp_path / "servicetitan.log*")
    assert stored(dsn) == told(first, second)

"""Log files that are renamed, packed and replaced by others, also while a run looks at them."""

from __future__ import annotations

import gzip
import uuid
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import fsspec
import psycopg
import pytest

from include.orchestration import log_ingestion
from include.orchestration.log_files import LogFile, see_file
from include.simulation.monolog_files import START, write_log
from include.sync_health.log_identity import SeenFile
from include.warehouse.api_sources import API_LOCK, SOURCES
from include.warehouse.migration import upgrade
from tests.orchestration.read_logs import ingest, plan, stored, told


@pytest.fixture
def dsn(make_database: Callable[..., str]) -> str:
    """A migrated database."""
    dsn = make_database("rotation")
    upgrade(dsn)
    return dsn


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths of the files that are opened to see which they are."""
    seen: list[str] = []

    def noted(file: LogFile) -> SeenFile:
        seen.append(file.path)
        return see_file(file)

    monkeypatch.setattr(log_ingestion, "see_file", noted)
    return seen


def test_an_archive_that_gets_its_next_number_is_not_unpacked_again(dsn: str, tmp_path: Path, looks: list[str]) -> None:
    """As logrotate renames all of them every day."""
    truth = write_log(tmp_path / "plain", plan())
    (tmp_path / "servicetitan.log.1.gz").write_bytes(gzip.compress((tmp_path / "plain").read_bytes()))
    ingest(dsn, tmp_path / "*.gz")
    (tmp_path / "servicetitan.log.1.gz").rename(tmp_path / "servicetitan.log.2.gz")
    looks.clear()

    ingest(dsn, tmp_path / "*.gz")

    assert looks == []
    assert stored(dsn) == told(truth)


def test_an_archive_of_a_store_that_was_renamed_is_unpacked_once_more_and_no_more(
    dsn: str, tmp_path: Path, looks: list[str]
) -> None:
    """It has no inode to be known by."""
    from airflow.sdk.io import attach

    store = fsspec.filesystem("memory")
    attach("memory", fs=store)
    folder = f"/logs-{uuid.uuid4()}"
    truth = write_log(tmp_path / "plain", plan())
    store.pipe_file(f"{folder}/1.gz", gzip.compress((tmp_path / "plain").read_bytes()))
    ingest(dsn, f"memory:/{folder}/*.gz")
    store.mv(f"{folder}/1.gz", f"{folder}/2.gz")
    ingest(dsn, f"memory:/{folder}/*.gz")
    looks.clear()

    ingest(dsn, f"memory:/{folder}/*.gz")

    assert looks == []
    assert stored(dsn) == told(truth)


def test_a_plain_file_goes_on_beside_its_archive_that_was_read(dsn: str, tmp_path: Path) -> None:
    """A copy that somebody packed holds the beginning, and must not keep the rest from being read."""
    truth = write_log(tmp_path / "plain", plan())
    whole = (tmp_path / "plain").read_bytes()
    half = whole.index(b"\n", len(whole) // 2) + 1
    (tmp_path / "servicetitan.log.copy.gz").write_bytes(gzip.compress(whole[:half]))
    ingest(dsn, tmp_path / "servicetitan.log*", now=START)
    (tmp_path / "servicetitan.log").write_bytes(whole)

    for _ in range(2):
        ingest(dsn, tmp_path / "servicetitan.log*")

    assert stored(dsn) == told(truth)


def test_nobody_waits_while_files_are_looked_at(dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store of a thousand files takes minutes; by then the server would have ended an idle transaction."""
    write_log(tmp_path / "servicetitan.log", plan(lines=300))
    found: list[Any] = []

    def looked(file: LogFile) -> SeenFile:
        with psycopg.connect(dsn, autocommit=True) as other:
            (row,) = other.execute(
                "SELECT pg_try_advisory_lock(%s, %s),"
                " (SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                " AND state LIKE 'idle in transaction%%')",
                (API_LOCK, SOURCES.index("log")),
            ).fetchall()
            found.append(row)
        return see_file(file)

    monkeypatch.setattr(log_ingestion, "see_file", looked)
    ingest(dsn, tmp_path / "servicetitan.log")

    assert found == [(True, 0)]


def _shift_archives(folder: Path) -> None:
    (folder / "servicetitan.log.1.gz").rename(folder / "servicetitan.log.2.gz")
    (folder / "servicetitan.log.1.gz").write_bytes(gzip.compress((folder / "second").read_bytes()))


def test_archives_that_shift_between_look_and_read_are_not_mistaken_for_each_other(
    dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name stands for another file by then, which is read from its own beginning the next time."""
    first = write_log(tmp_path / "first", plan(seed=1))
    second = write_log(tmp_path / "second", plan(seed=2, start=START + timedelta(hours=5)))
    (tmp_path / "servicetitan.log.1.gz").write_bytes(gzip.compress((tmp_path / "first").read_bytes()))
    planned = log_ingestion._Run.plan

    def shifted(run: Any, files: Any, **given: Any) -> Any:
        found = planned(run, files, **given)
        _shift_archives(tmp_path)
        return found

    with monkeypatch.context() as patched:
        patched.setattr(log_ingestion._Run, "plan", shifted)
        done = ingest(dsn, tmp_path / "servicetitan.log*", now=START)
    ingest(dsn, tmp_path / "servicetitan.log*")

    assert done.counts["changed"] == 1
    assert stored(dsn) == told(first, second)


def test_a_file_of_a_store_that_is_replaced_between_look_and_read_is_read_from_its_beginning(
    dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has no inode, and cannot change while it is open: once is enough."""
    from airflow.sdk.io import attach

    store = fsspec.filesystem("memory")
    attach("memory", fs=store)
    folder = f"/logs-{uuid.uuid4()}"
    first = write_log(tmp_path / "first", plan(seed=1))
    second = write_log(tmp_path / "second", plan(seed=2, lines=4_000, start=START + timedelta(hours=5)))
    store.pipe_file(f"{folder}/servicetitan.log", (tmp_path / "first").read_bytes())
    ingest(dsn, f"memory:/{folder}/*.log")
    planned = log_ingestion._Run.plan

    def replaced(run: Any, files: Any, **given: Any) -> Any:
        found = planned(run, files, **given)
        store.pipe_file(f"{folder}/servicetitan.log", (tmp_path / "second").read_bytes())
        return found

    with monkeypatch.context() as patched:
        patched.setattr(log_ingestion._Run, "plan", replaced)
        ingest(dsn, f"memory:/{folder}/*.log")
    ingest(dsn, f"memory:/{folder}/*.log")

    assert stored(dsn) == told(first, second)


def test_the_error_file_is_not_read_while_its_main_file_is_away(dsn: str, tmp_path: Path) -> None:
    """Between a rotation and the next line there is no main file: each error would count a second time."""
    truth = write_log(tmp_path / "servicetitan.log", plan(), errors_to=tmp_path / "servicetitan_errors.log")
    ingest(dsn, tmp_path / "*.log")
    (tmp_path / "servicetitan.log").rename(tmp_path / "servicetitan.log.1")

    done = ingest(dsn, tmp_path / "*.log")

    assert done.counts["error_copies"] == 1
    assert stored(dsn) == told(truth)


def test_the_error_file_is_read_where_the_policy_names_its_main_file_no_more(dsn: str, tmp_path: Path) -> None:
    """Then it is the only one that tells."""
    write_log(tmp_path / "servicetitan.log", plan(odd=0.0), errors_to=tmp_path / "servicetitan_errors.log")
    ingest(dsn, tmp_path / "servicetitan.log")

    assert ingest(dsn, tmp_path / "servicetitan_errors.log").counts["error_copies"] == 0

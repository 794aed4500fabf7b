"""What lies in a store is read once, goes on where it ended, and is told when it is not there."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from include.orchestration.log_files import find_logs
from include.simulation.monolog_files import START, write_log
from tests.orchestration.read_logs import NOW, ingest, plan, stored, told
from tests.orchestration.stores.s3_store import PAGE
from tests.orchestration.stores.store import SECRET, Store, url


def test_files_and_archives_are_read_once(dsn: str, tmp_path: Path, store: Store, connection: str) -> None:
    truths = [write_log(tmp_path / f"{seed}.log", plan(seed=seed)) for seed in (1, 2)]
    store.put("hub/servicetitan-1.log", (tmp_path / "1.log").read_bytes())
    store.put("hub/servicetitan-2.log.gz", gzip.compress((tmp_path / "2.log").read_bytes()))

    done = [ingest(dsn, url(store, "hub/servicetitan-*"), connection=connection) for _ in range(2)]

    assert stored(dsn) == told(*truths)
    assert [each.missing for each in done] == [[], []]
    assert [each.counts["files"] for each in done] == [2, 2]
    assert done[1].counts.get("requests", 0) == 0


@pytest.mark.parametrize("name", ["servicetitan.log", "servicetitan*.log"])
def test_an_object_that_was_put_anew_and_longer_goes_on_where_it_ended(
    dsn: str, tmp_path: Path, store: Store, connection: str, name: str
) -> None:
    truth = write_log(tmp_path / "whole.log", plan())
    whole = (tmp_path / "whole.log").read_bytes()

    for size in (len(whole) // 3, len(whole) // 2, len(whole)):  # in the middle of a line, twice
        store.put("servicetitan.log", whole[:size])
        ingest(dsn, url(store, name), connection=connection, now=NOW if size == len(whole) else START)

    assert stored(dsn) == told(truth)


def test_an_object_with_another_content_under_the_same_name_is_another_file(
    dsn: str, tmp_path: Path, store: Store, connection: str
) -> None:
    truths = []
    for seed in (1, 2):
        truths.append(write_log(tmp_path / f"{seed}.log", plan(seed=seed)))
        store.put("servicetitan.log", (tmp_path / f"{seed}.log").read_bytes())
        ingest(dsn, url(store, "servicetitan.log"), connection=connection)

    assert stored(dsn) == told(*truths)


def test_an_archive_with_another_content_of_the_same_size_is_read(
    dsn: str, tmp_path: Path, store: Store, connection: str
) -> None:
    """An archive that was read to its end is known by its stamp alone; in a store that is the name, size and ETag."""
    truths = [write_log(tmp_path / f"{seed}.log", plan(seed=seed)) for seed in (1, 2)]
    archives = [gzip.compress((tmp_path / f"{seed}.log").read_bytes()) for seed in (1, 2)]
    size = max(map(len, archives))
    for archive in archives:
        store.put("servicetitan.log.gz", archive.ljust(size, b"\0"))  # RFC 1952 lets zeros follow
        ingest(dsn, url(store, "servicetitan.log.gz"), connection=connection)

    assert stored(dsn) == told(*truths)


def test_patterns_find_what_they_find_in_a_file_system(store: Store, connection: str) -> None:
    for name in ("hub/a-1.log", "hub/a-2.log.gz", "hub/b-1.log", "hub/old/2026/a-1.log", "other/a-1.log", "a-1.log"):
        store.put(name, b"{}\n")

    found = {
        pattern: [
            each.path.removeprefix(url(store, ""))
            for each in find_logs([url(store, pattern)], connection=connection).files
        ]
        for pattern in ("hub/a-*", "hub/?-1.log", "hub/[b-z]-*", "hub/**/a-1.log", "*/a-1.log", "hub", "hub/")
    }

    assert found == {
        "hub/a-*": ["hub/a-1.log", "hub/a-2.log.gz"],
        "hub/?-1.log": ["hub/a-1.log", "hub/b-1.log"],
        "hub/[b-z]-*": ["hub/b-1.log"],
        "hub/**/a-1.log": ["hub/a-1.log", "hub/old/2026/a-1.log"],
        "*/a-1.log": ["hub/a-1.log", "other/a-1.log"],
        "hub": [],
        "hub/": [],
    }


def test_more_objects_than_a_page_are_all_found_without_a_request_for_each(store: Store, connection: str) -> None:
    for number in range(2 * PAGE + 5):
        store.put(f"hub/servicetitan-{number}.log", b"{}\n")
    store.gate.requests.clear()

    found = find_logs([url(store, "hub/servicetitan-*.log")], connection=connection)

    assert len(found.files) == 2 * PAGE + 5
    assert len(store.gate.requests) <= 6, store.gate.requests


def test_what_was_listed_before_is_looked_at_again(store: Store, connection: str) -> None:
    """Clients keep listings for as long as the process lives."""
    sizes, stamps = [], set()
    for data in (b"{}\n", b"{}\n" * 2, b"{}\n" * 3):
        store.put("hub/servicetitan.log", data)
        for name in ("hub/*.log", "hub/servicetitan.log"):
            (file,) = find_logs([url(store, name)], connection=connection).files
            sizes.append(file.size)
            stamps.add(file.stamp)

    assert sizes == [3, 3, 6, 6, 9, 9]
    assert len(stamps) == 3  # the same one, whether a pattern or its name found it


def test_what_is_not_there_is_told(dsn: str, tmp_path: Path, store: Store, connection: str) -> None:
    write_log(tmp_path / "one.log", plan())
    store.put("one.log", (tmp_path / "one.log").read_bytes())
    missing = [
        url(store, "other-*.log"),
        url(store, "other.log"),
        f"{store.scheme}://no-such-bucket/a.log",
        f"{store.scheme}://no-such-bucket/*.log",
    ]

    done = ingest(dsn, url(store, "one.log"), *missing, connection=connection)

    assert done.is_available
    assert done.counts["requests"] > 0
    assert [line.split(": ")[0] for line in done.missing] == missing
    assert SECRET not in str(done.missing)


def test_the_error_file_is_not_read_while_its_main_file_is_away(
    dsn: str, tmp_path: Path, store: Store, connection: str
) -> None:
    """A file is known by the name that the policy has for it, without the connection that Airflow writes into its URL."""
    truth = write_log(tmp_path / "main.log", plan(), errors_to=tmp_path / "errors.log")
    store.put("servicetitan.log", (tmp_path / "main.log").read_bytes())
    ingest(dsn, url(store, "servicetitan*.log"), connection=connection)
    store.delete("servicetitan.log")
    store.put("servicetitan_errors.log", (tmp_path / "errors.log").read_bytes())

    done = ingest(dsn, url(store, "servicetitan*.log"), connection=connection)

    assert done.counts["error_copies"] == 1
    assert stored(dsn) == told(truth)

"""
Archives that Google's store has with ``Content-Encoding: gzip``, as ``gsutil cp -Z`` puts them.

It hands them out as they are to a client that takes that encoding, which unpacks each part that it asked for by itself:
that cannot be.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest

from include.simulation.monolog_files import write_log
from tests.orchestration.read_logs import ingest, plan, stored, told
from tests.orchestration.stores.gcs_store import GcsStore
from tests.orchestration.stores.store import url

pytestmark = [
    pytest.mark.usefixtures("waits_are_over_at_once"),
    pytest.mark.parametrize("server", ["gs"], indirect=True),
]


def test_an_encoded_archive_is_told_and_is_read_by_a_connection_that_leaves_it_as_it_is(
    dsn: str, tmp_path: Path, store: GcsStore, connect: Callable[..., str]
) -> None:
    truth = write_log(tmp_path / "servicetitan.log", plan())
    store.put("servicetitan.log.gz", gzip.compress((tmp_path / "servicetitan.log").read_bytes()), encoding="gzip")
    path = url(store, "servicetitan.log.gz")

    refused = ingest(dsn, path, connection=connect())
    done = ingest(dsn, path, connection=connect(**{"gcs.session-kwargs": {"auto_decompress": False}}))

    (line,) = refused.missing
    assert line.startswith(f"{path}: cannot be read: ")
    assert "content-encoding: gzip" in line
    assert not refused.is_available
    assert done.missing == []
    assert stored(dsn) == told(truth)

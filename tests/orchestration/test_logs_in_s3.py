"""
Logs in S3: a server that speaks its protocol, read through Airflow's own connection, storage path and file system.

It needs what the lock does not pin, and is skipped without it; ``make test-s3`` installs that beside the lock and runs it.
Airflow's provider for Amazon brings some thirty packages, which those who keep their logs elsewhere never need.
"""

from __future__ import annotations

import gzip
import json
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from include.simulation.monolog_files import START, write_log
from include.warehouse.migration import upgrade
from tests.orchestration.read_logs import NOW, ingest, plan, stored, told

boto3 = pytest.importorskip("boto3", reason="not pinned: make test-s3")
server = pytest.importorskip("moto.server", reason="not pinned: make test-s3")
pytest.importorskip("airflow.providers.amazon.aws.fs.s3", reason="not pinned: make test-s3")

CONNECTION = "servicetitan_logs"


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """Yield the address of an S3."""
    running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    running.start()
    host, port = running.get_host_and_port()
    yield f"http://{host}:{port}"
    running.stop()


@pytest.fixture
def dsn(make_database: Callable[..., str]) -> str:
    """Return a migrated database."""
    dsn = make_database("s3")
    upgrade(dsn)
    return dsn


@pytest.fixture
def bucket(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return an empty bucket, which `CONNECTION` leads to."""
    monkeypatch.setenv(
        f"AIRFLOW_CONN_{CONNECTION.upper()}",
        json.dumps(
            {
                "conn_type": "aws",
                "login": "key",
                "password": "secret",
                "extra": {"endpoint_url": endpoint, "region_name": "us-east-1"},
            }
        ),
    )
    store = boto3.resource(
        "s3", endpoint_url=endpoint, aws_access_key_id="key", aws_secret_access_key="secret", region_name="us-east-1"
    )
    return store.create_bucket(Bucket=f"logs-{uuid.uuid4()}")


def test_files_and_archives_are_read_once(dsn: str, tmp_path: Path, bucket: Any) -> None:
    truths = [write_log(tmp_path / f"{seed}.log", plan(seed=seed)) for seed in (1, 2)]
    bucket.put_object(Key="hub/servicetitan-1.log", Body=(tmp_path / "1.log").read_bytes())
    bucket.put_object(Key="hub/servicetitan-2.log.gz", Body=gzip.compress((tmp_path / "2.log").read_bytes()))

    done = [ingest(dsn, f"s3://{bucket.name}/hub/servicetitan-*", connection=CONNECTION) for _ in range(2)]

    assert stored(dsn) == told(*truths)
    assert [each.missing for each in done] == [[], []]
    assert [each.counts["files"] for each in done] == [2, 2]
    assert done[1].counts.get("requests", 0) == 0


def test_an_object_that_was_put_anew_and_longer_goes_on_where_it_ended(dsn: str, tmp_path: Path, bucket: Any) -> None:
    truth = write_log(tmp_path / "whole.log", plan())
    whole = (tmp_path / "whole.log").read_bytes()
    url = f"s3://{bucket.name}/servicetitan.log"

    for size in (len(whole) // 3, len(whole) // 2, len(whole)):  # in the middle of a line, twice
        bucket.put_object(Key="servicetitan.log", Body=whole[:size])
        ingest(dsn, url, connection=CONNECTION, now=NOW if size == len(whole) else START)

    assert stored(dsn) == told(truth)


def test_what_is_not_there_is_told(dsn: str, tmp_path: Path, bucket: Any) -> None:
    write_log(tmp_path / "one.log", plan())
    bucket.put_object(Key="one.log", Body=(tmp_path / "one.log").read_bytes())

    done = ingest(
        dsn,
        f"s3://{bucket.name}/one.log",
        f"s3://{bucket.name}/other-*.log",
        "s3://no-such-bucket/a.log",
        connection=CONNECTION,
    )

    assert done.is_available
    assert done.counts["requests"] > 0
    assert [line.split(": ")[0] for line in done.missing] == [
        f"s3://{bucket.name}/other-*.log",
        "s3://no-such-bucket/a.log",
    ]
    assert "secret" not in str(done.missing)


def test_a_store_that_refuses_is_told_in_one_line(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        "AIRFLOW_CONN_NOBODY_LISTENS",
        json.dumps(
            {
                "conn_type": "aws",
                "login": "key",
                "password": "secret",
                "extra": {"endpoint_url": "http://127.0.0.1:9", "region_name": "us-east-1"},
            }
        ),
    )

    done = ingest(dsn, "s3://some-logs/servicetitan-*.log", connection="nobody_listens")

    assert not done.is_available
    (line,) = done.missing
    assert line.startswith("s3://some-logs/servicetitan-*.log: cannot be looked at: ")
    assert "\n" not in line
    assert "secret" not in line


def test_the_error_file_is_not_read_while_its_main_file_is_away(dsn: str, tmp_path: Path, bucket: Any) -> None:
    """A file is known by the name that the policy has for it, without the connection that Airflow writes into its URL."""
    truth = write_log(tmp_path / "main.log", plan(), errors_to=tmp_path / "errors.log")
    bucket.put_object(Key="servicetitan.log", Body=(tmp_path / "main.log").read_bytes())
    ingest(dsn, f"s3://{bucket.name}/servicetitan*.log", connection=CONNECTION)
    bucket.delete_objects(Delete={"Objects": [{"Key": "servicetitan.log"}]})
    bucket.put_object(Key="servicetitan_errors.log", Body=(tmp_path / "errors.log").read_bytes())

    done = ingest(dsn, f"s3://{bucket.name}/servicetitan*.log", connection=CONNECTION)

    assert done.counts["error_copies"] == 1
    assert stored(dsn) == told(truth)

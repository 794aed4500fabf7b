"""Log files for the tests of reading them: read once more, and what is stored beside what the writer knows."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from include.orchestration.log_ingestion import LogIngestion, ingest_logs
from include.simulation.monolog_files import START, LogPlan, LogTruth
from include.sync_health.measuring_policies import ApiCallsPolicy

NOW = START + timedelta(days=30)
"""So late that no request waits for its answer any more; at `START` all of them do."""

CHUNK = 64 << 10


def ingest(
    dsn: str,
    *patterns: str | Path,
    chunk_bytes: int = CHUNK,
    now: datetime = NOW,
    connection: str | None = None,
) -> LogIngestion:
    """Read what is new in the files, once."""
    return ingest_logs(
        dsn,
        policy=ApiCallsPolicy(logs=tuple(map(str, patterns)), logs_connection=connection),
        names={"1001": ("production", "7")},
        zone=UTC,
        clock=lambda: now,
        chunk_bytes=chunk_bytes,
    )


def stored(dsn: str) -> dict[str, Any]:
    """Return what is counted, in the shape of the truth."""
    with psycopg.connect(dsn) as conn:
        rows = conn.execute(
            "SELECT hour, credential_id, endpoint, status_code, requests, errors, retries, rate_limited, circuit_opened,"
            " response_count, response_ms_sum FROM monitoring.api_call_hourly WHERE source = 'log'"
        ).fetchall()
    found: dict[str, Any] = {name: Counter() for name in ("requests", "errors", "retries", "rate", "circuit", "times")}
    for hour, credential, endpoint, status, *numbers, _ in rows:
        key = (hour.astimezone(UTC), credential, endpoint, status)
        for name, key_of, number in zip(found, (key, key, key[:2], key[:2], key[:2], key), numbers, strict=True):
            if number:
                found[name][key_of] += number
    found["milliseconds"] = sum(row[-1] for row in rows)
    return found


def told(*truths: LogTruth) -> dict[str, Any]:
    """Return the truth of several files in the same shape."""
    found: dict[str, Any] = {name: Counter() for name in ("requests", "errors", "retries", "rate", "circuit", "times")}
    milliseconds = 0.0
    for truth in truths:
        for name, counter in zip(
            found,
            (
                truth.requests,
                truth.errors,
                truth.retries,
                truth.rate_limited,
                truth.circuit_opened,
                Counter({key: len(times) for key, times in truth.times_ms.items()}),
            ),
            strict=True,
        ):
            found[name].update(counter)
        milliseconds += sum(sum(times) for times in truth.times_ms.values())
    return {**found, "milliseconds": pytest.approx(milliseconds)}


def plan(**changes: Any) -> LogPlan:
    """Return the plan of a file of some chunks."""
    return LogPlan(**{"lines": 2_000, "credentials": 8, **changes})

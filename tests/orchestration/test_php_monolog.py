"""Files that a real Monolog wrote, from a real PHP, read as the monitor reads them: what was planned is what is counted."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
import pytest

from include.orchestration.log_ingestion import LogIngestion, ingest_logs
from include.simulation.monolog_files import SECRETS
from include.sync_health.measuring_policies import ApiCallsPolicy
from include.sync_health.monolog_lines import MAX_LINE_BYTES
from include.warehouse.migration import upgrade
from tests.orchestration.read_logs import CHUNK, NOW, stored, told
from tests.php.client_plan import ClientPlan, planned
from tests.php.real_php import run_php

DAY_FIRST, DAY_LAST = "Etc/GMT+12", "Pacific/Kiritimati"
"""Zones 26 hours apart: at any moment it is an earlier day in the first one than in the last one."""


@pytest.fixture
def dsn(make_database: Callable[..., str]) -> str:
    """A migrated database."""
    dsn = make_database("logs")
    upgrade(dsn)
    return dsn


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """
    One way to log.

    Args:
        plan: what is logged.
        setup: of Monolog, see `client_log.php`.
        timezone: PHP's.
        zone: the policy's, for dates that name none.
    """

    plan: ClientPlan = field(default_factory=ClientPlan)
    setup: dict[str, Any] = field(default_factory=dict)
    timezone: str = "UTC"
    zone: str = "UTC"


def ingest(dsn: str, folder: Path, *, zone: str = "UTC", now: datetime = NOW, chunk_bytes: int = CHUNK) -> LogIngestion:
    """Read what is new in all files of a folder, as the policy would name them."""
    return ingest_logs(
        dsn,
        policy=ApiCallsPolicy(logs=(f"{folder}/servicetitan*.log",)),
        names={"1001": ("production", "7")},
        zone=ZoneInfo(zone),
        clock=lambda: now,
        chunk_bytes=chunk_bytes,
    )


def to_files(folder: Path, plan: ClientPlan, **setup: Any) -> dict[str, Any]:
    """Return a plan for PHP: a main file and one of errors."""
    files = {"main": str(folder / "servicetitan.log"), "errors": str(folder / "servicetitan_errors.log")}
    level = "debug" if plan.is_debug else "info"
    return files | {
        "level": level,
        "microseconds": plan.is_fine,
        "processors": ["ProcessId"],
        "events": planned(plan).events,
        **setup,
    }


NOBODY: dict[str, Any] = {"processors": []}
WAYS = [
    pytest.param(Way(), id="as Monolog has it"),
    pytest.param(Way(setup={"formatter": {"stacktraces": True}}), id="with stack traces"),
    pytest.param(
        Way(setup={"formatter": {"ignore_empty": True}}), id="without an empty context, and without an empty extra"
    ),
    pytest.param(
        Way(setup={"formatter": {"escape_slashes": True, "escape_unicode": True}}), id="slashes and letters escaped"
    ),
    pytest.param(
        Way(plan=ClientPlan(is_fine=False), timezone="America/New_York"),
        id="whole seconds, with the offset of New York",
    ),
    pytest.param(
        Way(plan=ClientPlan(start=datetime(2025, 11, 2, 5, 55, tzinfo=UTC)), timezone="America/New_York"),
        id="the hour that New York repeats in autumn",
    ),
    pytest.param(
        Way(setup={"formatter": {"date_format": "Y-m-d H:i:s.u"}}, timezone="Asia/Kolkata", zone="Asia/Kolkata"),
        id="dates without an offset, in the zone of the policy",
    ),
    pytest.param(Way(setup={"handler": "fingers_crossed"}), id="nothing until an error, as Symfony has it by default"),
    pytest.param(Way(plan=ClientPlan(is_debug=False)), id="no answers, by the level: no status, no time"),
    pytest.param(Way(plan=ClientPlan(told="duration_ms")), id="milliseconds told"),
    pytest.param(Way(plan=ClientPlan(told="response_time")), id="response times told"),
    pytest.param(Way(plan=ClientPlan(told="duration")), id="seconds told"),
    pytest.param(Way(setup={"processors": ["Uid", "Hostname"]}), id="the process told by a uid, and its host"),
    pytest.param(
        Way(setup={"processors": ["PsrLogMessage", "MemoryUsage", "Web", "Introspection", "ProcessId"]}),
        id="every processor that Symfony may add",
    ),
    pytest.param(Way(plan=ClientPlan(is_smooth=True), setup=NOBODY), id="nobody tells the process, one call at a time"),
]


@pytest.mark.parametrize("way", WAYS)
def test_what_monolog_wrote_is_counted_as_it_was_planned(dsn: str, tmp_path: Path, way: Way) -> None:
    """Every line is understood, the error file counts nothing twice, and a second look counts nothing."""
    planned_now = planned(way.plan)
    run_php("client_log.php", to_files(tmp_path, way.plan, **way.setup), timezone=way.timezone)
    errors = (tmp_path / "servicetitan_errors.log").read_bytes().splitlines() if planned_now.errors else []

    done, again = (ingest(dsn, tmp_path, zone=way.zone) for _ in range(2))

    assert stored(dsn) == told(planned_now.truth)
    assert len(errors) == planned_now.errors
    assert done.counts["error_copies"] == bool(errors)
    odd = ("blank", "not_json", "broken", "not_utf8", "too_long", "no_time", "ids_unknown")
    assert {name: done.counts[name] for name in ("lines", "entries", *odd)} == {
        "lines": planned_now.truth.lines,
        "entries": planned_now.entries,
        **dict.fromkeys(odd, 0),
    }
    assert again.counts["lines"] == 0


def test_arrays_of_lines_count_as_lines_do(dsn: str, tmp_path: Path) -> None:
    """Monolog's BATCH_MODE_JSON: forty records in one line, which may be longer than a chunk of these tests."""
    plan = ClientPlan()
    run_php("client_log.php", to_files(tmp_path, plan, handler="batches"))

    done = ingest(dsn, tmp_path, chunk_bytes=2 * MAX_LINE_BYTES)

    assert stored(dsn) == told(planned(plan).truth)
    assert done.counts["lines"] == -(-len(planned(plan).events) // 40)
    assert done.counts["entries"] == planned(plan).entries
    assert done.counts["broken"] == 0


@pytest.mark.parametrize("option", ["no_line_feed", "pretty"])
def test_what_is_not_one_record_in_one_line_counts_as_no_call(dsn: str, tmp_path: Path, option: str) -> None:
    run_php("client_log.php", to_files(tmp_path, ClientPlan(calls=20), formatter={option: True}))

    done = ingest(dsn, tmp_path)

    assert done.counts["entries"] == 0
    assert not any(stored(dsn).values())


def test_processes_that_write_one_file_at_once(dsn: str, tmp_path: Path) -> None:
    """Each has its own calls, of the same credentials and endpoints at the same times: its number tells them apart."""
    plans = [ClientPlan(seed=seed, gap=0.8) for seed in (1, 2, 3)]
    meeting = tmp_path / "meeting"
    meeting.mkdir()
    together = [to_files(tmp_path, plan, together=[str(meeting), len(plans)]) for plan in plans]
    with ThreadPoolExecutor(len(plans)) as threads:
        answers = list(threads.map(lambda each: run_php("client_log.php", each), together))

    ingest(dsn, tmp_path)

    lines = (tmp_path / "servicetitan.log").read_text(encoding="utf-8").splitlines()
    writers = [json.loads(line)["extra"]["process_id"] for line in lines]
    assert set(writers) == {answer["process"] for answer in answers}
    assert sum(one != other for one, other in pairwise(writers)) > len(plans), "they wrote one after the other"
    assert stored(dsn) == told(*(planned(plan).truth for plan in plans))


def test_a_file_per_day_of_which_only_the_newest_stays(dsn: str, tmp_path: Path) -> None:
    """RotatingFileHandler, over midnight: what it deletes was read before, and its errors are not counted for themselves."""
    today, tomorrow = ClientPlan(seed=1), ClientPlan(seed=2, start=ClientPlan().start + timedelta(hours=5))
    rotating = {"handler": "rotating", "max_files": 1}

    run_php("client_log.php", to_files(tmp_path, today, **rotating), timezone=DAY_FIRST)
    first = sorted(path.name for path in tmp_path.iterdir())
    ingest(dsn, tmp_path)
    run_php("client_log.php", to_files(tmp_path, tomorrow, **rotating), timezone=DAY_LAST)
    second = sorted(path.name for path in tmp_path.iterdir())
    ingest(dsn, tmp_path)

    assert (len(first), len(second), set(first) & set(second)) == (2, 2, set())
    assert stored(dsn) == told(planned(today).truth, planned(tomorrow).truth)


def test_a_file_that_is_written_to_between_two_looks(dsn: str, tmp_path: Path) -> None:
    plans = [ClientPlan(seed=seed, start=ClientPlan().start + timedelta(hours=seed)) for seed in (1, 2, 3)]
    for plan in plans:
        run_php("client_log.php", to_files(tmp_path, plan))
        ingest(dsn, tmp_path, now=plan.start)

    ingest(dsn, tmp_path)

    assert stored(dsn) == told(*(planned(plan).truth for plan in plans))


def test_the_logger_as_the_application_calls_it(dsn: str, tmp_path: Path) -> None:
    """With the time at which it is called: only the hours are not known before."""
    plan = ClientPlan(is_live=True)
    before = datetime.now(UTC)
    run_php("client_log.php", to_files(tmp_path, plan), timezone="America/New_York")
    after = datetime.now(UTC)

    ingest(dsn, tmp_path, now=after + timedelta(days=1))

    wanted, found = told(planned(plan).truth), stored(dsn)
    hours = {key[0] for counter in found.values() if isinstance(counter, Counter) for key in counter}
    assert hours <= {at.replace(minute=0, second=0, microsecond=0) for at in (before, after)}
    for name in ("requests", "errors", "retries", "rate", "circuit", "times"):
        assert _without_hours(found[name]) == _without_hours(wanted[name]), name
    assert 0 < found["milliseconds"] < (after - before) / timedelta(milliseconds=1)


def _without_hours(counter: Counter[Any]) -> Counter[Any]:
    found: Counter[Any] = Counter()
    for (_, *rest), number in counter.items():
        found[tuple(rest)] += number
    return found


def test_no_secret_of_a_line_is_stored(dsn: str, tmp_path: Path) -> None:
    run_php("client_log.php", to_files(tmp_path, ClientPlan(calls=400), formatter={"stacktraces": True}))
    written = (tmp_path / "servicetitan.log").read_text(encoding="utf-8")
    ingest(dsn, tmp_path)

    assert all(secret in written for secret in SECRETS)
    with psycopg.connect(dsn) as conn:
        tables = [name for (name,) in conn.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'monitoring'")]
        assert "api_call_hourly" in tables
        for table in tables:
            kept = str(conn.execute(f"SELECT t::text FROM monitoring.{table} AS t".encode()).fetchall())
            assert not [secret for secret in SECRETS if secret in kept], table

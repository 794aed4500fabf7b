"""Two checks at the same moment: what one opens while the other is looking is not judged by what that has read."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from include.sync_health.checks import DATA_QUALITY, SYNC_FAILURES, Check
from include.warehouse.monitoring_session import ALERTS_LOCK
from tests.orchestration.monitored_world import NOON, TICK, MonitoredWorld, monitored_world

MINUTE = timedelta(minutes=1)


@pytest.fixture
def world(
    make_database: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[MonitoredWorld]:
    """A world whose newest sync lost most of its records."""
    with monitored_world(make_database, monkeypatch, tmp_path) as made:
        end = NOON - 10 * MINUTE
        made.hub.add_run(made.credential, started_at=end - MINUTE, completed_at=end, records=(100, 40, 60))
        yield made


@contextmanager
def alerts_held(world: MonitoredWorld) -> Iterator[Callable[[int], None]]:
    """Hold the alerts, so that who evaluates waits for them, in the order of coming; yields what waits for so many."""
    with psycopg.connect(world.monitoring_dsn, autocommit=True) as conn:
        conn.execute("SELECT pg_advisory_lock(%s)", (ALERTS_LOCK,))

        def wait_for(number: int) -> None:
            deadline = time.monotonic() + 60
            waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
            while conn.execute(waiting).fetchone() != (number,):
                assert time.monotonic() < deadline
                time.sleep(0.02)

        yield wait_for
        conn.execute("SELECT pg_advisory_unlock(%s)", (ALERTS_LOCK,))


def test_what_another_check_opens_meanwhile_is_left_to_the_next_tick(world: MonitoredWorld) -> None:
    """The 15-minute check has read no record counts, since no alert needed them; it can see all the same."""

    def in_turn(pool: ThreadPoolExecutor, check: Check) -> Future[dict[str, Any]]:
        return pool.submit(world.tick, NOON, check=check)

    with ThreadPoolExecutor() as pool:
        with alerts_held(world) as wait_for:
            quality = in_turn(pool, DATA_QUALITY)
            wait_for(1)
            failures = in_turn(pool, SYNC_FAILURES)
            wait_for(2)
        assert quality.result()["opened"] == 1
        assert failures.result()["blind"] is None

    assert world.tick(NOON + TICK)["blind"] is None
    alerts = world.rows("SELECT rule, last_as_of FROM monitoring.alert")
    assert [(row["rule"], row["last_as_of"]) for row in alerts] == [("data_quality", NOON + TICK)]

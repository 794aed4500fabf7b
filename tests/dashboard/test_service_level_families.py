"""Error budgets as metrics: read once in a while, from the days that are stored."""

from __future__ import annotations

import logging
from datetime import UTC, date, datetime, timedelta
from typing import Any

import psycopg
import pytest

from include.dashboard.exposition import written
from include.dashboard.service_level_families import FRESH, BudgetFamilies
from include.sync_health.policy import Policy
from tests.dashboard.planted_metrics import Series, parsed

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)


def plant_day(conn: psycopg.Connection[Any], day: date, *, completed: int, failed: int) -> None:
    """Write a day of syncs that brought a hundred records, all good, and commit."""
    conn.execute(
        "INSERT INTO monitoring.quality_daily (day, credential_id, data_type, environment, syncs_total, syncs_completed,"
        " syncs_clean, syncs_partial, syncs_failed, syncs_cancelled, syncs_open, records_processed, records_successful,"
        " records_failed, quality_score, inconsistent, score_low, score_high, is_final, computed_at, calc_version)"
        " VALUES (%s, '7', 'customers', 'production', %s, %s, %s, 0, %s, 0, 0, 100, 100, 0, 100, 0, 98, 100, true, now(), 1)",
        (day, completed + failed, completed, completed, failed),
    )
    conn.commit()


def read(families: BudgetFamilies, conn: psycopg.Connection[Any]) -> Series:
    """Return what is told."""
    return parsed(written(families.get(conn, policy=Policy(), now=NOW)).decode())


def test_budgets_are_told(conn: psycopg.Connection[Any]) -> None:
    """By hand: of 400 syncs, 99 % may not fail, which is 4; 3 have, all of them yesterday among 100."""
    for back, failed in ((1, 3), (2, 0), (3, 0), (4, 0)):
        plant_day(conn, NOW.date() - timedelta(days=back), completed=100 - failed, failed=failed)

    found = read(BudgetFamilies(), conn)

    labels = {"environment": "production", "objective": "sync_completion"}
    syncs = frozenset(labels.items())
    assert found["servicetitan_service_level_budget_left_percent", syncs] == 25
    assert found["servicetitan_service_level_achieved_percent", syncs] == 99.25
    assert found["servicetitan_service_level_objective_percent", syncs] == 99
    burn = "servicetitan_service_level_burn_factor"
    assert found[burn, frozenset({**labels, "window": "3d"}.items())] == 1
    assert found[burn, frozenset({**labels, "window": "1d"}.items())] == 3
    quality = frozenset({**labels, "objective": "quality"}.items())
    assert found["servicetitan_service_level_budget_left_percent", quality] == 100
    # No call of the API is known: absent, not 100.
    calls = frozenset({**labels, "objective": "api_latency"}.items())
    assert ("servicetitan_service_level_budget_left_percent", calls) not in found


def test_budgets_are_read_once_in_a_while(conn: psycopg.Connection[Any]) -> None:
    """Exactly after `FRESH` they are read again."""
    seconds = 0.0
    families = BudgetFamilies(clock=lambda: seconds)
    assert read(families, conn) == {}
    plant_day(conn, NOW.date() - timedelta(days=1), completed=100, failed=0)

    seconds = FRESH.total_seconds() - 0.1
    assert read(families, conn) == {}
    seconds = FRESH.total_seconds()
    assert read(families, conn) != {}


def test_budgets_that_cannot_be_read_are_told_in_the_log(
    conn: psycopg.Connection[Any], caplog: pytest.LogCaptureFixture
) -> None:
    """And leave the session as it was: all other figures are still told."""
    conn.execute("DROP TABLE monitoring.quality_daily CASCADE")
    conn.commit()

    with caplog.at_level(logging.ERROR, "servicetitan.dashboard"):
        assert read(BudgetFamilies(), conn) == {}

    assert "the error budgets cannot be read" in caplog.text
    assert conn.info.transaction_status is psycopg.pq.TransactionStatus.IDLE

"""
What is left of the error budgets, as metrics.

Budgets are of whole days, and reading four weeks costs more than all other figures together: this process reads them once
in a while, and tells what it read meanwhile.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from include.dashboard.exposition import Family, Number
from include.dashboard.monitor_families import gauge
from include.sync_health.errors import StorageError
from include.sync_health.redaction import clean

if TYPE_CHECKING:
    import psycopg

    from include.sync_health.policy import Policy
    from include.sync_health.service_levels import Budget

log = logging.getLogger("servicetitan.dashboard")

FRESH = timedelta(minutes=15)
"""For so long budgets are told again: the days that they count are recomputed every six hours, or by hand."""

STATEMENT_TIMEOUT = "30s"
LABELS = ("environment", "objective")


class BudgetFamilies:
    """
    The families of this process; used by one thread at a time.

    Args:
        clock: seconds that only ever rise.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._until: float | None = None
        self._families: list[Family] = []

    def get(self, conn: psycopg.Connection[Any], *, policy: Policy, now: datetime) -> list[Family]:
        """
        Return the families; none for `FRESH` after they could not be read, which the log tells: all else still can be.

        Args:
            conn: a session without an open transaction; nothing is written.
            policy: its service levels and reporting time zone.
            now: the wall clock, aware.
        """
        began = self._clock()
        if self._until is None or began >= self._until:
            self._families = self._read(conn, policy=policy, now=now)
            self._until = began + FRESH.total_seconds()
        return self._families

    def _read(self, conn: psycopg.Connection[Any], *, policy: Policy, now: datetime) -> list[Family]:
        from include.sync_health.service_levels import LONG_DAYS, SHORT_DAYS
        from include.warehouse.service_level_reader import read_budgets

        try:
            with conn.transaction():
                conn.execute("SELECT set_config('statement_timeout', %s, true)", (STATEMENT_TIMEOUT,))
                budgets = read_budgets(conn, levels=policy.service_levels, timezone=policy.reporting_timezone, now=now)
        except StorageError as error:
            log.error("the error budgets cannot be read, and are not told: %s", clean(str(error), limit=300))
            return []
        return budget_families(budgets, long_days=LONG_DAYS, short_days=SHORT_DAYS)


def budget_families(budgets: Sequence[Budget], *, long_days: int, short_days: int) -> list[Family]:
    """
    Return the budgets as families; what no event tells has no series.

    Args:
        budgets: one of each objective and environment.
        long_days, short_days: of their burns.
    """

    def told(values: Sequence[Number | None]) -> list[tuple[tuple[str, ...], Number]]:
        return [
            ((budget.environment, str(budget.objective)), value)
            for budget, value in zip(budgets, values, strict=True)
            if value is not None
        ]

    burns = [
        ((*labels, f"{days}d"), value)
        for days, values in (
            (long_days, [budget.burn_long for budget in budgets]),
            (short_days, [budget.burn_short for budget in budgets]),
        )
        for labels, value in told(values)
    ]
    return [
        gauge(
            "servicetitan_service_level_budget_left_percent",
            "What is left of an error budget; negative once it is overspent.",
            LABELS,
            told([budget.left for budget in budgets]),
        ),
        gauge(
            "servicetitan_service_level_achieved_percent",
            "What counts for an objective and was good, over its window.",
            LABELS,
            told([budget.events.achieved for budget in budgets]),
        ),
        gauge(
            "servicetitan_service_level_objective_percent",
            "What an objective asks for.",
            LABELS,
            told([budget.target for budget in budgets]),
        ),
        gauge(
            "servicetitan_service_level_burn_factor",
            "How many times as fast as it lasts the budget is spent, over the last whole days.",
            (*LABELS, "window"),
            burns,
        ),
    ]

"""``/metrics`` of this process: from the monitoring database and the policy in force to the text that is served."""

from __future__ import annotations

import time
import zlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from include.dashboard.exposition import Family, within_cap, written
from include.dashboard.metric_families import metric_families
from include.dashboard.monitor_families import computed_families, monitor_families
from include.dashboard.service_level_families import BudgetFamilies
from include.sync_health.checks import CHECKS

if TYPE_CHECKING:
    import psycopg

    from include.sync_health.policy import Policy

COMPRESSION = 1
"""zlib's fastest: the text repeats itself so much that it shrinks to some percent all the same."""


@dataclass(frozen=True)
class MetricsPage:
    """
    A page as it is served.

    Args:
        text: the exposition.
    """

    text: bytes

    @cached_property
    def compressed(self) -> bytes:
        """The same as gzip; made once, for the first who asks for it."""
        packer = zlib.compressobj(COMPRESSION, wbits=zlib.MAX_WBITS | 16)
        return packer.compress(self.text) + packer.flush()


class MetricsSource:
    """Computes the pages of this process, one at a time."""

    def __init__(self) -> None:
        self._budgets = BudgetFamilies()

    def page(self) -> tuple[MetricsPage, timedelta]:
        """
        Return the page as it is now, and for how long it may be told.

        Raises:
            MonitorError: no connection, no policy, the database unreachable, or its schema missing; one line.
        """
        from include.dashboard.surroundings import monitoring_session, policy_in_force

        began = time.perf_counter()
        with monitoring_session() as conn:
            policy, mistake = policy_in_force(conn)
            now = datetime.now(UTC)
            budgets = self._budgets.get(conn, policy=policy, now=now)
            figures = figures_of(conn, policy=policy, policy_is_wrong=mistake is not None, now=now)
        seconds = time.perf_counter() - began
        return MetricsPage(figures.written(budgets=budgets, seconds=seconds)), policy.metrics.cache


@dataclass(frozen=True, slots=True)
class Figures:
    """
    What a page tells, without what takes its time to be told.

    Args:
        own: families of the monitor itself; no cap is on them.
        kept: families of the contract that fit within the cap.
        dropped: series of those that did not.
    """

    own: list[Family]
    kept: list[Family]
    dropped: int

    def written(self, *, budgets: list[Family], seconds: float) -> bytes:
        """
        Return the exposition.

        Args:
            budgets: families of the service levels; they are few.
            seconds: that it took to read and compute all of it.
        """
        series = sum(family.series for family in self.kept)
        computed = computed_families(series=series, dropped=self.dropped, seconds=seconds)
        return written([*self.own, *computed, *budgets, *self.kept])


def figures_of(conn: psycopg.Connection[Any], *, policy: Policy, policy_is_wrong: bool, now: datetime) -> Figures:
    """
    Return the figures by a policy.

    Args:
        conn: a session with the monitoring database, without an open transaction.
        policy: gives monitoring level and series cap.
        policy_is_wrong: it is not the one on disk.
        now: the wall clock, aware.

    Raises:
        StorageError: the schema is missing, or the database went away.
    """
    from include.warehouse.metric_reader import read_metric_rows

    level = policy.monitoring_level
    rows = read_metric_rows(conn, checks=tuple(CHECKS), level=level, now=now)
    kept, dropped = within_cap(metric_families(rows, level=level, now=now), cap=policy.metrics.series_cap)
    intervals = {check.name: check.every for check in CHECKS.values()}
    own = monitor_families(rows, intervals=intervals, policy_is_wrong=policy_is_wrong, now=now)
    return Figures(own, kept, dropped)

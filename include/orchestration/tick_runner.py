"""
From tick to tick over a period, in process and without Airflow: for tests, the demo's history and replays.

The path is the DAGs': each check's window is evaluated by `evaluate_check`, each channel with something due is drained
by `drain_channel`. Only the schedule is this module's own: every check at its cron's instants, in the order in which
the scheduler would start them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from include.orchestration.evaluation import Outcome, evaluate_check
from include.orchestration.evaluation_request import Evaluation
from include.sync_health.checks import CHECKS, Check
from include.sync_health.policy import Policy
from include.sync_health.windows import Window, run_mode

if TYPE_CHECKING:
    from include.orchestration.delivery import Drain, DrainResult

LAG = timedelta(seconds=30)
"""How long after a window's end its run begins, as a scheduler does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticked:
    """One evaluation of the period: which check, as of when, and what it did; then what was delivered."""

    check: Check
    as_of: datetime
    outcome: Outcome
    drained: tuple[DrainResult, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TickRunner:
    """
    Runs checks from tick to tick.

    Args:
        source_conninfo, monitoring_conninfo: libpq conninfo of both databases; ours must be migrated.
        policy: in force the whole time.
        checks: which of them; all by default.
        configured: kinds of channel that have a connection, of ``slack`` and ``email``.
        drain: returns what drains a channel (its key, such as ``slack:#ops``) at an instant; None delivers nothing: the
            messages stay due, and the outbox is what to look at.
        before_tick: called with each run's wall clock before it, such as a simulated world's ``advance``.
        lag: how long after a window's end its run begins.
        is_backfill: True evaluates every window as history.
    """

    source_conninfo: str
    monitoring_conninfo: str
    policy: Policy
    checks: Sequence[Check] = field(default_factory=lambda: tuple(CHECKS.values()))
    configured: Sequence[str] = ("slack", "email")
    drain: Callable[[str, datetime], Drain] | None = None
    before_tick: Callable[[datetime], object] | None = None
    lag: timedelta = LAG
    is_backfill: bool = False

    def run(self, *, after: datetime, until: datetime) -> Iterator[Ticked]:
        """
        Yield each evaluation whose window ends in ``(after, until]``, in order; both aware.

        Raises:
            StorageError, SourceError: as `evaluate_check` does on its last try: the source's troubles are alerts.
        """
        for as_of, check in due_windows(self.checks, after=after, until=until):
            yield self.tick(check, as_of=as_of)

    def tick(self, check: Check, *, as_of: datetime) -> Ticked:
        """Evaluate one window of one check, then drain every channel that has something due."""
        now = as_of + self.lag
        if self.before_tick is not None:
            self.before_tick(now)
        outcome = evaluate_check(
            Evaluation(
                check=check,
                source_conninfo=self.source_conninfo,
                monitoring_conninfo=self.monitoring_conninfo,
                policy=self.policy,
                window=Window(start=as_of - check.every, as_of=as_of),
                mode=run_mode(
                    as_of=as_of, now=now, is_backfill=self.is_backfill, horizon=self.policy.live_horizon[check.name]
                ),
                configured=self.configured,
                now=now,
            )
        )
        return Ticked(check=check, as_of=as_of, outcome=outcome, drained=tuple(self._drained(now)))

    def _drained(self, now: datetime) -> Iterator[DrainResult]:
        if self.drain is None or self.is_backfill:
            return
        from include.orchestration.delivery import drain_channel
        from include.warehouse.monitoring_session import connect
        from include.warehouse.outbox import due_channels

        with connect(self.monitoring_conninfo) as conn:
            channels = due_channels(conn, now=now)
        for channel in channels:
            yield drain_channel(self.drain(channel, now))


def due_windows(checks: Sequence[Check], *, after: datetime, until: datetime) -> Iterator[tuple[datetime, Check]]:
    """
    Yield the ends of the checks' windows in ``(after, until]``, the earliest first, the more frequent check first.

    A check's windows end at the multiples of its length since midnight UTC, or `Check.past` them, as its DAG's cron says.

    Raises:
        ValueError: ``after`` or ``until`` is naive.
    """
    if after.tzinfo is None or until.tzinfo is None:
        raise ValueError("after and until must be timezone-aware")
    ends: dict[datetime, list[Check]] = {}
    for check in sorted(checks, key=lambda each: each.every):
        end = _first_end(check, after=after.astimezone(UTC))
        while end <= until:
            ends.setdefault(end, []).append(check)
            end += check.every
    for end in sorted(ends):
        for check in ends[end]:
            yield end, check


def _first_end(check: Check, *, after: datetime) -> datetime:
    midnight = after.replace(hour=0, minute=0, second=0, microsecond=0)
    since = (after - midnight - check.past).total_seconds()
    passed = int(since // check.every.total_seconds())  # pendulum divides by no timedelta
    return midnight + (passed + 1) * check.every + check.past

"""The health check's part ``system_resources``: databases, the worker, the scheduler, and whether each check runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from include.sync_health.checks import SYNC_FAILURES
from include.sync_health.durations import describe
from include.sync_health.health import STALE_INTERVALS, HealthPart, HealthStatus, Unseen, worst_of
from include.sync_health.measuring_policies import HealthPolicy
from include.sync_health.windows import CLOCK_SKEW

NOT_CONFIGURED = "not_configured"
"""The status of a scheduler that nobody said where to ask of; it counts as healthy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseState:
    """
    What a database says of itself.

    Args:
        error: why it cannot be reached, fit to be shown; None: it can, and the rest says how it is.
        size_bytes: of the database; None where we may not know.
        is_standby: whether it follows another server; None where we may not know.
        lag: how far a standby is behind; None of a primary, and where nobody can tell.
        untold: what could not be told, and why, one clause each; fit to be shown.
    """

    error: str | None = None
    size_bytes: int | None = None
    is_standby: bool | None = None
    lag: timedelta | None = None
    untold: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """
    How much room there is.

    Args:
        of: of what, in words, such as ``the disk of temporary files``.
        total_bytes, free_bytes: what may be used, and what is left of it.
    """

    of: str
    total_bytes: int
    free_bytes: int

    @property
    def free_share(self) -> float:
        """In percent; 0 of no room at all."""
        return round(100 * self.free_bytes / self.total_bytes, 2) if self.total_bytes > 0 else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerState:
    """
    What Airflow's API server says.

    Args:
        is_healthy: whether the scheduler's heartbeat is fresh, as Airflow has it.
        heartbeat_at: the newest; aware; None where there was none.
        others: ``metadatabase``, ``dag_processor``, ``triggerer`` to what it says of them; None: not in use.
    """

    is_healthy: bool
    heartbeat_at: datetime | None
    others: Mapping[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class NotAsked:
    """
    The scheduler was not asked of.

    Args:
        reason: why, in one clause that is fit to be shown.
    """

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckState:
    """
    The newest live run of a check over everybody.

    Args:
        every: how often it is due.
        window_to: the end of the window of its newest run; aware; None where it never ran.
        blind: why that run could not see, one word; None where it could.
    """

    every: timedelta
    window_to: datetime | None = None
    blind: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """
    What was looked at; `Unseen` is what could not be.

    Args:
        source: the database of Hub Plus.
        monitoring: ours.
        disk, memory: of the machine that looked.
        scheduler: what the API server says of Airflow.
        checks: by name; all that are scheduled.
        scheduled_at: when the scheduler began the run that looks; None where a person did. It proves that it lives.
    """

    source: DatabaseState | Unseen
    monitoring: DatabaseState | Unseen
    disk: Space | Unseen
    memory: Space | Unseen
    scheduler: SchedulerState | NotAsked | Unseen
    checks: Mapping[str, CheckState] | Unseen
    scheduled_at: datetime | None = None


def resources_part(seen: Resources, *, policy: HealthPolicy, now: datetime) -> HealthPart:
    """
    Return how the resources are, which is the worst of these.

    - UNHEALTHY: a database cannot be reached; ours is a standby, which nobody can write; the scheduler's heartbeat is old,
      or Airflow's own database ails.
    - DEGRADED: a check has not run for more than `STALE_INTERVALS` of its intervals.
    - WARNING: the source is a standby that lags by more than ``max_lag``; less disk or memory is free than the policy wants;
      the DAG processor or the triggerer ails; a check never ran; more than the clocks' skew lies between a check and now.
    - UNKNOWN: what could not be looked at; a check whose newest run could not see. Only the size of a database is no more
      than a figure: where it is not known, that is said and nothing else.

    A scheduler that cannot be asked of is HEALTHY where it began this very run not long ago.

    Args:
        seen: what was looked at.
        policy: the thresholds.
        now: the wall clock, to judge ages by; aware.

    Returns:
        The part; details: source_database, monitoring_database, worker (disk, memory), scheduler, checks, each with a status
        of its own.
    """
    source, monitoring = _source(seen.source, policy=policy), _monitoring(seen.monitoring)
    disk = _space(seen.disk, least=policy.disk_free_share)
    memory = _space(seen.memory, least=policy.memory_free_share)
    scheduler = _scheduler(seen.scheduler, scheduled_at=seen.scheduled_at, now=now)
    checks = _checks(seen.checks, now=now)
    named = {
        "source database": source,
        "monitoring database": monitoring,
        "disk": disk,
        "memory": memory,
        "scheduler": scheduler,
        **(
            {"checks": checks}
            if isinstance(checks, HealthPart)
            else {f"check {name}": check for name, check in checks.items()}
        ),
    }
    return HealthPart(
        status=worst_of(part.status for part in named.values()),
        reasons=tuple(f"{name}: {reason}" for name, part in named.items() for reason in part.reasons),
        details={
            "source_database": _as_detail(source),
            "monitoring_database": _as_detail(monitoring),
            "worker": {"disk": _as_detail(disk), "memory": _as_detail(memory)},
            "scheduler": _as_detail(scheduler),
            "checks": (
                _as_detail(checks)
                if isinstance(checks, HealthPart)
                else {name: _as_detail(check) for name, check in checks.items()}
            ),
        },
    )


def _as_detail(part: HealthPart) -> dict[str, Any]:
    return {"status": part.label or str(part.status), **part.details}


def _source(seen: DatabaseState | Unseen, *, policy: HealthPolicy) -> HealthPart:
    if isinstance(seen, Unseen) or seen.error is not None:
        return _unreached(seen)
    status, reasons = HealthStatus.HEALTHY, list(seen.untold)
    if seen.is_standby is None or (seen.is_standby and seen.lag is None):
        status = HealthStatus.UNKNOWN
    elif seen.lag is not None and seen.lag > policy.max_lag:
        status = HealthStatus.WARNING
        reasons.append(f"this standby is {describe(seen.lag)} behind, more than {describe(policy.max_lag)}")
    return HealthPart(status=status, reasons=tuple(reasons), details=_of_database(seen))


def _monitoring(seen: DatabaseState | Unseen) -> HealthPart:
    if isinstance(seen, Unseen) or seen.error is not None:
        return _unreached(seen)
    status, reasons = HealthStatus.HEALTHY, list(seen.untold)
    if seen.is_standby:
        status = HealthStatus.UNHEALTHY
        reasons.append("it is a standby, which nobody can write; connect to the primary")
    elif seen.is_standby is None:
        status = HealthStatus.UNKNOWN
    return HealthPart(status=status, reasons=tuple(reasons), details=_of_database(seen))


def _unreached(seen: DatabaseState | Unseen) -> HealthPart:
    if isinstance(seen, Unseen):
        return seen.as_part
    return HealthPart(
        status=HealthStatus.UNHEALTHY, reasons=(seen.error or "it cannot be reached",), details={"reachable": False}
    )


def _of_database(seen: DatabaseState) -> dict[str, Any]:
    return {
        "reachable": True,
        "size_bytes": seen.size_bytes,
        "is_standby": seen.is_standby,
        "lag_seconds": None if seen.lag is None else round(seen.lag.total_seconds(), 1),
    }


def _space(seen: Space | Unseen, *, least: float) -> HealthPart:
    if isinstance(seen, Unseen):
        return seen.as_part
    is_low = seen.free_share < least
    return HealthPart(
        status=HealthStatus.WARNING if is_low else HealthStatus.HEALTHY,
        reasons=(f"{seen.free_share:g} % of {seen.of} is free, less than {least:g} %",) if is_low else (),
        details={
            "of": seen.of,
            "total_bytes": seen.total_bytes,
            "free_bytes": seen.free_bytes,
            "free_share": seen.free_share,
        },
    )


def _scheduler(seen: SchedulerState | NotAsked | Unseen, *, scheduled_at: datetime | None, now: datetime) -> HealthPart:
    if isinstance(seen, SchedulerState):
        return _asked(seen, now=now)
    if scheduled_at is not None and abs(now - scheduled_at) <= STALE_INTERVALS * SYNC_FAILURES.every:
        return HealthPart(
            status=HealthStatus.HEALTHY,
            reasons=(f"told by the run that it began; {seen.reason}",),
            details={"heartbeat_at": None, "run_began_at": scheduled_at.isoformat()},
        )
    if isinstance(seen, NotAsked):
        return HealthPart(
            status=HealthStatus.HEALTHY,
            label=NOT_CONFIGURED,
            reasons=(seen.reason,),
            details={"heartbeat_at": None},
        )
    return seen.as_part


def _asked(seen: SchedulerState, *, now: datetime) -> HealthPart:
    ailing = [name for name, status in sorted(seen.others.items()) if status not in (None, "healthy")]
    reasons = [f"{name.replace('_', ' ')} is not healthy" for name in ailing]
    status = HealthStatus.WARNING if ailing else HealthStatus.HEALTHY
    if "metadatabase" in ailing:
        status = HealthStatus.UNHEALTHY
    if not seen.is_healthy:
        status = HealthStatus.UNHEALTHY
        age = "none is known" if seen.heartbeat_at is None else f"the last was at {seen.heartbeat_at.isoformat()}"
        reasons.append(f"its heartbeat is missing: {age}")
    return HealthPart(
        status=status,
        reasons=tuple(reasons),
        details={
            "heartbeat_at": None if seen.heartbeat_at is None else seen.heartbeat_at.isoformat(),
            "heartbeat_age_seconds": (
                None if seen.heartbeat_at is None else max(0, round((now - seen.heartbeat_at).total_seconds()))
            ),
            **seen.others,
        },
    )


def _checks(seen: Mapping[str, CheckState] | Unseen, *, now: datetime) -> Mapping[str, HealthPart] | HealthPart:
    if isinstance(seen, Unseen):
        return seen.as_part
    return {name: _check(check, now=now) for name, check in seen.items()}


def _check(seen: CheckState, *, now: datetime) -> HealthPart:
    age = None if seen.window_to is None else now - seen.window_to
    status, reason = HealthStatus.HEALTHY, ""
    if age is None:
        status, reason = HealthStatus.WARNING, "it has never run; is its DAG paused?"
    elif age > STALE_INTERVALS * seen.every:
        status = HealthStatus.DEGRADED
        reason = f"its last window ended {describe(age)} ago, and one is due every {describe(seen.every)}"
    elif seen.blind is not None:
        status, reason = HealthStatus.UNKNOWN, f"its last run could not see: {seen.blind.replace('_', ' ')}"
    elif age < -CLOCK_SKEW:
        status, reason = HealthStatus.WARNING, f"its last window ends {describe(-age)} in the future"
    return HealthPart(
        status=status,
        reasons=(reason,) if reason else (),
        details={
            "last_window_to": None if seen.window_to is None else seen.window_to.isoformat(),
            "age_seconds": None if age is None else max(0, round(age.total_seconds())),
            "every_seconds": round(seen.every.total_seconds()),
            "blind": seen.blind,
        },
    )

"""The health check as a task: the report of a run, and where it is kept. The shell makes the same one, and keeps nothing."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from include.orchestration.health_look import HealthLook, conninfo_or_error, look
from include.orchestration.structured_logs import DecisionLog
from include.sync_health.errors import RequestError
from include.sync_health.health import STALE_INTERVALS, StoredHealth
from include.sync_health.windows import RunMode, run_mode

if TYPE_CHECKING:
    import psycopg

    from include.orchestration.check_tasks import RunFacts
    from include.sync_health.api_probes import ProbeResult

log = DecisionLog("servicetitan.health")


def check_health(facts: RunFacts, *, now: datetime | None = None) -> dict[str, Any]:
    """
    Make the report of a run of the 15-minute check, store it, and return its statuses and counts.

    The report is of the whole integration, whatever the run's Params narrow. A backfill, and a run whose window ended more
    than two intervals ago, look at the past, of which there is nothing to see; and of a wrong Param nobody knows what was
    meant: they store nothing, and ``skipped`` says why.

    Args:
        facts: the run.
        now: the wall clock, aware; read here when not given.

    Returns:
        ``{"skipped": why}``, or ``{"status", "parts": {part: status}, "probes": number}``.

    Raises:
        MonitorError: our database cannot be reached, or the policy is wrong and no good one is remembered.
        SourceError: the source was in passing trouble and this is not the last try.
    """
    from include.orchestration.check_tasks import PARAMS
    from include.orchestration.policy_file import storage_connection
    from include.orchestration.run_params import require_known_params
    from include.orchestration.settings import policy_in_force, postgres_conninfo
    from include.sync_health.checks import SYNC_FAILURES
    from include.warehouse.health_snapshots import store_health
    from include.warehouse.monitoring_session import connect

    now = now or datetime.now(UTC)
    every = SYNC_FAILURES.every
    try:
        require_known_params(facts.params, known=PARAMS)
        window = facts.window(every)
        horizon = STALE_INTERVALS * every
        mode = run_mode(as_of=window.as_of, now=now, is_backfill=facts.is_backfill, horizon=horizon)
    except RequestError as error:
        return _skipped(f"its Params are wrong: {error}")
    if mode is RunMode.HISTORICAL:
        return _skipped("it looks at the past, whose health nobody can see any more")
    storage = postgres_conninfo(storage_connection())
    policy = policy_in_force(storage_conninfo=storage, now=now).loaded.policy
    looked = look(
        HealthLook(
            policy=policy,
            as_of=window.as_of,
            now=now,
            source_conninfo=conninfo_or_error(policy.source.connection),
            monitoring_conninfo=storage,
            scheduled_at=_scheduled_at(facts),
            last_try=facts.last_try,
        )
    )
    report = looked.report
    with connect(storage) as conn:
        store_health(
            conn,
            StoredHealth(
                as_of=window.as_of, status=report.status, report=report.as_json(), every=every, computed_at=now
            ),
        )
    parts = {name: part.label or str(part.status) for name, part in report.parts.items()}
    log.info(
        "health_checked",
        "health as of %(window_to)s: %(status)s (%(parts)s)",
        window_to=window.as_of,
        status=str(report.status),
        parts=", ".join(f"{name} {label}" for name, label in parts.items()),
        probes=len(looked.probes),
    )
    # After the report is kept: that it could not be counted must not take it away, and fails the task all the same.
    with connect(storage) as conn:
        _store_probes(conn, looked.probes, now=now)
    return {"status": str(report.status), "parts": parts, "probes": len(looked.probes)}


def _skipped(why: str) -> dict[str, Any]:
    log.info("health_not_checked", "this run makes no health report: %(reason)s", reason=why)
    return {"skipped": why}


def _scheduled_at(facts: RunFacts) -> datetime | None:
    """Return when the scheduler was to begin this run; None of a run by hand, which may need no scheduler."""
    is_by_hand = facts.by_hand_at is not None or None in facts.interval
    return None if is_by_hand else facts.run_after


def _store_probes(conn: psycopg.Connection[Any], probes: Sequence[ProbeResult], *, now: datetime) -> None:
    """Store what calls of our own came to, and count them among all calls, in one transaction."""
    from include.warehouse.probe_results import store_probes

    if probes:
        store_probes(conn, probes, now=now)

"""
What the tasks of the DAG ``servicetitan_housekeeping`` do: the retention of our own tables, and the late pass.

Both go by the present moment, whichever run asks: deleting and restating again find nothing left to do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from time import perf_counter
from typing import TYPE_CHECKING, Any

from include.orchestration.daily_quality_run import LATE_DATA
from include.orchestration.day_restatement import DAY, restate_days
from include.orchestration.run_params import SHOWN_CHARS
from include.orchestration.structured_logs import DecisionLog, bound
from include.sync_health.errors import RequestError
from include.sync_health.windows import RunMode, resolve_window, run_mode

if TYPE_CHECKING:
    from include.orchestration.check_tasks import RunFacts
    from include.sync_health.policy import Policy

log = DecisionLog("servicetitan.housekeeping")

STEPS = (
    "check_runs",
    "deliveries",
    "alert_events",
    "credential_snapshots",
    "token_detail",
    "api_calls",
    "sync_hours",
    "health_snapshots",
)
"""What is deleted, as ``retention`` in the policy names it; a task each."""

LATE_SYNCS_REMEMBERED = 10_000
"""So many late syncs, at most, are read by key until the next late pass."""


def refuse_params(given: Iterable[str]) -> None:
    """
    Refuse any Param: the DAG has none, and whoever asks for a dry run must not get a real one.

    Args:
        given: the names of the run's Params.

    Raises:
        RequestError: there is one.
    """
    if named := ", ".join(repr(name[:SHOWN_CHARS]) for name in given):
        raise RequestError(f"this DAG takes no Params, and would leave {named} undone; trigger it without")


def delete_old(step: str, *, now: datetime | None = None) -> dict[str, int]:
    """
    Delete what the policy's ``retention`` of one step has had enough of, and return how many rows.

    Args:
        step: one of `STEPS`.
        now: the wall clock, aware; read here when not given.

    Raises:
        RequestError: there is no such step.
        MonitorError: for connections, the policy file and our database; what was deleted stays deleted.
    """
    from include.warehouse import retention
    from include.warehouse.monitoring_session import connect

    deletions = {
        "check_runs": retention.delete_check_runs,
        "deliveries": retention.delete_deliveries,
        "alert_events": retention.delete_alert_events,
        "credential_snapshots": retention.delete_snapshots,
        "token_detail": retention.thin_token_detail,
        "api_calls": retention.delete_api_calls,
        "sync_hours": retention.delete_sync_hours,
        "health_snapshots": retention.delete_health_snapshots,
    }
    if step not in deletions:
        raise RequestError(f"step: {step!r} is not known; choose one of {', '.join(STEPS)}")
    now = now or datetime.now(UTC)
    storage, policy = _storage_and_policy(now)
    before = now - getattr(policy.retention, step)
    with connect(storage) as conn:
        deleted = deletions[step](conn, before=before)
    log.info(
        "rows_deleted",
        "%(step)s: deleted %(deleted)s rows from before %(before)s",
        step=step,
        deleted=deleted,
        before=before,
    )
    return {"deleted": deleted}


def late_pass(facts: RunFacts, *, now: datetime | None = None) -> dict[str, Any]:
    """
    Restate the last ``late_data_days`` + 1 days and today with a wide read, and return counts.

    A narrow read has the syncs that took no longer than ``source.id_slack``; this one goes back ``source.open_lookback``
    and counts those between (``missed_by_narrow``). Their ids are kept in ``check_run``, so that the narrow reads until
    the next pass have them too. The day before the last ``late_data_days`` becomes final here, and with it any older
    one within ``open_lookback`` that never did, such as after days without a run.

    Args:
        facts: the run.
        now: the wall clock, aware; read here when not given.

    Raises:
        MonitorError: as `restate_days`, and for connections and the policy file.
    """
    from include.orchestration.settings import postgres_conninfo
    from include.sync_health.daily_quality import day_bounds, local_day
    from include.warehouse.check_runs import CheckRun, record_check_run
    from include.warehouse.monitoring_session import connect
    from include.warehouse.quality_daily import days_between, unfinished_days

    now, began = now or datetime.now(UTC), perf_counter()
    storage, policy = _storage_and_policy(now)
    as_of, zone, lookback = _as_of(facts, now=now), policy.reporting_timezone, policy.source.open_lookback
    today = local_day(as_of, timezone=zone)
    first = today - (policy.late_data_days + 1) * DAY
    with connect(storage) as conn:
        overdue = unfinished_days(conn, since=local_day(as_of - lookback, timezone=zone), before=first)
    start = day_bounds(first, timezone=zone)[0]
    with bound(check=LATE_DATA, window_from=start, window_to=as_of, mode=str(RunMode.LIVE)):
        restated = restate_days(
            postgres_conninfo(policy.source.connection),
            storage,
            policy=policy,
            days=[*overdue, *days_between(first, today)],
            as_of=as_of,
            clock=lambda: now,
            slack=lookback,
        )
    late, notes = restated.late_sync_ids, restated.notes
    if len(late) > LATE_SYNCS_REMEMBERED:
        notes = (*notes, f"{len(late)} syncs took longer than source.id_slack; {LATE_SYNCS_REMEMBERED} are remembered")
    anomalies = {"late_syncs": len(late), "missed_by_narrow": restated.missed_by_narrow}
    run = CheckRun.of(
        check=LATE_DATA,
        window_from=start,
        window_to=as_of,
        mode=RunMode.LIVE,
        filters={},
        status="seen",
        rows_read=restated.rows_read,
        total_ms=(perf_counter() - began) * 1_000,
        anomalies={kind: count for kind, count in anomalies.items() if count},
        notes=notes,
        # The newest keys are the ones whose days are restated longest.
        open_sync_ids=late[-LATE_SYNCS_REMEMBERED:],
        computed_at=now,
    )
    with connect(storage) as conn:
        record_check_run(conn, run)
    log.info(
        "late_pass_done",
        "late pass as of %(window_to)s: %(counts)s",
        check=LATE_DATA,
        window_from=start,
        window_to=as_of,
        check_run_id=str(run.run_id),
        rows_read=restated.rows_read,
        counts={**restated.counts(), **anomalies},
    )
    return {**restated.counts(), **anomalies}


def conclude_run(context: Any) -> None:
    """
    Fail the run when one of its tasks did, and name it; nothing is sent.

    Raises:
        AirflowFailException: a task did not succeed.
    """
    from airflow.sdk.exceptions import AirflowFailException

    ti, run_id = context["ti"], context["dag_run"].run_id
    states: Mapping[str, Any] = ti.get_task_states(dag_id=ti.dag_id, run_ids=[run_id]).get(run_id, {})
    undone = sorted(
        name
        for name, state in states.items()
        if name != ti.task_id and str(getattr(state, "value", state)) != "success"
    )
    if undone:
        raise AirflowFailException(f"not done: {', '.join(undone)}; the next run does it, see the logs of these tasks")


def _as_of(facts: RunFacts, *, now: datetime) -> datetime:
    """Return the run's own instant while that is today's business, so that a retry has the same; else now."""
    window = resolve_window(
        window_end=None,
        interval=facts.interval,
        run_after=facts.run_after,
        usual_length=timedelta(days=1),
        by_hand_at=facts.by_hand_at,
    )
    mode = run_mode(as_of=min(window.as_of, now), now=now, is_backfill=facts.is_backfill, horizon=timedelta(days=1))
    return min(window.as_of, now) if mode is RunMode.LIVE else now


def _storage_and_policy(now: datetime) -> tuple[str, Policy]:
    from include.orchestration.policy_file import storage_connection
    from include.orchestration.settings import policy_in_force, postgres_conninfo

    storage = postgres_conninfo(storage_connection())
    return storage, policy_in_force(storage_conninfo=storage, now=now).loaded.policy

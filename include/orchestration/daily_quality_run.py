"""What a run of the data-quality check restates: its own days, and, while it is live, those that may still change."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from include.orchestration.day_restatement import DAY, restate_days
from include.orchestration.structured_logs import DecisionLog, bound
from include.sync_health.errors import SourceError
from include.sync_health.policy import Policy
from include.sync_health.windows import RunMode, Window, run_mode

if TYPE_CHECKING:
    from include.orchestration.check_tasks import RunFacts

log = DecisionLog("servicetitan.daily_quality")

LATE_DATA = "late_data"
"""The ``check_run`` of the late pass. Its ``open_sync_ids`` are the syncs that took longer than ``source.id_slack``: a
narrow read of their days would not have them, and reads them by key."""

INSTANT = timedelta(microseconds=1)


def days_touched(window: Window, policy: Policy, *, mode: RunMode = RunMode.LIVE) -> list[date]:
    """
    Return the days, in the reporting time zone, that a run restates, oldest first.

    Those that its window touches (one that ends at midnight does not touch the day that begins there); a LIVE run also
    the ``late_data_days`` before the day of ``as_of``, which may still change.
    """
    from include.sync_health.daily_quality import local_day

    zone = policy.reporting_timezone
    last = local_day(max(window.as_of - INSTANT, window.start), timezone=zone)
    first = local_day(window.start, timezone=zone)
    if mode is RunMode.LIVE:
        first = min(first, local_day(window.as_of, timezone=zone) - policy.late_data_days * DAY)
    return [first + number * DAY for number in range((last - first).days + 1)]


def update_daily(facts: RunFacts, *, now: datetime | None = None) -> dict[str, Any]:
    """
    Restate the days of a run of the data-quality check and return counts.

    Days are whole: Params that narrow the check to some credentials narrow nothing here. A historical run restates its
    own days alone, and for it they are final by today's date, since it reads what the source has today.

    Args:
        facts: the run.
        now: the wall clock, aware; read here when not given.

    Raises:
        MonitorError: as `restate_days`, and for connections, the policy file and Params.
    """
    from include.orchestration.policy_file import storage_connection
    from include.orchestration.settings import policy_in_force, postgres_conninfo
    from include.sync_health.checks import DATA_QUALITY
    from include.sync_health.daily_quality import local_day

    began = now or datetime.now(UTC)
    clock = (lambda: datetime.now(UTC)) if now is None else (lambda: began)
    now = began
    window = facts.window(DATA_QUALITY.every)
    storage = postgres_conninfo(storage_connection())
    policy = policy_in_force(storage_conninfo=storage, now=now).loaded.policy
    require_trusted_times(storage)
    mode = run_mode(
        as_of=window.as_of,
        now=now,
        is_backfill=facts.is_backfill,
        horizon=policy.live_horizon[DATA_QUALITY.name],
    )
    is_live = mode is RunMode.LIVE
    days = days_touched(window, policy, mode=mode)
    # What is remembered of long syncs is of the late pass's days; of older ones nothing but a wide look back finds them.
    late_from = local_day(window.as_of, timezone=policy.reporting_timezone) - (policy.late_data_days + 1) * DAY
    is_remembered = is_live and days[0] >= late_from
    with bound(check=DATA_QUALITY.name, window_from=window.start, window_to=window.as_of, mode=str(mode)):
        restated = restate_days(
            postgres_conninfo(policy.source.connection),
            storage,
            policy=policy,
            days=days,
            as_of=window.as_of if is_live else now,
            clock=clock,
            slack=policy.source.id_slack if is_remembered else policy.source.open_lookback,
            remembered=late_syncs(storage) if is_live else (),
        )
        log.info(
            "daily_quality_updated",
            "restated %(first_day)s to %(last_day)s (%(mode)s): %(counts)s",
            first_day=days[0],
            last_day=days[-1],
            rows_read=restated.rows_read,
            counts=restated.counts(),
        )
        for note in restated.notes:
            log.info("restatement_note", "%(note)s", note=note)
    return {"mode": str(mode), **restated.counts()}


def late_syncs(monitoring_conninfo: str) -> tuple[str, ...]:
    """Return the ids of the syncs that the last late pass found to take longer than a narrow read looks back."""
    from include.warehouse.check_runs import last_seen_run
    from include.warehouse.monitoring_session import connect

    with connect(monitoring_conninfo) as conn:
        last = last_seen_run(conn, check=LATE_DATA)
    return (last.open_sync_ids or ()) if last is not None else ()


def require_trusted_times(monitoring_conninfo: str) -> None:
    """
    Refuse while a check doubts the source's time zone: every row would count on another day's side of midnight.

    Raises:
        SourceError: ``wrong_time_zone``, in the words of the open alert.
        StorageError: the schema is missing or the database unreachable.
    """
    from include.sync_health.visibility import WRONG_TIME_ZONE
    from include.warehouse.alert_store import load_alerts
    from include.warehouse.monitoring_session import connect

    with connect(monitoring_conninfo) as conn:
        for alert in load_alerts(conn).values():
            is_doubt = alert.rule == "monitor_health" and alert.identity["cause"] == WRONG_TIME_ZONE
            if is_doubt and alert.state.is_open:
                raise SourceError(f"no day is restated: {alert.message}", cause=WRONG_TIME_ZONE)

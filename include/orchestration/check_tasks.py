"""
What the tasks of the checking DAGs do, from Airflow's context to values and back.

Here, and nowhere further in, are the wall clock, connections, the policy file and Params read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from include.orchestration.check_reading import RunFilters
from include.orchestration.evaluation import evaluate_check
from include.orchestration.evaluation_request import Evaluation
from include.orchestration.policy_file import storage_connection
from include.orchestration.run_params import require_known_params, unknown_params
from include.orchestration.settings import configured_kinds, policy_in_force, postgres_conninfo
from include.orchestration.structured_logs import DecisionLog
from include.sync_health.checks import SYNC_FAILURES, Check
from include.sync_health.errors import MonitorError, RequestError, SourceError
from include.sync_health.routing import address_of, kind_of
from include.sync_health.windows import RunMode, Window, resolve_window, run_mode

log = DecisionLog("servicetitan.check_tasks")

PARAMS = ("credential", "environment", "window_end", "notify")
"""Those of the checking DAGs, in the order of their form; a test keeps them equal."""

ALL = "all"
ENVIRONMENTS = (ALL, "production", "integration")
NOTIFY = ("auto", "never")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """What Airflow's context says of a run; see `facts_of`."""

    params: Mapping[str, Any]
    interval: tuple[datetime | None, datetime | None]
    run_after: datetime
    is_backfill: bool
    last_try: bool
    by_hand_at: datetime | None = None  # the logical date of a run by hand

    def window(self, usual_length: timedelta) -> Window:
        """
        Return the window that the run looks at; see `resolve_window`.

        Raises:
            RequestError: the Param ``window_end`` is no instant.
        """
        return resolve_window(
            window_end=self.params.get("window_end") or None,
            interval=self.interval,
            run_after=self.run_after,
            usual_length=usual_length,
            by_hand_at=self.by_hand_at,
        )


def facts_of(context: Any) -> RunFacts:
    """Return the facts of a run from a task's context."""
    dag_run, ti = context["dag_run"], context["ti"]
    run_type = str(getattr(dag_run.run_type, "value", dag_run.run_type))
    return RunFacts(
        params=dict(context["params"]),
        interval=(dag_run.data_interval_start, dag_run.data_interval_end),
        run_after=dag_run.run_after,
        is_backfill=run_type == "backfill",
        last_try=ti.try_number > ti.max_tries,
        by_hand_at=dag_run.logical_date if run_type == "manual" else None,
    )


def filters_of(params: Mapping[str, Any]) -> RunFilters:
    """
    Return the filters that Params ask for.

    Raises:
        RequestError: an id is no id, or the environment is not one of `ENVIRONMENTS`.
    """
    named = str(params.get("credential") or "").lower().replace(",", " ").split()
    for each in named:
        if not each.replace("-", "").isalnum() or len(each) > 36:
            raise RequestError(
                f"credential: {each!r} is no credential id; write ids separated by commas, such as 42, 43"
            )
    environment = str(params.get("environment") or ALL)
    if environment not in ENVIRONMENTS:
        raise RequestError(f"environment: {environment!r} is not known; choose one of {', '.join(ENVIRONMENTS)}")
    return RunFilters(credential_ids=tuple(sorted(set(named))), environment=None if environment == ALL else environment)


def evaluate(facts: RunFacts, *, check: Check = SYNC_FAILURES, now: datetime | None = None) -> dict[str, Any]:
    """
    Judge the run's window and return counts and ids.

    Args:
        facts: the run.
        check: what is judged.
        now: the wall clock, aware; read here when not given.

    Raises:
        MonitorError: as `evaluate_check`, and for connections and Params.
    """
    require_known_params(facts.params, known=PARAMS)
    now = now or datetime.now(UTC)
    notify = str(facts.params.get("notify") or "auto")
    if notify not in NOTIFY:
        raise RequestError(f"notify: {notify!r} is not known; choose one of {', '.join(NOTIFY)}")
    filters = filters_of(facts.params)
    window = facts.window(check.every)
    storage = postgres_conninfo(storage_connection())
    in_force = policy_in_force(storage_conninfo=storage, now=now)
    policy = in_force.loaded.policy
    mode = run_mode(as_of=window.as_of, now=now, is_backfill=facts.is_backfill, horizon=policy.live_horizon[check.name])
    if mode is RunMode.LIVE and now - window.as_of > 2 * SYNC_FAILURES.every:
        log.warning(
            "run_is_late",
            "this run is late: it judges %(window_to)s, it is now %(now)s",
            check=check.name,
            window_from=window.start,
            window_to=window.as_of,
            now=now,
        )
    outcome = evaluate_check(
        Evaluation(
            check=check,
            source_conninfo=_source_conninfo(policy.source.connection),
            monitoring_conninfo=storage,
            policy=policy,
            policy_error=in_force.error,
            window=window,
            mode=mode,
            filters=filters,
            configured=configured_kinds() if mode is RunMode.LIVE else (),
            may_notify=notify == "auto",
            now=now,
            last_try=facts.last_try,
        )
    )
    return {
        "run_id": outcome.run_id,
        "mode": str(outcome.mode),
        "blind": outcome.blind,
        "completes": mode is RunMode.LIVE and not filters.narrow,
        "rows_read": outcome.rows_read,
        "opened": outcome.opened,
        "closed": outcome.closed,
        "deliveries": outcome.deliveries,
        "not_sent": dict(outcome.not_sent),
    }


def due_addresses(kind: str, facts: RunFacts, *, mode: str | None, now: datetime | None = None) -> list[str]:
    """
    Return where something of one kind is due, such as ``["#ops"]`` for ``slack``.

    Nothing is, for a run that looks at the past or was asked to send nothing, and for one whose Params are not all known,
    which may have been meant to: what earlier runs left waits for the next.
    A kind of channel without a connection keeps its messages due.

    Args:
        kind: ``slack`` or ``email``.
        facts: the run.
        mode: the `RunMode` that ``evaluate`` found; None when it failed.
        now: the wall clock, aware; read here when not given.
    """
    if facts.is_backfill or mode == str(RunMode.HISTORICAL):
        log.info(
            "nothing_sent", "this run looks at the past: it sends nothing", not_sent_because="historical", kind=kind
        )
        return []
    if facts.params.get("notify") == "never":
        log.info("nothing_sent", "this run was asked to send nothing", not_sent_because="notify_never", kind=kind)
        return []
    if unknown_params(facts.params, known=PARAMS):
        log.info(
            "nothing_sent",
            "this run has an unknown Param, which may have been meant to keep it quiet: it sends nothing",
            not_sent_because="unknown_param",
            kind=kind,
        )
        return []
    if not configured_kinds([kind]):
        return []
    from include.warehouse.monitoring_session import connect
    from include.warehouse.outbox import due_channels

    with connect(postgres_conninfo(storage_connection())) as conn:
        channels = due_channels(conn, now=now or datetime.now(UTC))
    return [address_of(channel) for channel in channels if kind_of(channel) == kind]


def _source_conninfo(conn_id: str) -> str | SourceError:
    """Return the source's conninfo, or the error that makes it unseen: an alert, not a crash."""
    try:
        return postgres_conninfo(conn_id)
    except MonitorError as error:
        return SourceError(str(error), cause="not_configured")

"""
When the monitor itself fails: one notice per outage, to the one channel that the environment names.

The last task of the DAG sends it, not a callback: a callback is lost when a worker is killed, a task is not. What fails
is a `Duty`, and each has an outage of its own.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from include.orchestration.airflow_errors import REFUSED
from include.orchestration.check_tasks import facts_of
from include.orchestration.duties import (
    CHECK_DUTIES,
    EVALUATE,
    EVALUATION,
    LATE_PASS,
    RETENTION,
    Duty,
    Outcome,
    after_success,
    is_news,
    outcome_of,
)
from include.orchestration.structured_logs import DecisionLog
from include.sync_health.routing import CHANNEL_KINDS, address_of, kind_of

if TYPE_CHECKING:
    from include.sync_health.links import Links
    from include.sync_health.messages import Message

log = DecisionLog("servicetitan.failure_notice")

FAILED_STATES = frozenset({"failed", "upstream_failed"})
SENDING = ("due_", "drain_")


def conclude_run(context: Any) -> None:
    """
    Fail the run when it could not see, could not send or left a task undone, after telling what nobody else tells.

    A failed ``evaluate`` means that no alert can be raised: the failure channel hears of it once per outage, which an
    Airflow Variable remembers until an evaluation succeeds. Of each of `CHECK_DUTIES` that is left undone (the daily
    quality table, the metrics, the health check) it hears in the same way, and independently. A backfill and a user's
    wrong Param are nobody's outage. A source that could not be seen has an alert of its own, and a drain that failed
    leaves its messages due: those only fail the run.

    A run over everybody that left nothing undone pings the dead man's switch, where there is one.

    Raises:
        AirflowFailException: always, when something of the above holds.
    """
    from airflow.sdk.exceptions import AirflowFailException

    ti, dag_run = context["ti"], context["dag_run"]
    states = _states(ti, dag_id=ti.dag_id, run_id=dag_run.run_id)
    evaluate_state = states.get(EVALUATE)
    is_backfill = facts_of(context).is_backfill
    if evaluate_state != "success":
        # Of what comes after it this run says nothing: mostly it fails by the same. A wrong Param gets no further either.
        refused = bool(ti.xcom_pull(task_ids=EVALUATE, key=REFUSED))
        if not is_backfill and not refused:
            _tell_once(context, {EVALUATION: [EVALUATE]}, state=str(evaluate_state))
        raise AirflowFailException(f"the evaluation ended as {evaluate_state}: see the log of the task {EVALUATE}")
    if not is_backfill:
        _note_success(EVALUATION, dag_id=ti.dag_id)
    judged = ti.xcom_pull(task_ids=EVALUATE) or {}
    _follow(context, CHECK_DUTIES, states=states, is_backfill=is_backfill, judged=judged)
    blind = judged.get("blind")
    if blind:
        raise AirflowFailException(f"the source could not be seen, or not all of it ({blind}): see the task {EVALUATE}")
    failed = sorted(name for name, state in states.items() if state in FAILED_STATES)
    if failed:
        stays = "; what had to be sent stays due" if any(name.startswith(SENDING) for name in failed) else ""
        raise AirflowFailException(f"failed: {', '.join(failed)}: see their logs{stays}")
    if judged.get("completes"):
        _ping(check=ti.dag_id)


def _ping(*, check: str) -> None:
    from include.orchestration.dead_man import ping_dead_man
    from include.orchestration.policy_file import load_policy
    from include.sync_health.errors import PolicyError

    try:
        connection = load_policy().policy.alerting.ping_connection
    except PolicyError:
        return  # told already: `evaluate` went by the last good one
    ping_dead_man(connection, check=check)


def tell_of_housekeeping(context: Any) -> None:
    """
    Tell the failure channel, once per outage, when the retention or the late pass failed; both at once in one notice.

    It fails nothing: `housekeeping.conclude_run` does.
    """
    ti = context["ti"]
    states = _states(ti, dag_id=ti.dag_id, run_id=context["dag_run"].run_id)
    _follow(context, [RETENTION, LATE_PASS], states=states, is_backfill=facts_of(context).is_backfill)


def failure_channel() -> str | None:
    """Return the channel key that the environment names for failures of the monitor, or None."""
    from include.orchestration.settings import FAILURE_CHANNEL_VARIABLE

    named = os.environ.get(FAILURE_CHANNEL_VARIABLE, "").strip()
    if not named:
        return None
    if kind_of(named) not in CHANNEL_KINDS or not address_of(named):
        # Not shown: somebody may have pasted a webhook's URL.
        log.error(
            "failure_channel_refused",
            "%(variable)s names no channel; write slack:#name or email:address",
            variable=FAILURE_CHANNEL_VARIABLE,
        )
        return None
    return named


def _states(ti: Any, *, dag_id: str, run_id: str) -> Mapping[str, str]:
    found = ti.get_task_states(dag_id=dag_id, run_ids=[run_id]).get(run_id, {})
    return {name: str(getattr(state, "value", state)) for name, state in found.items() if name != ti.task_id}


def _follow(
    context: Any,
    duties: Iterable[Duty],
    *,
    states: Mapping[str, str],
    is_backfill: bool,
    judged: Mapping[str, Any] | None = None,
) -> None:
    """End the outages of duties that were done, and tell of those that failed."""
    failed: dict[Duty, Sequence[str]] = {}
    for duty in duties:
        outcome = outcome_of(duty, states=states, is_backfill=is_backfill, judged=judged)
        if outcome is Outcome.DONE:
            _note_success(duty, dag_id=context["ti"].dag_id)
        elif outcome is Outcome.FAILED:
            failed[duty] = [task for task in duty.tasks if states.get(task) == "failed"]
    _tell_once(context, failed)


def _tell_once(context: Any, failed: Mapping[Duty, Sequence[str]], *, state: str | None = None) -> None:
    """Tell the failure channel of duties whose outage was not told yet; one counts as told only when it was."""
    dag_id, run_id = context["ti"].dag_id, context["dag_run"].run_id
    news: dict[Duty, Sequence[str]] = {}
    for duty, tasks in failed.items():
        outage = _outage(duty)
        if is_news(outage, dag_id=dag_id):
            news[duty] = tasks
        else:
            log.warning(
                "failure_told_before",
                "%(duty)s failed; %(channel)s was told of this outage: %(outage)s",
                duty=duty.name,
                channel=failure_channel(),
                outage=json.dumps(dict(outage)),
            )
    if news and _tell(context, news, state=state):
        for duty in news:
            _remember(duty, {**_outage(duty), dag_id: run_id})


def _note_success(duty: Duty, *, dag_id: str) -> None:
    """Remember that this DAG does its duty again."""
    before = _outage(duty)
    after = after_success(before, dag_id=dag_id) if before else before
    if after != before:
        _remember(duty, after)


def _outage(duty: Duty) -> Mapping[str, str | None]:
    """Return the outage that lasts, as the duty's Variable has it; empty when there is none."""
    from airflow.sdk import Variable

    stored = Variable.get(duty.outage, default=None)
    if not stored:
        return {}
    try:
        told = json.loads(stored)
    except ValueError:
        return {"servicetitan_sync_failures": str(stored)}  # as the first version wrote it
    return {str(key): run and str(run) for key, run in told.items()} if isinstance(told, dict) else {}


def _remember(duty: Duty, outage: Mapping[str, str | None]) -> None:
    from airflow.sdk import Variable

    if outage:
        Variable.set(duty.outage, json.dumps(outage), description=f"told that {duty.name} of the monitor failed")
    else:
        Variable.delete(duty.outage)


def _tell(context: Any, failed: Mapping[Duty, Sequence[str]], *, state: str | None) -> bool:
    from include.orchestration.delivery import send_safely
    from include.orchestration.operators import sender_to
    from include.orchestration.settings import configured_kinds
    from include.sync_health.errors import DeliveryError

    channel, what = failure_channel(), " and ".join(duty.name for duty in failed)
    if channel is None:
        log.error("failure_not_told", "%(duty)s failed and no failure channel is configured: nobody is told", duty=what)
        return False
    if not configured_kinds([kind_of(channel)]):
        log.error(
            "failure_not_told",
            "%(duty)s failed, and %(channel)s could not be told: %(error)s",
            duty=what,
            channel=channel,
            error=f"Airflow has no usable {kind_of(channel)} connection; run python -m include.cli doctor",
        )
        return False
    dag_id, run_id = context["ti"].dag_id, context["dag_run"].run_id
    links = _links(dag_id=dag_id, run_id=run_id)
    message = failure_message(failed, dag_id=dag_id, run_id=run_id, state=state, now=datetime.now(UTC), links=links)
    try:
        # Runs of two DAGs may have one id.
        send_safely(sender_to(channel), message, delivery_key=f"failure|{dag_id}|{run_id}")
    except DeliveryError as error:
        log.error(
            "failure_not_told",
            "%(duty)s failed, and %(channel)s could not be told: %(error)s",
            duty=what,
            channel=channel,
            error=str(error),
        )
        return False
    log.info("failure_told", "told %(channel)s that %(duty)s failed", channel=channel, duty=what)
    return True


def _links(*, dag_id: str, run_id: str) -> Links:
    """Return where the policy lets the notice lead; to no page of the dashboard, which knows nothing of its alert."""
    from include.orchestration.policy_file import load_policy
    from include.sync_health.errors import PolicyError
    from include.sync_health.links import Links, links_in

    try:
        policy = load_policy().policy.alerting.links
    except PolicyError:
        return Links()
    return replace(links_in(policy, dag_id=dag_id, run_id=run_id), dashboard=None)


def failure_message(
    failed: Mapping[Duty, Sequence[str]],
    *,
    dag_id: str,
    run_id: str,
    state: str | None = None,
    now: datetime,
    links: Links | None = None,
) -> Message:
    """
    Return the notice as a `Message`: an alert that no database knows of.

    Args:
        failed: the duties that were not done, at least one, each with its tasks that failed; title, severity and advice
            are those of the first.
        dag_id, run_id: of the run.
        state: how the task ended, where that need not be ``failed``.
        now: the wall clock; aware.
        links: where readers may go on.
    """
    from include.sync_health.alerts import Alert, AlertState, NotifyReason
    from include.sync_health.messages import message_for
    from include.sync_health.observations import episode_of, fingerprint_of

    first, cause = next(iter(failed)), ", ".join(duty.cause for duty in failed)
    tasks = [task for names in failed.values() for task in names]
    undone = " and ".join(duty.undone for duty in failed) + (f" ({state})" if state else "")
    affects = "; ".join(dict.fromkeys(clause for duty in failed for clause in duty.affects))
    logs = f"the log of the task {tasks[0]}" if len(tasks) == 1 else "the logs of the failed tasks"
    identity = {"check": dag_id, "cause": cause}
    fingerprint = fingerprint_of("monitor_health", identity)
    alert = Alert(
        fingerprint=fingerprint,
        rule="monitor_health",
        identity=identity,
        state=AlertState.FIRING,
        severity=first.severity,
        peak_severity=first.severity,
        state_since=now,
        last_as_of=now,
        last_breach_at=now,
        opened_at=now,
        episode_id=episode_of(fingerprint, now),
        title=first.title,
        message=(
            f"{dag_id}: {undone} in run {run_id}; {affects}. Run `python -m include.cli doctor` and look at {logs}."
        ),
        reason=f"failed: {', '.join(tasks)}; this notice is sent once per outage",
        metadata={"check": dag_id, "cause": cause, "since": now.isoformat()},
        evidence={"failed_tasks": ", ".join(tasks)} if len(tasks) > 1 else {},
    )
    message = message_for([alert], reason=NotifyReason.FIRST, as_of=now, now=now, links=links)
    return message if first.advice is None else replace(message, advice=first.advice)

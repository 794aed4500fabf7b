"""
When the monitor itself fails: one notice per outage, to the one channel that the environment names.

The last task of the DAG sends it, not a callback: a callback is lost when a worker is killed, a task is not.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from include.orchestration.airflow_errors import REFUSED
from include.orchestration.check_tasks import facts_of
from include.sync_health.routing import CHANNEL_KINDS, address_of, kind_of

log = logging.getLogger("servicetitan.failure_notice")

FAILED_STATES = frozenset({"failed", "upstream_failed"})
EVALUATE = "evaluate"
SENDING = ("due_", "drain_")

OUTAGE_VARIABLE = "servicetitan_monitor_outage"
"""The Airflow Variable of an outage that was told and lasts, as JSON: each DAG that told with its run; null for a DAG that
has evaluated since, so that its next failure is another outage."""


def conclude_run(context: Any) -> None:
    """
    Fail the run when it could not see or could not send, after telling what nobody else tells.

    A failed ``evaluate`` means that no alert can be raised: the failure channel hears of it once per outage, which an
    Airflow Variable remembers until an evaluation succeeds. A backfill and a user's wrong Param are nobody's outage. A
    source that could not be seen has an alert of its own, and a drain that failed leaves its messages due: those only
    fail the run.

    Raises:
        AirflowFailException: always, when something of the above holds.
    """
    from airflow.sdk.exceptions import AirflowFailException

    ti, dag_run = context["ti"], context["dag_run"]
    states = _states(ti, dag_id=ti.dag_id, run_id=dag_run.run_id)
    evaluate_state = states.get(EVALUATE)
    is_backfill = facts_of(context).is_backfill
    if evaluate_state != "success":
        refused = bool(ti.xcom_pull(task_ids=EVALUATE, key=REFUSED))
        if not is_backfill and not refused:
            _tell_once(context, state=str(evaluate_state))
        raise AirflowFailException(f"the evaluation ended as {evaluate_state}: see the log of the task {EVALUATE}")
    if not is_backfill:
        _note_success(ti.dag_id)
    blind = (ti.xcom_pull(task_ids=EVALUATE) or {}).get("blind")
    if blind:
        raise AirflowFailException(f"the source could not be seen, or not all of it ({blind}): see the task {EVALUATE}")
    failed = sorted(name for name, state in states.items() if state in FAILED_STATES)
    if failed:
        stays = "; what had to be sent stays due" if any(name.startswith(SENDING) for name in failed) else ""
        raise AirflowFailException(f"failed: {', '.join(failed)}: see their logs{stays}")


def failure_channel() -> str | None:
    """Return the channel key that the environment names for failures of the monitor, or None."""
    from include.orchestration.settings import FAILURE_CHANNEL_VARIABLE

    named = os.environ.get(FAILURE_CHANNEL_VARIABLE, "").strip()
    if not named:
        return None
    if kind_of(named) not in CHANNEL_KINDS or not address_of(named):
        # Not shown: somebody may have pasted a webhook's URL.
        log.error("%s names no channel; write slack:#name or email:address", FAILURE_CHANNEL_VARIABLE)
        return None
    return named


def _states(ti: Any, *, dag_id: str, run_id: str) -> Mapping[str, str]:
    found = ti.get_task_states(dag_id=dag_id, run_ids=[run_id]).get(run_id, {})
    return {name: str(getattr(state, "value", state)) for name, state in found.items() if name != ti.task_id}


def _tell_once(context: Any, *, state: str) -> None:
    """
    Tell the failure channel unless this outage was told already; an outage counts as told only when it was.

    Several DAGs fail by one cause, mostly (our database, the policy file): while the failure of one lasts, that of
    another is not told. It is, at its next failure, should it outlive the first; and a DAG that has evaluated in between
    fails by another cause.
    """
    from airflow.sdk import Variable

    dag_id, outage = context["ti"].dag_id, _outage()
    if outage and outage.get(dag_id, "") is not None:
        log.warning("the evaluation failed; %s was told of this outage: %s", failure_channel(), dict(outage))
    elif _tell(context, state=state):
        Variable.set(
            OUTAGE_VARIABLE,
            json.dumps({**outage, dag_id: context["dag_run"].run_id}),
            description="told of the monitor's own failure",
        )


def _note_success(dag_id: str) -> None:
    """Remember that this DAG evaluates; the outage is over once every DAG that told of it does."""
    from airflow.sdk import Variable

    before = _outage()
    if not before:
        return
    outage = {**before, dag_id: None}
    if not any(outage.values()):
        Variable.delete(OUTAGE_VARIABLE)
    elif outage != before:
        Variable.set(OUTAGE_VARIABLE, json.dumps(outage), description="told of the monitor's own failure")


def _outage() -> Mapping[str, str | None]:
    """Return the outage that lasts, as `OUTAGE_VARIABLE` has it; empty when there is none."""
    from airflow.sdk import Variable

    stored = Variable.get(OUTAGE_VARIABLE, default=None)
    if not stored:
        return {}
    try:
        told = json.loads(stored)
    except ValueError:
        return {"servicetitan_sync_failures": str(stored)}  # as the first version wrote it
    return {str(key): run and str(run) for key, run in told.items()} if isinstance(told, dict) else {}


def _tell(context: Any, *, state: str) -> bool:
    from include.orchestration.delivery import send_safely
    from include.orchestration.operators import EmailDrainOperator, SlackDrainOperator
    from include.sync_health.errors import DeliveryError

    channel = failure_channel()
    if channel is None:
        log.error("the evaluation failed and no failure channel is configured: nobody is told")
        return False
    dag_run = context["dag_run"]
    message = failure_message(dag_id=context["ti"].dag_id, run_id=dag_run.run_id, state=state, now=datetime.now(UTC))
    operator: Any
    if kind_of(channel) == "slack":
        operator = SlackDrainOperator(task_id="failure_notice", channel=address_of(channel))
    else:
        operator = EmailDrainOperator(task_id="failure_notice", to=address_of(channel))
    try:
        send_safely(operator.sender(), message, delivery_key=f"failure|{dag_run.run_id}")
    except DeliveryError as error:
        log.error("the evaluation failed, and %s could not be told: %s", channel, error)
        return False
    log.info("told %s that the evaluation failed", channel)
    return True


def failure_message(*, dag_id: str, run_id: str, state: str, now: datetime) -> Any:
    """Return the notice as a `Message`: an alert that no database knows of."""
    from include.sync_health.alerts import Alert, AlertState, NotifyReason
    from include.sync_health.messages import message_for
    from include.sync_health.observations import episode_of, fingerprint_of
    from include.sync_health.verdicts import Severity

    identity = {"check": dag_id, "cause": "task_failed"}
    fingerprint = fingerprint_of("monitor_health", identity)
    alert = Alert(
        fingerprint=fingerprint,
        rule="monitor_health",
        identity=identity,
        state=AlertState.FIRING,
        severity=Severity.HIGH,
        peak_severity=Severity.HIGH,
        state_since=now,
        last_as_of=now,
        last_breach_at=now,
        opened_at=now,
        episode_id=episode_of(fingerprint, now),
        title="ServiceTitan Monitor Cannot See",
        message=(
            f"{dag_id}: the check itself failed ({state}) in run {run_id}; no alert is raised until it runs again. "
            "Run `python -m include.cli doctor` and look at the log of the task evaluate."
        ),
        reason="the task evaluate failed; this notice is sent once per outage",
        metadata={"check": dag_id, "cause": "task_failed", "since": now.isoformat()},
    )
    return message_for([alert], reason=NotifyReason.FIRST, as_of=now, now=now)

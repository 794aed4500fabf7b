"""
What the checking DAGs share: their Params, and the tasks from evaluation to messages. Imported at parse time: nothing heavy.

    evaluate → due_slack → drain_slack (one task per channel) ─┐
             → due_email → drain_email (one task per address) ─┴→ conclude

What else a DAG does stands between `CheckTasks.evaluated` and `CheckTasks.concluded`, and is one of `CHECK_DUTIES`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from airflow.sdk import Param, get_current_context, task

from include.orchestration.dag_habits import SOURCE_POOL
from include.orchestration.operators import EmailDrainOperator, SlackDrainOperator

CREDENTIAL = Param(
    None,
    type=["null", "string"],
    pattern=r"^[0-9A-Za-z-]+(\s*,\s*[0-9A-Za-z-]+)*$",
    title="Credentials",
    description="Judge these credential ids only, separated by commas, such as 42, 43. Empty: all of them.",
)
ENVIRONMENT = Param(
    "all",
    type="string",
    enum=["all", "production", "integration"],
    title="Environment",
    description="Judge this environment only.",
)
WINDOW_END = Param(
    None,
    type=["null", "string"],
    format="date-time",
    title="End of the window",
    description=(
        "Judge as of this instant, such as 2026-03-01T12:00:00Z. Empty: the present moment, or the logical date or "
        "interval that you choose."
    ),
)
NOTIFY = Param(
    "auto",
    type="string",
    enum=["auto", "never"],
    title="Messages",
    description="auto: send what is due, if the window is recent. never: remember alerts, but send nothing now.",
)
PARAMS = {"credential": CREDENTIAL, "environment": ENVIRONMENT, "window_end": WINDOW_END, "notify": NOTIFY}
"""The form of every checking DAG."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckTasks:
    """The first and the last task of a checking DAG, for what a DAG puts between them."""

    evaluated: Any
    concluded: Any


def done_or_skipped(answer: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return what a task did, or end it as skipped: nothing was left undone, and nothing was done.

    Args:
        answer: what it returns; ``skipped`` says why there was nothing to do, such as in a backfill.

    Raises:
        AirflowSkipException: there was nothing to do.
    """
    from airflow.sdk.exceptions import AirflowSkipException

    if skipped := answer.get("skipped"):
        raise AirflowSkipException(skipped)
    return dict(answer)


def check_tasks(check_name: str, *, evaluate_within: timedelta, evaluate_when: str = "all_success") -> CheckTasks:
    """
    Add the tasks of one check to the DAG that is being defined.

    Args:
        check_name: one of `include.sync_health.checks.CHECKS`.
        evaluate_within: the time-out of one try of the evaluation.
        evaluate_when: Airflow's trigger rule of the evaluation, for a DAG that puts a task before it; ``all_done``: it
            judges what there is also where that task failed.
    """

    @task(pool=SOURCE_POOL, execution_timeout=evaluate_within, trigger_rule=evaluate_when)
    def evaluate() -> dict[str, Any]:
        """Judge the window; returns counts and ids."""
        from include.orchestration.airflow_errors import in_airflow_terms
        from include.orchestration.check_tasks import evaluate as judge
        from include.orchestration.check_tasks import facts_of
        from include.sync_health.checks import CHECKS

        context = get_current_context()
        with in_airflow_terms(context["ti"]):
            return judge(facts_of(context), check=CHECKS[check_name])

    @task(trigger_rule="all_done", execution_timeout=timedelta(minutes=1))
    def due(kind: str) -> list[str]:
        """Return where something is due; runs also after a failed evaluation, for what earlier runs left."""
        from include.orchestration.airflow_errors import in_airflow_terms
        from include.orchestration.check_tasks import due_addresses, facts_of

        context = get_current_context()
        judged = context["ti"].xcom_pull(task_ids="evaluate") or {}
        with in_airflow_terms():
            return due_addresses(kind, facts_of(context), mode=judged.get("mode"))

    @task(trigger_rule="all_done", retries=1)
    def conclude() -> None:
        """Fail the run when it could not see, and tell the failure channel when the check itself failed."""
        from include.orchestration.failure_notice import conclude_run

        conclude_run(get_current_context())

    evaluated, concluded = evaluate(), conclude()
    due_slack, due_email = due.override(task_id="due_slack")("slack"), due.override(task_id="due_email")("email")
    drain_slack = SlackDrainOperator.partial(task_id="drain_slack", map_index_template="{{ task.channel }}").expand(
        channel=due_slack
    )
    drain_email = EmailDrainOperator.partial(task_id="drain_email", map_index_template="{{ task.to }}").expand(
        to=due_email
    )
    evaluated >> [due_slack, due_email]
    [evaluated, drain_slack, drain_email] >> concluded
    return CheckTasks(evaluated=evaluated, concluded=concluded)

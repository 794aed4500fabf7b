"""
# ServiceTitan sync failures

Every 15 minutes: reads the sync logs of Hub Plus, finds credentials whose syncs **fail several times in an hour** or
**several times in a row**, and syncs that are **stuck**; remembers them, and tells Slack and email once when something
breaks and once when there is evidence that it is over. If the source cannot be read, that is an alert of its own.

| task | does |
|---|---|
| `evaluate` | read, judge, remember, decide; state and outbox in one transaction |
| `due_slack`, `due_email` | which channels have something to hear, whichever run put it there |
| `drain_slack`, `drain_email` | one task per channel: send, one commit per message |
| `conclude` | fails the run if the source could not be seen; tells the failure channel if the check itself failed |

**By hand:** *Trigger* judges the present moment. Params narrow it to credentials or an environment, choose another end
of the window, or keep it quiet (`notify: never`). A run that looks further back than the policy's `live_horizon` and
every backfill write history and send nothing. Safe to re-run and to retry at any step.

**When this DAG fails:** the syncs themselves are unaffected. `evaluate` red: our database or the policy file; run
`python -m include.cli doctor`. `drain_*` red: Slack or mail refuses us; the messages stay due and go out once that is
mended. `conclude` red alone: the source could not be read, and an alert says why. See `docs/runbook.md`.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import CronDataIntervalTimetable, Param, dag, get_current_context, task

from include.orchestration.dag_habits import DAGRUN_TIMEOUT, DEFAULT_ARGS, SOURCE_POOL, START, TAGS
from include.orchestration.operators import EmailDrainOperator, SlackDrainOperator

PARAMS = {
    "credential": Param(
        None,
        type=["null", "string"],
        pattern=r"^[0-9A-Za-z-]+(\s*,\s*[0-9A-Za-z-]+)*$",
        title="Credentials",
        description="Judge these credential ids only, separated by commas, such as 42, 43. Empty: all of them.",
    ),
    "environment": Param(
        "all",
        type="string",
        enum=["all", "production", "integration"],
        title="Environment",
        description="Judge this environment only.",
    ),
    "window_end": Param(
        None,
        type=["null", "string"],
        format="date-time",
        title="End of the window",
        description=(
            "Judge as of this instant, such as 2026-03-01T12:00:00Z. Empty: the present moment, or the logical date or "
            "interval that you choose."
        ),
    ),
    "notify": Param(
        "auto",
        type="string",
        enum=["auto", "never"],
        title="Messages",
        description="auto: send what is due, if the window is recent. never: remember alerts, but send nothing now.",
    ),
}


@dag(
    schedule=CronDataIntervalTimetable("*/15 * * * *", timezone="UTC"),
    start_date=START,
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=DAGRUN_TIMEOUT,
    default_args=DEFAULT_ARGS,
    params=PARAMS,
    doc_md=__doc__,
    description="Failed, failing and stuck ServiceTitan syncs, every 15 minutes, told once each.",
    tags=[*TAGS, "alerts"],
)
def servicetitan_sync_failures() -> None:
    """Evaluate, then drain each channel that has something to hear."""

    @task(pool=SOURCE_POOL, execution_timeout=timedelta(minutes=3))
    def evaluate() -> dict[str, Any]:
        """Judge the window; returns counts and ids."""
        from include.orchestration.airflow_errors import in_airflow_terms
        from include.orchestration.sync_failures_run import evaluate as judge
        from include.orchestration.sync_failures_run import facts_of

        context = get_current_context()
        with in_airflow_terms(context["ti"]):
            return judge(facts_of(context))

    @task(trigger_rule="all_done", execution_timeout=timedelta(minutes=1))
    def due(kind: str) -> list[str]:
        """Return where something is due; runs also after a failed evaluation, for what earlier runs left."""
        from include.orchestration.airflow_errors import in_airflow_terms
        from include.orchestration.sync_failures_run import due_addresses, facts_of

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


servicetitan_sync_failures()

"""
# ServiceTitan sync failures

Every 15 minutes: reads the sync logs of Hub Plus, finds credentials whose syncs **fail several times in an hour** or
**several times in a row**, syncs that are **stuck**, an **outage** that many credentials share, and a **platform that
fell silent**; remembers them, and tells Slack and email once when something breaks and once when there is evidence that
it is over; what stays open is told again, by the policy's `repeat`. Of a credential that fails it also asks for the cause
(connection, token), and it judges the open alerts of the 6-hour checks, so that their recovery is told within a tick. If
the source cannot be read, that is an alert of its own.

| task | does |
|---|---|
| `evaluate` | read, judge, remember, decide; state and outbox in one transaction |
| `due_slack`, `due_email` | which channels have something to hear, whichever run put it there |
| `drain_slack`, `drain_email` | one task per channel: send, one commit per message |
| `measure` | counts the syncs that started and ended, for `/metrics` and StatsD or OpenTelemetry; each counts once |
| `check_health` | makes the report that `/health` and `python -m include.cli health --stored` answer by |
| `conclude` | fails the run if the source could not be seen; tells the failure channel of `evaluate`, `measure` or `check_health`, if red |

`measure` and `check_health` run beside the messages, also after an evaluation that failed, and hold nothing up. A backfill, and
a run that looks at the past, leave both out.

**By hand:** *Trigger* judges the present moment. Params narrow it to credentials or an environment, choose another end
of the window, or keep it quiet (`notify: never`). A run that looks further back than the policy's `live_horizon` and
every backfill write history and send nothing. Safe to re-run and to retry at any step.

**When this DAG fails:** the syncs themselves are unaffected. `evaluate` red: our database or the policy file; run
`python -m include.cli doctor`. `measure` or `check_health` red: alerts go on, but metrics stand still, or `/health` answers
503; both are told to the failure channel, once each until they succeed. `drain_*` red: Slack or mail refuses us; the messages stay due and go out once that is
mended. `conclude` red alone: the source could not be read, and an alert says why. See `docs/runbook.md`.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import CronDataIntervalTimetable, dag, get_current_context, task

from include.orchestration.check_dag import PARAMS, check_tasks, done_or_skipped
from include.orchestration.dag_habits import DAGRUN_TIMEOUT, DEFAULT_ARGS, SOURCE_POOL, START, TAGS


@dag(
    schedule=CronDataIntervalTimetable("*/15 * * * *", timezone="UTC"),
    start_date=START,
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=DAGRUN_TIMEOUT,
    default_args=DEFAULT_ARGS,
    params=PARAMS,
    doc_md=__doc__,
    description="Failing and stuck ServiceTitan syncs, outages and silence, every 15 minutes, told once each.",
    tags=[*TAGS, "alerts"],
)
def servicetitan_sync_failures() -> None:
    """Evaluate, then drain each channel that has something to hear; beside that, count, and look at the whole."""

    @task(pool=SOURCE_POOL, trigger_rule="all_done", execution_timeout=timedelta(minutes=3))
    def measure() -> dict[str, Any]:
        """Count the syncs of the window, and emit their metrics; returns counts."""
        from include.orchestration.airflow_errors import in_airflow_terms
        from include.orchestration.check_tasks import facts_of
        from include.orchestration.measuring import measure_syncs

        with in_airflow_terms():
            return done_or_skipped(measure_syncs(facts_of(get_current_context())))

    @task(pool=SOURCE_POOL, trigger_rule="all_done", execution_timeout=timedelta(minutes=3))
    def check_health() -> dict[str, Any]:
        """Make and store the health report; returns its statuses."""
        from include.orchestration.airflow_errors import in_airflow_terms
        from include.orchestration.check_tasks import facts_of
        from include.orchestration.health_run import check_health as check

        with in_airflow_terms():
            return done_or_skipped(check(facts_of(get_current_context())))

    tasks = check_tasks("sync_failures", evaluate_within=timedelta(minutes=3))
    tasks.evaluated >> [measure(), check_health()] >> tasks.concluded


servicetitan_sync_failures()

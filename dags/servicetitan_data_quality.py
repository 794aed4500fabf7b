"""
# ServiceTitan data quality

Every 6 hours: reads the syncs that completed within 24 hours, finds those in which **more than a fifth of the records
failed**, days that lost more than their weekday usually does, and syncs that bring nothing where something used to come;
tells each once, and once more when it is over; and keeps `monitoring.quality_daily` up to date, the table that reports
read: one row per day, credential and data type.

| task | does |
|---|---|
| `evaluate` | read, judge, remember, decide; state and outbox in one transaction |
| `update_daily` | computes the days that the window touches, and the last few before, anew and whole |
| `due_slack`, `due_email` | which channels have something to hear, whichever run put it there |
| `drain_slack`, `drain_email` | one task per channel: send, one commit per message |
| `measure_quality` | sums the records of 24 hours, for `/metrics` and StatsD or OpenTelemetry (`docs/metrics.md`) |
| `conclude` | fails the run if the source could not be seen; tells the failure channel of `evaluate`, `update_daily` or `measure_quality`, if red |

`measure_quality` runs beside the messages, also after an evaluation that failed, and holds nothing up. A backfill, a run that
looks at the past, and one whose Params leave credentials out skip it.

**By hand:** *Trigger* judges the present moment. A backfill writes the daily rows of its own days, and sends nothing.
Safe to re-run and to retry at any step: a day is replaced, never added to.

**When this DAG fails:** the syncs themselves are unaffected. `evaluate` or `update_daily` red: our database, the policy
file, or a column of the record counts that we may not read; run `python -m include.cli doctor`. While `update_daily`
fails, reports show old numbers and no quality drop opens or closes; all other alerts go on. `measure_quality` red: metrics
of data quality stand still. Each is told to the failure channel, once until it succeeds. `drain_*` red: Slack or mail refuses us; the messages stay due.
`conclude` red alone: the source could not be read, and an alert says why.
See `docs/runbook.md`.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import CronDataIntervalTimetable, dag, get_current_context, task

from include.orchestration.check_dag import PARAMS, check_tasks
from include.orchestration.dag_habits import DEFAULT_ARGS, SOURCE_POOL, START, TAGS


@dag(
    schedule=CronDataIntervalTimetable("0 */6 * * *", timezone="UTC"),
    start_date=START,
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(minutes=90),  # two tasks that read the source, one after the other
    default_args=DEFAULT_ARGS,
    params=PARAMS,
    doc_md=__doc__,
    description="Syncs in which many records failed, every 6 hours, told once each; and the daily quality table.",
    tags=[*TAGS, "alerts", "quality"],
)
def servicetitan_data_quality() -> None:
    """Evaluate, update the daily table and the metrics, and drain each channel that has something to hear."""

    @task(pool=SOURCE_POOL, execution_timeout=timedelta(minutes=5))
    def update_daily() -> dict[str, Any]:
        """Compute the days of the window anew; returns counts."""
        from include.orchestration.airflow_errors import in_airflow_terms
        from include.orchestration.check_tasks import facts_of
        from include.orchestration.daily_quality_run import update_daily as update

        context = get_current_context()
        with in_airflow_terms(context["ti"]):
            return update(facts_of(context))

    @task(pool=SOURCE_POOL, trigger_rule="all_done", execution_timeout=timedelta(minutes=3))
    def measure_quality() -> dict[str, Any]:
        """Sum the records of the last 24 hours' syncs, and emit their metrics; returns counts."""
        from airflow.sdk.exceptions import AirflowSkipException

        from include.orchestration.airflow_errors import in_airflow_terms
        from include.orchestration.check_tasks import facts_of
        from include.orchestration.measuring import measure_quality as measure

        with in_airflow_terms():
            told = measure(facts_of(get_current_context()))
        if skipped := told.get("skipped"):
            raise AirflowSkipException(skipped)
        return told

    tasks = check_tasks("data_quality", evaluate_within=timedelta(minutes=5))
    tasks.evaluated >> [update_daily(), measure_quality()] >> tasks.concluded


servicetitan_data_quality()

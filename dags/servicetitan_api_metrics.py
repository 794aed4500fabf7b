"""
# ServiceTitan API metrics

Every hour, at twenty past: brings in the calls of the ServiceTitan API that the application has recorded, by hour,
credential, endpoint and status, and tells **endpoints that fail or are slow**, **credentials that are refused for their
rate** and **circuit breakers that opened**; once each, and once more when it is over.

Calls are known from the application's table `servicetitan_api_calls`, from its log files (`api_calls.logs` in the policy),
or both; without either, this DAG is green, says so, and nothing of the API is judged. See `docs/api-calls.md`.

| task | does |
|---|---|
| `ingest` | reads each source on from where the last run stopped; counts each call once, for `/metrics` and StatsD or OpenTelemetry |
| `evaluate` | judges the last hour that has settled, by our own table; state and outbox in one transaction |
| `due_slack`, `due_email` | which channels have something to hear, whichever run put it there |
| `drain_slack`, `drain_email` | one task per channel: send, one commit per message |
| `conclude` | fails the run if something failed; tells the failure channel of `ingest` or `evaluate`, if red |

It runs at twenty past because a request that nobody answers counts after 15 minutes, and its error at once: only then is the
hour before whole. An hour is judged no earlier, also by hand.
Calls that come later, up to `api_calls.late_calls`, are still counted.

**By hand:** *Trigger* does the same now. A backfill judges the hours that are stored, brings in nothing and sends nothing.
Safe to re-run and to retry at any step.

**When this DAG fails:** the syncs themselves are unaffected, and all other alerts go on. `ingest` red: a source of calls is
there and cannot be read, or our database cannot be used; the last line of its log names what is wrong and the fix, and the
next run goes on where the last one stopped. `evaluate` red: our database or the policy file; run
`python -m include.cli doctor`. Both are told to the failure channel, once each until they succeed. `drain_*` red: Slack or
mail refuses us; the messages stay due. See `docs/runbook.md`.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import CronDataIntervalTimetable, dag, get_current_context, task

from include.orchestration.check_dag import PARAMS, check_tasks
from include.orchestration.dag_habits import DEFAULT_ARGS, SOURCE_POOL, START, TAGS


@dag(
    schedule=CronDataIntervalTimetable("20 * * * *", timezone="UTC"),
    start_date=START,
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(minutes=90),  # ingest and evaluate, one after the other, with all their tries
    default_args=DEFAULT_ARGS,
    params=PARAMS,
    doc_md=__doc__,
    description="Calls of the ServiceTitan API, every hour: counted, judged, told once each.",
    tags=[*TAGS, "alerts", "api"],
)
def servicetitan_api_metrics() -> None:
    """Bring calls in and evaluate, then drain each channel that has something to hear."""

    @task(pool=SOURCE_POOL, execution_timeout=timedelta(minutes=10))
    def ingest() -> dict[str, Any]:
        """Bring in what each source newly tells; returns counts."""
        from include.orchestration.airflow_errors import in_airflow_terms
        from include.orchestration.api_metrics_run import ingest as bring_in
        from include.orchestration.check_tasks import facts_of

        context = get_current_context()
        with in_airflow_terms(context["ti"]):
            return bring_in(facts_of(context))

    ingested = ingest()
    # What is stored is judged also where a source could not be read: another one may have been.
    tasks = check_tasks("api_metrics", evaluate_within=timedelta(minutes=3), evaluate_when="all_done")
    ingested >> tasks.evaluated
    ingested >> tasks.concluded


servicetitan_api_metrics()

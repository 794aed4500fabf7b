"""
# ServiceTitan housekeeping

Once a day, at 03:30 UTC: deletes what nobody needs any more from the schema `monitoring`, and counts what came late.
It sends nothing but a notice of its own failure.

| task | does |
|---|---|
| `delete_check_runs` | records of evaluations, but the newest of each check, which the next run remembers by |
| `delete_deliveries` | messages sent, given up or not sent, but those of alerts that are still open |
| `delete_alert_events` | the history of alerts that are over |
| `delete_credential_snapshots` | what credentials looked like, but what still holds or still explains an error or a token |
| `delete_token_detail` | of tokens that are refreshed every few minutes, all snapshots but one a day |
| `delete_api_calls`, `delete_sync_hours` | API calls and syncs by hour; what has been counted in all stays |
| `delete_health_snapshots` | what the health check found, but its newest |
| `late_data` | restates the last days of `quality_daily` with a wide read, and so makes them final |
| `conclude` | fails the run if one of these failed, and names it; tells the failure channel, once until it succeeds |

How long each is kept is `retention` in the policy; `quality_daily` is kept for ever. `late_data` looks back as far as
`source.open_lookback`, where the other DAGs look back `source.id_slack`: syncs that took longer are counted by it
(`missed_by_narrow` in its result; `late_syncs` in `check_run`) and remembered for the day.

**By hand:** *Trigger* does the same now; it takes no Params, and refuses a run that is given any. Every task may be repeated at
any time: it goes by the present moment, and finds less to do.

**When this DAG fails:** nothing is lost and no alert is missed; tables grow, and the newest days stay provisional until the
next run. `delete_*` red: our database, or a role that may not delete; run `python -m include.cli doctor`. `late_data` red:
the source could not be read in time. See `docs/runbook.md`.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import CronDataIntervalTimetable, dag, get_current_context, task

from include.orchestration.dag_habits import DEFAULT_ARGS, SOURCE_POOL, START, TAGS
from include.orchestration.housekeeping import STEPS


@dag(
    schedule=CronDataIntervalTimetable("30 3 * * *", timezone="UTC"),
    start_date=START,
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=6),
    default_args=DEFAULT_ARGS,
    doc_md=__doc__,
    description="Retention of the monitoring schema, and the late pass over the daily quality; once a day.",
    tags=[*TAGS, "housekeeping"],
)
def servicetitan_housekeeping() -> None:
    """Delete what is old, count what is late; each step by itself."""

    @task(execution_timeout=timedelta(minutes=10))
    def delete(step: str) -> dict[str, int]:
        """Delete what one step's retention has had enough of; returns counts."""
        from include.orchestration.airflow_errors import in_airflow_terms
        from include.orchestration.housekeeping import delete_old, refuse_params

        with in_airflow_terms():
            refuse_params(get_current_context()["params"])
            return delete_old(step)

    @task(pool=SOURCE_POOL, execution_timeout=timedelta(minutes=10))
    def late_data() -> dict[str, Any]:
        """Restate the last days with a wide read; returns counts."""
        from include.orchestration.airflow_errors import in_airflow_terms
        from include.orchestration.check_tasks import facts_of
        from include.orchestration.housekeeping import late_pass, refuse_params

        context = get_current_context()
        with in_airflow_terms():
            refuse_params(context["params"])
            return late_pass(facts_of(context))

    @task(trigger_rule="all_done", retries=1)
    def conclude() -> None:
        """Tell the failure channel when a step failed, and fail the run."""
        from include.orchestration.failure_notice import tell_of_housekeeping
        from include.orchestration.housekeeping import conclude_run

        context = get_current_context()
        if not context["params"]:  # a wrong Param is nobody's outage
            tell_of_housekeeping(context)
        conclude_run(context)

    [*(delete.override(task_id=f"delete_{step}")(step) for step in STEPS), late_data()] >> conclude()


servicetitan_housekeeping()

"""
# ServiceTitan quality backfill

By hand only: computes `monitoring.quality_daily` and `monitoring.field_quality_daily` for a range of days anew, from what
the source has of them now; a month to a task, the newest first. It **sends nothing**: no message, no failure notice, and
no alert moves. The checks go on beside it.

| task | does |
|---|---|
| `plan` | which months, and about how much there is to read; with *Dry run*, that alone |
| `restate_month` | one task per month: reads, aggregates, replaces day by day; its log tells how far it is |
| `summarise` | the counts of all months; fails the run if one was not done, and names it |

**By hand:** *Trigger*, with the first and the last day in the reporting time zone. *Days: missing* computes only what is
not stored as final by the definitions of now: it goes on where another run stopped. Any day may be computed again at any
time; it is replaced, never added to. Days older than the oldest row of the source stay as they are. A final day whose verdict changes is noted in `monitoring.quality_revision`.

How gently it reads is `backfill` in the policy: a replica's connection, a pause, a time-out; and the pool
`servicetitan_backfill` says how many months at once.

**When this DAG fails:** whole days are done, the others are as they were, and nobody was told. `plan` red: a Param (also
one that there is not, such as a misspelt one), the policy file, or a connection. `restate_month` red: the source or our database; its log has the line. Trigger it again with
*Days: missing*. See `docs/runbook.md`.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import Param, dag, get_current_context, task

from include.orchestration.dag_habits import BACKFILL_POOL, DEFAULT_ARGS, START, TAGS

PARAMS = {
    "from": Param(
        None,
        type=["null", "string"],
        format="date",
        title="First day",
        description="The oldest day to compute, such as 2025-01-01, in the reporting time zone. It must be given.",
    ),
    "to": Param(
        None,
        type=["null", "string"],
        format="date",
        title="Last day",
        description="The newest day to compute, in the reporting time zone. Empty: yesterday.",
    ),
    "days": Param(
        "all",
        type="string",
        enum=["all", "missing"],
        title="Days",
        description="all: every day of the range. missing: only those that are not stored as final yet.",
    ),
    "dry_run": Param(
        False,
        type="boolean",
        title="Dry run",
        description="Only tell, in the log of the task plan, about how much would be read and written.",
    ),
}


@dag(
    schedule=None,
    start_date=START,
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(days=3),  # years of a large source; what is done by then stays done
    default_args=DEFAULT_ARGS,
    params=PARAMS,
    doc_md=__doc__,
    description="The daily quality of the past, computed anew for a range of days; by hand, and silently.",
    tags=[*TAGS, "quality", "backfill"],
)
def servicetitan_quality_backfill() -> None:
    """Plan, restate each month, sum up."""

    @task(pool=BACKFILL_POOL, execution_timeout=timedelta(minutes=30))
    def plan() -> list[dict[str, str]]:
        """Return the months to restate, the newest first; none for a dry run."""
        from include.orchestration.airflow_errors import in_airflow_terms
        from include.orchestration.quality_backfill import plan_months

        with in_airflow_terms():
            return plan_months(get_current_context()["params"])

    @task(
        pool=BACKFILL_POOL,
        execution_timeout=timedelta(hours=4),
        max_active_tis_per_dagrun=4,
        map_index_template="{{ months_progress | default(task.op_kwargs['month']['month']) }}",
    )
    def restate_month(month: dict[str, str]) -> dict[str, Any]:
        """Compute the days of a month anew; returns counts."""
        from include.orchestration.airflow_errors import in_airflow_terms
        from include.orchestration.quality_backfill import restate_month as restate

        context = get_current_context()
        with in_airflow_terms():
            done = restate(month, context["params"])
        context["months_progress"] = f"{done['month']}: {done.get('days', 0)} days, {done.get('rows', 0)} rows"
        return done

    @task(trigger_rule="all_done", retries=1)
    def summarise() -> dict[str, int]:
        """Return the counts of all months, and fail the run when one was not done."""
        from include.orchestration.quality_backfill import summarise as sum_up

        return sum_up(get_current_context())

    # expand(), never expand_kwargs(): the latter renders Jinja found inside the values.
    restate_month.expand(month=plan()) >> summarise()


servicetitan_quality_backfill()

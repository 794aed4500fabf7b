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

from airflow.sdk import CronDataIntervalTimetable, dag

from include.orchestration.check_dag import PARAMS, check_tasks
from include.orchestration.dag_habits import DAGRUN_TIMEOUT, DEFAULT_ARGS, START, TAGS


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
    """Evaluate, then drain each channel that has something to hear."""
    check_tasks("sync_failures", evaluate_within=timedelta(minutes=3))


servicetitan_sync_failures()

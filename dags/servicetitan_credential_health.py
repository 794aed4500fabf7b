"""
# ServiceTitan credential health

Every 6 hours: reads the credentials of Hub Plus and when each last completed a sync, and finds **tokens that lapse**,
**connections in error** and credentials that have **not synced for days**. Each is told once when it breaks, and once
when there is evidence that it is over: `servicetitan_sync_failures` judges the open ones every 15 minutes.

| task | does |
|---|---|
| `evaluate` | read, judge, remember, decide; state and outbox in one transaction |
| `due_slack`, `due_email` | which channels have something to hear, whichever run put it there |
| `drain_slack`, `drain_email` | one task per channel: send, one commit per message |
| `conclude` | fails the run if the source could not be seen; tells the failure channel if the check itself failed |

A token is judged by how long its kind lives: a ServiceTitan access token lives for 15 minutes and is renewed by use, so
it is only told when it has long expired and nothing has synced since; one that lives for days is told 7 days ahead.

**By hand:** *Trigger* judges the present moment. The source does not keep what a credential's status and token were:
an older window, and every backfill, judges them by our own snapshots, and says "not recorded" before the first one.
A backfill writes history and sends nothing. Safe to re-run and to retry at any step.

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
    schedule=CronDataIntervalTimetable("0 */6 * * *", timezone="UTC"),
    start_date=START,
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=DAGRUN_TIMEOUT,
    default_args=DEFAULT_ARGS,
    params=PARAMS,
    doc_md=__doc__,
    description="Tokens about to lapse, connections in error and stale syncs, every 6 hours, told once each.",
    tags=[*TAGS, "alerts"],
)
def servicetitan_credential_health() -> None:
    """Evaluate, then drain each channel that has something to hear."""
    check_tasks("credential_health", evaluate_within=timedelta(minutes=3))


servicetitan_credential_health()

"""
What the monitor does for people, and what these lack while it does not; and what one run says of that.

Each duty has an outage of its own, so that none keeps another from being told. All is pure; `failure_notice` tells.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from include.orchestration.housekeeping import STEPS
from include.sync_health.advice import Advice
from include.sync_health.verdicts import Severity
from include.sync_health.windows import RunMode

EVALUATE = "evaluate"

OUTAGE_VARIABLE = "servicetitan_monitor_outage"
"""The Airflow Variable of an outage of the evaluation that was told and lasts, as JSON: each DAG that told with its
run; null for a DAG that has evaluated since, so that its next failure is another outage. Every duty has one like it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Duty:
    """
    What some tasks do for people, and what these lack while one of the tasks fails.

    Args:
        name: for the log, such as "the evaluation".
        tasks: the tasks that do it.
        outage: the Airflow Variable that remembers its outage, as `OUTAGE_VARIABLE` does.
        cause: one word of the notice's cause.
        title: of the notice.
        undone: the notice's clause of what was not done.
        affects: its clauses of what becomes of alerts, and of what people lack.
        severity: of the notice.
        advice: its likely cause and first step; None for those of a monitor that cannot see.
        reads_source: whether a source that cannot be read explains its failure, which that has an alert for.
    """

    name: str
    tasks: tuple[str, ...]
    outage: str
    cause: str
    title: str
    undone: str
    affects: tuple[str, ...]
    severity: Severity
    advice: Advice | None = None
    reads_source: bool = True


EVALUATION = Duty(
    name="the evaluation",
    tasks=(EVALUATE,),
    outage=OUTAGE_VARIABLE,
    cause="task_failed",
    title="ServiceTitan Monitor Cannot See",
    undone="the check itself failed",
    affects=("no alert is raised until it runs again",),
    severity=Severity.HIGH,
)

_OTHERS_GO_ON = "all other alerts go on"

DAILY_QUALITY = Duty(
    name="the update of the daily quality",
    tasks=("update_daily",),
    outage="servicetitan_daily_quality_outage",
    cause="update_failed",
    title="ServiceTitan Daily Quality Not Updated",
    undone="monitoring.quality_daily was not brought up to date",
    affects=("until it is, reports show old numbers and no quality drop opens or closes", _OTHERS_GO_ON),
    severity=Severity.MEDIUM,
    advice=Advice(
        likely_cause="The source took too long to read whole days, or our database refused to store them; the check "
        "before it could see",
        first_step="Read the last line in the log of the task update_daily: it names what is wrong and, mostly, the fix. "
        "The next run that succeeds computes the last days anew (late_data_days in the policy); fill a longer gap "
        "with python -m include.cli quality --from DATE --missing",
    ),
)

_HOUSEKEEPING = "ServiceTitan Housekeeping Failed"

_ALERTS_GO_ON = "alerts do not wait for it"

_METRICS = "ServiceTitan Metrics Not Updated"

_METRICS_ADVICE = Advice(
    likely_cause="Our database refused to store the counts or cannot be reached, or the source took too long to be read",
    first_step="Read the last line in the log of the failed task: it names what is wrong and, mostly, the fix. A later run "
    "counts what was missed, as far back as late_syncs in the policy reaches",
)

SYNC_METRICS = Duty(
    name="the count of syncs",
    tasks=("measure",),
    outage="servicetitan_sync_metrics_outage",
    cause="metrics_failed",
    title=_METRICS,
    undone="syncs were not counted",
    affects=("metrics show old numbers", _ALERTS_GO_ON),
    severity=Severity.MEDIUM,
    advice=_METRICS_ADVICE,
)

QUALITY_METRICS = Duty(
    name="the figures of data quality",
    tasks=("measure_quality",),
    outage="servicetitan_quality_metrics_outage",
    cause="quality_metrics_failed",
    title=_METRICS,
    undone="the quality metrics were not updated",
    affects=("metrics show old numbers", _OTHERS_GO_ON),
    severity=Severity.MEDIUM,
    advice=_METRICS_ADVICE,
)

HEALTH_CHECK = Duty(
    name="the health check",
    tasks=("check_health",),
    outage="servicetitan_health_check_outage",
    cause="health_check_failed",
    title="ServiceTitan Health Check Not Made",
    undone="the health check was not made",
    affects=("/health answers 503 meanwhile", _ALERTS_GO_ON),
    severity=Severity.MEDIUM,
    advice=Advice(
        likely_cause="Our database refused to store the report or cannot be reached, or what is looked at took too long",
        first_step="Read the last line in the log of the task check_health: it names what is wrong and, mostly, the fix; "
        "python -m include.cli health makes the report at once, without storing it",
    ),
    reads_source=False,  # a source that cannot be read is what it reports
)

API_CALLS = Duty(
    name="the reading of API calls",
    tasks=("ingest",),
    outage="servicetitan_api_calls_outage",
    cause="ingestion_failed",
    title="ServiceTitan API Calls Not Read",
    undone="calls of the API were not read",
    affects=(
        "until they are, no alert of the API opens or closes, and its metrics stand still",
        "all other alerts go on",
    ),
    severity=Severity.MEDIUM,
    advice=Advice(
        likely_cause="A log file cannot be read, the table of API calls has changed, or our database refused to store them",
        first_step="Read the last line in the log of the task ingest: it names what is wrong and, mostly, the fix. The "
        "next run that succeeds goes on where the last one stopped",
    ),
)

CHECK_DUTIES = (DAILY_QUALITY, SYNC_METRICS, QUALITY_METRICS, HEALTH_CHECK, API_CALLS)
"""What the checking DAGs do beside the evaluation; of those whose tasks a DAG does not have, its runs say nothing."""

_HOUSEKEEPING_ADVICE = Advice(
    likely_cause="Our database cannot be reached, its role may not delete, or the source took too long to read the "
    "last days",
    first_step="Run the doctor command (python -m include.cli doctor): it names what is wrong and the fix; then clear "
    "the failed tasks, or wait for the next day's run, which does what was left",
)

RETENTION = Duty(
    name="the retention",
    tasks=tuple(f"delete_{step}" for step in STEPS),
    outage="servicetitan_retention_outage",
    cause="retention_failed",
    title=_HOUSEKEEPING,
    undone="what is too old was not deleted",
    affects=(_ALERTS_GO_ON, "retention does not run, tables grow"),
    severity=Severity.MEDIUM,
    advice=_HOUSEKEEPING_ADVICE,
)

LATE_PASS = Duty(
    name="the late pass",
    tasks=("late_data",),
    outage="servicetitan_late_pass_outage",
    cause="late_data_failed",
    title=_HOUSEKEEPING,
    undone="the last days were not restated",
    affects=(_ALERTS_GO_ON, "days of the daily quality stay provisional and may lack slow syncs"),
    severity=Severity.MEDIUM,
    advice=_HOUSEKEEPING_ADVICE,
)


class Outcome(StrEnum):
    """What a run says of a duty. UNKNOWN neither begins an outage nor ends one."""

    DONE = "done"
    FAILED = "failed"
    UNKNOWN = "unknown"


def outcome_of(
    duty: Duty, *, states: Mapping[str, str], is_backfill: bool, judged: Mapping[str, Any] | None = None
) -> Outcome:
    """
    Return what a run says of a duty other than `EVALUATION`.

    A task that is ``upstream_failed`` is no cause: what failed before it is, and has its own notice. A run that looks
    at the past, such as a backfill, says nothing of the present. And where the check could not read the source, which
    has an alert of its own, a duty that reads it (`Duty.reads_source`) fails by that.

    Args:
        duty: the duty.
        states: of the run's tasks, as Airflow names them.
        is_backfill: whether the run is one of a backfill.
        judged: what `EVALUATE` returned, in a DAG that has it.
    """
    judged = judged or {}
    found = {states.get(task) for task in duty.tasks}
    if is_backfill or judged.get("mode") == RunMode.HISTORICAL:
        return Outcome.UNKNOWN
    if found == {"success"}:
        return Outcome.DONE
    if "failed" not in found or (duty.reads_source and _is_unread(judged.get("blind"))):
        return Outcome.UNKNOWN
    return Outcome.FAILED


def _is_unread(blind: str | None) -> bool:
    """Return whether a check could not read the source; a rule that raised or a stale source explains nothing else."""
    from include.sync_health.visibility import STALE_SOURCE

    return bool(blind) and blind != STALE_SOURCE and not str(blind).startswith("evaluation_")


def is_news(outage: Mapping[str, str | None], *, dag_id: str) -> bool:
    """
    Return whether a failure of a duty in a DAG is to be told, given the outage of that duty that lasts.

    Several DAGs fail by one cause, mostly (our database, the policy file): while the failure of one lasts, that of
    another is not told. It is, at its next failure, should it outlive the first; and a DAG that has succeeded in
    between fails by another cause.
    """
    return not any(outage.values()) or outage.get(dag_id, "") is None


def after_success(outage: Mapping[str, str | None], *, dag_id: str) -> Mapping[str, str | None]:
    """Return the outage once a DAG has done its duty; empty, over, once every DAG that told of it has."""
    left = {**outage, dag_id: None}
    return left if any(left.values()) else {}

"""What a check reads of our own tables alone: hours of API calls, days of the service levels, credentials as last seen."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from include.sync_health.checks import API_RULES, Check
from include.sync_health.measured_facts import MeasuredFacts
from include.sync_health.policy import Policy
from include.sync_health.rule_policies import RuleMode
from include.sync_health.windows import RunMode

if TYPE_CHECKING:
    import psycopg

    from include.orchestration.check_reading import CheckRead, Memory, RunFilters
    from include.warehouse.source_reader import RunsRead

DAY = timedelta(days=1)
MILLISECOND = timedelta(milliseconds=1)


def recall_measured(
    conn: psycopg.Connection[Any], check: Check, *, policy: Policy, as_of: datetime, mode: RunMode = RunMode.LIVE
) -> MeasuredFacts:
    """
    Return what those rules of a check that are on judge of our own tables.

    Args:
        conn: a session on the monitoring schema; nothing is written.
        check: the check.
        policy: how far back the rules look, and which of them are on.
        as_of: the instant judged; aware.
        mode: HISTORICAL leaves out what such a run does not judge.

    Raises:
        StorageError: the schema is missing or the database unreachable.
    """
    wanted = {rule for rule in check.all_rules if policy.rules.named(rule).mode is not RuleMode.OFF}
    return MeasuredFacts(
        api=_api_window(conn, policy=policy, as_of=as_of) if wanted & set(API_RULES) else None,
        objective_days=_objective_days(conn, policy=policy, as_of=as_of)
        if mode is RunMode.LIVE and "error_budget" in wanted
        else None,
    )


def read_own(conn: psycopg.Connection[Any], *, as_of: datetime, filters: RunFilters, memory: Memory) -> CheckRead:
    """
    Return, in the shape of a read of the source, what a check that needs none of it judges by: no run, and the credentials
    as their newest snapshots have them.

    Raises:
        StorageError: the schema is missing or the database unreachable.
        RequestError: a credential that ``filters`` names was never seen.
    """
    from include.orchestration.check_reading import CheckRead, require_subjects
    from include.sync_health.credential_facts import NO_MEMORY, credential_facts
    from include.warehouse.api_hour_reader import read_known_credentials

    credentials = read_known_credentials(conn)
    require_subjects(credentials, filters=filters)
    read = _no_runs()
    return CheckRead(
        read=read,
        credentials=credentials,
        facts=credential_facts(
            credentials,
            runs=read.runs,
            as_of=as_of,
            is_present=False,
            memory=NO_MEMORY if memory.credentials is None else memory.credentials,
        ),
        is_present=False,
    )


def _no_runs() -> RunsRead:
    import pandas as pd

    from include.sync_health.frames import DATA_TYPES, RUN_COLUMNS, RUN_STATUSES
    from include.warehouse.source_reader import RunsRead

    runs = pd.DataFrame(columns=list(RUN_COLUMNS), dtype=object).astype(
        {
            **dict.fromkeys(("started_at", "completed_at", "finished_at"), "datetime64[us, UTC]"),
            "is_cancelled": bool,
            "data_type": pd.CategoricalDtype(list(DATA_TYPES)),
            "status": pd.CategoricalDtype(list(RUN_STATUSES)),
        }
    )
    return RunsRead(
        runs=runs,
        rows_read=0,
        ms=0.0,
        newest_started_at=None,
        missing_remembered=(),
        anomalies={},
        notes=(),
        round_trips=0,
    )


def _api_window(conn: psycopg.Connection[Any], *, policy: Policy, as_of: datetime) -> Any:
    from include.sync_health.api_window import ApiWindow, SourceState, judged_hours
    from include.warehouse.api_hour_reader import read_hours
    from include.warehouse.api_sources import read_sources

    rules = policy.rules
    longest = max(rules.api_errors.window, rules.api_latency.window, rules.api_incidents.window)
    first, until = judged_hours(as_of, window=longest)
    return ApiWindow(
        hours=read_hours(conn, first=first, before=until, sources=("table", "log")),
        sources={
            name: SourceState(status=each.status, has_timings=each.has_timings, looked_at=each.updated_at)
            for name, each in read_sources(conn).items()
        },
    )


def _objective_days(conn: psycopg.Connection[Any], *, policy: Policy, as_of: datetime) -> Any:
    from include.sync_health.daily_quality import local_day
    from include.warehouse.service_level_reader import read_objective_days

    levels, zone = policy.service_levels, policy.reporting_timezone
    today = local_day(as_of, timezone=zone)
    return read_objective_days(
        conn,
        first=today - levels.days * DAY,
        last=today - DAY,
        timezone=zone,
        within_ms=levels.api_latency_within / MILLISECOND,
    )
